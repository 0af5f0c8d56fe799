"""Convolution of each channel by itself (groups = channels), and its gradients.

A channel has no products with others to share its numbers with: each input pixel meets KH KW weights (times the multiplier, the outputs
of a channel) and is done, so memory sets the limit. A plane is copied once with zeros around it, split by the stride; then each vector
of outputs is a sum over taps of vectors read where they lie (simd.table_product with one row), in registers from tap to tap.

The input gradient is the same sum over the planes of g, with the taps that meet a phase of the stride. The weight gradient is for each
tap the scalar product of g with the plane that this tap sees.

FLOPs: 2 N O KH KW OH OW. Bytes: input (or gradient) read, output written; weight gradient: both read.
"""

from typing import NamedTuple

import numpy as np

from kernels import jit
from kernels.cpu.conv.direct import copy_run
from kernels.cpu.conv.plan import backward_taps
from kernels.cpu.matmul import simd
from kernels.jit import inner, like, parallel_for

VECTORS = 4        # of outputs that are computed together, so that additions do not wait for each other
one, two, three, four = (simd.table_product(1, v) for v in range(1, VECTORS + 1))


class Planes(NamedTuple):
    """Where an output plane finds its inputs."""

    H: int              # a source plane
    W: int
    sy: int             # source pixels from one position to the next
    sx: int
    top: int            # rows and columns of zeros before the source; below 0, so many of its own are left out
    left: int
    high: int           # a padded plane, of each phase of the step
    wide: int
    sources: int        # source planes that an output plane sums over
    shared: int         # output planes that look at the same source
    channels: int       # output planes of a picture
    oH: int             # an output plane
    oW: int
    osy: int            # output pixels from one position to the next
    osx: int


