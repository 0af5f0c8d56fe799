"""Flatten and Unflatten."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scratchnn.nn.module import Module
from scratchnn.tensor import Tensor


class Flatten(Module):
    """Makes one dimension of those from start_dim to end_dim. Shape by default: (N, *) -> (N, product of *)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits dimension `dim` into several, of sizes unflattened_size; one of them may be -1. The inverse of Flatten."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]):
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        dim = self.dim + input.ndim if self.dim < 0 else self.dim
        if not 0 <= dim < input.ndim:
            raise IndexError(f"Unflatten: dim {self.dim} is out of range for an input of shape {input.shape}")
        size, parts = input.shape[dim], self.unflattened_size
        if -1 in parts and math.prod(parts) != 0 and size % math.prod(parts) == 0:
            parts = tuple(size // -math.prod(parts) if n == -1 else n for n in parts)
        if math.prod(parts) != size or min(parts) < 0:
            raise RuntimeError(f"Unflatten: sizes {self.unflattened_size} do not multiply up to {size}, the size of dimension "
                               f"{dim} of an input of shape {input.shape}")
        return input.reshape(*input.shape[:dim], *parts, *input.shape[dim + 1:])

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
