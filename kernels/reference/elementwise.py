"""Elementwise kernels in NumPy and SciPy, one formula a line.

g is the gradient that arrives, x the input and y the result of the function in question.
"""

import math

import numpy as np
from scipy import special


def _elementwise(expression, operands=1, result=None):
    """A kernel from an expression on arrays: kernel(*operands, *parameters, out=None).

    The operands broadcast; the result has the dtype of the last of them, or `result`. Infinity and NaN raise no warnings.
    """
    def kernel(*args, out=None):
        with np.errstate(all="ignore"):
            value = np.asarray(expression(*args)).astype(result or args[operands - 1].dtype)
        if out is None:
            return value
        out[...] = value
        return out
    kernel.__doc__ = f"The truth for the kernel of this name in kernels/cpu/elementwise.py; {operands} operands that broadcast."
    return kernel


def _normal_density(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _gelu_tanh_slope(x):
    """Derivative of x / 2 (1 + tanh u) with u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))
    return (1 + t) / 2 + x / 2 * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x ** 2)


add = _elementwise(np.add, 2)
sub = _elementwise(np.subtract, 2)
mul = _elementwise(np.multiply, 2)
div = _elementwise(np.divide, 2)
floor_divide = _elementwise(np.floor_divide, 2)
remainder = _elementwise(np.mod, 2)
pow = _elementwise(np.power, 2)
maximum = _elementwise(np.maximum, 2)
minimum = _elementwise(np.minimum, 2)
neg = _elementwise(np.negative)
abs = _elementwise(np.abs)
sign = _elementwise(lambda x: np.where(x > 0, 1, np.where(x < 0, -1, 0)))
clamp = _elementwise(lambda x, low, high: np.minimum(np.maximum(x, low), high))
where = _elementwise(np.where, 3)

eq = _elementwise(np.equal, 2, result=np.bool_)
ne = _elementwise(np.not_equal, 2, result=np.bool_)
lt = _elementwise(np.less, 2, result=np.bool_)
le = _elementwise(np.less_equal, 2, result=np.bool_)
gt = _elementwise(np.greater, 2, result=np.bool_)
ge = _elementwise(np.greater_equal, 2, result=np.bool_)
logical_and = _elementwise(np.logical_and, 2, result=np.bool_)
logical_or = _elementwise(np.logical_or, 2, result=np.bool_)
logical_xor = _elementwise(np.logical_xor, 2, result=np.bool_)
logical_not = _elementwise(np.logical_not, result=np.bool_)
isnan = _elementwise(np.isnan, result=np.bool_)
isinf = _elementwise(np.isinf, result=np.bool_)
isfinite = _elementwise(np.isfinite, result=np.bool_)

exp = _elementwise(np.exp)
expm1 = _elementwise(np.expm1)
log = _elementwise(np.log)
log1p = _elementwise(np.log1p)
sqrt = _elementwise(np.sqrt)
rsqrt = _elementwise(lambda x: 1 / np.sqrt(x))
sin = _elementwise(np.sin)
cos = _elementwise(np.cos)
tanh = _elementwise(np.tanh)
erf = _elementwise(special.erf)
floor = _elementwise(np.floor)
ceil = _elementwise(np.ceil)

sigmoid = _elementwise(special.expit)
sigmoid_backward = _elementwise(lambda g, y: g * y * (1 - y), 2)
tanh_backward = _elementwise(lambda g, y: g * (1 - y * y), 2)
softplus = _elementwise(lambda x, beta, threshold: np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta))
softplus_backward = _elementwise(lambda g, x, beta, threshold: g * np.where(beta * x > threshold, 1, special.expit(beta * x)), 2)
relu = _elementwise(lambda x: np.maximum(x, 0))
relu_backward = _elementwise(lambda g, y: np.where(y > 0, g, 0), 2)
leaky_relu = _elementwise(lambda x, slope: np.where(x > 0, x, slope * x))
leaky_relu_backward = _elementwise(lambda g, x, slope: np.where(x > 0, g, slope * g), 2)
elu = _elementwise(lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)))
elu_backward = _elementwise(lambda g, x, alpha: np.where(x > 0, g, g * alpha * np.exp(x)), 2)
silu = _elementwise(lambda x: x * special.expit(x))
silu_backward = _elementwise(lambda g, x: g * special.expit(x) * (1 + x * special.expit(-x)), 2)
gelu = _elementwise(lambda x: x * special.ndtr(x))
gelu_backward = _elementwise(lambda g, x: g * (special.ndtr(x) + x * _normal_density(x)), 2)
gelu_tanh = _elementwise(lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))))
gelu_tanh_backward = _elementwise(lambda g, x: g * _gelu_tanh_slope(x), 2)

binary_cross_entropy_with_logits = _elementwise(lambda x, target: np.logaddexp(0, x) - x * target, 2)
binary_cross_entropy_with_logits_backward = _elementwise(lambda g, x, target: g * (special.expit(x) - target), 3)

gaussian_sample = _elementwise(lambda mean, logvar, noise: mean + np.exp(0.5 * logvar) * noise, 3)
gaussian_sample_backward = _elementwise(lambda g, y, mean: g * (y - mean) / 2, 3)
gaussian_kl = _elementwise(lambda mean, logvar: 0.5 * (mean * mean + np.exp(logvar) - 1 - logvar), 2)
gaussian_kl_backward = _elementwise(lambda g, logvar: g * np.expm1(logvar) / 2, 2)
