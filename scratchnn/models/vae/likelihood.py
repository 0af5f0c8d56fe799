"""What the decoder's output says of an example: p(x | z), for pixels that are 0 or 1, numbers, 8-bit colours, and columns of tables."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

import kernels
import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import nn
from scratchnn.data.dataset import DataError, DataSet
from scratchnn.data.table import Categorical, Numeric, Table
from scratchnn.device import moved, on_host
from scratchnn.ops import logistic_loss_rows
from scratchnn.random import Generator, default_generator
from scratchnn.tensor import Tensor

LOG_2PI = math.log(2 * math.pi)
LOWEST = 1e-4      # probability that a decoder begins with


class Likelihood(nn.Module):
    """p(x | z), and how examples (N, *shape) of a data set become rows (N, D) of numbers for the networks, and back.

    shape     of one example
    size      D
    outputs   P, numbers that the decoder gives for each example

    An output may have any leading dimensions: (..., P). There are S of them for each example, for S samples of z.
    """

    def __init__(self, shape: Sequence[int], outputs: int | None = None):
        super().__init__()
        self.shape, self.size = tuple(shape), math.prod(shape)
        self.outputs = outputs or self.size

    def encode(self, x: np.ndarray) -> np.ndarray:
        """(N, *shape) -> (N, D)."""
        return x.reshape(len(x), -1)

    def decode(self, rows: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, *shape): the inverse of `encode`."""
        return rows.reshape(len(rows), *self.shape)

    def observe(self, rows: Tensor, generator: Generator | None = None) -> Tensor:
        """What is learnt from and judged by: rows in which all that the data leave open is drawn at random."""
        return rows

    @abstractmethod
    def log_prob(self, output: Tensor, rows: Tensor) -> Tensor:
        """log p(x | z) in nats (N, S), of rows (N, D), given outputs (N, S, P)."""

    @abstractmethod
    def mean(self, output: np.ndarray) -> np.ndarray:
        """E(x | z): (..., P) -> (..., D)."""

    @abstractmethod
    def sample(self, output: np.ndarray, generator: Generator | None = None) -> np.ndarray:
        """Draws from p(x | z): (..., P) -> (..., D)."""

    @abstractmethod
    def marginal(self, rows: np.ndarray) -> np.ndarray:
        """The output (P,) that fits all rows alike: what the decoder begins with."""

    def options(self) -> dict[str, Any]:
        """Arguments of the constructor, as JSON can hold them."""
        return {"shape": list(self.shape)}


class Bernoulli(Likelihood):
    """Pixels that are 0 or 1, the output being logits. Grey values are probabilities, drawn anew whenever an example is used
    (Salakhutdinov & Murray 2008; "dynamic binarisation")."""

    def observe(self, rows, generator=None):
        return snn.bernoulli(rows, generator)

    def log_prob(self, output, rows):
        return -logistic_loss_rows(output, rows)

    def mean(self, output):
        return kernels.sigmoid(output)

    def sample(self, output, generator=None):
        return kernels.bernoulli(*(generator or default_generator).take(kernels.blocks(output.size)), kernels.sigmoid(output))

    def marginal(self, rows):
        return logit(rows.mean(0, dtype=np.float64))


class Gaussian(Likelihood):
    """Numbers, standardised; the output is their mean. Their deviation is learnt: one for each number, of pictures one for all.

    mean, std   (D,) of the data, or one value each
    """

    def __init__(self, shape: Sequence[int], mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)):
        super().__init__(shape)
        self.location, self.spread = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        self.log_scale = nn.Parameter(snn.zeros(self.size if len(shape) == 1 else 1))

    def encode(self, x):
        return ((x.reshape(len(x), -1) - self.location) / self.spread).astype(np.float32)

    def decode(self, rows):
        return super().decode(rows * self.spread + self.location)

    def log_prob(self, output, rows):
        return normal_log_prob(rows.unsqueeze(1) - output, self.log_scale).sum(-1)

    def mean(self, output):
        return output

    def sample(self, output, generator=None):
        return output + np.exp(on_host(self.log_scale)) * noise_like(output, generator)

    def marginal(self, rows):
        return rows.mean(0)

    def options(self):
        return {**super().options(), "mean": self.location.tolist(), "std": self.spread.tolist()}


