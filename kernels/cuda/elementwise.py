"""Elementwise kernels, generated from the scalar functions of kernels/scalar/, as those of the CPU wing are.

Two kernels for each function. Where all operands have the output's shape (or one value), the arrays are run over as they lie, four
float32 numbers to an instruction: a GPU's memory needs some 2 MB on their way to be busy, which single numbers do not reach. Where
they broadcast, each element finds its operands by shapes.broadcast_plan. Bytes: each operand read once, the output written once.
"""

import numpy as np

from kernels.cuda.array import as_device, blocks, broadcast_to, contiguous, empty
from kernels.cuda.compiler import cuda, kernel, ld4, scalar, st4
from kernels.shapes import broadcast_plan, broadcast_shape

THREADS = 256

# {loads} and so on are filled in for each function by _sources; a one-valued operand is read once, before the loop.
FLAT = """
def {name}(n, out, {arguments}):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[i] = f({elements})
"""
VECTORS = """
def {name}(n, out, {arguments}):
    for v in range(cuda.grid(1), n // 4, cuda.gridsize(1)):
        i = 4 * v
        {loads}
        st4(out, i, {results})
    last = n // 4 * 4 + cuda.grid(1)
    if last < n:
        out[last] = f({tail})
"""
BROADCAST = """
def {name}(n, out, columns, period_a, row_a, column_a, period_b, row_b, column_b, {arguments}):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        row = i // columns
        column = i - row * columns
        out[i] = f(a[row % period_a * row_a + column * column_a], b[row % period_b * row_b + column * column_b]{parameters})
"""


def elementwise(function, operands=1, parameters=0, result=None):
    """A kernel on arrays from a scalar function: kernel(*operands, *parameters, out=None).

    The operands broadcast and have one dtype (a condition aside); parameters are numbers. The result has the dtype of the last
    operand, or `result`. `out` is a contiguous array of the output's shape, which may be one of the operands.
    """
    name, kernels = function.__name__, _Kernels(function, operands, parameters)

    def launch(*args, out=None):
        arrays, extra = args[:operands], args[operands:]
        as_device(name, *arrays, out)
        shape = arrays[0].shape if operands == 1 else broadcast_shape(name, *[a.shape for a in arrays])
        dtype = np.dtype(result or arrays[-1].dtype)
        if out is None:
            out = empty(shape, dtype)
        elif out.shape != shape or out.dtype != dtype or not out.is_contiguous:
            raise ValueError(f"{name}: `out` must be a contiguous {dtype} array of shape {shape}; it is {out.dtype} {out.shape}")
        numbers = [arrays[-1].dtype.type(p) for p in extra]
        if out.size:
            kernels.run(name, arrays, out, numbers)
        return out

    launch.__name__ = launch.__qualname__ = name
    launch.__doc__ = function.__doc__
    return launch


