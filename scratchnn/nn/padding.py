"""Padding layers: (N, C, L) with `padding` (left, right), (N, C, H, W) with (left, right, top, bottom); one number is for all sides, and
a negative one crops. A single example without N is taken too."""

from __future__ import annotations

from collections.abc import Sequence

from scratchnn.nn import functional as F
from scratchnn.nn.module import Module
from scratchnn.tensor import Tensor


class _Pad(Module):
    """Padding of so many sides in a mode of F.pad."""

    sides: int
    mode: str

    def __init__(self, padding: int | Sequence[int]):
        super().__init__()
        self.padding = (padding,) * self.sides if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != self.sides:
            raise ValueError(f"{type(self).__name__}: padding must be a whole number or {self.sides} of them, not {padding}")

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad1d(_Pad):
    """Surrounded by `value`: (N, C, L) -> (N, C, left + L + right)."""

    sides = 2

    def __init__(self, padding: int | Sequence[int], value: float):
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad2d(ConstantPad1d):
    """Surrounded by `value`: (N, C, H, W) -> (N, C, top + H + bottom, left + W + right)."""

    sides = 4


class ZeroPad1d(_Pad):
    """Surrounded by zeros: (N, C, L) -> (N, C, left + L + right)."""

    sides, mode = 2, "constant"


class ZeroPad2d(_Pad):
    """Surrounded by zeros: (N, C, H, W) -> (N, C, top + H + bottom, left + W + right)."""

    sides, mode = 4, "constant"


class ReflectionPad1d(_Pad):
    """Surrounded by its mirror image, without the border again: 3 2 [1 2 3 4] 3 2. Shape: (N, C, L) -> (N, C, left + L + right)."""

    sides, mode = 2, "reflect"


class ReflectionPad2d(_Pad):
    """Surrounded by its mirror image along both dimensions: (N, C, H, W) -> (N, C, top + H + bottom, left + W + right)."""

    sides, mode = 4, "reflect"


class ReplicationPad1d(_Pad):
    """Surrounded by its border: 1 1 [1 2 3 4] 4 4. Shape: (N, C, L) -> (N, C, left + L + right)."""

    sides, mode = 2, "replicate"


class ReplicationPad2d(_Pad):
    """Surrounded by its border along both dimensions: (N, C, H, W) -> (N, C, top + H + bottom, left + W + right)."""

    sides, mode = 4, "replicate"
