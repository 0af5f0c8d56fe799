"""NumPy's functions of arrays, as far as scratchnn's operations use them, for DeviceArrays: NumPy calls them by __array_function__."""

import numpy as np

from kernels.cuda.array import DeviceArray, broadcast_to, copy_into, empty, full

__all__ = ["broadcast_to"]


def shape(x):
    return x.shape


def may_share_memory(a, b):
    return isinstance(a, DeviceArray) and isinstance(b, DeviceArray) and a.block is b.block


def full_like(x, fill_value, dtype=None, order="C"):
    return full(x.shape, fill_value, dtype or x.dtype)


def zeros_like(x, dtype=None, order="C"):
    return full_like(x, 0, dtype)


def ones_like(x, dtype=None, order="C"):
    return full_like(x, 1, dtype)


def moveaxis(x, source, destination):
    axes = [d for d in range(x.ndim) if d != source % x.ndim]
    axes.insert(destination % x.ndim, source % x.ndim)
    return x.transpose(axes)


def flip(x, axis):
    return x[tuple([slice(None, None, -1) if d in axis else slice(None) for d in range(x.ndim)])]


def concatenate(arrays, axis=0):
    first = arrays[0]
    axis %= first.ndim
    sizes = [a.shape[axis] for a in arrays]
    out = empty((*first.shape[:axis], sum(sizes), *first.shape[axis + 1:]), np.result_type(*[a.dtype for a in arrays]))
    at = 0
    for a, size in zip(arrays, sizes, strict=True):
        copy_into(out[(*[slice(None)] * axis, slice(at, at + size))], a)
        at += size
    return out


def array2string(x, **options):
    return np.array2string(x.numpy(), **options)
