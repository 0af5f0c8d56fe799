"""Comparison and logic, element by element: booleans, without a gradient. Shapes broadcast."""

import numpy as np

import kernels
from scratchnn.op import op


@op(promote=True)
def eq(a, b):
    """a == b: booleans. Shapes broadcast."""
    return kernels.eq(a, b)


@op(promote=True)
def ne(a, b):
    """a != b: booleans. Shapes broadcast."""
    return kernels.ne(a, b)


@op(promote=True)
def lt(a, b):
    """a < b: booleans. Shapes broadcast."""
    return kernels.lt(a, b)


@op(promote=True)
def le(a, b):
    """a <= b: booleans. Shapes broadcast."""
    return kernels.le(a, b)


@op(promote=True)
def gt(a, b):
    """a > b: booleans. Shapes broadcast."""
    return kernels.gt(a, b)


@op(promote=True)
def ge(a, b):
    """a >= b: booleans. Shapes broadcast."""
    return kernels.ge(a, b)


@op(promote=True)
def logical_and(a, b):
    """Both are not zero: booleans. Shapes broadcast."""
    return kernels.logical_and(a, b)


@op(promote=True)
def logical_or(a, b):
    """One or both are not zero: booleans. Shapes broadcast."""
    return kernels.logical_or(a, b)


@op(promote=True)
def logical_xor(a, b):
    """Exactly one is not zero: booleans. Shapes broadcast."""
    return kernels.logical_xor(a, b)


@op
def logical_not(x):
    """x is zero: booleans."""
    return kernels.logical_not(x)


@op
def isnan(x):
    """x is not a number: booleans."""
    return kernels.isnan(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool, like=x)


@op
def isinf(x):
    """x is plus or minus infinity: booleans."""
    return kernels.isinf(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool, like=x)


@op
def isfinite(x):
    """x is neither infinite nor NaN: booleans."""
    return kernels.isfinite(x) if x.dtype.kind == "f" else np.ones(x.shape, bool, like=x)
