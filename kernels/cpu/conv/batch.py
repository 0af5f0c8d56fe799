"""The sum over taps (plan.py) with a vector's lanes on as many pictures: for batches of pictures whose rows fill vectors badly.

A piece of a block of pictures is copied once, turned so that the same pixel of all of them makes a vector: piece[c, y, x, picture]. Then
every position is whole vectors, a stride is only the distance from one to the next, and all phases of an input gradient read the
same piece. Results are kept for a tile of channels at a time and turned back.

FLOPs: 2 N M C taps I J, N rounded up to whole vectors. Bytes: as direct.py. Turning costs two shuffles and a half for each number.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kernels.cpu.conv.direct import R0, R1, VECTORS, clear, group_size, inside, pack_channels, padded, tile, tile_height
from kernels.cpu.conv.weights import turn_row
from kernels.cpu.matmul import simd
from kernels.cpu.matmul.packed import transpose_square
from kernels.jit import inner, jit, parallel_for

TURN = 4            # multiply-adds in whose time a vector is turned
ROOM = 600 << 10    # bytes of a padded piece of a block of pictures: a part of the second-level cache


class BatchSum(NamedTuple):
    """A sum over taps for each of the phases of the output, all pictures and groups of it; names as in plan.Sum."""

    N: int
    groups: int
    C: int
    M: int
    H: int
    W: int
    sy: int
    sx: int
    dy: int
    dx: int
    rows: int           # rows of positions in a piece
    pieces: int
    high: int
    wide: int
    split: int
    taps: int           # of all phases
    phases: int
    oH: int
    oW: int
    osy: int
    osx: int
    wm: int
    wc: int
    wg: int


@lru_cache(maxsize=1024)
def batch_wins(lanes, x_shape, groups, M, phases, step, out_step):
    """Whether for at least `lanes` pictures fewer vectors here pay for the turning, counted in multiply-adds of vectors against those of
    direct.py."""
    N, C, (H, W) = x_shape[0], x_shape[1] // groups, x_shape[2:]
    if not all(min(p[2:4]) > 0 and p[4] for p in phases):
        return False
    direct, here, M = 0, TURN * C * H * W, -(-M // R1) * R1
    for _, _, I, J, taps in phases:  # noqa: E741
        run_on = 1.08 * -(-((I - 1) * (J + (max(t[1] for t in taps) - min(t[1] for t in taps)) // step[1]) + J) // lanes)
        direct += M * (min(run_on, I * -(-J // lanes)) if out_step[1] == 1 else run_on) * (C * len(taps) + 1)
        here += M * I * J * (C * len(taps) + TURN)
    return -(-N // lanes) * here < N * direct


@lru_cache(maxsize=1024)
def batch_plan(lanes, itemsize, chunks, x_shape, groups, M, phases, step, out_size, out_step, strides):
    """(BatchSum, table of taps (T, 3): row and column in the piece, place of the weight; phases (P, 6): first row and column of the output,
    rows and columns of positions, first of its taps and the one after the last).

    phases   ((oy, ox, I, J, taps as forward_taps gives them), ...); the rest as in plan.plan
    """
    N, channels, H, W = x_shape
    C, every = channels // groups, [t for phase in phases for t in phase[4]]
    (dy, dx), (below, right) = ((f(t[0] for t in every), f(t[1] for t in every)) for f in (min, max))
    I, wide = max(p[2] for p in phases), (max(p[3] for p in phases) - 1) * step[1] + right - dx + 1  # noqa: E741
    fit = ROOM // max(1, C * wide * lanes * itemsize) - (below - dy + 1)
    pieces = -(-I // max(1, min(I, fit // step[0] + 1)))
    rows = -(-I // pieces)
    pieces = -(-I // rows)
    split = max(1, min(-(-chunks // (-(-N // lanes) * groups * pieces)), M // 32))
    table, places = [(y - dy, x - dx, place) for y, x, place in every], []
    for oy, ox, rows_p, cols_p, taps in phases:
        first = places[-1][5] if places else 0
        places.append((oy, ox, rows_p, cols_p, first, first + len(taps)))
    numbers = BatchSum(N, groups, C, M, H, W, *step, dy, dx, rows, pieces, (rows - 1) * step[0] + below - dy + 1, wide, split, len(every),
                       len(phases), *out_size, *out_step, *strides)
    return numbers, np.array(table), np.array(places)


@inner
def turn_piece(x, at, y, s, piece):
    """piece[c, i, j, n]: rows y, y + 1, ... of the C channels that begin at x[at], of a vector's width of pictures, zeros around them."""
    L = simd.lanes(x)
    before, after = inside(s.dx, 1, s.W, s.wide)
    above, below = inside(y, 1, s.H, s.high)
    line, apart = s.wide * L, s.groups * s.C * s.H * s.W
    for c in range(s.C):
        plane = c * s.high * line
        clear(piece, plane, plane + above * line)
        for i in range(above, below):
            to = plane + i * line
            clear(piece, to, to + before * L)
            turn_row(x, at + (c * s.H + y + i) * s.W + s.dx + before, apart, L, after - before, piece, to + before * L)
            clear(piece, to + after * L, to + line)
        clear(piece, plane + below * line, plane + s.high * line)


