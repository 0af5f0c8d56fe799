"""Convolution in one and two dimensions, and its two gradients: direct.py and weights.py do the work, plan.py cuts it; batch.py and
winograd.py take over from direct.py where a batch has pictures enough, depthwise.py where channels are groups of their own.

One-dimensional signals are pictures of one row. A transposed convolution is the input gradient of a convolution.
"""

import numpy as np

from kernels import jit
from kernels.cpu.conv.batch import batch_kernel, batch_plan, batch_wins
from kernels.cpu.conv.depthwise import depthwise, depthwise_input_gradient, depthwise_weight_gradient
from kernels.cpu.conv.direct import conv_kernel
from kernels.cpu.conv.plan import ROOM, backward_taps, forward_taps, plan
from kernels.cpu.conv.weights import FEW, PARTS, POSITIONS, few_kernel, total_kernel, weights_kernel
from kernels.cpu.conv.winograd import winograd_kernel, winograd_plan
from kernels.cpu.matmul import matmul, simd
from kernels.shapes import conv_size

SMALL = 1 << 18       # multiplications below which one thread is faster
CHUNKS = 8            # pieces of work at least, so that several threads share it evenly; the same on any number of threads


def conv(x, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, activation=None):
    """y[n, o, i, j] = bias[o] + sum over c, ky, kx of  weight[o, c, ky, kx] x[n, c, i stride - padding + ky dilation, ... kx ...].

    Shapes: x (N, C, H, W), weight (O, C / groups, KH, KW), bias (O,) -> (N, O, OH, OW), OH = (H + 2 padding - dilation (KH - 1) - 1)
    // stride + 1. Zeros stand outside of x. Channels of a group meet the outputs of that group alone.
    stride, padding, dilation   (down, right);  activation   None or "relu", applied while the result is in registers
    ValueError if the shapes do not fit. FLOPs: 2 N O OH OW KH KW C / groups.
    """
    size = conv_size("conv", x.shape, weight.shape, stride, padding, dilation, groups)
    if activation not in (None, "relu"):
        raise ValueError(f"conv: activation must be None or 'relu', not {activation!r}")
    O, kernel = len(weight), weight.shape[2:]  # noqa: E741
    if size == (1, 1) and kernel == x.shape[2:] and groups == 1:             # every output sees the whole picture: a plain product
        return matmul(x.reshape(len(x), -1), weight.reshape(O, -1).T, bias, activation).reshape(len(x), O, 1, 1)
    if groups == x.shape[1] > 1:
        return depthwise(x, weight, bias, size, stride, padding, dilation, activation == "relu")
    out, inputs, place = np.empty((len(x), O, *size), x.dtype), weight.shape[1], kernel[0] * kernel[1]
    phases = ((0, 0, *size, forward_taps(kernel, dilation, padding)),)
    _sums(x, weight, bias, out, activation == "relu", groups, O // groups, phases, stride, (1, 1),
          (inputs * place, place, O // groups * inputs * place))
    return out


def conv_input_gradient(g, weight, size, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The gradient (N, C, H, W) of `conv` by x, of size (H, W), for the gradient g (N, O, OH, OW) of its result; with a bias (C,) for each
    channel, a transposed convolution of g. FLOPs as `conv`; weights that a phase of the stride does not meet take no time."""
    N, O = g.shape[:2]  # noqa: E741
    shape, kernel, inputs = (N, weight.shape[1] * groups, *size), weight.shape[2:], weight.shape[1]
    expected = conv_size("conv_input_gradient", shape, weight.shape, stride, padding, dilation, groups)
    if g.shape != (N, len(weight), *expected):
        raise ValueError(f"conv_input_gradient: g has shape {g.shape}, a convolution of {shape} with {weight.shape} gives "
                         f"{(N, len(weight), *expected)}")
    if expected == (1, 1) and kernel == size and groups == 1 and bias is None:
        return matmul(g.reshape(N, O), weight.reshape(O, -1)).reshape(shape)
    if _is_product(N, kernel, stride, padding, groups) and bias is None:
        return matmul(weight.reshape(O, -1).T, g.reshape(O, -1)).reshape(shape)
    if inputs == 1 < groups:
        return depthwise_input_gradient(g, weight, size, bias, stride, padding, dilation, groups)
    out, place = np.empty(shape, g.dtype), kernel[0] * kernel[1]
    phases = tuple((*p, *(-(-(n - q) // s) for n, q, s in zip(size, p, stride, strict=True)),
                    backward_taps(kernel, stride, dilation, padding, p)) for p in np.ndindex(*stride))
    _sums(g, weight, bias, out, False, groups, inputs, phases, (1, 1), stride, (place, inputs * place, O // groups * inputs * place))
    return out


def conv_weight_gradient(g, x, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The gradient (O, C / groups, KH, KW) of `conv` by its weight, kernel = (KH, KW), for the gradient g (N, O, OH, OW) of its result."""
    N, C, O = *x.shape[:2], g.shape[1]  # noqa: E741
    shape = (O, C // groups, *kernel)
    size = conv_size("conv_weight_gradient", x.shape, shape, stride, padding, dilation, groups)
    if g.shape != (N, O, *size):
        raise ValueError(f"conv_weight_gradient: g has shape {g.shape}, a convolution of {x.shape} with {shape} gives {(N, O, *size)}")
    if size == (1, 1) and kernel == x.shape[2:] and groups == 1:
        return matmul(g.reshape(N, O).T, x.reshape(N, -1)).reshape(shape)
    if _is_product(N, kernel, stride, padding, groups):
        return matmul(g.reshape(O, -1), x.reshape(C, -1).T).reshape(shape)
    if groups == C > 1:
        return depthwise_weight_gradient(g, x, kernel, stride, padding, dilation)
    inputs, M, taps = C // groups, O // groups, forward_taps(kernel, dilation, padding)
    if not (N and inputs):
        return np.zeros(shape, x.dtype)
    x_shape, grid = _flattened(x.shape, kernel, stride, padding, size)
    lanes, T = simd.VECTOR_BYTES // x.itemsize, len(taps)
    at_once = min(FEW, 2 * ROOM // (inputs * T)) if inputs < lanes else POSITIONS
    chunks = N * groups * max(1, grid[0] * grid[1] // at_once) if inputs < lanes else 1
    numbers, table, phases = plan(lanes, chunks, x_shape, groups, M, grid, stride, taps, grid, (0, 0), (1, 1), (0, 0, 0))
    pieces = N * -(-numbers.I // numbers.rows) * -(-numbers.J // numbers.cols)
    parts, positions = min(PARTS, pieces), numbers.rows * numbers.cols
    few = inputs < lanes <= (positions if numbers.cols == numbers.J else numbers.cols)
    size = inputs * numbers.high * numbers.wide * stride[0] * stride[1]
    together = max(1, min(at_once // positions, 2 * ROOM // size, pieces // parts))
    partial, out = np.empty(groups * parts * M * inputs * T, x.dtype), np.empty(shape, x.dtype)
    arrays, threads = (x.ravel(), g.ravel(), table, phases, partial), _threads(N * M * C * T * grid[0] * grid[1])
    if few:
        few_kernel(*arrays, parts, pieces, together, numbers, threads)
    else:
        split = max(1, min(4 // (groups * parts), M // 24))                        # few pieces: threads share the channels
        weights_kernel(*arrays, parts, pieces, together, split, numbers, threads)
    total_kernel(partial, out.ravel(), groups, parts, inputs * T if few else T, jit.threads(partial.size))
    return out


def _is_product(N, kernel, stride, padding, groups):
    """Whether the gradients are plain products: of one picture, pixel by pixel."""
    return N == groups == 1 and tuple(kernel) == (1, 1) == tuple(stride) and tuple(padding) == (0, 0)


def _flattened(shape, kernel, stride, padding, grid):
    """(shape, grid) for the sum: with a kernel of one pixel and nothing around it, the picture is a single long row."""
    if tuple(kernel) == (1, 1) == tuple(stride) and tuple(padding) == (0, 0):
        return (*shape[:2], 1, shape[2] * shape[3]), (1, grid[0] * grid[1])
    return shape, grid


def _sums(x, weight, bias, out, relu, groups, M, phases, step, out_step, strides):
    """Sums over taps into all phases (first row and column, rows, columns, taps) of the output."""
    if not out.size:
        return
    lanes, size = simd.VECTOR_BYTES // x.itemsize, out.shape[2:]
    bias = np.empty(0, x.dtype) if bias is None else np.ascontiguousarray(bias)
    arrays, threads = (x.ravel(), weight.ravel()), _threads(out.size * x.shape[1] // groups * max(len(p[4]) for p in phases))
    if len(x) >= lanes:
        tiles = winograd_plan(lanes, x.itemsize, CHUNKS, x.shape, groups, M, phases, step, out_step, strides)
        if tiles:
            winograd_kernel(*arrays, tiles[1], bias, out.ravel(), relu, tiles[0], threads)
            return
        if batch_wins(lanes, x.shape, groups, M, phases, step, out_step):
            numbers, *tables = batch_plan(lanes, x.itemsize, CHUNKS, x.shape, groups, M, phases, step, size, out_step, strides)
            batch_kernel(*arrays, *tables, bias, out.ravel(), relu, numbers, threads)
            return
    for oy, ox, I, J, taps in phases:  # noqa: E741
        if not taps:
            out[:, :, oy::out_step[0], ox::out_step[1]] = bias[:, None, None] if bias.size else 0
        elif min(I, J) > 0:
            flat = taps[0][:2] == (0, 0) and len(taps) == 1 and step == (1, 1) == out_step and x.shape[2:] == (I, J)
            x_shape, grid, whole = ((*x.shape[:2], 1, I * J), (1, I * J), (1, I * J)) if flat else (x.shape, (I, J), size)
            numbers, *tables = plan(lanes, CHUNKS, x_shape, groups, M, grid, step, taps, whole, (oy, ox), out_step, strides)
            conv_kernel(*arrays, *tables, bias, out.ravel(), relu, numbers, threads)


def _threads(multiplications):
    return jit.threads(jit.SERIAL_BELOW if multiplications > SMALL else 0)
