"""Convolutions in one and two dimensions, and transposed ones, with torch.nn.functional's names and options.

A convolution is linear in its input and in its weight. Its two gradients are so too, and their gradients are again these three
operations: the whole calculus of convolutions closes on itself, to any order. A transposed convolution is the input gradient.
"""

from __future__ import annotations

import kernels
from scratchnn.op import op
from scratchnn.ops.activation import relu_backward
from scratchnn.ops.padding import pad
from scratchnn.ops.reduce import sum
from scratchnn.ops.shape import squeeze, unsqueeze
from scratchnn.tensor import Tensor

ONE, NONE = (1, 1), (0, 0)


def _same_dtype(name, *arrays):
    dtypes = [a.dtype for a in arrays if a is not None]
    if any(d != dtypes[0] for d in dtypes) or dtypes[0].kind != "f":
        raise TypeError(f"{name}: input, weight and bias must have one floating-point dtype, got {', '.join(map(str, dtypes))}; "
                        "bring them to one with .to()")


def _check_bias(name, bias, channels):
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"{name}: bias has shape {bias.shape}, {(channels,)} fits {channels} channels")


@op(cases=[((2, 4, 5, 6), (6, 2, 3, 2), (6,), (2, 1), (1, 0), (1, 2), 2), ((1, 2, 4, 4), (3, 2, 3, 3))])
def conv(x, weight, bias=None, stride=ONE, padding=NONE, dilation=ONE, groups=1):
    """Correlation of x (N, C, H, W) with weight (O, C / groups, KH, KW), plus bias (O,) -> (N, O, OH, OW); options are pairs."""
    _same_dtype("conv", x, weight, bias)
    _check_bias("conv", bias, len(weight))
    return kernels.conv(x, weight, bias, stride, padding, dilation, groups)


@conv.vjp("x")
def _(g, weight, x_shape, stride, padding, dilation, groups):
    return conv_input_gradient(g, weight, x_shape[2:], None, stride, padding, dilation, groups)


@conv.vjp("weight")
def _(g, x, weight_shape, stride, padding, dilation, groups):
    return conv_weight_gradient(g, x, weight_shape[2:], stride, padding, dilation, groups)


@conv.vjp("bias")
def _(g):
    return sum(g, (0, 2, 3))


@op(cases=[((2, 4, 5, 6), (6, 2, 3, 2), (6,), (2, 1), (1, 0), (1, 2), 2)])
def conv_relu(x, weight, bias=None, stride=ONE, padding=NONE, dilation=ONE, groups=1):
    """max(conv, 0), where numbers below 0 are cut off before they are written."""
    _same_dtype("conv", x, weight, bias)
    _check_bias("conv", bias, len(weight))
    return kernels.conv(x, weight, bias, stride, padding, dilation, groups, "relu")


@conv_relu.vjp("x", "weight", "bias")
def _(g, x, weight, stride, padding, dilation, groups, y, needs):
    g, options = relu_backward(g, y), (stride, padding, dilation, groups)
    return (conv_input_gradient(g, weight, x.shape[2:], None, *options) if needs[0] else None,
            conv_weight_gradient(g, x, weight.shape[2:], *options) if needs[1] else None,
            sum(g, (0, 2, 3)) if needs[2] else None)


@op(cases=[((2, 6, 4, 5), (6, 2, 3, 2), (8, 6), (4,), (2, 1), (1, 0), (1, 1), 2), ((1, 3, 2, 2), (3, 2, 3, 3), (4, 4))])
def conv_input_gradient(grad, weight, size, bias=None, stride=ONE, padding=NONE, dilation=ONE, groups=1):
    """Gradient by x, of size (H, W), of `conv` for the gradient grad (N, O, OH, OW); plus bias (C,): a transposed convolution."""
    _same_dtype("conv_input_gradient", grad, weight, bias)
    _check_bias("conv_input_gradient", bias, weight.shape[1] * groups)
    return kernels.conv_input_gradient(grad, weight, tuple(size), bias, stride, padding, dilation, groups)


@conv_input_gradient.vjp("grad")
def _(g, weight, stride, padding, dilation, groups):
    return conv(g, weight, None, stride, padding, dilation, groups)


@conv_input_gradient.vjp("weight")
def _(g, grad, weight_shape, stride, padding, dilation, groups):
    return conv_weight_gradient(grad, g, weight_shape[2:], stride, padding, dilation, groups)


@conv_input_gradient.vjp("bias")
def _(g):
    return sum(g, (0, 2, 3))


@op(cases=[((2, 6, 4, 5), (2, 4, 8, 6), (3, 2), (2, 1), (1, 0), (1, 1), 2), ((1, 3, 2, 2), (1, 2, 4, 4), (3, 3))])
def conv_weight_gradient(grad, x, kernel, stride=ONE, padding=NONE, dilation=ONE, groups=1):
    """Gradient by the weight, of kernel size (KH, KW), of `conv` for the gradient grad (N, O, OH, OW)."""
    return kernels.conv_weight_gradient(grad, x, tuple(kernel), stride, padding, dilation, groups)


@conv_weight_gradient.vjp("grad")
def _(g, x, stride, padding, dilation, groups):
    return conv(x, g, None, stride, padding, dilation, groups)


@conv_weight_gradient.vjp("x")
def _(g, grad, x_shape, stride, padding, dilation, groups):
    return conv_input_gradient(grad, g, x_shape[2:], None, stride, padding, dilation, groups)


# ---- torch's faces ------------------------------------------------------------------------------------------------------

