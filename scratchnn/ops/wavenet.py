"""WaveNet's stack of gated residual layers over whole sequences, one fused operation forward and backward.

A gradient that shall be differentiated again (create_graph) is made of plain operations instead, layer by layer.
"""

from __future__ import annotations

import kernels
from scratchnn.grad_mode import is_grad_enabled
from scratchnn.op import expand, op
from scratchnn.ops.activation import sigmoid, tanh
from scratchnn.ops.linear import linear
from scratchnn.ops.recurrent import composed
from scratchnn.ops.shape import cat, chunk, pad_constant, reshape
from scratchnn.tensor import Tensor

_STACK = [(2, 4, 2), (3, 4, 2, 2), (3, 4), (2, 2, 2), (2, 2), (1, 2, 5)]       # shapes for the tests


@op(cases=[(*_STACK,), (*_STACK, (2, 2, 12)), ((1, 2, 1), (1, 2, 1, 2), (1, 2), (0, 1, 1), (0, 1), (1,), (1, 1, 2))])
def wavenet_stack(h, weight, bias, residual, residual_bias, dilations, condition=None):
    """The result of `wavenet`; then all layers' inputs and their sigmoids' values, (L, N, T, R), for the gradient."""
    return kernels.wavenet(h, weight, bias, residual, residual_bias, dilations, condition)


@wavenet_stack.vjp("h", "weight", "bias", "residual", "residual_bias", "condition")
def _(g, h, weight, bias, residual, residual_bias, dilations, condition, y0, y1, y2):
    if is_grad_enabled():
        given = (h, weight, bias, residual, residual_bias) + (() if condition is None else (condition,))
        found = composed(lambda *inputs: (_layers(dilations, *inputs),), given, g)
        return found if condition is not None else (*found, None)
    return wavenet_backward(g[0], y0, y1, y2, weight, residual, dilations, 0 if condition is None else condition.shape[1])


@op
def wavenet_backward(g, z, inputs, gate, weight, residual, dilations, frames):
    """Gradients of h, weight, bias, residual, residual_bias and a condition of so many frames (None if 0), given that of z."""
    return kernels.wavenet_backward(g, z, inputs, gate, weight, residual, dilations, frames)


def wavenet(h: Tensor, weight: Tensor, bias: Tensor, residual: Tensor, residual_bias: Tensor, dilations: tuple,
            condition: Tensor | None = None) -> Tensor:
    """z of all layers of a WaveNet (van den Oord et al. 2016, section 2.3), side by side. Layer l of dilation d, from the first:

        p = h[t - d] weight[l, :, :, 0]^T + h[t] weight[l, :, :, 1]^T + bias[l] + condition,   h being 0 before the beginning
        z = tanh(first half of p) sigmoid(second half);   the next layer's h is h + z residual[l]^T + residual_bias[l]

    Shapes: h (N, T, R), weight (L, 2 R, R, 2), bias (L, 2 R), residual (L - 1, R, R), residual_bias (L - 1, R), a tuple of L dilations
    -> (N, T, L R). condition (N, F, L 2 R): F divides T, and position t uses row t F // T, of which layer l takes 2 R numbers from
    l 2 R on: one frame is a global condition. The sum of all layers' skip connections is one linear layer behind this.
    ValueError for shapes that do not fit, TypeError for dtypes that differ.
    """
    return wavenet_stack(h, weight, bias, residual, residual_bias, dilations, condition)[0]


def _layers(dilations, h, weight, bias, residual, residual_bias, condition=None):
    """The same of plain operations."""
    (N, T, _), found, L = h.shape, [], len(dilations)
    if condition is not None:
        F = condition.shape[1]
        condition = reshape(expand(reshape(condition, (N, F, 1, -1)), (N, F, T // F, condition.shape[2])), (N, T, -1))
        condition = chunk(condition, L, 2)
    for i, d in enumerate(dilations):
        past = pad_constant(h, ((0, 0), (d, 0), (0, 0)), 0.0)[:, :T]
        p = linear(past, weight[i, :, :, 0]) + linear(h, weight[i, :, :, 1], bias[i])
        a, b = chunk(p if condition is None else p + condition[i], 2, 2)
        found.append(tanh(a) * sigmoid(b))
        if i < L - 1:
            h = h + linear(found[i], residual[i], residual_bias[i])
    return cat(found, 2)
