"""The rungs below the fast product, to read and to time: C = A B for contiguous A (M, K) and B (K, N), on one core.

Shares of the FMA peak are in benchmarks/results/; `benchmarks/kernels.py` measures them.
"""

import numpy as np

from kernels.jit import jit

TILE = 64


@jit
def naive(a, b, c):
    """The definition: one sum for each element. B is read down its columns, a cache line for every number."""
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            total = a[i, 0] * 0
            for k in range(a.shape[1]):
                total += a[i, k] * b[k, j]
            c[i, j] = total


@jit
def by_rows(a, b, c):
    """The two inner loops exchanged: rows of B and C are read in order, and LLVM turns the inner loop into vector instructions.

    Each step still loads and stores C: two memory operations for every multiplication.
    """
    for i in range(c.shape[0]):
        row = c[i]
        row[:] = 0
        for k in range(a.shape[1]):
            factor, other = a[i, k], b[k]
            for j in range(row.size):
                row[j] += factor * other[j]


@jit
def blocked(a, b, c):
    """by_rows inside blocks of B of 64 x 256 numbers, which stay in the first-level cache while all rows of A pass."""
    c[:] = 0
    for k0 in range(0, a.shape[1], TILE):
        for j0 in range(0, c.shape[1], 4 * TILE):
            for i in range(c.shape[0]):
                row = c[i, j0:j0 + 4 * TILE]
                for k in range(k0, min(k0 + TILE, a.shape[1])):
                    factor, other = a[i, k], b[k, j0:j0 + 4 * TILE]
                    for j in range(row.size):
                        row[j] += factor * other[j]


@jit
def packed(a, b, c):
    """B is copied, 16 columns at a time, into a run that is read in order; four rows of C are summed in local arrays that LLVM can
    keep in registers. What is left to gain takes explicit vector registers: kernels/cpu/matmul/simd.py."""
    M, K, N = a.shape[0], a.shape[1], b.shape[1]
    panel, sums = np.zeros((K, 16), a.dtype), np.empty((4, 16), a.dtype)
    for j0 in range(0, N, 16):
        width = min(16, N - j0)
        for k in range(K):
            panel[k, :width] = b[k, j0:j0 + width]
        for i0 in range(0, M, 4):
            height = min(4, M - i0)
            sums[:] = 0
            for k in range(K):
                other = panel[k]
                for r in range(height):
                    factor, total = a[i0 + r, k], sums[r]
                    for j in range(16):
                        total[j] += factor * other[j]
            for r in range(height):
                c[i0 + r, j0:j0 + width] = sums[r, :width]
