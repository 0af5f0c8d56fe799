"""Batch normalisation (Ioffe and Szegedy 2015), group normalisation (Wu and He 2018), and their gradients.

Both are one kernel on x seen as (N, C, S, L): mean and variance belong to each of the C, over N runs of S L numbers that lie together;
weight and bias to each of the C S, over N runs of L. Batch normalisation has S = 1. Group normalisation has N = 1, every group of every
example is one of the C, and S channels share it. Short runs of a batch (features without pixels: L = 1) would leave most of a vector
empty: there, many channels are handled together, column by column.

A thread takes whole channels, so no sum depends on the number of threads: a few neighbouring ones, because 16 KiB that lie together come
faster from memory than 1 KiB here and there (forward and backward over (64, 128, 16, 16) take 2.2 ms instead of 3.5). What a chunk
reads twice may still be in the second-level cache (1 MB).

Sums are float64, of differences from the channel's first number f: since f is one of the n numbers, (mean - f)^2 is at most n times the
variance, and subtracting it from the mean of (x - f)^2 loses at most log10(n) of 16 digits, however far from 0 the numbers lie.

Batch normalisation takes the activation behind it along: a `slope` for numbers below 0, which is 0 for ReLU and 1 for none. Backward,
the sign of y is computed again from x, in the same words as forward: that is cheaper than to keep y and to read it.
"""

import math

import numpy as np

from kernels import jit
from kernels.cpu.rows import row_sum
from kernels.jit import full_width, inner, like, parallel_for

SHORT = 32         # runs of fewer numbers are handled as columns
WIDTH = 128        # columns that are handled together
TOGETHER = 4096    # numbers of neighbouring channels that are read together


@inner
def finish_moments(total, squares, first, count):
    """Mean and variance from the sums of x - first and (x - first)^2 over `count` numbers."""
    offset = total / count
    variance = squares / count - offset * offset
    return first + offset, 0.0 if variance < 0.0 else variance              # a NaN stays one


@inner
def bend(value, slope):
    """value above 0, slope * value below; with slope 0 no infinity becomes NaN."""
    return value if value > 0 else like(value, 0) if slope == 0 and value <= 0 else slope * value


@inner
def bend_backward(g, value, slope):
    """The gradient of bend at `value`, times g."""
    return g if value > 0 else like(g, 0) if slope == 0 else slope * g


