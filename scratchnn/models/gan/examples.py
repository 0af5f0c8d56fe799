"""How examples look to both networks, and what makes the generator's numbers into examples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

import scratchnn as snn
from scratchnn.data.dataset import DataError, DataSet
from scratchnn.data.table import Categorical, Table
from scratchnn.ops import one_hot
from scratchnn.random import Generator
from scratchnn.tensor import Tensor

TEMPERATURE = 0.5    # of the softmax that stands for a choice where gradients go through it


class Examples(ABC):
    """shape: of one example, as the data set has it; size: how many numbers that are."""

    def __init__(self, shape: Sequence[int]):
        self.shape, self.size = tuple(shape), math.prod(shape)

    @abstractmethod
    def encode(self, x: np.ndarray) -> np.ndarray:
        """(N, *shape) of the data set -> (N, *shape) as the discriminator sees them."""

    @abstractmethod
    def decode(self, x: np.ndarray) -> np.ndarray:
        """The inverse of `encode`."""

    @abstractmethod
    def finish(self, output: Tensor, generator: Generator | None = None) -> Tensor:
        """The generator's numbers (N, size) as examples (N, *shape) that the discriminator sees."""

    def cells(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Rows (N, D) of the data set as columns of a CSV file, in the user's units."""
        return {f"x{i + 1}": column for i, column in enumerate(x.T)}

    def options(self) -> dict[str, Any]:
        """Arguments of the constructor, as JSON can hold them."""
        return {"shape": list(self.shape)}


class Pictures(Examples):
    """Pixels of 0..1, seen as -1..1, which a tanh makes."""

    def encode(self, x):
        return x * np.float32(2) - np.float32(1)

    def decode(self, x):
        return (x + np.float32(1)) * np.float32(0.5)

    def finish(self, output, generator=None):
        return snn.tanh(output).reshape(-1, *self.shape)


class Points(Examples):
    """Rows of numbers, standardised.

    mean, std   (D,) of the data
    """

    def __init__(self, shape: Sequence[int], mean: Sequence[float], std: Sequence[float]):
        super().__init__(shape)
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)

    def encode(self, x):
        return (x - self.mean) / self.std

    def decode(self, x):
        return x * self.std + self.mean

    def finish(self, output, generator=None):
        return output

    def options(self):
        return {**super().options(), "mean": self.mean.tolist(), "std": self.std.tolist()}


class Columns(Examples):
    """Columns of a table, as the table encodes them. A category is drawn from the softmax of its numbers, and that a number is missing from
    their logistic function; the gradient is that of a softmax of the same noise (E. Jang, S. Gu & B. Poole 2017, "Categorical
    reparameterization with Gumbel-softmax", straight through). So the discriminator sees zeros and ones from both sides."""

    def __init__(self, columns: Sequence[dict[str, Any]] | Table):
        self.table = columns if isinstance(columns, Table) else Table.from_options(columns)
        super().__init__((self.table.width,))

    def encode(self, x):
        return x

    def decode(self, x):
        return x

    def finish(self, output, generator=None):
        parts = []
        for column, place in zip(self.table.columns, self.table.places(), strict=True):
            part = output[:, place]
            if isinstance(column, Categorical):
                parts.append(choice(part, generator))
            elif column.missing:
                missing = choice(snn.cat([part[:, 1:], snn.zeros_like(part[:, 1:])], 1), generator)[:, :1]
                parts += [part[:, :1] * (1 - missing), missing]      # where it is missing, a number stands at its mean
            else:
                parts.append(part)
        return snn.cat(parts, 1)

    def cells(self, x):
        return self.table.inverse(x)

    def options(self):
        return {"columns": self.table.options()}


def choice(logits: Tensor, generator: Generator | None = None) -> Tensor:
    """One-hot (N, K), drawn with the probabilities softmax(logits); its gradient is that of softmax((logits + noise) / TEMPERATURE)."""
    u = snn.rand(logits.shape, dtype=logits.dtype, generator=generator, device=logits.device).array.clip(1e-7, 1 - 1e-7)
    soft = snn.softmax((logits + Tensor(-np.log(-np.log(u)))) / TEMPERATURE, 1)
    hard = one_hot(Tensor(soft.array.argmax(1)), soft.shape[1]).to(soft.dtype)
    return soft + (hard - soft.detach())


KINDS = {kind.__name__: kind for kind in (Pictures, Points, Columns)}


def examples_for(data: DataSet) -> Examples:
    """Columns for a table, Pictures for pictures, otherwise Points. DataError for pictures whose values do not lie in 0..1."""
    x = data.train_x
    if data.table:
        return Columns(data.table)
    if len(data.shape) == 1:
        return Points(data.shape, x.mean(0, dtype=np.float64), np.maximum(x.std(0, dtype=np.float64), 1e-6))
    if x.min() < 0 or x.max() > 1:
        raise DataError(f"{data.name}: pictures take values from 0 to 1, not from {x.min():.4g} to {x.max():.4g}")
    return Pictures(data.shape)
