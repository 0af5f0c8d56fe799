"""Operations that move or join values without changing them. Those that can return a view do, as in torch."""

from __future__ import annotations

import itertools
import math
import operator

import numpy as np

from scratchnn.op import cast, expand, op, result_type
from scratchnn.tensor import Tensor

__all__ = ["cast", "cat", "chunk", "clone", "expand", "flatten", "flip", "narrow", "permute", "repeat", "reshape", "split",
           "squeeze", "stack", "t", "transpose", "unbind", "unflatten", "unsqueeze", "view"]


def dimension(dim: int, ndim: int) -> int:
    """A dimension counted from the left; IndexError if there is no such one."""
    if isinstance(dim, bool):
        raise TypeError(f"a dimension must be a whole number, not {dim}; give options such as keepdim by name")
    if not -ndim <= operator.index(dim) < ndim:
        raise IndexError(f"dimension {dim} does not exist; a tensor of {ndim} dimensions has {-ndim} to {ndim - 1}")
    return dim % ndim


def dimensions(dim, ndim: int) -> tuple[int, ...]:
    """Sorted dimensions counted from the left, from a number, several, or None for all; IndexError if one does not exist."""
    if dim is None:
        return tuple(range(ndim))
    if isinstance(dim, (tuple, list)):
        found = sorted(dimension(d, ndim) for d in dim)
        if len(set(found)) < len(found):
            raise ValueError(f"dimensions {tuple(dim)} name one dimension twice")
        return tuple(found)
    found = dimension(dim, ndim or 1)                          # without dimensions 0 and -1 are allowed, and mean nothing
    return (found,) if ndim else ()


@op(view=True, cases=[((3, 4), (2, 6)), ((2, 3), (-1,))])
def reshape(x, shape):
    """The same values in row order in another shape; one size may be -1. A view where that is possible."""
    try:
        return x.reshape(shape)
    except ValueError:
        raise ValueError(f"reshape: {x.size} values of shape {x.shape} do not fit shape {tuple(shape)}") from None


@reshape.vjp
def _(g, x_shape):
    return reshape(g, x_shape)


def view(x: Tensor, shape) -> Tensor:
    """reshape that never copies: RuntimeError if the values do not lie in memory as the shape needs."""
    y = reshape(x, shape)
    if x.numel() and not np.may_share_memory(x.array, y.array):
        raise RuntimeError(f"view: a tensor of shape {x.shape} that is not contiguous cannot be seen as {tuple(shape)} without a copy; "
                           "use reshape")
    return y


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim..end_dim joined into one."""
    if x.ndim == 0:
        return reshape(x, (1,))
    first, last = dimension(start_dim, x.ndim), dimension(end_dim, x.ndim)
    if first > last:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    return reshape(x, (*x.shape[:first], math.prod(x.shape[first:last + 1]), *x.shape[last + 1:]))


def unflatten(x: Tensor, dim: int, sizes) -> Tensor:
    """Dimension `dim` divided into `sizes`, one of which may be -1."""
    dim = dimension(dim, x.ndim)
    known = math.prod(n for n in sizes if n != -1)
    sizes = tuple(x.shape[dim] // known if n == -1 and known else n for n in sizes)
    return reshape(x, (*x.shape[:dim], *sizes, *x.shape[dim + 1:]))


def squeeze(x: Tensor, dim: int | None = None) -> Tensor:
    """Without the dimensions of size 1: all of them, or `dim` if it has size 1."""
    drop = dimensions(dim, x.ndim)
    return reshape(x, tuple(n for d, n in enumerate(x.shape) if n != 1 or d not in drop))


def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at `dim`."""
    dim = dimension(dim, x.ndim + 1)
    return reshape(x, (*x.shape[:dim], 1, *x.shape[dim:]))


@op(view=True, cases=[((2, 3, 4), (2, 0, 1)), ((2, 3), (-1, 0))])
def permute(x, dims):
    """Dimensions in the order `dims`. A view."""
    if sorted(dimension(d, x.ndim) for d in dims) != list(range(x.ndim)):
        raise ValueError(f"permute: {tuple(dims)} does not name each of the {x.ndim} dimensions of shape {x.shape} once")
    return x.transpose(dims)


