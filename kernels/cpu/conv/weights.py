"""The gradient of a convolution by its weights: a matrix product over all positions.

    dw[m, c, t] = sum over pictures and positions of  g[m, i, j] x[c, i sy + dy[t], j sx + dx[t]]

Positions are the inner dimension of a product that packed.py's tiles compute. A piece of the input is turned so that the channels of a
pixel are neighbours, and of the gradient so that the channels of a tile are; then for each tap both operands are read where they lie,
a table saying which pixel belongs to a position. Small pieces are multiplied together.

With fewer input channels than a vector holds, turning would take as long as the products. Then what each tap of each channel sees is
copied to a line, and a tile is made of scalar products, a vector of positions at a time, of lines with those of the gradient,
which are read where they lie. The pieces are summed in PARTS parts, and these in order, so that no bit depends on the number of threads.

FLOPs: 2 N M C taps I J. Bytes: input and gradient once and turned once; for few channels the input once for each tap.
"""

import numpy as np

from kernels.cpu.conv.direct import R0, clear, copy_piece, copy_run, inside
from kernels.cpu.matmul import simd
from kernels.cpu.matmul.dots import dot_product
from kernels.cpu.matmul.packed import H0, H1, VECTORS, padded, product, tile_height, transpose0, transpose1, transpose2, transpose_square
from kernels.jit import inner, jit, parallel_for

dot1, dot2, dot3 = (dot_product(R0, v) for v in (1, 2, 3))
PARTS = 8
FEW = 512           # positions of lines multiplied together: those of a tile stay in the first-level cache, all of them in the second
POSITIONS = 200     # small pieces make one product together until they have so many: a tile of the result is loaded and stored less often
COLUMNS = 256       # sums in a chunk of `total_kernel`


@inner
def turn_row(x, at, plane, channels, count, out, to):
    """out[to + j * channels + c] = x[at + c * plane + j], j < count. May write a vector's width of pixels more."""
    L = simd.lanes(x)
    whole = channels // L * L
    if at + (whole - 1) * plane + (count + L - 1) // L * L <= x.size:                    # squares of L pixels by L channels, by shuffles
        for c in range(0, whole, L):
            for j in range(0, count, L):
                transpose_square(x, at + c * plane + j, plane, out, to + j * channels + c, channels, L - 1)
    else:
        whole = 0
    for c in range(whole, channels):
        for j in range(count):
            out[np.uint64(to + j * channels + c)] = x[np.uint64(at + c * plane + j)]


@inner
def turn_input(x, at, s, i0, j0, high, wide, out, start):
    """out[start + (y * wide + x) * C + c]: high x wide pixels from position (i0, j0) on of the C channels that begin at x[at], zero outside
    the picture."""
    left, top = j0 * s.sx + s.dx, i0 * s.sy + s.dy
    before, after = inside(left, 1, s.W, wide)
    above, below = inside(top, 1, s.H, high)
    line = wide * s.C
    clear(out, start, start + above * line)
    for i in range(above, below):
        to = start + i * line
        clear(out, to, to + before * s.C)
        turn_row(x, at + (top + i) * s.W + left + before, s.H * s.W, s.C, after - before, out, to + before * s.C)
        clear(out, to + after * s.C, to + line)
    clear(out, start + below * line, start + high * line)


@inner
def turn_tile(x, at, line, height, rows, count, out, to):
    """out[to + j * height + r] = x[at + min(r, rows - 1) * line + j], j < count. May write a vector's width of positions more."""
    L = simd.lanes(x)
    if height <= L and at + (rows - 1) * line + (count + L - 1) // L * L <= x.size:
        for j in range(0, count, L):
            if height == H0:
                transpose0(x, at + j, line, out, to + j * height, height, rows - 1)
            elif height == H1:
                transpose1(x, at + j, line, out, to + j * height, height, rows - 1)
            else:
                transpose2(x, at + j, line, out, to + j * height, height, rows - 1)
        return
    for r in range(height):
        for j in range(count):
            out[np.uint64(to + j * height + r)] = x[np.uint64(at + min(r, rows - 1) * line + j)]


