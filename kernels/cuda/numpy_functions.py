"""NumPy's functions of arrays, as far as scratchnn uses them, for DeviceArrays: NumPy calls them by __array_function__ and
__array_ufunc__. So code that is written for NumPy's arrays runs where its arrays lie. Types mix as in NumPy."""

import builtins

import numpy as np

from kernels.cuda import elementwise, indexing, reduce
from kernels.cuda.array import DeviceArray, as_device, broadcast_to, copy_into, empty, full, to_device

KERNELS = {"subtract": "sub", "multiply": "mul", "divide": "div", "negative": "neg", "absolute": "abs", "power": "pow", "equal": "eq",
           "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "bitwise_and": "logical_and",
           "bitwise_or": "logical_or", "bitwise_xor": "logical_xor", "invert": "logical_not", "square": "mul"}     # where names differ
FLOATING = {"divide", "sqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tanh"}                # of whole numbers they make float64


def elementwise_function(ufunc, method, inputs, out, options):
    """What __array_ufunc__ is asked for: ufunc(*inputs), into `out` if it is given, or np.add.at(x, key, g)."""
    name = ufunc.__name__
    if method == "at" and name == "add":
        return indexing.add_at(*inputs)
    kernel = getattr(elementwise, KERNELS.get(name, name), None)
    whole = (name.startswith("bitwise") or name == "invert") and builtins.any(getattr(x, "dtype", "bool") != "bool" for x in inputs)
    if method != "__call__" or options or kernel is None or whole:
        raise NotImplementedError(f"numpy.{name} does not work {'like this ' * (kernel is not None)}on the GPU yet; bring its inputs to "
                                  "the host with .cpu()")
    inputs = inputs * 2 if name == "square" else inputs
    dtype = _common(inputs)
    operands = _operands(inputs, np.dtype(np.float64) if name in FLOATING and dtype.kind != "f" else dtype)
    if out is None:
        return kernel(*operands)
    as_device(name, out)
    apart = builtins.all(x is out or getattr(x, "block", None) is not out.block for x in operands)
    shape = np.broadcast_shapes(*[x.shape for x in operands])
    if apart and out.is_contiguous and out.shape == shape and out.dtype == operands[-1].dtype:
        return kernel(*operands, out=out)
    copy_into(out, kernel(*operands))
    return out


def _common(inputs):
    """The dtype that NumPy brings these arrays and numbers to."""
    return np.result_type(*[x.dtype if isinstance(x, DeviceArray) else x for x in inputs])


def _operands(inputs, dtype):
    return [x.astype(dtype, copy=False) if isinstance(x, DeviceArray) else np.asarray(x, dtype) for x in inputs]


# ---- new arrays, and arrays of others ---------------------------------------------------------------------------------

def asarray(a, dtype=None):
    a = a if isinstance(a, DeviceArray) or np.ndim(a) else to_device(np.asarray(a))
    return a if dtype is None else a.astype(dtype, copy=False)


def zeros(shape, dtype=np.float64, order="C", device=None):
    return full(shape, 0, dtype)


def ones(shape, dtype=np.float64, order="C", device=None):
    return full(shape, 1, dtype)


def filled(shape, fill_value, dtype=None, order="C", device=None):
    return full(shape, fill_value, dtype or np.asarray(fill_value).dtype)


def full_like(x, fill_value, dtype=None, order="C"):
    return full(x.shape, fill_value, dtype or x.dtype)


def zeros_like(x, dtype=None, order="C"):
    return full_like(x, 0, dtype)


def ones_like(x, dtype=None, order="C"):
    return full_like(x, 1, dtype)


def arange(*args, **options):
    return to_device(np.arange(*args, **options))


def concatenate(arrays, axis=0):
    as_device("concatenate", *arrays)
    first = arrays[0]
    axis %= first.ndim
    sizes = [a.shape[axis] for a in arrays]
    out = empty((*first.shape[:axis], builtins.sum(sizes), *first.shape[axis + 1:]), np.result_type(*[a.dtype for a in arrays]))
    at = 0
    for a, size in zip(arrays, sizes, strict=True):
        copy_into(out[(*[slice(None)] * axis, slice(at, at + size))], a)
        at += size
    return out


def stack(arrays, axis=0):
    axis %= arrays[0].ndim + 1
    return concatenate([a[(*[slice(None)] * axis, None)] for a in arrays], axis)


def where(condition, a, b):
    return elementwise.where(condition, *_operands((a, b), _common((a, b))))


def clip(x, low=None, high=None, out=None):
    limits = (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max) if x.dtype.kind in "iu" else (-np.inf, np.inf)
    found = elementwise.clamp(x, *[limit if given is None else given for given, limit in zip((low, high), limits, strict=True)])
    if out is None:
        return found
    copy_into(out, found)
    return out


def take_along_axis(x, index, axis=-1):
    return indexing.take_along(x, index, axis % x.ndim)


# ---- shapes ---------------------------------------------------------------------------------------------------------

def shape(x):
    return x.shape


def may_share_memory(a, b):
    return isinstance(a, DeviceArray) and isinstance(b, DeviceArray) and a.block is b.block


def moveaxis(x, source, destination):
    axes = [d for d in range(x.ndim) if d != source % x.ndim]
    axes.insert(destination % x.ndim, source % x.ndim)
    return x.transpose(axes)


def flip(x, axis):
    return x[tuple([slice(None, None, -1) if d in axis else slice(None) for d in range(x.ndim)])]


def array2string(x, **options):
    return np.array2string(x.numpy(), **options)


# ---- numbers of an array, or along dimensions -------------------------------------------------------------------------

def _dims(x, axis):
    if axis is None:
        return tuple(range(x.ndim))
    return tuple(sorted(a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))))


def sum(x, axis=None, dtype=None, out=None, keepdims=False):
    x = x if dtype is None else x.astype(dtype, copy=False)
    return reduce.sum(x, _dims(x, axis), keepdims)


def mean(x, axis=None, dtype=None, out=None, keepdims=False):
    wanted = dtype or (x.dtype if x.dtype.kind == "f" else np.float64)
    return reduce.mean(x.astype(wanted, copy=False), _dims(x, axis), keepdims)


def min(x, axis=None, out=None, keepdims=False):
    return reduce.min(x, _dims(x, axis), keepdims)


def max(x, axis=None, out=None, keepdims=False):
    return reduce.max(x, _dims(x, axis), keepdims)


def argmax(x, axis=None):
    return reduce.argmax(x.ravel(), 0) if axis is None else reduce.argmax(x, axis % x.ndim)


def all(x, axis=None, out=None, keepdims=False):
    return sum(elementwise.logical_not(x), axis, keepdims=keepdims) == 0


def any(x, axis=None, out=None, keepdims=False):
    return sum(x != 0, axis, keepdims=keepdims) != 0


FUNCTIONS = {function.__name__: function for function in (
    all, any, arange, argmax, array2string, asarray, broadcast_to, clip, concatenate, flip, full_like, max, may_share_memory, mean, min,
    moveaxis, ones, ones_like, shape, stack, sum, take_along_axis, where, zeros, zeros_like)} | {"amax": max, "amin": min, "full": filled}
