"""Batch, group and instance normalisation."""

from __future__ import annotations

import math

import numpy as np

import kernels
from scratchnn.grad_mode import is_grad_enabled
from scratchnn.op import op
from scratchnn.ops.activation import leaky_relu_backward
from scratchnn.ops.reduce import mean, sum
from scratchnn.ops.shape import reshape
from scratchnn.tensor import Tensor

# ---- statistics of the batch ----------------------------------------------------------------------------------------

@op(cases=[((5, 3), (3,), (3,)), ((2, 3, 4), (3,), (3,), 0.1), ((3, 2, 2, 2), None, None), ((4, 2, 3), (2,), (2,), 0.1, 0.2),
           ((4, 2, 2), None, (2,), 0.1, 0.0)])
def batch_norm_training(x, weight=None, bias=None, eps=1e-5, slope=1.0):
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel of x (N, C, ...), times slope where it is below 0; also the channels'
    mean and variance, (C,) each. The derivative keeps x alone."""
    return kernels.batch_norm(x, weight, bias, eps, slope=slope)


@batch_norm_training.vjp("x", "weight", "bias")
def _(g, x, weight, bias, eps, slope, y1, y2):
    if not is_grad_enabled():
        return batch_norm_backward(g[0], x, y1, y2, weight, eps, bias, slope)
    return _gradients(g[0], x, weight, eps, x.shape, (0, *range(2, x.ndim)), bias, slope)


@op
def batch_norm_backward(grad, x, mean, var, weight, eps, bias=None, slope=1.0):
    """Gradients of `batch_norm_training` with respect to x, weight and bias at once."""
    return kernels.batch_norm_backward(grad, x, mean, var, weight, eps, bias, slope)


@op(cases=[((2, 4, 3), 2, (4,), (4,)), ((3, 4, 2, 1), 1, (4,), (4,), 0.1), ((2, 6), 2, None, None)])
def group_norm_training(x, groups, weight=None, bias=None, eps=1e-5):
    """As `batch_norm_training`, with mean and variance (N, groups) of each group of channels of each example."""
    return kernels.group_norm(x, groups, weight, bias, eps)


@group_norm_training.vjp("x", "weight", "bias")
def _(g, x, groups, weight, eps, y1, y2):
    if not is_grad_enabled():
        return group_norm_backward(g[0], x, y1, y2, weight, eps)
    return _gradients(g[0], x, weight, eps, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]), tuple(range(2, x.ndim + 1)))


@op
def group_norm_backward(grad, x, mean, var, weight, eps):
    """Gradients of `group_norm_training` with respect to x, weight and bias at once."""
    return kernels.group_norm_backward(grad, x, mean, var, weight, eps)


def _gradients(g, x, weight, eps, shape, dims, bias=None, slope=1.0):
    """The gradients of a normalisation over `dims` of x brought to `shape`, in operations that can be differentiated again."""
    rows = reshape(x, shape)
    centred = rows - mean(rows, dims, True)
    scale = (mean(centred.square(), dims, True) + eps).rsqrt()
    normal = centred * scale                                              # with mean 0 and variance 1 over `dims`
    if slope != 1:
        g = leaky_relu_backward(g, _affine(reshape(normal, x.shape), weight, bias).detach(), slope)
    inner = reshape(g if weight is None else g * _beside(weight, x), shape)
    dx = scale * (inner - mean(inner, dims, True) - normal * mean(inner * normal, dims, True))
    others = (0, *range(2, x.ndim))
    return reshape(dx, x.shape), sum(g * reshape(normal, x.shape), others), sum(g, others)


def _affine(normal, weight, bias):
    """normal weight + bias, channel by channel."""
    scaled = normal if weight is None else normal * _beside(weight, normal)
    return scaled if bias is None else scaled + _beside(bias, normal)


def _beside(values, x):
    """(C,) as (C, 1, ...), to be broadcast with x (N, C, ...)."""
    return reshape(values, (-1, *[1] * (x.ndim - 2)))


# ---- running statistics ---------------------------------------------------------------------------------------------

_STATISTICS = np.array([0.5, 0, 1]), np.array([2.0, 0.3, 1])


@op(constant=("mean", "var"), cases=[((2, 3, 2), *_STATISTICS, (3,), (3,)), ((2, 3, 2), *_STATISTICS, (3,), (3,), 0.1, 0.2)])
def batch_norm_evaluation(x, mean, var, weight=None, bias=None, eps=1e-5, slope=1.0):
    """(x - mean) / sqrt(var + eps) * weight + bias for x (N, C, ...), times slope where it is below 0; mean and var (C,) are constants."""
    return kernels.batch_norm(x, weight, bias, eps, mean, var, slope)[0]


@batch_norm_evaluation.vjp("x", "weight", "bias")
def _(g, x, mean, var, weight, bias, eps, slope, needs):
    rstd = (var + eps).rsqrt()
    if slope != 1:
        g = leaky_relu_backward(g, batch_norm_evaluation(x.detach(), mean, var, weight, bias, eps).detach(), slope)
    others = (0, *range(2, x.ndim))
    dx = g * _beside(rstd if weight is None else rstd * weight, x) if needs[0] else None
    dweight = sum(g * (x - _beside(mean, x)), others) * rstd if needs[1] else None
    return dx, dweight, sum(g, others) if needs[2] else None


# ---- torch's functions ----------------------------------------------------------------------------------------------

def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5, *,
               activation: str | None = None, negative_slope: float = 0.01) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias for each channel (Ioffe and Szegedy 2015, algorithm 1).

    Shape: (N, C, ...) -> the same; everything else has shape (C,). In training mean and variance (divided by the count) are the
    batch's, and the running ones, where given, move towards them in place: running = (1 - momentum) running + momentum batch, with
    the variance divided by the count - 1. Otherwise the running ones are used. ValueError for a batch with one value per channel.

    activation   None, "relu" or "leaky_relu" (with its negative_slope): what follows, computed in the same pass over the numbers, forward
                 and backward, and without keeping its result for the gradient
    """
    _check("batch_norm", input, weight, bias, running_mean, running_var)
    slopes = {None: 1.0, "relu": 0.0, "leaky_relu": negative_slope}
    if activation not in slopes:
        raise ValueError(f"batch_norm: activation must be None, 'relu' or 'leaky_relu', not {activation!r}")
    slope = slopes[activation]
    if not training:
        return _with_running("batch_norm", input, running_mean, running_var, weight, bias, eps, slope)
    count = math.prod(input.shape) // (input.shape[1] or 1)
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(input.shape)}")
    result, mean, var = batch_norm_training(input, weight, bias, eps, slope)
    _update(running_mean, running_var, mean.array, var.array, momentum, count)
    return result


