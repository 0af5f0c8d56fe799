"""Convolution in one and two dimensions, and its two gradients: by implicit GEMM (pictures.py, weights.py, with tables from plan.py), or
by the definition (plain.py) for float64 and depthwise layers.

One-dimensional signals are pictures of one row. A transposed convolution is the input gradient of a convolution.
"""

import math

import numpy as np

from kernels.cuda.array import as_device, blocks, broadcast_to, contiguous, empty, full
from kernels.cuda.conv.pictures import pack_kernel, pictures_kernel
from kernels.cuda.conv.plain import conv_input_gradient_plain, conv_plain, conv_weight_gradient_plain
from kernels.cuda.conv.plan import backward_plan, divider, forward_plan, pixel_table
from kernels.cuda.conv.weights import weights_kernel
from kernels.cuda.indices import check_sizes
from kernels.cuda.matmul import by_fours, matmul
from kernels.cuda.matmul.tiles import choose, grid, split
from kernels.cuda.reduce import sum
from kernels.cuda.rows import floating, row_threads
from kernels.shapes import conv_size

THREADS = 256


def conv(x, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, activation=None):
    """y[n, o, i, j] = bias[o] + sum over c, ky, kx of  weight[o, c, ky, kx] x[n, c, i stride - padding + ky dilation, ... kx ...].

    Shapes: x (N, C, H, W), weight (O, C / groups, KH, KW), bias (O,) -> (N, O, OH, OW), OH = (H + 2 padding - dilation (KH - 1) - 1)
    // stride + 1. Zeros stand outside of x. Channels of a group meet the outputs of that group alone.
    stride, padding, dilation   (down, right);  activation   None or "relu", applied while the result is in registers
    ValueError if the shapes do not fit. FLOPs: 2 N O OH OW KH KW C / groups.
    """
    as_device("conv", x, weight, bias)
    size, (N, C), (O, _, *kernel) = conv_size("conv", x.shape, weight.shape, stride, padding, dilation, groups), x.shape[:2], weight.shape  # noqa: E741
    if activation not in (None, "relu"):
        raise ValueError(f"conv: activation must be None or 'relu', not {activation!r}")
    dtype, shape, biased = floating("conv", x, weight, bias), (N, O, *size), bias is not None
    check_sizes("conv", x.shape, shape)
    x, weight = contiguous(x), contiguous(weight)
    if size == (1, 1) and tuple(kernel) == x.shape[2:] and groups == 1:      # every output sees the whole picture: a plain product
        return matmul(x.reshape(N, -1), weight.reshape(O, -1).T, bias, activation).reshape(shape)
    y, bias = empty(shape, dtype), contiguous(bias) if biased else full(1, 0, dtype)
    C, M = C // groups, O // groups
    if y.size and _is_plain(dtype, C, M):
        conv_plain[blocks(y.size), THREADS](x, weight, bias, y, y.size, groups, C, M, *x.shape[2:], *kernel, *size, *stride, *padding,
                                            *dilation, int(biased), int(activation is not None))
    elif y.size:
        plan, K = forward_plan(C, x.shape[2:], tuple(kernel), size, padding, dilation), weight[0].size
        _pictures(weight, x, y, bias, plan, K, groups, C, M, stride, (1, 1), biased, activation is not None)
    return y


