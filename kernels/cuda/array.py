"""DeviceArray: numbers in the GPU's memory.

A new array is contiguous, and kernels read and write contiguous arrays. Views (transposed, sliced, repeated) share their array's
memory and are made on the host alone; a kernel copies one that is not contiguous first, except where it reads it as it lies, as a
matrix product does with transposed operands.
"""

import math
from typing import NamedTuple

import numpy as np

from kernels.cuda import runtime
from kernels.cuda.compiler import cuda, kernel

DTYPES = [np.dtype(t) for t in (np.float32, np.float64, np.int64, np.int32, np.uint32, np.uint64, np.uint8, np.bool_)]
DIMENSIONS = 6         # of a view that is copied, once neighbours that lie one behind the other are counted as one


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """shape, dtype; strides, in numbers, not bytes; the address of the first number; the block of memory that it lies in; and base, None
    if no other array lies there. Operators, and functions of NumPy, work on it as on NumPy's arrays (numpy_functions.py)."""

    __slots__ = ("__weakref__", "address", "base", "block", "dtype", "shape", "strides")

    def __init__(self, block, address, shape, dtype, strides=None, base=None):
        self.block, self.address, self.shape, self.dtype, self.base = block, address, shape, dtype, base
        self.strides = _contiguous_strides(shape) if strides is None else strides

    # -- what it is

    @property
    def ndim(self): return len(self.shape)

    @property
    def size(self): return math.prod(self.shape)

    @property
    def itemsize(self): return self.dtype.itemsize

    @property
    def nbytes(self): return self.size * self.dtype.itemsize

    @property
    def extent(self):
        """Numbers from the first to the last one, which a view may leave out some of."""
        return 1 + sum((n - 1) * abs(s) for n, s in zip(self.shape, self.strides, strict=True)) if self.size else 0

    @property
    def is_contiguous(self):
        return _contiguous(self.shape, self.strides)

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        return f"DeviceArray({self.numpy()!r})"

    # -- to the host and to other libraries

    def numpy(self):
        """A copy in the host's memory; waits for the GPU."""
        out = np.empty(self.shape, self.dtype)
        if out.size:
            runtime.download(out, contiguous(self).address)
        return out

    def item(self):
        return self.numpy().item()

    def tolist(self):
        return self.numpy().tolist()

    @property
    def __cuda_array_interface__(self):
        """Version 3: https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html"""
        strides = None if self.is_contiguous else tuple(s * self.itemsize for s in self.strides)
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.address if self.size else 0, False), "strides": strides,
                "version": 3, "stream": int(runtime.device().stream) or None}

    def __dlpack_device__(self):
        return runtime.device().dlpack_type, 0

    def __dlpack__(self, **options):
        from kernels.cuda import dlpack
        runtime.synchronize()          # whatever stream it is read in, the numbers are there
        return dlpack.capsule(self)

    def __array__(self, *args, **options):
        raise TypeError("an array on the GPU becomes a NumPy array only when asked to: .numpy() (of a Tensor: .cpu()) copies it")

    def __array_function__(self, function, types, args, kwargs):
        """NumPy's functions that scratchnn uses, for arrays on the GPU."""
        ours = numpy_functions.FUNCTIONS.get(function.__name__)
        if ours is None:
            raise NotImplementedError(f"numpy.{function.__name__} does not work on the GPU yet; bring its inputs to the host with .cpu()")
        return ours(*args, **kwargs)

    def __array_ufunc__(self, ufunc, method, *inputs, out=(None,), **options):
        """NumPy's elementwise functions, and with them all operators."""
        return numpy_functions.elementwise_function(ufunc, method, inputs, out[0], options)

    @property
    def flags(self): return Flags(self.is_contiguous)

    # -- views

    def _view(self, shape, strides, offset=0):
        return DeviceArray(self.block, self.address + offset * self.itemsize, tuple(shape), self.dtype, tuple(strides), self.block)

    def transpose(self, *axes):
        axes = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or range(self.ndim)[::-1]
        return self._view([self.shape[a] for a in axes], [self.strides[a] for a in axes])

    @property
    def T(self): return self.transpose()

    def swapaxes(self, a, b):
        axes = list(range(self.ndim))
        axes[a], axes[b] = axes[b], axes[a]
        return self.transpose(axes)

    def reshape(self, *shape):
        """Another shape for the same numbers in the same order; a copy if they do not lie in that order."""
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        known = math.prod(n for n in shape if n != -1)
        shape = tuple(self.size // known if n == -1 and known else n for n in shape)
        if math.prod(shape) != self.size:
            raise ValueError(f"an array of shape {self.shape} cannot be reshaped to {shape}")
        whole = contiguous(self)
        return DeviceArray(whole.block, whole.address, shape, self.dtype, base=self.block if whole is self else None)

    def ravel(self):
        return self.reshape(self.size)

    def __setitem__(self, key, value):
        value = value if isinstance(value, DeviceArray) else to_device(np.asarray(value, self.dtype))
        if any(map(indexing.is_array, key if isinstance(key, tuple) else (key,))):
            indexing.put(self, key, value)
        else:
            copy_into(self[key], value)

    def __getitem__(self, key):
        """Whole numbers, slices, None and ... make a view, as in NumPy; arrays of whole numbers and of booleans a copy."""
        key = key if isinstance(key, tuple) else (key,)
        if any(map(indexing.is_array, key)):
            return indexing.get(self, key)
        missing = self.ndim - sum(k is not None and k is not Ellipsis for k in key)
        if missing < 0:
            raise IndexError(f"{self.ndim - missing} indices for an array of {self.ndim} dimensions")
        at = next((i for i, k in enumerate(key) if k is Ellipsis), len(key))
        key = (*key[:at], *[slice(None)] * missing, *key[at + 1:])
        shape, strides, offset, d = [], [], 0, 0
        for k in key:
            if k is None:
                shape.append(1)
                strides.append(0)
                continue
            n, stride = self.shape[d], self.strides[d]
            d += 1
            if isinstance(k, slice):
                start, stop, step = k.indices(n)
                shape.append(len(range(start, stop, step)))
                strides.append(stride * step)
                offset += start * stride if shape[-1] else 0
            else:
                k = k.__index__()
                if not -n <= k < n:
                    raise IndexError(f"index {k} is outside dimension {d - 1} of size {n}")
                offset += k % n * stride
        return self._view(shape, strides, offset)

    # -- numbers of it all, or along dimensions

    def sum(self, axis=None, dtype=None, keepdims=False): return numpy_functions.sum(self, axis, dtype, keepdims=keepdims)
    def mean(self, axis=None, dtype=None, keepdims=False): return numpy_functions.mean(self, axis, dtype, keepdims=keepdims)
    def min(self, axis=None, keepdims=False): return numpy_functions.min(self, axis, keepdims=keepdims)
    def max(self, axis=None, keepdims=False): return numpy_functions.max(self, axis, keepdims=keepdims)
    def argmax(self, axis=None): return numpy_functions.argmax(self, axis)
    def all(self, axis=None, keepdims=False): return numpy_functions.all(self, axis, keepdims=keepdims)
    def any(self, axis=None, keepdims=False): return numpy_functions.any(self, axis, keepdims=keepdims)
    def clip(self, low=None, high=None): return numpy_functions.clip(self, low, high)

    def __bool__(self):
        if self.size != 1:
            raise ValueError(f"an array of shape {self.shape} is neither true nor false; use .any() or .all()")
        return bool(self.item())

    def __index__(self): return self.item().__index__()
    def __float__(self): return float(self.item())
    def __int__(self): return int(self.item())

    # -- copies

    def copy(self):
        out = empty(self.shape, self.dtype)
        copy_into(out, self)
        return out

    def astype(self, dtype, copy=True):
        dtype = np.dtype(dtype)
        if dtype == self.dtype:
            return self.copy() if copy else self
        if dtype == np.bool_:
            from kernels.cuda import elementwise
            return elementwise.ne(self, full((), 0, self.dtype))
        out = empty(self.shape, dtype)
        copy_into(out, self)
        return out


class Flags(NamedTuple):
    """What code that asks NumPy arrays for their flags finds here."""

    c_contiguous: bool
    writeable: bool = True


def _contiguous_strides(shape):
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(strides[::-1])


def _contiguous(shape, strides):
    step = 1
    for n, s in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and s != step:
            return 0 in shape
        step *= n
    return True


# ---- new arrays -----------------------------------------------------------------------------------------------------

def empty(shape, dtype):
    """An array of unset numbers."""
    shape, dtype = (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype)
    if dtype not in DTYPES:
        raise TypeError(f"the GPU has no arrays of {dtype}; choose one of {', '.join(map(str, DTYPES))}")
    block = runtime.new_block(math.prod(shape) * dtype.itemsize)
    return DeviceArray(block, block.address, shape, dtype)


def to_device(array):
    """A copy of a NumPy array on the GPU."""
    array = np.asarray(array)
    if runtime.captured is not None:
        return runtime.captured.constant(np.ascontiguousarray(array))
    out = empty(array.shape, array.dtype)
    upload_into(out, array)
    return out


def upload_into(target, array):
    """target[...] = a NumPy array of its shape and dtype, for a contiguous target."""
    runtime.refuse_in_capture()
    if array.size:
        runtime.device().upload(target.address, np.ascontiguousarray(array))


def full(shape, value, dtype):
    """An array of one value."""
    out = empty(shape, dtype)
    number = out.dtype.type(value)
    fill_kernel[blocks(out.size), 256](out, np.uint8(number) if out.dtype == np.bool_ else number, out.size)
    return out


def from_cuda(other):
    """The array of another library that has __cuda_array_interface__, without a copy."""
    found = other.__cuda_array_interface__
    dtype, address = np.dtype(found["typestr"]), found["data"][0]
    strides = None if found.get("strides") is None else tuple(s // dtype.itemsize for s in found["strides"])
    return DeviceArray(other, address, tuple(found["shape"]), dtype, strides)


def as_device(name, *arrays):
    """TypeError that says what to do unless all are DeviceArrays, None, or single numbers."""
    for a in arrays:
        if a is not None and not isinstance(a, DeviceArray) and not (isinstance(a, np.ndarray) and a.ndim == 0):
            raise TypeError(f"{name}: all arrays must lie on the GPU, but one is a {type(a).__name__}; move it there with .to('cuda')")


def broadcast_to(x, shape):
    """A view of x repeated to `shape`."""
    own = (1,) * (len(shape) - x.ndim) + x.shape
    strides = (0,) * (len(shape) - x.ndim) + x.strides
    if len(shape) < x.ndim or any(n not in (1, want) for n, want in zip(own, shape, strict=True)):
        raise ValueError(f"an array of shape {x.shape} does not repeat to {tuple(shape)}")
    return x._view(shape, [s if n == want else 0 for n, want, s in zip(own, shape, strides, strict=True)])


def contiguous(x):
    """x itself, or a contiguous copy."""
    return x if x.is_contiguous else x.copy()


# ---- kernels --------------------------------------------------------------------------------------------------------

def blocks(count, threads=256, most=8192):
    """Blocks for so many elements; each thread takes more than one where they are very many."""
    return min(-(-count // threads), most)


@kernel
def fill_kernel(y, value, n):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        y[i] = value


@kernel
def copy_kernel(x, y, n, x_start, y_start, n1, n2, n3, n4, n5, x0, x1, x2, x3, x4, x5, y0, y1, y2, y3, y4, y5):
    """y = x over six dimensions: sizes n1..n5 of all but the first, strides x0..x5 and y0..y5. The types may differ."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        rest = i
        i5, rest = rest % n5, rest // n5
        i4, rest = rest % n4, rest // n4
        i3, rest = rest % n3, rest // n3
        i2, rest = rest % n2, rest // n2
        i1, i0 = rest % n1, rest // n1
        to = y_start + i0 * y0 + i1 * y1 + i2 * y2 + i3 * y3 + i4 * y4 + i5 * y5
        y[to] = x[x_start + i0 * x0 + i1 * x1 + i2 * x2 + i3 * x3 + i4 * x4 + i5 * x5]


def copy_into(target, source):
    """target[...] = source, which is repeated where that is needed and brought to target's dtype."""
    source = broadcast_to(source, target.shape)
    if not target.size:
        return
    if source.block is target.block and (source.address, source.strides) != (target.address, target.strides):
        source = source.copy()                         # they may overlap, and threads run in any order
    sizes, from_strides, to_strides = _merged(target.shape, source.strides, target.strides)
    ones = (1,) * (DIMENSIONS - len(sizes))
    if len(sizes) > DIMENSIONS:
        raise ValueError(f"a view of shape {source.shape} has too many dimensions to be copied")
    (source, x_start), (target, y_start) = lowest(source), lowest(target)
    copy_kernel[blocks(target.size), 256](source, target, target.size, x_start, y_start, *(*ones, *sizes)[1:],
                                          *ones, *from_strides, *ones, *to_strides)


def lowest(x):
    """(the view from its lowest address on, where its first number is from there): they differ where strides are negative."""
    below = -sum((n - 1) * s for n, s in zip(x.shape, x.strides, strict=True) if s < 0)
    return (x._view(x.shape, x.strides, -below), below) if below else (x, 0)


def _merged(shape, first, second):
    """Sizes and both strides, neighbours that lie one behind the other in both arrays made one dimension."""
    merged = []
    for n, a, b in zip(shape, first, second, strict=True):
        if n == 1:
            continue
        if merged and merged[-1][1] == n * a and merged[-1][2] == n * b:
            merged[-1] = merged[-1][0] * n, a, b
        else:
            merged.append((n, a, b))
    return list(zip(*merged or [(1, 0, 0)], strict=True))


# The methods above need functions, and these need the class above: this import closes the circle.
from kernels.cuda import indexing, numpy_functions  # noqa: E402
