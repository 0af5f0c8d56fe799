"""The sum over taps (plan.py) without a matrix of patches: a matrix product whose right operand is the padded picture itself.

A piece of the picture is copied once, with zeros around it, row after row. For a tap, the inputs of 16 neighbouring positions are then
one run of numbers, which is read where it lies (simd.table_product). The weights are the left operand, packed in tiles of 8
channels. With a stride the piece is kept as planes of every second (third, ...) row and column, in which a tap reads neighbours
again. A tile has three vectors of positions: of one row, of three short rows, or, where rows would fill vectors badly, of positions that
run on from row to row; then those beyond the end of a row are computed in vain and the others are sorted out.

FLOPs: 2 N M C taps I J. Bytes: the input once (and once more for each row that pieces share), the output once.
"""

import numpy as np

from kernels.cpu.matmul import simd
from kernels.cpu.matmul.packed import pack_tile
from kernels.jit import inner, jit, parallel_for

R0, R1 = simd.CONV_ROWS, simd.CONV_ROWS // 2
VECTORS = simd.CONV_VECTORS
LINE = 64           # distance of two channels in the room for a tile
three0, two0, one0 = (simd.table_product(R0, v) for v in (3, 2, 1))
three1, two1, one1 = (simd.table_product(R1, v) for v in (3, 2, 1))


@inner
def tile(height, vectors, a, ao, b, bo, bstep, table, first, kb, c, co, ldc, cstep, rows, columns, fewer, bias, j, relu):
    """min(height, rows) channels at `vectors` vectors of positions."""
    if height == R0:
        if vectors == 3:
            three0(a, ao, b, bo, bstep, table, first, kb, c, co, ldc, cstep, rows, columns, fewer, bias, j, relu)
        elif vectors == 2:
            two0(a, ao, b, bo, bstep, table, first, kb, c, co, ldc, cstep, rows, columns, fewer, bias, j, relu)
        else:
            one0(a, ao, b, bo, bstep, table, first, kb, c, co, ldc, cstep, rows, columns, fewer, bias, j, relu)
    elif vectors == 3:
        three1(a, ao, b, bo, bstep, table, first, kb, c, co, ldc, cstep, rows, columns, fewer, bias, j, relu)
    elif vectors == 2:
        two1(a, ao, b, bo, bstep, table, first, kb, c, co, ldc, cstep, rows, columns, fewer, bias, j, relu)
    else:
        one1(a, ao, b, bo, bstep, table, first, kb, c, co, ldc, cstep, rows, columns, fewer, bias, j, relu)


@inner
def tile_height(rows):
    return R0 if rows > R1 else R1


@inner
def padded(rows):
    """Rows of all tiles that `rows` channels are cut into."""
    whole = rows // R0 * R0
    return whole + (tile_height(rows - whole) if rows > whole else 0)


@inner
def group_size(s):
    """Numbers of the packed weights of a group, and some to spare: the last tile is written in whole vectors."""
    return padded(s.M) * s.C * s.taps + 16


@inner
def pack_one_by_one(w, taps, first, stop, group, i, height, s, packed, to):
    """packed[to + k * height + r] = w[group, i + r, c, t], k = c * (stop - first) + t - first, for r < height and taps from `first` on."""
    whole, step = i + height <= s.M, np.uint64(s.wm)
    for c in range(s.C):
        for t in range(first, stop):
            at = group * s.wg + c * s.wc + taps[t, -1]
            if whole:
                start = np.uint64(at + i * s.wm)
                for r in range(np.uint64(height)):
                    packed[np.uint64(to) + r] = w[start + r * step]
            else:
                for r in range(height):
                    packed[to + r] = w[at + min(i + r, s.M - 1) * s.wm]
            to += height


@inner
def pack_channels(w, taps, first, stop, group, i, s, packed, to):
    """The same for the tile that starts at channel i; in the forward pass by rows of weights, which lie as they are wanted."""
    K, height = s.C * (stop - first), tile_height(s.M - i)
    if s.wc == stop - first and s.wm == K:
        pack_tile(w, group * s.wg + i * K, 0, K, packed, to, height, min(height, s.M - i), K, 0)
    else:
        pack_one_by_one(w, taps, first, stop, group, i, height, s, packed, to)


