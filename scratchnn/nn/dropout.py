"""Dropout, of single elements and of the same ones at all steps of a sequence."""

from __future__ import annotations

from scratchnn import ops
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


class LockedDropout(Dropout):
    """Variational dropout: in training, one mask for all steps of a sequence.

    Gal & Ghahramani 2016, "A theoretically grounded application of dropout in recurrent neural networks". Shape: (T, B, D), or (B, T, D)
    with batch_first, or (T, D) for one sequence -> the same. torch has no such layer.
    """

    def __init__(self, p: float = 0.5, batch_first: bool = False):
        super().__init__(p)
        self.batch_first = batch_first

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (2, 3):
            raise ValueError(f"LockedDropout: input must have shape (T, B, D), (B, T, D) with batch_first, or (T, D), got {input.shape}")
        if not self.training or self.p == 0:
            return input
        shape = list(input.shape)
        shape[1 if self.batch_first and input.ndim == 3 else 0] = 1
        return input * F.dropout(ops.ones(shape, dtype=input.dtype), self.p)
