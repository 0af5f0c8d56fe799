"""LayerNorm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scratchnn.nn import functional as F
from scratchnn.nn import init
from scratchnn.nn.module import Module
from scratchnn.nn.parameter import empty_parameter
from scratchnn.tensor import Tensor


class LayerNorm(Module):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias over the last dimensions, which have shape normalized_shape.

    Ba et al. 2016, "Layer normalization". The variance is the biased one. weight (ones) and bias (zeros), of shape
    normalized_shape, are there if elementwise_affine; bias=False leaves out the bias. Shape: (*, normalized_shape) -> the same.
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
                 *, dtype: Any = None):
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        for name, present in (("weight", elementwise_affine), ("bias", elementwise_affine and bias)):
            self.register_parameter(name, empty_parameter(*self.normalized_shape, dtype=dtype) if present else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")
