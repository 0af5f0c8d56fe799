"""Matrix products with one panel of columns, or with a single row, for which packing A would cost more than it saves.

    thin    C has one panel of columns (up to two vectors): each number of A is used once, so A is read in place, only B is packed
    row     C is a single row: a sum of B's rows, or dot products with them if B lies transposed

The 128 x 512 x 10 product of a classifier's last layer takes three quarters of its time in packed.py. FLOPs: 2 M N K; bytes: A, B and
C once, and B once more to pack it for each thread.
"""

import numpy as np

from kernels import scalar
from kernels.cpu.matmul import simd
from kernels.cpu.matmul.packed import KC, bend, block_start, pack_b
from kernels.cpu.rows import row_dot
from kernels.jit import inner, jit, parallel_for

COLUMNS = 512                                    # columns to a task of the product of a single row
H0, H1, H2 = simd.ROWS, simd.HEIGHTS[2], 1       # exact heights: rows to spare would read beyond A
VECTORS = simd.VECTORS
wide0, wide1, wide2 = (simd.product(h, VECTORS) for h in (H0, H1, H2))
narrow0, narrow1, narrow2 = (simd.product(h, 1) for h in (H0, H1, H2))


@inner
def rows_product(a, ao, ra, ka, rows, b, ldb, c, co, ldc, kb, columns, add, bias, relu):
    """`rows` rows of C, at most one panel of columns wide; A's number (r, k) is a[ao + r * ra + k * ka]."""
    i = 0
    while i < rows:
        height = H0 if rows - i >= H0 else H1 if rows - i >= H1 else H2
        at, to = ao + i * ra, co + i * ldc
        if columns <= simd.lanes(a):
            if height == H0:
                narrow0(a, at, ra, ka, b, 0, ldb, c, to, ldc, kb, H0, columns, add, bias, 0, relu)
            elif height == H1:
                narrow1(a, at, ra, ka, b, 0, ldb, c, to, ldc, kb, H1, columns, add, bias, 0, relu)
            else:
                narrow2(a, at, ra, ka, b, 0, ldb, c, to, ldc, kb, H2, columns, add, bias, 0, relu)
        elif height == H0:
            wide0(a, at, ra, ka, b, 0, ldb, c, to, ldc, kb, H0, columns, add, bias, 0, relu)
        elif height == H1:
            wide1(a, at, ra, ka, b, 0, ldb, c, to, ldc, kb, H1, columns, add, bias, 0, relu)
        else:
            wide2(a, at, ra, ka, b, 0, ldb, c, to, ldc, kb, H2, columns, add, bias, 0, relu)
        i += height


@inner
def thin_task(chunk, a, ta, lda, b, tb, ldb, c, M, N, K, parts, add, bias, activation):
    """One of `parts` parts of C's rows."""
    matrix, part = chunk // parts, chunk % parts
    tiles, width = (M + H0 - 1) // H0, VECTORS * simd.lanes(a) if simd.lanes(a) < N else simd.lanes(a)
    first, stop = part * tiles // parts * H0, min(M, (part + 1) * tiles // parts * H0)
    ra, ka = (1, lda) if ta else (lda, 1)
    ao, bo, co = matrix * M * K + first * ra, matrix * K * N, (matrix * M + first) * N
    panel = np.empty(min(K, KC) * width, a.dtype)
    for block in range((K + KC - 1) // KC):
        k0 = block_start(block, K)
        kb = block_start(block + 1, K) - k0
        finished = k0 + kb == K
        pack_b(b, bo + (k0 if tb else k0 * ldb), tb, ldb, panel, width, N, kb)
        rows_product(a, ao + k0 * ka, ra, ka, stop - first, panel, width, c, co, N, kb, N, add or block > 0,
                     bias if finished else bias[:0], finished and activation == 1)
    if activation > 1:
        bend(c, co, N, stop - first, N, activation)


@inner
def row_task(chunk, a, b, sb, transposed, ldb, c, N, K, add, bias, activation):
    """Some columns of the product of one row a and B: dot products if B lies transposed, else a sum of B's rows."""
    parts = (N + COLUMNS - 1) // COLUMNS
    matrix = chunk // parts
    j, bo = (chunk - matrix * parts) * COLUMNS, matrix * sb
    row, out = a[matrix * K:][:K], c[matrix * N + j:][:min(COLUMNS, N - j)]
    if not add:
        out[:] = 0
    if transposed:
        for n in range(out.size):
            out[n] += row_dot(row, b[bo + (j + n) * ldb:][:K])
    else:
        for k in range(K):
            factor, other = row[k], b[bo + k * ldb + j:][:out.size]
            for n in range(out.size):
                out[n] += factor * other[n]
    if bias.size:
        for n in range(out.size):
            out[n] += bias[j + n]
    if activation == 1:
        for n in range(out.size):
            out[n] = scalar.relu(out[n])
    elif activation > 1:
        bend(c, matrix * N + j, N, 1, out.size, activation)


@jit
def thin_kernel(a, ta, lda, b, tb, ldb, c, count, M, N, K, add, bias, activation, threads):
    """As matmul_kernel, for a single row or at most one panel of columns."""
    if M == 1:
        parallel_for(row_task, count * ((N + COLUMNS - 1) // COLUMNS), threads, (a, b, K * N, tb, ldb, c, N, K, add, bias, activation))
        return
    parallel_for(thin_task, count * threads, threads, (a, ta, lda, b, tb, ldb, c, M, N, K, threads, add, bias, activation))
