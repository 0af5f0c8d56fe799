"""Batch and group normalisation in NumPy, computed in float64 and rounded once to the dtype of x."""

import numpy as np


def batch_norm(x, weight, bias, eps, mean=None, var=None, slope=1.0):
    """(y, mean (C,), var (C,)) of x (N, C, ...): y = (x - mean) / sqrt(var + eps) weight + bias, statistics of each channel or given;
    then y slope where y < 0, an activation."""
    wide = _wide(x)
    if mean is None:
        with np.errstate(all="ignore"):
            mean = np.sum(wide, (0, 2)) / (wide.shape[0] * wide.shape[2])
            var = np.sum((wide - mean[:, None]) ** 2, (0, 2)) / (wide.shape[0] * wide.shape[2])
    y = _affine((wide - mean[:, None]) / np.sqrt(var + eps)[:, None], weight, bias)
    y = np.where(y < 0, slope * y, y)
    return y.reshape(x.shape).astype(x.dtype), mean.astype(x.dtype), var.astype(x.dtype)


def batch_norm_backward(g, x, mean, var, weight, eps, bias=None, slope=1.0):
    """(dx, dweight (C,), dbias (C,)) for g, where mean and var are those of x: with z = (x - mean) rstd and h = g weight,

    dx = rstd (h - mean(h) - z mean(h z)) with means over each channel, dweight = sum(g z), dbias = sum(g); where y = z weight + bias
    is not above 0, g is first multiplied by `slope`.
    """
    rstd = 1 / np.sqrt(var.astype(np.float64) + eps)[:, None]
    z, g = (_wide(x) - mean[:, None]) * rstd, _wide(g)
    g = np.where(_affine(z, weight, bias) > 0, g, slope * g)
    h = _affine(g, weight, None)
    dx = rstd * (h - h.mean((0, 2), keepdims=True) - z * (h * z).mean((0, 2), keepdims=True)) if x.size else h
    return dx.reshape(x.shape).astype(x.dtype), np.sum(g * z, (0, 2)).astype(x.dtype), np.sum(g, (0, 2)).astype(x.dtype)


def group_norm(x, groups, weight, bias, eps):
    """(y, mean (N, groups), var (N, groups)): as batch_norm, with statistics of each example's C / groups neighbouring channels."""
    wide, rows = _wide(x), _rows(x, groups)
    with np.errstate(all="ignore"):
        mean = np.sum(rows, 2) / rows.shape[2]
        var = np.sum((rows - mean[:, :, None]) ** 2, 2) / rows.shape[2]
    z = ((rows - mean[:, :, None]) / np.sqrt(var + eps)[:, :, None]).reshape(wide.shape)
    return _affine(z, weight, bias).reshape(x.shape).astype(x.dtype), mean.astype(x.dtype), var.astype(x.dtype)


def group_norm_backward(g, x, mean, var, weight, eps):
    """(dx, dweight (C,), dbias (C,)): as batch_norm_backward, with means over each group."""
    groups, rstd = mean.shape[1], 1 / np.sqrt(var.astype(np.float64) + eps)[:, :, None]
    z, h = (_rows(x, groups) - mean[:, :, None]) * rstd, _rows(_affine(_wide(g), weight, None), groups)
    dx = rstd * (h - h.mean(2, keepdims=True) - z * (h * z).mean(2, keepdims=True)) if x.size else h
    g, z = _wide(g), z.reshape(_wide(x).shape)
    return dx.reshape(x.shape).astype(x.dtype), np.sum(g * z, (0, 2)).astype(x.dtype), np.sum(g, (0, 2)).astype(x.dtype)


def _wide(x):
    """(N, C, ...) as float64 (N, C, L)."""
    return x.astype(np.float64).reshape(*x.shape[:2], int(np.prod(x.shape[2:])))


def _rows(x, groups):
    """(N, C, ...) as float64 (N, groups, numbers of a group)."""
    return x.astype(np.float64).reshape(len(x), groups, x.shape[1] // groups * int(np.prod(x.shape[2:])))


def _affine(z, weight, bias):
    """z weight + bias, channel by channel, for z (N, C, L)."""
    z = z if weight is None else z * weight[:, None]
    return z if bias is None else z + bias[:, None]
