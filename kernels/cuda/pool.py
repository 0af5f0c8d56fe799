"""Pooling over windows of the last dimension (..., L) or the last two (..., H, W): maxima, averages and their gradients.

A thread for each number of the result. What windows share of x comes from the first-level cache.
"""

import math
from functools import cache

import numpy as np

from kernels.cuda.array import as_device, blocks, contiguous, empty, to_device
from kernels.cuda.compiler import cuda, kernel, typed
from kernels.cuda.indices import check_sizes, divide
from kernels.cuda.rows import WARP, floating

THREADS = 256


# ---- maxima ---------------------------------------------------------------------------------------------------------

def _max_kernel(name, places):
    """The kernel with or without places; `at` stays a place of the picture, or -1 until there is one."""
    @kernel(name=name)
    def max_pool_kernel(x, y, place, count, H, W, h, w, KH, KW, sy, sx, py, px, dy, dx):
        for number in range(cuda.grid(1), count, cuda.gridsize(1)):
            rest, j = divide(number, w)
            plane, i = divide(rest, h)
            best, at = typed(x, -math.inf), -1
            for a in range(KH):
                row = i * sy - py + a * dy
                if row >= 0 and row < H:
                    for b in range(KW):
                        column = j * sx - px + b * dx
                        if column >= 0 and column < W:
                            here = row * W + column
                            value = x[plane * H * W + here]
                            if value > best or value != value or at < 0:
                                best, at = value, here
            y[number] = best
            if places:
                place[number] = at
    return max_pool_kernel


max_pool_kernel, max_values_kernel = _max_kernel("max_pool", True), _max_kernel("max_pool_values", False)


def max_pool(x, size, kernel_size, stride, padding, dilation):
    """Largest value in each window, and where it lies: x (..., H, W) -> (y, places), both (..., h, w); or (..., L) -> (..., l).

    y[i, j] = max over a, b of x[i s + a d - p, j s + b d - p]: `size` is (h, w), and stride s, padding p, dilation d and the kernel_size,
    the number of a and b, are tuples of the same length. What lies outside of x does not count; each window must hold something of x.
    Places (int64) are counted row by row within H x W. Of equal values the first is taken; of NaN, which is above all, the last.

    Bytes: x read, y and places written. TypeError unless x is float32 or float64.
    """
    y, places = _max_pool("max_pool", max_pool_kernel, x, size, kernel_size, stride, padding, dilation)
    return y, places


def max_pool_values(x, size, kernel_size, stride, padding, dilation):
    """y of `max_pool` alone, the same bits. Bytes: x read, y written."""
    return _max_pool("max_pool_values", max_values_kernel, x, size, kernel_size, stride, padding, dilation)[0]


def _max_pool(name, launched, x, size, *geometry):
    as_device(name, x)
    dims, dtype = len(size), floating(name, x)
    shape = (*x.shape[:x.ndim - dims], *size)
    check_sizes(name, x.shape, shape)
    y, places = empty(shape, dtype), empty(shape if launched is max_pool_kernel else 1, np.int64)
    geometry = [n for pair, filler in zip(geometry, (1, 1, 0, 1), strict=True) for n in _lifted(pair, filler)]
    launched[blocks(y.size), THREADS](contiguous(x), y, places, y.size, *_lifted(x.shape[x.ndim - dims:], 1), *_lifted(size, 1), *geometry)
    return y, places


def _lifted(pair, filler):
    """A tuple for one dimension as one for two: the picture has one row."""
    return tuple(pair) if len(pair) == 2 else (filler, *pair)


@kernel(threads=WARP)
def max_pool_backward_kernel(g, place, dx, outputs, cells):
    """dx = g added at its places: a warp for each plane, so that no two threads meet by chance. 32 numbers of g at once; those with the
    same place are added by the first of the threads that have it, in order."""
    at, values = cuda.shared.array(WARP, np.int32), cuda.shared.array(WARP, g.dtype)
    t, plane = cuda.threadIdx.x, cuda.blockIdx.x
    for cell in range(t, cells, WARP):
        dx[plane * cells + cell] = typed(g, 0)
    for first in range(0, outputs, WARP):
        inside = first + t < outputs
        mine = np.int32(place[plane * outputs + first + t]) if inside else np.int32(-1)
        at[t], values[t] = mine, g[plane * outputs + first + t] if inside else typed(g, 0)
        cuda.syncthreads()                         # also: the zeros, or what was added before, have been written
        total, leads = typed(g, 0), True
        for other in range(WARP):
            same = at[other] == mine
            leads = leads and (other >= t or not same)
            total += values[other] if same else typed(g, 0)
        if leads and mine >= 0 and mine < cells:
            dx[plane * cells + mine] += total
        cuda.syncthreads()                         # nobody reads `at` any more


