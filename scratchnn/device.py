"""Devices: where the arrays of a Tensor live."""

from __future__ import annotations

import importlib.util


class Device:
    """A device by torch's names: "cpu", "cuda" or "cuda:0". Compares equal to its name."""

    __slots__ = ("index", "type")

    def __init__(self, name: str | Device = "cpu"):
        kind, _, index = str(name).partition(":")
        if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
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
    missing = [package for package in ("numba_cuda", "cuda") if importlib.util.find_spec(package) is None]
    if missing:
        raise RuntimeError(f"device 'cuda' was asked for, but the Python package{'s' * (len(missing) > 1)} {' and '.join(missing)} "
                           "is not installed; use device 'cpu'")
    raise RuntimeError("device 'cuda' was asked for, but this version of scratchnn has no CUDA kernels; use device 'cpu'")


CPU = Device("cpu")
