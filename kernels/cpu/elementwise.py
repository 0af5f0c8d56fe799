"""Elementwise kernels, generated from the scalar functions of kernels/scalar/.

One compiled loop serves every layout (shapes.broadcast_plan). What fits none is copied to the output's shape first, and so are an operand
that is not contiguous and, of three operands, each that has another shape, unless the first is one value. Bytes: each operand read
once, the output written once.
"""


import numpy as np

from kernels import jit, scalar
from kernels.shapes import WIDTH, broadcast_plan, broadcast_shape

HEAVY_CHUNK = 4096   # elements in a chunk of heavy work: few enough that all threads end together

TASKS = {1: """
def {name}_task(chunk, a, out{parameters}):
    full_width()
    part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
    x, y = a[part], out[part]
    for i in range(y.size):
        y[i] = f(x[i]{parameters})
""", 2: """
def {name}_task(chunk, a, b, layout, out{parameters}):
    full_width()
    columns, period_a, row_a, column_a = layout[0], layout[1], layout[2], layout[3]
    period_b, row_b, column_b = layout[4], layout[5], layout[6]
    rows = max(1, CHUNK // columns)
    for row in range(chunk * rows, min((chunk + 1) * rows, (out.size + columns - 1) // columns)):
        y = out[row * columns:(row + 1) * columns]
        at_a, at_b = (row % period_a) * row_a, (row % period_b) * row_b
        if column_a == 0:
            u0, v = a[at_a], b[at_b:at_b + y.size]
            for i in range(y.size):
                y[i] = f(u0, v[i]{parameters})
        elif column_b == 0:
            u, v0 = a[at_a:at_a + y.size], b[at_b]
            for i in range(y.size):
                y[i] = f(u[i], v0{parameters})
        else:
            u, v = a[at_a:at_a + y.size], b[at_b:at_b + y.size]
            for i in range(y.size):
                y[i] = f(u[i], v[i]{parameters})
""", 3: """
def {name}_task(chunk, a, b, c, out{parameters}):
    full_width()
    part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
    v, w, y = b[part], c[part], out[part]
    if a.size == 1:
        u0 = a[0]
        for i in range(y.size):
            y[i] = f(u0, v[i], w[i]{parameters})
    else:
        u = a[part]
        for i in range(y.size):
            y[i] = f(u[i], v[i], w[i]{parameters})
"""}
KERNEL = """
def {name}_kernel({operands}, {layout}out, threads{parameters}):
    size = {size}
    parallel_for(task, (out.size + size - 1) // size, threads, ({operands}, {layout}out{parameters}))
"""


def elementwise(function, operands=1, parameters=0, result=None, heavy=False):
    """A kernel on arrays from a scalar function of kernels/scalar/: kernel(*operands, *parameters, out=None).

    The operands broadcast and have one dtype (a condition aside); parameters are numbers. The result has the dtype of the last
    operand, or `result`. `out` is a contiguous array of the output's shape, which may be one of the operands. A second thread pays
    from 32,768 elements on if each is `heavy` work, from twice as many if it is not.
    """
    name = function.__name__
    prepare = (None, _one, _two, _three)[operands]
    serial_below = jit.SERIAL_BELOW if heavy else 2 * jit.SERIAL_BELOW
    kernel = None

    def launch(*args, out=None):
        nonlocal kernel
        if kernel is None:
            kernel = _compile(function, operands, parameters, HEAVY_CHUNK if heavy else jit.CHUNK)
        arrays, shape, dtype = prepare(name, *args[:operands]) if parameters else prepare(name, *args)
        if out is None:
            out = np.empty(shape, result or dtype)
        else:
            _check_out(name, out, shape, result or dtype)
        threads = 1 if out.size < serial_below else jit.threads(out.size)
        if parameters:
            kernel(*arrays, out.ravel(), threads, *[dtype.type(p) for p in args[operands:]])
        else:
            kernel(*arrays, out.ravel(), threads)
        return out

    launch.__name__ = launch.__qualname__ = name
    launch.__doc__ = function.__doc__
    return launch


def _check_out(name, out, shape, dtype):
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(f"{name}: `out` must be a contiguous, writeable {dtype} array of shape {shape}; it is {out.dtype} {out.shape}")


def _compile(function, operands, parameters, chunk):
    """The compiled kernel of a scalar function, `chunk` elements at a time; Numba compiles it further for each dtype when first called."""
    form = {"name": function.__name__, "parameters": "".join(f", p{i}" for i in range(parameters)), "operands": ", ".join("abc"[:operands]),
            "layout": "layout, " if operands == 2 else "",
            "size": "max(1, CHUNK // layout[0]) * layout[0]" if operands == 2 else "CHUNK"}
    task = jit.inner(jit.generate(TASKS[operands].format(**form), f"{function.__name__}_task", globals(), f=function, CHUNK=chunk,
                                  full_width=jit.full_width))
    driver = jit.generate(KERNEL.format(**form), f"{function.__name__}_kernel", globals(), task=task, CHUNK=chunk,
                          parallel_for=jit.parallel_for)
    return jit.jit(driver)