def max_pool_backward(g, places, size):
    """dx (..., H, W) for g (..., h, w), the gradient of y = max_pool(x): the sum of those g whose maximum lay there; (..., L) alike.

    `size` is (H, W). Places outside of it are left out, as to name them would wait for the GPU. Bytes: g and places read, dx written and
    read where there is a maximum.
    """
    as_device("max_pool_backward", g, places)
    if g.shape != places.shape:
        raise ValueError(f"max_pool_backward: g has shape {g.shape}, places {places.shape}; they must be equal")
    leading, dtype = g.shape[:g.ndim - len(size)], floating("max_pool_backward", g)
    dx = empty((*leading, *size), dtype)
    check_sizes("max_pool_backward", dx.shape)
    planes, cells = math.prod(leading), math.prod(size)
    max_pool_backward_kernel[planes, WARP](contiguous(g), contiguous(places), dx, g.size // max(1, planes), cells)
    return dx


# ---- averages -------------------------------------------------------------------------------------------------------
# The windows of each dimension are a table (3, n) of whole numbers on the host: start, end and divisor of window i. The GPU keeps a copy
# of each table as long as the process runs; the gradient has one of the windows that hold each place, which gather from these.

@kernel
def avg_pool_kernel(x, y, rows, columns, count, H, W, h, w):
    for number in range(cuda.grid(1), count, cuda.gridsize(1)):
        rest, j = divide(number, w)
        plane, i = divide(rest, h)
        total = typed(x, 0)
        for row in range(rows[i], rows[h + i]):
            for column in range(columns[j], columns[w + j]):
                total += x[(plane * H + row) * W + column]
        y[number] = total / typed(x, rows[2 * h + i] * columns[2 * w + j])


@kernel
def avg_pool_backward_kernel(g, dx, rows, columns, count, H, W, h, w):
    """Row y's windows are rows[rows[y]], ..., rows[rows[y + 1] - 1], and their divisors as far behind that as `rows` has windows, which is
    what rows[H + 1] says; columns alike."""
    for number in range(cuda.grid(1), count, cuda.gridsize(1)):
        rest, column = divide(number, W)
        plane, row = divide(rest, H)
        total, down, across = typed(g, 0), rows[row + 1] - rows[row], columns[column + 1] - columns[column]
        for k in range(down * across):
            a, b = divide(k, across)
            a, b = a + rows[row], b + columns[column]
            total += g[(plane * h + rows[a]) * w + columns[b]] / typed(g, rows[a + rows[H + 1]] * columns[b + columns[W + 1]])
        dx[number] = total


def avg_pool(x, windows):
    """Sums over windows, each divided by a number of its own: x (..., H, W) -> (..., h, w), or (..., L) -> (..., l).

    `windows` has a table (3, n) of whole numbers for each pooled dimension, on the host: window i holds start[i] .. end[i] - 1 and, in two
    dimensions, the sum over the window (i, j) is divided by divisor[i] times divisor[j].

    Bytes: x read, y written. IndexError for a window that leaves the input, TypeError unless x is float32 or float64.
    """
    as_device("avg_pool", x)
    dims, dtype = len(windows), floating("avg_pool", x)
    inner = x.shape[x.ndim - dims:]
    _check_windows("avg_pool", windows, inner)
    y = empty((*x.shape[:x.ndim - dims], *(table.shape[1] for table in windows)), dtype)
    check_sizes("avg_pool", x.shape, y.shape)
    rows, columns = (_kept(table) for table in _lifted(windows, np.array([[0], [1], [1]])))
    avg_pool_kernel[blocks(y.size), THREADS](contiguous(x), y, rows, columns, y.size, *_lifted(inner, 1), rows.shape[1], columns.shape[1])
    return y


def avg_pool_backward(g, windows, size):
    """dx (..., H, W) for g (..., h, w), the gradient of avg_pool(x, windows): the sum of g / divisor over the windows that hold a place.

    `size` is (H, W), or (L,) with one table. Bytes: g read, dx written.
    """
    as_device("avg_pool_backward", g)
    _check_windows("avg_pool_backward", windows, size)
    if g.shape[g.ndim - len(size):] != tuple(table.shape[1] for table in windows):
        raise ValueError(f"avg_pool_backward: g of shape {g.shape} does not end with {tuple(table.shape[1] for table in windows)}, the "
                         "numbers of windows")
    dx = empty((*g.shape[:g.ndim - len(size)], *size), floating("avg_pool_backward", g))
    check_sizes("avg_pool_backward", g.shape, dx.shape)
    size, windows = _lifted(size, 1), _lifted(windows, np.array([[0], [1], [1]]))
    holders = [_holders(n, table) for n, table in zip(size, windows, strict=True)]
    avg_pool_backward_kernel[blocks(dx.size), THREADS](contiguous(g), dx, *holders, dx.size, *size, *(table.shape[1] for table in windows))
    return dx


def _check_windows(name, windows, size):
    if len(windows) != len(size):
        raise ValueError(f"{name}: {len(windows)} tables of windows do not fit {len(size)} dimensions of sizes {tuple(size)}")
    for (start, end, _), n in zip(windows, size, strict=True):
        if start.size and not 0 <= start.min() <= end.max() <= n:
            raise IndexError(f"{name}: windows from {start.min()} to {end.max()} do not lie in 0..{n}")


def _kept(table):
    """A host's table on the GPU."""
    table = np.asarray(table, np.int64)
    return _table(table.tobytes(), table.shape)


@cache
def _table(numbers, shape):
    return to_device(np.frombuffer(numbers, np.int64).reshape(shape))


def _holders(n, table):
    """The table of the windows that hold each of n places, as avg_pool_backward_kernel reads it."""
    start, end, divisor = np.asarray(table, np.int64)
    place = np.arange(n)[:, None]
    held, window = np.nonzero((place >= start) & (place < end))
    firsts = np.searchsorted(held, np.arange(n + 1)) + n + 2
    return _kept(np.concatenate([firsts, [len(window)], window, divisor[window]]))
