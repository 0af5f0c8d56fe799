"""Activation functions, with torch.nn.functional's names and options.

Where the derivative is a kernel of its own (`*_backward`), it is an operation too, so that it can be differentiated again;
there `grad` is the gradient that arrived, `out` the result of the function.
"""

from __future__ import annotations

import math

import numpy as np

import kernels
from scratchnn.op import op
from scratchnn.ops.arithmetic import clamp, where
from scratchnn.ops.elementary import exp
from scratchnn.tensor import Tensor

MIXED = np.array([-1.5, 2.0, 0.0, 0.3])      # signs, for the tests of kinked functions


def _require_floating(name, x):
    if x.dtype.kind != "f":
        raise TypeError(f"{name} needs a floating-point tensor, not {x.dtype}; convert it with x.float()")


@op(promote=True, floating=True)
def sigmoid(x):
    """Logistic function 1 / (1 + exp(-x))."""
    return kernels.sigmoid(x)


@sigmoid.vjp
def _(g, y):
    return sigmoid_backward(g, y)


@op
def sigmoid_backward(grad, out):
    """grad * out * (1 - out)."""
    return kernels.sigmoid_backward(grad, out)


@sigmoid_backward.vjp("grad")
def _(g, out):
    return sigmoid_backward(g, out)


@sigmoid_backward.vjp("out")
def _(g, grad, out):
    return g * grad * (1 - 2 * out)


@op(promote=True, floating=True)
def tanh(x):
    """Hyperbolic tangent."""
    return kernels.tanh(x)


@tanh.vjp
def _(g, y):
    return tanh_backward(g, y)


@op
def tanh_backward(grad, out):
    """grad * (1 - out^2)."""
    return kernels.tanh_backward(grad, out)


@tanh_backward.vjp("grad")
def _(g, out):
    return tanh_backward(g, out)


@tanh_backward.vjp("out")
def _(g, grad, out):
    return g * grad * out * -2


@op
def relu(x):
    """max(x, 0), with gradient 0 at 0."""
    return kernels.relu(x)


@relu.vjp
def _(g, y):
    return relu_backward(g, y)


@op(constant=("out",), cases=[((4,), MIXED)])
def relu_backward(grad, out):
    """grad where out > 0, else 0."""
    return kernels.relu_backward(grad, out)


@relu_backward.vjp("grad")
def _(g, out):
    return relu_backward(g, out)


@op
def leaky_relu(x, negative_slope=0.01):
    """x above 0, negative_slope * x below (Maas et al. 2013)."""
    _require_floating("leaky_relu", x)
    return kernels.leaky_relu(x, negative_slope)


@leaky_relu.vjp
def _(g, x, negative_slope):
    return leaky_relu_backward(g, x, negative_slope)


@op(constant=("x",), cases=[((4,), MIXED, 0.1)])
def leaky_relu_backward(grad, x, negative_slope):
    """grad where x > 0, negative_slope * grad elsewhere."""
    return kernels.leaky_relu_backward(grad, x, negative_slope)


@leaky_relu_backward.vjp("grad")
def _(g, x, negative_slope):
    return leaky_relu_backward(g, x, negative_slope)


@op
def elu(x, alpha=1.0):
    """x above 0, alpha (exp(x) - 1) below (Clevert et al. 2016, eq. 15)."""
    _require_floating("elu", x)
    return kernels.elu(x, alpha)


@elu.vjp
def _(g, x, alpha):
    return elu_backward(g, x, alpha)


@op(cases=[((3, 4), (3, 4), 1.3)])
def elu_backward(grad, x, alpha):
    """grad where x > 0, grad * alpha * exp(x) elsewhere."""
    return kernels.elu_backward(grad, x, alpha)


@elu_backward.vjp("grad")
def _(g, x, alpha):
    return elu_backward(g, x, alpha)


