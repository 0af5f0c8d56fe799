"""Reductions: sums, means, extremes, log-sum-exp over one dimension, several, or all."""

from __future__ import annotations

import math

import numpy as np

import kernels
from scratchnn.op import expand, op
from scratchnn.ops.arithmetic import abs
from scratchnn.ops.elementary import exp, sqrt
from scratchnn.ops.index import gather
from scratchnn.ops.shape import dimension, dimensions, flip, reshape
from scratchnn.tensor import Tensor


def _spread(g, shape, dim, keepdim):
    """The gradient of a reduction, repeated over the dimensions that it reduced."""
    return expand(_kept(g, shape, dim, keepdim), shape)


def _kept(x, shape, dim, keepdim):
    """A reduced value with size 1 where it was reduced."""
    reduced = dimensions(dim, len(shape))
    return x if keepdim else reshape(x, tuple(1 if d in reduced else n for d, n in enumerate(shape)))


@op(cases=[((3, 4),), ((3, 4), 0), ((2, 3, 4), (0, -1), True), ((5,), 0), ((2, 3, 4), 1)])
def sum(x, dim=None, keepdim=False):
    """Sum over `dim` (a number, a tuple, None for all). Integers and booleans give int64."""
    return kernels.sum(x, dimensions(dim, x.ndim), keepdim)


@sum.vjp
def _(g, x_shape, dim, keepdim):
    return _spread(g, x_shape, dim, keepdim)


@op(cases=[((3, 4),), ((3, 4), 0), ((2, 3, 4), (0, -1), True), ((5,), 0), ((2, 3, 4), 1)])
def mean(x, dim=None, keepdim=False):
    """Mean over `dim` (a number, a tuple, None for all); NaN over nothing."""
    _require_floating("mean", x)
    return kernels.mean(x, dimensions(dim, x.ndim), keepdim)


@mean.vjp
def _(g, x_shape, dim, keepdim):
    count = math.prod(x_shape[d] for d in dimensions(dim, len(x_shape)))
    return _spread(g * (1 / (count or 1)), x_shape, dim, keepdim)


def _require_floating(name, x):
    if x.dtype.kind != "f":
        raise TypeError(f"{name} needs a floating-point tensor, not {x.dtype}; use x.float().{name}()")


@op(cases=[((3, 4),), ((3, 4), 0), ((2, 3, 4), (0, 2), 0, True)])
def var(x, dim=None, correction=1, keepdim=False):
    """Mean squared distance from the mean over `dim`, divided by count - correction (Bessel's correction by default)."""
    _require_floating("var", x)
    return kernels.var(x, dimensions(dim, x.ndim), correction, keepdim)


@var.vjp
def _(g, x, dim, correction, keepdim):
    count = math.prod(x.shape[d] for d in dimensions(dim, x.ndim))
    distance = x - mean(x, dimensions(dim, x.ndim), True)
    scale = 2 / (count - correction) if count > correction else math.nan
    return _kept(g, x.shape, dim, keepdim) * distance * scale


def std(x: Tensor, dim=None, correction: int = 1, keepdim: bool = False) -> Tensor:
    """Standard deviation: the square root of `var`."""
    return sqrt(var(x, dim, correction, keepdim))


@op(cases=[((3, 4),), ((3, 4), 1), ((2, 3, 4), (0, 2), True)])
def amax(x, dim=(), keepdim=False):
    """Largest value over `dim` (a number, a tuple, () for all), NaN if there is one. Ties share the gradient evenly."""
    return kernels.max(x, dimensions(None if dim == () else dim, x.ndim), keepdim)


@op(cases=[((3, 4),), ((3, 4), 1), ((2, 3, 4), (0, 2), True)])
def amin(x, dim=(), keepdim=False):
    """Smallest value over `dim` (a number, a tuple, () for all), NaN if there is one. Ties share the gradient evenly."""
    return kernels.min(x, dimensions(None if dim == () else dim, x.ndim), keepdim)


@amax.vjp
@amin.vjp
def _(g, x, y, dim, keepdim):
    dim = None if dim == () else dim
    chosen = (x == _kept(y, x.shape, dim, keepdim)).to(g.dtype)
    return _kept(g, x.shape, dim, keepdim) * chosen / sum(chosen, dimensions(dim, x.ndim), True)


