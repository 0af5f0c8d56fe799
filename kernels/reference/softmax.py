"""Softmax in NumPy, computed in float64 and rounded once to the dtype of x."""

import numpy as np


def log_softmax(x):
    """x_i - log sum_j exp(x_j) along the last dimension."""
    with np.errstate(all="ignore"):
        shifted = x.astype(np.float64) - np.max(x, axis=-1, keepdims=True, initial=-np.inf)
        return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True)), x.dtype)


def softmax(x):
    """exp(x_i) / sum_j exp(x_j) along the last dimension."""
    return np.exp(log_softmax(x.astype(np.float64))).astype(x.dtype)


def softmax_backward(g, y):
    """y_i (g_i - sum_j g_j y_j): gradient of y = softmax(x)."""
    total = np.sum(g * y, axis=-1, keepdims=True, dtype=np.float64)
    return np.asarray(y * (g - total), y.dtype)


def log_softmax_backward(g, y):
    """g_i - exp(y_i) sum_j g_j: gradient of y = log_softmax(x)."""
    total = np.sum(g, axis=-1, keepdims=True, dtype=np.float64)
    return np.asarray(g - np.exp(y) * total, y.dtype)
