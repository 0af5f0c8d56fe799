"""The fast matrix product: packed operands, a tile of C in registers (simd.py), all cores.

K is cut into blocks of at most KC, by its size alone, and C into one part for each thread, along its longer side. A part takes rows of A
in groups, and so many blocks of K at a time (a stage) that what it packs of A fits the second-level cache:
    1. A is packed: each tile of up to 12 rows becomes a run of columns, so that a step along k reads neighbours;
    2. for each panel of columns (two vectors wide) B is packed, a block at a time, which then stays in the nearest caches,
       and is multiplied by one tile of A after the other, which come from the second level.
Every thread packs for itself, although two then may pack the same: fetching it from the other core's cache took longer. The sum over k
is taken block by block, so it has the same order whatever the number of threads. The bias and a ReLU are applied in registers,
other activations while the panel is in the cache. A single row and a single panel of columns go another way: thin.py.

FLOPs: 2 M N K. Packing moves K (M + N) numbers, and those of the shorter side once more for each further thread.
"""

import numpy as np

from kernels import scalar
from kernels.cpu.matmul import simd
from kernels.jit import inner, jit, parallel_for

KC = 520             # 520 x 32 floats of B, 66 kB: more than the first-level cache holds, but C is read and written less often
ROW_GROUP = 480      # rows of A in a group at least, a multiple of all tile heights
STAGE = 1 << 18      # numbers of A that may be packed at a time: a megabyte

H0, H1, H2 = simd.HEIGHTS
VECTORS = simd.VECTORS
wide0, wide1, wide2 = (simd.product(h, VECTORS) for h in simd.HEIGHTS)
narrow0, narrow1, narrow2 = (simd.product(h, 1) for h in simd.HEIGHTS)
transpose_square, transpose0, transpose1, transpose2 = simd.transpose(), *(simd.transpose(h) for h in simd.HEIGHTS)


@inner
def tile_height(rows):
    """Height of the next tile when so many rows are left: the last one may have rows to spare."""
    return H0 if rows >= H0 or rows > H1 else H1 if rows > H2 else H2


@inner
def product(height, a, ao, b, bo, ldb, c, co, ldc, kb, rows, columns, add, bias, j, relu):
    """One tile of C: min(height, rows) rows by `columns` columns, from packed A."""
    if columns <= simd.lanes(a):
        if height == H0:
            narrow0(a, ao, 1, H0, b, bo, ldb, c, co, ldc, kb, rows, columns, add, bias, j, relu)
        elif height == H1:
            narrow1(a, ao, 1, H1, b, bo, ldb, c, co, ldc, kb, rows, columns, add, bias, j, relu)
        else:
            narrow2(a, ao, 1, H2, b, bo, ldb, c, co, ldc, kb, rows, columns, add, bias, j, relu)
    elif height == H0:
        wide0(a, ao, 1, H0, b, bo, ldb, c, co, ldc, kb, rows, columns, add, bias, j, relu)
    elif height == H1:
        wide1(a, ao, 1, H1, b, bo, ldb, c, co, ldc, kb, rows, columns, add, bias, j, relu)
    else:
        wide2(a, ao, 1, H2, b, bo, ldb, c, co, ldc, kb, rows, columns, add, bias, j, relu)


@inner
def block_start(block, K):
    """Where a block of K starts: K is cut evenly into as few as have at most KC each. The one after the last starts at K."""
    return block * K // ((K + KC - 1) // KC)


@inner
def padded(rows):
    """Rows of all tiles that `rows` rows are cut into."""
    whole = rows // H0 * H0
    return whole + (tile_height(rows - whole) if rows > whole else 0)