def conv_input_gradient(g, weight, size, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The gradient (N, C, H, W) of `conv` by x, of size (H, W), for the gradient g (N, O, OH, OW) of its result; with a bias (C,) for each
    channel, a transposed convolution of g. Every pixel gathers what meets it, so that nothing is added in an order that changes.
    FLOPs as `conv`; weights that a phase of the stride does not meet take no time."""
    as_device("conv_input_gradient", g, weight, bias)
    (N, O), (_, C, *kernel) = g.shape[:2], weight.shape  # noqa: E741
    shape = (N, C * groups, *size)
    out_size = conv_size("conv_input_gradient", shape, weight.shape, stride, padding, dilation, groups)
    if g.shape != (N, len(weight), *out_size):
        raise ValueError(f"conv_input_gradient: g has shape {g.shape}, a convolution of {shape} with {weight.shape} gives "
                         f"{(N, len(weight), *out_size)}")
    dtype, biased = floating("conv_input_gradient", g, weight, bias), bias is not None
    check_sizes("conv_input_gradient", g.shape, shape)
    g, weight, kernel, size = contiguous(g), contiguous(weight), tuple(kernel), tuple(size)
    if out_size == (1, 1) and kernel == size and groups == 1:
        each = broadcast_to(bias[:, None], (C, math.prod(size))).reshape(-1) if biased else None
        return matmul(g.reshape(N, O), weight.reshape(O, -1), each).reshape(shape)
    out, bias = empty(shape, dtype), contiguous(bias) if biased else full(1, 0, dtype)
    M = O // groups
    if out.size and _is_plain(dtype, C, M):
        conv_input_gradient_plain[blocks(out.size), THREADS](g, weight, bias, out, out.size, groups, C, M, *size, *kernel, *out_size,
                                                             *stride, *padding, *dilation, int(biased))
    elif out.size:
        plan = backward_plan(M, C, out_size, kernel, size, stride, padding, dilation)
        packed = empty((groups, C, plan.entries), dtype)
        pack_kernel[blocks(packed.size), THREADS](weight, packed, plan.table, plan.entries, C, math.prod(kernel), weight.size // groups,
                                                  packed.size)
        _pictures(packed, g, out, bias, plan, plan.entries, groups, M, C, (1, 1), stride, biased, False)
    return out


def conv_weight_gradient(g, x, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The gradient (O, C / groups, KH, KW) of `conv` by its weight, kernel = (KH, KW), for the gradient g (N, O, OH, OW) of its result."""
    as_device("conv_weight_gradient", g, x)
    (N, C), O = x.shape[:2], g.shape[1]  # noqa: E741
    shape = (O, C // groups, *kernel)
    size = conv_size("conv_weight_gradient", x.shape, shape, stride, padding, dilation, groups)
    if g.shape != (N, O, *size):
        raise ValueError(f"conv_weight_gradient: g has shape {g.shape}, a convolution of {x.shape} with {shape} gives {(N, O, *size)}")
    dtype = floating("conv_weight_gradient", g, x)
    check_sizes("conv_weight_gradient", g.shape, x.shape)
    g, x = contiguous(g), contiguous(x)
    if size == (1, 1) and tuple(kernel) == x.shape[2:] and groups == 1:
        return matmul(g.reshape(N, O).T, x.reshape(N, -1)).reshape(shape)
    C, M, dw = C // groups, O // groups, empty(shape, dtype)
    if dw.size and _is_plain(dtype, C, M):
        launch = conv_weight_gradient_plain[dw.size, row_threads(N * math.prod(size))]
        launch(g, x, dw, N, groups, C, M, *x.shape[2:], *kernel, *size, *stride, *padding, *dilation)
    elif dw.size:
        return _weights(g, x, dw, groups, C, M, tuple(kernel), size, stride, padding, dilation)
    return dw


def _is_plain(dtype, C, M):
    """Whether a convolution with groups of C channels and M outputs runs by the definition."""
    return dtype != np.float32 or (C == 1 and M == 1)


def _pictures(w, x, y, bias, plan, lead, groups, C, M, step, out_step, biased, relu):
    """Launch the sums over a plan's table of C channels of x to M channels of y, for each group; the weights w (groups, M, lead)."""
    (H, W), (OH, OW), columns = x.shape[2:], y.shape[2:], len(x) * plan.pixels
    tile, strided = choose(M, columns, groups * plan.count), plan.count > 1
    kernel = pictures_kernel(tile, by_fours(w, lead, 0, 0), by_fours(y, OH * OW, 0, 0) and not strided, relu, strided)
    down, across, count = grid(tile, M, columns, groups * plan.count)
    kernel[(across, down, count), tile.threads](                             # pixels are more than channels: along x
        w, x, y, bias, plan.table, plan.phases, len(x), groups, C, M, H, W, lead, M * lead, *step, OH, OW, *out_step, plan.count, plan.used,
        int(biased))


def _weights(g, x, dw, groups, C, M, kernel, size, stride, padding, dilation):
    (N, _, H, W), columns, pixels = x.shape, C * math.prod(kernel), math.prod(size)
    parts, length = split(M, columns, N * pixels) if groups == 1 else (1, N * pixels)
    tile, cut = choose(M, columns, groups * parts), parts > 1
    found = empty((parts, *dw.shape), dw.dtype) if cut else dw
    taps = forward_plan(C, (H, W), kernel, size, padding, dilation).table
    launch = weights_kernel(tile, by_fours(found, columns, M * columns, 0), cut)[grid(tile, M, columns, groups * parts), tile.threads]
    launch(g, x, found, pixel_table(size, stride, W), taps, N, groups, C, M, H, W, columns, pixels, *divider(pixels), length)
    return sum(found, (0,)) if cut else dw
