"""Layer normalisation in NumPy, computed in float64 and rounded once to the dtype of x."""

import numpy as np


def layer_norm(x, weight, bias, eps):
    """(y (N, D), mean (N,), rstd (N,)): y = (x - mean) rstd weight + bias with rstd = 1 / sqrt(variance + eps) of each row."""
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        mean = np.sum(wide, axis=1, keepdims=True) / x.shape[1]
        rstd = 1 / np.sqrt(np.sum((wide - mean) ** 2, axis=1, keepdims=True) / x.shape[1] + eps)
    y = (wide - mean) * rstd
    y = y if weight is None else y * weight
    y = y if bias is None else y + bias
    return y.astype(x.dtype), mean[:, 0].astype(x.dtype), rstd[:, 0].astype(x.dtype)


def layer_norm_backward(g, x, mean, rstd, weight):
    """(dx (N, D), dweight (D,), dbias (D,)) for g (N, D): with z = (x - mean) rstd and h = g weight,

    dx = rstd (h - mean(h) - z mean(h z)) with means along each row, dweight = sum_n g z, dbias = sum_n g.
    """
    g64 = g.astype(np.float64)
    z = (x.astype(np.float64) - mean[:, None]) * rstd[:, None]
    h = g64 if weight is None else g64 * weight
    with np.errstate(all="ignore"):
        mean_h, mean_hz = (np.sum(a, axis=1, keepdims=True) / x.shape[1] for a in (h, h * z))
    dx = rstd[:, None] * (h - mean_h - z * mean_hz)
    return dx.astype(x.dtype), np.sum(g64 * z, axis=0).astype(x.dtype), np.sum(g64, axis=0).astype(x.dtype)
