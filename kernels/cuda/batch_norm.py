"""Batch normalisation (Ioffe & Szegedy 2015) and group normalisation (Wu & He 2018) over (N, C, ...), and their gradients.

Both norms are one: the numbers of an array are parted into sets, each of which gets mean 0 and variance 1. The sets of a batch norm are
the channels, those of a group norm some neighbouring channels of one example. A block of threads sums over a set (rows.py), in two passes
for the variance, so that nothing cancels; then each thread does its own numbers. Where number i of set s lies:

    batch    (i // L * C + s) * L + i % L      N * L numbers of L = H * W pixels in each of N examples
    group    s * D + i                         D numbers on end; the formula above with L = D, C = 1
"""

import math

from kernels.cuda.array import as_device, blocks, contiguous, empty, full
from kernels.cuda.compiler import cuda, kernel, typed
from kernels.cuda.reduce import sum
from kernels.cuda.rows import WARP, block_sum, floating

THREADS = 256


@kernel
def moments_kernel(x, mean, var, n, C, L):
    """Mean and variance (divided by n) of each set."""
    room = cuda.shared.array(WARP, x.dtype)
    s, count, total = cuda.blockIdx.x, typed(x, n), typed(x, 0)
    for i in range(cuda.threadIdx.x, n, cuda.blockDim.x):
        total += x[(i // L * C + s) * L + i % L]
    centre = block_sum(total, room) / count
    squares = typed(x, 0)
    for i in range(cuda.threadIdx.x, n, cuda.blockDim.x):
        distance = x[(i // L * C + s) * L + i % L] - centre
        squares += distance * distance
    squares = block_sum(squares, room)
    if cuda.threadIdx.x == 0:
        mean[s], var[s] = centre, squares / count


@kernel
def normalise_kernel(x, mean, var, weight, bias, y, eps, slope, n, C, L, S):
    """y = (x - mean) / sqrt(var + eps) weight + bias, times `slope` below 0. Channels have L numbers on end, the examples C channels and
    S sets: S = 0 where the channels are the sets, for all examples."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        channel = i // L % C
        s = channel if S == 0 else i // L // C * S + channel * S // C
        value = (x[i] - mean[s]) / math.sqrt(var[s] + eps) * weight[channel] + bias[channel]
        y[i] = value * slope if value < 0 else value


@kernel
def gradient_kernel(g, x, mean, var, weight, bias, h, along, eps, slope, n, C, L, S):
    """For each number h = g, times `slope` where z weight + bias is not above 0, and along = h z, with z = (x - mean) / sqrt(var + eps)."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        channel = i // L % C
        s = channel if S == 0 else i // L // C * S + channel * S // C
        z = (x[i] - mean[s]) / math.sqrt(var[s] + eps)
        arrived = g[i] if z * weight[channel] + bias[channel] > 0 else slope * g[i]
        h[i], along[i] = arrived, arrived * z


@kernel
def input_gradient_kernel(g, x, mean, var, weight, dx, eps, n, C, L, channels, inner, groups):
    """dx = rstd (h - mean(h) - z mean(h z)) over each set, with h = g weight: a block for each set, whose channels are s for a batch norm
    (groups = 0), or those of group s % groups."""
    room = cuda.shared.array(WARP, x.dtype)
    s, count = cuda.blockIdx.x, typed(x, n)
    rstd, total, slope = typed(x, 1) / math.sqrt(var[s] + eps), typed(x, 0), typed(x, 0)
    first = s if groups == 0 else s % groups * channels
    for i in range(cuda.threadIdx.x, n, cuda.blockDim.x):
        at = (i // L * C + s) * L + i % L
        h = g[at] * weight[first if groups == 0 else first + i // inner]
        total += h
        slope += h * (x[at] - mean[s])
    total, slope = block_sum(total, room) / count, block_sum(slope, room) * rstd * rstd / count
    for i in range(cuda.threadIdx.x, n, cuda.blockDim.x):
        at = (i // L * C + s) * L + i % L
        h = g[at] * weight[first if groups == 0 else first + i // inner]
        dx[at] = rstd * (h - total - (x[at] - mean[s]) * slope)


def batch_norm(x, weight, bias, eps, mean=None, var=None, slope=1.0):
    """(y, mean (C,), var (C,)) of x (N, C, ...): y = (x - mean) / sqrt(var + eps) weight + bias, then y slope where y < 0.

    mean and var (divided by the count) are those of each channel, or given; weight and bias have shape (C,) or are None.
    Bytes: x three times (once with given statistics), y written.
    """
    x, weight, bias, L = _prepare("batch_norm", x, weight, bias)
    as_device("batch_norm", mean, var)
    N, C = x.shape[:2]
    if mean is None:
        mean, var = empty(C, x.dtype), empty(C, x.dtype)
        moments_kernel[C, THREADS](x, mean, var, N * L, C, L)
    return _normalised(x, mean, var, weight, bias, eps, slope, L, 0), mean, var


def batch_norm_backward(g, x, mean, var, weight, eps, bias=None, slope=1.0):
    """(dx, dweight (C,), dbias (C,)) for g, where mean and var are those of x: with z = (x - mean) rstd and h = g weight,

    dx = rstd (h - mean(h) - z mean(h z)) with means over each channel, dweight = sum(g z), dbias = sum(g); where y = z weight + bias
    is not above 0, g is first multiplied by `slope`. Bytes: g and x three times, dx and two arrays for the sums written.
    """
    x, weight, bias, L = _prepare("batch_norm_backward", x, weight, bias)
    return _backward("batch_norm_backward", g, x, mean, var, weight, bias, eps, slope, L, 0)


def group_norm(x, groups, weight, bias, eps):
    """(y, mean (N, groups), var (N, groups)): as batch_norm, with statistics of each example's C / groups neighbouring channels."""
    x, weight, bias, L = _prepare("group_norm", x, weight, bias)
    N, C = x.shape[:2]
    if C % groups:
        raise ValueError(f"group_norm: x {x.shape} has {C} channels, which {groups} groups do not divide")
    mean, var = empty((N, groups), x.dtype), empty((N, groups), x.dtype)
    D = C // groups * L
    moments_kernel[mean.size, THREADS](x, mean, var, D, 1, D)
    return _normalised(x, mean, var, weight, bias, eps, 1.0, L, groups), mean, var


def group_norm_backward(g, x, mean, var, weight, eps):
    """(dx, dweight (C,), dbias (C,)): as batch_norm_backward, with means over each group."""
    x, weight, bias, L = _prepare("group_norm_backward", x, weight, None)
    return _backward("group_norm_backward", g, x, mean, var, weight, bias, eps, 1.0, L, mean.shape[1])


def _prepare(name, x, weight, bias):
    """(x, weight and bias, contiguous and there; numbers of a channel of one example)."""
    as_device(name, x, weight, bias)
    floating(name, x, weight, bias)
    if x.ndim < 2:
        raise ValueError(f"{name}: x must have shape (N, C, ...), got {x.shape}")
    for label, values in (("weight", weight), ("bias", bias)):
        if values is not None and values.shape != x.shape[1:2]:
            raise ValueError(f"{name}: {label} has shape {values.shape}, {x.shape[1:2]} fits x of shape {x.shape}")
    weight = full(x.shape[1], 1, x.dtype) if weight is None else contiguous(weight)
    bias = full(x.shape[1], 0, x.dtype) if bias is None else contiguous(bias)
    return contiguous(x), weight, bias, math.prod(x.shape[2:])


def _normalised(x, mean, var, weight, bias, eps, slope, L, sets):
    y, number = empty(x.shape, x.dtype), x.dtype.type
    normalise_kernel[blocks(x.size), THREADS](x, contiguous(mean), contiguous(var), weight, bias, y, number(eps), number(slope), x.size,
                                              x.shape[1], L, sets)
    return y


def _backward(name, g, x, mean, var, weight, bias, eps, slope, L, groups):
    as_device(name, g, mean, var)
    if g.shape != x.shape:
        raise ValueError(f"{name}: the gradient has shape {g.shape}, its input {x.shape}; they must be equal")
    (N, C), number, mean, var = x.shape[:2], x.dtype.type, contiguous(mean), contiguous(var)
    h, along, dx = (empty(x.shape, x.dtype) for _ in range(3))
    gradient_kernel[blocks(x.size), THREADS](contiguous(g), x, mean, var, weight, bias, h, along, number(eps), number(slope), x.size, C, L,
                                             groups)
    D = C // groups * L if groups else L
    n, spread = (D, 1) if groups else (N * L, C)
    if x.size:
        input_gradient_kernel[mean.size, THREADS](h, x, mean, var, weight, dx, number(eps), n, spread, D, C // max(1, groups), max(1, L),
                                                  groups)
    dims = (0, *range(2, x.ndim))
    return dx, sum(along, dims), sum(h, dims)
