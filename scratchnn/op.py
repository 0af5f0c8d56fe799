"""How a kernel becomes a differentiable operation.

    @op
    def sigmoid(x):                               # arrays in, arrays out
        return kernels.sigmoid(x)

    @sigmoid.vjp
    def _(g, y):                                  # Tensors in, Tensors out
        return sigmoid_backward(g, y)

`vjp` (vector-Jacobian product) registers the derivative of the first parameter, `vjp("weight")` of the one that is named,
`vjp("x", "weight", "bias")` of several at once. A derivative states by the names of its own parameters what it needs, and nothing
else is kept from the forward pass:

    g               the gradient of the result (a tuple, None where there is none, if the operation has several results)
    a name of the   the argument itself: x, weight, dim
      operation
    x_shape         only the shape of the argument x (x_dtype: only its dtype)
    y               the result; y0, y1, ... if there are several
    needs           for several inputs: a tuple of booleans, which of the gradients are asked for

A derivative is called only if its input needs a gradient, and its value is summed over the dimensions along which that
input was broadcast. It is written with operations, so it can be differentiated again.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable

import numpy as np

import kernels
from scratchnn.device import CPU, moved
from scratchnn.grad_mode import grad_mode
from scratchnn.tensor import Tensor

registry: dict[str, Op] = {}       # every operation by name: tests and benchmarks go through it
watchers: list[Callable] = []      # debug tools: watcher(op, args, call) runs call() and returns its result
_ids = itertools.count()
_ASPECTS = {"_shape": np.shape, "_dtype": lambda array: array.dtype}


class Op:
    """A differentiable function. `forward` maps arrays to an array or a tuple of arrays; call it with Tensors.

    promote    the operands (all parameters without a default, or the first `promote` ones) are brought to one dtype by torch's
               rules, and numbers become arrays
    floating   with promote: integers and booleans become float32
    view       the result (each, if there are several) may share memory with the first operand
    constant   names of parameters along which the result is flat almost everywhere: they have no derivative, and need none
    cases      arguments for the tests, a list of tuples: a shape for each parameter with a derivative, the value itself for others
    domain     range of the numbers in the tests
    """

    def __init__(self, forward: Callable, promote=False, floating=False, view=False, constant=(), cases=None, domain=(-2.5, 2.5)):
        self.forward, self.promote, self.floating, self.view, self.cases, self.domain = forward, promote, floating, view, cases, domain
        self.name = self.__name__ = forward.__name__
        self.__doc__, self.__module__, self.__wrapped__ = forward.__doc__, forward.__module__, forward
        parameters = inspect.signature(forward).parameters.values()
        self.names = [p.name for p in parameters]
        self.arity = len(self.names)
        self.defaults = [p.default for p in parameters]
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        required = sum(p.default is p.empty for p in parameters)
        self.operands = required if promote is True else int(promote)
        self.constant = set(constant)
        self.rules: dict[str, Rule] = {}
        self.plans: dict[tuple, Plan] = {}
        registry[self.name] = self

    def __repr__(self):
        return f"<op {self.name}>"

    def vjp(self, *names):
        """Register the derivative with respect to the named parameters (the first one if used bare)."""
        if len(names) == 1 and callable(names[0]):
            return self.vjp(self.names[0])(names[0])

        def register(function):
            rule = Rule(self, names, function)
            self.rules.update(dict.fromkeys(names, rule))
            self.plans.clear()
            return function
        return register

    def __call__(self, *args, **kwargs):
        if kwargs or len(args) != self.arity:
            args = self._bind(args, kwargs)
        if self.promote:
            args = promoted(self, args)
        if watchers:
            return self._watched(args, len(watchers) - 1)
        return self._run(args)

    def _watched(self, args, i):
        """Run inside all watchers, the last one outermost."""
        return self._run(args) if i < 0 else watchers[i](self, args, lambda: self._watched(args, i - 1))

    def _run(self, args):
        arrays, needing = [], []
        for i, a in enumerate(args):
            if isinstance(a, Tensor):
                arrays.append(a.array)
                if a.requires_grad:
                    needing.append(i)
            else:
                arrays.append(a)
        try:
            result = self.forward(*arrays)
        except AttributeError as error:
            raise self._not_a_tensor(args) or error from error
        shares = self.view and isinstance(args[0], Tensor) and _share_memory(result, arrays[0])
        counter = args[0].counter if shares else [0]
        node = Node(self, args, tuple(needing), result, counter) if needing and self.rules and grad_mode.enabled else None
        if isinstance(result, tuple):
            return tuple([_wrap(r, node, i, counter) for i, r in enumerate(result)])
        return _wrap(result, node, 0, counter)

    def _bind(self, args, kwargs):
        """All arguments by position, defaults filled in."""
        if self.variadic:
            names = self.names[:-1]
            return (*args, *[kwargs[n] for n in names[len(args):]])
        values = list(args)
        for name, default in zip(self.names[len(args):], self.defaults[len(args):], strict=False):
            value = kwargs.pop(name, default)
            if value is inspect.Parameter.empty:
                raise TypeError(f"{self.name}() needs the argument {name!r}: {self.name}{inspect.signature(self.forward)}")
            values.append(value)
        if kwargs or len(values) > len(self.names):
            what = f"the argument {next(iter(kwargs))!r}" if kwargs else f"{len(values)} arguments"
            raise TypeError(f"{self.name}() does not take {what}: {self.name}{inspect.signature(self.forward)}")
        return values

    def _not_a_tensor(self, args):
        for name, a in zip(self.names, args[:self.operands or 1], strict=False):
            if not isinstance(a, (Tensor, np.ndarray)):
                return TypeError(f"{self.name}(): argument {name!r} must be a Tensor, not {type(a).__name__}")
        return None

    def name_of(self, position):
        return self.names[min(position, len(self.names) - 1)]


def op(forward=None, **options):
    """Decorator: turn a function on arrays into an operation on Tensors. Options are those of `Op`."""
    return Op(forward, **options) if forward is not None else lambda f: Op(f, **options)


class Rule:
    """One derivative: the function, the parameters whose gradient it returns, and what it wants to be kept."""

    def __init__(self, operation, of, function):
        self.of, self.function = of, function
        self.wants = [p for p in inspect.signature(function).parameters if p != "g"]
        whole = operation.names[:-1] if operation.variadic else operation.names      # of *tensors only shapes and dtypes are kept
        known = {*whole, "needs", *(f"{n}{suffix}" for n in operation.names for suffix in _ASPECTS)}
        unknown = [w for w in self.wants if w not in known and not re.fullmatch(r"y\d*", w)]
        unknown += [n for n in of if n not in operation.names]
        if unknown:
            raise TypeError(f"derivative of {operation.name} names {unknown}; known are g, y, y0, y1, ... and {sorted(known)}")


class Plan:
    """What one pattern of inputs that need a gradient takes: worked out once for each operation and pattern.

    edges   (parameter, position) of each such input
    keep    (name, function) of everything that the derivatives want: function(args, result, counter) gives what is kept
    """

    def __init__(self, operation, needing):
        self.edges, self.keep = [], []
        for i in needing:
            name = operation.name_of(i)
            if name in operation.rules:
                self.edges.append((name, i))
            elif name not in operation.constant:
                raise RuntimeError(f"{operation.name} has no derivative with respect to {name!r}; detach() it if it is a constant")
        wants = dict.fromkeys(w for name, _ in self.edges for w in operation.rules[name].wants if w != "needs")
        self.keep = [(want, _keeper(operation, want)) for want in wants]


def _keeper(operation, want):
    """function(args, result, counter) -> what a derivative will get under the name `want`.

    Tensors are kept with their version, results as arrays: keeping the Tensor that is returned would close a reference cycle.
    """
    aspect = _ASPECTS.get(want[-6:])
    name = want[:-6] if aspect else want
    if name not in operation.names:
        index = int(want[1:] or 0)
        return lambda args, result, counter: _Result(result[index] if isinstance(result, tuple) else result, index, counter)
    i = operation.names.index(name)
    if operation.variadic and i == len(operation.names) - 1:
        return lambda args, result, counter: [aspect(a.array) for a in args[i:]]
    if aspect:
        return lambda args, result, counter: aspect(args[i].array if isinstance(args[i], Tensor) else args[i])
    return lambda args, result, counter: _Argument(args[i]) if isinstance(args[i], Tensor) else args[i]


class Node:
    """One application of an operation, kept for the backward pass: where gradients go, and what the derivatives need.

    edges   (target, output index of the target, shape, dtype, parameter, position) of each input that needs a gradient; the target
            is the node that made the input, or the input itself if it is a leaf
    """

    __slots__ = ("__weakref__", "edges", "hooks", "id", "op", "outputs", "retained", "saved")

    def __init__(self, operation, args, needing, result, counter):
        plan = operation.plans.get(needing)
        if plan is None:
            plan = operation.plans[needing] = Plan(operation, needing)
        self.op, self.id, self.hooks, self.retained = operation, next(_ids), None, None
        self.outputs = len(result) if isinstance(result, tuple) else 1
        self.edges = []
        for name, i in plan.edges:
            a = args[i]
            self.edges.append((a.grad_fn or a, a.index, a.array.shape, a.array.dtype, name, i))
        self.saved = {want: keep(args, result, counter) for want, keep in plan.keep}

    def __repr__(self):
        return f"<{self.op.name} backward>"

    def backward(self, g, wanted):
        """(target, index, gradient) for each of the edges in `wanted`; g is a Tensor, a tuple if the operation has several results."""
        if self.saved is None:
            raise RuntimeError(f"the values that the gradient of {self.op.name} needs were freed by an earlier backward(); "
                               "pass retain_graph=True to that one to go through the graph twice")
        found, gradients = {}, []
        for target, index, shape, dtype, name, position in wanted:
            if name not in found:
                rule = self.op.rules[name]
                values = rule.function(g, *[self._value(want, wanted, rule) for want in rule.wants])
                found.update(zip(rule.of, values, strict=True) if len(rule.of) > 1 else ((name, values),))
            value = found[name]
            if isinstance(value, (list, tuple)):                       # one gradient for each of *tensors
                value = value[position - len(self.op.names) + 1]
            if value is not None:
                value = value if value.array.shape == shape else sum_to(value, shape)
                gradients.append((target, index, value if value.array.dtype == dtype else cast(value, dtype)))
        return gradients

    def _value(self, want, wanted, rule):
        """What a derivative gets under the name `want`."""
        if want == "needs":
            asked = {name for *_, name, _ in wanted}
            return tuple(name in asked for name in rule.of)
        kept = self.saved[want]
        return kept.restore(self, want) if isinstance(kept, (_Argument, _Result)) else kept


class _Argument:
    """A kept argument, with the version that it had."""

    __slots__ = ("tensor", "version")

    def __init__(self, tensor):
        self.tensor, self.version = tensor, tensor.counter[0]

    def restore(self, node, name):
        if self.tensor.counter[0] != self.version:
            _complain(node, name, self.tensor.shape, self.tensor.counter[0] - self.version)
        return self.tensor


class _Result:
    """A kept result; the Tensor around it is made anew for the derivative."""

    __slots__ = ("array", "counter", "index", "version")

    def __init__(self, array, index, counter):
        self.array, self.index, self.counter, self.version = array, index, counter, counter[0]

    def restore(self, node, name):
        if self.counter[0] != self.version:
            _complain(node, "its result", self.array.shape, self.counter[0] - self.version)
        return _wrap(self.array, node, self.index, self.counter)


def _complain(node, name, shape, changes):
    raise RuntimeError(f"the gradient of {node.op.name} needs {name} (shape {tuple(shape)}), which was changed in place {changes} time(s) "
                       "since; change a clone() instead, or change it after backward()")


def _share_memory(result, array):
    return np.may_share_memory(result[0] if isinstance(result, tuple) else result, array)


def _wrap(array, node, index, counter):
    """A Tensor for a result."""
    tensor = Tensor.__new__(Tensor)
    tensor.array, tensor.counter, tensor.grad, tensor.hooks = array, counter, None, None
    if node is not None and array.dtype.kind == "f":
        tensor.requires_grad, tensor.grad_fn, tensor.index = True, node, index
    else:
        tensor.requires_grad, tensor.grad_fn, tensor.index = False, None, 0
    return tensor


# ---- one dtype for all operands -------------------------------------------------------------------------------------

_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2}


def result_type(*values):
    """The dtype that operands (Tensors, arrays, numbers) are brought to, by torch's rules.

    Tensors with dimensions come before those without, and these before numbers: a lower rank counts only if it is of a higher
    category (boolean < integer < floating). So an integer Tensor plus 1.5 is float32, a float32 Tensor plus any number float32.
    """
    dtypes = [None, None, None]          # with dimensions, without, numbers
    for v in values:
        rank = 2 if isinstance(v, (bool, int, float)) else 0 if v.ndim else 1
        dtype = _number_type(v) if rank == 2 else v.dtype
        dtypes[rank] = dtype if dtypes[rank] is None else _promote(dtypes[rank], dtype)
    result = None
    for dtype in dtypes:
        if dtype is not None and (result is None or _CATEGORY[dtype.kind] > _CATEGORY[result.kind]):
            result = dtype
    return result


def _number_type(value):
    return np.dtype(bool if isinstance(value, bool) else np.int64 if isinstance(value, int) else np.float32)


def _promote(a, b):
    """Two dtypes of equal rank: the floating one if only one is (numpy would make int64 with float32 a float64)."""
    if a == b or (a.kind == "f") != (b.kind == "f"):
        return a if a == b or a.kind == "f" else b
    return np.promote_types(a, b)


def promoted(operation, args):
    """The arguments with their operands in one dtype; numbers become arrays of no dimension."""
    if _all_alike(args, operation.operands):
        return args
    operands = [a if isinstance(a, (Tensor, np.ndarray, bool, int, float)) else _as_operand(operation, i, a)
                for i, a in enumerate(args[:operation.operands])]
    dtype = result_type(*operands)
    if operation.floating and dtype.kind != "f":
        dtype = np.dtype(np.float32)
    for i, a in enumerate(operands):
        if isinstance(a, Tensor):
            operands[i] = a if a.array.dtype == dtype else cast(a, dtype)
        else:
            operands[i] = np.asarray(a, dtype)
    return (*operands, *args[operation.operands:])


def _all_alike(args, count):
    """Whether the first `count` arguments are Tensors of one floating dtype: nearly always, so it is found out quickly."""
    first = args[0] if args else None
    if not isinstance(first, Tensor) or first.array.dtype.kind != "f":
        return False
    dtype = first.array.dtype
    for a in args[1:count]:  # noqa: SIM110 (all() would take three times as long)
        if not isinstance(a, Tensor) or a.array.dtype is not dtype:
            return False
    return True


def _as_operand(operation, position, value):
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{operation.name}(): argument {operation.names[position]!r} must be a Tensor or a number, not {type(value).__name__}")


# ---- the four operations that this machinery itself needs ----------------------------------------------------------

@op(cases=[((3, 4), np.float64)])
def cast(x, dtype):
    """x in another dtype. Shape: any -> the same. A gradient comes back in x's own dtype."""
    return x.astype(dtype)


