"""Rows of a table by number, and the sum of rows into a table: an embedding and its gradient."""

import math

import numpy as np

from kernels.cuda.array import as_device, blocks, contiguous, empty
from kernels.cuda.checks import require_inside
from kernels.cuda.compiler import cuda, kernel, typed


def checked(name, expected, table, index, rows):
    """The index as contiguous int64, after a check of both arrays; every index is looked at later (checks.py)."""
    as_device(name, table, index)
    if table.ndim != 2 or index.ndim != 1:
        raise ValueError(f"{name}: {expected} and index (N,) are expected, got shapes {table.shape} and {index.shape}")
    if index.dtype.kind not in "iu":
        raise TypeError(f"{name}: index must hold whole numbers, got {index.dtype}")
    index = contiguous(index.astype(np.int64, copy=False))
    require_inside(index, rows, lambda place, value: IndexError(
        f"{name}: index {value} at place {place} is outside 0..{rows - 1}, the rows of the table"))
    return index


@kernel
def gather_rows_kernel(weight, index, out, rows, columns, n):
    """out[n, d] = weight[index[n], d], a thread for each number."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        place = i // columns
        row = index[place]
        out[i] = weight[row * columns + i - place * columns] if 0 <= row < rows else typed(weight, math.nan)


def gather_rows(weight, index):
    """weight[index]: (V, D), (N,) whole numbers in 0..V-1 -> (N, D). IndexError names an index outside.

    Bytes: N rows read and written.
    """
    index = checked("gather_rows", "weight (V, D)", weight, index, len(weight) if weight.ndim else 0)
    out = empty((index.size, weight.shape[1]), weight.dtype)
    gather_rows_kernel[blocks(out.size), 256](contiguous(weight), index, out, *weight.shape, out.size)
    return out


@kernel
def scatter_add_rows_kernel(g, index, out, columns, n):
    """Block v sums row v of the table: its threads go through the index together and add what is meant for v, each its columns. So
    every number is summed in the order of g, without atomic additions, whose order would change from run to run."""
    row = cuda.blockIdx.x
    for column in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        total = typed(g, 0)
        for i in range(n):
            if index[i] == row:
                total += g[i * columns + column]
        out[row * columns + column] = total


def scatter_add_rows(g, index, rows):
    """(rows, D) whose row v is the sum of g (N, D) over all n with index[n] = v: the gradient of gather_rows.

    Summed in the order of g. IndexError names an index outside 0..rows-1. Bytes: g once, the result written once; the index is read
    by every block, mostly from the caches.
    """
    index = checked("scatter_add_rows", "g (N, D)", g, index, rows)
    if len(g) != index.size:
        raise ValueError(f"scatter_add_rows: g has {len(g)} rows, but there are {index.size} indices")
    out, columns = empty((rows, g.shape[1]), g.dtype), g.shape[1]
    if out.size:
        scatter_add_rows_kernel[rows, 256 if columns > 128 else 64](contiguous(g), index, out, columns, index.size)
    return out