@elu_backward.vjp("x")
def _(g, grad, x, alpha):
    return where(x <= 0, g * grad * alpha * exp(clamp(x, max=0)), 0.0)


@op
def softplus(x, beta=1.0, threshold=20.0):
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold."""
    _require_floating("softplus", x)
    return kernels.softplus(x, beta, threshold)


@softplus.vjp
def _(g, x, beta, threshold):
    return softplus_backward(g, x, beta, threshold)


@op(cases=[((3, 4), (3, 4), 1.5, 20.0)])
def softplus_backward(grad, x, beta, threshold):
    """grad * sigmoid(beta x), and grad where beta x > threshold."""
    return kernels.softplus_backward(grad, x, beta, threshold)


@softplus_backward.vjp("grad")
def _(g, x, beta, threshold):
    return softplus_backward(g, x, beta, threshold)


@softplus_backward.vjp("x")
def _(g, grad, x, beta, threshold):
    return where(beta * x <= threshold, beta * sigmoid_backward(g * grad, sigmoid(beta * x)), 0.0)


@op
def silu(x):
    """x sigmoid(x), also called swish."""
    _require_floating("silu", x)
    return kernels.silu(x)


@silu.vjp
def _(g, x):
    return silu_backward(g, x)


@op
def silu_backward(grad, x):
    """grad s (1 + x (1 - s)), s = sigmoid(x)."""
    return kernels.silu_backward(grad, x)


@silu_backward.vjp("grad")
def _(g, x):
    return silu_backward(g, x)


@silu_backward.vjp("x")
def _(g, grad, x):
    s = sigmoid(x)
    return g * grad * s * (1 - s) * (2 + x * (1 - 2 * s))


@op
def gelu_exact(x):
    """x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016)."""
    _require_floating("gelu", x)
    return kernels.gelu(x)


@gelu_exact.vjp
def _(g, x):
    return gelu_exact_backward(g, x)


@op
def gelu_exact_backward(grad, x):
    """grad (Phi(x) + x phi(x))."""
    return kernels.gelu_backward(grad, x)


@gelu_exact_backward.vjp("grad")
def _(g, x):
    return gelu_exact_backward(g, x)


@gelu_exact_backward.vjp("x")
def _(g, grad, x):
    return g * grad * exp(-0.5 * x * x) * (2 - x * x) * (1 / math.sqrt(2 * math.pi))


@op
def gelu_tanh(x):
    """0.5 x (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3): the usual approximation of gelu."""
    _require_floating("gelu", x)
    return kernels.gelu_tanh(x)


@gelu_tanh.vjp
def _(g, x):
    return gelu_tanh_backward(g, x)


@op
def gelu_tanh_backward(grad, x):
    """grad times the derivative of gelu_tanh."""
    return kernels.gelu_tanh_backward(grad, x)


@gelu_tanh_backward.vjp("grad")
def _(g, x):
    return gelu_tanh_backward(g, x)


@gelu_tanh_backward.vjp("x")
def _(g, grad, x):
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    t = tanh(scale * (x + cubic * x * x * x))
    slope, bend = scale * (1 + 3 * cubic * x * x), 6 * scale * cubic * x       # u' and u''
    return g * grad * (1 - t * t) * (slope + 0.5 * x * (bend - 2 * t * slope * slope))


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x) exactly (approximate="none") or by its tanh form ("tanh")."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}")
    return gelu_tanh(x) if approximate == "tanh" else gelu_exact(x)


@op
def hardtanh(x, min_val=-1.0, max_val=1.0):
    """x limited to min_val..max_val; the gradient passes strictly inside."""
    return kernels.clamp(x, min_val, max_val)


@hardtanh.vjp
def _(g, x, min_val, max_val):
    return where((x > min_val) & (x < max_val), g, 0.0)


def logsigmoid(x: Tensor) -> Tensor:
    """log(sigmoid(x)) = -softplus(-x), which does not overflow."""
    return -softplus(-x)
