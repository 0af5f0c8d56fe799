"""The fast matrix product: packed operands, a tile of C in registers (simd.py), all cores.

K is cut into blocks of at most KC. For each block,
    1. A is packed: each tile of up to 12 rows becomes a run of columns, so that a step along k reads neighbours;
    2. tasks of one panel of columns (two vectors wide) and up to ROW_GROUP rows pack their part of B, which then stays in the
       first-level cache, and multiply it by one tile of A after the other, which come from the second level.
The sum over k has the same order whatever the number of threads. The last block's tasks add the bias and apply the activation
while their part of C is still in the cache.

FLOPs: 2 M N K. Packing moves K (M + N) numbers.
"""

import numpy as np

from kernels import scalar
from kernels.cpu.matmul import simd
from kernels.jit import inner, jit, like, parallel_for

KC = 320             # 320 x 32 floats of B: 40 kB
ROW_GROUP = 480      # rows of A to a task; whole tiles: 480 x 320 floats are 600 kB
ACTIVATIONS = (None, "relu", "sigmoid", "tanh")

H0, H1, H2, H3, H4 = simd.HEIGHTS
VECTORS = simd.VECTORS
wide0, wide1, wide2, wide3, wide4 = (simd.product(h, VECTORS) for h in simd.HEIGHTS)
narrow0, narrow1, narrow2, narrow3, narrow4 = (simd.product(h, 1) for h in simd.HEIGHTS)
transpose_square, transpose0, transpose1 = simd.transpose(), simd.transpose(H0), simd.transpose(H1)


@inner
def tile_height(rows):
    """Height of the next tile when so many rows are left."""
    return H0 if rows >= H0 else H1 if rows >= H1 else H2 if rows >= H2 else H3 if rows >= H3 else H4


@inner
def product(height, a, ao, b, ldb, c, co, ldc, kb, columns, add):
    """One tile of C: `height` rows by `columns` columns."""
    if columns <= simd.lanes(a):
        if height == H0:
            narrow0(a, ao, b, 0, ldb, c, co, ldc, kb, columns, add)
        elif height == H1:
            narrow1(a, ao, b, 0, ldb, c, co, ldc, kb, columns, add)
        elif height == H2:
            narrow2(a, ao, b, 0, ldb, c, co, ldc, kb, columns, add)
        elif height == H3:
            narrow3(a, ao, b, 0, ldb, c, co, ldc, kb, columns, add)
        else:
            narrow4(a, ao, b, 0, ldb, c, co, ldc, kb, columns, add)
    elif height == H0:
        wide0(a, ao, b, 0, ldb, c, co, ldc, kb, columns, add)
    elif height == H1:
        wide1(a, ao, b, 0, ldb, c, co, ldc, kb, columns, add)
    elif height == H2:
        wide2(a, ao, b, 0, ldb, c, co, ldc, kb, columns, add)
    elif height == H3:
        wide3(a, ao, b, 0, ldb, c, co, ldc, kb, columns, add)
    else:
        wide4(a, ao, b, 0, ldb, c, co, ldc, kb, columns, add)


@inner
def pack_a(group, a, ao, transposed, lda, packed, M, k0, kb):
    """Rows group * H0 .. of A, columns k0 .. k0 + kb - 1, tile by tile: packed[i * kb + k * height + r] = A[i + r, k0 + k]."""
    i, end = group * H0, min(M, (group + 1) * H0)
    L = simd.lanes(a)
    while i < end:
        height, at, done = tile_height(end - i), i * kb, 0
        if transposed:
            for k in range(kb):
                source, target = a[ao + (k0 + k) * lda + i:][:height], packed[at + k * height:][:height]
                for r in range(target.size):
                    target[r] = source[r]
            done = kb
        elif height in (H0, H1) and height <= L:
            while done + L <= kb:
                if height == H0:
                    transpose0(a, ao + i * lda + k0 + done, lda, packed, at + done * height, height)
                else:
                    transpose1(a, ao + i * lda + k0 + done, lda, packed, at + done * height, height)
                done += L
        for r in range(height):
            row = a[ao + (i + r) * lda + k0:][:kb]
            for k in range(done, row.size):
                packed[at + k * height + r] = row[k]
        i += height


