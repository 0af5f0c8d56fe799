"""Reductions over any dimensions.

An array is seen as (outer, n, inner), the reduced dimensions in the middle; if they are not neighbours, the last ones that are go
first. With inner = 1 a block of a row is folded to one number at a time, otherwise a block of rows is folded column by column.
Blocks have a fixed size, their results are kept (sums in float64) and folded in order, so no result depends on the number of
threads. Bytes: the input once. Sums of floats: 256 numbers in the input's own precision, everything beyond in float64.
"""

import math
from builtins import max as larger
from builtins import min as smaller
from functools import lru_cache

import numpy as np

from kernels import jit, scalar
from kernels.cpu import elementwise
from kernels.cpu.rows import exp_all, row_chunks, row_max, row_sum

BLOCK = 16384    # numbers of a row folded in one go
ROWS = 256       # rows folded in one go
WIDTH = 256      # columns of them that are folded together: their results stay in the first-level cache

ALONG_ROWS = """
def {name}_rows_task(chunk, x, partial, n, blocks, items):
    full_width()
    for item in range(chunk * items, min((chunk + 1) * items, partial.size)):
        row = item // blocks
        start = (item - row * blocks) * BLOCK
        partial[item] = fold(x[row * n + start:row * n + min(start + BLOCK, n)])
"""
ALONG_COLUMNS = """
def {name}_columns_task(chunk, x, partial, n, blocks, inner):
    full_width()
    tiles = (inner + WIDTH - 1) // WIDTH
    part, tile = chunk // tiles, chunk % tiles
    outer, block, start = part // blocks, part % blocks, tile * WIDTH
    width = min(WIDTH, inner - start)
    row, end = outer * n + block * ROWS, outer * n + min((block + 1) * ROWS, n)
    folded = x[row * inner + start:][:width].copy()
    row += 1
    while row + 3 < end:                                # four rows to each pass over the results
        a, b = x[row * inner + start:][:width], x[(row + 1) * inner + start:][:width]
        c, d = x[(row + 2) * inner + start:][:width], x[(row + 3) * inner + start:][:width]
        for i in range(folded.size):
            folded[i] = combine(folded[i], combine(combine(a[i], b[i]), combine(c[i], d[i])))
        row += 4
    while row < end:
        a = x[row * inner + start:][:width]
        for i in range(folded.size):
            folded[i] = combine(folded[i], a[i])
        row += 1
    partial[part * inner + start:][:width] = folded
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
        task = jit.generate(source.format(name=name), f"{name}_{along}_task", globals(), fold=fold, combine=combine, BLOCK=BLOCK, ROWS=ROWS,
                            WIDTH=WIDTH, np=np, full_width=jit.full_width)
        driver = jit.generate(KERNEL.format(name=name, along=along), f"{name}_{along}", globals(), task=jit.inner(task),
                              parallel_for=jit.parallel_for)
        result[along] = jit.jit(driver)
    return result


TOTAL = """
def {name}_total_task(chunk, a, b, partial):
    full_width()
    total, room = 0.0, np.empty(ROWS, a.dtype)
    for start in range(chunk * BLOCK, min((chunk + 1) * BLOCK, a.size), ROWS):
        x, y = a[start:min(start + ROWS, a.size)], b[start:min(start + ROWS, a.size)]
        terms = room[:x.size]
        for i in range(terms.size):
            terms[i] = f(x[i], y[i])
        total += row_sum(terms)
    partial[chunk] = total
