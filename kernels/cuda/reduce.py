"""Reductions over any dimensions.

An array is seen as (outer, n, inner), the reduced dimensions in the middle; if they are not neighbours, the last ones that are go
first. With inner = 1 a warp folds a block of up to BLOCK numbers of a row, otherwise each thread folds up to ROWS numbers of a column,
its neighbours those of the next columns. What is left of each block is folded again by the same kernels, until one number is left:
a tree whose shape depends on the array's shape alone, so that the same bits come out every time. Bytes: the input once.
"""

import math
from builtins import min as smaller
from functools import lru_cache

import numpy as np

from kernels.cuda import elementwise
from kernels.cuda.array import as_device, blocks, contiguous, empty, full
from kernels.cuda.compiler import cuda, kernel, scalar, typed
from kernels.cuda.rows import WARP, floating, row_max, row_sum_exp, row_threads, warp_sum

BLOCK = 1024     # numbers of a row that a warp folds
ROWS = 64        # numbers of a column that a thread folds
THREADS = 256


# ---- folding --------------------------------------------------------------------------------------------------------

@kernel
def sum_rows(x, y, n, parts, count):
    """y[i] = the sum of block i of a row; rows of n numbers in `parts` blocks each, `count` blocks in all."""
    item = cuda.grid(1) // WARP
    if item < count:
        row, part = item // parts, item % parts
        total = typed(y, 0)
        for i in range(part * BLOCK + cuda.threadIdx.x % WARP, smaller((part + 1) * BLOCK, n), WARP):
            total += x[row * n + i]
        total = warp_sum(total)
        if cuda.threadIdx.x % WARP == 0:
            y[item] = total


@kernel
def sum_columns(x, y, n, parts, count, inner):
    """y[outer, part, column] = the sum of ROWS numbers of a column; `count` of these in all."""
    for item in range(cuda.grid(1), count, cuda.gridsize(1)):
        column, part, outer = item % inner, item // inner % parts, item // inner // parts
        total = typed(y, 0)
        for row in range(part * ROWS, smaller((part + 1) * ROWS, n)):
            total += x[(outer * n + row) * inner + column]
        y[item] = total


def _extreme_kernels(name, better):
    """The pair of kernels that keep the largest or the smallest number: `better` picks one of two."""
    @kernel(name=f"{name}_rows")
    def along_rows(x, y, n, parts, count):
        item = cuda.grid(1) // WARP
        if item < count:
            row, part = item // parts, item % parts
            start, stop = row * n + part * BLOCK, row * n + smaller((part + 1) * BLOCK, n)
            best = x[start]
            for i in range(start + cuda.threadIdx.x % WARP, stop, WARP):
                best = better(best, x[i])
            for distance in (16, 8, 4, 2, 1):
                best = better(best, cuda.shfl_xor_sync(0xFFFFFFFF, best, distance))
            if cuda.threadIdx.x % WARP == 0:
                y[item] = best

    @kernel(name=f"{name}_columns")
    def along_columns(x, y, n, parts, count, inner):
        for item in range(cuda.grid(1), count, cuda.gridsize(1)):
            column, part, outer = item % inner, item // inner % parts, item // inner // parts
            best = x[(outer * n + part * ROWS) * inner + column]
            for row in range(part * ROWS + 1, smaller((part + 1) * ROWS, n)):
                best = better(best, x[(outer * n + row) * inner + column])
            y[item] = best
    return along_rows, along_columns


_SUM = sum_rows, sum_columns
_MAX = _extreme_kernels("max", scalar.maximum)
_MIN = _extreme_kernels("min", scalar.minimum)


@lru_cache(maxsize=4096)
def plan(shape, dims, keepdim):
    """How an array of this shape is reduced over `dims`: (the last ones that are neighbours if not all are, else None; (outer, n,
    inner); shape of the result; count of what is reduced to one number)."""
    dims = tuple(range(len(shape))) if dims is None else tuple(sorted(dims))
    result = tuple(1 if d in dims else size for d, size in enumerate(shape) if keepdim or d not in dims)
    count = math.prod(shape[d] for d in dims)
    first = dims[0] if dims else len(shape)
    if dims and dims[-1] - first + 1 != len(dims):
        run = next(dims[i:] for i in range(len(dims)) if dims[-1] - dims[i] + 1 == len(dims) - i)
        return run, None, result, count
    parts = shape[:first], shape[first:first + len(dims)], shape[first + len(dims):]
    return None, tuple(math.prod(part) for part in parts), result, count


