"""Arrays by arrays of whole numbers or of booleans, as NumPy reads, sets and adds to them: x[key], x[key] = value, np.add.at(x, key, g).

The dimensions that arrays index go first, as rows of a table; what is read or added then is a row for each index (embedding.py). Keys may
lie on the host or on the GPU; a boolean one is brought to the host, since the size of a result must be known there.
"""

import math
from functools import partial

import numpy as np

from kernels.cuda import elementwise, embedding
from kernels.cuda.array import DeviceArray, blocks, broadcast_to, contiguous, copy_into, empty, full, lowest, to_device
from kernels.cuda.checks import require_inside
from kernels.cuda.compiler import cuda, kernel, typed


def is_array(part):
    """Whether a part of a key is an array that has dimensions."""
    return isinstance(part, list) or (isinstance(part, DeviceArray | np.ndarray) and part.ndim > 0)


# ---- keys -----------------------------------------------------------------------------------------------------------

class _Plan:
    """What a key with arrays says of an array x.

    view      x, its slices taken
    axes      dimensions of the view that arrays index;  rest: the others
    sizes     of these dimensions
    index     (n,) int64 on the GPU: rows of the table of `sizes` rows
    found     shape of the arrays of the key
    place     where these dimensions lie in the result
    """

    def __init__(self, x, key):
        basic, arrays, places = _parts(x, key)
        self.view, self.axes = x[tuple(basic)], [axis for axis, _ in arrays]
        self.rest = [d for d in range(self.view.ndim) if d not in self.axes]
        self.sizes = [self.view.shape[axis] for axis in self.axes]
        together = places[-1] - places[0] + 1 == len(places)
        self.place = self.axes[0] if together else 0
        self.found = np.broadcast_shapes(*[index.shape for _, index in arrays])
        self.index = _rows([index for _, index in arrays], self.sizes, self.found)

    def ordered(self, count):
        """Dimensions of a result, given that the `count` ones of the key's arrays come first."""
        others = list(range(count, count + len(self.rest)))
        return [*others[:self.place], *range(count), *others[self.place:]]


def _parts(x, key):
    """(slices and None, [(dimension of the view, array)], where in the key the arrays are)."""
    expanded = []
    for part in key if isinstance(key, tuple) else (key,):
        part = np.asarray(part) if isinstance(part, list) else part
        if is_array(part) and part.dtype == np.bool_:
            expanded += np.nonzero(part.numpy() if isinstance(part, DeviceArray) else part)
        else:
            expanded.append(part)
    missing = x.ndim - sum(part is not None and part is not Ellipsis for part in expanded)
    if missing < 0:
        raise IndexError(f"{x.ndim - missing} indices for an array of {x.ndim} dimensions")
    at = next((i for i, part in enumerate(expanded) if part is Ellipsis), len(expanded))
    expanded[at:at + 1] = [slice(None)] * missing
    basic, arrays, places = [], [], []
    for i, part in enumerate(expanded):
        if part is None or isinstance(part, slice):
            basic.append(part)
        else:
            arrays.append((len(basic), part if isinstance(part, DeviceArray) else np.asarray(part)))
            places.append(i)
            basic.append(slice(None))
    return basic, arrays, places


def _rows(indices, sizes, shape):
    """One index (n,) on the GPU for arrays that index dimensions of these sizes. IndexError for one that lies outside: of arrays on the GPU
    when the host next waits."""
    total, step = None, 1
    for index, size in zip(indices[::-1], sizes[::-1], strict=True):
        if index.dtype.kind not in "iu":
            raise IndexError(f"arrays that index must hold whole numbers or booleans, not {index.dtype}")
        index = index.astype(np.int64, copy=False)
        if isinstance(index, DeviceArray):
            index = contiguous(elementwise.where(index < 0, index + size, index))
            require_inside(index, size, partial(_outside, size))
        else:
            low, high = (index.min(), index.max()) if index.size else (0, 0)
            if not -size <= low <= high < max(size, 1):
                raise _outside(size, 0, low if low < -size else high)
            index = np.where(index < 0, index + size, index)
            index = to_device(index) if any(isinstance(i, DeviceArray) for i in indices) else index
        total, step = (index if total is None else index * step + total), step * size
    if isinstance(total, DeviceArray):
        return contiguous(broadcast_to(total, shape)).ravel()
    return to_device(np.broadcast_to(total, shape).ravel())


def _outside(size, place, value):
    return IndexError(f"index {value} is outside a dimension of size {size}")


# ---- reading, setting, adding -----------------------------------------------------------------------------------------

