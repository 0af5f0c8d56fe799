"""What visible units can be: yes or no (Bernoulli), a real number (Gaussian), one of several (Softmax).

The energy of a restricted Boltzmann machine is  E(v, h) = sum of energy(v_i) - b h - encode(v) W h.  A kind of units says what it makes
of that. x stands for the total input of visible units, bias and weights together: x = a + W h. `variance` is None but for Gaussian
units, whose variances are learned.
"""

from __future__ import annotations

import math

import numpy as np

import kernels
from scratchnn.device import device_of, moved, on_host
from scratchnn.ops import randn
from scratchnn.random import Generator

LOG_2PI = math.log(2 * math.pi)


def is_binary(v: np.ndarray) -> bool:
    """Whether all numbers are 0 or 1."""
    return bool(((v == 0) | (v == 1)).all())


class Units:
    """A number of visible units of one kind: `size` columns of the data."""

    has_variance = False

    def __init__(self, size: int):
        if size < 1:
            raise ValueError(f"{type(self).__name__} units: their number must be positive, got {size}")
        self.size = int(size)

    def __repr__(self):
        return f"{type(self).__name__}({self.size})"


class Bernoulli(Units):
    """0 or 1, with p(1) = sigmoid(x). What the data hold between 0 and 1 is taken for a probability.

    energy(v) = -a v
    """

    def check(self, v: np.ndarray) -> None:
        """ValueError if these cannot be values of such units."""
        low, high = v.min(initial=0), v.max(initial=0)
        if not (low >= 0 and high <= 1):
            raise ValueError(f"Bernoulli units take numbers from 0 to 1, got numbers from {low:.6g} to {high:.6g}; scale them, or use "
                             "Gaussian units")

    def encode(self, v, variance):
        return v

    def energy(self, v, bias, variance):
        """(N,): the part of the energy that is the visible units' own."""
        return -(v * bias).sum(1, dtype=np.float64)

    def log_sum(self, x, bias, variance):
        """(N,): log of the sum over all v of exp(v W h - energy(v))."""
        return kernels.softplus(x, 1.0, 20.0).sum(1, dtype=np.float64)

    def mean(self, x):
        return kernels.sigmoid(x)

    def sample(self, x, variance, generator: Generator):
        return kernels.bernoulli(*generator.take(kernels.blocks(x.size)), kernels.sigmoid(x))

    def between(self, x, variance, bias0, variance0, beta):
        """(x, variance) of p(v | h) at inverse temperature beta: p^beta of this machine times p^(1 - beta) of one without weights."""
        return (beta * x + (1 - beta) * bias0).astype(x.dtype, copy=False), variance

    def base_rate(self, v, smooth):
        """(bias, variance) of units that do not depend on each other and have the data's means, drawn toward 1/2 by `smooth` examples."""
        p = (v.sum(0, dtype=np.float64) + smooth / 2) / (len(v) + smooth)
        return np.log(p / (1 - p)), None


class Softmax(Bernoulli):
    """One of `size` categories, as `size` columns of which one is 1 (Salakhutdinov, Mnih & Hinton 2007, "RBMs for collaborative
    filtering"). p(category) = softmax(x)."""

    def check(self, v):
        super().check(v)
        sums = v.sum(1)
        if not np.allclose(sums, 1, atol=1e-4):
            raise ValueError(f"Softmax units take rows that sum to 1 over their {self.size} columns, got a row that sums to "
                             f"{sums[np.abs(sums - 1).argmax()]:.6g}")

    def log_sum(self, x, bias, variance):
        return kernels.logsumexp(x, (1,)).astype(np.float64)

    def mean(self, x):
        return kernels.softmax(x)

    def sample(self, x, variance, generator):
        index = kernels.categorical(*generator.take(kernels.blocks(len(x), 2)), kernels.softmax(x), 1)[:, 0]
        return moved(np.eye(self.size, dtype=x.dtype)[on_host(index)], device_of(x))

    def base_rate(self, v, smooth):
        return np.log((v.sum(0, dtype=np.float64) + smooth / self.size) / (len(v) + smooth)), None


class Gaussian(Units):
    """Real numbers with p(v | h) = N(x, variance); the variances are learned as their logarithms.

    energy(v) = (v - a)^2 / (2 variance),  encode(v) = v / variance  (Cho, Ilin & Raiko 2011, "Improved learning of Gaussian-Bernoulli
    restricted Boltzmann machines"). Scale the data to about unit variance.
    """

    has_variance = True

    def check(self, v):
        if not np.isfinite(v).all():
            raise ValueError("Gaussian units take finite numbers, got NaN or infinity; a missing number can be sampled: "
                             "gibbs(..., clamp=...)")

    def encode(self, v, variance):
        return v / variance

    def energy(self, v, bias, variance):
        return (np.square(v - bias) / (2 * variance)).sum(1, dtype=np.float64)

    def log_sum(self, x, bias, variance):
        return ((np.square(x) - np.square(bias)) / (2 * variance) + 0.5 * (LOG_2PI + np.log(variance))).sum(1, dtype=np.float64)

    def mean(self, x):
        return x

    def sample(self, x, variance, generator):
        return x + np.sqrt(variance) * randn(x.shape, generator=generator, device=device_of(x)).array

    def between(self, x, variance, bias0, variance0, beta):
        precision = beta / variance + (1 - beta) / variance0
        mean = (beta * x / variance + (1 - beta) * bias0 / variance0) / precision
        return mean.astype(x.dtype, copy=False), (1 / precision).astype(x.dtype, copy=False)

    def base_rate(self, v, smooth):
        variance = v.var(0, dtype=np.float64) * len(v) + smooth
        return v.mean(0, dtype=np.float64), variance / (len(v) + smooth)
