"""Pooling: the largest value or the average of each window of a signal (N, C, L) or of pictures (N, C, H, W).

A single example, (C, L) or (C, H, W), is taken too. Sizes of windows are numbers, or one for each pooled dimension.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

import kernels
from scratchnn.grad_mode import grad_mode
from scratchnn.op import op
from scratchnn.ops.index import gather
from scratchnn.ops.reduce import mean
from scratchnn.ops.shape import reshape
from scratchnn.tensor import Tensor

Sizes = int | Sequence[int]


# ---- arguments ------------------------------------------------------------------------------------------------------

def _per_dimension(name: str, label: str, value: Sizes, dims: int, least: int = 1) -> tuple[int, ...]:
    """A whole number, or a sequence of one or of `dims` of them, as a tuple of `dims`; ValueError if one is below `least`."""
    values = tuple(operator.index(v) for v in (value if isinstance(value, Sequence) else (value,)))
    values = values * dims if len(values) == 1 else values
    if len(values) != dims or min(values) < least:
        raise ValueError(f"{name}: {label} must be a whole number from {least} on or {dims} of them, not {value}")
    return values


def check_spatial(name: str, x, dims: int, batched: bool = False) -> None:
    """ValueError unless x has the shape (N, C, L) or (N, C, H, W); without `batched` (C, L) or (C, H, W) fit too."""
    last = ("L",) if dims == 1 else ("H", "W")
    if x.ndim != dims + 2 and (batched or x.ndim != dims + 1):
        fitting = " or ".join(f"({', '.join(lead + last)})" for lead in ((("N", "C"),) if batched else (("N", "C"), ("C",))))
        raise ValueError(f"{name}: the input must have shape {fitting}, not {x.shape}")
    if 0 in x.shape[-dims:]:
        raise ValueError(f"{name}: the dimensions {', '.join(last)} of the input must not be empty, got shape {x.shape}")


@lru_cache(maxsize=4096)
def _pooled(name: str, size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows fit along a dimension of this size; ValueError if none does."""
    if 2 * padding > kernel:
        raise ValueError(f"{name}: padding {padding} is more than half of kernel_size {kernel}; at most {kernel // 2} fits")
    extent = dilation * (kernel - 1) + 1
    count = (size + 2 * padding - extent + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:             # the last window must begin inside or in the left padding
        count -= 1
    if count < 1:
        spread = f" and dilation {dilation}" if dilation > 1 else ""
        raise ValueError(f"{name}: a window of {extent} (kernel_size {kernel}{spread}) does not fit an input of {size} with padding "
                         f"{padding}; size + 2 padding must be at least {extent}")
    if padding > 0 and any((start % dilation) >= size for start in range(-padding, min(0, (count - 1) * stride - padding + 1), stride)):
        raise ValueError(f"{name}: with padding {padding} and dilation {dilation} a window holds nothing of an input of {size}")
    return count


# ---- maxima ---------------------------------------------------------------------------------------------------------

@op(cases=[((2, 2, 5, 4), (2, 2), (2, 2), (2, 2), (0, 0), (1, 1)), ((1, 5, 6), (3, 3), (3, 2), (2, 3), (1, 1), (1, 2)),
           ((2, 3, 7), (4,), (3,), (2,), (1,), (1,)), ((0, 2, 4), (2,), (2,), (2,), (0,), (1,))])
def max_pool(x, size, kernel_size, stride, padding, dilation):
    """(y, places): the largest value of each window and its place in the plane, for as many of the last dimensions as sizes."""
    return kernels.max_pool(x, size, kernel_size, stride, padding, dilation)


@max_pool.vjp
def _(g, x_shape, size, y1):
    return max_pool_backward(g[0], y1, x_shape[-len(size):])


@op(cases=[((2, 2, 5, 4), (2, 2), (2, 2), (2, 2), (0, 0), (1, 1)), ((2, 3, 7), (4,), (3,), (2,), (1,), (1,))])
def max_pool_values(x, size, kernel_size, stride, padding, dilation):
    """The y of `max_pool` alone, faster; a gradient looks for the places again."""
    return kernels.max_pool_values(x, size, kernel_size, stride, padding, dilation)


@max_pool_values.vjp
def _(g, x, size, kernel_size, stride, padding, dilation):
    places = kernels.max_pool(x.array, size, kernel_size, stride, padding, dilation)[1]
    return max_pool_backward(g, places, x.shape[-len(size):])


@op(cases=[((1, 2, 2, 2), np.array([[[[0, 1], [1, 5]], [[2, 2], [2, 3]]]]), (2, 3)), ((1, 3), np.array([[2, 2, 0]]), (4,))])
def max_pool_backward(grad, places, size):
    """Zeros of `size` with grad added at its places."""
    return kernels.max_pool_backward(grad, places, size)


@max_pool_backward.vjp("grad")
def _(g, places, size):
    lead = places.shape[:places.ndim - len(size)]
    flat, at = (reshape(t, (*lead, math.prod(t.shape[len(lead):]))) for t in (g, places))
    return reshape(gather(flat, -1, at), places.shape)


def _max_pool(name, input, dims, kernel_size, stride, padding, dilation, ceil_mode, return_indices):
    check_spatial(name, input, dims)
    kernel, stride = _window(name, dims, kernel_size, stride)
    padding, dilation = _per_dimension(name, "padding", padding, dims, 0), _per_dimension(name, "dilation", dilation, dims)
    size = tuple(map(_pooled, (name,) * dims, input.shape[-dims:], kernel, stride, padding, dilation, (ceil_mode,) * dims))
    arguments = (input, size, kernel, stride, padding, dilation)
    if return_indices:
        return max_pool(*arguments)
    return max_pool(*arguments)[0] if input.requires_grad and grad_mode.enabled else max_pool_values(*arguments)


def _window(name, dims, kernel_size, stride):
    """(kernel_size, stride), a number for each dimension; the stride is the kernel_size if there is none."""
    kernel = _per_dimension(name, "kernel_size", kernel_size, dims)
    return kernel, kernel if stride is None or stride == () or stride == [] else _per_dimension(name, "stride", stride, dims)


def max_pool1d(input: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The largest of each window: (N, C, L) -> (N, C, l), l = floor((L + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1.

    ceil_mode rounds up instead, as long as a window begins before the right padding. The stride is kernel_size by default. The padding
    never wins; it is at most half of kernel_size. return_indices adds where in L each value lies (int64; of equal ones the first).
    ValueError if no window fits.
    """
    return _max_pool("max_pool1d", input, 1, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(input: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1,
               ceil_mode: bool = False, return_indices: bool = False) -> Tensor | tuple[Tensor, Tensor]:
    """The largest of each window: (N, C, H, W) -> (N, C, h, w), with max_pool1d's formula for each of them.

    return_indices adds where each value lies, counted row by row in H x W (int64; of equal ones the first).
    """
    return _max_pool("max_pool2d", input, 2, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


# ---- averages -------------------------------------------------------------------------------------------------------

_TABLES = (np.array([[0, 1, 2], [2, 2, 5], [2, 1, 4]]), np.array([[0, 3], [4, 4], [4, 2]]))


@op(cases=[((2, 2, 5, 4), _TABLES), ((3, 4), _TABLES[1:]), ((0, 4), _TABLES[1:])])
def avg_pool(x, windows):
    """Sums over windows divided by their divisors: a table (start, end, divisor) for each of the last dimensions."""
    return kernels.avg_pool(x, windows)


@avg_pool.vjp
def _(g, x_shape, windows):
    return avg_pool_backward(g, windows, x_shape[-len(windows):])


@op(cases=[((2, 2, 3, 2), _TABLES, (5, 4)), ((3, 2), _TABLES[1:], (4,))])
def avg_pool_backward(grad, windows, size):
    """Zeros of `size` with grad / divisor added all over its window."""
    return kernels.avg_pool_backward(grad, windows, size)


@avg_pool_backward.vjp
def _(g, windows):
    return avg_pool(g, windows)


@lru_cache(maxsize=4096)
def _sliding(size, count, kernel, stride, padding, count_include_pad):
    """(3, count): start, end and divisor of windows of `kernel` elements; the divisor counts padding only where it was asked for."""
    start = np.arange(count) * stride - padding
    end = np.minimum(start + kernel, size + padding)
    inside = np.maximum(start, 0), np.minimum(end, size)
    return np.stack([*inside, end - start if count_include_pad else inside[1] - inside[0]])


def _sliding_windows(name, input, dims, kernel_size, stride, padding, ceil_mode, count_include_pad):
    """The table of each pooled dimension, after a check of the arguments."""
    check_spatial(name, input, dims)
    kernel, stride = _window(name, dims, kernel_size, stride)
    padding = _per_dimension(name, "padding", padding, dims, 0)
    return tuple(_sliding(n, _pooled(name, n, k, s, p, 1, ceil_mode), k, s, p, count_include_pad)
                 for n, k, s, p in zip(input.shape[-dims:], kernel, stride, padding, strict=True))


def avg_pool1d(input: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Tensor:
    """The mean of each window: (N, C, L) -> (N, C, l), l as for max_pool1d.

    Padding, at most half of kernel_size, counts as zeros, or not at all without count_include_pad. What ceil_mode lets a window reach
    beyond the padding never counts.
    """
    return avg_pool(input, _sliding_windows("avg_pool1d", input, 1, kernel_size, stride, padding, ceil_mode, count_include_pad))


def avg_pool2d(input: Tensor, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
               count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """The mean of each window: (N, C, H, W) -> (N, C, h, w), as avg_pool1d along both; divisor_override divides the sums instead."""
    rows, columns = _sliding_windows("avg_pool2d", input, 2, kernel_size, stride, padding, ceil_mode, count_include_pad)
    if divisor_override is not None:
        if divisor_override == 0:
            raise ValueError("avg_pool2d: divisor_override must not be zero")
        divisors = (rows, operator.index(divisor_override)), (columns, 1)
        rows, columns = (np.stack([*table[:2], np.full(table.shape[1], d)]) for table, d in divisors)
    return avg_pool(input, (rows, columns))


@lru_cache(maxsize=4096)
def _even(size, count):
    """(3, count): window i holds the elements floor(i size / count) to ceil((i + 1) size / count) - 1, and its divisor is their number."""
    i = np.arange(count)
    start, end = i * size // count, -(-(i + 1) * size // count)
    return np.stack([start, end, end - start])


def _adaptive_avg_pool(name, input, dims, output_size):
    check_spatial(name, input, dims)
    size = output_size if isinstance(output_size, Sequence) else (output_size,)
    size = size * dims if len(size) == 1 else size
    if len(size) != dims or any(n is not None and n < 0 for n in size):
        raise ValueError(f"{name}: output_size must be a whole number from 0 on or {dims} of them (None keeps a size), not {output_size}")
    size = [n if want is None else operator.index(want) for n, want in zip(input.shape[-dims:], size, strict=True)]
    if size == [1] * dims:                                       # a sum of everything fills the vectors where short rows cannot
        return mean(input, tuple(range(-dims, 0)), keepdim=True)
    return avg_pool(input, tuple(map(_even, input.shape[-dims:], size)))


def adaptive_avg_pool1d(input: Tensor, output_size: Sizes) -> Tensor:
    """Means of output_size windows that cover L evenly, and overlap where it does not divide: (N, C, L) -> (N, C, output_size)."""
    return _adaptive_avg_pool("adaptive_avg_pool1d", input, 1, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means of windows that cover the picture evenly: (N, C, H, W) -> (N, C, *output_size); None keeps a size, one number is for both."""
    return _adaptive_avg_pool("adaptive_avg_pool2d", input, 2, output_size)
