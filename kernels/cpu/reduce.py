"""Reductions over any dimensions.

An array is seen as (outer, n, inner), the reduced dimensions in the middle; if they are not neighbours it is copied so that they
are. With inner = 1 a block of a row is folded to one number at a time, otherwise a block of rows is folded column by column.
Blocks have a fixed size, their results are kept (sums in float64) and folded in order, so no result depends on the number of
threads. Bytes: the input once. Sums of floats: 256 numbers in the input's own precision, everything beyond in float64.
"""

import math
from builtins import max as larger
from builtins import min as smaller

import numpy as np

from kernels import jit, scalar
from kernels.cpu import elementwise

BLOCK = 16384    # numbers of a row folded in one go
ROWS = 256       # rows folded in one go

ALONG_ROWS = """
def {name}_rows_task(chunk, x, partial, n, blocks, items):
    for item in range(chunk * items, min((chunk + 1) * items, partial.size)):
        row = item // blocks
        start = (item - row * blocks) * BLOCK
        partial[item] = fold(x[row * n + start:row * n + min(start + BLOCK, n)])
"""
ALONG_COLUMNS = """
def {name}_columns_task(chunk, x, partial, n, blocks, items):
    inner = items
    outer = chunk // blocks
    first = (chunk - outer * blocks) * ROWS
    total = partial[chunk * inner:(chunk + 1) * inner]
    for row in range(outer * n + first, outer * n + min(first + ROWS, n)):
        values = x[row * inner:(row + 1) * inner]
        for i in range(total.size):
            total[i] = combine(total[i], values[i])
"""
KERNEL = """
def {name}_{along}(x, partial, chunks, n, blocks, items, threads):
    parallel_for(task, chunks, threads, (x, partial, n, blocks, items))
"""


@jit.inner(sums=True)
def fold_sum(values):
    total = 0.0
    for start in range(0, values.size, ROWS):
        part = values[start:start + ROWS]
        subtotal = jit.like(values[0], 0)
        for i in range(part.size):
            subtotal += part[i]
        total += subtotal
    return total


@jit.inner
def fold_whole_sum(values):
    total = 0
    for i in range(values.size):
        total += values[i]
    return total


@jit.inner
def fold_max(values):
    best = values[0]
    for i in range(1, values.size):
        best = scalar.maximum(best, values[i])
    return best


@jit.inner
def fold_min(values):
    best = values[0]
    for i in range(1, values.size):
        best = scalar.minimum(best, values[i])
    return best


def _kernels(name, fold, combine):
    """The pair of kernels, along rows and along columns, of one reduction; compiled when first called."""
    result = {}
    for along, source in (("rows", ALONG_ROWS), ("columns", ALONG_COLUMNS)):
        task = jit.generate(source.format(name=name), f"{name}_{along}_task", globals(), fold=fold, combine=combine, BLOCK=BLOCK, ROWS=ROWS)
        driver = jit.generate(KERNEL.format(name=name, along=along), f"{name}_{along}", globals(), task=jit.inner(task),
                              parallel_for=jit.parallel_for)
        result[along] = jit.jit(driver)
    return result


_SUM = _kernels("sum", fold_sum, scalar.add)
_WHOLE_SUM = _kernels("whole_sum", fold_whole_sum, scalar.add)
_MAX = _kernels("max", fold_max, scalar.maximum)
_MIN = _kernels("min", fold_min, scalar.minimum)


def _all_dims(x, dims):
    return tuple(range(x.ndim)) if dims is None else tuple(sorted(dims))


def _arrange(x, dims):
    """x as contiguous (outer, n, inner), n being all of `dims`, and the shape of what is left."""
    left = tuple(size for d, size in enumerate(x.shape) if d not in dims)
    if not dims:
        return x.reshape(x.size, 1, 1), left
    first, last = dims[0], dims[-1]
    if last - first + 1 != len(dims):
        x = np.moveaxis(x, dims, range(x.ndim - len(dims), x.ndim))
        first, last = x.ndim - len(dims), x.ndim - 1
    outer, n, inner = (math.prod(part) for part in (x.shape[:first], x.shape[first:last + 1], x.shape[last + 1:]))
    return np.ascontiguousarray(x).reshape(outer, n, inner), left


