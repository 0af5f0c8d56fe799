"""Tensors from values, from arrays, and of one value."""

from __future__ import annotations

import math
import numbers

import numpy as np

from scratchnn.device import CPU, Device, filled, moved
from scratchnn.tensor import Tensor, _flat

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64")      # as in torch, without float16 and wide unsigned


def tensor(data, dtype=None, requires_grad: bool = False, device: str | Device = CPU) -> Tensor:
    """A new Tensor with a copy of `data`: numbers, nested lists, an array.

    Python floats become float32 and whole numbers int64; an array keeps its dtype, as in torch.
    """
    if isinstance(data, Tensor):
        data = data.array
    array = np.array(data)
    if dtype is None and array.dtype == np.float64 and not isinstance(data, (np.ndarray, np.generic)):
        dtype = np.float32
    if array.dtype.kind not in "fiub":
        raise TypeError(f"tensor: data of type {array.dtype} cannot be a tensor; give numbers or booleans in lists of equal length")
    array = np.array(array, _supported("tensor", dtype or array.dtype), order="C")
    return Tensor(array if device is CPU else moved(array, Device(device)), requires_grad)


def _supported(name, dtype):
    """The dtype, if kernels work on it."""
    dtype = np.dtype(dtype)
    if dtype.name not in DTYPES or not dtype.isnative:
        what = dtype.name if dtype.isnative else f"{dtype.name} in the byte order of another machine"
        raise TypeError(f"{name}: {what} is not supported; convert it to one of {', '.join(DTYPES)}")
    return dtype


def as_tensor(data, dtype=None) -> Tensor:
    """`data` itself if it is a Tensor of this dtype, in the same memory if it is an array, else a copy."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray) and dtype in (None, data.dtype):
        return from_numpy(data)
    return tensor(data, dtype)


def from_numpy(array: np.ndarray) -> Tensor:
    """A Tensor in the memory of an array. Changes of the array show in the Tensor, and backward() does not notice them."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"from_numpy takes an array, not {type(array).__name__}")
    _supported("from_numpy", array.dtype)
    return Tensor(array)


def from_dlpack(source) -> Tensor:
    """A Tensor in the memory of any object with `__dlpack__`, such as a torch tensor on the CPU."""
    return from_numpy(np.from_dlpack(source))


def full(size, fill_value, dtype=None, requires_grad: bool = False, device: str | Device = CPU) -> Tensor:
    """Every element fill_value; float32 for a float, int64 for a whole number unless a dtype is given."""
    return Tensor(filled(size, fill_value, dtype or tensor(fill_value).dtype, device), requires_grad)


def zeros(*size, dtype=np.float32, requires_grad: bool = False, device: str | Device = CPU) -> Tensor:
    """Zeros: a shape, or its sizes one by one."""
    return Tensor(filled(_flat(size), 0, dtype, device), requires_grad)


def ones(*size, dtype=np.float32, requires_grad: bool = False, device: str | Device = CPU) -> Tensor:
    """Ones: a shape, or its sizes one by one."""
    return Tensor(filled(_flat(size), 1, dtype, device), requires_grad)


def empty(*size, dtype=np.float32, requires_grad: bool = False, device: str | Device = CPU) -> Tensor:
    """Whatever was in memory: a shape, or its sizes one by one."""
    return Tensor(filled(_flat(size), None, dtype, device), requires_grad)


def zeros_like(input: Tensor, dtype=None) -> Tensor:
    """Zeros, of input's shape and dtype, where it lies."""
    return Tensor(np.zeros_like(input.array, dtype=dtype, order="C"))


def ones_like(input: Tensor, dtype=None) -> Tensor:
    """Ones, of input's shape and dtype, where it lies."""
    return Tensor(np.ones_like(input.array, dtype=dtype, order="C"))


def full_like(input: Tensor, fill_value, dtype=None) -> Tensor:
    """Every element fill_value, of input's shape and dtype, where it lies."""
    return Tensor(np.full_like(input.array, fill_value, dtype=dtype, order="C"))


def arange(start, end=None, step=1, dtype=None) -> Tensor:
    """start, start + step, ... below end; arange(end) starts at 0. Whole numbers give int64, others float32."""
    start, end = (0, start) if end is None else (start, end)
    if step == 0:
        raise ValueError("arange: the step must not be 0")
    if all(isinstance(v, numbers.Integral) for v in (start, end, step)):
        return Tensor(np.arange(start, end, step, np.int64).astype(dtype or np.int64))
    start, end, step = float(start), float(end), float(step)
    count = max(0, math.ceil((end - start) / step))
    return Tensor((start + np.arange(count, dtype=np.float64) * step).astype(dtype or np.float32))


def linspace(start: float, end: float, steps: int, dtype=np.float32) -> Tensor:
    """`steps` values from start to end, both included."""
    return Tensor(np.linspace(start, end, steps, dtype=dtype))


def eye(n: int, m: int | None = None, dtype=np.float32) -> Tensor:
    """Ones on the diagonal."""
    return Tensor(np.eye(n, m, dtype=dtype))
