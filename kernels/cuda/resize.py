"""Arrays read at a grid of other positions along their last dimension or last two, and the gradients. Names and formulas: kernels/cpu.

The tables of positions are on the host. Kernels have a thread for each number of the result; in the gradients it sums what comes from
the positions that read its element, which the host has listed: no two threads add to one number.
"""

import math
from functools import lru_cache

import numpy as np

from kernels.cuda.array import as_device, blocks, contiguous, empty, to_device
from kernels.cuda.compiler import cuda, kernel, typed
from kernels.cuda.rows import floating

# ---- at whole positions ---------------------------------------------------------------------------------------------


@kernel
def take_grid_kernel(x, y, rows, columns, plane, width, h, w, n):
    for at in range(cuda.grid(1), n, cuda.gridsize(1)):
        y[at] = x[at // w // h * plane + rows[at // w % h] * width + columns[at % w]]


def take_grid(x, grid):
    """y[..., i, j] = x[..., grid[0][i], grid[1][j]]: x (..., H, W) -> (..., h, w); with a single table y[..., j] = x[..., grid[0][j]].

    The tables hold whole numbers, on the host; IndexError for one outside. Bytes: y written, and as much read.
    """
    as_device("take_grid", x)
    H, W, tables = _tables("take_grid", grid, x.shape[x.ndim - len(grid):])
    y = empty((*x.shape[:x.ndim - len(grid)], *map(len, grid)), x.dtype)
    take_grid_kernel[blocks(y.size), 256](contiguous(x), y, *[_moved(t, np.int64) for t in tables], H * W, W, *map(len, tables), y.size)
    return y


def take_grid_backward(g, grid, size):
    """dx (..., H, W) for g (..., h, w), the gradient of take_grid(x, grid): g[..., i, j] is added at (grid[0][i], grid[1][j]), in order.

    `size` is (H, W), or (W,) with a single table. Bytes: g read, dx written.
    """
    _, _, tables = _tables("take_grid_backward", grid, size)
    return _backward("take_grid_backward", g, grid, size, [[(t, np.ones(len(t)))] for t in tables])


# ---- between positions ----------------------------------------------------------------------------------------------

@kernel
def lerp_grid_kernel(x, y, rows, below, down, columns, beside, right, plane, width, h, w, n):
    for at in range(cuda.grid(1), n, cuda.gridsize(1)):
        start, i, j = at // w // h * plane, at // w % h, at % w
        first, second, t = start + rows[i] * width, start + below[i] * width, down[i]
        s = typed(x, 1) - t
        left = s * x[first + columns[j]] + t * x[second + columns[j]]
        other = s * x[first + beside[j]] + t * x[second + beside[j]]
        y[at] = (typed(x, 1) - right[j]) * left + right[j] * other


def lerp_grid(x, grid):
    """x (..., H, W) at positions between its elements -> (..., h, w), linear along each dimension; with one table (..., L) -> (..., l).

    y[..., i, j] = x[..., grid[0][i], grid[1][j]], where x at position k + t, 0 <= t < 1, along a dimension is (1 - t) x[k] + t x[k + 1].
    The tables hold floats, on the host, none below 0 or above size - 1: IndexError. TypeError unless x is float32 or float64.

    Bytes: y written, four numbers of x read for each, mostly from the caches; 9 FLOPs.
    """
    as_device("lerp_grid", x)
    floating("lerp_grid", x)
    H, W, tables = _tables("lerp_grid", grid, x.shape[x.ndim - len(grid):])
    y = empty((*x.shape[:x.ndim - len(grid)], *map(len, grid)), x.dtype)
    taps = [_moved(part, dtype) for table, size in zip(tables, (H, W), strict=True)
            for part, dtype in zip(_taps(table, size), (np.int64, np.int64, x.dtype), strict=True)]
    lerp_grid_kernel[blocks(y.size), 256](contiguous(x), y, *taps, H * W, W, *map(len, tables), y.size)
    return y


def _taps(table, size):
    """(i, k, t): x at each position is (1 - t) x[i] + t x[k]."""
    i = table.astype(np.int64)
    return i, np.minimum(i + 1, size - 1), table - i


def lerp_grid_backward(g, grid, size):
    """dx (..., H, W) for g (..., h, w), the gradient of lerp_grid(x, grid): each g is shared by the elements that its output was made of.

    `size` is (H, W), or (W,) with a single table. Bytes: g read, dx written.
    """
    as_device("lerp_grid_backward", g)
    floating("lerp_grid_backward", g)
    H, W, tables = _tables("lerp_grid_backward", grid, size)
    shares = []
    for table, n in zip(tables, (H, W), strict=True):
        i, k, t = _taps(table, n)
        shares.append([(i, 1 - t), (k, t)])
    return _backward("lerp_grid_backward", g, grid, size, shares)


# ---- what they share ------------------------------------------------------------------------------------------------

@kernel(blocks=4)
def grid_backward_kernel(g, dx, row_starts, rows, row_shares, column_starts, columns, column_shares, h, w, H, W, n):
    """dx[p, i, j] = the sum of row_share * column_share * g[p, row, column] over all that read (i, j): rows[row_starts[i]] and on."""
    for at in range(cuda.grid(1), n, cuda.gridsize(1)):
        plane, i, j, total = at // W // H * h, at // W % H, at % W, typed(g, 0)
        for a in range(row_starts[i], row_starts[i + 1]):
            start, line = (plane + rows[a]) * w, typed(g, 0)
            for b in range(column_starts[j], column_starts[j + 1]):
                line += column_shares[b] * g[start + columns[b]]
            total += row_shares[a] * line
        dx[at] = total


def _backward(name, g, grid, size, shares):
    """`shares`: for each of the two dimensions pairs of (element read, its weight), arrays with a number for each position."""
    as_device(name, g)
    ends = tuple(map(len, grid))
    if g.shape[g.ndim - len(size):] != ends:
        raise ValueError(f"{name}: g of shape {g.shape} does not end with {ends}, the lengths of the tables")
    dx = empty((*g.shape[:g.ndim - len(size)], *size), g.dtype)
    sizes, lists = (1, *size)[-2:], []
    for pairs, count in zip(shares, sizes, strict=True):
        read, weight = (np.stack(part, 1).ravel() for part in zip(*pairs, strict=True))            # in the order of positions
        order = np.argsort(read, kind="stable")
        starts = np.searchsorted(read[order], np.arange(count + 1))
        lists += [_moved(starts, np.int64), _moved(order // len(pairs), np.int64), _moved(weight[order], g.dtype)]
    grid_backward_kernel[blocks(dx.size), 256](contiguous(g), dx, *lists, *(1, *ends)[-2:], *sizes, dx.size)
    return dx


def _tables(name, grid, size):
    """(H, W, the tables of rows and columns) after a check against the sizes of the dimensions that they index."""
    if len(grid) != len(size):
        raise ValueError(f"{name}: {len(grid)} tables do not fit {len(size)} dimensions of sizes {tuple(size)}")
    for table, n in zip(grid, size, strict=True):
        if table.size and not 0 <= table.min() <= table.max() <= n - 1:
            raise IndexError(f"{name}: positions from {table.min()} to {table.max()} do not lie in 0..{n - 1}")
    return (*(1, *size)[-2:], [np.zeros(1), *map(np.asarray, grid)][-2:])


def _moved(table, dtype):
    """A table on the GPU, where it stays for the next call with the same."""
    return _kept(np.ascontiguousarray(table, dtype).tobytes(), np.dtype(dtype).str, math.prod(table.shape))


@lru_cache(maxsize=1024)
def _kept(content, dtype, count):
    return to_device(np.frombuffer(content, dtype, count))
