"""Softmax and log-softmax along the last dimension, and their gradients.

Rows go to the threads in chunks of about jit.CHUNK elements, which stay in the second-level cache between the passes: one over
each row for its maximum and the difference from it, one over the whole chunk for exp (so that short rows fill the SIMD lanes
too), one over each row for its sum and the scaling. Memory sees each input read once and the output written once.
"""

import numpy as np

from kernels import jit
from kernels.cpu.rows import exp_all, row_chunks, row_dot, row_max, row_sum
from kernels.jit import inner, like, parallel_for
from kernels.scalar import log


@inner
def subtract_row_max(x, y, columns):
    """y = x minus the maximum of its row."""
    for start in range(0, y.size, columns):
        row, out = x[start:start + columns], y[start:start + columns]
        highest = row_max(row)
        for i in range(out.size):
            out[i] = row[i] - highest


# ---- softmax --------------------------------------------------------------------------------------------------------

@inner
def softmax_task(chunk, x, y, rows, columns):
    part = slice(chunk * rows * columns, (chunk + 1) * rows * columns)
    x, y = x[part], y[part]
    subtract_row_max(x, y, columns)
    exp_all(y)
    for start in range(0, y.size, columns):
        out = y[start:start + columns]
        scale = like(out[0], 1) / row_sum(out)
        for i in range(out.size):
            out[i] *= scale


@jit.jit
def softmax_kernel(x, y, columns, rows, chunks, threads):
    parallel_for(softmax_task, chunks, threads, (x, y, rows, columns))


def softmax(x):
    """exp(x_i) / sum_j exp(x_j) along the last dimension, from x minus its maximum so that nothing overflows.

    Shape: any -> the same. Bytes: x read, y written; about 25 FLOPs an element, most of them in exp.
    """
    return _over_rows(softmax_kernel, x)


@inner
def softmax_backward_task(chunk, g, y, dx, rows, columns):
    for row in range(chunk * rows, min((chunk + 1) * rows, dx.size // columns)):
        part = slice(row * columns, (row + 1) * columns)
        grad, out, result = g[part], y[part], dx[part]
        dot = row_dot(grad, out)
        for i in range(result.size):
            result[i] = out[i] * (grad[i] - dot)


@jit.jit
def softmax_backward_kernel(g, y, dx, columns, rows, chunks, threads):
    parallel_for(softmax_backward_task, chunks, threads, (g, y, dx, rows, columns))


def softmax_backward(g, y):
    """y_i (g_i - sum_j g_j y_j): gradient of y = softmax(x) for the gradient g that arrives. Bytes: g, y read, result written."""
    _check_same_shape("softmax_backward", g, y)
    return _over_rows(softmax_backward_kernel, g, y)


# ---- log-softmax ----------------------------------------------------------------------------------------------------

@inner
def log_softmax_task(chunk, x, y, rows, columns):
    part = slice(chunk * rows * columns, (chunk + 1) * rows * columns)
    x, y = x[part], y[part]
    subtract_row_max(x, y, columns)
    powers = y.copy()
    exp_all(powers)
    for start in range(0, y.size, columns):
        out = y[start:start + columns]
        log_sum = log(row_sum(powers[start:start + columns]))
        for i in range(out.size):
            out[i] -= log_sum


@jit.jit
def log_softmax_kernel(x, y, columns, rows, chunks, threads):
    parallel_for(log_softmax_task, chunks, threads, (x, y, rows, columns))


def log_softmax(x):
    """x_i - log sum_j exp(x_j) along the last dimension. Shape: any -> the same. Bytes: x read, y written."""
    return _over_rows(log_softmax_kernel, x)


@inner
def log_softmax_backward_task(chunk, g, y, dx, rows, columns):
    part = slice(chunk * rows * columns, (chunk + 1) * rows * columns)
    g, dx = g[part], dx[part]
    dx[:] = y[part]
    exp_all(dx)
    for start in range(0, dx.size, columns):
        grad, out = g[start:start + columns], dx[start:start + columns]
        total = row_sum(grad)
        for i in range(out.size):
            out[i] = grad[i] - out[i] * total


@jit.jit
def log_softmax_backward_kernel(g, y, dx, columns, rows, chunks, threads):
    parallel_for(log_softmax_backward_task, chunks, threads, (g, y, dx, rows, columns))


def log_softmax_backward(g, y):
    """g_i - exp(y_i) sum_j g_j: gradient of y = log_softmax(x). Bytes: g, y read, the result written."""
    _check_same_shape("log_softmax_backward", g, y)
    return _over_rows(log_softmax_backward_kernel, g, y)


def _check_same_shape(name, g, y):
    if g.shape != y.shape:
        raise ValueError(f"{name}: the gradient has shape {g.shape}, the result it belongs to {y.shape}; they must be equal")


def _over_rows(kernel, *arrays):
    """Run a kernel over the rows of its last dimension; the result has the shape of the inputs. A single number is a row of one."""
    out = np.empty(arrays[0].shape, arrays[0].dtype)
    columns = out.shape[-1] if out.ndim else 1
    kernel(*[a.ravel() for a in arrays], out.reshape(-1), columns, *row_chunks(out.size // max(1, columns), columns))
    return out
