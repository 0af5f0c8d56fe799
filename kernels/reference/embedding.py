"""Rows of a table by number in NumPy."""

import numpy as np


def _check(index, rows):
    for i in index:
        if not 0 <= i < rows:
            raise IndexError(f"index {i} is outside 0..{rows - 1}, the rows of the table")


def gather_rows(weight, index):
    """weight[index]: (V, D), (N,) -> (N, D). IndexError for an index outside 0..V-1."""
    _check(index, len(weight))
    return weight[index]


def scatter_add_rows(g, index, rows):
    """(rows, D) whose row v is the sum of g (N, D) over all n with index[n] = v. IndexError for an index outside 0..rows-1."""
    _check(index, rows)
    out = np.zeros((rows, g.shape[1]), g.dtype)
    np.add.at(out, index, g)
    return out