@inner
def turn_back(room, start, count, out, to, apart):
    """out[to + n * apart + q] = room[start + q * lanes + n] for q < count and a vector's width of pictures."""
    L = simd.lanes(room)
    if count < L:
        for n in range(L):
            for q in range(count):
                out[np.uint64(to + n * apart + q)] = room[np.uint64(start + q * L + n)]
        return
    for q in range(0, count, L):
        q = min(q, count - L)                             # the last square may overlap the one before
        transpose_square(room, start + q * L, L, out, to + q, apart, L - 1)


@inner
def batch_task(chunk, x, packed, table, phases, bias, out, relu, s):
    """One piece of a block of pictures, for a part of the channels of one group. The last block may overlap the one before."""
    L, tiles, area = simd.lanes(x), (s.M + R0 - 1) // R0, s.oH * s.oW
    chunk, share = chunk // s.split, chunk % s.split
    chunk, i0 = chunk // s.pieces, chunk % s.pieces * s.rows
    n, group = min(chunk // s.groups * L, s.N - L), chunk % s.groups
    first, stop = share * tiles // s.split * R0, min(s.M, (share + 1) * tiles // s.split * R0)
    piece, line = np.empty((s.C * s.high * s.wide + L) * L, x.dtype), s.rows * s.osy * s.oW * L
    room = np.empty(R0 * line, x.dtype)
    turn_piece(x, (n * s.groups + group) * s.C * s.H * s.W, i0 * s.sy + s.dy, s, piece)
    y0 = i0 * s.osy
    count = (min(s.oH, (i0 + s.rows) * s.osy) - y0) * s.oW
    for m in range(first, stop, R0):
        height = tile_height(s.M - m)
        for p in range(s.phases):
            taps = phases[p, 5] - phases[p, 4]
            at, K, cols = group * group_size(s) + (phases[p, 4] * padded(s.M) + m * taps) * s.C, taps * s.C, phases[p, 3]
            for i in range(min(s.rows, phases[p, 2] - i0)):
                for j in range(0, cols, VECTORS):
                    tile(height, min(VECTORS, cols - j), packed, at, piece, (i * s.sy * s.wide + j * s.sx) * L, s.sx * L, table,
                         phases[p, 4] * s.C, K, room, ((phases[p, 0] + i * s.osy) * s.oW + phases[p, 1] + j * s.osx) * L, line, s.osx * L,
                         s.M - m, L, 0, bias, group * s.M + m, relu)
        for r in range(min(height, s.M - m)):
            turn_back(room, r * line, count, out, ((n * s.groups + group) * s.M + m + r) * area + y0 * s.oW, s.groups * s.M * area)


@inner
def pack_batch_task(chunk, w, taps, phases, s, packed):
    """The packed weights of tile number `chunk`, as direct.pack_task: first of all tiles those of the first phase."""
    tiles = (s.M + R0 - 1) // R0
    group, i = chunk // tiles, chunk % tiles * R0
    for p in range(s.phases):
        first, stop = phases[p, 4], phases[p, 5]
        pack_channels(w, taps, first, stop, group, i, s, packed, group * group_size(s) + (first * padded(s.M) + i * (stop - first)) * s.C)


@jit
def batch_kernel(x, w, taps, phases, bias, out, relu, s, threads):
    """The sums that `s` (BatchSum) describes, of flat arrays; x has at least as many pictures as a vector has lanes."""
    L, tiles = simd.lanes(x), (s.M + R0 - 1) // R0
    packed = np.empty(s.groups * group_size(s), x.dtype)
    parallel_for(pack_batch_task, s.groups * tiles, threads if packed.size > 4096 else 1, (w, taps, phases, s, packed))
    table = np.empty(s.C * s.taps, np.int64)
    for p in range(s.phases):
        first, stop = phases[p, 4], phases[p, 5]
        for c in range(s.C):
            for t in range(first, stop):
                table[first * s.C + c * (stop - first) + t - first] = ((c * s.high + taps[t, 0]) * s.wide + taps[t, 1]) * L
    chunks = (s.N + L - 1) // L * s.groups * s.pieces * s.split
    parallel_for(batch_task, chunks, threads, (x, packed, table, phases, bias, out, relu, s))
