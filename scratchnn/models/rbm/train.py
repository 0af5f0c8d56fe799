"""Gradients for restricted Boltzmann machines: contrastive divergence, persistent chains, parallel tempering.

The gradient of the log-likelihood is a difference of two means, of data and of the model's own samples, and only the second is hard:

    d log p(v) / d W = E_data[encode(v) h] - E_model[encode(v) h]

Each class here draws those samples in another way, and puts the negative gradient into `grad` of the parameters, where any optimiser
finds it; no back-propagation takes part:

    cd = ContrastiveDivergence(rbm, k=1)
    optimizer = optim.SGD(rbm.parameters(), lr=0.05, momentum=0.5)
    cd.gradient(batch); optimizer.step()
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import kernels
from scratchnn.device import on_host
from scratchnn.models.rbm.machine import RBM, BaseRate
from scratchnn.random import Generator, default_generator
from scratchnn.tensor import Tensor


class ContrastiveDivergence:
    """CD-k: the model's samples are k Gibbs steps away from the data (Hinton 2002).

    rbm              the machine
    k                Gibbs steps; may be changed between calls, for a schedule
    centering        learn from units less their means, which follow the data's at the rate 0.01; the gradient is better conditioned
                     and does not depend on which state is called 1 (Montavon & Mueller 2012; Melchior, Fischer & Wiskott 2016)
    sparsity_target  mean activation that hidden units are drawn toward, None for none (Lee, Ekanadham & Ng 2008; Hinton 2010, section 11)
    sparsity_cost    how strongly

    `state_dict()` holds what must continue with the machine, but for the generator's state. Hidden units of the data enter with their
    probabilities, those of the samples too; the chain itself runs on binary states.
    """

    def __init__(self, rbm: RBM, k: int = 1, centering: bool = False, sparsity_target: float | None = None, sparsity_cost: float = 0.1,
                 generator: Generator | None = None):
        if k < 1:
            raise ValueError(f"{type(self).__name__}: k, the number of Gibbs steps, must be positive, got {k}")
        if sparsity_target is not None and not 0 < sparsity_target < 1:
            raise ValueError(f"{type(self).__name__}: sparsity_target must lie between 0 and 1, got {sparsity_target}")
        self.rbm, self.k, self.generator = rbm, k, generator or default_generator
        self.centering, self.sparsity_target, self.sparsity_cost = centering, sparsity_target, sparsity_cost
        dtype, (V, H) = rbm.weight.dtype, rbm.weight.shape
        self.state = {"hidden_mean": np.full(H, 0.5, dtype, like=rbm.weight.array),
                      "visible_mean": np.zeros(V, dtype, like=rbm.weight.array), "steps": np.zeros(1, np.int64)}

    def phases(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(p(h = 1 | v) of the data v, states of visible units that stand for the model)."""
        h, p = self.rbm.sample_hidden(v, self.generator, probabilities=True)
        return p, self.rbm.gibbs(self.rbm.sample_visible(h, self.generator), self.k - 1, self.generator)

    def gradient(self, v: np.ndarray) -> None:
        """Put the negative gradient of a batch v (B, V) into `grad` of each parameter. ValueError for data that the units cannot have.

        Numbers between 0 and 1 are taken as they are for states of Bernoulli units; draw them first if they are probabilities.
        """
        v = self.rbm.check(v)
        p, model = self.phases(v)
        self._set(v, p, model, self.rbm.hidden_probabilities(model))

    def _set(self, v, p, model, q):
        """Gradients from data v with hidden probabilities p, and samples of the model with hidden probabilities q."""
        rbm = self.rbm
        s, t = rbm.encode(v), rbm.encode(model)
        weight = kernels.rbm_statistics(t, q, s, p)
        s_mean, p_mean = s.mean(0), p.mean(0)
        visible, hidden = t.mean(0) - s_mean, q.mean(0) - p_mean
        if rbm.variance is not None:
            rbm.log_variance.grad = Tensor(self._log_variance_gradient(v, p) * -1 + self._log_variance_gradient(model, q))
        self._follow(s_mean, p_mean)
        if self.centering:
            weight, visible, hidden = self._centred(weight, visible, hidden)
        if self.sparsity_target is not None:
            push = self.sparsity_cost * (self.state["hidden_mean"] - weight.dtype.type(self.sparsity_target))
            hidden = hidden + push
            kernels.matmul(s_mean[:, None], push[None], out=weight, accumulate=True)
        rbm.weight.grad, rbm.visible_bias.grad, rbm.hidden_bias.grad = Tensor(weight), Tensor(visible), Tensor(hidden)

    def _log_variance_gradient(self, v, p):
        """Mean of -dE / d log variance = (v - a)^2 / (2 variance) - (v / variance) W h, 0 for units without a variance."""
        rbm, found = self.rbm, np.zeros_like(self.rbm.visible_bias.array)
        for kind, at in rbm._parts():
            if kind.has_variance:
                a, variance, pull = rbm.visible_bias.array[at], rbm.variance[at], rbm.visible_input(p)[:, at] - rbm.visible_bias.array[at]
                found[at] = ((np.square(v[:, at] - a) / 2 - v[:, at] * pull) / variance).mean(0)
        return found

    def _follow(self, visible, hidden):
        """Running means of the data's units: the plain mean at first, then with weight 0.01 for the newest."""
        self.state["steps"] += 1
        rate = max(0.01, 1 / float(self.state["steps"][0]))
        for name, mean in (("visible_mean", visible), ("hidden_mean", hidden)):
            self.state[name] += self.state[name].dtype.type(rate) * (mean - self.state[name])

    def _centred(self, weight, visible, hidden):
        """The gradient of a machine with energy -(v - m) W (h - l), carried over to this one: for m and l the running means,

            weight - m hidden^T - visible l^T,   visible - weight l,   hidden - weight^T m
        """
        m, mean = self.state["visible_mean"], self.state["hidden_mean"]
        kernels.matmul(-np.stack([m, visible], 1), np.stack([hidden, mean]), out=weight, accumulate=True)
        return weight, visible - kernels.matmul(weight, mean), hidden - kernels.matmul(m, weight)

    def state_dict(self) -> dict[str, Tensor]:
        return {name: Tensor(value.copy()) for name, value in self.state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        loaded = {name: np.array(on_host(value)) for name, value in state.items()}
        self.state = {name: array if array.dtype == np.int64 else self.rbm.place(array) for name, array in loaded.items()}


class PersistentCD(ContrastiveDivergence):
    """PCD-k, stochastic maximum likelihood: the chains go on where they were at the last step, so that they may be anywhere where the
    model believes in something, not only near data (Tieleman 2008, "Training RBMs using approximations to the likelihood gradient").

    chains   their number; they start at random
    """

    def __init__(self, rbm: RBM, k: int = 1, chains: int = 100, **options):
        super().__init__(rbm, k, **options)
        if chains < 1:
            raise ValueError(f"{type(self).__name__}: the number of chains must be positive, got {chains}")
        self.state["chains"] = self._start(chains)

    def _start(self, count):
        """States at random: hidden units by the toss of a coin, then the visible ones given them."""
        shape, weight = (count, len(self.rbm.hidden_bias)), self.rbm.weight.array
        half = np.full(shape, 0.5, weight.dtype, like=weight)
        coins = kernels.bernoulli(*self.generator.take(kernels.blocks(half.size)), half)
        return self.rbm.sample_visible(coins, self.generator)

    def phases(self, v):
        self.state["chains"] = self.rbm.gibbs(self.state["chains"], self.k, self.generator)
        return self.rbm.hidden_probabilities(v), self.state["chains"]


class ParallelTempering(PersistentCD):
    """Chains at several inverse temperatures, which trade places: the hot ones cross from mode to mode, the coldest one gives the samples.

    betas   inverse temperatures, the first one 1 (the machine itself), descending to 0 (the base), at least two
    base    where the hottest chains live: a BaseRate, such as rbm.base_rate(data); by default all states are equally likely

    After k Gibbs steps neighbours at b > c exchange their states s and t with probability min(1, exp((b - c) (D(s) - D(t)))), where
    D is the machine's energy less the base's. Desjardins et al. 2010, "Tempered Markov chain Monte Carlo for training of RBMs"; Cho,
    Raiko & Ilin 2010. State: chains (temperatures, chains, V).
    """

    def __init__(self, rbm: RBM, k: int = 1, chains: int = 100, betas: Sequence[float] = tuple(np.linspace(1, 0, 10)),
                 base: BaseRate | None = None, **options):
        super().__init__(rbm, k, chains, **options)
        self.betas, base = np.asarray(betas, np.float64), base or rbm.flat_base()
        if len(self.betas) < 2 or self.betas[0] != 1 or (np.diff(self.betas) >= 0).any() or self.betas[-1] < 0:
            raise ValueError(f"ParallelTempering: betas must descend from 1 to 0 or more, at least two, got {list(betas)}")
        self.state["chains"] = np.stack([self.state["chains"]] * len(self.betas))
        self.state |= {f"base_{name}": values for name, values in base._asdict().items() if values is not None}
        self.state["swaps"] = np.zeros((len(self.betas) - 1, 2), np.int64)                # exchanges made and tried, by pair

    @property
    def base(self) -> BaseRate:
        """Where the hottest chains live."""
        return BaseRate(self.state["base_bias"], self.state.get("base_variance"))

    def phases(self, v):
        return self.rbm.hidden_probabilities(v), self.exchange_and_sample()

    def exchange_and_sample(self) -> np.ndarray:
        """k Gibbs steps of all chains and one round of exchanges: states of the chains at inverse temperature 1."""
        chains, hidden = self.state["chains"], []
        for states, beta in zip(chains, self.betas, strict=True):
            for _ in range(self.k):
                states[:], h = self.rbm.sample_between(self.rbm.hidden_input(states), beta, self.base, self.generator)
            hidden.append(h)
        self._exchange(chains, hidden)
        return chains[0].copy()

    def _exchange(self, chains, hidden):
        """Pairs (0, 1), (2, 3), ... then (1, 2), (3, 4), ...: a chain may move by two places at a time."""
        D = np.stack([on_host(self._difference(v, h)) for v, h in zip(chains, hidden, strict=True)])
        count = D.shape[1]
        for i in (*range(0, len(D) - 1, 2), *range(1, len(D) - 1, 2)):
            u = kernels.uniform(*self.generator.take(kernels.blocks(count)), count, np.dtype(np.float32))
            swap = np.flatnonzero(np.log(np.maximum(u, 1e-30)) < (self.betas[i] - self.betas[i + 1]) * (D[i] - D[i + 1]))
            self.state["swaps"][i] += (len(swap), count)
            for array in (chains, D):
                array[i, swap], array[i + 1, swap] = array[i + 1, swap], array[i, swap]

    def _difference(self, v, h):
        """(N,): energy of the machine less the base's."""
        rbm, base = self.rbm, self.base
        own = rbm.visible_energy(v) - (h * rbm.hidden_input(v)).sum(1, dtype=np.float64)
        return own - rbm._join("energy", v, base.bias, base.variance)