def get(x, key):
    """x[key], a copy."""
    plan = _Plan(x, key)
    kept = [plan.view.shape[d] for d in plan.rest]
    table = contiguous(plan.view.transpose([*plan.axes, *plan.rest]))
    out, columns = empty((*plan.found, *kept), x.dtype), math.prod(kept)
    if out.size:
        embedding.gather_rows_kernel[blocks(out.size), 256](table, plan.index, out, math.prod(plan.sizes), columns, out.size)
    return out.transpose(plan.ordered(len(plan.found)))


def add_at(x, key, g):
    """x[key] += g, where an element that is named twice gets both, in the order of g."""
    plan = _Plan(x, key)
    kept, count = [plan.view.shape[d] for d in plan.rest], len(plan.found)
    g = broadcast_to(g, [(*plan.found, *kept)[d] for d in plan.ordered(count)])
    g = g.transpose(np.argsort(plan.ordered(count)).tolist()).reshape(plan.index.size, math.prod(kept))
    table = embedding.scatter_add_rows(g, plan.index, math.prod(plan.sizes)).reshape(*plan.sizes, *kept)
    added = table.transpose(np.argsort([*plan.axes, *plan.rest]).tolist())
    copy_into(plan.view, elementwise.add(plan.view, added))


@kernel
def put_kernel(x, start, offsets, values, n):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        x[start + offsets[i]] = values[i]


def put(x, key, value):
    """x[key] = value; of an element that is named twice the last one stays. The places are worked out on the host."""
    key = tuple(k.numpy() if isinstance(k, DeviceArray) else k for k in (key if isinstance(key, tuple) else (key,)))
    lines = [np.arange(n).reshape(n, *[1] * (x.ndim - 1 - d)) * x.strides[d] for d, n in enumerate(x.shape)]
    whole = sum(lines, np.zeros(x.shape, np.int64))
    offsets = whole[key]
    value = contiguous(broadcast_to(value.copy() if value.block is x.block else value, offsets.shape))
    last, places = np.unique(offsets.ravel()[::-1], return_index=True)
    if last.size < offsets.size:
        value = get(value.ravel(), offsets.size - 1 - places)
        offsets = last
    if offsets.size:
        x, start = lowest(x)
        put_kernel[blocks(offsets.size), 256](x, start, to_device(offsets.ravel()), value.astype(x.dtype, copy=False), offsets.size)


# ---- along one dimension ----------------------------------------------------------------------------------------------

@kernel
def take_along_kernel(x, index, y, size, count, inner, n):
    """y[outer, k, i] = x[outer, index[outer, k, i], i]: `count` of `size` numbers of each line, which lie `inner` apart."""
    for at in range(cuda.grid(1), n, cuda.gridsize(1)):
        k = index[at]
        y[at] = x[(at // inner // count * size + k) * inner + at % inner] if 0 <= k < size else typed(x, 0)


def take_along(x, index, dim):
    """x[i][index[i][j]] along a dimension, both arrays of one shape but for it."""
    size, count, inner = x.shape[dim], index.shape[dim], math.prod(index.shape[dim:][1:])
    index, y = _along(index, size), empty(index.shape, x.dtype)
    take_along_kernel[blocks(y.size), 256](contiguous(x), index, y, size, count, inner, y.size)
    return y


@kernel
def add_along_kernel(g, index, y, size, count, inner, n):
    """y[outer, s, i] = the sum of g[outer, k, i] over all k with index[outer, k, i] = s, in order: a thread for each sum."""
    for at in range(cuda.grid(1), n, cuda.gridsize(1)):
        place, first, total = at // inner % size, at // inner // size * count * inner + at % inner, typed(g, 0)
        for k in range(count):
            if index[first + k * inner] == place:
                total += g[first + k * inner]
        y[at] = total


def add_along(g, dim, index, shape):
    """Zeros of `shape` with g added at the places that take_along with the same index reads; both may be smaller in other dimensions."""
    own = [size if d == dim else n for d, (n, size) in enumerate(zip(g.shape, shape, strict=True))]
    size, count, inner = shape[dim], g.shape[dim], math.prod(g.shape[dim:][1:])
    y = empty(own, g.dtype)
    if y.size:
        add_along_kernel[blocks(y.size), 256](contiguous(g), _along(index, size), y, size, count, inner, y.size)
    if tuple(own) == tuple(shape):
        return y
    whole = full(shape, 0, g.dtype)
    copy_into(whole[tuple(slice(n) for n in own)], y)
    return whole


def _along(index, size):
    """The index as contiguous int64."""
    index = contiguous(index.astype(np.int64, copy=False))
    require_inside(index, size, partial(_outside, size))
    return index
