"""Arrays read at a grid of other positions along their last dimension or last two: up- and down-sampling, and padding that repeats the
array. The positions along each dimension are a table, so any rule that chooses them is served by the same kernels."""

import numpy as np

from kernels import jit
from kernels.cpu.planes import chunks, floating, lifted, planes
from kernels.jit import inner, like, parallel_for

# ---- at whole positions ---------------------------------------------------------------------------------------------

@inner
def take_grid_task(chunk, x, y, rows, columns, each):
    h = y.shape[1]
    for r in range(chunk * each, min((chunk + 1) * each, len(y) * h)):
        source, out = x[r // h, rows[r % h]], y[r // h, r % h]
        for j in range(out.size):
            out[j] = source[np.uint64(columns[j])]


@jit.jit
def take_grid_kernel(x, y, rows, columns, each, chunks, threads):
    parallel_for(take_grid_task, chunks, threads, (x, y, rows, columns, each))


def take_grid(x, grid):
    """y[..., i, j] = x[..., grid[0][i], grid[1][j]]: x (..., H, W) -> (..., h, w); with a single table y[..., j] = x[..., grid[0][j]].

    The tables hold whole numbers; IndexError for one outside. Bytes: y written, and as much read, mostly from cache.
    """
    rows, columns = _tables("take_grid", grid, x.shape[-len(grid):])
    shape = (*x.shape[:-len(grid)], *map(len, grid))
    x = planes("take_grid", x, len(grid))
    y = np.empty((len(x), len(rows), len(columns)), x.dtype)
    if y.size:
        take_grid_kernel(x, y, rows, columns, *chunks(len(x) * len(rows), len(columns), y.size))
    return y.reshape(shape)


@inner
def take_grid_backward_task(chunk, g, dx, rows, columns, each):
    for p in range(chunk * each, min((chunk + 1) * each, len(dx))):
        for i in range(rows.size):
            grad, out = g[p, i], dx[p, rows[i]]
            for j in range(grad.size):
                out[np.uint64(columns[j])] += grad[j]


@jit.jit
def take_grid_backward_kernel(g, dx, rows, columns, each, chunks, threads):
    parallel_for(take_grid_backward_task, chunks, threads, (g, dx, rows, columns, each))


def take_grid_backward(g, grid, size):
    """dx (..., H, W) for g (..., h, w), the gradient of take_grid(x, grid): g[..., i, j] is added at (grid[0][i], grid[1][j]), in order.

    `size` is (H, W), or (W,) with a single table. Bytes: g read, as much of dx read and written. Each plane belongs to one thread.
    """
    return _backward("take_grid_backward", take_grid_backward_kernel, g, grid, size, *_tables("take_grid_backward", grid, size))


# ---- between positions ----------------------------------------------------------------------------------------------

@inner
def taps(position, size):
    """(i, k, t): x at this position, 0 <= position <= size - 1, is (1 - t) x[i] + t x[k]."""
    i = np.int64(position)
    return i, min(i + 1, size - 1), position - i


@inner
def blend(line, a, b, t):
    """line = (1 - t) a + t b"""
    s = like(t, 1) - t
    for i in range(line.size):
        line[i] = s * a[i] + t * b[i]


@inner
def lerp_grid_task(chunk, x, y, rows, columns, each):
    h, (H, W) = y.shape[1], x.shape[1:]
    line = np.empty(W, x.dtype)
    for r in range(chunk * each, min((chunk + 1) * each, len(y) * h)):
        plane, out = x[r // h], y[r // h, r % h]
        i, k, t = taps(rows[r % h], H)
        blend(line, plane[i], plane[k], like(line[0], t))
        for j in range(out.size):
            i, k, t = taps(columns[j], W)
            t = like(line[0], t)
            out[j] = (like(t, 1) - t) * line[np.uint64(i)] + t * line[np.uint64(k)]


@jit.jit
def lerp_grid_kernel(x, y, rows, columns, each, chunks, threads):
    parallel_for(lerp_grid_task, chunks, threads, (x, y, rows, columns, each))


def lerp_grid(x, grid):
    """x (..., H, W) at positions between its elements -> (..., h, w), linear along each dimension; with one table (..., L) -> (..., l).

    y[..., i, j] = x[..., grid[0][i], grid[1][j]], where x at position k + t, 0 <= t < 1, along a dimension is (1 - t) x[k] + t x[k + 1].
    The tables hold floats, none below 0 or above size - 1: IndexError. TypeError unless x is float32 or float64.

    Bytes: y written, two rows of x read for each row of it, mostly from cache; 3 FLOPs for each of W + w numbers a row, as rows are
    blended first.
    """
    floating("lerp_grid", x)
    rows, columns = _tables("lerp_grid", grid, x.shape[-len(grid):], np.float64)
    shape = (*x.shape[:-len(grid)], *map(len, grid))
    x = planes("lerp_grid", x, len(grid))
    y = np.empty((len(x), len(rows), len(columns)), x.dtype)
    if y.size:
        lerp_grid_kernel(x, y, rows, columns, *chunks(len(x) * len(rows), x.shape[2] + len(columns), y.size))
    return y.reshape(shape)


@inner
def add_scaled(out, line, t):
    for i in range(out.size):
        out[i] += t * line[i]


@inner
def lerp_grid_backward_task(chunk, g, dx, rows, columns, each):
    H, W = dx.shape[1:]
    line = np.empty(W, dx.dtype)
    for p in range(chunk * each, min((chunk + 1) * each, len(dx))):
        for r in range(rows.size):
            grad = g[p, r]
            for i in range(W):
                line[i] = 0
            for j in range(grad.size):
                i, k, t = taps(columns[j], W)
                t = like(line[0], t)
                line[np.uint64(i)] += (like(t, 1) - t) * grad[j]
                line[np.uint64(k)] += t * grad[j]
            i, k, t = taps(rows[r], H)
            t = like(line[0], t)
            add_scaled(dx[p, i], line, like(t, 1) - t)
            add_scaled(dx[p, k], line, t)


@jit.jit
def lerp_grid_backward_kernel(g, dx, rows, columns, each, chunks, threads):
    parallel_for(lerp_grid_backward_task, chunks, threads, (g, dx, rows, columns, each))


def lerp_grid_backward(g, grid, size):
    """dx (..., H, W) for g (..., h, w), the gradient of lerp_grid(x, grid): each g is shared by the elements that its output was made of.

    `size` is (H, W), or (W,) with a single table. Bytes: g read, two rows of dx read and written for each of its rows, mostly in cache.
    Each plane belongs to one thread.
    """
    tables = _tables("lerp_grid_backward", grid, size, np.float64)
    return _backward("lerp_grid_backward", lerp_grid_backward_kernel, g, grid, size, *tables)


# ---- what they share ------------------------------------------------------------------------------------------------

def _tables(name, grid, size, dtype=np.int64):
    """The tables of rows and columns, after a check against the sizes of the dimensions that they index."""
    if len(grid) != len(size):
        raise ValueError(f"{name}: {len(grid)} tables do not fit {len(size)} dimensions of sizes {tuple(size)}")
    for table, n in zip(grid, size, strict=True):
        if table.size and not 0 <= table.min() <= table.max() <= n - 1:
            raise IndexError(f"{name}: positions from {table.min()} to {table.max()} do not lie in 0..{n - 1}")
    return [np.ascontiguousarray(table, dtype) for table in lifted(grid, np.zeros(1))]


def _backward(name, kernel, g, grid, size, rows, columns):
    """Launch a kernel that adds g to a dx of zeros, plane by plane."""
    ends = tuple(map(len, grid))
    if g.shape[g.ndim - len(size):] != ends:
        raise ValueError(f"{name}: g of shape {g.shape} does not end with {ends}, the lengths of the tables")
    shape = (*g.shape[:g.ndim - len(size)], *size)
    g = planes(name, g, len(size))
    dx = np.zeros((len(g), *lifted(size, 1)), g.dtype)
    if g.size:
        kernel(g, dx, rows, columns, *chunks(len(g), g[0].size + dx[0].size, g.size))
    return dx.reshape(shape)