@inner
def copy_plane(x, at, s, room, to):
    """room[to:], seen as [row % sy, column % sx, row // sy, column // sx], = the plane that begins at x[at]. Zeros around it stay: what
    a copy in whole vectors writes behind a row is 0, and it covers nothing but zeros and rows that are still to come."""
    for a in range(s.sy):
        for b in range(s.sx):
            y, first = (a - s.top) % s.sy, (b - s.left) % s.sx
            row, column = (y + s.top) // s.sy, (first + s.left) // s.sx
            y, row, first, column = y - min(row, 0) * s.sy, max(row, 0), first - min(column, 0) * s.sx, max(column, 0)
            count = min((s.W - first + s.sx - 1) // s.sx, s.wide - column)
            line = to + ((a * s.sx + b) * s.high + row) * s.wide + column
            for i in range(min((s.H - y + s.sy - 1) // s.sy, s.high - row)):
                copy_run(x, at + (y + i * s.sy) * s.W + first, s.sx, room, line + i * s.wide, count)


@inner
def sum_taps(weights, at, room, wide, table, rows, cols, out, to, pitch, bias, channel, relu):
    """out[to + i * pitch + j] = bias + sum over k of  weights[at + k] room[table[k] + i * wide + j]: vectors of one row, or, where one
    holds a whole row, of several rows."""
    L = simd.lanes(room)
    by_row = cols > L
    bstep, cstep, fewer = (L, L, L) if by_row else (wide, pitch, 0)
    for i in range(0, rows, 1 if by_row else VECTORS):
        for j in range(0, cols, VECTORS * L):
            vectors, columns = (cols - j + L - 1) // L if by_row else rows - i, cols - j
            b, c = i * wide + j, to + i * pitch + j
            if vectors >= 4:
                four(weights, at, room, b, bstep, table, 0, table.size, out, c, 0, cstep, 1, columns, fewer, bias, channel, relu)
            elif vectors == 3:
                three(weights, at, room, b, bstep, table, 0, table.size, out, c, 0, cstep, 1, columns, fewer, bias, channel, relu)
            elif vectors == 2:
                two(weights, at, room, b, bstep, table, 0, table.size, out, c, 0, cstep, 1, columns, fewer, bias, channel, relu)
            else:
                one(weights, at, room, b, bstep, table, 0, table.size, out, c, 0, cstep, 1, columns, fewer, bias, channel, relu)


@inner
def spread(plane, rows, cols, s, out, to):
    """The positions of one phase to their places in the output."""
    for i in range(rows):
        for j in range(cols):
            out[np.uint64(to + i * s.osy * s.oW) + np.uint64(j) * np.uint64(s.osx)] = plane[np.uint64(i * cols + j)]


@inner
def planes_task(chunk, x, weights, table, phases, bias, out, relu, s, each):
    """Some output planes; phases (P, 6): first row and column, rows, columns, first tap and end of its taps."""
    size, area, start = s.sy * s.sx * s.high * s.wide, s.oH * s.oW, chunk * each
    room, taps = np.zeros(s.sources * size + VECTORS * simd.lanes(x), x.dtype), table.copy()
    plane = np.empty(area if s.osy * s.osx > 1 else 0, x.dtype)
    for p in range(start, min(start + each, out.size // area)):
        if p == start or p % s.shared == 0:
            for r in range(s.sources):
                copy_plane(x, (p // s.shared * s.sources + r) * s.H * s.W, s, room, r * size)
        channel = p % s.channels
        for f in range(len(phases)):
            rows, cols, first, end = phases[f, 2], phases[f, 3], phases[f, 4], phases[f, 5]
            to = p * area + phases[f, 0] * s.oW + phases[f, 1]
            if s.osy * s.osx == 1:
                sum_taps(weights, channel * table.size, room, s.wide, taps, rows, cols, out, to, s.oW, bias, channel, relu)
                continue
            if first < end:
                sum_taps(weights, channel * table.size + first, room, s.wide, taps[first:end], rows, cols, plane, 0, cols, bias, channel,
                         relu)
            else:
                plane[:rows * cols] = bias[channel] if bias.size > 0 else like(plane[0], 0)
            spread(plane, rows, cols, s, out, to)


@jit.jit
def planes_kernel(x, weights, table, phases, bias, out, relu, s, each, threads):
    planes = out.size // (s.oH * s.oW)
    parallel_for(planes_task, (planes + each - 1) // each, threads, (x, weights, table, phases, bias, out, relu, s, each))


@inner(sums=True)
def dot(a, b, at, count):
    """Sum of the products of two runs."""
    total = like(a[0], 0)
    for i in range(count):
        total += a[np.uint64(i)] * b[np.uint64(at + i)]
    return total


@inner
def weights_task(chunk, x, g, table, dw, s):
    """The weights of one output channel, from all pictures in order."""
    size, run = s.sy * s.sx * s.high * s.wide, (s.oH - 1) * s.wide + s.oW
    room, grad, sums = np.zeros(size + simd.lanes(x), x.dtype), np.zeros(run + simd.lanes(x), x.dtype), np.zeros(table.size)
    for p in range(chunk, g.size // (s.oH * s.oW), s.channels):
        copy_plane(x, p // s.shared * s.H * s.W, s, room, 0)
        for i in range(s.oH):                                                  # zeros between the rows: the plane is one run
            copy_run(g, (p * s.oH + i) * s.oW, 1, grad, i * s.wide, s.oW)
        for t in range(table.size):
            sums[t] += dot(grad, room, table[t], run)
    for t in range(table.size):
        dw[chunk * table.size + t] = sums[t]


@jit.jit
def weights_kernel(x, g, table, dw, s, threads):
    parallel_for(weights_task, s.channels, threads, (x, g, table, dw, s))


# ---- launchers ------------------------------------------------------------------------------------------------------

def _seen(x_shape, kernel, size, stride, padding, dilation, multiplier):
    """(Planes, table): where the forward pass finds what a tap sees of a padded plane."""
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    high, wide = (n + r // s for n, r, s in zip(size, reach, stride, strict=True))
    s = Planes(*x_shape[2:], *stride, *padding, high, wide, 1, multiplier, x_shape[1] * multiplier, *size, 1, 1)
    taps = [(divmod(ky * dilation[0], stride[0]), divmod(kx * dilation[1], stride[1])) for ky, kx in np.ndindex(*kernel)]
    return s, np.array([((a * stride[1] + b) * high + row) * wide + column for (row, a), (column, b) in taps])


def _run(x, weights, table, phases, bias, out, relu, s):
    """Run the kernel; planes of one chunk make 64 kB of output."""
    if out.size:
        bias = np.empty(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
        each = max(1, jit.CHUNK // (s.oH * s.oW))
        planes_kernel(x.ravel(), weights.ravel(), table, np.array(phases), bias, out.ravel(), relu, s, each,
                      jit.threads(out.size * table.size // 4))
    return out


def depthwise(x, weight, bias, size, stride, padding, dilation, relu):
    """`conv` (N, O, *size) of x (N, C, H, W) with weight (O, 1, KH, KW), O a multiple of the C groups."""
    s, table = _seen(x.shape, weight.shape[2:], size, stride, padding, dilation, len(weight) // x.shape[1])
    out = np.empty((len(x), len(weight), *size), x.dtype)
    return _run(x, weight, table, [(0, 0, *size, 0, table.size)], bias, out, relu, s)


def depthwise_input_gradient(g, weight, size, bias, stride, padding, dilation, groups):
    """`conv_input_gradient` (N, C, *size) for g (N, O, OH, OW), C = groups."""
    kernel, multiplier = weight.shape[2:], len(weight) // groups
    found = [(phase, backward_taps(kernel, stride, dilation, padding, phase)) for phase in np.ndindex(*stride)]
    grids = {phase: [max(0, -(-(n - p) // s)) for n, p, s in zip(size, phase, stride, strict=True)] for phase, _ in found}
    steps = [t[:2] for _, taps in found for t in taps]
    low, far = np.min(steps, 0), np.max(steps, 0)
    high, wide = (int(-(-n // s) + b - a) for n, s, a, b in zip(size, stride, low, far, strict=True))
    table, order, phases = [], [], []
    for phase, taps in found:
        first = len(table)
        for r in range(multiplier):
            table += [(r * high + t[0] - low[0]) * wide + t[1] - low[1] for t in taps]
            order += [r * kernel[0] * kernel[1] + t[2] for t in taps]
        phases.append((*phase, *grids[phase], first, len(table)))
    weights = weight.reshape(groups, -1)[:, order]
    s = Planes(*g.shape[2:], 1, 1, int(-low[0]), int(-low[1]), high, wide, multiplier, 1, groups, *size, *stride)
    return _run(g, weights, np.array(table), phases, bias, np.empty((len(g), groups, *size), g.dtype), False, s)


def depthwise_weight_gradient(g, x, kernel, stride, padding, dilation):
    """`conv_weight_gradient` (O, 1, KH, KW) for g (N, O, OH, OW), O a multiple of the C groups of x."""
    s, table = _seen(x.shape, kernel, g.shape[2:], stride, padding, dilation, g.shape[1] // x.shape[1])
    dw = np.empty((g.shape[1], 1, *kernel), x.dtype)
    weights_kernel(x.ravel(), g.ravel(), table, dw.ravel(), s, jit.threads(g.size * table.size // 4))
    return dw