@inner
def set_scales(scale, weight, var, eps):
    """scale = weight / sqrt(var + eps), with as many weights to each channel as there are."""
    shared = weight.size // var.size
    for k in range(scale.size):
        scale[k] = weight[k] / math.sqrt(var[k // shared] + eps)


@inner
def finish_products(total, along, var, weight, dweight, dbias, shift, tilt, eps, count):
    """What the sums of g and of g (x - mean) with each weight give: the gradients dweight and dbias, and the coefficients of
    dx = g scale - shift - (x - mean) tilt, shift and tilt for each channel."""
    shared = weight.size // var.size
    for c in range(var.size):
        rstd, shifts, tilts = 1.0 / math.sqrt(var[c] + eps), 0.0, 0.0
        for k in range(c * shared, (c + 1) * shared):
            dweight[k], dbias[k] = rstd * along[k], total[k]
            shifts += weight[k] * total[k]
            tilts += weight[k] * along[k]
        shift[c], tilt[c] = rstd * shifts / count, rstd * rstd * rstd * tilts / count


# ---- long runs ------------------------------------------------------------------------------------------------------

# Runs go by places in whole arrays, not by slices: each slice counts a reference to its array, and threads that count on the same array
# at once wait for each other, which made group normalisation three times as slow. Unsigned places need no test for negative ones.

@inner(sums=True)
def run_moments(x, start, stop, first):
    """(sum_i (x_i - first), sum_i (x_i - first)^2) over x[start:stop]"""
    total, squares = 0.0, 0.0
    for i in range(np.uint64(start), np.uint64(stop)):
        distance = np.float64(x[i]) - first
        total += distance
        squares += distance * distance
    return total, squares


@inner
def runs_statistics(x, start, stride, run, mean, var):
    """Mean and variance of neighbouring channels, whose first runs begin at `start`."""
    total, squares = np.zeros(mean.size), np.zeros(mean.size)
    for at in range(start, x.size, stride):
        for c in range(mean.size):
            sums = run_moments(x, at + c * run, at + (c + 1) * run, np.float64(x[start + c * run]))
            total[c] += sums[0]
            squares[c] += sums[1]
    for c in range(mean.size):
        mean[c], var[c] = finish_moments(total[c], squares[c], x[start + c * run], x.size // stride * run)


@inner
def runs_task(chunk, x, mean, var, weight, bias, y, eps, slope, training, length, group):
    full_width()
    shared, stride = weight.size // mean.size, weight.size * length
    own, weights = slice(chunk * group, (chunk + 1) * group), slice(chunk * group * shared, (chunk + 1) * group * shared)
    start, mean, var, weight, bias = weights.start * length, mean[own], var[own], weight[weights], bias[weights]
    if training:
        runs_statistics(x, start, stride, shared * length, mean, var)
    scale = np.empty(weight.size, x.dtype)
    set_scales(scale, weight, var, eps)
    for at in range(start, x.size, stride):
        for k in range(scale.size):
            centre, factor, shift = mean[k // shared], scale[k], bias[k]
            for i in range(np.uint64(at + k * length), np.uint64(at + (k + 1) * length)):
                y[i] = bend((x[i] - centre) * factor + shift, slope)


@jit.jit
def batch_norm_runs(x, mean, var, weight, bias, y, eps, slope, training, length, group, threads):
    parallel_for(runs_task, (mean.size + group - 1) // group, threads, (x, mean, var, weight, bias, y, eps, slope, training, length, group))


@inner(sums=True)
def run_products(g, x, start, stop, mean, scale, bias, slope):
    """(sum_i g_i, sum_i g_i (x_i - mean)) from start to stop, where g is the gradient before the activation."""
    total, along = 0.0, 0.0
    for i in range(np.uint64(start), np.uint64(stop)):
        distance = x[i] - mean
        before = np.float64(bend_backward(g[i], distance * scale + bias, slope))
        total += before
        along += before * np.float64(distance)
    return total, along


@inner
def runs_backward_task(chunk, g, x, mean, var, weight, bias, dx, dweight, dbias, eps, slope, length, group):
    full_width()
    shared, stride = weight.size // mean.size, weight.size * length
    own, weights = slice(chunk * group, (chunk + 1) * group), slice(chunk * group * shared, (chunk + 1) * group * shared)
    start, mean, var, weight, bias = weights.start * length, mean[own], var[own], weight[weights], bias[weights]
    total, along, scale = np.zeros(weight.size), np.zeros(weight.size), np.empty(weight.size, x.dtype)
    set_scales(scale, weight, var, eps)
    for at in range(start, x.size, stride):
        for k in range(weight.size):
            run = at + k * length
            sums = run_products(g, x, run, run + length, mean[k // shared], scale[k], bias[k], slope)
            total[k] += sums[0]
            along[k] += sums[1]
    shift, tilt, count = np.empty(mean.size, x.dtype), np.empty(mean.size, x.dtype), x.size // stride * shared * length
    finish_products(total, along, var, weight, dweight[weights], dbias[weights], shift, tilt, eps, count)
    for at in range(start, x.size, stride):
        for k in range(weight.size):
            run, c = at + k * length, k // shared
            centre, factor, above, less, along_z = mean[c], scale[k], bias[k], shift[c], tilt[c]
            for i in range(np.uint64(run), np.uint64(run + length)):
                distance = x[i] - centre
                dx[i] = bend_backward(g[i], distance * factor + above, slope) * factor - less - distance * along_z


@jit.jit
def batch_norm_runs_backward(g, x, mean, var, weight, bias, dx, dweight, dbias, eps, slope, length, group, threads):
    parallel_for(runs_backward_task, (mean.size + group - 1) // group, threads,
                 (g, x, mean, var, weight, bias, dx, dweight, dbias, eps, slope, length, group))


# ---- short runs, S = 1 ----------------------------------------------------------------------------------------------

@inner
def columns_statistics(x, start, stride, length, mean, var):
    """Mean and variance of neighbouring channels, whose columns begin at `start`."""
    first, total, squares = np.empty(mean.size * length), np.zeros(mean.size * length), np.zeros(mean.size * length)
    for i in range(first.size):
        first[i] = x[start + i // length * length]
    for at in range(start, x.size, stride):
        row = x[at:at + first.size]
        for i in range(row.size):
            distance = row[i] - first[i]
            total[i] += distance
            squares[i] += distance * distance
    for c in range(mean.size):
        part = slice(c * length, (c + 1) * length)
        mean[c], var[c] = finish_moments(row_sum(total[part]), row_sum(squares[part]), first[c * length], x.size // stride * length)


@inner
def set_columns(centre, scale, bias, mean, var, weight, biases, eps, length):
    """What belongs to a channel beside each of its columns."""
    for i in range(centre.size):
        c = i // length
        centre[i], scale[i], bias[i] = mean[c], weight[c] / math.sqrt(var[c] + eps), biases[c]


@inner
def columns_task(chunk, x, mean, var, weight, bias, y, eps, slope, training, length, group):
    full_width()
    stride, start, own = mean.size * length, chunk * group * length, slice(chunk * group, (chunk + 1) * group)
    mean, var, weight, bias = mean[own], var[own], weight[own], bias[own]
    if training:
        columns_statistics(x, start, stride, length, mean, var)
    columns = np.empty((3, mean.size * length), x.dtype)
    centre, scale, shift = columns[0], columns[1], columns[2]
    set_columns(centre, scale, shift, mean, var, weight, bias, eps, length)
    for at in range(start, x.size, stride):
        row, out = x[at:at + centre.size], y[at:at + centre.size]
        for i in range(out.size):
            out[i] = bend((row[i] - centre[i]) * scale[i] + shift[i], slope)


@jit.jit
def batch_norm_columns(x, mean, var, weight, bias, y, eps, slope, training, length, group, threads):
    parallel_for(columns_task, (mean.size + group - 1) // group, threads,
                 (x, mean, var, weight, bias, y, eps, slope, training, length, group))


@inner
def columns_products(g, x, start, stride, centre, scale, bias, slope, total, along):
    """total = sum_n g, along = sum_n g (x - centre) of each of some neighbouring columns, g before the activation."""
    for at in range(start, x.size, stride):
        grad, row = g[at:at + centre.size], x[at:at + centre.size]
        for i in range(row.size):
            distance = row[i] - centre[i]
            before = np.float64(bend_backward(grad[i], distance * scale[i] + bias[i], slope))
            total[i] += before
            along[i] += before * np.float64(distance)


@inner
def columns_backward_task(chunk, g, x, mean, var, weight, bias, dx, dweight, dbias, eps, slope, length, group):
    full_width()
    stride, start, own = mean.size * length, chunk * group * length, slice(chunk * group, (chunk + 1) * group)
    mean, var, weight, bias = mean[own], var[own], weight[own], bias[own]
    columns, each, sums = np.empty((5, mean.size * length), x.dtype), np.empty((2, mean.size), x.dtype), np.zeros((4, mean.size * length))
    centre, scale, above, shift, tilt = columns[0], columns[1], columns[2], columns[3], columns[4]
    set_columns(centre, scale, above, mean, var, weight, bias, eps, length)
    columns_products(g, x, start, stride, centre, scale, above, slope, sums[0], sums[1])
    total, along = sums[2], sums[3]
    for i in range(centre.size):
        total[i // length] += sums[0, i]
        along[i // length] += sums[1, i]
    finish_products(total, along, var, weight, dweight[own], dbias[own], each[0], each[1], eps, x.size // stride * length)
    for i in range(centre.size):
        shift[i], tilt[i] = each[0, i // length], each[1, i // length]
    for at in range(start, x.size, stride):
        part = slice(at, at + centre.size)
        grad, row, out = g[part], x[part], dx[part]
        for i in range(out.size):
            distance = row[i] - centre[i]
            out[i] = bend_backward(grad[i], distance * scale[i] + above[i], slope) * scale[i] - shift[i] - distance * tilt[i]


@jit.jit
def batch_norm_columns_backward(g, x, mean, var, weight, bias, dx, dweight, dbias, eps, slope, length, group, threads):
    parallel_for(columns_backward_task, (mean.size + group - 1) // group, threads,
                 (g, x, mean, var, weight, bias, dx, dweight, dbias, eps, slope, length, group))


# ---- launchers ------------------------------------------------------------------------------------------------------

def batch_norm(x, weight, bias, eps, mean=None, var=None, slope=1.0):
    """(y, mean (C,), var (C,)) of x (N, C, ...): y = (x - mean) / sqrt(var + eps) weight + bias for each channel.

    Mean and variance (divided by the count) are the channel's own in x, or those given: running statistics in use. weight and bias have
    shape (C,) or are None. What of y is below 0 is multiplied by `slope`: 0 for ReLU, 1 for no activation. Bytes: x read twice (once
    where statistics are given, or a chunk of channels fits the cache), y written; 8 FLOPs an element.
    """
    channels = _channels("batch_norm", x, weight, bias, mean, var)
    training = mean is None
    mean, var = np.empty((2, channels), x.dtype) if training else (np.ascontiguousarray(mean), np.ascontiguousarray(var))
    weight, bias = _filled(weight, 1, channels, x), _filled(bias, 0, channels, x)
    return _forward(x, mean, var, weight, bias, eps, slope, training), mean, var


def batch_norm_backward(g, x, mean, var, weight, eps, bias=None, slope=1.0):
    """(dx, dweight (C,), dbias (C,)) for g, the gradient of y, where mean and var are those that batch_norm found in x.

    With z = (x - mean) rstd, rstd = 1 / sqrt(var + eps) and h = g weight: dx = rstd (h - mean(h) - z mean(h z)) with means over each
    channel, dweight = sum(g z), dbias = sum(g). Where y was below 0, g is first multiplied by `slope`; for that the sign of y is computed
    again, with batch_norm's bias. Bytes: g and x read twice (once where a chunk of both fits the cache), dx written.
    """
    channels = _channels("batch_norm_backward", x, weight, bias, mean, var)
    return _backward(g, x, mean, var, _filled(weight, 1, channels, x), _filled(bias, 0, channels, x), eps, slope)


def group_norm(x, groups, weight, bias, eps):
    """(y, mean (N, groups), var (N, groups)) of x (N, C, ...): y = (x - mean) / sqrt(var + eps) weight + bias.

    Mean and variance (divided by the count) are those of each example's C / groups neighbouring channels together; weight and bias of
    each channel have shape (C,) or are None. Bytes: x read once (twice where a group does not fit the cache), y written.
    """
    channels = _channels("group_norm", x, weight, bias)
    if channels % groups:
        raise ValueError(f"group_norm: x {x.shape} has {channels} channels, which {groups} groups do not divide")
    mean, var = np.empty((2, len(x), groups), x.dtype)
    weight, bias = (np.tile(_filled(v, fill, channels, x), len(x)) for v, fill in ((weight, 1), (bias, 0)))
    y = _forward(x, mean.ravel(), var.ravel(), weight, bias, eps, 1.0, True)
    return y, mean, var


def group_norm_backward(g, x, mean, var, weight, eps):
    """(dx, dweight (C,), dbias (C,)) for g, the gradient of y, and the mean and var (N, groups) that group_norm returned.

    The formulas are those of batch_norm_backward, with means over each group. Bytes: g and x read once (twice where both of a group do
    not fit the cache), dx written.
    """
    channels = _channels("group_norm_backward", x, weight, None)
    weight = np.tile(_filled(weight, 1, channels, x), len(x))
    dx, dweight, dbias = _backward(g, x, mean, var, weight, weight, eps, 1.0)          # without an activation no bias matters
    return dx, dweight.reshape(len(x), channels).sum(0), dbias.reshape(len(x), channels).sum(0)


def _forward(x, mean, var, weight, bias, eps, slope, training):
    y = np.empty(x.shape, x.dtype)
    if x.size:
        columns, *plan = _plan(x, mean.size, weight.size)
        kernel = batch_norm_columns if columns else batch_norm_runs
        kernel(x.ravel(), mean, var, weight, bias, y.reshape(-1), float(eps), x.dtype.type(slope), training, *plan)
    elif training:
        mean.fill(np.nan)
        var.fill(np.nan)
    return y


def _backward(g, x, mean, var, weight, bias, eps, slope):
    if g.shape != x.shape:
        raise ValueError(f"the gradient of a normalisation has shape {g.shape}, its input {x.shape}; they must be equal")
    dx, (dweight, dbias) = np.empty(x.shape, x.dtype), np.zeros((2, weight.size), x.dtype)
    if x.size:
        columns, *plan = _plan(x, mean.size, weight.size)
        kernel = batch_norm_columns_backward if columns else batch_norm_runs_backward
        kernel(g.ravel(), x.ravel(), mean.ravel(), var.ravel(), weight, bias, dx.reshape(-1), dweight, dbias, float(eps),
               x.dtype.type(slope), *plan)
    return dx, dweight, dbias


def _plan(x, channels, weights):
    """(whether to go by columns, L, channels in a chunk, threads) for C = channels and C S = weights."""
    length = math.prod(x.shape[2:])
    if length < SHORT and weights == channels:
        return True, length, max(1, WIDTH // length), jit.threads(x.size)
    run = weights // channels * length
    together = TOGETHER if x.size > weights * length else 4 * TOGETHER       # N = 1: they lie together anyway; chunks that cost little
    return False, length, max(1, min(together // run, channels // 8)), jit.threads(x.size)       # 8 chunks: work for several threads


def _channels(name, x, *per_channel):
    """C of x (N, C, ...), with which the shapes of weight, bias, mean and variance, where there are any, must agree."""
    if x.ndim < 2:
        raise ValueError(f"{name}: x must have shape (N, C, ...), got {x.shape}")
    for label, values in zip(("weight", "bias", "mean", "var"), per_channel, strict=False):
        if values is not None and values.shape != x.shape[1:2]:
            raise ValueError(f"{name}: {label} has shape {values.shape}, {x.shape[1:2]} fits x of shape {x.shape}")
    return x.shape[1]


def _filled(values, default, channels, x):
    """`values` as a contiguous array (C,) of x's type, `default` where there are none."""
    return np.full(channels, default, x.dtype) if values is None else np.ascontiguousarray(values, x.dtype)
