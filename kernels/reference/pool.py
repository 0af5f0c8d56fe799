"""Pooling in NumPy, window by window, over as many of the last dimensions as there are sizes."""

import itertools
import math

import numpy as np


def max_pool(x, size, kernel_size, stride, padding, dilation):
    """(y, places): the largest value of each window x[i s + a d - p], a < kernel_size, and its place in row order; of NaN the last."""
    leading, shape = x.shape[:-len(size)], x.shape[-len(size):]
    y, places = np.empty((*leading, *size), x.dtype), np.empty((*leading, *size), np.int64)
    number = np.arange(math.prod(shape)).reshape(shape)
    for out in itertools.product(*map(range, size)):
        taps = [i * s - p + d * np.arange(k) for i, k, s, p, d in zip(out, kernel_size, stride, padding, dilation, strict=True)]
        window = np.ix_(*[t[(t >= 0) & (t < n)] for t, n in zip(taps, shape, strict=True)])
        values = x[(..., *window)].reshape(*leading, number[window].size)
        nan = np.isnan(values)
        best = np.where(nan.any(-1), values.shape[-1] - 1 - nan[..., ::-1].argmax(-1), np.where(nan, -np.inf, values).argmax(-1))
        y[(..., *out)] = np.take_along_axis(values, best[..., None], -1)[..., 0]
        places[(..., *out)] = number[window].ravel()[best]
    return y, places


def max_pool_values(x, size, kernel_size, stride, padding, dilation):
    """The y of max_pool alone."""
    return max_pool(x, size, kernel_size, stride, padding, dilation)[0]


def max_pool_backward(g, places, size):
    """dx (..., H, W): g added at its places."""
    leading = g.shape[:g.ndim - len(size)]
    dx = np.zeros((math.prod(leading), math.prod(size)), g.dtype)
    outputs = len(dx), math.prod(g.shape[g.ndim - len(size):])
    for plane, grads, at in zip(dx, g.reshape(outputs), places.reshape(outputs), strict=True):
        np.add.at(plane, at, grads)
    return dx.reshape(*leading, *size)


def _boxes(windows):
    """(output, slices of its window, divisor) for each output of tables (start, end, divisor)."""
    for out in itertools.product(*[range(table.shape[1]) for table in windows]):
        rows = [table[:, i] for table, i in zip(windows, out, strict=True)]
        yield out, tuple(slice(start, end) for start, end, _ in rows), math.prod(int(divisor) for *_, divisor in rows)


def avg_pool(x, windows):
    """The sum of x over each window (start, end, divisor per dimension), divided by the product of its divisors."""
    y = np.empty((*x.shape[:-len(windows)], *(table.shape[1] for table in windows)), x.dtype)
    for out, window, divisor in _boxes(windows):
        y[(..., *out)] = x[(..., *window)].astype(np.float64).sum(tuple(range(-len(windows), 0))) / divisor
    return y


def avg_pool_backward(g, windows, size):
    """dx: g divided by the divisors of its window, added all over the window."""
    dx = np.zeros((*g.shape[:g.ndim - len(size)], *size))
    for out, window, divisor in _boxes(windows):
        dx[(..., *window)] += g[(..., *out)].reshape(*g.shape[:g.ndim - len(size)], *[1] * len(size)) / divisor
    return dx.astype(g.dtype)
