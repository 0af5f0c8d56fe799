"""Up- and down-sampling, and the reading of a tensor at a grid of positions that it is made of."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

import kernels
from scratchnn.op import op
from scratchnn.ops.pool import Sizes, check_spatial
from scratchnn.tensor import Tensor

_WHOLE = (np.array([2, 0, 0, 1]), np.array([1, 1, 3]))
_BETWEEN = (np.array([0, 0.75, 2]), np.array([2.5, 3, 0.25, 1]))


@op(cases=[((2, 2, 3, 4), _WHOLE), ((2, 4), _WHOLE[1:]), ((0, 4), _WHOLE[1:])])
def take_grid(x, grid):
    """x[..., grid[0][i], grid[1][j]]: a table of whole numbers for each of the last dimensions."""
    return kernels.take_grid(x, grid)


@take_grid.vjp
def _(g, x_shape, grid):
    return take_grid_backward(g, grid, x_shape[-len(grid):])


@op(cases=[((2, 2, 4, 3), _WHOLE, (3, 4)), ((2, 3), _WHOLE[1:], (4,))])
def take_grid_backward(grad, grid, size):
    """Zeros of `size` with grad added at the places of the grid."""
    return kernels.take_grid_backward(grad, grid, size)


@take_grid_backward.vjp
def _(g, grid):
    return take_grid(g, grid)


@op(cases=[((2, 2, 3, 4), _BETWEEN), ((2, 4), _BETWEEN[1:]), ((0, 4), _BETWEEN[1:])])
def lerp_grid(x, grid):
    """x at positions between its elements, linear along each of the last dimensions: a table of floats for each."""
    return kernels.lerp_grid(x, grid)


@lerp_grid.vjp
def _(g, x_shape, grid):
    return lerp_grid_backward(g, grid, x_shape[-len(grid):])


@op(cases=[((2, 2, 3, 4), _BETWEEN, (3, 4)), ((2, 4), _BETWEEN[1:], (4,))])
def lerp_grid_backward(grad, grid, size):
    """Zeros of `size` with grad shared by the elements that each position lies between."""
    return kernels.lerp_grid_backward(grad, grid, size)


@lerp_grid_backward.vjp
def _(g, grid):
    return lerp_grid(g, grid)


# ---- where the values of another size lie ---------------------------------------------------------------------------
# As torch computes them, in the dtype of the input (its floor is that of float32 all the same): a position close to an element may
# otherwise round to the one before.

def _nearest(size, count, scale, dtype):
    """The element at each of `count` positions: floor(i size / count), or floor(i / scale) if the scale was given."""
    step = dtype.type(1 / scale if scale else size / count)
    return np.minimum(np.floor((step * np.arange(count, dtype=dtype)).astype(np.float32)).astype(np.int64), size - 1)


def _linear(size, count, scale, dtype, align_corners):
    """Positions between elements, in the middle of pixels of the new size, or from the first element to the last with align_corners."""
    i = np.arange(count, dtype=np.float64)
    if count == size:
        return i
    if align_corners:
        return np.minimum((dtype.type((size - 1) / (count - 1) if count > 1 else 0) * i).astype(dtype), size - 1)
    position = dtype.type(1 / scale if scale else size / count) * (i + 0.5) - 0.5
    return np.clip(position.astype(dtype), 0, size - 1)


def interpolate(input: Tensor, size: Sizes | None = None, scale_factor: float | Sequence[float] | None = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None) -> Tensor:
    """A signal or pictures of another size: (N, C, L) -> (N, C, l) or (N, C, H, W) -> (N, C, h, w).

    size            the new size, a number or one for each dimension; or
    scale_factor    what the old size is multiplied by and rounded down. Positions come from this number, not from the rounded size,
                    unless recompute_scale_factor
    mode            "nearest" (the element at floor(i / scale)), "linear" for (N, C, L), "bilinear" for (N, C, H, W)
    align_corners   for the linear modes: the first and last elements keep their values; otherwise pixels are squares whose middles
                    are compared, and the border's values go on outside

    ValueError if the arguments do not fit each other or the input.
    """
    linear = {"linear": 1, "bilinear": 2}
    if mode != "nearest" and mode not in linear:
        raise ValueError(f"interpolate: mode {mode!r} is not known; 'nearest', 'linear' and 'bilinear' are")
    if input.ndim not in (3, 4):
        raise ValueError(f"interpolate: the input must have shape (N, C, L) or (N, C, H, W), not {input.shape}")
    dims = linear.get(mode, input.ndim - 2)
    check_spatial(f"interpolate with mode {mode!r}", input, dims, batched=True)
    if mode == "nearest" and align_corners is not None:
        raise ValueError("interpolate: align_corners is an option of the modes 'linear' and 'bilinear', not of 'nearest'")
    old, dtype = input.shape[2:], input.dtype if input.is_floating_point() else np.dtype(np.float32)
    new, scales = _new_size(old, size, scale_factor, recompute_scale_factor)
    if mode == "nearest":
        return take_grid(input, tuple(_nearest(*spec, dtype) for spec in zip(old, new, scales, strict=True)))
    return lerp_grid(input, tuple(_linear(*spec, dtype, align_corners) for spec in zip(old, new, scales, strict=True)))


def _new_size(old, size, scale_factor, recompute_scale_factor):
    """(new sizes, scales that decide the positions or None for each dimension)."""
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate: give either size or scale_factor, got size={size} and scale_factor={scale_factor}")
    if size is not None and recompute_scale_factor:
        raise ValueError("interpolate: recompute_scale_factor has no meaning with a size")
    given, label = (size, "size") if size is not None else (scale_factor, "scale_factor")
    values = tuple(given) if isinstance(given, Sequence) else (given,) * len(old)
    if len(values) != len(old):
        raise ValueError(f"interpolate: {label} {given} has {len(values)} numbers, the input {len(old)} dimensions to resize: {old}")
    new = tuple(operator.index(v) for v in values) if size is not None else tuple(int(n * v) for n, v in zip(old, values, strict=True))
    if min(new) < 1:
        raise ValueError(f"interpolate: {label} {given} makes {new} of {old}; every size must be at least 1")
    return new, (None,) * len(old) if size is not None or recompute_scale_factor else values
