"""Arithmetic, comparison, logic: for whole numbers and booleans too, where that makes sense."""

import math

from kernels import jit
from kernels.jit import inner, like
from kernels.scalar import bits


@inner
def add(a, b):
    """a + b"""
    return a + b


@inner
def sub(a, b):
    """a - b"""
    return a - b


@inner
def mul(a, b):
    """a * b"""
    return a * b


@inner
def div(a, b):
    """a / b"""
    return a / b


@inner
def floor_divide(a, b):
    """Largest whole number not above a / b."""
    return a // b


@inner
def remainder(a, b):
    """a - b * floor(a / b): the sign of b, as Python's %."""
    return a % b


@inner
def pow(a, b):
    """a to the power b."""
    return a ** b


@inner
def maximum(a, b):
    """The larger of two; NaN if either is."""
    return jit.maximum(a, b)


@inner
def minimum(a, b):
    """The smaller of two; NaN if either is."""
    return jit.minimum(a, b)


@inner
def neg(x):
    """-x"""
    return -x


@inner
def abs(x):
    """|x|"""
    return -x if x < 0 else x


@inner
def sign(x):
    """-1, 0 or 1; 0 for NaN."""
    return like(x, 1) if x > 0 else (like(x, -1) if x < 0 else like(x, 0))


@inner
def clamp(x, low, high):
    """x limited to [low, high]; NaN stays."""
    x = low if x < low else x
    return high if x > high else x


@inner
def where(condition, a, b):
    """a where the condition holds, b elsewhere."""
    return a if condition else b


# ---- comparison and logic (any type in, booleans out) ---------------------------------------------------------------

@inner
def eq(a, b):
    """a == b"""
    return a == b


@inner
def ne(a, b):
    """a != b"""
    return a != b


@inner
def lt(a, b):
    """a < b"""
    return a < b


@inner
def le(a, b):
    """a <= b"""
    return a <= b


@inner
def gt(a, b):
    """a > b"""
    return a > b


@inner
def ge(a, b):
    """a >= b"""
    return a >= b


@inner
def logical_and(a, b):
    """Both are not zero."""
    return (a != 0) & (b != 0)


@inner
def logical_or(a, b):
    """One or both are not zero."""
    return (a != 0) | (b != 0)


@inner
def logical_xor(a, b):
    """Exactly one is not zero."""
    return (a != 0) != (b != 0)


@inner
def logical_not(x):
    """x is zero."""
    return x == 0


@inner
def isnan(x):
    """x is not a number."""
    return x != x


@inner
def isinf(x):
    """x is plus or minus infinity."""
    return math.fabs(x) == like(x, math.inf)


@inner
def isfinite(x):
    """x is neither infinite nor NaN."""
    return math.fabs(x) < like(x, math.inf)


@inner
def floor(x):
    """Largest whole number not above x, in x's type."""
    return bits.floor(x)


@inner
def ceil(x):
    """Smallest whole number not below x, in x's type."""
    return bits.ceil(x)
