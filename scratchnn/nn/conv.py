"""Convolutional layers."""

from __future__ import annotations

import math
from typing import Any

from scratchnn.nn import functional as F
from scratchnn.nn import init
from scratchnn.nn.module import Module
from scratchnn.nn.parameter import empty_parameter
from scratchnn.tensor import Tensor


class _Conv(Module):
    """What the four layers share: arguments, parameters and their first values. `dims` dimensions; transposed or not."""

    dims, transposed = 2, False

    def __init__(self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0, output_padding=0, groups: int = 1,
                 bias: bool = True, dilation=1, padding_mode: str = "zeros", *, dtype: Any = None):
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}")
        modes = ("zeros",) if self.transposed else ("zeros", "reflect", "replicate", "circular")
        if padding_mode not in modes:
            raise ValueError(f"{type(self).__name__}: padding_mode must be one of {', '.join(modes)}, not {padding_mode!r}")
        self.in_channels, self.out_channels, self.groups, self.padding_mode = in_channels, out_channels, groups, padding_mode
        self.kernel_size, self.stride, self.dilation = (self._each(v) for v in (kernel_size, stride, dilation))
        self.padding = padding if isinstance(padding, str) else self._each(padding)
        self.output_padding = self._each(output_padding)
        outer, inner = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = empty_parameter(outer, inner // groups, *self.kernel_size, dtype=dtype)
        self.register_parameter("bias", empty_parameter(out_channels, dtype=dtype) if bias else None)
        self.reset_parameters()

    def _each(self, value):
        return (value,) * self.dims if isinstance(value, int) else tuple(value)

    def reset_parameters(self) -> None:
        """Draw new initial values: uniform in +-1/sqrt(fan_in), as in PyTorch."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            bound = 1 / math.sqrt(fan_in) if fan_in else 0
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, usual in (("padding", 0), ("dilation", 1), ("output_padding", 0)):
            if getattr(self, name) != (usual,) * self.dims:
                text += f", {name}={getattr(self, name)}"
        text += f", groups={self.groups}" if self.groups != 1 else ""
        text += ", bias=False" if self.bias is None else ""
        return text + (f", padding_mode={self.padding_mode}" if self.padding_mode != "zeros" else "")


class _Forward(_Conv):
    """Conv1d and Conv2d."""

    function = staticmethod(F.conv2d)

    def __init__(self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=0, dilation=1, groups: int = 1,
                 bias: bool = True, padding_mode: str = "zeros", *, dtype: Any = None):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, 0, groups, bias, dilation, padding_mode, dtype=dtype)

    def _borders(self):
        """What F.pad takes for self.padding: pairs, the last dimension first."""
        if self.padding == "same":
            total = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True)]
            return [n for t in reversed(total) for n in (t // 2, t - t // 2)]
        return [] if self.padding == "valid" else [n for p in reversed(self.padding) for n in (p, p)]

    def forward(self, input: Tensor, activation: str | None = None) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._borders(), self.padding_mode), 0
        return self.function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups, activation=activation)


class Conv2d(_Forward):
    """2-D convolution (LeCun et al. 1989): (N, C, H, W) or (C, H, W) -> (N, out_channels, OH, OW), as F.conv2d.

    kernel_size, stride, padding, dilation   numbers or pairs (down, right); padding also "valid" or "same"
    padding_mode   what stands outside: "zeros", "reflect", "replicate", "circular"
    forward(input, activation="relu") cuts off what is below 0 on the way.
    weight (out_channels, in_channels / groups, KH, KW) and bias (out_channels,) start uniform in +-1/sqrt(fan_in), as in PyTorch.
    """


class Conv1d(_Forward):
    """1-D convolution: (N, C, L) or (C, L) -> (N, out_channels, OL), as F.conv1d; arguments as Conv2d's."""

    dims, function = 1, staticmethod(F.conv1d)


class _Transposed(_Conv):
    """ConvTranspose1d and ConvTranspose2d."""

    transposed, function = True, staticmethod(F.conv_transpose2d)

    def forward(self, input: Tensor) -> Tensor:
        return self.function(input, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation)


class ConvTranspose2d(_Transposed):
    """2-D transposed convolution: (N, C, H, W) or (C, H, W) -> (N, out_channels, OH, OW), as F.conv_transpose2d.

    output_padding   rows and columns more at the bottom and right: with a stride, several input sizes give one output size
    weight (in_channels, out_channels / groups, KH, KW), bias (out_channels,); padding_mode must be "zeros".
    """


class ConvTranspose1d(_Transposed):
    """1-D transposed convolution: (N, C, L) or (C, L) -> (N, out_channels, OL), as F.conv_transpose1d."""

    dims, function = 1, staticmethod(F.conv_transpose1d)