# What a kernel takes before its output, the output's shape, and the dtype of the last operand:

def _one(name, a):
    return (a.ravel(),), a.shape, a.dtype


def _one_value(a):
    """One element of an array that repeats a single value without memory, as the gradient of a sum does; other arrays as they are."""
    return a if a.flags.c_contiguous or any(a.strides) or not a.size else a[(slice(1),) * a.ndim]


def _two(name, a, b):
    """The operands broadcast; one whose layout has no row in the table above is copied to the output's shape first."""
    if a.size > WIDTH and a.shape == b.shape:                  # smaller ones are copied faster than looked at
        a = _one_value(a)
        b = _one_value(b) if a.shape == b.shape else b
    shape, layout, copies = broadcast_plan(name, a.shape, b.shape)
    if copies:
        a, b = (np.broadcast_to(x, shape) if i in copies else x for i, x in enumerate((a, b)))
    return (a.ravel(), b.ravel(), layout), shape, b.dtype


def _three(name, a, b, c):
    """All three are brought to one shape, but for a first that is one value."""
    shape = a.shape
    if not shape == b.shape == c.shape:
        shape = broadcast_shape(name, a.shape, b.shape, c.shape)
        b, c = np.broadcast_to(b, shape), np.broadcast_to(c, shape)
        a = a if a.size == 1 else np.broadcast_to(a, shape)
    a = _one_value(a)
    return (a.ravel(), b.ravel(), c.ravel()), shape, c.dtype


add = elementwise(scalar.add, 2)
sub = elementwise(scalar.sub, 2)
mul = elementwise(scalar.mul, 2)
div = elementwise(scalar.div, 2)
floor_divide = elementwise(scalar.floor_divide, 2)
remainder = elementwise(scalar.remainder, 2)
pow = elementwise(scalar.pow, 2, heavy=True)
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

exp = elementwise(scalar.exp, heavy=True)
expm1 = elementwise(scalar.expm1, heavy=True)
log = elementwise(scalar.log, heavy=True)
log1p = elementwise(scalar.log1p, heavy=True)
sqrt = elementwise(scalar.sqrt)
rsqrt = elementwise(scalar.rsqrt)
sin = elementwise(scalar.sin, heavy=True)
cos = elementwise(scalar.cos, heavy=True)
tanh = elementwise(scalar.tanh, heavy=True)
erf = elementwise(scalar.erf, heavy=True)
floor = elementwise(scalar.floor)
ceil = elementwise(scalar.ceil)

sigmoid = elementwise(scalar.sigmoid, heavy=True)
sigmoid_backward = elementwise(scalar.sigmoid_backward, 2)
tanh_backward = elementwise(scalar.tanh_backward, 2)
softplus = elementwise(scalar.softplus, parameters=2, heavy=True)
softplus_backward = elementwise(scalar.softplus_backward, 2, parameters=2, heavy=True)
relu = elementwise(scalar.relu)
relu_backward = elementwise(scalar.relu_backward, 2)
leaky_relu = elementwise(scalar.leaky_relu, parameters=1)
leaky_relu_backward = elementwise(scalar.leaky_relu_backward, 2, parameters=1)
elu = elementwise(scalar.elu, parameters=1, heavy=True)
elu_backward = elementwise(scalar.elu_backward, 2, parameters=1, heavy=True)
silu = elementwise(scalar.silu, heavy=True)
silu_backward = elementwise(scalar.silu_backward, 2, heavy=True)
gelu = elementwise(scalar.gelu, heavy=True)
gelu_backward = elementwise(scalar.gelu_backward, 2, heavy=True)
gelu_tanh = elementwise(scalar.gelu_tanh, heavy=True)
gelu_tanh_backward = elementwise(scalar.gelu_tanh_backward, 2, heavy=True)

gaussian_sample = elementwise(scalar.gaussian_sample, 3, heavy=True)
gaussian_sample_backward = elementwise(scalar.gaussian_sample_backward, 3)
gaussian_kl = elementwise(scalar.gaussian_kl, 2, heavy=True)
gaussian_kl_backward = elementwise(scalar.gaussian_kl_backward, 2, heavy=True)
binary_cross_entropy_with_logits = elementwise(scalar.binary_cross_entropy_with_logits, 2, heavy=True)
binary_cross_entropy_with_logits_backward = elementwise(scalar.binary_cross_entropy_with_logits_backward, 3, heavy=True)
