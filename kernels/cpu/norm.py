"""Layer normalisation over rows (Ba, Kiros, Hinton 2016) and its gradient.

Rows go to the threads in fixed chunks. The gradients of weight and bias are summed within each chunk, row after row, and
the chunks' sums are then added in order, so that no bit depends on the number of threads.
"""

import math

import numpy as np

from kernels import jit
from kernels.cpu.rows import row_chunks, row_sum
from kernels.jit import inner, like, parallel_for


@inner(sums=True)
def row_squares(row, mean):
    """sum_i (row_i - mean)^2"""
    total = like(mean, 0)
    for i in range(row.size):
        total += (row[i] - mean) * (row[i] - mean)
    return total


@inner
def layer_norm_task(chunk, x, weight, bias, y, mean, rstd, eps, rows):
    columns = weight.size
    count = like(eps, columns)
    for n in range(chunk * rows, min((chunk + 1) * rows, mean.size)):
        part = slice(n * columns, (n + 1) * columns)
        row, out = x[part], y[part]
        centre = row_sum(row) / count
        scale = like(eps, 1) / math.sqrt(row_squares(row, centre) / count + eps)
        for i in range(out.size):
            out[i] = (row[i] - centre) * scale * weight[i] + bias[i]
        mean[n], rstd[n] = centre, scale


@jit.jit
def layer_norm_kernel(x, weight, bias, y, mean, rstd, eps, rows, chunks, threads):
    parallel_for(layer_norm_task, chunks, threads, (x, weight, bias, y, mean, rstd, eps, rows))


def layer_norm(x, weight, bias, eps):
    """(y (N, D), mean (N,), rstd (N,)) of x (N, D): y = (x - mean) rstd weight + bias, rstd = 1 / sqrt(variance + eps).

    Mean and variance (divided by D) are those of each row; weight and bias have shape (D,) or are None.
    Bytes: x read, y written; 8 FLOPs an element.
    """
    weight = _per_column("layer_norm", "weight", weight, x, 1)
    bias = _per_column("layer_norm", "bias", bias, x, 0)
    y, mean, rstd = np.empty(x.shape, x.dtype), np.empty(len(x), x.dtype), np.empty(len(x), x.dtype)
    layer_norm_kernel(x.ravel(), weight, bias, y.reshape(-1), mean, rstd, x.dtype.type(eps), *row_chunks(*x.shape))
    return y, mean, rstd


@inner(sums=True)
def gradient_sums(grad, row, weight, mean):
    """(sum_i g_i w_i, sum_i g_i w_i (x_i - mean)) of one row."""
    total, along = like(mean, 0), like(mean, 0)
    for i in range(grad.size):
        total += grad[i] * weight[i]
        along += grad[i] * weight[i] * (row[i] - mean)
    return total, along


@inner
def layer_norm_backward_task(chunk, g, x, mean, rstd, weight, dx, dweights, dbiases, rows):
    columns, dweight, dbias = weight.size, dweights[chunk], dbiases[chunk]
    count = like(mean[0], columns)
    for n in range(chunk * rows, min((chunk + 1) * rows, mean.size)):
        part = slice(n * columns, (n + 1) * columns)
        grad, row, out = g[part], x[part], dx[part]
        centre, scale = mean[n], rstd[n]
        total, along = gradient_sums(grad, row, weight, centre)
        shift, slope = total / count, along * scale * scale / count
        for i in range(out.size):
            out[i] = scale * (grad[i] * weight[i] - shift - (row[i] - centre) * slope)
        for i in range(out.size):
            dweight[i] += grad[i] * (row[i] - centre) * scale
        for i in range(out.size):
            dbias[i] += grad[i]


@inner
def add_rows(table):
    """The sum of all rows, top to bottom, into the first."""
    first = table[0]
    for n in range(1, len(table)):
        row = table[n]
        for i in range(first.size):
            first[i] += row[i]


@jit.jit
def layer_norm_backward_kernel(g, x, mean, rstd, weight, dx, dweights, dbiases, rows, chunks, threads):
    parallel_for(layer_norm_backward_task, chunks, threads, (g, x, mean, rstd, weight, dx, dweights, dbiases, rows))
    add_rows(dweights)
    add_rows(dbiases)


def layer_norm_backward(g, x, mean, rstd, weight):
    """(dx (N, D), dweight (D,), dbias (D,)) for g (N, D), the gradient of y, and the mean and rstd that layer_norm returned.

    With z = (x - mean) rstd and h = g weight: dx = rstd (h - mean(h) - z mean(h z)), dweight = sum_n g z, dbias = sum_n g.
    Bytes: g and x read, dx written, and a sum of D numbers for each chunk.
    """
    if g.shape != x.shape or mean.shape != x.shape[:1] or rstd.shape != x.shape[:1]:
        raise ValueError(f"layer_norm_backward: g, mean and rstd have shapes {g.shape}, {mean.shape} and {rstd.shape}; "
                         f"{x.shape}, {x.shape[:1]} and {x.shape[:1]} fit x")
    weight = _per_column("layer_norm_backward", "weight", weight, x, 1)
    rows, _, threads = row_chunks(*x.shape)
    rows = max(rows, 16)                                           # wide rows: keep the chunks' sums far smaller than x
    chunks = (len(x) + rows - 1) // rows
    dx = np.empty(x.shape, x.dtype)
    dweights, dbiases = np.zeros((2, max(1, chunks), weight.size), x.dtype)
    layer_norm_backward_kernel(g.ravel(), x.ravel(), mean.ravel(), rstd.ravel(), weight, dx.reshape(-1), dweights, dbiases,
                               rows, chunks, threads)
    return dx, dweights[0].copy(), dbiases[0].copy()


def _per_column(name, label, values, x, default):
    """`values` as a contiguous array (D,) beside x (N, D), filled with `default` where there are none."""
    if x.ndim != 2:
        raise ValueError(f"{name}: x must have shape (N, D), got {x.shape}")
    if values is None:
        return np.full(x.shape[1], default, x.dtype)
    if values.shape != x.shape[1:]:
        raise ValueError(f"{name}: {label} has shape {values.shape}, {x.shape[1:]} fits x of shape {x.shape}")
    return np.ascontiguousarray(values, x.dtype)