@cast.vjp
def _(g, x_dtype):
    return cast(g, x_dtype)


@op(view=True, cases=[((3, 4), CPU, CPU)])
def to_device(x, device, source):
    """x, which lies on the device `source`, on another one. A gradient comes back to where x lies."""
    return moved(x, device)


@to_device.vjp
def _(g, device, source):
    return to_device(g, source, device)


@op(view=True, cases=[((3, 1), (2, 3, 4)), ((), (2,)), ((2, 3), (-1, 3))])
def expand(x, shape):
    """x repeated, without a copy, along dimensions of size 1 and new ones at the left to `shape`; -1 keeps a size."""
    own = (1,) * (len(shape) - x.ndim) + x.shape
    full = tuple(n if want == -1 else want for n, want in zip(own, shape, strict=True)) if len(shape) >= x.ndim else shape
    try:
        return np.broadcast_to(x, full)
    except ValueError:
        raise ValueError(f"expand: shape {x.shape} does not fit {tuple(shape)}; only dimensions of size 1 can grow") from None


@expand.vjp
def _(g, x_shape):
    return sum_to(g, x_shape)


@op(cases=[((2, 3, 4), (3, 1)), ((2, 3), ()), ((2, 3), (2, 3))])
def sum_to(x, shape):
    """x summed to `shape`, from which x's shape could be broadcast: the derivative of broadcasting."""
    extra = x.ndim - len(shape)
    dims = tuple(range(extra)) + tuple(extra + i for i, n in enumerate(shape) if n == 1 != x.shape[extra + i])
    return kernels.sum(x, dims).reshape(shape) if dims else x.reshape(shape)


@sum_to.vjp
def _(g, x_shape):
    return expand(g, x_shape)
