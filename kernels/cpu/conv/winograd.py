"""Kernels of 3 x 3 with 2.25 times fewer multiplications: Winograd's minimal filtering F(2 x 2, 3 x 3), for batches of pictures.

Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015, equation 8: a tile of 2 x 2 outputs is

    Y = A^T [ sum over c of  (G g G^T) * (B^T d B) ] A        d: its 4 x 4 inputs, g: the weights, * element by element

so for each of the 16 elements there is a matrix product over channels. As in batch.py a vector's lanes are on as many pictures; then the
transforms are sums of whole vectors, and 2 x 2 outputs, which overlap in their inputs, need no shuffles. A piece is some tiles of a block
of pictures: its inputs are turned and transformed channel by channel, and then for each tile of output channels come the 16
products, the transform of the result, and the turning back. The weights are transformed in the packed form of direct.py.

FLOPs: 8 N M C I J for the products, 32 additions for each tile and input channel, 24 for each tile and output channel. In float32 the
largest error against float64 was 2e-7 to 6e-7 of the largest output for 16 to 200 channels; that of the plain sum, whose chains of
additions are 9 times as long, was 4e-7 to 2e-6. An infinite input makes NaN of all outputs of the tiles that see it.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kernels.cpu.conv.batch import TURN, turn_back
from kernels.cpu.conv.direct import R0, VECTORS, clear, inside, one0, pack_one_by_one, three0, two0
from kernels.cpu.conv.weights import turn_row
from kernels.cpu.matmul import simd
from kernels.jit import inner, jit, parallel_for

ROOM = 512 << 10    # bytes of the transformed inputs of a piece: half of the second-level cache
TILE = 16           # products of a tile
INPUT, OUTPUT = 120, 140    # what the transforms cost for each tile and channel, in multiply-adds of vectors
transform_input = simd.sandwich(((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)))
transform_weight = simd.sandwich(((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)))
transform_output = simd.sandwich(((1, 1, 1, 0), (0, 1, -1, -1)))
APART = 5           # vectors between two elements: 4096 bytes apart they would share eight lines of the first-level cache
SHIFT = 5           # the product that all four outputs contain once: the place for the bias


class Tiles(NamedTuple):
    """A convolution of 3 x 3 in tiles of 2 x 2 positions; names as in plan.Sum."""

    N: int
    groups: int
    C: int
    M: int
    H: int
    W: int
    oH: int
    oW: int
    dy: int
    dx: int
    rows: int           # rows and columns of tiles in a piece
    cols: int
    down: int           # pieces
    across: int
    split: int          # parts of the M channels
    wm: int
    wc: int
    wg: int


@lru_cache(maxsize=1024)
def winograd_plan(lanes, itemsize, chunks, x_shape, groups, M, phases, step, out_step, strides):
    """(Tiles, places of the nine weights) for at least `lanes` pictures; None if the sum is not of 3 x 3, or too small to be faster so."""
    N, C, (_, _, I, J, taps) = x_shape[0], x_shape[1] // groups, phases[0]  # noqa: E741
    taps = sorted(taps)
    if not taps or step != (1, 1) or out_step != (1, 1):
        return None
    (dy, dx, _), tiles = taps[0], -(-I // 2) * -(-J // 2)
    if [t[:2] for t in taps] != [(dy + y, dx + x) for y in range(3) for x in range(3)]:
        return None
    padded, blocks = -(-M // R0) * R0, -(-N // lanes)
    plain = I * J * padded * min(9 * C + TURN, 9 * C * N / (lanes * blocks))                # with full blocks, and without blocks
    if tiles * (padded * (TILE * C + OUTPUT) + C * INPUT) > plain:
        return None
    fit = max(1, ROOM // (TILE * C * lanes * itemsize))
    cols = -(-J // 2)
    across = -(-cols // min(cols, fit))
    cols = -(-cols // across)
    rows = max(1, min(-(-I // 2), fit // cols))
    down = -(-I // (2 * rows))
    split = max(1, min(-(-chunks // (blocks * groups * down * across)), M // 32))
    return Tiles(N, groups, C, M, *x_shape[2:], I, J, dy, dx, rows, cols, down, across, split, *strides), np.array([t[2:] for t in taps])


@inner
def weight_size(s):
    """Numbers of one of the 16 matrices of a tile of channels, and some to spare: whole vectors are written."""
    return s.C * R0 + R0


@inner
def weight_task(chunk, w, taps, s, packed):
    """packed[chunk, element, c, r]: the transformed weights of tile number `chunk`."""
    tiles, L = (s.M + R0 - 1) // R0, simd.lanes(w)
    group, i = chunk // tiles, chunk % tiles * R0
    size, plain = weight_size(s), np.empty(s.C * 9 * R0 + 16, w.dtype)
    pack_one_by_one(w, taps, 0, 9, group, i, R0, s, plain, 0)
    for c in range(s.C):
        for r in range(0, R0, L):
            to = chunk * TILE * size + c * R0 + r
            transform_weight(plain, c * 9 * R0 + r, 3 * R0, R0, packed, to, 4 * size, size, False)


@inner
def panel_size(s, L):
    """Numbers from one of the 16 elements to the next in a panel of the transformed inputs."""
    return (s.C * VECTORS + APART) * L


@inner
def input_tiles(x, at, apart, y, left, rows, cols, s, lines, V, to):
    """V[panel, element, :, tile]: the transformed inputs of rows x cols tiles of one channel, which begins at x[at], from row y and column
    `left` on. `lines` is room for the turned inputs. Tiles are numbered along the rows, from the right: see winograd_task."""
    L, wide, high = simd.lanes(x), 2 * cols + 2, 2 * rows + 2
    (before, after), line, step = inside(left, 1, s.W, wide), wide * L, panel_size(s, L)
    above, below = inside(y, 1, s.H, high)
    clear(lines, 0, above * line)
    for i in range(above, below):
        start = i * line
        clear(lines, start, start + before * L)
        turn_row(x, at + (y + i) * s.W + left + before, apart, L, after - before, lines, start + before * L)
        clear(lines, start + after * L, start + line)
    clear(lines, below * line, high * line)
    for i in range(rows):
        for j in range(cols):
            number = (i + 1) * cols - 1 - j
            first = to + number // VECTORS * TILE * step + number % VECTORS * L
            transform_input(lines, 2 * (i * wide + j) * L, line, L, V, first, 4 * step, step, False)


@inner
def product(vectors, packed, at, V, to, L, table, C, products, start, line, used, bias, j):
    """One of the 16 products of a tile of channels and a panel of tiles."""
    if vectors == 3:
        three0(packed, at, V, to, L, table, 0, C, products, start, line, L, used, L, 0, bias, j, False)
    elif vectors == 2:
        two0(packed, at, V, to, L, table, 0, C, products, start, line, L, used, L, 0, bias, j, False)
    else:
        one0(packed, at, V, to, L, table, 0, C, products, start, line, L, used, L, 0, bias, j, False)


@inner
def output_tiles(packed, at, V, rows, cols, table, m, s, products, bias, none, j, room, wide, line, relu):
    """room[r, y, x]: the outputs of all tiles for a tile of channels; products[element, r, tile] are those of a panel of tiles."""
    L, tiles, size, result = simd.lanes(V), rows * cols, weight_size(s), (R0 * VECTORS + APART) * simd.lanes(V)
    for first in range(0, tiles, VECTORS):
        count = min(VECTORS, tiles - first)
        for e in range(TILE):
            product(count, packed, at + e * size, V, (first // VECTORS * TILE + e) * panel_size(s, L), L, table, s.C, products, e * result,
                    VECTORS * L, s.M - m, bias if e == SHIFT else none, j)
        for t in range(count):
            to = 2 * ((first + t) // cols * wide + cols - 1 - (first + t) % cols) * L
            for r in range(min(R0, s.M - m)):
                transform_output(products, (r * VECTORS + t) * L, 4 * result, result, room, r * line + to, wide * L, L, relu)


@inner
def winograd_task(chunk, x, packed, table, bias, out, relu, s):
    """One piece of a block of pictures, for a part of the channels of one group. The last block may overlap the one before.

    With an odd width a tile writes a column too many, which is the first one of the next row: tiles are taken from the right, so that
    the right numbers come later.
    """
    L, count, area = simd.lanes(x), (s.M + R0 - 1) // R0, s.oH * s.oW
    chunk, share = chunk // s.split, chunk % s.split
    chunk, piece = chunk // (s.down * s.across), chunk % (s.down * s.across)
    n, group = min(chunk // s.groups * L, s.N - L), chunk % s.groups
    i0, j0 = piece // s.across * s.rows, piece % s.across * s.cols                                # in tiles
    rows, cols = min(s.rows, (s.oH + 1) // 2 - i0), min(s.cols, (s.oW + 1) // 2 - j0)
    high, wide = min(2 * rows, s.oH - 2 * i0), min(2 * cols, s.oW - 2 * j0)                       # in outputs
    plane, line, panels = s.H * s.W, (high + 1) * (wide + 1) * L, (rows * cols + VECTORS - 1) // VECTORS
    V, lines = np.empty(panels * TILE * panel_size(s, L), x.dtype), np.empty(((2 * rows + 2) * (2 * cols + 2) + L) * L, x.dtype)
    products, room = np.empty(TILE * (R0 * VECTORS + APART) * L, x.dtype), np.empty(R0 * line, x.dtype)
    none = np.empty(0, x.dtype)
    runs = 1 if wide == s.oW else high                            # whole rows of the output follow each other
    for c in range(s.C):
        input_tiles(x, ((n * s.groups + group) * s.C + c) * plane, s.groups * s.C * plane, 2 * i0 + s.dy, 2 * j0 + s.dx, rows, cols, s,
                    lines, V, c * VECTORS * L)
    for k in range(share * count // s.split, (share + 1) * count // s.split):
        m = k * R0
        output_tiles(packed, (group * count + k) * TILE * weight_size(s), V, rows, cols, table, m, s, products, bias, none,
                     group * s.M + m, room, wide, line, relu)
        for r in range(min(R0, s.M - m)):
            to, apart = ((n * s.groups + group) * s.M + m + r) * area + 2 * i0 * s.oW + 2 * j0, s.groups * s.M * area
            for i in range(runs):
                turn_back(room, r * line + i * wide * L, high * wide // runs, out, to + i * s.oW, apart)


@jit
def winograd_kernel(x, w, taps, bias, out, relu, s, threads):
    """The convolution that `s` (Tiles) describes, of flat arrays."""
    tiles = (s.M + R0 - 1) // R0
    packed = np.empty(s.groups * tiles * TILE * weight_size(s) + 16, x.dtype)
    parallel_for(weight_task, s.groups * tiles, threads, (w, taps, s, packed))
    table = np.empty(s.C, np.int64)
    for c in range(s.C):
        table[c] = c * VECTORS * simd.lanes(x)
    chunks = (s.N + simd.lanes(x) - 1) // simd.lanes(x) * s.groups * s.down * s.across * s.split
    parallel_for(winograd_task, chunks, threads, (x, packed, table, bias, out, relu, s))
