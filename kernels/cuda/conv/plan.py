"""Where the numbers lie that a convolution sums up: tables, worked out on the host once for each geometry.

Forward pass and input gradient are the same sum over entries k of a table,

    out[m, oy + i osy, ox + j osx] = bias[m] + sum over k of  w[m, k] x[c, i sy + dy[k], j sx + dx[k]]        i < I, j < J

with x zero outside. The forward pass has an entry for each (c, ky, kx), at k * dilation - padding. The input gradient has x = the
gradient that arrives, and for each of the stride * stride phases of the picture those entries (o, ky, kx) that meet it, one step apart.

An entry is four int32: c H W + dy W + dx, the place in the picture; dy and dx, to see whether that lies inside; and for the input
gradient the place of the weight. The GPU keeps the tables as long as the process runs, as a CUDA graph may come back to them.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from kernels.cuda.array import to_device
from kernels.cuda.matmul.tiles import DEPTH, LARGE

OUTSIDE = -1 << 30               # dy of entries that fill up a slice; added to any row, it is none of the picture
PHASE = 8                        # numbers of a phase: I, J, oy, ox, its first entry, entries, 0, 0


class Plan(NamedTuple):
    """The tables on the GPU, and how long they are."""

    table: object                # (entries, 4)
    phases: object               # (count, PHASE)
    entries: int
    used: int                    # entries of the first phase that do not fill up a slice
    count: int                   # phases
    pixels: int                  # I J of the largest


def _entries(shape, dy, dx, size, weight_at=0):
    """Entries of one phase for `shape`[0] channels with the same taps, filled up to whole slices: those of the weight gradient, whose
    columns they are, may be as wide as a LARGE tile."""
    c = np.arange(shape[0])[:, None]
    found = np.stack(np.broadcast_arrays(c * (size[0] * size[1]) + dy * size[1] + dx, dy, dx, weight_at), -1).reshape(-1, 4)
    whole = max(1, -(-len(found) // shape[1])) * shape[1]
    return np.concatenate([found, np.broadcast_to([0, OUTSIDE, 0, -1], (whole - len(found), 4))])


@cache
def forward_plan(C, size, kernel, out_size, padding, dilation):
    """The Plan of a forward pass over groups of C channels of pictures of this size."""
    ky, kx = np.indices(kernel).reshape(2, -1)
    table = _entries((C, LARGE.columns), ky * dilation[0] - padding[0], kx * dilation[1] - padding[1], size)
    return _plan([table], [(*out_size, 0, 0, 0, C * ky.size)])


@cache
def backward_plan(O, C, out_size, kernel, size, stride, padding, dilation):  # noqa: E741
    """The Plan of an input gradient, of this size, from groups of O channels of size out_size; C channels of a group come out."""
    tables, phases = [], []
    for phase in np.ndindex(*stride):
        ky, kx = np.meshgrid(*[_meeting(*line) for line in zip(kernel, stride, dilation, padding, phase, strict=True)], indexing="ij")
        ky, kx, (I, J) = ky.ravel(), kx.ravel(), [-(-(n - r) // s) for n, r, s in zip(size, phase, stride, strict=True)]  # noqa: E741
        dy, dx = ((r + p - k * d) // s for k, s, d, p, r in zip((ky, kx), stride, dilation, padding, phase, strict=True))
        weight_at = (np.arange(O)[:, None] * C * kernel[0] + ky) * kernel[1] + kx
        phases.append((max(I, 0), max(J, 0), *phase, sum(map(len, tables)), O * ky.size))
        tables.append(_entries((O, DEPTH), dy, dx, out_size, weight_at))
    return _plan(tables, phases)


def _meeting(kernel, stride, dilation, padding, phase):
    """The taps of one dimension that meet pixels of a phase."""
    taps = np.arange(kernel)
    return taps[(phase + padding - taps * dilation) % stride == 0]


def _plan(tables, phases):
    table = np.concatenate(tables).astype(np.int32)
    rows = np.array([(*p, 0, 0) for p in phases], np.int32)
    return Plan(to_device(table), to_device(rows), len(table), phases[0][5], len(rows), max(int(p[0]) * int(p[1]) for p in phases))


@cache
def pixel_table(out_size, stride, width):
    """(OH OW, 4) int32: row and column that the first tap sees for each output without padding, their place in a picture of this
    width, and 0."""
    y, x = (place * s for place, s in zip(np.indices(out_size).reshape(2, -1), stride, strict=True))
    return to_device(np.stack([y, x, y * width + x, 0 * y], -1).astype(np.int32))


def divider(n):
    """(factor, shift) with k // n = k factor >> shift for 0 <= k < 2^31 (Granlund & Montgomery 1994)."""
    shift = 31 + (n - 1).bit_length()
    return -(-(1 << shift) // n), shift