class DiscretisedLogistic(Likelihood):
    """Colours of 8 bits: the probability that a logistic variable falls within half a step of them, at 0 and 255 also beyond (Salimans et
    al. 2017, "PixelCNN++", with one component). The output: means in 0..1 of all colours, then logarithms of their scales."""

    HALF = 0.5 / 255
    LEAST = -7.0       # of a scale's logarithm

    def __init__(self, shape: Sequence[int]):
        super().__init__(shape, 2 * math.prod(shape))

    def encode(self, x):
        return np.rint(super().encode(x) * 255) / np.float32(255)

    def log_prob(self, output, rows):
        mean, log_scale = output.chunk(2, -1)
        rows = rows.unsqueeze(1)
        sharpness = snn.exp(-snn.clamp(log_scale, min=self.LEAST))
        distance = rows - mean
        # log(s(a) - s(b)) = log s(a) + log s(-b) + log(1 - exp(b - a)), s the logistic function; without the upper edge the first term
        # is left out, without the lower one the second, and without either the third.
        upper = F.logsigmoid(sharpness * (distance + self.HALF)) * (rows < 1 - self.HALF).float()
        lower = F.logsigmoid(sharpness * (self.HALF - distance)) * (rows > self.HALF).float()
        inside = ((rows < 1 - self.HALF) & (rows > self.HALF)).float()
        return (upper + lower + snn.log(-snn.expm1(sharpness * (-2 * self.HALF))) * inside).sum(-1)

    def mean(self, output):
        return output[..., :self.size].clip(0, 1)

    def sample(self, output, generator=None):
        mean, log_scale = output[..., :self.size], np.maximum(output[..., self.size:], self.LEAST)
        u = snn.rand(mean.shape, generator=generator).array.clip(1e-6, 1 - 1e-6)
        return np.rint((mean + np.exp(log_scale) * np.log(u / (1 - u))).clip(0, 1) * 255) / np.float32(255)

    def marginal(self, rows):
        spread = rows.std(0) * math.sqrt(3) / math.pi                         # a logistic's deviation is pi / sqrt(3) of its scale
        return np.concatenate([rows.mean(0), np.log(np.maximum(spread, 1 / 255))])


class Columns(Likelihood):
    """Columns of a table, as the table encodes them: numbers that are normal, with a learnt deviation each; categories by softmax. Where a
    number is missing, only that it is missing is modelled, by a logit, so that rows with missing cells are learnt from and drawn.

    A whole number stands for all that are rounded to it, and one of these is drawn whenever a row is used ("dequantisation", Theis, van den
    Oord & Bethge 2016): the density of whole numbers themselves grows without limit as the deviation falls.
    """

    def __init__(self, columns: Sequence[dict[str, Any]] | Table):
        table = columns if isinstance(columns, Table) else Table.from_options(columns)
        super().__init__((table.width,))
        self.table, self.groups, numbers, flags = table, [], [], []
        for column, place in zip(table.columns, table.places(), strict=True):
            if isinstance(column, Categorical):
                self.groups.append(place)
            else:
                numbers.append(place.start)
                flags.append(place.start + 1 if column.missing else -1)
        self.numbers, self.flagged = np.array(numbers, np.int64), np.array([f >= 0 for f in flags], bool)
        self.flags = np.array([f for f in flags if f >= 0], np.int64)
        self.rounding = np.array([c.whole / c.std for c in table.columns if isinstance(c, Numeric)], np.float32)
        self.log_scale = nn.Parameter(snn.zeros(len(numbers)))

    def observe(self, rows, generator=None):
        x, u = rows.array.copy(), snn.rand(rows.shape[0], len(self.numbers), generator=generator, device=rows.device).array
        x[:, self.numbers] += (u - 0.5) * moved(self.rounding, rows.device) * self._present(rows)
        return Tensor(x)

    def _present(self, rows):
        """1 where a number is there, 0 where it is missing: (N, numbers)."""
        present = np.ones((rows.shape[0], len(self.numbers)), np.float32, like=rows.array)
        present[:, self.flagged] -= rows.array[:, self.flags]
        return present

    def log_prob(self, output, rows):
        total = snn.zeros_like(output[:, :, 0])
        if len(self.numbers):
            distance = rows[:, self.numbers].unsqueeze(1) - output[:, :, self.numbers]
            total = total + (normal_log_prob(distance, self.log_scale) * Tensor(self._present(rows)).unsqueeze(1)).sum(-1)
        if len(self.flags):
            total = total - logistic_loss_rows(output[:, :, self.flags], rows[:, self.flags])
        for group in self.groups:
            total = total + (snn.log_softmax(output[:, :, group], -1) * rows[:, group].unsqueeze(1)).sum(-1)
        return total

    def mean(self, output):
        mean = output.copy()
        mean[..., self.flags] = kernels.sigmoid(output[..., self.flags])
        for group in self.groups:
            mean[..., group] = kernels.softmax(np.ascontiguousarray(output[..., group]))
        return mean

    def sample(self, output, generator=None):
        drawn, generator = self.mean(output), generator or default_generator
        numbers = drawn[..., self.numbers]
        drawn[..., self.numbers] = numbers + np.exp(on_host(self.log_scale)) * noise_like(numbers, generator)
        flags = np.ascontiguousarray(drawn[..., self.flags])
        drawn[..., self.flags] = kernels.bernoulli(*generator.take(kernels.blocks(flags.size)), flags)
        for group in self.groups:
            p = drawn[..., group].reshape(-1, group.stop - group.start)
            chosen = kernels.categorical(*generator.take(kernels.blocks(len(p), 2)), p, 1)[:, 0]
            drawn[..., group] = np.eye(p.shape[1], dtype=np.float32)[chosen].reshape(drawn[..., group].shape)
        return drawn

    def marginal(self, rows):
        output = rows.mean(0, dtype=np.float64)
        output[self.flags] = logit(output[self.flags])
        for group in self.groups:
            output[group] = np.log(np.maximum(output[group], LOWEST))
        return output

    def options(self):
        return {"columns": self.table.options()}


