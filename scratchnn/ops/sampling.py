"""Random tensors, and dropout. Each takes its numbers from a Generator, the default one if none is given."""

from __future__ import annotations

import math

import numpy as np

import kernels
from scratchnn.device import CPU, Device, moved, on_host
from scratchnn.op import op
from scratchnn.random import Generator, default_generator
from scratchnn.tensor import Tensor, _flat


def _take(generator: Generator | None, count: int, words_each: int = 1) -> tuple[int, int]:
    return (generator or default_generator).take(kernels.blocks(count, words_each))


def _words(dtype) -> int:
    return np.dtype(dtype).itemsize // 4


def _wing(device):
    """The kernels that make random numbers where the device has its memory: the same numbers on each."""
    if device is CPU or Device(device).type == "cpu":
        return kernels
    kernels.use_cuda()
    from kernels.cuda import random
    return random


def rand(*size, dtype=np.float32, generator: Generator | None = None, requires_grad: bool = False,
         device: str | Device = CPU) -> Tensor:
    """Uniform in [0, 1): a shape, or its sizes one by one. The same numbers on every device."""
    shape = _flat(size)
    start = _take(generator, math.prod(shape), _words(dtype))
    return Tensor(_wing(device).uniform(*start, shape, np.dtype(dtype)), requires_grad)


def randn(*size, dtype=np.float32, generator: Generator | None = None, requires_grad: bool = False,
          device: str | Device = CPU) -> Tensor:
    """Standard normal: a shape, or its sizes one by one. The same numbers on every device."""
    shape = _flat(size)
    count = math.prod(shape)
    start = _take(generator, count + count % 2, _words(dtype))
    return Tensor(_wing(device).normal(*start, shape, np.dtype(dtype)), requires_grad)


def rand_like(input: Tensor, dtype=None, generator: Generator | None = None) -> Tensor:
    """Uniform in [0, 1), of input's shape and dtype, where it lies."""
    return rand(input.shape, dtype=dtype or input.dtype, generator=generator, device=input.device)


def randn_like(input: Tensor, dtype=None, generator: Generator | None = None) -> Tensor:
    """Standard normal, of input's shape and dtype, where it lies."""
    return randn(input.shape, dtype=dtype or input.dtype, generator=generator, device=input.device)


@op(promote=True, cases=[((3, 4), (3, 4), np.full((3, 4), 0.7))])
def gaussian_sample_with(mean, logvar, noise):
    """mean + exp(logvar / 2) * noise."""
    return kernels.gaussian_sample(mean, logvar, noise)


@gaussian_sample_with.vjp("mean")
def _(g):
    return g


@gaussian_sample_with.vjp("logvar")
def _(g, y, mean):
    return gaussian_sample_backward(g, y, mean)


@op(promote=True, cases=[((3, 4), (3, 4), (3, 4))])
def gaussian_sample_backward(grad, out, mean):
    """grad * (out - mean) / 2."""
    return kernels.gaussian_sample_backward(grad, out, mean)


@gaussian_sample_backward.vjp("grad", "out", "mean")
def _(g, grad, out, mean):
    by_out = g * (0.5 * grad)
    return gaussian_sample_backward(g, out, mean), by_out, -by_out


def gaussian_sample(mean: Tensor, logvar: Tensor, generator: Generator | None = None) -> Tensor:
    """Draws from N(mean, exp(logvar)) through which gradients flow: the reparameterisation of Kingma & Welling 2014, section 2.4."""
    if mean.shape != logvar.shape:
        raise ValueError(f"gaussian_sample: logvar {logvar.shape} must have the shape of the mean {mean.shape}")
    return gaussian_sample_with(mean, logvar, randn_like(mean, generator=generator))


def normal(mean: float, std: float, size, dtype=np.float32, generator: Generator | None = None) -> Tensor:
    """Normal with this mean and standard deviation."""
    return randn(size, dtype=dtype, generator=generator) * std + mean


def randint(low: int, high: int, size, generator: Generator | None = None) -> Tensor:
    """Whole numbers in low..high - 1, int64."""
    if high <= low:
        raise ValueError(f"randint: high ({high}) must be above low ({low})")
    return Tensor(kernels.randint(*_take(generator, math.prod(size), 2), low, high, tuple(size)))


def randperm(n: int, generator: Generator | None = None) -> Tensor:
    """The numbers 0..n - 1 in random order, int64."""
    return Tensor(kernels.permutation(*_take(generator, n, 2), n))


def bernoulli(p: Tensor, generator: Generator | None = None) -> Tensor:
    """1 with probability p, else 0, in p's shape and dtype."""
    return Tensor(kernels.bernoulli(*_take(generator, p.numel()), p.array))


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, generator: Generator | None = None) -> Tensor:
    """Numbers of classes drawn by weights (K,) or (N, K), which need not add up to one: (num_samples,) or (N, num_samples), int64."""
    weights = input.array if input.ndim == 2 else input.array[None]
    if input.ndim not in (1, 2) or not weights.shape[1]:
        raise ValueError(f"multinomial: weights must have shape (K,) or (N, K) with K > 0, not {input.shape}")
    if not np.isfinite(weights).all() or (weights < 0).any() or not (weights.sum(1) > 0).all():
        raise ValueError("multinomial: weights must be finite, not negative, and not all zero in a row")
    if replacement or num_samples == 1:
        index = kernels.categorical(*_take(generator, len(weights) * num_samples), weights, num_samples)
    else:
        index = moved(_without_replacement(on_host(weights), num_samples, generator), input.device)
    return Tensor(index if input.ndim == 2 else index[0])


def _without_replacement(weights, num_samples, generator):
    """The classes of the largest log(weight) + Gumbel noise (Efraimidis & Spirakis 2006)."""
    if ((weights > 0).sum(1) < num_samples).any():
        raise ValueError(f"multinomial: cannot draw {num_samples} different classes from fewer with a weight above zero")
    u = rand(weights.shape, dtype=np.float64, generator=generator).array
    with np.errstate(divide="ignore"):
        keys = np.log(weights.astype(np.float64)) - np.log(-np.log(np.maximum(u, 2.0 ** -60)))
    return np.argsort(-keys, axis=1, kind="stable")[:, :num_samples]


@op(cases=[((3, 4), 0.4, 1, 0)])
def dropout_with(x, p, seed, offset):
    """x / (1 - p) where the random number of an element is at least p, else 0; the mask follows from seed and offset."""
    return kernels.dropout(x, p, seed, offset)


@dropout_with.vjp
def _(g, p, seed, offset):
    return dropout_with(g, p, seed, offset)


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element is 0 with probability p, else divided by 1 - p (Srivastava et al. 2014). The mask is not stored."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: p must lie in 0..1, not {p}")
    if not training or p == 0:
        return input
    if p == 1:
        return input * 0
    return dropout_with(input, p, *_take(None, input.numel()))