def _each(name, label, value, dims):
    """One number for each dimension, preceded by 1s (0s for a padding) up to two dimensions."""
    values = (value,) * dims if isinstance(value, int) else tuple(value)
    if len(values) != dims or not all(isinstance(v, int) for v in values):
        raise ValueError(f"{name}: {label} must be a whole number or {dims} of them, not {value!r}")
    return ((0 if "padding" in label else 1,) * (2 - dims) + values)


def _padding(name, padding, kernel, stride, dilation, dims):
    """(padding before and after in each of two dimensions): numbers, "valid" (none) or "same" (as many outputs as inputs)."""
    if padding == "valid":
        return NONE, NONE
    if padding == "same":
        if stride != ONE:
            raise ValueError(f"{name}: padding='same' is not defined for a stride other than 1, got {stride[2 - dims:]}")
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple(t // 2 for t in total), tuple(t % 2 for t in total)
    if isinstance(padding, str):
        raise ValueError(f"{name}: padding must be a number, numbers, 'valid' or 'same', not {padding!r}")
    return _each(name, "padding", padding, dims), NONE


def _with_batch(name, input, weight, dims):
    """(input (N, C, H, W), weight (O, C, KH, KW), whether input came without N); a signal is a picture of one row."""
    if input.ndim not in (dims + 1, dims + 2) or weight.ndim != dims + 2:
        raise ValueError(f"{name}: input must have {dims + 1} or {dims + 2} dimensions and weight {dims + 2}, got {input.shape} and "
                         f"{weight.shape}")
    alone = input.ndim == dims + 1
    input = unsqueeze(input, 0) if alone else input
    return (input, weight, alone) if dims == 2 else (unsqueeze(input, 2), unsqueeze(weight, 2), alone)


def _without_batch(result, alone, dims):
    result = result if dims == 2 else squeeze(result, 2)
    return squeeze(result, 0) if alone else result


def _conv(name, dims, input, weight, bias, stride, padding, dilation, groups, activation):
    if activation not in (None, "relu"):
        raise ValueError(f"{name}: activation must be None or 'relu', not {activation!r}")
    x, w, alone = _with_batch(name, input, weight, dims)
    stride, dilation = _each(name, "stride", stride, dims), _each(name, "dilation", dilation, dims)
    before, more = _padding(name, padding, w.shape[2:], stride, dilation, dims)
    if more != NONE:                                               # an even kernel: "same" takes one more at the end
        x = pad(x, (0, more[1], 0, more[0]))
    function = conv if activation is None else conv_relu
    return _without_batch(function(x, w, bias, stride, before, dilation, groups), alone, dims)


def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1, groups: int = 1, *,
           activation: str | None = None) -> Tensor:
    """y[n, o, i] = bias[o] + sum over c, k of weight[o, c, k] input[n, c, i stride - padding + k dilation], zeros outside.

    Shapes: input (N, C, L) or (C, L), weight (O, C / groups, K), bias (O,) -> (N, O, (L + 2 padding - dilation (K - 1) - 1) // stride + 1).
    padding: a number, "valid" (0) or "same" (as many outputs as inputs, at stride 1). activation: None or "relu", computed on the way.
    """
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups, activation)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1, groups: int = 1, *,
           activation: str | None = None) -> Tensor:
    """The same in two dimensions: input (N, C, H, W) or (C, H, W), weight (O, C / groups, KH, KW); options are numbers or pairs."""
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups, activation)


def _conv_transpose(name, dims, input, weight, bias, stride, padding, output_padding, groups, dilation):
    x, w, alone = _with_batch(name, input, weight, dims)
    stride, dilation, padding, extra = (_each(name, label, value, dims) for label, value in (
        ("stride", stride), ("dilation", dilation), ("padding", padding), ("output_padding", output_padding)))
    if any(e >= max(s, d) for e, s, d in zip(extra[2 - dims:], stride[2 - dims:], dilation[2 - dims:], strict=True)):
        raise ValueError(f"{name}: output_padding {extra[2 - dims:]} must be smaller than stride {stride[2 - dims:]} or dilation "
                         f"{dilation[2 - dims:]}")
    if x.shape[1] != w.shape[0]:
        raise ValueError(f"{name}: input {input.shape} has {x.shape[1]} channels, weight {weight.shape} takes {w.shape[0]}")
    size = tuple((n - 1) * s - 2 * p + d * (k - 1) + e + 1
                 for n, s, p, d, k, e in zip(x.shape[2:], stride, padding, dilation, w.shape[2:], extra, strict=True))
    beyond = [e // s for e, s in zip(extra, stride, strict=True)]
    if any(beyond):                                                # a dilation allows outputs from behind the end of the input
        x = pad(x, (0, beyond[1], 0, beyond[0]))
    return _without_batch(conv_input_gradient(x, w, size, bias, stride, padding, dilation, groups), alone, dims)


def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, output_padding=0, groups: int = 1,
                     dilation=1) -> Tensor:
    """The gradient of conv1d by its input, as an operation of its own: what spreads a signal where conv1d gathers it.

    Shapes: input (N, C, L) or (C, L), weight (C, O / groups, K), bias (O,) ->
    (N, O, (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1).
    """
    return _conv_transpose("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, output_padding=0, groups: int = 1,
                     dilation=1) -> Tensor:
    """The same in two dimensions (Zeiler et al. 2010; "fractionally strided" in Radford et al. 2016): weight (C, O / groups, KH, KW)."""
    return _conv_transpose("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)
