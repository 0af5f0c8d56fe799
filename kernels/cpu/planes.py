"""What the kernels over planes (pooling, resizing) share: an array (..., H, W) is seen as planes (P, H, W), one of (..., L) as planes of
a single row. Results are computed by rows, gradients by planes: a plane's gradient is written by one thread, in a fixed order."""

import math

import numpy as np

from kernels import jit


def planes(name, x, dims):
    """x (..., H, W), or (..., L) if dims is 1, as contiguous (P, H, W) or (P, 1, L)."""
    if dims not in (1, 2) or x.ndim < dims:
        raise ValueError(f"{name}: one or two sizes, kernels or tables fit the last dimensions of an array; got {dims} for shape {x.shape}")
    return np.ascontiguousarray(x).reshape(math.prod(x.shape[:-dims]), *lifted(x.shape[-dims:], 1))


def floating(name, x):
    """TypeError unless x is float32 or float64."""
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: the input must be float32 or float64, got {x.dtype}")


def lifted(pair, filler):
    """What holds for one dimension or two as a tuple of two: `filler` for the row that a line is seen as."""
    return (filler, *pair) if len(pair) == 1 else tuple(pair)


def chunks(count, size, elements):
    """(rows or planes in a chunk, chunks, threads) for `count` of them, each of so much work, in all so many elements."""
    each = max(1, jit.CHUNK // max(1, size))
    return each, (count + each - 1) // each, jit.threads(elements)
