"""The restricted Boltzmann machine itself: energies, conditionals, Gibbs chains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

import kernels
from scratchnn import nn
from scratchnn.device import is_on_gpu, moved, on_host
from scratchnn.models.rbm.units import Bernoulli, Softmax, Units, is_binary
from scratchnn.random import Generator, default_generator


class BaseRate(NamedTuple):
    """Visible units that do not depend on each other: a machine without weights, where annealing begins."""

    bias: np.ndarray
    variance: np.ndarray | None


class RBM(nn.Module):
    """Restricted Boltzmann machine: visible units v and hidden units h with weights between them, but none within a layer.

    p(v, h) = exp(-E(v, h)) / Z,    E(v, h) = -a v - b h - v W h        (Bernoulli units; units.py has the others)

    visible    number of Bernoulli units, or a list such as [Gaussian(3), Softmax(4), Bernoulli(10)]: the columns of the data in order
    hidden     number of hidden units, which are 0 or 1
    generator  draws the weights, N(0, 0.01^2), as Hinton 2010 advises ("A practical guide to training restricted Boltzmann machines")

    Parameters: weight (V, H), visible_bias (V,), hidden_bias (H,), and log_variance (V,) if there are Gaussian units. All methods take
    and return NumPy arrays of the weight's dtype; with the weights on a GPU, arrays there, to which NumPy arrays are moved, while
    energies and errors come back as NumPy's. Smolensky 1986 ("harmonium"); Hinton 2002.
    """

    def __init__(self, visible: int | Sequence[Units], hidden: int, generator: Generator | None = None):
        super().__init__()
        if isinstance(visible, Sequence) and not (visible and all(isinstance(kind, Units) for kind in visible)):
            raise TypeError(f"RBM: visible is a number of Bernoulli units or a list such as [Gaussian(3), Softmax(4)], got {visible!r}")
        if hidden < 1:
            raise ValueError(f"RBM: the number of hidden units must be positive, got {hidden}")
        self.units = [Bernoulli(visible)] if isinstance(visible, int | np.integer) else list(visible)
        size = sum(kind.size for kind in self.units)
        seed = (generator or default_generator).take(kernels.blocks(size * hidden))
        self.weight = nn.Parameter(0.01 * kernels.normal(*seed, (size, hidden), np.dtype(np.float32)))
        self.visible_bias, self.hidden_bias = (nn.Parameter(np.zeros(n, np.float32)) for n in (size, hidden))
        if any(kind.has_variance for kind in self.units):
            self.log_variance = nn.Parameter(np.zeros(size, np.float32))
        self._only_bernoulli = [type(kind) for kind in self.units] == [Bernoulli]

    def __repr__(self):
        return f"RBM({self.units}, {len(self.hidden_bias)})"

    # ---- the units, kind by kind -------------------------------------------------------------------------------------

    @property
    def variance(self) -> np.ndarray | None:
        """(V,): of Gaussian units; 1, and without a meaning, at the places of others. None if there are none."""
        return np.exp(self.log_variance.array) if hasattr(self, "log_variance") else None

    def _parts(self) -> Iterator[tuple[Units, slice]]:
        start = 0
        for kind in self.units:
            yield kind, slice(start, start + kind.size)
            start += kind.size

    def _join(self, method: str, x: np.ndarray, *vectors) -> np.ndarray:
        """The results of a method of all kinds of units, side by side; `vectors` are (V,) or None."""
        if len(self.units) == 1:
            return getattr(self.units[0], method)(x, *vectors)
        found = [getattr(kind, method)(x[:, at], *(None if a is None else a[at] for a in vectors)) for kind, at in self._parts()]
        return np.concatenate(found, 1) if found[0].ndim == 2 else sum(found)

    def place(self, v: np.ndarray) -> np.ndarray:
        """An array in the weights' dtype, where the weights lie."""
        return moved(v if is_on_gpu(v) else np.asarray(v, self.weight.dtype), self.weight.device)

    def check(self, v: np.ndarray) -> np.ndarray:
        """The data as an array that the machine can take. ValueError for a wrong number of columns, or for values that the units
        cannot have, which names the first such kind of units. What lies on a GPU already is not read: that would make it wait."""
        given = v if is_on_gpu(v) else np.asarray(v, self.weight.dtype)
        v = self.place(given)
        if v.ndim != 2 or v.shape[1] != len(self.visible_bias):
            raise ValueError(f"{self} takes arrays (N, {len(self.visible_bias)}), got shape {v.shape}; pictures (N, C, H, W) become rows "
                             "by reshape(len(v), -1)")
        for kind, at in () if is_on_gpu(given) else self._parts():
            kind.check(given[:, at])
        return v

    def encode(self, v: np.ndarray) -> np.ndarray:
        """What the weights see of the visible units: of Gaussian ones v / variance."""
        v = self.place(v)
        return v if self._only_bernoulli else self._join("encode", v, self.variance)

    # ---- energies ----------------------------------------------------------------------------------------------------

    def hidden_input(self, v: np.ndarray) -> np.ndarray:
        """(N, V) -> (N, H): b + encode(v) W."""
        return kernels.rbm_inputs(self.encode(v), self.weight.array, self.hidden_bias.array)

    def visible_input(self, h: np.ndarray) -> np.ndarray:
        """(N, H) -> (N, V): a + W h."""
        return kernels.rbm_inputs(self.place(h), self.weight.array.T, self.visible_bias.array)

    def visible_energy(self, v: np.ndarray) -> np.ndarray:
        """(N,): the energy of the visible units without the hidden ones."""
        return self._join("energy", v, self.visible_bias.array, self.variance)

    def free_energy(self, v: np.ndarray) -> np.ndarray:
        """F(v) of p(v) = exp(-F(v)) / Z, float64 (N,): the energy with the hidden units summed out (Hinton 2010)."""
        v = self.place(v)
        return on_host(self.visible_energy(v) - kernels.softplus(self.hidden_input(v), 1.0, 20.0).sum(1, dtype=np.float64))

    def hidden_free_energy(self, h: np.ndarray) -> np.ndarray:
        """The same of hidden units, with the visible ones summed or integrated out: p(h) = exp(-F(h)) / Z."""
        h = self.place(h)
        own = (h * self.hidden_bias.array).sum(1, dtype=np.float64)
        return on_host(-own - self._join("log_sum", self.visible_input(h), self.visible_bias.array, self.variance))

    # ---- conditionals and chains -------------------------------------------------------------------------------------

    def hidden_probabilities(self, v: np.ndarray) -> np.ndarray:
        """p(h = 1 | v): (N, V) -> (N, H)."""
        return kernels.rbm_probabilities(self.encode(v), self.weight.array, self.hidden_bias.array)

    def sample_hidden(self, v: np.ndarray, generator: Generator | None = None, probabilities: bool = False):
        """Draws from p(h | v): (N, V) -> (N, H); with `probabilities`, (draws, p(h = 1 | v))."""
        seed = (generator or default_generator).take(kernels.rbm_blocks(len(v), len(self.hidden_bias)))
        return kernels.rbm_sample(self.encode(v), self.weight.array, self.hidden_bias.array, *seed, 1, probabilities)

    def visible_mean(self, h: np.ndarray) -> np.ndarray:
        """E[v | h]: (N, H) -> (N, V)."""
        return self._join("mean", self.visible_input(h))

    def sample_visible(self, h: np.ndarray, generator: Generator | None = None) -> np.ndarray:
        """Draws from p(v | h): (N, H) -> (N, V)."""
        return self._sample_visible(self.place(h), self.weight.array.T, generator or default_generator)

    def _sample_visible(self, h, turned, generator):
        """The same with the weights (H, V)."""
        if not self._only_bernoulli:
            return self._drawn(kernels.rbm_inputs(h, turned, self.visible_bias.array), self.variance, generator)
        seed = generator.take(kernels.rbm_blocks(len(h), len(self.visible_bias)))
        return kernels.rbm_sample(h, turned, self.visible_bias.array, *seed)        # the draw follows the product in the cache

    def _drawn(self, x, variance, generator):
        parts = [kind.sample(x[:, at], None if variance is None else variance[at], generator) for kind, at in self._parts()]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)

    def gibbs(self, v: np.ndarray, steps: int, generator: Generator | None = None, clamp: np.ndarray | None = None) -> np.ndarray:
        """States of the visible units after so many steps of block Gibbs sampling: (N, V) -> (N, V).

        clamp   boolean (V,) or (N, V): units that keep their values, so that the others are drawn given them; the values of the
                others at the start do not matter in the end, but the closer they are the fewer steps it takes
        """
        generator, clamp, v = generator or default_generator, self._check_clamp(v, clamp), self.place(v)
        turned = self.weight.array.T
        if steps > 2:                                        # weights in lines of visible units are read faster: a copy that soon pays
            turned = turned.copy()
        for _ in range(steps):
            drawn = self._sample_visible(self.sample_hidden(v, generator), turned, generator)
            v = drawn if clamp is None else np.where(clamp, v, drawn)
        return v

    def _check_clamp(self, v, clamp):
        if clamp is None:
            return None
        clamp = np.asarray(clamp, bool)
        if clamp.shape not in (v.shape, v.shape[1:]):
            raise ValueError(f"gibbs: clamp has shape {clamp.shape}; for states {v.shape} it must be {v.shape[1:]} or {v.shape}")
        clamp = np.broadcast_to(clamp, v.shape)
        if clamp.size and clamp.all():
            raise ValueError("gibbs: all visible units are clamped, nothing is left to sample")
        for kind, at in self._parts():
            part = clamp[:, at]
            if isinstance(kind, Softmax) and (part.any(1) != part.all(1)).any():
                raise ValueError("gibbs: of a Softmax group either all columns can be clamped or none")
        return moved(clamp, self.weight.device)

    # ---- at an inverse temperature -----------------------------------------------------------------------------------

    def base_rate(self, v: np.ndarray, smooth: float = 1.0) -> BaseRate:
        """Independent units with the data's means (and variances), the weightless machine that is closest to them.

        smooth   made-up examples that are added, so that a column that never changes has a finite bias: of mean 1/2 for Bernoulli
                 units, of equally many of each category, of variance 1 around the data's mean; above 0
        """
        v, dtype = on_host(self.check(v)), self.weight.dtype
        if not smooth > 0:
            raise ValueError(f"base_rate: smooth must be positive, got {smooth}")
        found = [kind.base_rate(v[:, at], smooth) for kind, at in self._parts()]
        bias = np.concatenate([bias for bias, _ in found]).astype(dtype)
        if self.variance is None:
            return BaseRate(self.place(bias), None)
        variance = np.concatenate([np.ones(len(b)) if var is None else var for b, var in found])
        return BaseRate(self.place(bias), self.place(variance))

    def flat_base(self) -> BaseRate:
        """The base without any data: every state of the visible units equally likely; of Gaussian ones the machine's own variance."""
        return BaseRate(np.zeros_like(self.visible_bias.array), self.variance)

    def sample_between(self, h_input: np.ndarray, beta: float, base: BaseRate, generator: Generator,
                       turned: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """A Gibbs step at inverse temperature beta, from hidden inputs: (v, h), drawn from p^beta of the machine times base^(1 - beta).

        turned   a contiguous copy of the weights as (H, V): many steps with the same weights are faster with it
        """
        turned = self.weight.array.T if turned is None else turned
        seed = generator.take(kernels.blocks(h_input.size))
        h = kernels.bernoulli(*seed, kernels.sigmoid(h_input * h_input.dtype.type(beta)))
        if self._only_bernoulli:
            shift = (beta * self.visible_bias.array + (1 - beta) * base.bias).astype(h.dtype)
            seed = generator.take(kernels.rbm_blocks(len(h), len(shift)))
            return kernels.rbm_sample(h, turned, shift, *seed, beta), h
        return self.draw_between(kernels.rbm_inputs(h, turned, self.visible_bias.array), beta, base, generator), h

    def draw_between(self, x: np.ndarray, beta: float, base: BaseRate, generator: Generator) -> np.ndarray:
        """Visible units at inverse temperature beta from their total inputs x of this machine."""
        own = self.variance
        inputs, variances = x.copy(), None if own is None else np.ones_like(own)
        for kind, at in self._parts():
            pair = (None, None) if own is None else (own[at], base.variance[at])
            inputs[:, at], variance = kind.between(x[:, at], pair[0], base.bias[at], pair[1], beta)
            if variances is not None and variance is not None:
                variances[at] = variance
        return self._drawn(inputs, variances, generator)

    # ---- how good it is ----------------------------------------------------------------------------------------------

    def reconstruction(self, v: np.ndarray) -> np.ndarray:
        """E[v | h = p(h | v)]: (N, V) -> (N, V)."""
        return self.visible_mean(self.hidden_probabilities(v))

    def reconstruction_error(self, v: np.ndarray) -> float:
        """Mean square difference of a unit and its reconstruction. It falls as long as learning works, but is no likelihood (Hinton 2010,
        section 5)."""
        v = self.place(v)
        return float(np.square(self.reconstruction(v) - v).mean(dtype=np.float64))

    def pseudo_log_likelihood(self, v: np.ndarray, generator: Generator | None = None) -> float:
        """Mean of V log p(v_i | all other units), in nats, one random Bernoulli unit i of each example: an estimate of the
        log-pseudo-likelihood (Besag 1975). ValueError if there are other units than Bernoulli ones, or if states are not 0 or 1."""
        if not self._only_bernoulli or not is_binary(v):
            raise ValueError("pseudo_log_likelihood: the units must be Bernoulli units and the states 0 or 1; bernoulli() draws them "
                             "from probabilities")
        at = kernels.randint(*(generator or default_generator).take(kernels.blocks(len(v), 2)), 0, v.shape[1], (len(v),))
        flipped = v.copy()
        flipped[np.arange(len(v)), at] = 1 - flipped[np.arange(len(v)), at]
        difference = self.free_energy(flipped) - self.free_energy(v)
        return float(-v.shape[1] * np.logaddexp(0, -difference).mean())

    def free_energy_gap(self, train: np.ndarray, held_out: np.ndarray) -> float:
        """Mean free energy of held-out data less that of training data: it grows when the machine overfits (Hinton 2010, section 6)."""
        return float(self.free_energy(held_out).mean() - self.free_energy(train).mean())
