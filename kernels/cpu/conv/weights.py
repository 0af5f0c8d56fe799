"""The gradient of a convolution by its weights: a matrix product over all positions.

    dw[m, c, t] = sum over pictures and positions of  g[m, i, j] x[c, i sy + dy[t], j sx + dx[t]]

A piece of the padded input is turned so that the channels of a pixel are neighbours, and of the gradient so that the channels of a tile
are. Then for each tap the positions are the inner dimension of a product whose operands are read where they lie: the tile of
packed.py with a step of one pixel. With fewer channels than a vector holds, all taps of a position are laid side by side instead.
The pieces are summed in PARTS parts, and these in order, so that no bit depends on the number of threads.

FLOPs: 2 N M C taps I J. Bytes: input and gradient once and turned once.
"""

import numpy as np

from kernels.cpu.conv.direct import copy_line
from kernels.cpu.matmul import simd
from kernels.cpu.matmul.packed import VECTORS, pack_tile, padded, product, tile_height, transpose_square
from kernels.jit import inner, jit, parallel_for

PARTS = 8


@inner
def turn_row(x, at, plane, length, first, step, channels, out, to, count):
    """out[to + j * channels + c] = x[at + c * plane + first + j * step] where that lies inside a row, else 0; j < count."""
    L = simd.lanes(x)
    before = min(count, max(0, (step - 1 - first) // step))
    after = max(before, min(count, (length - first + step - 1) // step))
    out[to:to + before * channels] = 0
    out[to + after * channels:to + count * channels] = 0
    j, start = before, at + first
    while step == 1 and j + L <= after:                       # squares of L pixels by L channels, by shuffles
        for c in range(0, channels // L * L, L):
            transpose_square(x, start + c * plane + j, plane, out, to + j * channels + c, channels, L - 1)
        j += L
    for c in range(channels):
        left = before if c >= channels // L * L else j
        if left < after:                                      # a slice may not begin before the array
            source = x[at + c * plane + first + left * step:]
            for k in range(left, after):
                out[to + k * channels + c] = source[(k - left) * step]


@inner
def turn_input(x, at, phases, s, i0, j0, out):
    """out[phase, y, x, c]: the input from position (i0, j0) on of the C channels that begin at x[at], zero outside the picture."""
    to = 0
    for p in range(s.phases):
        for i in range(s.high):
            y, size = (i0 + i) * s.sy + phases[p, 0] + s.dy, s.wide * s.C
            if 0 <= y < s.H:
                turn_row(x, at + y * s.W, s.H * s.W, s.W, j0 * s.sx + phases[p, 1] + s.dx, s.sx, s.C, out, to, s.wide)
            else:
                out[to:to + size] = 0
            to += size


@inner
def side_by_side(x, at, taps, phases, s, i0, j0, rows, line, out):
    """out[y, x, c * taps + t]: all that the position (i0 + y, j0 + x) meets, in rows of s.wide positions."""
    K = s.C * s.taps
    for c in range(s.C):
        for t in range(s.taps):
            p = taps[t, 0]
            for i in range(rows):
                y = (i0 + i + taps[t, 1]) * s.sy + phases[p, 0] + s.dy
                if 0 <= y < s.H:
                    copy_line(x, at + (c * s.H + y) * s.W, s.W, (j0 + taps[t, 2]) * s.sx + phases[p, 1] + s.dx, s.sx, line)
                else:
                    line[:] = 0
                target = out[i * s.wide * K + c * s.taps + t:]
                for j in range(line.size):
                    target[j * K] = line[j]


@inner
def turn_gradient(g, at, s, rows, cols, out):
    """out[m * rows * wide + (i * wide + j) * height + r] = g[m + r, i, j] for each tile that starts at channel m; 0 beyond a row's end."""
    m = 0
    while m < s.M:
        height, base = tile_height(s.M - m), m * rows * s.wide
        for i in range(rows):
            to = base + i * s.wide * height
            pack_tile(g, at + m * s.oH * s.oW + i * s.oW, 0, s.oH * s.oW, out, to, height, min(height, s.M - m), cols, 0)
            out[to + cols * height:to + s.wide * height] = 0
        m += height


@inner
def add_products(turned, pixels, channels, at, positions, area, out, to, M, none):
    """out[to + m * channels + c] += sum over positions q of  turned[m, q] pixels[at + q * channels + c]."""
    wide, m = VECTORS * simd.lanes(turned), 0
    while m < M:
        height = tile_height(M - m)
        for c in range(0, channels, wide):
            columns = min(wide, channels - c)
            product(height, turned, m * area, pixels, at + c, channels, out, to + m * channels + c, channels, positions, M - m, columns,
                    True, none, 0, False)
        m += height


@inner
def weights_task(chunk, x, g, taps, phases, partial, parts, unrolled, s):
    """The pieces of one part, one after the other, for one group."""
    group, part = chunk // parts, chunk % parts
    across, down = (s.J + s.cols - 1) // s.cols, (s.I + s.rows - 1) // s.rows
    pieces = s.N * across * down
    size, slack = s.M * s.C * s.taps, VECTORS * simd.lanes(x)
    own = partial[chunk * size:(chunk + 1) * size]
    own[:] = 0
    planes = s.taps if unrolled else s.phases
    pixels, line = np.empty(s.C * planes * s.high * s.wide + slack, x.dtype), np.empty(s.cols, x.dtype)
    turned, none = np.empty(padded(s.M) * s.rows * s.wide + 64, x.dtype), np.empty(0, x.dtype)
    for item in range(part * pieces // parts, (part + 1) * pieces // parts):
        n, piece = item // (across * down), item % (across * down)
        i0, j0 = piece // across * s.rows, piece % across * s.cols
        rows, cols = min(s.rows, s.I - i0), min(s.cols, s.J - j0)
        positions, picture = (rows - 1) * s.wide + cols, n * s.groups + group
        turn_gradient(g, picture * s.M * s.oH * s.oW + i0 * s.oW + j0, s, rows, cols, turned)
        if unrolled:
            pixels[:] = 0
            side_by_side(x, picture * s.C * s.H * s.W, taps, phases, s, i0, j0, rows, line[:cols], pixels)
            add_products(turned, pixels, s.C * s.taps, 0, positions, rows * s.wide, own, 0, s.M, none)
        else:
            turn_input(x, picture * s.C * s.H * s.W, phases, s, i0, j0, pixels)
            for t in range(s.taps):
                at = ((taps[t, 0] * s.high + taps[t, 1]) * s.wide + taps[t, 2]) * s.C
                add_products(turned, pixels, s.C, at, positions, rows * s.wide, own, t * s.M * s.C, s.M, none)


@jit
def weights_kernel(x, g, taps, phases, partial, parts, unrolled, s, threads):
    """partial (groups, parts, taps, M, C), or (groups, parts, M, C * taps) if unrolled: the sums of the parts. `s` is the forward pass."""
    parallel_for(weights_task, s.groups * parts, threads, (x, g, taps, phases, partial, parts, unrolled, s))
