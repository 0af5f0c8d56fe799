"""What visible units stand for: how the examples of a data set become their states, and back. Missing values are NaN, to be sampled."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

import kernels
from scratchnn.data.dataset import DataError, DataSet
from scratchnn.data.table import Categorical, Numeric
from scratchnn.device import on_host
from scratchnn.models.rbm.machine import RBM
from scratchnn.models.rbm.units import Bernoulli, Gaussian, Softmax, Units, is_binary
from scratchnn.random import Generator, default_generator

FILL = 5     # Gibbs steps that find values for the missing cells of a row to learn from


def visible_for(examples: DataSet) -> Visible:
    """The kind of visible units that fits: Columns for a table, Binary for pictures and for rows of 0 and 1, else Numbers.

    Raises DataError for pictures with values beyond 0..1, and for a column of a table that is empty in the training part.
    """
    if examples.table:
        return Columns(examples)
    binary = len(examples.shape) == 3 or all(is_binary(x) for x in (examples.train_x, examples.test_x))
    return Binary(examples) if binary else Numbers(examples)


class Visible(ABC):
    """Visible units and what their states mean.

    units   for RBM(units, hidden)
    start   (V,) states from which the search for missing ones begins
    places  of rows of numbers and tables: the units of each column, by its name; of pictures none
    """

    units: list[Units]
    start: np.ndarray
    places: dict[str, slice]

    @abstractmethod
    def encode(self, x: np.ndarray) -> np.ndarray:
        """(N, *shape) as in the data set -> (N, V), NaN where a value is missing."""

    @abstractmethod
    def decode(self, v: np.ndarray) -> np.ndarray:
        """States or means of visible units (N, V) -> (N, *shape)."""

    @abstractmethod
    def cells(self, v: np.ndarray) -> dict[str, np.ndarray]:
        """Of rows of numbers and tables: states (N, V) as the columns of the user, by name, in their units."""

    def states(self, v: np.ndarray, rbm: RBM, generator: Generator | None = None) -> np.ndarray:
        """What a machine learns from and is judged by, where its weights lie: encoded rows in which all that is left open is drawn at
        random."""
        return rbm.place(v)

    def complete(self, v: np.ndarray, rbm: RBM, steps: int, generator: Generator | None = None) -> np.ndarray:
        """States whose missing ones, NaN, are drawn given the others, by so many Gibbs steps. ValueError if none is missing."""
        v = on_host(v)
        known = ~np.isnan(v)
        return rbm.gibbs(np.where(known, v, self.start), steps, generator, clamp=known)


class Binary(Visible):
    """Bernoulli units; grey values are probabilities, drawn anew whenever an example is used (Salakhutdinov & Murray 2008)."""

    def __init__(self, examples: DataSet):
        self.shape, self.units = examples.shape, [Bernoulli(math.prod(examples.shape))]
        self.start = np.full(self.units[0].size, 0.5, np.float32)
        low = min(examples.train_x.min(), examples.test_x.min())
        high = max(examples.train_x.max(), examples.test_x.max())
        self.places = {f"x{i + 1}": slice(i, i + 1) for i in range(self.units[0].size)} if len(self.shape) == 1 else {}
        if low < 0 or high > 1:
            raise DataError(f"{examples.name}: pictures take values from 0 to 1, as probabilities, not from {low:.4g} to {high:.4g}")

    def encode(self, x):
        return x.reshape(len(x), -1)

    def decode(self, v):
        return v.reshape(len(v), *self.shape)

    def cells(self, v):
        return dict(zip(self.places, v.T, strict=True))

    def states(self, v, rbm, generator=None):
        v = rbm.place(v)
        return kernels.bernoulli(*(generator or default_generator).take(kernels.blocks(v.size)), v)


class Numbers(Visible):
    """Gaussian units: numbers standardised with mean and deviation of the training part."""

    def __init__(self, examples: DataSet):
        self.units = [Gaussian(*examples.shape)]
        x = examples.train_x
        self.mean, self.std = (f(0, dtype=np.float64).astype(np.float32) for f in (x.mean, x.std))
        for i in np.flatnonzero(x.min(0) == x.max(0)):
            raise DataError(f"{examples.name}: column {i + 1} never changes in the training part, so that no density fits it; leave it out")
        self.start = np.zeros_like(self.mean)
        self.places = {f"x{i + 1}": slice(i, i + 1) for i in range(len(self.mean))}

    def encode(self, x):
        return (x - self.mean) / self.std

    def decode(self, v):
        return v * self.std + self.mean

    def cells(self, v):
        return dict(zip(self.places, self.decode(v).T, strict=True))


class Columns(Visible):
    """The columns of a table: Gaussian units for numbers, which the table has standardised, Softmax units for names."""

    def __init__(self, examples: DataSet):
        self.table, self.units, self.places, end = examples.table, [], {}, 0
        for column in self.table.columns:
            size, kind = len(_kept(column)), Gaussian if isinstance(column, Numeric) else Softmax
            end += size
            self.places[column.name] = slice(end - size, end)
            if kind is Gaussian and self.units and isinstance(self.units[-1], Gaussian):
                size += self.units.pop().size                                   # neighbours go together
            self.units.append(kind(size))
        train = self.encode(examples.train_x)
        if np.isnan(train).all(0).any():
            raise DataError(f"{examples.name}: a column has no value in the training part; leave it out with skip=COLUMN")
        for column, at in zip(self.table.columns, self.places.values(), strict=True):
            if isinstance(column, Numeric) and np.nanmin(train[:, at]) == np.nanmax(train[:, at]):
                raise DataError(f"{examples.name}: column {column.name!r} never changes in the training part, so that no density fits it; "
                                f"leave it out with skip={column.name}")
        self.start = np.nanmean(train, 0)                                       # where the search for missing values begins

    def encode(self, x):
        ends, parts = np.cumsum([column.width for column in self.table.columns]), []
        for column, part in zip(self.table.columns, np.split(x, ends[:-1], axis=1), strict=True):
            absent = np.delete(part, _kept(column), 1).any(1, keepdims=True)
            parts.append(np.where(absent, np.float32(np.nan), part[:, _kept(column)]))
        return np.concatenate(parts, 1)

    def decode(self, v):
        parts = []
        for column, at in zip(self.table.columns, self.places.values(), strict=True):
            parts.append(np.zeros((len(v), column.width), np.float32))
            parts[-1][:, _kept(column)] = v[:, at]
        return np.concatenate(parts, 1)

    def cells(self, v):
        return self.table.inverse(self.decode(v))

    def states(self, v, rbm, generator=None):
        return self.complete(v, rbm, FILL, generator) if np.isnan(v).any() else rbm.place(v)


def _kept(column: Numeric | Categorical) -> list[int]:
    """Of the columns that encode one of a table, those that hold its value; another one says that it is missing."""
    return [0] if isinstance(column, Numeric) else [i for i, name in enumerate(column.categories) if name]

