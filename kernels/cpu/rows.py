"""What the kernels over rows (softmax, cross-entropy, layer normalisation) share."""

import math

from kernels import jit
from kernels.jit import inner, like
from kernels.scalar import exp, maximum


def row_chunks(count, columns):
    """(rows in a chunk, chunks, threads) for so many rows of so many columns."""
    rows = max(1, jit.CHUNK // max(1, columns))
    return rows, (count + rows - 1) // rows, jit.threads(count * columns)


@inner
def row_max(row):
    """Largest number of a row; -inf for an empty one."""
    highest = like(row[0], -math.inf)
    for i in range(row.size):
        highest = maximum(highest, row[i])
    return highest


@inner(sums=True)
def row_sum(row):
    """Sum of a row."""
    total = like(row[0], 0)
    for i in range(row.size):
        total += row[i]
    return total


@inner(sums=True)
def row_dot(a, b):
    """Sum of the products of two rows."""
    total = like(a[0], 0)
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@inner
def exp_all(y):
    """y = exp(y). In place: of two arrays that are the same, LLVM would not know that vectors are safe."""
    jit.full_width()
    for i in range(y.size):
        y[i] = exp(y[i])