@inner
def pack_tile(a, at, transposed, lda, packed, to, height, rows, kb, done):
    """packed[to + k * height + r] = A[r, k] for a tile of A that starts at `at`, from column `done` on; in rows to spare, a copy.

    Whole vectors are stored, whose last numbers are rubbish that the next column covers; the last column goes number by number, so
    that no rubbish reaches the next tile, which may have been packed before.
    """
    L = simd.lanes(a)
    if not transposed and height <= L < kb:
        while done < kb - 1:
            done = min(done, kb - 1 - L)
            if height == H0:
                transpose0(a, at + done, lda, packed, to + done * height, height, rows - 1)
            elif height == H1:
                transpose1(a, at + done, lda, packed, to + done * height, height, rows - 1)
            else:
                transpose2(a, at + done, lda, packed, to + done * height, height, rows - 1)
            done += L
    step_r, step_k = (1, lda) if transposed else (lda, 1)
    for k in range(done, kb):
        for r in range(height):
            packed[to + k * height + r] = a[at + min(r, rows - 1) * step_r + k * step_k]


@inner
def pack_a(a, at, transposed, lda, packed, rows, K, first, stop):
    """`rows` rows of A from `at` on, blocks first .. stop - 1 of K, which start at k0 and have kb columns, one after the other:
    packed[(k0 - start) * padded(rows) + i * kb + k * height + r] = A[i + r, k0 + k], start being the k0 of the first."""
    L, start = simd.lanes(a), block_start(first, K)
    for block in range(first, stop):
        k0 = block_start(block, K)
        kb = block_start(block + 1, K) - k0
        corner, to, i, done = at + (k0 * lda if transposed else k0), (k0 - start) * padded(rows), 0, 0
        if transposed and L >= H0:                        # line by line through all tiles: a line of A may be a page of memory
            whole = rows // H0 * H0
            while done < kb - 1 and corner + done * lda + whole - H0 + L <= a.size:
                for r in range(0, whole, H0):
                    simd.copy(a, corner + done * lda + r, packed, to + r * kb + done * H0)
                done += 1
        while i < rows:
            height = tile_height(rows - i)
            corner_i = corner + (i if transposed else i * lda)
            pack_tile(a, corner_i, transposed, lda, packed, to + i * kb, height, min(height, rows - i), kb, done if i + H0 <= rows else 0)
            i += height


@inner
def pack_b(b, at, transposed, ldb, panel, width, columns, kb):
    """panel[k * width + c] = B[k, c] for a panel of B that starts at `at`; what stands beyond `columns` is not used."""
    L = simd.lanes(b)
    if not transposed:
        for k in range(kb):
            for c in range(0, width, L):
                simd.copy_first(b, at + k * ldb + c, columns - c, panel, k * width + c)
        return
    for c in range(0, columns, L):
        k = 0
        while k < kb and kb >= L:
            k = min(k, kb - L)                            # the last square may overlap the one before
            transpose_square(b, at + c * ldb + k, ldb, panel, k * width + c, width, columns - c - 1)
            k += L
        for r in range(c, min(c + L, columns)):
            for k in range(0 if kb < L else kb, kb):
                panel[k * width + r] = b[at + r * ldb + k]


@inner
def bend(c, co, ldc, rows, columns, activation):
    """Apply the sigmoid (2) or tanh (3) to a part of C."""
    for i in range(rows):
        row = c[co + i * ldc:][:columns]
        if activation == 2:
            for k in range(row.size):
                row[k] = scalar.sigmoid(row[k])
        else:
            for k in range(row.size):
                row[k] = scalar.tanh(row[k])