"""
TOTAL_KERNEL = """
def {name}_total(a, b, threads):
    partial = np.empty((a.size + BLOCK - 1) // BLOCK)
    parallel_for(task, partial.size, threads, (a, b, partial))
    return partial.sum()
"""


def total(function):
    """A kernel from a scalar function of two numbers: kernel(a, b), the sum of function(a_i, b_i) over two arrays of one shape, as an
    array of no dimension. The terms are never stored. Bytes: both arrays once."""
    name = function.__name__
    kernel = None

    def launch(a, b):
        nonlocal kernel
        if kernel is None:
            task = jit.generate(TOTAL.format(name=name), f"{name}_total_task", globals(), f=function, BLOCK=BLOCK, ROWS=ROWS, np=np,
                                row_sum=row_sum, full_width=jit.full_width)
            kernel = jit.jit(jit.generate(TOTAL_KERNEL.format(name=name), f"{name}_total", globals(), task=jit.inner(task), BLOCK=BLOCK,
                                          np=np, parallel_for=jit.parallel_for))
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(f"{name}_total: both arrays must have one shape and dtype, got {a.shape} {a.dtype} and {b.shape} {b.dtype}")
        return np.asarray(kernel(a.ravel(), b.ravel(), jit.threads(a.size)), a.dtype)

    launch.__name__ = launch.__qualname__ = f"{name}_total"
    launch.__doc__ = f"Sum over all elements of: {function.__doc__}"
    return launch


gaussian_kl_total = total(scalar.gaussian_kl)

_SUM = _kernels("sum", fold_sum, scalar.add)
_WHOLE_SUM = _kernels("whole_sum", fold_whole_sum, scalar.add)
_MAX = _kernels("max", fold_max, scalar.maximum)
_MIN = _kernels("min", fold_min, scalar.minimum)


@lru_cache(maxsize=4096)
def plan(shape, dims, keepdim):
    """How an array of this shape is reduced over `dims`: (the last ones that are neighbours if not all are, else None; kernel's name,
    numbers for the kernel, shape of the partial results (outer, blocks, inner), shape of the result, count of what is reduced to one
    number)."""
    dims = tuple(range(len(shape))) if dims is None else tuple(sorted(dims))
    result = tuple(1 if d in dims else size for d, size in enumerate(shape) if keepdim or d not in dims)
    first = dims[0] if dims else len(shape)
    if dims and dims[-1] - first + 1 != len(dims):
        run = next(dims[i:] for i in range(len(dims)) if dims[-1] - dims[i] + 1 == len(dims) - i)
        return run, None, None, None, result, math.prod(shape[d] for d in dims)
    outer, n, inner = (math.prod(part) for part in (shape[:first], shape[first:first + len(dims)], shape[first + len(dims):]))
    blocks = larger(1, -(-n // (BLOCK if inner == 1 else ROWS)))
    items = larger(1, BLOCK // larger(1, smaller(n, BLOCK))) if inner == 1 else inner
    chunks = -(-outer * blocks // items) if inner == 1 else outer * blocks * -(-inner // WIDTH)
    return None, "rows" if inner == 1 else "columns", (chunks, n, blocks, items), (outer, blocks, inner), result, n


def _reduce(kernels, finish, x, dims, keepdim, wide, identity):
    """(x folded over `dims`, count of what was folded to one number). Several partial results are kept as `wide` and folded by
    `finish`, a NumPy ufunc; over nothing the result is `identity`."""
    run, along, numbers, parts, shape, n = plan(x.shape, dims, keepdim)
    if not x.size:
        return np.full(shape, identity, wide), n
    if run:
        x, _ = _reduce(kernels, finish, x, run, True, wide, identity)
        rest = tuple(d for d in dims if d not in run)
        return _reduce(kernels, finish, x, rest, True, wide, identity)[0].reshape(shape), n
    several = parts[1] > 1
    partial = np.empty(parts, wide) if several or x.dtype.kind != "f" else np.empty(shape, x.dtype)
    kernels[along](x.ravel(), partial.ravel(), *numbers, jit.threads(x.size // 2))
    if several:
        partial = finish.reduce(partial, axis=1)
    return partial.reshape(shape), n


def sum(x, dims=None, keepdim=False):
    """Sum over `dims` (a tuple of non-negative numbers, None for all). Integers and booleans give int64."""
    if x.dtype.kind != "f":
        return _reduce(_WHOLE_SUM, np.add, x.astype(np.int64, copy=False), dims, keepdim, np.int64, 0)[0]
    total, _ = _reduce(_SUM, np.add, x, dims, keepdim, np.float64, 0)
    return total if total.dtype == x.dtype else total.astype(x.dtype)


def mean(x, dims=None, keepdim=False):
    """Mean over `dims`; NaN over nothing."""
    total, count = _reduce(_SUM, np.add, x, dims, keepdim, np.float64, 0)
    return np.asarray(total / count if count else np.full_like(total, np.nan), x.dtype)


def _extreme(kernels, finish, x, dims, keepdim):
    if not plan(x.shape, dims, keepdim)[-1]:
        raise ValueError(f"{finish.__name__}: nothing to choose from in shape {x.shape} over dimensions {dims or 'all'}")
    worst = {"f": (-np.inf, np.inf), "b": (False, True)}.get(x.dtype.kind)
    low, high = worst or (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
    return _reduce(kernels, finish, x, dims, keepdim, x.dtype, low if finish is np.maximum else high)[0]


def max(x, dims=None, keepdim=False):
    """Largest value over `dims`; NaN if there is one."""
    return _extreme(_MAX, np.maximum, x, dims, keepdim)


def min(x, dims=None, keepdim=False):
    """Smallest value over `dims`; NaN if there is one."""
    return _extreme(_MIN, np.minimum, x, dims, keepdim)


def var(x, dims=None, correction=1, keepdim=False):
    """Mean squared distance from the mean, divided by count - correction; two passes, so nothing cancels."""
    distance = elementwise.sub(x, mean(x, dims, keepdim=True))
    total, count = _reduce(_SUM, np.add, elementwise.mul(distance, distance), dims, keepdim, np.float64, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(total / larger(count - correction, 0), x.dtype)


@jit.inner
def logsumexp_task(chunk, x, result, n, rows):
    """The logarithms of some rows' sums, block by block: what was summed before is scaled to the larger maximum. Short rows share
    one pass of exp, so that they fill the vectors too."""
    out = result[chunk * rows:(chunk + 1) * rows]
    x = x[chunk * rows * n:(chunk * rows + out.size) * n]
    powers, top = np.empty(out.size * smaller(n, BLOCK), x.dtype), np.empty(out.size, x.dtype)
    out[:], top[:] = 0, -math.inf
    for start in range(0, n, BLOCK):
        width = smaller(BLOCK, n - start)
        for r in range(out.size):
            values, shifted = x[r * n + start:][:width], powers[r * width:][:width]
            before = top[r]
            top[r] = scalar.maximum(before, row_max(values))
            highest = top[r] if abs(top[r]) < math.inf else jit.like(before, 0)      # infinities and NaN come out of exp by themselves
            for i in range(shifted.size):
                shifted[i] = values[i] - highest
            if start > 0:
                out[r] *= scalar.exp((before if abs(before) < math.inf else highest) - highest)
        exp_all(powers[:out.size * width])
        for r in range(out.size):
            out[r] += row_sum(powers[r * width:][:width])
    for r in range(out.size):
        out[r] = scalar.log(out[r]) + (top[r] if abs(top[r]) < math.inf else jit.like(out[r], 0))


@jit.jit
def logsumexp_kernel(x, result, n, rows, chunks, threads):
    jit.parallel_for(logsumexp_task, chunks, threads, (x, result, n, rows))


def logsumexp(x, dims=None, keepdim=False):
    """log(sum(exp(x))) over `dims`, the largest value taken out first so that nothing overflows; -inf over nothing."""
    _, along, _, _, shape, n = plan(x.shape, dims, keepdim)
    if not x.size:
        return np.full(shape, -np.inf, x.dtype)
    if along != "rows":
        reduced = range(x.ndim) if dims is None else dims
        x = x.transpose(*(d for d in range(x.ndim) if d not in reduced), *reduced)
    result = np.empty(shape, x.dtype)
    rows, chunks, threads = row_chunks(result.size, n)
    logsumexp_kernel(x.ravel(), result.ravel(), n, rows, chunks, threads)
    return result


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
