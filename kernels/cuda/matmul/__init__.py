"""Matrix products, a ladder: ladder.py holds the rungs from the definition on, products.py with the main loop in tiles.py the one that
the library calls, tf32.py the one for tensor cores, where fewer digits are allowed, and plain.py the one for other types than float32."""

import math

import numpy as np

from kernels import config
from kernels.cuda import runtime
from kernels.cuda.array import as_device, blocks, broadcast_to, contiguous, empty, full
from kernels.cuda.matmul import tf32
from kernels.cuda.matmul.plain import plain_kernel
from kernels.cuda.matmul.products import add_parts, tiled_kernel
from kernels.cuda.matmul.tiles import MOST, choose, grid, split
from kernels.shapes import ACTIVATIONS, product_shape


def pack(b):
    """A contiguous copy of b (K, N), for weights that meet many left operands: the GPU reads them fastest as they are."""
    as_device("pack", b)
    if b.ndim != 2 or b.dtype.kind != "f":
        raise ValueError(f"pack: a floating-point matrix (K, N) can be packed, not {b.dtype} {b.shape}")
    return b.copy()


def matmul(a, b, bias=None, activation=None, out=None, accumulate=False):
    """a @ b, then + bias, then the activation: (..., M, K) (..., K, N) -> (..., M, N).

    Leading dimensions broadcast; one-dimensional operands as in NumPy. Transposed views are read as they lie, without a copy.
    bias         (N,) or None
    activation   None, "relu", "sigmoid" or "tanh"
    out          contiguous array for the result
    accumulate   add the product to what is in `out`
    FLOPs: 2 M N K for each pair of matrices. float32 runs in tiles, with k in parts where these would be few (products.py), or on tensor
    cores where config.TF32 allows it and lines start at multiples of 16 bytes (tf32.py); every other type as in plain.py.
    """
    as_device("matmul", a, b, bias, out)
    shape, rows, columns = product_shape(a, b)
    a, b = a if rows else a[None], b if columns else b[:, None]
    (M, K), N = a.shape[-2:], b.shape[-1]
    c = empty(shape, a.dtype) if out is None else out
    _check(a, b, bias, activation, c, shape, N)
    if not c.size:
        return c
    batch = shape[:len(shape) - rows - columns]
    if b.ndim == 2 and a.ndim > 2:                           # one right operand for all: a single tall product
        a, M, batch = a.reshape(-1, K), math.prod(batch) * M, ()
    (a, step_a), (b, step_b) = lay_out(a, batch), lay_out(b, batch)
    numbers = M, N, K, *a.strides[-2:], *b.strides[-2:], step_a, step_b
    run, total = _tiled if c.dtype == np.float32 else _plain, math.prod(batch)
    shift = full(1, 0, c.dtype) if bias is None else contiguous(bias)
    for first in range(0, total, MOST):                      # as many matrices as a launch has room for
        run(_from(a, first * step_a), _from(b, first * step_b), _from(c, first * M * N), shift, *numbers, min(MOST, total - first),
            bias is not None, activation, accumulate)
    return c


def _from(x, place):
    """The view of x that starts so many numbers further on."""
    return x._view(x.shape, x.strides, place) if place else x


def _check(a, b, bias, activation, out, shape, columns):
    if activation not in ACTIVATIONS:
        raise ValueError(f"matmul: activation {activation!r} is not known; choose one of {', '.join(map(str, ACTIVATIONS))}")
    if not a.dtype == b.dtype == out.dtype or (bias is not None and bias.dtype != a.dtype):
        dtypes = [x.dtype for x in (a, b, bias, out) if x is not None]
        raise ValueError(f"matmul: operands, bias and `out` must have one dtype, got {', '.join(map(str, dtypes))}")
    if activation is not None and a.dtype.kind != "f":
        raise ValueError(f"matmul: an activation needs floating-point operands, got {a.dtype}")
    if bias is not None and bias.shape != (columns,):
        raise ValueError(f"matmul: a bias of shape {bias.shape} does not fit {columns} columns; it must have shape ({columns},)")
    if out.shape != shape or not out.is_contiguous:
        raise ValueError(f"matmul: `out` must be a contiguous array of shape {shape}, the product's; it has shape {out.shape}")