def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias, with the mean and variance of each of num_groups groups of neighbouring channels
    of each example (Wu and He 2018, section 3).

    Shape: (N, C, ...) -> the same; weight and bias (C,). ValueError if num_groups does not divide C, or for one example with one value
    in each group.
    """
    _check("group_norm", input, weight, bias)
    if num_groups < 1 or input.shape[1] % num_groups:
        raise ValueError(f"group_norm: num_groups={num_groups} must divide the {input.shape[1]} channels of input {tuple(input.shape)}")
    if math.prod(input.shape) == num_groups:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(input.shape)}")
    return group_norm_training(input, num_groups, weight, bias, eps)[0]


def instance_norm(input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None, weight: Tensor | None = None,
                  bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias for each channel of each example (Ulyanov et al. 2016, equation 5).

    As `batch_norm` otherwise: with use_input_stats the running statistics, where given, move towards the mean over the examples of
    theirs; without, they are used. ValueError for channels of one number.
    """
    _check("instance_norm", input, weight, bias, running_mean, running_var)
    if not use_input_stats:
        return _with_running("instance_norm", input, running_mean, running_var, weight, bias, eps)
    count = math.prod(input.shape[2:])
    if count == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {tuple(input.shape)}")
    result, mean, var = group_norm_training(input, input.shape[1], weight, bias, eps)
    if len(mean.array):
        _update(running_mean, running_var, mean.array.mean(0), var.array.mean(0), momentum, count)
    return result


def _check(name, x, *per_channel):
    """Raise unless x is (N, C, ...) and weight, bias and running statistics, where given, are (C,) of the same dtype."""
    if x.ndim < 2:
        raise ValueError(f"{name}: input must have shape (N, C, ...), got {tuple(x.shape)}")
    for label, values in zip(("weight", "bias", "running_mean", "running_var"), per_channel, strict=False):
        if values is not None and values.shape != x.shape[1:2]:
            raise ValueError(f"{name}: {label} has shape {tuple(values.shape)}, {tuple(x.shape[1:2])} fits input {tuple(x.shape)}")
        if values is not None and values.dtype != x.dtype:
            raise TypeError(f"{name}: input is {x.dtype}, but {label} {values.dtype}; bring them to one dtype with .to()")


def _with_running(name, x, running_mean, running_var, weight, bias, eps, slope=1.0):
    if running_mean is None or running_var is None:
        raise ValueError(f"{name}: running_mean and running_var must be given where the statistics of the input are not used")
    return batch_norm_evaluation(x, running_mean, running_var, weight, bias, eps, slope)


def _update(running_mean, running_var, mean, var, momentum, count):
    """Move running statistics, where there are any, towards those of a batch of `count` numbers in each channel; none leave them."""
    for running, new in ((running_mean, mean), (running_var, var * (count / max(count - 1, 1)))):
        if running is not None and count:
            running.array[...] = (1 - momentum) * running.array + momentum * new
            running.bump_version()
