"""Elementary functions as polynomials without branches, so that LLVM turns a loop over them into vector instructions.

Numba's math.exp and its kin are calls into the C library, one number at a time. Here each function brings its argument into a small
range by exact arithmetic, evaluates a polynomial there, and undoes the first step with the exponent bits.

Errors over the whole range, denormal results, infinities and NaN included, in units in the last place (tests/test_scalar.py):
    exp, log, sqrt 1;  expm1, log1p, tanh, erf 3;  sin, cos 2 for |x| < 1e9 (beyond that they lose digits to the reduction)
Sources: Cody-Waite reduction; polynomials of exp and log for float32 from Cephes (Moshier 1989), of log for float64 from fdlibm (Sun
1993); those of erf, sin and cos interpolate the function at Chebyshev points.
"""

import math

import numpy as np

from kernels.jit import inner, like
from kernels.scalar.bits import exponent, floor, fma, is_single, mantissa, rint, scale

LOG2E, TURNS = math.log2(math.e), 2 / math.pi
LN2_32 = (0.693359375, -2.12194440e-4)                                            # ln 2 in two parts, the first of few bits
LN2_64 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)
HALF_PI = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33)    # pi / 2 in three parts
EXP_RANGE_32, EXP_RANGE_64 = (-104.0, 89.0), (-746.0, 710.0)                      # beyond: 0 and infinity
TINY_32, TINY_64 = 2.0 ** -126, 2.0 ** -1022                                      # the smallest normal numbers
TINY_SHIFT, LIFT = 60.0, 2.0 ** 60                                                # powers of two that lift a denormal out

# Polynomials, from the highest power down to the constant.
EXP_32 = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
EXP_64 = tuple(1 / math.factorial(k) for k in range(13, 1, -1))
LOG_32 = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1,
          -2.4999993993e-1, 3.3333331174e-1)
LOG_64 = (1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
          2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01)
ERF_32 = (7.8758750626854883e-5, -0.00080168642871658695, 0.005189087423433974, -0.026854212010626412, 0.11283594715160218,
          -0.37612626666720331, 1.1283791658483509)
ERF_64 = (-4.2309458242953378e-12, 8.7090451290531067e-11, -1.216456005728345e-9, 1.4792401209404813e-8, -1.6364642158167615e-7,
          1.6462045441468419e-6, -1.4925647567519332e-5, 0.00012055332902888735, -0.00085483270219348296, 0.0052239776254232983,
          -0.026866170645129841, 0.1128379167095512, -0.37612638903183752, 1.1283791670955126)
ERFC_32 = (-0.00093667581462844105, -0.00083519224785283707, 0.0069935886412455016, 0.003731934179645961, -0.078978464952782516,
           0.2416582184679889, -0.42718584823155612, 0.25539567621539095)
ERFC_64 = (-4.0090054967287789e-7, -5.572845101469753e-7, 1.1773910731353312e-6, 3.7999787611880949e-6, 1.3905100477643052e-6,
           -1.3969958220584674e-5, -2.7579344583696215e-5, 2.7525654448151829e-5, 0.00017436111120880154, 4.3555593029038032e-5,
           -0.00098197702368997593, -0.00084714325064302488, 0.0069974617391237737, 0.0037328924043232648, -0.07897858101573124,
           0.24165819424246649, -0.4271858474139584, 0.25539567631050574)
SIN_32 = (2.7173456841089953e-6, -0.000198392022122311, 0.0083333287824588803, -0.16666666631591165, 1.0)
SIN_64 = (2.7887259589946948e-15, -7.6469011566040279e-13, 1.6059042200144436e-10, -2.5052108379494506e-8, 2.7557319223971225e-6,
          -0.00019841269841269826, 0.0083333333333333333, -0.16666666666666667, 1.0)
COS_32 = (-2.7173429841022823e-7, 2.4798928755323668e-5, -0.0013888880393776423, 0.041666666543911192, -0.5, 1.0)
COS_64 = (-1.5492919892763748e-16, 4.7793120041151545e-14, -1.1470744398678526e-11, 2.087675698261166e-9, -2.7557319223971627e-7,
          2.4801587301587278e-5, -0.0013888888888888889, 0.041666666666666667, -0.5, 1.0)


@inner
def polynomial(x, coefficients):
    """(... (c0 x + c1) x + ...) x + c_last, in x's type."""
    total = like(x, coefficients[0])
    for i in range(1, len(coefficients)):
        total = total * x + like(x, coefficients[i])
    return total