@inner
def panel_product(packed, rows, b, at, tb, ldb, panel, width, c, co, ldc, columns, K, first, stop, add, bias, j, relu):
    """`rows` rows by `columns` columns of C from co on (+)= packed A times the panel of B at `at`, over blocks first .. stop - 1 of K.

    B comes packed (tb = 2), or is packed here; for a single tile, which reads it only once, rows of B are taken as they lie.
    """
    start, in_place = block_start(first, K), tb == 0 and rows <= H0 and columns == width
    for block in range(first, stop):
        k0 = block_start(block, K)
        kb = block_start(block + 1, K) - k0
        corner, right, bo, step = at + (k0 * width if tb == 2 else k0 if tb else k0 * ldb), b, 0, width
        if tb == 2:
            bo = corner
        elif in_place:
            bo, step = corner, ldb
        else:
            pack_b(b, corner, tb, ldb, panel, width, columns, kb)
            right = panel
        finished = k0 + kb == K
        shift = bias if finished else bias[:0]
        i = 0
        while i < rows:
            height = tile_height(rows - i)
            product(height, packed, (k0 - start) * padded(rows) + i * kb, right, bo, step, c, co + i * ldc, ldc, kb, rows - i, columns,
                    add or block > 0, shift, j, relu and finished)
            i += height


@inner
def part_task(chunk, a, ta, lda, b, tb, ldb, c, M, N, K, down, across, add, bias, activation):
    """One part of C: of `down` parts of its rows and `across` parts of its columns."""
    matrix, part = chunk // (down * across), chunk % (down * across)
    tiles, wide = (M + H0 - 1) // H0, VECTORS * simd.lanes(a)
    panels = (N + wide - 1) // wide
    row, column = part // across, part % across
    first, stop = row * tiles // down * H0, min(M, (row + 1) * tiles // down * H0)
    j_first, j_stop = column * panels // across * wide, min(N, (column + 1) * panels // across * wide)
    ao, bo, co = matrix * M * K, matrix * K * N, matrix * M * N
    group = min(max(1, stop - first), max(ROW_GROUP, STAGE // min(K, KC) // H0 * H0))
    blocks, stage = (K + KC - 1) // KC, max(1, STAGE // group // KC)
    packed = np.empty(padded(group) * min(K, stage * KC) + 64, a.dtype)           # whole vectors are stored: 64 numbers to spare
    panel = np.zeros(KC * wide, a.dtype)
    for i in range(first, stop, group):
        rows = min(group, stop - i)
        for block in range(0, blocks, stage):
            end = min(blocks, block + stage)
            pack_a(a, ao + (i if ta else i * lda), ta, lda, packed, rows, K, block, end)
            for j in range(j_first, j_stop, wide):
                columns = min(wide, N - j)
                width = simd.lanes(a) if columns <= simd.lanes(a) else wide
                at, corner = co + i * N + j, bo + (j * K if tb == 2 else j * ldb if tb else j)
                panel_product(packed, rows, b, corner, tb, ldb, panel, width, c, at, N, columns, K, block, end, add, bias, j,
                              activation == 1)
                if end == blocks and activation > 1:
                    bend(c, at, N, rows, columns, activation)


@jit
def matmul_kernel(a, ta, lda, b, tb, ldb, c, count, M, N, K, add, bias, activation, threads):
    """C (+)= A B for `count` pairs of matrices that lie one after the other, in lines lda, ldb apart; ta, tb: 1 if they lie transposed,
    tb: 2 if B was packed by pack_kernel."""
    down, across = (threads, 1) if M > N else (1, threads)
    parallel_for(part_task, count * down * across, threads, (a, ta, lda, b, tb, ldb, c, M, N, K, down, across, add, bias, activation))


@inner
def pack_task(chunk, b, tb, ldb, panels, K, N):
    """One panel of B, all of K; the panel at column j begins at j * K."""
    wide = VECTORS * simd.lanes(b)
    j = chunk * wide
    columns = min(wide, N - j)
    pack_b(b, j * ldb if tb else j, tb, ldb, panels[j * K:], simd.lanes(b) if columns <= simd.lanes(b) else wide, columns, K)


@jit
def pack_kernel(b, tb, ldb, panels, K, N, threads):
    """B (K, N) as all its panels, one after the other."""
    wide = VECTORS * simd.lanes(b)
    parallel_for(pack_task, (N + wide - 1) // wide, threads, (b, tb, ldb, panels, K, N))
