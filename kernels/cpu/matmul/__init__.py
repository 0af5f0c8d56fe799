"""Matrix products, a ladder: ladder.py holds the rungs from the definition on, packed.py with simd.py the one that the library calls,
and thin.py the one for a single row or a single panel of columns."""

import math
from typing import NamedTuple

import numpy as np

from kernels import jit
from kernels.cpu.matmul import simd
from kernels.cpu.matmul.packed import matmul_kernel, pack_kernel
from kernels.cpu.matmul.thin import thin_kernel
from kernels.shapes import ACTIVATIONS, product_shape

NO_BIAS = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
SMALL, SMALL_ROW = 1 << 19, 1 << 17      # multiplications below which one thread is faster; for a single row


class Packed(NamedTuple):
    """A right operand of `matmul` as `pack` lays it out: panels of columns, one after the other."""

    panels: np.ndarray
    shape: tuple[int, int]
    dtype: np.dtype
    ndim: int = 2


def pack(b):
    """b (K, N) laid out for `matmul`, for weights that meet many left operands: what packing costs is then paid once.

    It is a copy, of up to a panel's columns more than b has; later changes of b do not reach it.
    """
    if b.ndim != 2 or b.dtype.kind != "f":
        raise ValueError(f"pack: a floating-point matrix (K, N) can be packed, not {b.dtype} {b.shape}")
    (K, N), width = b.shape, simd.PANEL_BYTES // b.itemsize
    panels = np.empty(-(-N // width) * width * K, b.dtype)
    if b.size:
        pack_kernel(*_flat(b), panels, K, N, jit.threads(b.size))
    return Packed(panels, b.shape, b.dtype)


def matmul(a, b, bias=None, activation=None, out=None, accumulate=False):
    """a @ b, then + bias, then the activation: (..., M, K) (..., K, N) -> (..., M, N).

    Leading dimensions broadcast; one-dimensional operands as in NumPy. Transposed views are read as they lie, without a copy; b may
    come from `pack`.
    bias         (N,) or None
    activation   None, "relu", "sigmoid" or "tanh"
    out          contiguous array for the result
    accumulate   add the product to what is in `out`
    FLOPs: 2 M N K for each pair of matrices.
    """
    shape, rows, columns = product_shape(a, b)
    a, b = a if rows else a[None], b if columns else b[:, None]
    (M, K), N = a.shape[-2:], b.shape[-1]
    dtype = a.dtype if a.dtype is b.dtype else np.result_type(a.dtype, b.dtype)
    c = np.empty(shape, dtype) if out is None else out
    if c.shape != shape:
        raise ValueError(f"matmul: `out` has shape {c.shape}, the product {shape}")
    if not c.size:
        return c
    if not K or c.dtype.kind != "f":
        return _without_kernel(a, b, c, bias, activation, accumulate)
    _check("matmul", c.dtype, a, b, c, bias, N)
    batch = shape[:len(shape) - rows - columns]
    if b.ndim == 2 and a.ndim > 2:                           # one right operand for all: a single tall product
        a, M, batch = a.reshape(-1, K), math.prod(batch) * M, ()
    if batch:
        a, b = np.broadcast_to(a, (*batch, M, K)), np.broadcast_to(b, (*batch, K, N))
    ready = isinstance(b, Packed)
    if N == 1 < M and bias is None and not ready:            # a column is the transpose of a row
        a, b, M, N = b.swapaxes(-1, -2), a.swapaxes(-1, -2), N, M
    (left, ta, lda), (right, tb, ldb) = _flat(a), (b.panels, 2, 0) if ready else _flat(b)
    count = math.prod(batch)
    threads = jit.threads(jit.SERIAL_BELOW if count * M * N * K > (SMALL_ROW if M == 1 else SMALL) else 0)
    thin = not ready and (M == 1 or simd.PANEL_BYTES // c.itemsize >= N)
    kernel = thin_kernel if thin else matmul_kernel
    kernel(left, ta, lda, right, tb, ldb, c.ravel(), count, M, N, K, accumulate,
           NO_BIAS[c.dtype] if bias is None else np.ascontiguousarray(bias), ACTIVATIONS.index(activation), threads)
    return c


def _check(name, dtype, a, b, out, bias, columns):
    """ValueError unless everything has one dtype, the bias a number for each column, and `out` can be written to as it lies; TypeError
    for another floating dtype than float32 and float64."""
    if dtype not in NO_BIAS:
        raise TypeError(f"{name}: floating-point operands must be float32 or float64, got {dtype}")
    if not (a.dtype == dtype == b.dtype and (bias is None or bias.dtype == dtype)):
        dtypes = [x.dtype for x in (a, b, bias) if x is not None]
        raise ValueError(f"{name}: operands and bias must have one dtype, got {', '.join(map(str, dtypes))}")
    if bias is not None and bias.shape != (columns,):
        raise ValueError(f"{name}: a bias of shape {bias.shape} does not fit {columns} columns; it must have shape ({columns},)")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(f"{name}: `out` must be contiguous and writeable")


def _flat(x):
    """(numbers in the order in which they lie, 1 if each matrix lies transposed, distance of its lines), copied if they have gaps."""
    if x.flags.c_contiguous:
        return x.ravel(), 0, x.shape[-1]
    turned = x.swapaxes(-1, -2)
    if turned.flags.c_contiguous:
        return turned.ravel(), 1, turned.shape[-1]
    return x.ravel(), 0, x.shape[-1]


def _without_kernel(a, b, c, bias, activation, accumulate):
    """Products of whole numbers, and sums over nothing, which NumPy does."""
    b = np.empty(b.shape, b.dtype) if isinstance(b, Packed) else b
    if activation is not None:
        raise ValueError("matmul: an activation needs floating-point operands and at least one column in the first")
    product = np.matmul(a, b).reshape(c.shape)
    c[...] = (c if accumulate else 0) + product + (0 if bias is None else bias)
    return c
