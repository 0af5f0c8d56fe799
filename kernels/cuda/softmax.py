"""Softmax and log-softmax along the last dimension, and their gradients: one block of threads for each row (rows.py).

A row is read two or three times; after the first time it is found in the caches, so that the GPU's memory sees each input read once
and the output written once.
"""

from kernels.cuda.array import as_device, contiguous, empty
from kernels.cuda.compiler import cuda, kernel, scalar, typed
from kernels.cuda.rows import WARP, block_sum, floating, row_max, row_sum_exp, row_threads

# `room` is the same shared array in every kernel, written out in each: shared memory belongs to a kernel.


@kernel
def softmax_kernel(x, y, columns):
    room = cuda.shared.array(WARP, x.dtype)
    start = cuda.blockIdx.x * columns
    highest = row_max(x, start, columns, room)
    scale = typed(x, 1) / row_sum_exp(x, start, columns, highest, room)
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        y[start + i] = scalar.exp(x[start + i] - highest) * scale


def softmax(x):
    """exp(x_i) / sum_j exp(x_j) along the last dimension, from x minus its maximum so that nothing overflows.

    Shape: any -> the same. Bytes: x read, y written.
    """
    return _over_rows("softmax", softmax_kernel, x)


@kernel
def softmax_backward_kernel(g, y, dx, columns):
    room = cuda.shared.array(WARP, g.dtype)
    start = cuda.blockIdx.x * columns
    dot = typed(g, 0)
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        dot += g[start + i] * y[start + i]
    dot = block_sum(dot, room)
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        dx[start + i] = y[start + i] * (g[start + i] - dot)


def softmax_backward(g, y):
    """y_i (g_i - sum_j g_j y_j): gradient of y = softmax(x) for the gradient g that arrives. Bytes: g, y read, result written."""
    return _over_rows("softmax_backward", softmax_backward_kernel, g, y)


@kernel
def log_softmax_kernel(x, y, columns):
    room = cuda.shared.array(WARP, x.dtype)
    start = cuda.blockIdx.x * columns
    highest = row_max(x, start, columns, room)
    log_sum = scalar.log(row_sum_exp(x, start, columns, highest, room))
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        y[start + i] = x[start + i] - highest - log_sum


def log_softmax(x):
    """x_i - log sum_j exp(x_j) along the last dimension. Shape: any -> the same. Bytes: x read, y written."""
    return _over_rows("log_softmax", log_softmax_kernel, x)


@kernel
def log_softmax_backward_kernel(g, y, dx, columns):
    room = cuda.shared.array(WARP, g.dtype)
    start = cuda.blockIdx.x * columns
    total = typed(g, 0)
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        total += g[start + i]
    total = block_sum(total, room)
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        dx[start + i] = g[start + i] - scalar.exp(y[start + i]) * total


def log_softmax_backward(g, y):
    """g_i - exp(y_i) sum_j g_j: gradient of y = log_softmax(x). Bytes: g, y read, the result written."""
    return _over_rows("log_softmax_backward", log_softmax_backward_kernel, g, y)


def _over_rows(name, kernel, *arrays):
    """Run a kernel over the rows of its last dimension; the result has the shape of the inputs. A single number is a row of one."""
    as_device(name, *arrays)
    dtype, shape = floating(name, *arrays), arrays[0].shape
    if arrays[-1].shape != shape:
        raise ValueError(f"{name}: the gradient has shape {shape}, the result it belongs to {arrays[-1].shape}; they must be equal")
    out, columns = empty(shape, dtype), shape[-1] if shape else 1
    if out.size:
        kernel[out.size // columns, row_threads(columns)](*map(contiguous, arrays), out, columns)
    return out