@op
def argmax(x, dim=None, keepdim=False):
    """Position (int64) of the first of the largest values along `dim`; in the flattened tensor if dim is None."""
    return _arg(kernels.argmax, x, dim, keepdim)


@op
def argmin(x, dim=None, keepdim=False):
    """Position (int64) of the first of the smallest values along `dim`; in the flattened tensor if dim is None."""
    return _arg(kernels.argmin, x, dim, keepdim)


def _arg(kernel, x, dim, keepdim):
    if dim is None:
        return kernel(x.reshape(-1), 0).reshape((1,) * x.ndim if keepdim else ())
    if x.ndim == 0:
        return kernel(x.reshape(1), dimension(dim, 1)).reshape(())
    return kernel(x, dimension(dim, x.ndim), keepdim)


def _extreme(x, whole, position, dim, keepdim):
    if dim is None:
        return whole(x)
    index = position(x, dim, True)
    values = gather(x, dim, index) if x.ndim else x
    return (values, index) if keepdim or not x.ndim else (values.squeeze(dim), index.squeeze(dim))


def max(x: Tensor, dim: int | None = None, keepdim: bool = False):
    """Largest value of all; with `dim`, the pair (values, indices) along it. The gradient goes to the chosen element."""
    return _extreme(x, amax, argmax, dim, keepdim)


def min(x: Tensor, dim: int | None = None, keepdim: bool = False):
    """Smallest value of all; with `dim`, the pair (values, indices) along it. The gradient goes to the chosen element."""
    return _extreme(x, amin, argmin, dim, keepdim)


@op(promote=1, floating=True, cases=[((3, 4), 1), ((2, 3, 4), (0, 2), True)])
def logsumexp(x, dim, keepdim=False):
    """log(sum(exp(x))) over `dim` (a number or a tuple), without overflow."""
    return kernels.logsumexp(x, dimensions(dim, x.ndim), keepdim)


@logsumexp.vjp
def _(g, x, y, dim, keepdim):
    return _kept(g, x.shape, dim, keepdim) * exp(x - _kept(y, x.shape, dim, keepdim))


@op(cases=[((3, 4), 0), ((3, 4), -1)])
def cumsum(x, dim):
    """Running sum along `dim`, the value itself included. Integers and booleans give int64."""
    return kernels.cumsum(x, dimension(dim, x.ndim)) if x.ndim else x.copy()


@cumsum.vjp
def _(g, dim):
    return flip(cumsum(flip(g, (dim,)), dim), (dim,)) if g.ndim else g


def all(x: Tensor, dim=None, keepdim: bool = False) -> Tensor:
    """Whether no element (over `dim`) is zero: booleans, uint8 for uint8."""
    return _truth(np.all, x, dim, keepdim)


def any(x: Tensor, dim=None, keepdim: bool = False) -> Tensor:
    """Whether some element (over `dim`) is not zero: booleans, uint8 for uint8."""
    return _truth(np.any, x, dim, keepdim)


def _truth(function, x, dim, keepdim):
    result = function(x.array, None if dim is None else dimensions(dim, x.ndim), keepdims=keepdim)
    return Tensor(np.asarray(result, np.uint8 if x.dtype == np.uint8 else bool))


def norm(x: Tensor, p: float = 2, dim=None, keepdim: bool = False) -> Tensor:
    """(sum |x|^p)^(1/p) over `dim`; p = inf gives the largest |x|. The gradient of the 2-norm at zero is zero."""
    if p == 2:
        return euclid(x, dim, keepdim)
    if p == 1:
        return sum(abs(x), dim, keepdim)
    if p == math.inf:
        return amax(abs(x), () if dim is None else dim, keepdim)
    return sum(abs(x) ** p, dim, keepdim) ** (1 / p)


@op(cases=[((3, 4),), ((3, 4), 0), ((2, 3, 4), (0, -1), True), ((5,), 0), ((2, 3, 4), 1)])
def euclid(x, dim=None, keepdim=False):
    """sqrt(sum(x^2)) over `dim` (a number, a tuple, None for all)."""
    return kernels.sqrt(kernels.sum(kernels.mul(x, x), dimensions(dim, x.ndim), keepdim))


@euclid.vjp
def _(g, x, y, dim, keepdim):
    length = _kept(y, x.shape, dim, keepdim)
    zero = (length == 0).to(x.dtype)
    return _kept(g, x.shape, dim, keepdim) * (x / (length + zero))