@permute.vjp
def _(g, dims):
    back = [0] * g.ndim
    for i, d in enumerate(dims):
        back[d % g.ndim] = i
    return permute(g, tuple(back))


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Dimensions dim0 and dim1 exchanged. A view."""
    dims = list(range(x.ndim))
    a, b = dimension(dim0, x.ndim), dimension(dim1, x.ndim)
    dims[a], dims[b] = b, a
    return permute(x, tuple(dims))


def t(x: Tensor) -> Tensor:
    """A matrix transposed; fewer dimensions stay as they are."""
    if x.ndim > 2:
        raise ValueError(f"t() takes at most two dimensions, not shape {x.shape}; use transpose or permute")
    return transpose(x, 0, 1) if x.ndim == 2 else x


@op(cases=[((3, 4), (1,)), ((2, 3), (0, 1))])
def flip(x, dims):
    """Reversed along `dims`. A copy, as in torch."""
    return np.flip(x, dimensions(tuple(dims), x.ndim)).copy()


@flip.vjp
def _(g, dims):
    return flip(g, dims)


@op
def clone(x):
    """A copy, contiguous."""
    return x.copy()


@clone.vjp
def _(g):
    return g


def repeat(x: Tensor, times) -> Tensor:
    """The whole tensor laid side by side times[d] times along dimension d."""
    if len(times) < x.ndim:
        raise ValueError(f"repeat: {tuple(times)} has fewer numbers than the {x.ndim} dimensions of shape {x.shape}")
    own = (1,) * (len(times) - x.ndim) + x.shape
    pairs = [size for n, own_size in zip(times, own, strict=True) for size in (n, own_size)]
    spread = expand(reshape(x, tuple(size for own_size in own for size in (1, own_size))), tuple(pairs))
    return reshape(spread, tuple(n * own_size for n, own_size in zip(times, own, strict=True)))


@op(cases=[(1, (3, 2), (3, 4)), (0, (2,), (1,), (3,))])
def _cat(dim, *tensors):
    """Tensors joined along `dim`; all other sizes equal."""
    shapes = [x.shape for x in tensors]
    dim = dimension(dim, len(shapes[0]))
    if any(len(s) != len(shapes[0]) or s[:dim] + s[dim + 1:] != shapes[0][:dim] + shapes[0][dim + 1:] for s in shapes):
        raise ValueError(f"cat: shapes {', '.join(map(str, shapes))} do not fit along dimension {dim}; all other sizes must be equal")
    return np.concatenate(tensors, dim)


@_cat.vjp("tensors")
def _(g, dim, tensors_shape):
    return split(g, [shape[dim] for shape in tensors_shape], dim)


def cat(tensors, dim: int = 0) -> Tensor:
    """Tensors joined along `dim`; all other sizes equal, dtypes are promoted."""
    tensors = _alike(tensors)
    if not tensors:
        raise ValueError("cat: needs at least one tensor")
    return _cat(dim, *tensors)


def _alike(tensors):
    """Tensors brought to one dtype by torch's rules."""
    tensors = tuple(tensors)
    dtype = result_type(*tensors)
    return [x.to(dtype) for x in tensors]


def stack(tensors, dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension `dim`; dtypes are promoted."""
    return cat([unsqueeze(x, dim) for x in _alike(tensors)], dim)


@op(view=True, cases=[((3, 5), 1, 1, 3)])
def narrow(x, dim, start, length):
    """Elements start..start + length - 1 along `dim`. A view."""
    dim = dimension(dim, x.ndim)
    if not 0 <= start <= start + length <= x.shape[dim]:
        raise IndexError(f"narrow: {start}..{start + length} does not lie in 0..{x.shape[dim]}, the size of dimension {dim}")
    return x[(slice(None),) * dim + (slice(start, start + length),)]


@narrow.vjp
def _(g, x_shape, dim, start, length):
    before = [(0, 0)] * len(x_shape)
    before[dim] = (start, x_shape[dim] - start - length)
    return pad_constant(g, tuple(before), 0.0)


@op(cases=[((3, 4), ((1, 2), (-1, 1)), 0.5)])
def pad_constant(x, widths, value):
    """Surrounded by `value`: widths[d] = (before, after) along dimension d, negative to crop."""
    around = np.full([max(0, before + n + after) for n, (before, after) in zip(x.shape, widths, strict=True)], value, x.dtype, like=x)
    inside = tuple(slice(max(before, 0), n - max(after, 0)) for n, (before, after) in zip(around.shape, widths, strict=True))
    around[inside] = x[tuple(slice(max(-before, 0), n - max(-after, 0)) for n, (before, after) in zip(x.shape, widths, strict=True))]
    return around            # np.pad() takes ten times as long for small arrays


@pad_constant.vjp
def _(g, widths):
    return pad_constant(g, tuple((-a, -b) for a, b in widths), 0.0)


@op(view=True, cases=[((3, 5), (1, 2, 2), 1)])
def _split(x, sizes, dim):
    """Pieces of these sizes along `dim`. Views."""
    before, starts = (slice(None),) * dim, itertools.accumulate(sizes, initial=0)
    return tuple([x[(*before, slice(start, start + size))] for start, size in zip(starts, sizes, strict=False)])


@_split.vjp
def _(g, x_shape, x_dtype, sizes, dim):
    known = next(part.array for part in g if part is not None)

    def zeros(size):
        return Tensor(np.zeros((*x_shape[:dim], size, *x_shape[dim + 1:]), x_dtype, like=known))
    return cat([zeros(size) if part is None else part for part, size in zip(g, sizes, strict=True)], dim)


def split(x: Tensor, split_size_or_sections, dim: int = 0) -> tuple[Tensor, ...]:
    """Pieces of a size (the last may be smaller), or of a list of sizes, along `dim`. Views."""
    dim, size = dimension(dim, x.ndim), split_size_or_sections
    if isinstance(size, int):
        if size < 1:
            raise ValueError(f"split: the size of a piece must be positive, not {size}")
        size = [min(size, x.shape[dim] - start) for start in range(0, x.shape[dim], size)]
    if sum(size) != x.shape[dim] or min(size, default=0) < 0:
        raise ValueError(f"split: sizes {list(size)} do not add up to {x.shape[dim]}, the size of dimension {dim}")
    return _split(x, tuple(size), dim) if len(size) > 1 else (narrow(x, dim, 0, x.shape[dim]),)


def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` pieces of equal size (the last may be smaller) along `dim`. Views."""
    return split(x, max(1, -(-x.shape[dim] // chunks)), dim)


def unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The slices along `dim`, each without that dimension. Views."""
    dim = dimension(dim, x.ndim)
    return tuple(squeeze(piece, dim) for piece in split(x, 1, dim)) if x.shape[dim] else ()