class _Kernels:
    """The kernels of one scalar function, made when they are first needed, by the operands that are one value."""

    def __init__(self, function, operands, parameters):
        self.function, self.names, self.parameters, self.made = function, "abc"[:operands], [f"p{i}" for i in range(parameters)], {}

    def run(self, name, arrays, out, numbers):
        single = "".join(self._mark(a, out) for a in arrays)
        if len(arrays) == 2 and any(s == "n" and a.shape != out.shape for s, a in zip(single, arrays, strict=True)):
            return self._broadcast(name, arrays, out, numbers)
        arrays = [a[()] if s == "h" else a if s == "1" else contiguous(broadcast_to(a, out.shape))
                  for s, a in zip(single, arrays, strict=True)]
        numbered = [out, *[a for s, a in zip(single, arrays, strict=True) if s == "n"]]
        vectors = all(a.dtype == np.float32 and a.address % 16 == 0 for a in numbered)
        made = self._make(single, vectors)
        count = -(-out.size // 4) if vectors else out.size
        return made[blocks(count, THREADS), THREADS](out.size, out, *arrays, *numbers)

    @staticmethod
    def _mark(a, out):
        """h: a number of the host, 1: one value on the GPU, n: a number for each element."""
        if isinstance(a, np.ndarray):
            return "h"
        return "1" if (a.size == 1 and out.size > 1) or (not any(a.strides) and a.size > 1) else "n"

    def _broadcast(self, name, arrays, out, numbers):
        _, layout, copies = broadcast_plan(name, *[a.shape for a in arrays])
        arrays = [contiguous(broadcast_to(a, out.shape) if i in copies else a) for i, a in enumerate(arrays)]
        made = self._make("broadcast", False)
        return made[blocks(out.size, THREADS), THREADS](out.size, out, *layout.tolist(), *arrays, *numbers)

    def _make(self, single, vectors):
        made = self.made.get((single, vectors))
        if made is None:
            made = self.made[single, vectors] = kernel(**_named(*self._source(single, vectors)))
        return made

    def _source(self, single, vectors):
        """(name, source text) of a kernel."""
        function, extra = self.function.__name__, self.parameters
        form = {"arguments": ", ".join([*self.names, *extra]), "parameters": "".join(f", {p}" for p in extra)}
        if single == "broadcast":
            return f"{function}_broadcast", BROADCAST.format(name=f"{function}_broadcast", **form), self.function
        name, marked = f"{function}_{single}{'_vectors' if vectors else ''}", list(zip(self.names, single, strict=True))
        for key, place in {"elements": "i", "tail": "last"}.items():
            form[key] = ", ".join([*[{"h": a, "1": f"{a}[0]", "n": f"{a}[{place}]"}[s] for a, s in marked], *extra])
        form["loads"] = "; ".join(f"{a}4 = " + {"h": a, "1": f"{a}[0]", "n": f"ld4({a}, i)"}[s] for a, s in marked)
        each = [[f"{a}4[{k}]" if s == "n" else f"{a}4" for a, s in marked] for k in range(4)]
        form["results"] = ", ".join(f"f({', '.join([*values, *extra])})" for values in each)
        return name, (VECTORS if vectors else FLAT).format(name=name, **form), self.function


def _named(name, source, function):
    """The function that the source text defines, for @kernel."""
    scope = {"cuda": cuda, "f": function, "ld4": ld4, "st4": st4, "__name__": __name__}
    exec(compile(source, f"<{name}>", "exec"), scope)
    return {"function": scope[name], "doubles": function.__name__ in ("sin", "cos")}


add = elementwise(scalar.add, 2)
sub = elementwise(scalar.sub, 2)
mul = elementwise(scalar.mul, 2)
div = elementwise(scalar.div, 2)
floor_divide = elementwise(scalar.floor_divide, 2)
remainder = elementwise(scalar.remainder, 2)
pow = elementwise(scalar.pow, 2)
maximum = elementwise(scalar.maximum, 2)
minimum = elementwise(scalar.minimum, 2)
neg = elementwise(scalar.neg)
abs = elementwise(scalar.abs)
sign = elementwise(scalar.sign)
clamp = elementwise(scalar.clamp, 1, parameters=2)
where = elementwise(scalar.where, 3)

eq = elementwise(scalar.eq, 2, result=np.bool_)
ne = elementwise(scalar.ne, 2, result=np.bool_)
lt = elementwise(scalar.lt, 2, result=np.bool_)
le = elementwise(scalar.le, 2, result=np.bool_)
gt = elementwise(scalar.gt, 2, result=np.bool_)
ge = elementwise(scalar.ge, 2, result=np.bool_)
logical_and = elementwise(scalar.logical_and, 2, result=np.bool_)
logical_or = elementwise(scalar.logical_or, 2, result=np.bool_)
logical_xor = elementwise(scalar.logical_xor, 2, result=np.bool_)
logical_not = elementwise(scalar.logical_not, result=np.bool_)
isnan = elementwise(scalar.isnan, result=np.bool_)
isinf = elementwise(scalar.isinf, result=np.bool_)
isfinite = elementwise(scalar.isfinite, result=np.bool_)

exp = elementwise(scalar.exp)
expm1 = elementwise(scalar.expm1)
log = elementwise(scalar.log)
log1p = elementwise(scalar.log1p)
sqrt = elementwise(scalar.sqrt)
rsqrt = elementwise(scalar.rsqrt)
sin = elementwise(scalar.sin)
cos = elementwise(scalar.cos)
tanh = elementwise(scalar.tanh)
erf = elementwise(scalar.erf)
floor = elementwise(scalar.floor)
ceil = elementwise(scalar.ceil)

sigmoid = elementwise(scalar.sigmoid)
sigmoid_backward = elementwise(scalar.sigmoid_backward, 2)
tanh_backward = elementwise(scalar.tanh_backward, 2)
softplus = elementwise(scalar.softplus, parameters=2)
softplus_backward = elementwise(scalar.softplus_backward, 2, parameters=2)
relu = elementwise(scalar.relu)
relu_backward = elementwise(scalar.relu_backward, 2)
leaky_relu = elementwise(scalar.leaky_relu, parameters=1)
leaky_relu_backward = elementwise(scalar.leaky_relu_backward, 2, parameters=1)
elu = elementwise(scalar.elu, parameters=1)
elu_backward = elementwise(scalar.elu_backward, 2, parameters=1)
silu = elementwise(scalar.silu)
silu_backward = elementwise(scalar.silu_backward, 2)
gelu = elementwise(scalar.gelu)
gelu_backward = elementwise(scalar.gelu_backward, 2)
gelu_tanh = elementwise(scalar.gelu_tanh)
gelu_tanh_backward = elementwise(scalar.gelu_tanh_backward, 2)

gaussian_sample = elementwise(scalar.gaussian_sample, 3)
gaussian_sample_backward = elementwise(scalar.gaussian_sample_backward, 3)
gaussian_kl = elementwise(scalar.gaussian_kl, 2)
gaussian_kl_backward = elementwise(scalar.gaussian_kl_backward, 2)
binary_cross_entropy_with_logits = elementwise(scalar.binary_cross_entropy_with_logits, 2)
binary_cross_entropy_with_logits_backward = elementwise(scalar.binary_cross_entropy_with_logits_backward, 3)
