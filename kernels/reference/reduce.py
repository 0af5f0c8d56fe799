"""Reductions in NumPy. Floating numbers are summed in float64 and rounded once to the dtype of x.

`dims` is a tuple of dimensions counted from 0, or None for all; with keepdim they stay as dimensions of size 1.
"""

import numpy as np

from kernels.reference import elementwise


def _rounded(value, x):
    """`value` in the dtype of x if that is a floating one, else in its own."""
    return np.asarray(value, x.dtype if x.dtype.kind == "f" else None)


def _wide(x):
    """The dtype in which numbers of x's dtype are summed: float64, or int64 for whole numbers and booleans."""
    return np.float64 if x.dtype.kind == "f" else np.int64


def sum(x, dims=None, keepdim=False):
    """Sum; int64 for whole numbers and booleans."""
    with np.errstate(all="ignore"):
        return _rounded(np.sum(x, axis=dims, keepdims=keepdim, dtype=_wide(x)), x)


def mean(x, dims=None, keepdim=False):
    """Arithmetic mean; NaN of nothing."""
    with np.errstate(all="ignore"):
        count = x.size if dims is None else np.prod([x.shape[d] for d in dims])
        return _rounded(np.sum(x, axis=dims, keepdims=keepdim, dtype=_wide(x)) / np.float64(count), x)


def max(x, dims=None, keepdim=False):
    """Largest number; NaN if there is one."""
    return np.asarray(np.max(x, axis=dims, keepdims=keepdim))


def min(x, dims=None, keepdim=False):
    """Smallest number; NaN if there is one."""
    return np.asarray(np.min(x, axis=dims, keepdims=keepdim))


def argmax(x, dim, keepdim=False):
    """Index (int64) of the first largest number along dim; a NaN counts as the largest."""
    return np.asarray(np.argmax(x, axis=dim, keepdims=keepdim))


def argmin(x, dim, keepdim=False):
    """Index (int64) of the first smallest number along dim; a NaN counts as the smallest."""
    return np.asarray(np.argmin(x, axis=dim, keepdims=keepdim))


def var(x, dims=None, correction=1, keepdim=False):
    """Sum of squared distances from the mean, divided by count - correction, or by 0 where that is negative."""
    with np.errstate(all="ignore"):
        distance = x - mean(x.astype(np.float64), dims, keepdim=True)
        count = x.size if dims is None else np.prod([x.shape[d] for d in dims])
        squares = np.sum(distance * distance, axis=dims, keepdims=keepdim)
        return _rounded(squares / np.float64(np.maximum(count - correction, 0)), x)


def logsumexp(x, dims=None, keepdim=False):
    """log sum exp(x), from x minus its maximum; -inf of nothing."""
    with np.errstate(all="ignore"):
        highest = np.max(x, axis=dims, keepdims=True, initial=-np.inf).astype(np.float64)
        offset = np.where(np.isfinite(highest), highest, 0)
        value = np.log(np.sum(np.exp(x - offset), axis=dims, keepdims=True)) + offset
        return _rounded(value if keepdim else np.squeeze(value, axis=dims), x)


def cumsum(x, dim):
    """Running sum along dim; int64 for whole numbers and booleans."""
    return _rounded(np.cumsum(x, axis=dim, dtype=_wide(x)), x)


def gaussian_kl_total(mean, logvar):
    """Sum of all divergences."""
    return sum(elementwise.gaussian_kl(mean, logvar))
