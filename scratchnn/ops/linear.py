"""Matrix products and the linear layer."""

from __future__ import annotations

import math

import kernels
from scratchnn.op import op
from scratchnn.ops.activation import relu_backward, sigmoid_backward, tanh_backward
from scratchnn.ops.reduce import sum
from scratchnn.ops.shape import reshape, unsqueeze


@op(promote=True, cases=[((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2))])
def matmul(a, b):
    """Matrix product (..., M, K) (..., K, N) -> (..., M, N), leading dimensions broadcast.

    A one-dimensional operand is a row at the left, a column at the right, and its dimension disappears from the result.
    """
    return kernels.matmul(a, b)


@matmul.vjp("a")
def _(g, a_shape, b):
    if b.ndim == 1:
        return unsqueeze(g, -1) * b if len(a_shape) > 1 else g * b
    return matmul(g, b.mT) if len(a_shape) > 1 else sum_leading(matmul(b, unsqueeze(g, -1)))


@matmul.vjp("b")
def _(g, a, b_shape):
    if a.ndim == 1:
        return unsqueeze(a, -1) * unsqueeze(g, -2) if len(b_shape) > 1 else g * a
    if len(b_shape) > 1:
        return matmul(a.mT, g)
    return sum_leading(matmul(a.mT, unsqueeze(g, -1)))


def sum_leading(x):
    """(..., K, 1) -> (K,)."""
    return sum(reshape(x, (math.prod(x.shape[:-2]), x.shape[-2])), 0)


@op(cases=[((3, 4), (5, 4), (5,)), ((2, 3, 4), (5, 4), (5,)), ((4,), (2, 4), (2,))])
def linear(x, weight, bias=None):
    """y = x W^T + b. Shapes: x (..., in), weight (out, in), bias (out,) -> (..., out)."""
    return _linear(x, weight, bias)


def _linear(x, weight, bias, activation=None):
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[1:]:
        raise ValueError(f"linear: x {x.shape} does not fit weight {weight.shape}; weight must be (out, in) and the last dimension of x "
                         f"in, here {weight.shape[-1]}")
    if any(v is not None and v.dtype != x.dtype for v in (weight, bias)):
        raise TypeError(f"linear: x is {x.dtype}, but weight {weight.dtype}{'' if bias is None else f' and bias {bias.dtype}'}; "
                        "bring them to one dtype with .to()")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: bias {bias.shape} does not fit weight {weight.shape}; it must have shape {weight.shape[:1]}")
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return kernels.matmul(rows, weight.T, bias, activation).reshape(*x.shape[:-1], weight.shape[0])


@linear.vjp("x")
def _(g, weight):
    return matmul(g, weight)


@linear.vjp("weight")
def _(g, x):
    return matmul(_rows(g).mT, _rows(x))


@linear.vjp("bias")
def _(g):
    return sum(_rows(g), 0)


@op(cases=[((3, 4), (5, 4), (5,)), ((2, 3, 4), (5, 4))])
def linear_relu(x, weight, bias=None):
    """max(x W^T + b, 0), where numbers below 0 are cut off before they are written."""
    return _linear(x, weight, bias, "relu")


@op(cases=[((3, 4), (5, 4), (5,)), ((2, 3, 4), (5, 4))])
def linear_sigmoid(x, weight, bias=None):
    """sigmoid(x W^T + b), applied while the numbers are in the cache."""
    return _linear(x, weight, bias, "sigmoid")


@op(cases=[((3, 4), (5, 4), (5,)), ((2, 3, 4), (5, 4))])
def linear_tanh(x, weight, bias=None):
    """tanh(x W^T + b), applied while the numbers are in the cache."""
    return _linear(x, weight, bias, "tanh")


def _vjp_with(operation, activation_backward):
    """Register the derivative of a linear layer with an activation, given the activation's own."""
    @operation.vjp("x", "weight", "bias")
    def _(g, x, weight, y, needs):
        g = activation_backward(g, y)
        return (matmul(g, weight) if needs[0] else None, matmul(_rows(g).mT, _rows(x)) if needs[1] else None,
                sum(_rows(g), 0) if needs[2] else None)


_vjp_with(linear_relu, relu_backward)
_vjp_with(linear_sigmoid, sigmoid_backward)
_vjp_with(linear_tanh, tanh_backward)


def _rows(x):
    """(..., D) -> (N, D)."""
    return x if x.ndim == 2 else reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
