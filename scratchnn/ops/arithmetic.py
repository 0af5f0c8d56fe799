"""Arithmetic, element by element; shapes broadcast."""

from __future__ import annotations

import math

import numpy as np

import kernels
from scratchnn.op import op, result_type
from scratchnn.ops.elementary import log, sqrt
from scratchnn.tensor import Tensor


@op(promote=True)
def add(a, b):
    """a + b. Shapes broadcast."""
    return kernels.add(a, b)


@add.vjp("a")
def _(g):
    return g


@add.vjp("b")
def _(g):
    return g


@op(promote=True)
def sub(a, b):
    """a - b. Shapes broadcast."""
    if a.dtype == bool:
        raise TypeError("sub: two boolean tensors cannot be subtracted; use a ^ b, or ~x to invert a mask")
    return kernels.sub(a, b)


@sub.vjp("a")
def _(g):
    return g


@sub.vjp("b")
def _(g):
    return -g


@op(promote=True)
def mul(a, b):
    """a * b. Shapes broadcast."""
    return kernels.mul(a, b)


@mul.vjp("a")
def _(g, b):
    return g * b


@mul.vjp("b")
def _(g, a):
    return g * a


@op(promote=True, floating=True, domain=(0.5, 2))
def div(a, b):
    """a / b; integers give float32. Shapes broadcast."""
    return kernels.div(a, b)


@div.vjp("a")
def _(g, b):
    return g / b


@div.vjp("b")
def _(g, b, y):
    return -g * y / b


@op(promote=True, domain=(0.5, 3))
def floor_divide(a, b):
    """The largest whole number not above a / b. Shapes broadcast. No gradient, as in torch."""
    _refuse_zero("floor_divide", a, b)
    return kernels.floor_divide(a, b)


@op(promote=True, domain=(0.5, 3))
def remainder(a, b):
    """a - b * floor(a / b): takes the sign of b. Shapes broadcast."""
    _refuse_zero("remainder", a, b)
    return kernels.remainder(a, b)


def _refuse_zero(name, a, b):
    if b.dtype.kind != "f" and a.size and not b.all():
        raise RuntimeError(f"{name}: an integer of dtype {b.dtype} cannot be divided by zero; floating-point tensors can")


@remainder.vjp("a")
def _(g):
    return g


@remainder.vjp("b")
def _(g, a, b):
    return -g * floor_divide(a, b)


@op(promote=True, domain=(0.3, 2))
def power(a, b):
    """a to the power b, both Tensors. Shapes broadcast. `pow` is the general form."""
    return kernels.pow(a, b)


@power.vjp("a")
def _(g, a, b):
    return where(b == 0, 0.0, g * b * power(where(b == 0, 1.0, a), b - 1))


@power.vjp("b")
def _(g, a, y):
    return g * y * log(where(a > 0, a, 1.0))       # 0 ** b is flat in b > 0; below 0 there is no derivative


