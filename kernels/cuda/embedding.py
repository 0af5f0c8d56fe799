"""Rows of a table by number, and the sum of rows into a table: an embedding and its gradient."""

import numpy as np

from kernels.cuda.array import as_device, blocks, contiguous, empty
from kernels.cuda.compiler import cuda, kernel, scalar, typed
from kernels.cuda.rows import ALL, WARP


@kernel(threads=WARP)
def outside_kernel(index, found, n, limit, ignore):
    """found[0] = place of the first index that is neither in 0..limit-1 nor `ignore`; -1 if there is none. One warp."""
    left = typed(found, 0)                         # n minus the place: the first one has the largest
    for i in range(cuda.threadIdx.x, n, WARP):
        at = index[i]
        if at != ignore and (at < 0 or at >= limit):
            left = scalar.maximum(left, typed(found, n - i))
    for distance in (16, 8, 4, 2, 1):
        left = scalar.maximum(left, cuda.shfl_xor_sync(ALL, left, distance))
    if cuda.threadIdx.x == 0:
        found[0] = n - left if left > 0 else -1


def first_outside(index, limit, ignore=0):
    """(place, value) of the first index outside 0..limit-1 that is not `ignore`; None if there is none. Waits for the GPU."""
    found = empty(1, np.int64)
    outside_kernel[1, WARP](index, found, index.size, limit, ignore)
    place = found.item()
    return None if place < 0 else (place, index[place].item())


def checked(name, expected, table, index, rows):
    """The index as contiguous int64, after a check of both arrays and of every index."""
    as_device(name, table, index)
    if table.ndim != 2 or index.ndim != 1:
        raise ValueError(f"{name}: {expected} and index (N,) are expected, got shapes {table.shape} and {index.shape}")
    if index.dtype.kind not in "iu":
        raise TypeError(f"{name}: index must hold whole numbers, got {index.dtype}")
    index = contiguous(index.astype(np.int64, copy=False))
    outside = first_outside(index, rows)
    if outside:
        raise IndexError(f"{name}: index {outside[1]} at place {outside[0]} is outside 0..{rows - 1}, the rows of the table")
    return index


@kernel
def gather_rows_kernel(weight, index, out, columns, n):
    """out[n, d] = weight[index[n], d], a thread for each number."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        row = i // columns
        out[i] = weight[index[row] * columns + i - row * columns]


def gather_rows(weight, index):
    """weight[index]: (V, D), (N,) whole numbers in 0..V-1 -> (N, D). IndexError names an index outside.

    Bytes: N rows read and written.
    """
    index = checked("gather_rows", "weight (V, D)", weight, index, len(weight) if weight.ndim else 0)
    out = empty((index.size, weight.shape[1]), weight.dtype)
    gather_rows_kernel[blocks(out.size), 256](contiguous(weight), index, out, weight.shape[1], out.size)
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