def normal_log_prob(distance: Tensor, log_scale: Tensor) -> Tensor:
    """log density of a normal variable `distance` from its mean, element by element."""
    return (distance * snn.exp(-log_scale)).square() * -0.5 - (log_scale + 0.5 * LOG_2PI)


def noise_like(x: np.ndarray, generator: Generator | None) -> np.ndarray:
    """Standard normal numbers of x's shape and dtype."""
    return snn.randn(x.shape, dtype=x.dtype, generator=generator).array


def logit(p: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), p being kept off 0 and 1."""
    p = np.clip(p, LOWEST, 1 - LOWEST)
    return np.log(p / (1 - p))


KINDS = {kind.__name__: kind for kind in (Bernoulli, Gaussian, DiscretisedLogistic, Columns)}


def likelihood_for(examples: DataSet, kind: str | None = None) -> Likelihood:
    """The likelihood that fits: Columns for a table, Bernoulli for grey pictures and rows of 0 and 1, DiscretisedLogistic for pictures in
    colour, else Gaussian; or the one that is named. DataError where it cannot be, or a column never changes."""
    x, picture = examples.train_x, len(examples.shape) == 3
    if (kind == "Columns") != bool(examples.table) and kind:
        raise DataError(f"{examples.name}: the likelihood Columns is for tables, and the only one for them; got {kind}")
    if examples.table:
        return Columns(_changing(examples))
    unit = all(part.min() >= 0 and part.max() <= 1 for part in (x, examples.test_x))
    binary = examples.shape[0] == 1 if picture else unit and np.isin(np.unique(x), (0, 1)).all()
    kind = kind or ("Bernoulli" if binary else "DiscretisedLogistic" if picture else "Gaussian")
    if kind != "Gaussian" and not unit:
        raise DataError(f"{examples.name}: {kind} takes values from 0 to 1, not from {x.min():.4g} to {x.max():.4g}")
    if kind != "Gaussian" or picture:
        return KINDS[kind](examples.shape)
    for i in np.flatnonzero(x.min(0) == x.max(0)):
        raise DataError(f"{examples.name}: column {i + 1} never changes in the training part, so that no density fits it; leave it out")
    return Gaussian(examples.shape, *(f(0, dtype=np.float64) for f in (x.mean, x.std)))


def _changing(examples):
    """The table, if each column of numbers changes in the training part."""
    for column, place in zip(examples.table.columns, examples.table.places(), strict=True):
        x = examples.train_x[:, place.start]
        if isinstance(column, Numeric) and x.min() == x.max():
            raise DataError(f"{examples.name}: column {column.name!r} never changes in the training part, so that no density fits it; "
                            f"leave it out with skip={column.name}")
    return examples.table