@inner
def reduced(x):
    """(n, exp(r) - 1) of x = n ln 2 + r, |r| <= ln(2) / 2, n whole, for x limited to where exp(x) is not 0 or infinite."""
    low, high = EXP_RANGE_32 if is_single(x) else EXP_RANGE_64
    x = like(x, low) if x < low else x
    x = like(x, high) if x > high else x
    n = rint(x * like(x, LOG2E))
    if is_single(x):
        r = fma(n, like(x, -LN2_32[1]), fma(n, like(x, -LN2_32[0]), x))
        return n, polynomial(r, EXP_32) * r * r + r
    r = fma(n, like(x, -LN2_64[1]), fma(n, like(x, -LN2_64[0]), x))
    return n, polynomial(r, EXP_64) * r * r + r


@inner
def exp(x):
    """e to the power x."""
    n, p = reduced(x)
    return scale(p + like(x, 1), n)


@inner
def expm1(x):
    """e^x - 1, exact near 0: 2^n (exp(r) - 1) + (2^n - 1)."""
    n, p = reduced(x)
    one = like(x, 1)
    large = scale(p + one, n) - one
    small = scale(p, n) + (scale(one, n) - one)
    return large if n > 30 else small


@inner
def log(x):
    """Natural logarithm; -inf at 0, NaN below."""
    tiny = x < like(x, TINY_32 if is_single(x) else TINY_64)
    lifted = x * like(x, LIFT) if tiny else x
    n = exponent(lifted) - (like(x, TINY_SHIFT) if tiny else like(x, 0))
    f = mantissa(lifted) - like(x, 1)
    half = like(x, 0.5) * f * f
    if is_single(x):
        tail = polynomial(f, LOG_32) * f * f * f + n * like(x, LN2_32[1])
        y = (tail - half + f) + n * like(x, LN2_32[0])
    else:
        s = f / (like(x, 2) + f)
        y = n * like(x, LN2_64[0]) - ((half - (s * (half + polynomial(s * s, LOG_64) * s * s) + n * like(x, LN2_64[1]))) - f)
    y = x if x == like(x, math.inf) else y
    y = like(x, -math.inf) if x == 0 else y
    return y if x >= 0 else like(x, math.nan)


@inner
def log1p(x):
    """log(1 + x), exact near 0: the logarithm of the rounded sum, plus what the rounding lost."""
    total = like(x, 1) + x
    y = log(total) - ((total - like(x, 1)) - x) / total
    return y if total > 0 and total < like(x, math.inf) else log(total)


@inner
def sqrt(x):
    """Square root; NaN below 0."""
    return math.sqrt(x)


@inner
def rsqrt(x):
    """1 / sqrt(x)"""
    return like(x, 1) / math.sqrt(x)


@inner
def tanh(x):
    """Hyperbolic tangent: with e = exp(2 |x|) - 1, e / (e + 2), which is exact near 0."""
    size = math.fabs(x)
    size = like(x, 22) if size > 22 else size
    e = expm1(size + size)
    return math.copysign(e / (e + like(x, 2)), x)


@inner
def erf(x):
    """Error function 2/sqrt(pi) * integral of exp(-t^2) from 0 to x.

    An odd polynomial for |x| < 1; beyond, 1 - exp(-x^2) times a polynomial in (|x| - 2) / (|x| + 2).
    """
    size = math.fabs(x)
    size = like(x, 6.2) if size > like(x, 6.2) else size
    square = size * size
    t = (size - like(x, 2)) / (size + like(x, 2))
    if is_single(x):
        near, far = size * polynomial(square, ERF_32), like(x, 1) - exp(-square) * polynomial(t, ERFC_32)
    else:
        near, far = size * polynomial(square, ERF_64), like(x, 1) - exp(-square) * polynomial(t, ERFC_64)
    return math.copysign(near if size < 1 else far, x)


@inner
def quarter_turn(x):
    """(q, r) of x = (4 k + q) pi / 2 + r, |r| <= pi / 4, q in 0..3; in float64, so that r is exact for large x too."""
    wide = np.float64(x)
    n = rint(wide * TURNS)
    r = fma(n, -HALF_PI[2], fma(n, -HALF_PI[1], fma(n, -HALF_PI[0], wide)))
    r = 1.0 if r > 1.0 else (-1.0 if r < -1.0 else r)
    return like(x, n - 4 * floor(n * 0.25)), like(x, r)


@inner
def sin_cos(r):
    """(sin r, cos r) for |r| <= pi / 4."""
    if is_single(r):
        return r * polynomial(r * r, SIN_32), polynomial(r * r, COS_32)
    return r * polynomial(r * r, SIN_64), polynomial(r * r, COS_64)


@inner
def sin(x):
    """Sine of x radians."""
    q, r = quarter_turn(x)
    s, c = sin_cos(r)
    y = c if q == 1 or q == 3 else s
    return -y if q > 1 else y


@inner
def cos(x):
    """Cosine of x radians."""
    q, r = quarter_turn(x)
    s, c = sin_cos(r)
    y = s if q == 1 or q == 3 else c
    return -y if q == 1 or q == 2 else y