def _fold(kernels, x, dims, keepdim, dtype):
    """x folded over `dims`, which are not empty in size, as an array of `dtype`."""
    run, sizes, shape, _ = plan(x.shape, dims, keepdim)
    if run:
        x = _fold(kernels, x, run, True, dtype)
        return _fold(kernels, x, tuple(d for d in dims if d not in run), True, dtype).reshape(shape)
    (outer, n, inner), x = sizes, contiguous(x)
    while True:
        parts = -(-n // (BLOCK if inner == 1 else ROWS))
        y = empty((outer, parts, inner), dtype)
        if inner == 1:
            kernels[0][-(-y.size * WARP // THREADS), THREADS](x, y, n, parts, y.size)
        else:
            kernels[1][blocks(y.size, THREADS), THREADS](x, y, n, parts, y.size, inner)
        if parts == 1:
            return y.reshape(shape)
        x, n = y, parts


def sum(x, dims=None, keepdim=False):
    """Sum over `dims` (a tuple of non-negative numbers, None for all). Integers and booleans give int64."""
    as_device("sum", x)
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.int64)
    return _fold(_SUM, x, dims, keepdim, dtype) if x.size else full(plan(x.shape, dims, keepdim)[2], 0, dtype)


def mean(x, dims=None, keepdim=False):
    """Mean over `dims`; NaN over nothing."""
    count = plan(x.shape, dims, keepdim)[3]
    return elementwise.div(sum(x, dims, keepdim), full((), count, x.dtype))


def _extreme(name, kernels, x, dims, keepdim):
    as_device(name, x)
    _, _, shape, count = plan(x.shape, dims, keepdim)
    if not count:
        raise ValueError(f"{name}: nothing to choose from in shape {x.shape} over dimensions {dims or 'all'}")
    if not x.size:
        return empty(shape, x.dtype)
    wide = x if x.itemsize >= 4 else x.astype(np.int32)                    # what a warp can exchange
    return _fold(kernels, wide, dims, keepdim, wide.dtype).astype(x.dtype, copy=False)


def max(x, dims=None, keepdim=False):
    """Largest value over `dims`; NaN if there is one."""
    return _extreme("max", _MAX, x, dims, keepdim)


def min(x, dims=None, keepdim=False):
    """Smallest value over `dims`; NaN if there is one."""
    return _extreme("min", _MIN, x, dims, keepdim)


def var(x, dims=None, correction=1, keepdim=False):
    """Mean squared distance from the mean, divided by count - correction; two passes, so nothing cancels."""
    distance = elementwise.sub(x, mean(x, dims, keepdim=True))
    total = sum(elementwise.mul(distance, distance), dims, keepdim)
    left = plan(x.shape, dims, keepdim)[3] - correction
    return elementwise.div(total, full((), left if left > 0 else 0, x.dtype))


# ---- sums of what is never stored ------------------------------------------------------------------------------------

def total(function):
    """A kernel from a scalar function of two numbers: kernel(a, b), the sum of function(a_i, b_i) over two arrays of one shape, as an
    array of no dimension. Bytes: both arrays once."""
    name = f"{function.__name__}_total"

    @kernel(name=f"{name}_blocks")
    def blocks_kernel(a, b, y, n):
        """y[i] = the sum over block i."""
        item = cuda.grid(1) // WARP
        if item * BLOCK < n:
            terms = typed(a, 0)
            for i in range(item * BLOCK + cuda.threadIdx.x % WARP, smaller((item + 1) * BLOCK, n), WARP):
                terms += function(a[i], b[i])
            terms = warp_sum(terms)
            if cuda.threadIdx.x % WARP == 0:
                y[item] = terms

    def launch(a, b):
        as_device(name, a, b)
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(f"{name}: both arrays must have one shape and dtype, got {a.shape} {a.dtype} and {b.shape} {b.dtype}")
        parts = empty(-(-a.size // BLOCK), a.dtype)
        blocks_kernel[-(-parts.size * WARP // THREADS), THREADS](contiguous(a), contiguous(b), parts, a.size)
        return sum(parts)

    launch.__name__ = launch.__qualname__ = name
    launch.__doc__ = f"Sum over all elements of: {function.__doc__}"
    return launch


gaussian_kl_total = total(scalar.gaussian_kl)


# ---- along one dimension ---------------------------------------------------------------------------------------------

@kernel
def logsumexp_kernel(x, y, columns):
    room = cuda.shared.array(WARP, x.dtype)
    start = cuda.blockIdx.x * columns
    highest = row_max(x, start, columns, room)
    shift = highest if scalar.isfinite(highest) else typed(x, 0)        # infinities and NaN come out of exp by themselves
    logarithm = scalar.log(row_sum_exp(x, start, columns, shift, room))
    if cuda.threadIdx.x == 0:
        y[cuda.blockIdx.x] = logarithm + shift


def logsumexp(x, dims=None, keepdim=False):
    """log(sum(exp(x))) over `dims`, the largest value taken out first so that nothing overflows; -inf over nothing."""
    as_device("logsumexp", x)
    dtype, (_, _, shape, n) = floating("logsumexp", x), plan(x.shape, dims, keepdim)
    if not x.size:
        return full(shape, -math.inf, dtype)
    reduced = tuple(range(x.ndim)) if dims is None else dims
    x = contiguous(x.transpose([*[d for d in range(x.ndim) if d not in reduced], *reduced]))
    y = empty(shape, dtype)
    logsumexp_kernel[y.size, row_threads(n)](x, y, n)
    return y


@kernel
def arg_kernel(x, y, n, count, inner, lower):
    """Position of the best of the n numbers of each line; a line's numbers lie `inner` apart. One warp for each line."""
    item, lane = cuda.grid(1) // WARP, cuda.threadIdx.x % WARP
    if item < count:
        start = item // inner * n * inner + item % inner
        best, at = x[start], 0
        for i in range(lane, n, WARP):
            value = x[start + i * inner]
            if best == best and (value != value or (value < best if lower else value > best)):
                best, at = value, i
        for distance in (16, 8, 4, 2, 1):
            other, place = cuda.shfl_xor_sync(0xFFFFFFFF, best, distance), cuda.shfl_xor_sync(0xFFFFFFFF, at, distance)
            same = other == best or (other != other and best != best)
            better = best == best and (other != other or (other < best if lower else other > best))
            if better or (same and place < at):
                best, at = other, place
        if lane == 0:
            y[item] = at


def _arg(name, x, dim, keepdim, lower):
    as_device(name, x)
    n, shape = x.shape[dim], x.shape[:dim] + (1,) * keepdim + x.shape[dim + 1:]
    if n == 0:
        raise ValueError(f"{name}: nothing to choose from in shape {x.shape} along dimension {dim}")
    y = empty(shape, np.int64)
    wide = x if x.itemsize >= 4 else x.astype(np.int32)
    arg_kernel[-(-y.size * WARP // THREADS), THREADS](contiguous(wide), y, n, y.size, math.prod(x.shape[dim:][1:]), int(lower))
    return y


def argmax(x, dim, keepdim=False):
    """Position (int64) of the first of the largest values along `dim`; of the first NaN if there is one."""
    return _arg("argmax", x, dim, keepdim, False)


def argmin(x, dim, keepdim=False):
    """Position (int64) of the first of the smallest values along `dim`; of the first NaN if there is one."""
    return _arg("argmin", x, dim, keepdim, True)


@kernel
def cumsum_kernel(x, y, n, count, inner):
    """Running sums of lines of n numbers that lie `inner` apart. One thread for each line: right for many lines, slow for few."""
    for item in range(cuda.grid(1), count, cuda.gridsize(1)):
        start = item // inner * n * inner + item % inner
        total = typed(y, 0)
        for i in range(n):
            total += x[start + i * inner]
            y[start + i * inner] = total


def cumsum(x, dim):
    """Running sum along `dim`, the value itself included. Integers and booleans give int64."""
    as_device("cumsum", x)
    y = empty(x.shape, x.dtype if x.dtype.kind == "f" else np.int64)
    if x.size:
        count = x.size // x.shape[dim]
        cumsum_kernel[blocks(count, THREADS), THREADS](contiguous(x), y, x.shape[dim], count, math.prod(x.shape[dim:][1:]))
    return y
