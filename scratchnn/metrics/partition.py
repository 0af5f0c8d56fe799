"""How likely a restricted Boltzmann machine finds data: log p(v) = -F(v) - log Z, of which only Z is hard.

    exact_log_partition   the sum over all states of the smaller layer, up to 25 units
    ais                   annealed importance sampling: unbiased for Z, so that log Z tends to come out too low, and p(v) too high
    raise_bound           the other way round: annealing from each example down, which tends to give p(v) too low

Salakhutdinov & Murray 2008, "On the quantitative analysis of deep belief networks"; Burda, Grosse & Salakhutdinov 2015, "Accurate and
conservative estimates of MRF log-likelihood using reverse annealing".
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

import kernels
from scratchnn.device import on_host
from scratchnn.models.rbm.machine import RBM, BaseRate
from scratchnn.models.rbm.units import is_binary
from scratchnn.random import Generator, default_generator

EXACT_UNITS = 25
BLOCK = 1 << 14            # states summed at a time


class LogPartition(NamedTuple):
    """An estimate of log Z. `standard_error`: of log Z by the delta method; `low` and `high`: log(Z -+ 3 standard errors of Z)."""

    value: float
    standard_error: float
    low: float
    high: float
    log_weights: np.ndarray


class LogLikelihood(NamedTuple):
    """Mean log p(v) of examples in nats, its standard error over the examples, and the numbers themselves."""

    value: float
    standard_error: float
    each: np.ndarray


def exact_units(rbm: RBM) -> int:
    """The number of units whose states exact_log_partition sums over: hidden ones, or visible ones if these are fewer and all Bernoulli."""
    V, H = rbm.weight.shape
    return min(V, H) if rbm._only_bernoulli else H


def exact_log_partition(rbm: RBM) -> float:
    """log Z by summing over all states of the smaller layer, as `exact_units` says.

    ValueError if it has more than 25 units (2^25 states take about a minute).
    """
    units = exact_units(rbm)
    free_energy = rbm.hidden_free_energy if units == len(rbm.hidden_bias) else rbm.free_energy
    if units > EXACT_UNITS:
        raise ValueError(f"exact_log_partition sums over all states of at most {EXACT_UNITS} units, the smaller layer of {rbm} has "
                         f"{units}; ais() estimates log Z")
    total, bits = -np.inf, np.arange(units)
    for start in range(0, 1 << units, BLOCK):
        numbers = np.arange(start, min(start + BLOCK, 1 << units))
        states = (numbers[:, None] >> bits & 1).astype(rbm.weight.dtype)
        total = np.logaddexp(total, np.logaddexp.reduce(-free_energy(states)))
    return float(total)


def linear_schedule(count: int) -> np.ndarray:
    """`count` steps of inverse temperature evenly from 0 to 1."""
    return np.linspace(0, 1, count + 1)


def piecewise_schedule(*parts: tuple[float, int]) -> np.ndarray:
    """Inverse temperatures from 0 to 1, in parts (up to, steps): piecewise_schedule((0.5, 500), (0.9, 4000), (1, 10000)) is the one of
    Salakhutdinov & Murray 2008 with 14,500 steps."""
    edges, betas = [0.0, *(end for end, _ in parts)], [np.zeros(1)]
    for (_, steps), low, high in zip(parts, edges, edges[1:], strict=False):
        betas.append(np.linspace(low, high, steps + 1)[1:])
    return np.concatenate(betas)


def _check(betas):
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or len(betas) < 2 or betas[0] != 0 or betas[-1] != 1 or (np.diff(betas) <= 0).any():
        raise ValueError("a schedule of inverse temperatures must ascend from 0 to 1, in at least one step")
    return betas


class _Path:
    """The distributions between a base rate and a machine: log f_b(v) = (1 - b) (-base energy) - b energy + sum softplus(b input)."""

    def __init__(self, rbm: RBM, base: BaseRate):
        self.rbm, self.base, self.turned = rbm, base, rbm.weight.array.T.copy()

    def log_base_partition(self) -> float:
        """log Z_0: units that do not depend on each other, hidden ones included."""
        x = self.base.bias[None]
        return self.rbm._join("log_sum", x, *self.base)[0].item() + len(self.rbm.hidden_bias) * np.log(2)

    def start(self, count: int, generator: Generator) -> np.ndarray:
        return self.rbm.draw_between(np.broadcast_to(self.base.bias, (count, len(self.base.bias))), 0.0, self.base, generator)

    def move(self, h_input, beta, generator) -> np.ndarray:
        """One Gibbs step, which leaves f_beta alone, from the hidden inputs of the states; the new visible states."""
        return self.rbm.sample_between(h_input, beta, self.base, generator, self.turned)[0]

    def log_ratio(self, v, h_input, low, high) -> np.ndarray:
        """log f_high(v) - log f_low(v), float64 (N,)."""
        difference = self.rbm._join("energy", v, *self.base) - self.rbm.visible_energy(v)
        number = h_input.dtype.type
        soft = [kernels.softplus(h_input * number(beta), 1.0, 20.0).sum(1, dtype=np.float64) for beta in (high, low)]
        return (high - low) * difference + soft[0] - soft[1]


def ais(rbm: RBM, betas: Sequence[float] | np.ndarray, chains: int = 100, base: BaseRate | None = None,
        generator: Generator | None = None, progress: Callable = lambda steps: steps) -> LogPartition:
    """log Z by annealed importance sampling (Neal 2001), along the path of Salakhutdinov & Murray 2008 from `base` to the machine.

    betas      inverse temperatures from 0 to 1, as linear_schedule and piecewise_schedule make them
    chains     independent runs, of whose weights the mean estimates Z / Z_0
    base       where they start: rbm.base_rate(training data); by default all states are equally likely
    progress   wraps the loop's iterator, such as tqdm.tqdm

    The estimate of Z is unbiased; that of log Z is biased downward, so that likelihoods come out too high if chains are too short.
    """
    betas, generator = _check(betas), generator or default_generator
    if chains < 1:
        raise ValueError(f"ais: the number of chains must be positive, got {chains}")
    path = _Path(rbm, base or rbm.flat_base())
    v, log_w = path.start(chains, generator), 0.0
    for low, high in progress(list(itertools.pairwise(betas))):
        h_input = rbm.hidden_input(v)
        log_w = log_w + path.log_ratio(v, h_input, low, high)
        if high < 1:
            v = path.move(h_input, high, generator)
    log_w, log_base = on_host(log_w), path.log_base_partition()
    log_mean = float(np.logaddexp.reduce(log_w) - np.log(chains))
    ratio = np.exp(log_w - log_mean)
    error = float(ratio.std(ddof=1) / np.sqrt(chains)) if chains > 1 else np.inf
    value = log_base + log_mean
    low = value + float(np.log(1 - 3 * error)) if 3 * error < 1 else -np.inf
    return LogPartition(value, error, low, value + float(np.log1p(3 * error)), log_w)


def log_likelihood(rbm: RBM, v: np.ndarray, log_partition: float) -> LogLikelihood:
    """log p(v) = -F(v) - log Z of examples (N, V). ValueError for what are no states, such as grey values: those have no likelihood."""
    return _summary(-rbm.free_energy(_states(rbm, v)) - log_partition)


def _states(rbm, v):
    v = rbm.check(v)
    for kind, at in rbm._parts():
        if not kind.has_variance and not is_binary(v[:, at]):
            raise ValueError(f"the likelihood is one of states: {kind} are 0 or 1, got values between; draw them once with bernoulli()")
    if not len(v):
        raise ValueError("the likelihood is a mean over examples, got none")
    return v


def _summary(each):
    return LogLikelihood(float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else np.inf, each)


def raise_bound(rbm: RBM, v: np.ndarray, betas: Sequence[float] | np.ndarray, chains: int = 1, base: BaseRate | None = None,
                generator: Generator | None = None, progress: Callable = lambda steps: steps, batch_size: int = 1000) -> LogLikelihood:
    """RAISE, reverse AIS estimator: a stochastic lower bound on log p(v) of the machine that annealing along `betas` samples from.

    Each example is annealed from the machine down to the base (Burda et al. 2015), `chains` times. In expectation the
    result is at most the annealing model's log p(v), which tends to that of the machine itself with slower schedules; so it errs, if it
    does, on the other side than ais(). Options as there; batch_size examples are annealed at a time.
    """
    betas, generator, v = _check(betas), generator or default_generator, _states(rbm, v)
    if chains < 1 or batch_size < 1:
        raise ValueError(f"raise_bound: chains and batch_size must be positive, got {chains} and {batch_size}")
    path = _Path(rbm, base or rbm.flat_base())
    log_base, pairs = path.log_base_partition(), list(itertools.pairwise(betas))[::-1]
    starts = [(i, c) for i in range(0, len(v), batch_size) for c in range(chains)]
    log_w = np.zeros((chains, len(v)))
    steps = progress([(i, c, low, high) for i, c in starts for low, high in pairs])
    for i, c, low, high in steps:
        if high == 1:
            state = v[i:i + batch_size]
            log_w[c, i:i + batch_size] = -rbm.free_energy(state) - log_base
            h_input = rbm.hidden_input(state)
        state = path.move(h_input, high, generator)
        h_input = rbm.hidden_input(state)
        log_w[c, i:i + batch_size] -= on_host(path.log_ratio(state, h_input, low, high))
    return _summary(np.logaddexp.reduce(log_w, 0) - np.log(chains))