def lay_out(x, batch=()):
    """(x, distance from one matrix to the next): copied if neither rows nor columns of its matrices are contiguous, or the matrices do
    not follow one another."""
    if not batch:
        x = x if x.ndim == 2 else x.reshape(x.shape[-2:])
    elif math.prod(x.shape[:-2]) == 1:
        x = x[(0,) * (x.ndim - 2)]                           # one matrix for all
    else:
        x = contiguous(broadcast_to(x, (*batch, *x.shape[-2:])))
    if 1 not in x.strides[-2:] or 0 in x.strides[-2:]:
        x = contiguous(x)
    return x, 0 if x.ndim == 2 else math.prod(x.shape[-2:])


def _tiled(a, b, c, bias, M, N, K, a_row, a_k, b_k, b_column, step_a, step_b, count, biased, activation, accumulate):
    lead_a, lead_b, form = form_of(M, N, K, a, b, a_row, a_k, b_k, b_column, step_a, step_b)
    if config.TF32 and form[2] and form[3] and runtime.device().architecture >= tf32.ARCHITECTURE:
        return _on_tensor_cores(a, b, c, bias, M, N, K, lead_a, lead_b, step_a, step_b, form, count, biased, activation, accumulate)
    parts, length = split(M, N, K) if count == 1 else (1, K)
    tile, cut = choose(M, N, count * parts), parts > 1
    found = empty((parts, M, N), c.dtype) if cut else c
    kernel = tiled_kernel(tile, *form, by_fours(c, N, M * N, N), None if cut else activation, cut)
    kernel[grid(tile, M, N, count * parts), tile.threads](a, b, found, bias, M, N, K, lead_a, lead_b, step_a, step_b, length,
                                                          int(biased and not cut), int(accumulate and not cut))
    if cut:
        add_parts(activation)[blocks(c.size), 256](found, c, bias, c.size, N, parts, int(biased), int(accumulate))


def _on_tensor_cores(a, b, c, bias, M, N, K, lead_a, lead_b, step_a, step_b, form, count, biased, activation, accumulate):
    tile = tf32.choose(M, N, count)
    kernel = tf32.tf32_kernel(tile, *form[:2], activation)[grid(tile, M, N, count), tile.threads]
    kernel(a, b, c, bias, M, N, K, lead_a, lead_b, step_a, step_b, int(biased), int(accumulate))


def form_of(M, N, K, a, b, a_row, a_k, b_k, b_column, step_a=0, step_b=0):
    """(distance of a's lines, of b's; whether a lies along k, b does, a can be read by fours, b can) for matrices from lay_out."""
    a_along_k, b_along_k = a_k == 1, b_column != 1
    lead_a, lead_b = a_row if a_along_k else a_k, b_column if b_along_k else b_k
    vectors_a, vectors_b = by_fours(a, lead_a, step_a, K if a_along_k else M), by_fours(b, lead_b, step_b, K if b_along_k else N)
    return lead_a, lead_b, (a_along_k, b_along_k, vectors_a, vectors_b)


def by_fours(x, lead, step, length):
    """Whether vector loads fit: all lines start at multiples of 16 bytes, and have a multiple of four numbers."""
    return x.address % 16 == 0 and not any(n % 4 for n in (lead, step, length))


def _plain(a, b, c, bias, M, N, K, *layout):
    *steps, count, biased, activation, accumulate = layout
    plain_kernel(activation)[-(-M * N * count // 256), 256](a, b, c, bias, M, N, K, *steps, count, int(biased), int(accumulate))
