"""Linear and Identity."""

from __future__ import annotations

import math
from typing import Any

from scratchnn.nn import functional as F
from scratchnn.nn import init
from scratchnn.nn.module import Module
from scratchnn.nn.parameter import empty_parameter
from scratchnn.tensor import Tensor

WITH_ACTIVATION = {None: F.linear, "relu": F.linear_relu, "sigmoid": F.linear_sigmoid, "tanh": F.linear_tanh}


class Identity(Module):
    """Returns its input. Takes any arguments and ignores them, so that it can stand in for another layer."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """y = x A^T + b. Shape: (*, in_features) -> (*, out_features).

    weight (out_features, in_features) and bias (out_features) start uniform in +-1/sqrt(in_features), as in PyTorch.
    forward(input, activation) with "relu", "sigmoid" or "tanh" applies it on the way.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = None):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = empty_parameter(out_features, in_features, dtype=dtype)
        self.register_parameter("bias", empty_parameter(out_features, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))           # with a = sqrt(5) the bound is 1/sqrt(in_features)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor, activation: str | None = None) -> Tensor:
        if activation not in WITH_ACTIVATION:
            raise ValueError(f"Linear: activation must be one of {', '.join(map(repr, WITH_ACTIVATION))}, not {activation!r}")
        return WITH_ACTIVATION[activation](input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
