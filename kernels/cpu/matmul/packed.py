"""The fast matrix product: packed operands, a tile of C in registers (simd.py), all cores.

K is cut into blocks of at most KC, and these are gathered into stages whose part of A fits the second-level cache. For each stage,
    1. A is packed: each tile of up to 12 rows becomes a run of columns, so that a step along k reads neighbours;
    2. tasks of one panel of columns (two vectors wide) and up to ROW_GROUP rows pack their part of B, a block of k at a time, which
       then stays in the first-level cache, and multiply it by one tile of A after the other, which come from the second level.
The sum over k has the same order whatever the number of threads. The last stage's tasks add the bias and apply the activation
while their part of C is still in the cache. A single row takes a path of its own, which reads B once and packs nothing.

FLOPs: 2 M N K. Packing moves K (M + N) numbers.
"""

import numpy as np

from kernels import scalar
from kernels.cpu.matmul import simd
from kernels.jit import inner, jit, like, parallel_for

KC = 320             # 320 x 32 floats of B: 40 kB
ROW_GROUP = 480      # rows of A to a task; whole tiles: 480 x 320 floats are 600 kB
STAGE = 1 << 18      # numbers of A that a stage may hold in the second-level cache
COLUMNS = 512        # columns to a task of the product of a single row
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
def block_of(k, start, end):
    """(first, size) of the block number k of those that start .. end is cut into, evenly, at most KC each."""
    blocks = (end - start + KC - 1) // KC
    first = start + k * (end - start) // blocks
    return first, start + (k + 1) * (end - start) // blocks - first


@inner
def pack_a(chunk, a, sa, transposed, lda, packed, M, start, end):
    """H0 rows of a matrix A, one block of k, tile by tile: packed[(k0 - start) * M + i * kb + k * height + r] = A[i + r, k0 + k]."""
    L = simd.lanes(a)
    tiles, blocks = (M + H0 - 1) // H0, (end - start + KC - 1) // KC
    matrix = chunk // (tiles * blocks)
    chunk -= matrix * tiles * blocks
    k0, kb = block_of(chunk // tiles, start, end)
    i = chunk % tiles * H0
    stop, ao, to = min(M, i + H0), matrix * sa, matrix * M * (end - start) + (k0 - start) * M
    while i < stop:
        height, at, done = tile_height(stop - i), to + i * kb, 0
        vectors = height in (H0, H1) and height <= L
        if vectors and transposed:                      # a vector's last numbers are rubbish, which the next one covers
            while done + L < kb and ao + (k0 + done) * lda + i + L <= a.size:
                simd.copy(a, ao + (k0 + done) * lda + i, packed, at + done * height)
                done += 1
        elif vectors:
            while done + L < kb:
                if height == H0:
                    transpose0(a, ao + i * lda + k0 + done, lda, packed, at + done * height, height)
                else:
                    transpose1(a, ao + i * lda + k0 + done, lda, packed, at + done * height, height)
                done += L
        step_r, step_k = (1, lda) if transposed else (lda, 1)
        for k in range(done, kb):                       # the last columns go one by one: no rubbish may reach the next tile
            for r in range(height):
                packed[at + k * height + r] = a[ao + (i + r) * step_r + (k0 + k) * step_k]
        i += height


@inner
def pack_b(b, bo, transposed, ldb, panel, width, j, columns, k0, kb):
    """panel[k * width + c] = B[k0 + k, j + c], zero beyond `columns`."""
    L = simd.lanes(b)
    if columns < width:
        for i in range(kb * width):
            panel[i] = 0
    done, whole = columns // L * L, kb // L * L
    if not transposed:
        for k in range(kb):
            at = bo + (k0 + k) * ldb + j
            for c in range(0, done, L):
                simd.copy(b, at + c, panel, k * width + c)
            for c in range(done, columns):
                panel[k * width + c] = b[at + c]
        return
    for c in range(0, done, L):
        for k in range(0, whole, L):
            transpose_square(b, bo + (j + c) * ldb + k0 + k, ldb, panel, k * width + c, width)
    for c in range(columns):
        for k in range(whole if c < done else 0, kb):
            panel[k * width + c] = b[bo + (j + c) * ldb + k0 + k]


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
def panel_task(chunk, a, b, sb, tb, ldb, c, M, N, start, end, last, add, bias, activation):
    """C[rows of one group, columns of one panel] (+)= packed A times B, over one stage."""
    L = simd.lanes(a)
    width = VECTORS * L
    panels, groups = (N + width - 1) // width, (M + ROW_GROUP - 1) // ROW_GROUP
    matrix = chunk // (panels * groups)
    chunk -= matrix * panels * groups
    group = chunk // panels
    j = (chunk - group * panels) * width
    columns = min(width, N - j)
    width = L if columns <= L else width
    panel = np.empty(KC * width, a.dtype)
    first, stop = group * ROW_GROUP, min(M, (group + 1) * ROW_GROUP)
    co, ao = matrix * M * N + j, matrix * M * (end - start)
    for block in range((end - start + KC - 1) // KC):
        k0, kb = block_of(block, start, end)
        pack_b(b, matrix * sb, tb, ldb, panel, width, j, columns, k0, kb)
        i = first
        while i < stop:
            height = tile_height(stop - i)
            product(height, a, ao + (k0 - start) * M + i * kb, panel, width, c, co + i * N, N, kb, columns, add or block > 0)
            i += height
    if last and (bias.size or activation):
        finish(c, co + first * N, N, stop - first, columns, bias, j, activation)


@inner(sums=True)
def dot(x, y):
    total = like(x[0], 0)
    for i in range(x.size):
        total += x[i] * y[i]
    return total


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
            out[n] += dot(row, b[bo + (j + n) * ldb:][:K])
    else:
        for k in range(K):
            factor, other = row[k], b[bo + k * ldb + j:][:out.size]
            for n in range(out.size):
                out[n] += factor * other[n]
    finish(c, matrix * N + j, N, 1, out.size, bias, j, activation)


@jit
def matmul_kernel(a, ta, lda, b, tb, ldb, c, count, M, N, K, add, bias, activation, threads):
    """C (+)= A B for `count` pairs of matrices that lie one after the other; ta, tb: they lie transposed, in lines lda, ldb apart."""
    if M == 1:
        parallel_for(row_task, count * ((N + COLUMNS - 1) // COLUMNS), threads, (a, b, K * N, tb, ldb, c, N, K, add, bias, activation))
        return
    width = VECTORS * simd.lanes(a)
    panels, groups, tiles = (N + width - 1) // width, (M + ROW_GROUP - 1) // ROW_GROUP, (M + H0 - 1) // H0
    depth = max(KC, STAGE // min(M, ROW_GROUP) // KC * KC)
    packed = np.empty(count * M * min(K, depth) + 64, a.dtype)           # whole vectors are stored: 64 numbers to spare
    for start in range(0, K, depth):
        end = min(K, start + depth)
        parallel_for(pack_a, count * tiles * ((end - start + KC - 1) // KC), threads, (a, M * K, ta, lda, packed, M, start, end))
        parallel_for(panel_task, count * panels * groups, threads,
                     (packed, b, K * N, tb, ldb, c, M, N, start, end, end == K, add or start > 0, bias, activation))
