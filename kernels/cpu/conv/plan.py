"""How a convolution is cut into pieces of work: plain numbers, worked out once for each set of shapes.

Forward pass and input gradient are the same sum over taps,

    out[m, oy + i osy, ox + j osx] = bias[m] + sum over c, t of  w[m, c, t] x[c, i sy + dy[t], j sx + dx[t]]        i < I, j < J

with x zero outside. The forward pass has a tap for each weight of the kernel, at k * dilation - padding. The input gradient has x = the
gradient, and for each of the stride * stride phases of the picture those taps that meet it, one step apart.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

ALIAS = 16          # vectors, a kilobyte: channels a multiple of it apart would share few lines of the first-level cache
ROOM = 1 << 16      # numbers of a padded piece of the input: 256 kB of float32, a part of the second-level cache


class Sum(NamedTuple):
    """One sum over taps, all pictures and groups of it. Lengths in numbers."""

    N: int              # pictures
    groups: int
    C: int              # channels of a group that are summed over
    M: int              # channels of a group that come out
    H: int              # input
    W: int
    I: int              # rows of positions  # noqa: E741
    J: int              # columns of positions
    sy: int             # input pixels from one position to the next
    sx: int
    dy: int             # the smallest of dy[t], dx[t]
    dx: int
    rows: int           # rows and columns of positions in a piece
    cols: int
    high: int           # rows and columns of a padded piece
    wide: int
    in_place: bool      # the picture is read where it lies, not copied
    by_rows: bool       # vectors hold positions of one row each; otherwise positions run on from row to row
    split: int          # parts of the M channels, for more chunks of work
    taps: int
    phases: int         # padded pieces are kept as so many planes, each with every sy-th row and sx-th column
    oH: int             # output
    oW: int
    oy: int
    ox: int
    osy: int
    osx: int
    wm: int             # distance of w[m] and w[m + 1], of w[c] and w[c + 1], and of two groups
    wc: int
    wg: int


@lru_cache(maxsize=1024)
def plan(lanes, chunks, x_shape, groups, M, grid, step, taps, out_size, origin, out_step, strides):
    """(Sum, table of taps (T, 4): phase, row and column in its plane, place of the weight; phases (P, 2): row and column).

    lanes    numbers in a vector
    chunks   pieces of work at least, so that several threads share it evenly
    taps     ((dy, dx, place of the weight), ...);  strides   wm, wc, wg
    """
    N, channels, H, W = x_shape
    (I, J), (sy, sx), C = grid, step, channels // groups  # noqa: E741
    dy, dx = min(t[0] for t in taps), min(t[1] for t in taps)
    places = [divmod(t[0] - dy, sy) + divmod(t[1] - dx, sx) for t in taps]                    # row, its phase, column, its phase
    phases = sorted({(p[1], p[3]) for p in places})
    below, right = max(p[0] for p in places), max(p[2] for p in places)
    share, flat = -(-chunks // (N * groups)), H == I == 1 and W == J and len(taps) == 1 and (dy, dx, *step, *out_step) == (0, 0, 1, 1, 1, 1)
    rows, cols = _piece(share, C * len(phases), I, J, below, right, lanes)
    if flat and W % (ALIAS * lanes):
        cols = -(-J // max(1, min(share, J // (4 * lanes))))
    table = [(phases.index((p[1], p[3])), p[0], p[2], t[2]) for p, t in zip(places, taps, strict=True)]
    run_on = 1.08 * -(-((rows - 1) * (cols + right) + cols) // lanes)               # vectors, and what it costs to sort them out
    by_rows = out_step[1] == 1 and rows * -(-cols // lanes) <= run_on
    pieces = N * groups * -(-I // rows) * -(-J // cols)
    split = max(1, min(-(-chunks // max(1, pieces)), M // 32))
    in_place = flat and W % (ALIAS * lanes) != 0 and J - (J - 1) // cols * cols >= 3 * lanes
    wide = W if in_place else cols + right
    numbers = Sum(N, groups, C, M, H, W, I, J, sy, sx, dy, dx, rows, cols, rows + below, wide, in_place, by_rows, split, len(taps),
                  len(phases), *out_size, *origin, *out_step, *strides)
    return numbers, np.array(table), np.array(phases)


def _piece(share, planes, I, J, below, right, lanes):  # noqa: E741
    """(rows, columns) of positions in a piece: as many as fit into ROOM, but a picture in `share` pieces at least."""
    cols = min(J, max(256, -(-J // share))) if I == 1 else J
    cols = max(1, min(cols, max(256, ROOM // (planes * (1 + below)) - right)))
    rows = max(1, min(-(-I // share), ROOM // (planes * (cols + right)) - below))
    rows = -(-I // -(-I // rows))                                                            # pieces of nearly the same size
    return min(I, -(-rows // 3) * 3) if cols <= lanes else rows, -(-J // -(-J // cols))      # a tile takes three short rows


@lru_cache(maxsize=1024)
def forward_taps(kernel, dilation, padding):
    """(dy, dx, place) of every weight of a kernel."""
    return tuple((ky * dilation[0] - padding[0], kx * dilation[1] - padding[1], ky * kernel[1] + kx)
                 for ky in range(kernel[0]) for kx in range(kernel[1]))


def backward_taps(kernel, stride, dilation, padding, phase):
    """Those of the weights that meet the input pixels (i stride + phase), as steps of the output."""
    found = []
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            (y, left_y), (x, left_x) = (divmod(phase[d] + padding[d] - k * dilation[d], stride[d]) for d, k in enumerate((ky, kx)))
            if not left_y and not left_x:
                found.append((y, x, ky * kernel[1] + kx))
    return tuple(found)
