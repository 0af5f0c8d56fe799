"""Tensor: an array that remembers how it was made.

The memory is `grad_fn`, a node of the graph that operations (scratchnn/op.py) leave behind; `backward()` follows it
(scratchnn/autograd.py). The methods below are one-liners: each names the operation that does the work, in scratchnn/ops/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import kernels
from scratchnn.device import Device, device_of
from scratchnn.grad_mode import is_grad_enabled
from scratchnn.hooks import RemovableHandle


class Tensor:
    """An n-dimensional array (float32 unless asked otherwise) that can be differentiated. Make one with snn.tensor(...).

    array           the NumPy array that holds the values
    requires_grad   whether gradients with respect to this Tensor, or through it, are wanted
    grad            the gradient, after backward(), of a leaf: a Tensor that no operation made
    grad_fn         the node of the operation that made it, None for a leaf
    """

    __slots__ = ("__weakref__", "array", "counter", "grad", "grad_fn", "hooks", "index", "requires_grad")
    __array_ufunc__ = None          # ndarray * Tensor is a Tensor, by __rmul__

    def __init__(self, array: np.ndarray, requires_grad: bool = False):
        if requires_grad and array.dtype.kind != "f":
            raise RuntimeError(f"only floating-point tensors can require a gradient, not {array.dtype}")
        self.array, self.requires_grad = array, requires_grad
        self.grad = self.grad_fn = self.hooks = None
        self.index, self.counter = 0, [0]      # counter[0]: changes in place so far, shared with views

    # -- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def device(self) -> Device:
        return device_of(self.array)

    @property
    def is_leaf(self) -> bool:
        return self.grad_fn is None

    @property
    def data(self) -> Tensor:
        """The same values without history, in the same memory."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor):
        self.array = value.array
        self.bump_version()

    @property
    def T(self) -> Tensor:
        """All dimensions reversed."""
        return ops.permute(self, tuple(range(self.ndim))[::-1])

    @property
    def mT(self) -> Tensor:
        """The last two dimensions exchanged."""
        return ops.transpose(self, -2, -1)

    @property
    def _version(self) -> int:
        return self.counter[0]

    def size(self, dim: int | None = None):
        return self.array.shape if dim is None else self.array.shape[dim]

    def dim(self) -> int:
        return self.array.ndim

    def numel(self) -> int:
        return self.array.size

    def is_floating_point(self) -> bool:
        return self.array.dtype.kind == "f"

    def is_contiguous(self) -> bool:
        return self.array.flags.c_contiguous

    def __len__(self) -> int:
        return len(self.array)

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise RuntimeError(f"a tensor of shape {self.shape} is neither true nor false; use .any() or .all()")
        return bool(self.array.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return self.array.__index__()

    __hash__ = object.__hash__

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __contains__(self, value) -> bool:
        return bool((self == value).any())

    def __repr__(self) -> str:
        text = np.array2string(self.array, separator=", ", prefix="tensor(", precision=4)
        dtype = "" if self.dtype in (np.float32, np.int64, bool) else f", dtype={self.dtype}"
        dtype += "" if self.device.type == "cpu" else f", device='{self.device}'"
        history = f", grad_fn={self.grad_fn}" if self.grad_fn else ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({text}{dtype}{history})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.ndim == 0 else format(str(self), spec)

    # -- to and from other programs

    def item(self):
        if self.array.size != 1:
            raise RuntimeError(f"item() needs a tensor of one element, this one has shape {self.shape}")
        return self.array.item()

    def tolist(self):
        return self.array.tolist()

    def numpy(self) -> np.ndarray:
        """The array itself, not a copy. Changing it is not noticed by the check for changes in place."""
        if self.requires_grad:
            raise RuntimeError("numpy() would lose this tensor's history without notice; use .detach().numpy()")
        if not isinstance(self.array, np.ndarray):
            raise TypeError("numpy() shares the tensor's memory, but this one lies on the GPU; use .cpu().numpy()")
        return self.array

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self, **options):
        if self.requires_grad:
            raise RuntimeError("DLPack would lose this tensor's history without notice; use .detach()")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __reduce__(self):
        raise TypeError("tensors are not pickled; save them with scratchnn.checkpoint.save_weights")

    def __deepcopy__(self, memo) -> Tensor:
        if self.grad_fn is not None:
            raise RuntimeError("only leaf tensors can be deep-copied; detach() or clone() this one")
        copy = type(self)(self.array.copy(), self.requires_grad)
        copy.grad = None if self.grad is None else Tensor(self.grad.array.copy())
        memo[id(self)] = copy
        return copy

    # -- history

    def backward(self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
        """Add the gradient of this Tensor with respect to every leaf that requires one to that leaf's .grad.

        gradient       what arrives here; may be left out for a Tensor of one element (then it is 1)
        retain_graph   keep what the derivatives need for another backward(); by default it is freed on the way
        create_graph   the gradients can be differentiated again
        """
        roots = autograd.first_gradients([self], [gradient])
        keep = create_graph if retain_graph is None else retain_graph
        given = {id(g.array) for _, g in roots}
        for leaf, g in autograd.walk(roots, None, create_graph, keep).values():
            leaf._accumulate(g, given, create_graph)

    def _accumulate(self, g: Tensor, taken: set[int], create_graph: bool) -> None:
        """Add g to .grad. A gradient that someone else may hold (`taken`, views) is copied, so that each leaf owns its own."""
        if create_graph:
            self.grad = ops.clone(g) if self.grad is None else self.grad + g
        elif self.grad is not None and self.grad.is_contiguous():
            kernels.add(self.grad.array, g.array, out=self.grad.array)
            self.grad.bump_version()
        elif self.grad is not None:
            self.grad = Tensor(self.grad.array + g.array)
        else:
            own = g.array.base is None and id(g.array) not in taken and g.array.flags.c_contiguous and not self.hooks
            self.grad = Tensor(g.array if own else _copy(g.array))
            taken.add(id(g.array))

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        if self.grad_fn is not None:
            raise RuntimeError("only leaf tensors can change requires_grad; use detach() on a result")
        if requires_grad and not self.is_floating_point():
            raise RuntimeError(f"only floating-point tensors can require a gradient, not {self.dtype}")
        self.requires_grad = requires_grad
        return self

    def detach(self) -> Tensor:
        """The same memory without history."""
        result = Tensor(self.array)
        result.counter = self.counter
        return result

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call hook(gradient) when the gradient of this Tensor is known; it may return another one."""
        if not self.requires_grad:
            raise RuntimeError("a hook needs a tensor that requires a gradient")
        if self.grad_fn is None:
            self.hooks = hooks = self.hooks if self.hooks is not None else {}
        else:
            self.grad_fn.hooks = self.grad_fn.hooks or {}
            hooks = self.grad_fn.hooks.setdefault(self.index, {})
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        return handle

    def retain_grad(self) -> None:
        """Store the gradient in .grad although this Tensor is a result: as it is after all hooks."""
        if self.grad_fn is not None:
            self.grad_fn.retained = {**(self.grad_fn.retained or {}), self.index: self}

    # -- changes in place: no gradient may be being recorded; views and what they were taken from count together

    def bump_version(self) -> None:
        """Note a change in place of .array, so that a gradient that needs the old values can complain."""
        self.counter[0] += 1

    def _change(self, name: str, *values) -> None:
        """Raise if a change in place would go unnoticed by a gradient that is being recorded; else note it."""
        if is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in (self, *values)):
            raise RuntimeError(f"{name}: a tensor cannot be changed in place while its gradient is recorded; write x = x + ... "
                               "instead of x += ..., or do it inside `with snn.no_grad():`")
        self.bump_version()

    def _store(self, name: str, result: Tensor, *values) -> Tensor:
        self._change(name, *values)
        if result.shape != self.shape:
            raise RuntimeError(f"{name}: a result of shape {result.shape} does not fit into a tensor of shape {self.shape}")
        if result.dtype.kind == "f" and self.dtype.kind != "f":
            raise RuntimeError(f"{name}: a {result.dtype} result does not fit into a tensor of {self.dtype}; use x = x + ... instead")
        self.array[...] = result.array
        return self

    def add_(self, other, *, alpha: float = 1) -> Tensor: return self._store("add_", self.detach().add(other, alpha=alpha), other)
    def sub_(self, other, *, alpha: float = 1) -> Tensor: return self._store("sub_", self.detach().sub(other, alpha=alpha), other)
    def mul_(self, other) -> Tensor: return self._store("mul_", self.detach() * other, other)
    def div_(self, other) -> Tensor: return self._store("div_", self.detach() / other, other)
    def clamp_(self, min=None, max=None) -> Tensor: return self._store("clamp_", self.detach().clamp(min, max))
    def copy_(self, other: Tensor) -> Tensor: return self._store("copy_", ops.expand(other, self.shape), other)
    def fill_(self, value: float) -> Tensor: return self._store("fill_", ops.full(self.shape, value, dtype=self.dtype))
    def zero_(self) -> Tensor: return self.fill_(0)
    def uniform_(self, low: float = 0, high: float = 1, generator=None) -> Tensor:
        return self._store("uniform_", ops.rand(self.shape, dtype=self.dtype, generator=generator) * (high - low) + low)
    def normal_(self, mean: float = 0, std: float = 1, generator=None) -> Tensor:
        return self._store("normal_", ops.randn(self.shape, dtype=self.dtype, generator=generator) * std + mean)

    def __setitem__(self, key, value) -> None:
        self._change("x[...] = value", value)
        self.array[ops.index_key(key)] = value.array if isinstance(value, Tensor) else value

    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_

    # -- arithmetic and comparison

    def __add__(self, other) -> Tensor: return ops.add(self, other)
    def __radd__(self, other) -> Tensor: return ops.add(other, self)
    def __sub__(self, other) -> Tensor: return ops.sub(self, other)
    def __rsub__(self, other) -> Tensor: return ops.sub(other, self)
    def __mul__(self, other) -> Tensor: return ops.mul(self, other)
    def __rmul__(self, other) -> Tensor: return ops.mul(other, self)
    def __truediv__(self, other) -> Tensor: return ops.div(self, other)
    def __rtruediv__(self, other) -> Tensor: return ops.div(other, self)
    def __floordiv__(self, other) -> Tensor: return ops.floor_divide(self, other)
    def __rfloordiv__(self, other) -> Tensor: return ops.floor_divide(other, self)
    def __mod__(self, other) -> Tensor: return ops.remainder(self, other)
    def __rmod__(self, other) -> Tensor: return ops.remainder(other, self)
    def __pow__(self, other) -> Tensor: return ops.pow(self, other)
    def __rpow__(self, other) -> Tensor: return ops.pow(other, self)
    def __matmul__(self, other) -> Tensor: return ops.matmul(self, other)
    def __rmatmul__(self, other) -> Tensor: return ops.matmul(other, self)
    def __neg__(self) -> Tensor: return ops.neg(self)
    def __pos__(self) -> Tensor: return self
    def __abs__(self) -> Tensor: return ops.abs(self)
    def __eq__(self, other) -> Tensor: return ops.eq(self, other)
    def __ne__(self, other) -> Tensor: return ops.ne(self, other)
    def __lt__(self, other) -> Tensor: return ops.lt(self, other)
    def __le__(self, other) -> Tensor: return ops.le(self, other)
    def __gt__(self, other) -> Tensor: return ops.gt(self, other)
    def __ge__(self, other) -> Tensor: return ops.ge(self, other)
    def __and__(self, other) -> Tensor: return ops.logical_and(self, other)
    def __or__(self, other) -> Tensor: return ops.logical_or(self, other)
    def __xor__(self, other) -> Tensor: return ops.logical_xor(self, other)
    def __invert__(self) -> Tensor: return ops.logical_not(self)
    def __getitem__(self, key) -> Tensor: return ops.getitem(self, ops.index_key(key))

    def add(self, other, *, alpha: float = 1) -> Tensor: return self + (other if alpha == 1 else other * alpha)
    def sub(self, other, *, alpha: float = 1) -> Tensor: return self - (other if alpha == 1 else other * alpha)
    def mul(self, other) -> Tensor: return ops.mul(self, other)
    def div(self, other) -> Tensor: return ops.div(self, other)
    def pow(self, exponent) -> Tensor: return ops.pow(self, exponent)
    def square(self) -> Tensor: return ops.square(self)
    def reciprocal(self) -> Tensor: return 1 / self
    def neg(self) -> Tensor: return ops.neg(self)
    def abs(self) -> Tensor: return ops.abs(self)
    def sign(self) -> Tensor: return ops.sign(self)
    def exp(self) -> Tensor: return ops.exp(self)
    def expm1(self) -> Tensor: return ops.expm1(self)
    def log(self) -> Tensor: return ops.log(self)
    def log1p(self) -> Tensor: return ops.log1p(self)
    def sqrt(self) -> Tensor: return ops.sqrt(self)
    def rsqrt(self) -> Tensor: return ops.rsqrt(self)
    def sin(self) -> Tensor: return ops.sin(self)
    def cos(self) -> Tensor: return ops.cos(self)
    def erf(self) -> Tensor: return ops.erf(self)
    def floor(self) -> Tensor: return ops.floor(self)
    def ceil(self) -> Tensor: return ops.ceil(self)
    def tanh(self) -> Tensor: return ops.tanh(self)
    def sigmoid(self) -> Tensor: return ops.sigmoid(self)
    def relu(self) -> Tensor: return ops.relu(self)
    def clamp(self, min=None, max=None) -> Tensor: return ops.clamp(self, min, max)
    def maximum(self, other) -> Tensor: return ops.maximum(self, other)
    def minimum(self, other) -> Tensor: return ops.minimum(self, other)
    def where(self, condition: Tensor, other) -> Tensor: return ops.where(condition, self, other)
    def masked_fill(self, mask: Tensor, value: float) -> Tensor: return ops.where(mask, value, self)
    def eq(self, other) -> Tensor: return ops.eq(self, other)
    def ne(self, other) -> Tensor: return ops.ne(self, other)
    def lt(self, other) -> Tensor: return ops.lt(self, other)
    def le(self, other) -> Tensor: return ops.le(self, other)
    def gt(self, other) -> Tensor: return ops.gt(self, other)
    def ge(self, other) -> Tensor: return ops.ge(self, other)
    def isnan(self) -> Tensor: return ops.isnan(self)
    def isinf(self) -> Tensor: return ops.isinf(self)
    def isfinite(self) -> Tensor: return ops.isfinite(self)

    # -- reductions

    def sum(self, dim=None, keepdim: bool = False) -> Tensor: return ops.sum(self, dim, keepdim)
    def mean(self, dim=None, keepdim: bool = False) -> Tensor: return ops.mean(self, dim, keepdim)
    def var(self, dim=None, correction: int = 1, keepdim: bool = False) -> Tensor: return ops.var(self, dim, correction, keepdim)
    def std(self, dim=None, correction: int = 1, keepdim: bool = False) -> Tensor: return ops.std(self, dim, correction, keepdim)
    def max(self, dim: int | None = None, keepdim: bool = False): return ops.max(self, dim, keepdim)
    def min(self, dim: int | None = None, keepdim: bool = False): return ops.min(self, dim, keepdim)
    def amax(self, dim=(), keepdim: bool = False) -> Tensor: return ops.amax(self, dim, keepdim)
    def amin(self, dim=(), keepdim: bool = False) -> Tensor: return ops.amin(self, dim, keepdim)
    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor: return ops.argmax(self, dim, keepdim)
    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor: return ops.argmin(self, dim, keepdim)
    def all(self, dim=None, keepdim: bool = False) -> Tensor: return ops.all(self, dim, keepdim)
    def any(self, dim=None, keepdim: bool = False) -> Tensor: return ops.any(self, dim, keepdim)
    def norm(self, p: float = 2, dim=None, keepdim: bool = False) -> Tensor: return ops.norm(self, p, dim, keepdim)
    def logsumexp(self, dim, keepdim: bool = False) -> Tensor: return ops.logsumexp(self, dim, keepdim)
    def cumsum(self, dim: int) -> Tensor: return ops.cumsum(self, dim)
    def softmax(self, dim: int) -> Tensor: return ops.softmax(self, dim)
    def log_softmax(self, dim: int) -> Tensor: return ops.log_softmax(self, dim)

    # -- products

    def matmul(self, other: Tensor) -> Tensor: return ops.matmul(self, other)
    def mm(self, other: Tensor) -> Tensor: return ops.matmul(self, other)
    def bmm(self, other: Tensor) -> Tensor: return ops.matmul(self, other)
    def dot(self, other: Tensor) -> Tensor: return ops.matmul(self, other)

    # -- shape

    def reshape(self, *shape) -> Tensor: return ops.reshape(self, _flat(shape))
    def view(self, *shape) -> Tensor: return ops.view(self, _flat(shape))
    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor: return ops.flatten(self, start_dim, end_dim)
    def squeeze(self, dim: int | None = None) -> Tensor: return ops.squeeze(self, dim)
    def unsqueeze(self, dim: int) -> Tensor: return ops.unsqueeze(self, dim)
    def transpose(self, dim0: int, dim1: int) -> Tensor: return ops.transpose(self, dim0, dim1)
    def t(self) -> Tensor: return ops.t(self)
    def permute(self, *dims) -> Tensor: return ops.permute(self, _flat(dims))
    def expand(self, *shape) -> Tensor: return ops.expand(self, _flat(shape))
    def expand_as(self, other: Tensor) -> Tensor: return ops.expand(self, other.shape)
    def repeat(self, *times) -> Tensor: return ops.repeat(self, _flat(times))
    def flip(self, *dims) -> Tensor: return ops.flip(self, _flat(dims))
    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]: return ops.chunk(self, chunks, dim)
    def split(self, split_size, dim: int = 0) -> tuple[Tensor, ...]: return ops.split(self, split_size, dim)
    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]: return ops.unbind(self, dim)
    def narrow(self, dim: int, start: int, length: int) -> Tensor: return ops.narrow(self, dim, start, length)
    def gather(self, dim: int, index: Tensor) -> Tensor: return ops.gather(self, dim, index)
    def index_select(self, dim: int, index: Tensor) -> Tensor: return ops.index_select(self, dim, index)

    # -- copies, dtypes, devices

    def clone(self) -> Tensor: return ops.clone(self)
    def contiguous(self) -> Tensor: return self if self.is_contiguous() else ops.clone(self)
    def type_as(self, other: Tensor) -> Tensor: return self.to(other.dtype)
    def float(self) -> Tensor: return self.to(np.float32)
    def double(self) -> Tensor: return self.to(np.float64)
    def long(self) -> Tensor: return self.to(np.int64)
    def int(self) -> Tensor: return self.to(np.int32)
    def bool(self) -> Tensor: return self.to(np.bool_)
    def cpu(self) -> Tensor: return self.to("cpu")
    def cuda(self) -> Tensor: return self.to("cuda")

    def to(self, target) -> Tensor:
        """In another dtype, or on another device (by name), or like another Tensor; itself if nothing changes."""
        if isinstance(target, (str, Device)) and str(target).partition(":")[0] in ("cpu", "cuda"):
            device = Device(target)
            return self if device.type == self.device.type else ops.to_device(self, device, self.device)
        dtype = np.dtype(target.dtype if isinstance(target, Tensor) else target)
        return self if dtype == self.dtype else ops.cast(self, dtype)


def _copy(array):
    """A contiguous copy, where the array lies."""
    return np.array(array, order="C") if isinstance(array, np.ndarray) else array.copy()


def _flat(values: Sequence) -> tuple[int, ...]:
    """f(2, 3) and f((2, 3)) mean the same."""
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], (tuple, list)) else values


# The methods above need the operations, and the operations need the class above: this one import closes the circle.
from scratchnn import autograd, ops  # noqa: E402