@inner
def turn_gradient(g, at, s, M, rows, cols, area, out, to):
    """out[to + m * area + (i * cols + j) * height + r] = g[m + r, i, j] for each tile that starts at channel m of M."""
    m, plane = 0, s.oH * s.oW
    lines, count = (1, rows * cols) if cols == s.oW else (rows, cols)
    while m < M:
        height = tile_height(M - m)
        for i in range(lines):
            turn_tile(g, at + m * plane + i * s.oW, plane, height, min(height, M - m), count, out, m * area + (to + i * cols) * height)
        m += height


@inner
def add_products(turned, M, positions, area, pixels, at, line, channels, out, to, none):
    """out[to + m * channels + c] += sum over positions q of  turned[m, q] pixels[at + q * line + c]; line may be a table of places."""
    wide, m = VECTORS * simd.lanes(turned), 0
    while m < M:
        height = tile_height(M - m)
        for c in range(0, channels, wide):
            columns = min(wide, channels - c)
            product(height, turned, m * area, pixels, at + c, line, out, to + m * channels + c, channels, positions, M - m, columns,
                    True, none, 0, False)
        m += height


@inner
def place(item, s):
    """(picture, first row, first column, rows, columns) of a piece."""
    across, down = (s.J + s.cols - 1) // s.cols, (s.I + s.rows - 1) // s.rows
    n, piece = item // (across * down), item % (across * down)
    i0, j0 = piece // across * s.rows, piece % across * s.cols
    return n, i0, j0, min(s.rows, s.I - i0), min(s.cols, s.J - j0)


