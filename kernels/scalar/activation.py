"""Activation functions and losses, and their gradients."""

import math

from kernels.jit import inner, like
from kernels.scalar.arithmetic import maximum
from kernels.scalar.elementary import erf, exp, expm1, log1p, tanh

INV_SQRT2 = math.sqrt(0.5)
INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)
GELU_SCALE = math.sqrt(2 / math.pi)      # gelu's tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
GELU_CUBIC = 0.044715


@inner
def sigmoid(x):
    """1 / (1 + exp(-x)), for negative x as exp(x) / (1 + exp(x)), which keeps its digits down to the smallest floats."""
    e = exp(-math.fabs(x))
    return (e if x < 0 else like(x, 1)) / (like(x, 1) + e)


@inner
def sigmoid_backward(g, y):
    """g y (1 - y)"""
    return g * y * (like(y, 1) - y)


@inner
def tanh_backward(g, y):
    """g (1 - y^2)"""
    return g * (like(y, 1) - y * y)


@inner
def softplus(x, beta, threshold):
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold."""
    z = beta * x
    return x if z > threshold else (maximum(z, like(x, 0)) + log1p(exp(-math.fabs(z)))) / beta


@inner
def softplus_backward(g, x, beta, threshold):
    """g sigmoid(beta x), and g where beta x > threshold."""
    return g if beta * x > threshold else g * sigmoid(beta * x)


@inner
def relu(x):
    """max(x, 0); NaN stays."""
    return like(x, 0) if x <= 0 else x


@inner
def relu_backward(g, y):
    """g where y > 0, else 0."""
    return g if y > 0 else like(g, 0)


@inner
def leaky_relu(x, slope):
    """x above 0, slope * x below."""
    return x if x > 0 else slope * x


@inner
def leaky_relu_backward(g, x, slope):
    """g where x > 0, slope * g elsewhere."""
    return g if x > 0 else slope * g


@inner
def elu(x, alpha):
    """x above 0, alpha (exp(x) - 1) below (Clevert et al. 2016, eq. 15)."""
    return x if x > 0 else alpha * expm1(x)


@inner
def elu_backward(g, x, alpha):
    """g where x > 0, g alpha exp(x) elsewhere."""
    return g if x > 0 else g * alpha * exp(x)


@inner
def silu(x):
    """x sigmoid(x)"""
    return x * sigmoid(x)


@inner
def silu_backward(g, x):
    """g s (1 + x (1 - s)), s = sigmoid(x)"""
    s = sigmoid(x)
    return g * s * (like(x, 1) + x * (like(x, 1) - s))


@inner
def gelu(x):
    """x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016)."""
    return like(x, 0.5) * x * (like(x, 1) + erf(x * like(x, INV_SQRT2)))


@inner
def gelu_backward(g, x):
    """g (Phi(x) + x phi(x))"""
    phi = like(x, INV_SQRT_2PI) * exp(like(x, -0.5) * x * x)
    return g * (like(x, 0.5) * (like(x, 1) + erf(x * like(x, INV_SQRT2))) + x * phi)


@inner
def gelu_tanh(x):
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), gelu's approximation."""
    inside = like(x, GELU_SCALE) * (x + like(x, GELU_CUBIC) * x * x * x)
    return like(x, 0.5) * x * (like(x, 1) + tanh(inside))


@inner
def gelu_tanh_backward(g, x):
    """Gradient of gelu_tanh."""
    inside = like(x, GELU_SCALE) * (x + like(x, GELU_CUBIC) * x * x * x)
    slope = like(x, GELU_SCALE) * (like(x, 1) + like(x, 3 * GELU_CUBIC) * x * x)
    t = tanh(inside)
    return g * like(x, 0.5) * (like(x, 1) + t + x * (like(x, 1) - t * t) * slope)


# ---- losses ---------------------------------------------------------------------------------------------------------

@inner
def binary_cross_entropy_with_logits(x, target):
    """-t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)) = max(x, 0) - x t + log(1 + exp(-|x|)), which never overflows."""
    return maximum(x, like(x, 0)) - x * target + log1p(exp(-math.fabs(x)))


@inner
def binary_cross_entropy_with_logits_backward(g, x, target):
    """g (sigmoid(x) - t)"""
    return g * (sigmoid(x) - target)


# ---- normal distributions, given by mean and logarithm of the variance ---------------------------------------------------

@inner
def gaussian_sample(mean, logvar, noise):
    """mean + exp(logvar / 2) noise: normal if the noise is standard normal (Kingma & Welling 2014, section 2.4)."""
    return mean + exp(like(mean, 0.5) * logvar) * noise


@inner
def gaussian_sample_backward(g, y, mean):
    """g (y - mean) / 2: the gradient by logvar of the result y."""
    return g * (like(g, 0.5) * (y - mean))


@inner
def gaussian_kl(mean, logvar):
    """KL(N(mean, exp(logvar)) || N(0, 1)) = (mean^2 + exp(logvar) - 1 - logvar) / 2 in nats (Kingma & Welling 2014, appendix B)."""
    return like(mean, 0.5) * (mean * mean + (expm1(logvar) - logvar))


@inner
def gaussian_kl_backward(g, logvar):
    """g (exp(logvar) - 1) / 2: the gradient by logvar."""
    return g * (like(g, 0.5) * expm1(logvar))
