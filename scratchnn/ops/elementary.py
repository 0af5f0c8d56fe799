"""Elementary functions, element by element: exponentials, logarithms, roots, circular functions."""

import math

import kernels
from scratchnn.op import op

TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)


@op(promote=True, floating=True)
def exp(x):
    """e to the power x; integers give float32."""
    return kernels.exp(x)


@exp.vjp
def _(g, y):
    return g * y


@op(promote=True, floating=True)
def expm1(x):
    """exp(x) - 1, exact near 0; integers give float32."""
    return kernels.expm1(x)


@expm1.vjp
def _(g, y):
    return g * (y + 1)


@op(promote=True, floating=True, domain=(0.1, 3))
def log(x):
    """Natural logarithm; integers give float32."""
    return kernels.log(x)


@log.vjp
def _(g, x):
    return g / x


@op(promote=True, floating=True, domain=(-0.8, 3))
def log1p(x):
    """log(1 + x), exact near 0; integers give float32."""
    return kernels.log1p(x)


@log1p.vjp
def _(g, x):
    return g / (x + 1)


@op(promote=True, floating=True, domain=(0.1, 3))
def sqrt(x):
    """Square root; integers give float32."""
    return kernels.sqrt(x)


@sqrt.vjp
def _(g, y):
    return g / (y * 2)


@op(promote=True, floating=True, domain=(0.3, 3))
def rsqrt(x):
    """1 / sqrt(x); integers give float32."""
    return kernels.rsqrt(x)


@rsqrt.vjp
def _(g, y):
    return g * -0.5 * (y * y * y)


@op(promote=True, floating=True)
def sin(x):
    """Sine of x radians; integers give float32."""
    return kernels.sin(x)


@sin.vjp
def _(g, x):
    return g * cos(x)


@op(promote=True, floating=True)
def cos(x):
    """Cosine of x radians; integers give float32."""
    return kernels.cos(x)


@cos.vjp
def _(g, x):
    return -g * sin(x)


@op(promote=True, floating=True)
def erf(x):
    """Error function 2/sqrt(pi) * integral of exp(-t^2) from 0 to x; integers give float32."""
    return kernels.erf(x)


@erf.vjp
def _(g, x):
    return g * (exp(-(x * x)) * TWO_OVER_SQRT_PI)
