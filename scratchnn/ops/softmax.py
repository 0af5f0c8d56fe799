"""Softmax and its logarithm along a dimension."""

from __future__ import annotations

import numpy as np

import kernels
from scratchnn.op import op
from scratchnn.ops.elementary import exp
from scratchnn.ops.reduce import sum
from scratchnn.ops.shape import dimension


def _along(kernel, dim, *arrays):
    """A kernel for the last dimension, run along `dim`."""
    if arrays[0].ndim == 0:
        return kernel(*[a.reshape(1) for a in arrays]).reshape(())
    dim = dimension(dim, arrays[0].ndim)
    if dim == arrays[0].ndim - 1:
        return kernel(*arrays)
    return np.moveaxis(kernel(*[np.moveaxis(a, dim, -1) for a in arrays]), -1, dim)


@op(promote=True, floating=True, cases=[((3, 4), 1), ((3, 4), 0), ((4,), -1)])
def softmax(x, dim=-1):
    """exp(x_i) / sum_j exp(x_j) along `dim`, the largest value taken out first so that nothing overflows."""
    return _along(kernels.softmax, dim, x)


@softmax.vjp
def _(g, y, dim):
    return softmax_backward(g, y, dim)


@op(cases=[((3, 4), (3, 4), 1), ((3, 4), (3, 4), 0)])
def softmax_backward(grad, out, dim):
    """out * (grad - sum(grad * out)) along `dim`."""
    return _along(kernels.softmax_backward, dim, grad, out)


@softmax_backward.vjp("grad")
def _(g, out, dim):
    return softmax_backward(g, out, dim)


@softmax_backward.vjp("out")
def _(g, grad, out, dim):
    return g * grad - g * sum(grad * out, dim, True) - grad * sum(g * out, dim, True)


@op(promote=True, floating=True, cases=[((3, 4), 1), ((3, 4), 0), ((4,), -1)])
def log_softmax(x, dim=-1):
    """x_i - log(sum_j exp(x_j)) along `dim`."""
    return _along(kernels.log_softmax, dim, x)


@log_softmax.vjp
def _(g, y, dim):
    return log_softmax_backward(g, y, dim)


@op(cases=[((3, 4), (3, 4), 1), ((3, 4), (3, 4), 0)])
def log_softmax_backward(grad, out, dim):
    """grad - exp(out) * sum(grad) along `dim`."""
    return _along(kernels.log_softmax_backward, dim, grad, out)


@log_softmax_backward.vjp("grad")
def _(g, out, dim):
    return g - sum(g * exp(out), dim, True)


@log_softmax_backward.vjp("out")
def _(g, grad, out, dim):
    return -g * exp(out) * sum(grad, dim, True)
