"""Embedding."""

from __future__ import annotations

from typing import Any

from scratchnn.autograd import no_grad
from scratchnn.nn import functional as F
from scratchnn.nn import init
from scratchnn.nn.module import Module
from scratchnn.nn.parameter import Parameter, empty_parameter
from scratchnn.tensor import Tensor


class Embedding(Module):
    """A table of vectors, looked up by number. Shape: integers (*) -> (*, embedding_dim).

    weight (num_embeddings, embedding_dim) starts standard normal. The row padding_idx (negative: counted from the end)
    starts at 0 and gets no gradient. A number outside 0 .. num_embeddings - 1 raises IndexError.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, dtype: Any = None,
                 _weight: Tensor | None = None, _freeze: bool = False):
        super().__init__()
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"padding_idx must be within num_embeddings: {padding_idx} is not in -{num_embeddings} .. "
                             f"{num_embeddings - 1}")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        if _weight is None:
            self.weight = empty_parameter(num_embeddings, embedding_dim, dtype=dtype)
            self.reset_parameters()
        else:
            self.weight = Parameter(_weight, requires_grad=not _freeze)

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Embedding:
        """An Embedding that uses this Tensor (num_embeddings, embedding_dim) as its weight; trained only if freeze is False."""
        if embeddings.ndim != 2:
            raise ValueError(f"embeddings must be 2-dimensional (num_embeddings, embedding_dim), got shape {embeddings.shape}")
        return cls(*embeddings.shape, padding_idx, _weight=embeddings, _freeze=freeze)

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
