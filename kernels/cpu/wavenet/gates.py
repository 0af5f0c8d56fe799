"""tanh(a) and sigmoid(b) together, the half of WaveNet's work that is no product.

scalar.tanh and scalar.sigmoid are exact for every number there is; here they share one division, and exponents stay where a power of two
is one number. Both are within 4 ulp but for gates below exp(-80), which become that.
"""

import math

from kernels.jit import inner, like
from kernels.scalar.bits import fma, is_single, rint, scale_normal
from kernels.scalar.elementary import EXP_32, EXP_64, LN2_32, LN2_64, LOG2E, polynomial

FAR, WIDE = 80.0, 44.0       # beyond FAR a gate is 0 or 1; exp(-WIDE) is nothing beside 1


@inner
def _reduced(x):
    """(exp(r) - 1, 2^n) of x = n ln 2 + r, |r| <= ln(2) / 2, n whole, for |x| up to FAR."""
    n = rint(x * like(x, LOG2E))
    high, low = LN2_32 if is_single(x) else LN2_64
    r = fma(n, like(x, -low), fma(n, like(x, -high), x))
    p = polynomial(r, EXP_32) if is_single(x) else polynomial(r, EXP_64)
    return fma(p * r, r, r), scale_normal(like(x, 1), n)


@inner
def gates(a, b):
    """(tanh(a), sigmoid(b)); NaN stays."""
    one, two = like(a, 1), like(a, 2)
    size, back = -two * math.fabs(a), -b
    size = like(a, -WIDE) if size < -WIDE else size
    back = like(a, -FAR) if back < -FAR else back
    back = like(a, FAR) if back > FAR else back
    p, power = _reduced(size)
    small = fma(p, power, power - one)                      # exp(-2 |a|) - 1
    p, power = _reduced(back)
    above, beyond = small + two, fma(p, power, power) + one
    share = one / (above * beyond)
    return math.copysign(small * beyond * share, a), above * share