def _reduce(kernels, finish, x, dims, keepdim, dtype, identity):
    """Fold x over `dims` into partial results of `dtype`, and those with `finish` (a NumPy ufunc) into the result."""
    dims = _all_dims(x, dims)
    shape = tuple(1 if d in dims else size for d, size in enumerate(x.shape)) if keepdim else None
    x, left = _arrange(x, dims)
    outer, n, inner = x.shape
    blocks = larger(1, -(-n // (BLOCK if inner == 1 else ROWS)))
    partial = np.full((outer, blocks, inner), identity, dtype)
    if x.size:
        if inner == 1:
            items = larger(1, jit.CHUNK // smaller(n, BLOCK))
            chunks, along = -(-outer * blocks // items), "rows"
        else:
            items, chunks, along = inner, outer * blocks, "columns"
        kernels[along](x.reshape(-1), partial.reshape(-1), chunks, n, blocks, items, jit.threads(x.size))
    result = partial[:, 0] if blocks == 1 else finish.reduce(partial, axis=1)
    return result.reshape(left if shape is None else shape)


def sum(x, dims=None, keepdim=False):
    """Sum over `dims` (a tuple of non-negative numbers, None for all). Integers and booleans give int64."""
    if x.dtype.kind == "f":
        return _reduce(_SUM, np.add, x, dims, keepdim, np.float64, 0).astype(x.dtype)
    return _reduce(_WHOLE_SUM, np.add, x, dims, keepdim, np.int64, 0)


def _count(x, dims):
    return math.prod(x.shape[d] for d in _all_dims(x, dims))


def mean(x, dims=None, keepdim=False):
    """Mean over `dims`; NaN over nothing."""
    count = _count(x, dims)
    total = _reduce(_SUM, np.add, x, dims, keepdim, np.float64, 0)
    return (total / count if count else np.full_like(total, np.nan)).astype(x.dtype)


def _extreme(kernels, finish, x, dims, keepdim):
    if not _count(x, dims):
        raise ValueError(f"{finish.__name__}: nothing to choose from in shape {x.shape} over dimensions {_all_dims(x, dims)}")
    worst = {"f": (-np.inf, np.inf), "b": (False, True)}.get(x.dtype.kind)
    low, high = worst or (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return _reduce(kernels, finish, x, dims, keepdim, x.dtype, low if finish is np.maximum else high)


def max(x, dims=None, keepdim=False):
    """Largest value over `dims`; NaN if there is one."""
    return _extreme(_MAX, np.maximum, x, dims, keepdim)


def min(x, dims=None, keepdim=False):
    """Smallest value over `dims`; NaN if there is one."""
    return _extreme(_MIN, np.minimum, x, dims, keepdim)


def var(x, dims=None, correction=1, keepdim=False):
    """Mean squared distance from the mean, divided by count - correction; two passes, so nothing cancels."""
    distance = elementwise.sub(x, mean(x, dims, keepdim=True))
    total = _reduce(_SUM, np.add, elementwise.mul(distance, distance), dims, keepdim, np.float64, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total / larger(_count(x, dims) - correction, 0), x.dtype)


def logsumexp(x, dims=None, keepdim=False):
    """log(sum(exp(x))) over `dims`, the largest value taken out first so that nothing overflows; -inf over nothing."""
    top = max(x, dims, keepdim=True) if _count(x, dims) else sum(x, dims, keepdim=True)
    top = np.where(np.isfinite(top), top, np.zeros_like(top))
    total = sum(elementwise.exp(elementwise.sub(x, top)), dims, keepdim)
    return elementwise.add(elementwise.log(total), top.reshape(total.shape))


@jit.inner
def arg_task(chunk, x, result, n, rows, lower):
    for row in range(chunk * rows, smaller((chunk + 1) * rows, result.size)):
        values = x[row * n:(row + 1) * n]
        best, at = values[0], 0
        for i in range(1, n):
            value = values[i]
            if best == best and (value != value or (value < best if lower else value > best)):
                best, at = value, i
        result[row] = at


@jit.jit
def arg_kernel(x, result, n, rows, lower, threads):
    jit.parallel_for(arg_task, (result.size + rows - 1) // rows, threads, (x, result, n, rows, lower))


def _arg(x, dim, keepdim, lower):
    rows, shape = np.ascontiguousarray(np.moveaxis(x, dim, -1)), x.shape[:dim] + (1,) * keepdim + x.shape[dim + 1:]
    n = x.shape[dim]
    if n == 0:
        raise ValueError(f"argmax or argmin: nothing to choose from in shape {x.shape} along dimension {dim}")
    result = np.empty(x.size // n, np.int64)
    arg_kernel(rows.reshape(-1), result, n, larger(1, jit.CHUNK // n), lower, jit.threads(x.size))
    return result.reshape(shape)


def argmax(x, dim, keepdim=False):
    """Position (int64) of the first of the largest values along `dim`; of the first NaN if there is one."""
    return _arg(x, dim, keepdim, False)


def argmin(x, dim, keepdim=False):
    """Position (int64) of the first of the smallest values along `dim`; of the first NaN if there is one."""
    return _arg(x, dim, keepdim, True)


@jit.inner
def cumsum_task(chunk, x, y, n, rows):
    for row in range(chunk * rows, smaller((chunk + 1) * rows, x.size // n)):
        values, sums = x[row * n:(row + 1) * n], y[row * n:(row + 1) * n]
        total = sums[0] * 0
        for i in range(n):
            total += values[i]
            sums[i] = total


@jit.jit
def cumsum_kernel(x, y, n, rows, threads):
    jit.parallel_for(cumsum_task, (x.size // n + rows - 1) // rows, threads, (x, y, n, rows))


def cumsum(x, dim):
    """Running sum along `dim`, the value itself included. Integers and booleans give int64."""
    rows = np.ascontiguousarray(np.moveaxis(x, dim, -1))
    y = np.zeros(rows.shape, x.dtype if x.dtype.kind == "f" else np.int64)
    if x.size:
        n = x.shape[dim]
        cumsum_kernel(rows.reshape(-1), y.reshape(-1), n, larger(1, jit.CHUNK // n), jit.threads(x.size))
    return np.moveaxis(y, -1, dim)
