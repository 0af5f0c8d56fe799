"""Indexing: slices, integer and boolean arrays, gather, embedding lookup; and their derivatives, which scatter."""

from __future__ import annotations

import numpy as np

import kernels
from scratchnn.op import op
from scratchnn.ops.arithmetic import where
from scratchnn.ops.shape import dimension, reshape
from scratchnn.tensor import Tensor


def index_key(key):
    """A key for NumPy from one that may hold Tensors, lists and, inside, tuples: these become arrays of their own."""
    return tuple(_key_part(k) for k in key) if isinstance(key, tuple) else _key_part(key)


def _key_part(part):
    """One place of a key: slices, numbers, None and ... as they are, an integer array without dimensions as a number."""
    if isinstance(part, Tensor):
        part = part.array.copy()                               # a later change in place must not reach the gradient
    elif isinstance(part, (list, tuple)):
        part = np.asarray(part) if len(part) else np.zeros(0, np.int64)
    return int(part) if _is_array(part) and part.ndim == 0 and part.dtype.kind in "iu" else part


def _is_array(part):
    """Of a key: an array, on the host or on the GPU."""
    return hasattr(part, "dtype")


def _is_basic(key):
    """Whether the key takes each element at most once: numbers, slices, None, ... and booleans, but no integer arrays."""
    return all(not _is_array(k) or k.dtype == bool for k in (key if isinstance(key, tuple) else (key,)))


def _viewing(key):
    """The key with ... at its end if it has no arrays: NumPy then gives a view even of a single element."""
    parts = key if isinstance(key, tuple) else (key,)
    return key if any(k is ... or _is_array(k) for k in parts) else (*parts, ...)


@op(view=True, cases=[((3, 4), (slice(None), np.array([0, 0, 2]))), ((3, 4), 1), ((4, 5), (slice(None, None, -2), None, 3)),
                      ((3,), np.array([True, False, True]))])
def getitem(x, key):
    """x[key]: slices (views), numbers, None, ..., boolean masks and integer arrays."""
    return np.asarray(x[_viewing(key)], like=x)


@getitem.vjp
def _(g, x_shape, key):
    return scatter_key(g, x_shape, key)


@op(cases=[((2, 3), (2, 5), (slice(None), np.array([0, 0, 2])))])
def scatter_key(x, shape, key):
    """Zeros of `shape` with x added at [key]; an element named twice gets both, in order."""
    y = np.zeros(shape, x.dtype, like=x)
    if _is_basic(key):
        y[key] = x
    else:
        np.add.at(y, key, x)
    return y


@scatter_key.vjp
def _(g, key):
    return getitem(g, key)


def _along(index, dim):
    """A NumPy key that takes index[i, j, k] along `dim` and i, j, k elsewhere."""
    grids = np.ogrid[tuple(slice(n) for n in index.shape)]
    return tuple(index if d == dim else grids[d] for d in range(index.ndim))


def _checked(name, index, size):
    """Integer indices, none outside 0..size - 1; those on the GPU are looked at by the kernels."""
    if index.dtype.kind not in "iu":
        raise TypeError(f"{name}: indices must be integers, not {index.dtype}")
    if isinstance(index, np.ndarray) and index.size and not 0 <= index.min() <= index.max() < size:
        bad = index[(index < 0) | (index >= size)].flat[0]
        raise IndexError(f"{name}: index {bad} is outside 0..{size - 1}")
    return index


@op(cases=[((3, 4), 1, np.array([[0, 0], [3, 1]]))])
def gather(x, dim, index):
    """y[i][j][k] = x[i][index[i][j][k]][k] for dim = 1: index has x's number of dimensions, and at most its other sizes."""
    dim = dimension(dim, x.ndim)
    if index.ndim != x.ndim or any(n > m for d, (n, m) in enumerate(zip(index.shape, x.shape, strict=True)) if d != dim):
        raise ValueError(f"gather: an index of shape {index.shape} does not fit shape {x.shape} along dimension {dim}")
    part = x[tuple(slice(None) if d == dim else slice(n) for d, n in enumerate(index.shape))]
    return np.take_along_axis(part, _checked("gather", index, x.shape[dim]), dim)


@gather.vjp("x")
def _(g, x_shape, dim, index):
    return scatter_add(g, dim, index, x_shape)


@op(cases=[((2, 2), 1, np.array([[0, 0], [3, 1]]), (3, 4))])
def scatter_add(x, dim, index, shape):
    """Zeros of `shape` with x added at the places that gather with the same index would read, in order."""
    if not isinstance(x, np.ndarray):
        from kernels.cuda.indexing import add_along
        return add_along(x, dim % len(shape), index, shape)
    y = np.zeros(shape, x.dtype)
    np.add.at(y, _along(index, dim % len(shape)), x)
    return y


@scatter_add.vjp("x")
def _(g, dim, index):
    return gather(g, dim, index)


def index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of x along `dim` that a one-dimensional index names."""
    if index.ndim != 1:
        raise ValueError(f"index_select: the index must have one dimension, not shape {index.shape}")
    dim = dimension(dim, x.ndim)
    return x[(slice(None),) * dim + (Tensor(_checked("index_select", index.array, x.shape[dim])),)]


@op(cases=[(np.array([[1, 0], [1, 4]]), (5, 3))])
def lookup(index, weight):
    """Rows of weight (V, D) for an index of any shape: (...) -> (..., D)."""
    if index.dtype.kind not in "iu":
        raise TypeError(f"embedding: indices must be integers, not {index.dtype}")
    rows = kernels.gather_rows(weight, index.reshape(-1).astype(np.int64, copy=False))
    return rows.reshape(*index.shape, weight.shape[1])


@lookup.vjp("weight")
def _(g, index, weight_shape):
    return scatter_rows(g, index, weight_shape[0])


@op(cases=[((2, 2, 3), np.array([[1, 0], [1, 4]]), 5)])
def scatter_rows(x, index, rows):
    """Zeros (rows, D) with the rows of x (..., D) added at an index (...), in order."""
    return kernels.scatter_add_rows(x.reshape(-1, x.shape[-1]), index.reshape(-1).astype(np.int64, copy=False), rows)


@scatter_rows.vjp("x")
def _(g, index):
    return lookup(index, g)


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Rows of weight (V, D) for indices of any shape: (...) -> (..., D). The row padding_idx gets no gradient."""
    y = lookup(input, weight)
    if padding_idx is None:
        return y
    padding = reshape(input == padding_idx % weight.shape[0], (*input.shape, 1))
    return where(padding, y.detach(), y)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Class numbers (...) as rows of zeros with a single 1: (..., num_classes), int64. -1 takes the largest number plus one."""
    index = tensor.array
    classes = num_classes if num_classes != -1 else int(index.max()) + 1
    return Tensor((_checked("one_hot", index, classes)[..., None] == np.arange(classes, like=index)).astype(np.int64))