@inner
def pack_task(chunk, w, taps, s, packed):
    """packed[group, i * K + k * height + r] = w[group, i + r, c, t], k = c * taps + t: tile number `chunk`, which starts at channel i."""
    tiles = (s.M + R0 - 1) // R0
    group, i = chunk // tiles, chunk % tiles * R0
    pack_channels(w, taps, 0, s.taps, group, i, s, packed, group * group_size(s) + i * s.C * s.taps)


@inner
def inside(first, step, length, count):
    """(before, after): of the places first + j step, j < count, those from j = before to after - 1 lie in 0 .. length - 1."""
    before = min(count, max(0, (step - 1 - first) // step))
    return before, max(before, min(count, (length - first + step - 1) // step))


# Copies go by places in whole arrays, not by slices: each slice counts a reference to its array, and threads that count on the same
# array at once wait for each other, which took three times as long. Unsigned places need no test for negative ones.

@inner
def copy_run(x, start, step, out, to, count):
    """out[to + j] = x[start + j step], j < count; and perhaps zeros behind it, up to a whole vector."""
    L = simd.lanes(x)
    whole = count // L * L
    if step == 1:
        for j in range(0, whole, L):
            simd.copy(x, start + j, out, to + j)
        if whole < count:
            simd.copy_first(x, start + whole, count - whole, out, to + whole)
    elif step == 2:
        for j in range(0, count, simd.lanes(x)):
            simd.copy_second(x, start + 2 * j, count - j, out, to + j)
    else:
        for j in range(count):
            out[np.uint64(to + j)] = x[np.uint64(start + j * step)]


@inner
def clear(out, start, stop):
    """out[start:stop] = 0, and up to a whole vector more."""
    for j in range(start, stop, simd.lanes(out)):
        simd.zeros(out, j)


@inner
def copy_piece(x, at, phases, s, i0, j0, piece):
    """piece[c, phase, y, x]: the input from position (i0, j0) on of the C channels that begin at x[at], zero outside the picture.

    Line after line, each with zeros or rubbish behind it that the next one covers: `piece` has room for a vector more.
    """
    L = simd.lanes(x)
    line = 0
    for c in range(s.C):
        for p in range(s.phases):
            left, y = j0 * s.sx + phases[p, 1] + s.dx, i0 * s.sy + phases[p, 0] + s.dy
            before, after = inside(left, s.sx, s.W, s.wide)
            for _ in range(s.high):
                if 0 <= y < s.H and before < after:
                    start, count = at + (c * s.H + y) * s.W + left + before * s.sx, after - before
                    clear(piece, line, line + before)
                    if s.sx == 1 and start + count + L <= x.size:
                        for j in range(0, count, L):                                            # masks would take longer than the copy
                            simd.copy(x, start + j, piece, line + before + j)
                    else:
                        copy_run(x, start, s.sx, piece, line + before, count)
                    clear(piece, line + after, line + s.wide)
                else:
                    clear(piece, line, line + s.wide)
                y += s.sy
                line += s.wide


@inner
def scatter(room, width, channels, q, rows, cols, s, out, to):
    """Positions q .. q + width - 1 of some channels, as they lie in `room`, to their places in the output, which begins at `to`."""
    i, j, done, area, L = q // s.wide, q % s.wide, 0, s.oH * s.oW, simd.lanes(out)
    while done < width and i < rows:
        wanted, place = min(width - done, cols - j), to + i * s.osy * s.oW + j * s.osx
        for r in range(channels):
            if s.osx == 1:
                for k in range(0, wanted, L):
                    simd.copy_only(room, r * LINE + done + k, wanted - k, out, place + r * area + k)
            else:
                for k in range(wanted):
                    out[np.uint64(place + r * area + k * s.osx)] = room[np.uint64(r * LINE + done + k)]
        done += s.wide - j
        i, j = i + 1, 0


@inner
def panel(p, s, rows, cols, L):
    """(vectors, first row, first column, positions in each vector or in all, by how many fewer from vector to vector) of panel p."""
    if not s.by_rows:
        q = p * VECTORS * L
        columns = min(VECTORS * L, (rows - 1) * s.wide + cols - q)
        return (columns + L - 1) // L, q // s.wide, q % s.wide, columns, L
    if cols <= L:
        return min(VECTORS, rows - p * VECTORS), p * VECTORS, 0, cols, 0
    across = (cols + VECTORS * L - 1) // (VECTORS * L)
    i, j = p // across, p % across * VECTORS * L
    columns = min(VECTORS * L, cols - j)
    vectors = (columns + L - 1) // L
    if s.in_place:                                        # whole vectors: beyond the last one there is nothing to read
        j, columns = min(j, cols - vectors * L), vectors * L
    return vectors, i, j, columns, L


@inner
def panels(s, rows, cols, L):
    """How many panels a piece has."""
    width = VECTORS * L
    if not s.by_rows:
        return ((rows - 1) * s.wide + cols + width - 1) // width
    return (rows + VECTORS - 1) // VECTORS if cols <= L else rows * ((cols + width - 1) // width)


@inner
def conv_task(chunk, x, packed, table, phases, bias, out, relu, s):
    """One piece: a panel of positions after the other, for a part of the channels of one group."""
    across, down, L = (s.J + s.cols - 1) // s.cols, (s.I + s.rows - 1) // s.rows, simd.lanes(x)
    whole = s.N * s.groups * across * down
    chunk, share = chunk % whole, chunk // whole          # all pieces of one share first: a thread needs the weights of few shares
    picture, part = chunk // (across * down), chunk % (across * down)
    group, i0, j0 = picture % s.groups, part // across * s.rows, part % across * s.cols
    rows, cols, tiles = min(s.rows, s.I - i0), min(s.cols, s.J - j0), (s.M + R0 - 1) // R0
    first, stop = share * tiles // s.split * R0, min(s.M, (share + 1) * tiles // s.split * R0)

    K, area = s.C * s.taps, s.oH * s.oW
    room, copied, origin = np.empty(R0 * LINE, x.dtype), np.empty(0, x.dtype), picture * s.C * s.H * s.W
    if not s.in_place:
        copied = np.empty(s.C * s.phases * s.high * s.wide + VECTORS * L, x.dtype)
        copy_piece(x, origin, phases, s, i0, j0, copied)
    piece, origin = (x, origin + j0) if s.in_place else (copied, 0)
    corner = picture * s.M * area + (s.oy + i0 * s.osy) * s.oW + s.ox + j0 * s.osx
    for p in range(panels(s, rows, cols, L)):
        vectors, i, j, columns, fewer = panel(p, s, rows, cols, L)
        in_line = s.by_rows or (s.osx == 1 and j + columns <= cols)     # written where they belong, without sorting out
        bstep, cstep = (L, L) if fewer else (s.wide, s.osy * s.oW)
        target, start, line = (out, corner + i * s.osy * s.oW + j, area) if in_line else (room, 0, LINE)
        for m in range(first, stop, R0):
            height, at = tile_height(s.M - m), group * group_size(s) + m * K
            to = start + m * area if in_line else 0
            tile(height, vectors, packed, at, piece, origin + i * s.wide + j, bstep, table, 0, K, target, to, line, cstep, s.M - m,
                 columns, fewer, bias, group * s.M + m, relu)
            if not in_line:
                scatter(room, columns, min(height, s.M - m), i * s.wide + j, rows, cols, s, out, corner + m * area)


@jit
def conv_kernel(x, w, taps, phases, bias, out, relu, s, threads):
    """The sum over taps that `s` (plan.Sum) describes, of flat arrays. A chunk of work is a piece, or a part of its channels."""
    packed = np.empty(s.groups * group_size(s), x.dtype)
    parallel_for(pack_task, s.groups * ((s.M + R0 - 1) // R0), threads if packed.size > 4096 else 1, (w, taps, s, packed))
    table = np.empty(s.C * s.taps, np.int64)
    for c in range(s.C):
        for t in range(s.taps):
            table[c * s.taps + t] = ((c * s.phases + taps[t, 0]) * s.high + taps[t, 1]) * s.wide + taps[t, 2]
    pieces = ((s.I + s.rows - 1) // s.rows) * ((s.J + s.cols - 1) // s.cols)
    parallel_for(conv_task, s.N * s.groups * pieces * s.split, threads, (x, packed, table, phases, bias, out, relu, s))
