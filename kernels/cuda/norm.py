"""Layer normalisation over rows (Ba, Kiros, Hinton 2016) and its gradient: one block of threads for each row (rows.py)."""

import math

from kernels.cuda.array import as_device, contiguous, empty, full
from kernels.cuda.compiler import cuda, kernel, typed
from kernels.cuda.reduce import sum
from kernels.cuda.rows import WARP, block_sum, floating, row_threads


@kernel
def layer_norm_kernel(x, weight, bias, y, mean, rstd, eps, columns):
    room = cuda.shared.array(WARP, x.dtype)
    start, count = cuda.blockIdx.x * columns, typed(x, columns)
    total = typed(x, 0)
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        total += x[start + i]
    centre = block_sum(total, room) / count
    squares = typed(x, 0)
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        squares += (x[start + i] - centre) * (x[start + i] - centre)
    scale = typed(x, 1) / math.sqrt(block_sum(squares, room) / count + eps)
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        y[start + i] = (x[start + i] - centre) * scale * weight[i] + bias[i]
    if cuda.threadIdx.x == 0:
        mean[cuda.blockIdx.x], rstd[cuda.blockIdx.x] = centre, scale


def layer_norm(x, weight, bias, eps):
    """(y (N, D), mean (N,), rstd (N,)) of x (N, D): y = (x - mean) rstd weight + bias, rstd = 1 / sqrt(variance + eps).

    Mean and variance (divided by D) are those of each row; weight and bias have shape (D,) or are None.
    Bytes: x read, y written; 8 FLOPs an element.
    """
    weight = _per_column("layer_norm", "weight", weight, x, 1)
    bias = _per_column("layer_norm", "bias", bias, x, 0)
    (N, D), dtype = x.shape, floating("layer_norm", x, weight, bias)
    y, mean, rstd = empty(x.shape, dtype), empty(N, dtype), empty(N, dtype)
    layer_norm_kernel[N, row_threads(D)](contiguous(x), weight, bias, y, mean, rstd, dtype.type(eps), D)
    return y, mean, rstd


@kernel
def layer_norm_backward_kernel(g, x, mean, rstd, weight, dx, along, columns):
    """dx, and along = g (x - mean) rstd, whose sum over the rows is the weight's gradient."""
    room = cuda.shared.array(WARP, x.dtype)
    start, count = cuda.blockIdx.x * columns, typed(x, columns)
    centre, scale = mean[cuda.blockIdx.x], rstd[cuda.blockIdx.x]
    total, slope = typed(x, 0), typed(x, 0)
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        h = g[start + i] * weight[i]
        total += h
        slope += h * (x[start + i] - centre)
    shift = block_sum(total, room) / count
    slope = block_sum(slope, room) * scale * scale / count
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        distance = x[start + i] - centre
        dx[start + i] = scale * (g[start + i] * weight[i] - shift - distance * slope)
        along[start + i] = g[start + i] * distance * scale


def layer_norm_backward(g, x, mean, rstd, weight):
    """(dx (N, D), dweight (D,), dbias (D,)) for g (N, D), the gradient of y, and the mean and rstd that layer_norm returned.

    With z = (x - mean) rstd and h = g weight: dx = rstd (h - mean(h) - z mean(h z)), dweight = sum_n g z, dbias = sum_n g.
    Bytes: g and x read, dx and g z written, g z and g read once more for the sums.
    """
    as_device("layer_norm_backward", g, x, mean, rstd)
    if g.shape != x.shape or mean.shape != x.shape[:1] or rstd.shape != x.shape[:1]:
        raise ValueError(f"layer_norm_backward: g, mean and rstd have shapes {g.shape}, {mean.shape} and {rstd.shape}; "
                         f"{x.shape}, {x.shape[:1]} and {x.shape[:1]} fit x")
    weight = _per_column("layer_norm_backward", "weight", weight, x, 1)
    (N, D), dtype, g = x.shape, floating("layer_norm_backward", g, x, mean, rstd, weight), contiguous(g)
    dx, along = empty(x.shape, dtype), empty(x.shape, dtype)
    layer_norm_backward_kernel[N, row_threads(D)](g, contiguous(x), contiguous(mean), contiguous(rstd), weight, dx, along, D)
    return dx, sum(along, (0,)), sum(g, (0,))


def _per_column(name, label, values, x, default):
    """`values` as a contiguous array (D,) beside x (N, D), filled with `default` where there are none."""
    as_device(name, x, values)
    if x.ndim != 2:
        raise ValueError(f"{name}: x must have shape (N, D), got {x.shape}")
    if values is None:
        return full(x.shape[1], default, x.dtype)
    if values.shape != x.shape[1:]:
        raise ValueError(f"{name}: {label} has shape {values.shape}, {x.shape[1:]} fits x of shape {x.shape}")
    return contiguous(values)
