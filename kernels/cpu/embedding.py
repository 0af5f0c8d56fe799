"""Rows of a table by number, and the sum of rows into a table: an embedding and its gradient."""

import numpy as np

from kernels import jit
from kernels.jit import inner, parallel_for

COLUMNS = 64   # columns of the table that one chunk sums: whole cache lines, so that no two threads write to the same one


@inner
def first_outside(index, rows):
    """Place of the first index outside 0..rows-1; -1 if there is none."""
    for n in range(index.size):
        if index[n] < 0 or index[n] >= rows:
            return n
    return -1


@inner
def gather_rows_task(chunk, weight, index, out, rows):
    for n in range(chunk * rows, min((chunk + 1) * rows, index.size)):
        row, copy = weight[index[n]], out[n]
        for i in range(copy.size):
            copy[i] = row[i]


@jit.jit
def gather_rows_kernel(weight, index, out, rows, chunks, threads):
    outside = first_outside(index, len(weight))
    if outside < 0:
        parallel_for(gather_rows_task, chunks, threads, (weight, index, out, rows))
    return outside


def gather_rows(weight, index):
    """weight[index]: (V, D), (N,) whole numbers in 0..V-1 -> (N, D). IndexError names an index outside.

    Bytes: N rows read and written.
    """
    index = _checked("gather_rows", "weight (V, D)", weight, index)
    out = np.empty((index.size, weight.shape[1]), weight.dtype)
    rows = max(1, jit.CHUNK // max(1, weight.shape[1]))
    chunks = (index.size + rows - 1) // rows
    _raise_outside("gather_rows", index, len(weight),
                   gather_rows_kernel(np.ascontiguousarray(weight), index, out, rows, chunks, jit.threads(out.size)))
    return out


@inner
def scatter_add_rows_task(chunk, g, index, out):
    columns = slice(chunk * COLUMNS, (chunk + 1) * COLUMNS)
    for n in range(index.size):
        row, total = g[n, columns], out[index[n], columns]
        for i in range(total.size):
            total[i] += row[i]


@jit.jit
def scatter_add_rows_kernel(g, index, out, chunks, threads):
    outside = first_outside(index, len(out))
    if outside < 0:
        parallel_for(scatter_add_rows_task, chunks, threads, (g, index, out))
    return outside


def scatter_add_rows(g, index, rows):
    """(rows, D) whose row v is the sum of g (N, D) over all n with index[n] = v: the gradient of gather_rows.

    Threads divide the columns, so every number is summed in the order of g. IndexError names an index outside 0..rows-1.
    Bytes: g read, N rows of the result read and written.
    """
    index = _checked("scatter_add_rows", "g (N, D)", g, index)
    if len(g) != index.size:
        raise ValueError(f"scatter_add_rows: g has {len(g)} rows, but there are {index.size} indices")
    out = np.zeros((rows, g.shape[1]), g.dtype)
    chunks = (g.shape[1] + COLUMNS - 1) // COLUMNS
    _raise_outside("scatter_add_rows", index, rows,
                   scatter_add_rows_kernel(np.ascontiguousarray(g), index, out, chunks, jit.threads(g.size)))
    return out


def _checked(name, expected, table, index):
    """The index as contiguous int64, after a check of both arrays."""
    if table.ndim != 2 or index.ndim != 1:
        raise ValueError(f"{name}: {expected} and index (N,) are expected, got shapes {table.shape} and {index.shape}")
    if index.dtype.kind not in "iu":
        raise TypeError(f"{name}: index must hold whole numbers, got {index.dtype}")
    return np.ascontiguousarray(index, np.int64)


def _raise_outside(name, index, rows, place):
    if place >= 0:
        raise IndexError(f"{name}: index {index[place]} at place {place} is outside 0..{rows - 1}, the rows of the table")
