"""Matrix products: C = A B, FLOPs 2 M K N.

Rungs, each with what it changes:
    naive     rows of C in order, B read row by row: the inner loop is vectorised by LLVM, one row of C stays in cache
"""

import math

import numpy as np

from kernels import jit


@jit.inner
def naive_task(chunk, a, b, c, rows):
    K, N = b.shape[1], b.shape[2]
    M = a.shape[1]
    batch, first = chunk // ((M + rows - 1) // rows), chunk % ((M + rows - 1) // rows) * rows
    for i in range(first, min(first + rows, M)):
        y = c[batch, i]
        for j in range(N):
            y[j] = 0
        for k in range(K):
            factor, row = a[batch, i, k], b[batch, k]
            for j in range(N):
                y[j] += factor * row[j]


@jit.jit
def naive_kernel(a, b, c, rows, threads):
    jit.parallel_for(naive_task, a.shape[0] * ((a.shape[1] + rows - 1) // rows), threads, (a, b, c, rows))


def matmul(a, b):
    """a @ b: (..., M, K) (..., K, N) -> (..., M, N), leading dimensions broadcast; one-dimensional operands as in NumPy."""
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: operands need at least one dimension, got shapes {a.shape} and {b.shape}")
    rows, columns = a.ndim > 1, b.ndim > 1
    a, b = a if rows else a[None], b if columns else b[:, None]
    (M, K), (K2, N) = a.shape[-2:], b.shape[-2:]
    if K != K2:
        raise ValueError(f"matmul: {a.shape} times {b.shape} does not fit: the last dimension of the first ({K}) must equal the "
                         f"last but one of the second ({K2})")
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    c = np.empty((*batch, M, N), np.result_type(a, b))
    if c.size:
        count = math.prod(batch)
        a3 = np.ascontiguousarray(np.broadcast_to(a, (*batch, M, K))).reshape(count, M, K)
        b3 = np.ascontiguousarray(np.broadcast_to(b, (*batch, K, N))).reshape(count, K, N)
        naive_kernel(a3, b3, c.reshape(count, M, N), max(1, jit.CHUNK // (K * N + 1)), jit.threads(2 * c.size * K))
    return c.reshape((*batch, *((M,) if rows else ()), *((N,) if columns else ())))