def pow(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a ** b. Small whole exponents and roots go by multiplication and sqrt."""
    if isinstance(b, (int, float)) and not isinstance(b, bool) and isinstance(a, Tensor):
        a = _base(a, b)
        if b == 2:
            return square(a)
        if b == 1:
            return a * 1
        if b == 3:
            return square(a) * a
        if a.is_floating_point():
            if b == 0.5:
                return sqrt(a)
            if b == -1:
                return 1 / a
    return power(a, b)


def _base(a, b):
    """a in the dtype of a ** b for a number b: float32 for an integer to a float, int64 for a boolean to an integer."""
    if a.is_floating_point():
        return a
    if isinstance(b, float):
        return a.float()
    if b < 0:
        raise RuntimeError(f"pow: integers of dtype {a.dtype} have no integer power {b}; use x.float() ** {b}")
    return a.long() if a.dtype == bool else a


@op(promote=True)
def square(x):
    """x * x."""
    return kernels.mul(x, x)


@square.vjp
def _(g, x):
    return g * (x * 2)


@op(promote=True)
def maximum(a, b):
    """The larger of a and b, NaN if either is. Shapes broadcast. Where they are equal, each gets half of the gradient."""
    return kernels.maximum(a, b)


@maximum.vjp("a")
def _(g, a, b):
    return _unless(a < b, a == b, g)


@maximum.vjp("b")
def _(g, a, b):
    return _unless(b < a, a == b, g)


@op(promote=True)
def minimum(a, b):
    """The smaller of a and b, NaN if either is. Shapes broadcast. Where they are equal, each gets half of the gradient."""
    return kernels.minimum(a, b)


@minimum.vjp("a")
def _(g, a, b):
    return _unless(a > b, a == b, g)


@minimum.vjp("b")
def _(g, a, b):
    return _unless(b > a, a == b, g)


def _unless(lost, tied, g):
    """The gradient of an operand: none where it lost, half where it tied (NaN does neither)."""
    return where(lost, 0.0, where(tied, g * 0.5, g))


def _nothing(g):
    """A gradient of zeros, whatever arrived (0 * inf would be NaN)."""
    return Tensor(np.zeros(g.shape, g.dtype, like=g.array))


@op
def neg(x):
    """-x."""
    if x.dtype == bool:
        raise TypeError("neg: a boolean tensor has no negative; use ~x to invert a mask, or -x.long()")
    return kernels.neg(x)


@neg.vjp
def _(g):
    return -g


@op
def abs(x):
    """|x|, with gradient 0 at 0."""
    return kernels.abs(x)


@abs.vjp
def _(g, x):
    return g * sign(x)


@op
def sign(x):
    """-1, 0 or 1, with gradient 0."""
    return kernels.sign(x)


@sign.vjp
def _(g):
    return _nothing(g)


@op
def floor(x):
    """The largest whole number not above x, with gradient 0."""
    return kernels.floor(x)


@floor.vjp
def _(g):
    return _nothing(g)


@op
def ceil(x):
    """The smallest whole number not below x, with gradient 0."""
    return kernels.ceil(x)


@ceil.vjp
def _(g):
    return _nothing(g)


@op(cases=[((3, 4), -0.5, 1.0)])
def clip(x, low, high):
    """x limited to the numbers low..high; the gradient passes where it was inside. `clamp` is the general form."""
    return kernels.clamp(x, low, high)


@clip.vjp
def _(g, x, low, high):
    return where((x >= low) & (x <= high), g, 0.0)


@op(promote=True, cases=[((3, 4), (4,), (3, 1)), ((4,), (), (3, 4))])
def clip_between(x, low, high):
    """x limited to low..high, Tensors; high counts where low is above it. Shapes broadcast. `clamp` is the general form."""
    return kernels.minimum(kernels.maximum(x, low), high)


@clip_between.vjp("x")
def _(g, x, low, high):
    return where((x >= low) & (x <= high), g, 0.0)


@clip_between.vjp("low")
def _(g, x, low, high):
    return where((low < high) & (x < low), g, 0.0)


@clip_between.vjp("high")
def _(g, x, low, high):
    return where((x > high) | (high < low), g, 0.0)


def clamp(x: Tensor, min: float | Tensor | None = None, max: float | Tensor | None = None) -> Tensor:
    """x limited to min..max, each a number, a Tensor that broadcasts, or None for no limit."""
    if min is None and max is None:
        raise ValueError("clamp: give min, max or both")
    dtype = result_type(x, *[limit for limit in (min, max) if limit is not None])
    lowest, highest = _range(dtype)
    limits = lowest if min is None else min, highest if max is None else max
    between = isinstance(min, Tensor) or isinstance(max, Tensor)
    return clip_between(x.to(dtype), *limits) if between else clip(x.to(dtype), *limits)


def _range(dtype):
    """The smallest and the largest number of a dtype."""
    if dtype.kind == "b":
        raise TypeError("clamp: booleans cannot be limited; use &, | or x.long()")
    return (-math.inf, math.inf) if dtype.kind == "f" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


@op(cases=[(np.array([True, False, True, False]), (3, 4), (4,)), (np.array([[True], [False], [True]]), (), (3, 4))])
def select(condition, a, b):
    """a where the condition holds, b elsewhere, a and b of one dtype. `where` is the general form."""
    return kernels.where(condition if hasattr(condition, "dtype") else np.asarray(condition), a, b)


@select.vjp("a")
def _(g, condition):
    return where(condition, g, 0.0)


@select.vjp("b")
def _(g, condition):
    return where(condition, 0.0, g)


def where(condition: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """a where the condition holds, b elsewhere. Shapes broadcast, dtypes are promoted."""
    return select(condition, *_pair(a, b))


def _pair(a, b):
    """Two operands brought to one dtype."""
    dtype = result_type(a, b)
    return tuple(x.to(dtype) if isinstance(x, Tensor) else Tensor(np.asarray(x, dtype)) for x in (a, b))
