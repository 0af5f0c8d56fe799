"""Arithmetic, element by element; shapes broadcast."""

from __future__ import annotations

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
    return kernels.floor_divide(a, b)


@op(promote=True, domain=(0.5, 3))
def remainder(a, b):
    """a - b * floor(a / b): takes the sign of b. Shapes broadcast."""
    return kernels.remainder(a, b)


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
    return g * b * power(a, b - 1)


@power.vjp("b")
def _(g, a, y):
    return g * y * log(where(a > 0, a, 1.0))       # 0 ** b is flat in b > 0; below 0 there is no derivative


def pow(a: Tensor | float, b: Tensor | float) -> Tensor:
    """a ** b. Small whole exponents and roots go by multiplication and sqrt."""
    if isinstance(b, (int, float)) and not isinstance(b, bool) and isinstance(a, Tensor):
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
    return g * _share(a > b, a == b, g)


@maximum.vjp("b")
def _(g, a, b):
    return g * _share(b > a, a == b, g)


@op(promote=True)
def minimum(a, b):
    """The smaller of a and b, NaN if either is. Shapes broadcast. Where they are equal, each gets half of the gradient."""
    return kernels.minimum(a, b)


@minimum.vjp("a")
def _(g, a, b):
    return g * _share(a < b, a == b, g)


@minimum.vjp("b")
def _(g, a, b):
    return g * _share(b < a, a == b, g)


def _share(chosen, tied, g):
    return _as(chosen, g) + _as(tied, g) * 0.5


def _as(x, other):
    """A mask as numbers."""
    return x.to(other.dtype)


@op
def neg(x):
    """-x."""
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
    return g * 0


@op
def floor(x):
    """The largest whole number not above x, with gradient 0."""
    return kernels.floor(x)


@floor.vjp
def _(g):
    return g * 0


@op
def ceil(x):
    """The smallest whole number not below x, with gradient 0."""
    return kernels.ceil(x)


@ceil.vjp
def _(g):
    return g * 0


@op(cases=[((3, 4), -0.5, 1.0)])
def clip(x, low, high):
    """x limited to the numbers low..high; the gradient passes where it was inside. `clamp` is the general form."""
    return kernels.clamp(x, low, high)


@clip.vjp
def _(g, x, low, high):
    return g * _as((x >= low) & (x <= high), g)


def clamp(x: Tensor, min: float | Tensor | None = None, max: float | Tensor | None = None) -> Tensor:
    """x limited to min..max, each a number, a Tensor that broadcasts, or None for no limit."""
    if min is None and max is None:
        raise ValueError("clamp: give min, max or both")
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        x = x if min is None else maximum(x, min)
        return x if max is None else minimum(x, max)
    limit = float("inf") if x.is_floating_point() else 2 ** 62
    return clip(x, -limit if min is None else min, limit if max is None else max)


@op(cases=[(np.array([True, False, True, False]), (3, 4), (4,)), (np.array([[True], [False], [True]]), (), (3, 4))])
def select(condition, a, b):
    """a where the condition holds, b elsewhere, a and b of one dtype. `where` is the general form."""
    return kernels.where(condition, a, b)


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
