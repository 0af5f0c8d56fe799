"""The rungs below the fast product, to read and to time: C = A B for contiguous A (M, K) and B (K, N), on one core.

`pytest benchmarks/test_kernels.py` times them beside the fast one.
"""

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
def four_steps(a, b, c):
    """Four steps of k at once: C is loaded and stored once for four multiplications. From here on it takes a tile of C that stays in
    vector registers, and packed operands: packed.py."""
    K = a.shape[1]
    whole = K // 4 * 4
    for i in range(c.shape[0]):
        row, left = c[i], a[i]
        row[:] = 0
        for k in range(0, whole, 4):
            f0, f1, f2, f3 = left[k], left[k + 1], left[k + 2], left[k + 3]
            b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
            for j in range(row.size):
                row[j] += f0 * b0[j] + f1 * b1[j] + f2 * b2[j] + f3 * b3[j]
        for k in range(whole, K):
            factor, other = left[k], b[k]
            for j in range(row.size):
                row[j] += factor * other[j]