@inner
def weights_task(chunk, x, g, taps, phases, partial, parts, pieces, together, split, s):
    """The pieces of one part, some together, for some channels of the gradient in one group. They follow each other in the rows of
    one product; `table` holds the place of each position's pixel."""
    chunk, share, tiles = chunk // split, chunk % split, (s.M + H0 - 1) // H0
    first, stop = share * tiles // split * H0, min(s.M, (share + 1) * tiles // split * H0)
    group, part, L, plane = chunk // parts, chunk % parts, simd.lanes(x), s.oH * s.oW
    own = partial[chunk * s.M * s.C * s.taps:(chunk + 1) * s.M * s.C * s.taps]
    for t in range(s.taps):
        own[(t * s.M + first) * s.C:(t * s.M + stop) * s.C] = 0
    high, wide = s.high * s.sy, s.wide * s.sx
    size, area = s.C * high * wide, together * s.rows * s.cols + 2 * L              # turning writes some positions more
    pixels = np.empty(together * size + (VECTORS + s.C) * L, x.dtype)                                # whole vectors are written and read
    turned, table, none = np.empty(padded(s.M) * area + (L + 1) * H0, x.dtype), np.empty(area, np.int64), np.empty(0, x.dtype)
    end = (part + 1) * pieces // parts
    for start in range(part * pieces // parts, end, together):
        positions = 0
        for item in range(start, min(end, start + together)):
            n, i0, j0, rows, cols = place(item, s)
            picture, at = n * s.groups + group, (item - start) * size
            turn_gradient(g, (picture * s.M + first) * plane + i0 * s.oW + j0, s, stop - first, rows, cols, area, turned, positions)
            turn_input(x, picture * s.C * s.H * s.W, s, i0, j0, high, wide, pixels, at)
            for q in range(rows * cols):
                table[positions + q] = at + (q // cols * s.sy * wide + q % cols * s.sx) * s.C
            positions += rows * cols
        for t in range(s.taps):
            row, column = taps[t, 1] * s.sy + phases[taps[t, 0], 0], taps[t, 2] * s.sx + phases[taps[t, 0], 1]
            corner = (row * wide + column) * s.C
            add_products(turned, stop - first, positions, area, pixels, corner, table, s.C, own, (t * s.M + first) * s.C, none)


@jit
def weights_kernel(x, g, taps, phases, partial, parts, pieces, together, split, s, threads):
    """partial (groups, parts, taps, M, C): the sums of the parts; `s` describes the forward pass, `together` pieces make a product."""
    parallel_for(weights_task, s.groups * parts * split, threads, (x, g, taps, phases, partial, parts, pieces, together, split, s))


@inner
def line_up(room, seen, s, rows, cols, whole, lines, to):
    """lines[to:] = what a tap sees of a padded piece from room[seen] on, in runs of whole vectors: all positions, if the gradient of a
    piece is a single run, or row by row. The last vector of a run ends with it; where it overlaps the one before there are zeros."""
    run, L = rows * cols if whole else cols, simd.lanes(room)
    vectors = (run + L - 1) // L
    spare = vectors * L - run
    for i in range(rows):
        copy_run(room, seen + i * s.wide, 1, lines, to, cols)
        to += cols
        if spare and (not whole or i == rows - 1):
            simd.copy(lines, to - L, lines, to - L + spare)
            for lane in range(spare):
                lines[np.uint64(to - L + spare + lane)] = 0
        to += 0 if whole else spare


@inner
def add_dots(g, plane, places, lines, pitch, K, M, out):
    """out[k * M + m] += sum over positions of  g[m * plane + places] lines[k], for K lines that are `pitch` apart."""
    for m in range(0, M, R0):
        k = 0
        while k < K:
            at, to = simd.lanes(lines) + k * pitch, k * M + m
            if K - k == 1:
                dot1(g, m * plane, plane, places, lines, at, pitch, out, to, M, M - m)
                k += 1
            elif K - k == 2 or K - k == 4:
                dot2(g, m * plane, plane, places, lines, at, pitch, out, to, M, M - m)
                k += 2
            else:
                dot3(g, m * plane, plane, places, lines, at, pitch, out, to, M, M - m)
                k += 3


@inner
def few_task(chunk, x, g, taps, phases, partial, parts, pieces, together, s):
    """The same for few input channels: scalar products of lines of the gradient, which are read where they lie, with lines of what the
    taps of all channels see. The lines of `together` pieces follow each other."""
    group, part, L = chunk // parts, chunk % parts, simd.lanes(x)
    K, most = s.C * s.taps, together * (s.rows * s.cols // L + s.rows)
    pitch = most * L + L
    own = partial[chunk * s.M * K:(chunk + 1) * s.M * K]
    own[:] = 0
    room, lines = np.empty(s.C * s.phases * s.high * s.wide + L, x.dtype), np.empty(L + K * pitch, x.dtype)
    places, end = np.empty(most + 1, np.int64), (part + 1) * pieces // parts
    for start in range(part * pieces // parts, end, together):
        steps = 0
        for item in range(start, min(end, start + together)):
            n, i0, j0, rows, cols = place(item, s)
            picture, whole = n * s.groups + group, cols == s.oW
            copy_piece(x, picture * s.C * s.H * s.W, phases, s, i0, j0, room)
            for k in range(K):
                c, t = k // s.taps, k % s.taps
                seen = ((c * s.phases + taps[t, 0]) * s.high + taps[t, 1]) * s.wide + taps[t, 2]
                line_up(room, seen, s, rows, cols, whole, lines, L + k * pitch + steps * L)
            run = rows * cols if whole else cols
            for i in range(1 if whole else rows):
                at = (picture * s.M * s.oH + i0 + i) * s.oW + j0
                for j in range(0, run, L):
                    places[steps] = at + min(j, run - L)
                    steps += 1
        places[steps] = -1
        add_dots(g, s.oH * s.oW, places, lines, pitch, K, s.M, own)


@jit
def few_kernel(x, g, taps, phases, partial, parts, pieces, together, s, threads):
    """partial (groups, parts, C * taps, M): the sums of the parts, for fewer input channels than a vector holds."""
    parallel_for(few_task, s.groups * parts, threads, (x, g, taps, phases, partial, parts, pieces, together, s))


@inner
def total_task(chunk, partial, out, parts, lines, size):
    """Some columns of one group."""
    blocks = (size + COLUMNS - 1) // COLUMNS
    group, first = chunk // blocks, chunk % blocks * COLUMNS
    total, count = np.empty(COLUMNS, partial.dtype), min(COLUMNS, size - first)
    for t in range(lines):
        total[:] = 0
        for part in range(parts):
            at = ((group * parts + part) * lines + t) * size + first
            for j in range(count):
                total[np.uint64(j)] += partial[np.uint64(at) + np.uint64(j)]
        for j in range(count):
            out[np.uint64((group * size + first + j) * lines + t)] = total[np.uint64(j)]


@jit
def total_kernel(partial, out, groups, parts, lines, threads):
    """out (groups, size, lines) = the sum of the parts of partial (groups, parts, lines, size), one after the other, turned."""
    size = out.size // (groups * lines)
    parallel_for(total_task, groups * ((size + COLUMNS - 1) // COLUMNS), threads, (partial, out, parts, lines, size))
