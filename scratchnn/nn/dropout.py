"""Dropout."""

from __future__ import annotations

from scratchnn.nn import functional as F
from scratchnn.nn.module import Module
from scratchnn.tensor import Tensor


class Dropout(Module):
    """In training, sets each element to 0 with probability p and divides the others by 1 - p; in evaluation, does nothing.

    Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting". Shape: any -> the same.
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