@inner
def pack_b(b, bo, transposed, ldb, panel, width, j, columns, k0, kb):
    """panel[k * width + c] = B[k0 + k, j + c], zero beyond `columns`."""
    L = simd.lanes(b)
    if columns < width:
        for i in range(kb * width):
            panel[i] = 0
    if not transposed:
        for k in range(kb):
            source, target = b[bo + (k0 + k) * ldb + j:][:columns], panel[k * width:][:columns]
            for c in range(target.size):
                target[c] = source[c]
        return
    done, whole = columns // L * L, kb // L * L
    for c in range(0, done, L):
        for k in range(0, whole, L):
            transpose_square(b, bo + (j + c) * ldb + k0 + k, ldb, panel, k * width + c, width)
    for c in range(columns):
        row = b[bo + (j + c) * ldb + k0:][:kb]
        for k in range(whole if c < done else 0, row.size):
            panel[k * width + c] = row[k]


@inner
def finish(c, co, ldc, rows, columns, bias, j, activation):
    """Add the bias of columns j .. to a part of C and apply the activation."""
    for i in range(rows):
        row = c[co + i * ldc:][:columns]
        if bias.size:
            part = bias[j:][:columns]
            for k in range(row.size):
                row[k] += part[k]
        if activation == 1:
            for k in range(row.size):
                row[k] = scalar.relu(row[k])
        elif activation == 2:
            for k in range(row.size):
                row[k] = scalar.sigmoid(row[k])
        elif activation == 3:
            for k in range(row.size):
                row[k] = scalar.tanh(row[k])


@inner
def panel_task(chunk, a, b, bo, tb, ldb, c, co, M, N, k0, kb, last, add, bias, activation):
    """C[rows of one group, columns of one panel] (+)= packed A times the panel of B."""
    L = simd.lanes(a)
    width = VECTORS * L
    panels = (N + width - 1) // width
    group = chunk // panels
    j = (chunk - group * panels) * width
    columns = min(width, N - j)
    width = L if columns <= L else width
    panel = np.empty(kb * width, a.dtype)
    pack_b(b, bo, tb, ldb, panel, width, j, columns, k0, kb)
    first, end = group * ROW_GROUP, min(M, (group + 1) * ROW_GROUP)
    i = first
    while i < end:
        height = tile_height(end - i)
        product(height, a, i * kb, panel, width, c, co + i * N + j, N, kb, columns, add)
        i += height
    if last and (bias.size or activation):
        finish(c, co + first * N + j, N, end - first, columns, bias, j, activation)


@inner
def one_product(a, ao, ta, lda, b, bo, tb, ldb, c, co, M, N, K, add, bias, activation, threads):
    """C (+)= A B for one pair of matrices that start at ao, bo, co."""
    blocks = (K + KC - 1) // KC
    width = VECTORS * simd.lanes(a)
    panels, groups = (N + width - 1) // width, (M + ROW_GROUP - 1) // ROW_GROUP
    packed = np.empty(M * ((K + blocks - 1) // blocks) + 64, a.dtype)      # whole vectors are stored: 64 numbers to spare
    for block in range(blocks):
        k0 = block * K // blocks
        kb = (block + 1) * K // blocks - k0
        parallel_for(pack_a, (M + H0 - 1) // H0, threads, (a, ao, ta, lda, packed, M, k0, kb))
        parallel_for(panel_task, panels * groups, threads,
                     (packed, b, bo, tb, ldb, c, co, M, N, k0, kb, block == blocks - 1, add or block > 0, bias, activation))


@inner
def batch_task(chunk, a, sa, ta, lda, b, sb, tb, ldb, c, M, N, K, add, bias, activation):
    one_product(a, chunk * sa, ta, lda, b, chunk * sb, tb, ldb, c, chunk * M * N, M, N, K, add, bias, activation, 1)


@jit
def matmul_kernel(a, sa, ta, lda, b, sb, tb, ldb, c, count, M, N, K, add, bias, activation, threads):
    """`count` products of matrices sa, sb and M * N numbers apart: one after the other on all threads, or a thread to each."""
    if count == 1:
        one_product(a, 0, ta, lda, b, 0, tb, ldb, c, 0, M, N, K, add, bias, activation, threads)
    else:
        parallel_for(batch_task, count, threads, (a, sa, ta, lda, b, sb, tb, ldb, c, M, N, K, add, bias, activation))
