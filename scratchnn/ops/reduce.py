"""Reductions: sums, means, extremes, log-sum-exp over one dimension, several, or all."""

from __future__ import annotations

import math

import numpy as np

import kernels
from scratchnn.op import expand, op
from scratchnn.ops.arithmetic import abs, where
from scratchnn.ops.elementary import exp
from scratchnn.ops.index import gather
from scratchnn.ops.shape import dimension, dimensions, flip, reshape
from scratchnn.tensor import Tensor


def _dims(dim, ndim):
    """Dimensions to reduce, sorted and counted from the left: all for None and (), as in torch."""
    return dimensions(None if dim in ((), []) else dim, ndim)


def _spread(g, shape, dim, keepdim):
    """The gradient of a reduction, repeated over the dimensions that it reduced."""
    return expand(_kept(g, shape, dim, keepdim), shape)


def _kept(x, shape, dim, keepdim):
    """A reduced value with size 1 where it was reduced."""
    reduced = _dims(dim, len(shape))
    return x if keepdim else reshape(x, tuple(1 if d in reduced else n for d, n in enumerate(shape)))


@op(cases=[((3, 4),), ((3, 4), 0), ((2, 3, 4), (0, -1), True), ((5,), 0), ((2, 3, 4), 1)])
def sum(x, dim=None, keepdim=False):
    """Sum over `dim` (a number, a tuple, None or () for all). Integers and booleans give int64."""
    return kernels.sum(x, _dims(dim, x.ndim), keepdim)


@sum.vjp
def _(g, x_shape, dim, keepdim):
    return _spread(g, x_shape, dim, keepdim)


@op(cases=[((3, 4),), ((3, 4), 0), ((2, 3, 4), (0, -1), True), ((5,), 0), ((2, 3, 4), 1)])
def mean(x, dim=None, keepdim=False):
    """Mean over `dim` (a number, a tuple, None for all); NaN over nothing."""
    _require_floating("mean", x)
    return kernels.mean(x, _dims(dim, x.ndim), keepdim)


@mean.vjp
def _(g, x_shape, dim, keepdim):
    count = math.prod(x_shape[d] for d in _dims(dim, len(x_shape)))
    return _spread(g * (1 / (count or 1)), x_shape, dim, keepdim)


def _require_floating(name, x):
    if x.dtype.kind != "f":
        raise TypeError(f"{name} needs a floating-point tensor, not {x.dtype}; use x.float().{name}()")


@op(cases=[((3, 4),), ((3, 4), 0), ((2, 3, 4), (0, 2), 0, True)])
def var(x, dim=None, correction=1, keepdim=False):
    """Mean squared distance from the mean over `dim`, divided by count - correction (Bessel's correction by default)."""
    _require_floating("var", x)
    return kernels.var(x, _dims(dim, x.ndim), _whole("var", correction), keepdim)


def _whole(name, correction):
    if isinstance(correction, bool) or not isinstance(correction, int):
        raise TypeError(f"{name}: correction must be a whole number, not {correction!r}")
    return correction


@var.vjp
def _(g, x, dim, correction, keepdim):
    return _var_gradient(g, x, dim, correction, keepdim)


def _var_gradient(g, x, dim, correction, keepdim):
    count = math.prod(x.shape[d] for d in _dims(dim, x.ndim))
    distance = x - mean(x, _dims(dim, x.ndim), True)
    scale = 2 / (count - correction) if count > correction else math.nan
    return _kept(g, x.shape, dim, keepdim) * distance * scale


@op(cases=[((3, 4),), ((3, 4), 0), ((2, 3, 4), (0, 2), 0, True)])
def std(x, dim=None, correction=1, keepdim=False):
    """Standard deviation: the square root of `var`, with gradient 0 at 0."""
    _require_floating("std", x)
    return kernels.sqrt(kernels.var(x, _dims(dim, x.ndim), _whole("std", correction), keepdim))


@std.vjp
def _(g, x, y, dim, correction, keepdim):
    flat = y == 0
    return _var_gradient(where(flat, 0.0, g / (where(flat, 1.0, y) * 2)), x, dim, correction, keepdim)


@op(cases=[((3, 4),), ((3, 4), 1), ((2, 3, 4), (0, 2), True)])
def amax(x, dim=(), keepdim=False):
    """Largest value over `dim` (a number, a tuple, () for all), NaN if there is one. Ties share the gradient evenly."""
    return kernels.max(x, _dims(dim, x.ndim), keepdim)


@op(cases=[((3, 4),), ((3, 4), 1), ((2, 3, 4), (0, 2), True)])
def amin(x, dim=(), keepdim=False):
    """Smallest value over `dim` (a number, a tuple, () for all), NaN if there is one. Ties share the gradient evenly."""
    return kernels.min(x, _dims(dim, x.ndim), keepdim)


@amax.vjp
@amin.vjp
def _(g, x, y, dim, keepdim):
    chosen = x == _kept(y, x.shape, dim, keepdim)
    return where(chosen, _kept(g, x.shape, dim, keepdim) / sum(chosen, _dims(dim, x.ndim), True).to(g.dtype), 0.0)


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
    return kernels.logsumexp(x, _dims(dim, x.ndim), keepdim)


@logsumexp.vjp
def _(g, x, y, dim, keepdim):
    return _kept(g, x.shape, dim, keepdim) * exp(x - _kept(y, x.shape, dim, keepdim))


@op(cases=[((3, 4), 0), ((3, 4), -1)])
def cumsum(x, dim):
    """Running sum along `dim`, the value itself included. Integers and booleans give int64."""
    return kernels.cumsum(x.reshape(x.shape or (1,)), dimension(dim, x.ndim or 1)).reshape(x.shape)


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
    result = function(x.array, None if dim is None else _dims(dim, x.ndim), keepdims=keepdim)
    return Tensor(np.asarray(result, np.uint8 if x.dtype == np.uint8 else bool, like=x.array))


def norm(x: Tensor, p: float = 2, dim=None, keepdim: bool = False) -> Tensor:
    """(sum |x|^p)^(1/p) over `dim`; p = inf gives the largest |x|, p = 0 counts what is not 0. The gradient at zero is zero."""
    dim = _dims(dim, x.ndim)
    if p == 2:
        return euclid(x, dim, keepdim)
    if p == 1:
        return sum(abs(x), dim, keepdim)
    if p == math.inf:
        return amax(abs(x), dim, keepdim)
    if p == -math.inf:
        return amin(abs(x), dim, keepdim)
    if p == 0:
        return sum(where(x != 0, 1.0, x * 0), dim, keepdim)
    return _flat_power(sum(_flat_power(abs(x), p), dim, keepdim), 1 / p)


def _flat_power(x, p):
    """x ** p for x >= 0, with gradient 0 at 0."""
    zero = x == 0
    return where(zero, 0.0, where(zero, 1.0, x) ** p) if p > 0 else x ** p


@op(cases=[((3, 4),), ((3, 4), 0), ((2, 3, 4), (0, -1), True), ((5,), 0), ((2, 3, 4), 1)])
def euclid(x, dim=None, keepdim=False):
    """sqrt(sum(x^2)) over `dim` (a number, a tuple, None for all)."""
    return kernels.sqrt(kernels.sum(kernels.mul(x, x), _dims(dim, x.ndim), keepdim))


@euclid.vjp
def _(g, x, y, dim, keepdim):
    length = _kept(y, x.shape, dim, keepdim)
    zero = (length == 0).to(x.dtype)
    return _kept(g, x.shape, dim, keepdim) * (x / (length + zero))
