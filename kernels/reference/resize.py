"""Arrays read at a grid of positions along their last dimensions, in NumPy."""

import numpy as np


def take_grid(x, grid):
    """y[..., i, j] = x[..., grid[0][i], grid[1][j]]: one table of whole numbers for each of the last dimensions."""
    return x[(..., *np.ix_(*grid))]


def take_grid_backward(g, grid, size):
    """dx (..., *size): g[..., i, j] added at (grid[0][i], grid[1][j])."""
    dx = np.zeros((*g.shape[:g.ndim - len(size)], *size), g.dtype)
    np.add.at(dx, (..., *np.ix_(*grid)), g)
    return dx


def _weights(table, size):
    """(len(table), size): how much of each element is in the value at each position."""
    return np.maximum(0, 1 - np.abs(np.asarray(table)[:, None] - np.arange(size)))


def _along_each(x, matrices):
    """The last dimensions of x, each multiplied by a matrix (new size, old size)."""
    for axis, matrix in zip(range(-len(matrices), 0), matrices, strict=True):
        x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


def lerp_grid(x, grid):
    """x at positions between its elements, linear along each of the last dimensions: one table of floats for each."""
    sizes = x.shape[-len(grid):]
    return _along_each(x, [_weights(table, n) for table, n in zip(grid, sizes, strict=True)]).astype(x.dtype)


def lerp_grid_backward(g, grid, size):
    """dx (..., *size): the transposed matrices applied to g."""
    return _along_each(g, [_weights(table, n).T for table, n in zip(grid, size, strict=True)]).astype(g.dtype)
