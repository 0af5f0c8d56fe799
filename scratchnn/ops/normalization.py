"""Normalisation."""

from __future__ import annotations

import math

import kernels
from scratchnn.grad_mode import is_grad_enabled
from scratchnn.op import op
from scratchnn.ops.arithmetic import maximum
from scratchnn.ops.reduce import mean, norm, sum
from scratchnn.ops.shape import reshape
from scratchnn.tensor import Tensor


@op(cases=[((3, 4), (4,), (4,)), ((3, 4), (4,), (4,), 0.1)])
def layer_norm_rows(x, weight=None, bias=None, eps=1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias for each row of x (N, D); also the mean and 1 / sqrt(var + eps), (N,) each."""
    return kernels.layer_norm(x, weight, bias, eps)


@layer_norm_rows.vjp("x", "weight", "bias")
def _(g, x, weight, eps, y1, y2, needs):
    g = g[0]
    if not is_grad_enabled():
        return layer_norm_backward(g, x, y1, y2, weight)
    centred = x - mean(x, 1, True)                             # the same in operations, which can be differentiated again
    scale = (mean(centred.square(), 1, True) + eps).rsqrt()
    normal, inner = centred * scale, g if weight is None else g * weight
    dx = scale * (inner - mean(inner, 1, True) - normal * mean(inner * normal, 1, True)) if needs[0] else None
    return dx, sum(g * normal, 0), sum(g, 0)


@op
def layer_norm_backward(grad, x, mean, rstd, weight):
    """Gradients of `layer_norm_rows` with respect to x, weight and bias in one pass."""
    return kernels.layer_norm_backward(grad, x, mean, rstd, weight)


def layer_norm(input: Tensor, normalized_shape, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Each example brought to mean 0 and variance 1 over its last dimensions, then scaled and shifted (Ba et al. 2016, eq. 4).

    normalized_shape   sizes of those last dimensions; weight and bias have this shape
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if input.shape[input.ndim - len(shape):] != shape:
        raise ValueError(f"layer_norm: input {input.shape} must end with the normalized shape {shape}")
    if input.ndim == 2 and len(shape) == 1:
        return layer_norm_rows(input, weight, bias, eps)[0]
    flat = [t if t is None else reshape(t, (-1,)) for t in (weight, bias)]
    return reshape(layer_norm_rows(reshape(input, (-1, math.prod(shape))), *flat, eps)[0], input.shape)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """input divided by its p-norm along `dim`, which is taken as at least eps."""
    return input / maximum(norm(input, p, dim, True), eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Cosine of the angle between x1 and x2 along `dim`; each norm is taken as at least eps."""
    return sum(normalize(x1, 2, dim, eps) * normalize(x2, 2, dim, eps), dim)
