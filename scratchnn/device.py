"""Devices: where the arrays of a Tensor live."""

from __future__ import annotations

import numpy as np

import kernels


class Device:
    """A device by torch's names: "cpu", "cuda" or "cuda:0". Compares equal to its name."""

    __slots__ = ("index", "type")

    def __init__(self, name: str | Device = "cpu"):
        kind, _, index = str(name).partition(":")
        if kind not in ("cpu", "cuda") or (index and index != "0"):
            raise ValueError(f"device {str(name)!r} is not known; choose cpu, cuda or cuda:0")
        self.type, self.index = kind, int(index) if index else None
        if kind == "cuda":
            require_cuda()

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self):
        return f"device({str(self)!r})"

    def __eq__(self, other):
        return str(self) == str(other)

    def __hash__(self):
        return hash(str(self))


def require_cuda():
    """Raise RuntimeError that says what is missing for device="cuda"."""
    from kernels.cuda import runtime
    runtime.device()


CPU = Device("cpu")
_cuda = None


def device_of(array) -> Device:
    """The device that an array lies on."""
    global _cuda
    if isinstance(array, np.ndarray):
        return CPU
    _cuda = _cuda or Device("cuda")
    return _cuda


def is_on_gpu(array) -> bool:
    """Whether this is an array in a GPU's memory; looks for no GPU."""
    return type(array).__module__ == "kernels.cuda.array"


def on_host(value) -> np.ndarray:
    """The numbers of a Tensor, an array on any device, or anything that NumPy takes, in the host's memory."""
    array = getattr(value, "array", value)
    return array.numpy() if is_on_gpu(array) else np.asarray(array)


def moved(array, device: Device):
    """The array on that device: itself if it lies there, else a copy."""
    if device_of(array).type == device.type:
        return array
    if device.type == "cpu":
        return array.numpy()
    kernels.use_cuda()
    from kernels.cuda.array import to_device
    return to_device(array)


def filled(shape, value, dtype, device: str | Device):
    """A new array of one value, or with None of whatever was in memory, on that device."""
    if device is CPU or Device(device).type == "cpu":
        if value is None:
            return np.empty(shape, dtype)
        return np.zeros(shape, dtype) if type(value) is int and value == 0 else np.full(shape, value, dtype)
    kernels.use_cuda()
    from kernels.cuda.array import empty, full
    return empty(shape, dtype) if value is None else full(shape, value, dtype)
