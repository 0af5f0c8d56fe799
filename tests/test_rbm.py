"""Restricted Boltzmann machines against sums over all their states: energies, conditionals, chains, gradients."""

import itertools

import numpy as np
import pytest
from scipy import special, stats

import scratchnn as snn
from kernels import jit
from scratchnn import optim
from scratchnn.models.rbm import RBM, Bernoulli, ContrastiveDivergence, Gaussian, ParallelTempering, PersistentCD, Softmax
from scratchnn.random import Generator

KINDS = {"bernoulli": [Bernoulli(5)], "gaussian": [Gaussian(3)], "softmax": [Softmax(3), Softmax(2)],
         "mixed": [Gaussian(2), Softmax(3), Bernoulli(2)]}


def machine(kinds, hidden=4, scale=0.8, dtype=np.float32, seed=0):
    """A machine with random parameters."""
    rng, rbm = np.random.default_rng(seed), RBM(kinds, hidden, Generator(seed))
    for p in rbm.parameters():
        p.array[...] = scale * rng.standard_normal(p.shape)
    return rbm.double() if dtype == np.float64 else rbm


def states(units, dtype=np.float32):
    return np.array(list(itertools.product((0, 1), repeat=units)), dtype)


def data(rbm, n, seed=0):
    """Values that the machine's units can have."""
    rng = np.random.default_rng(seed)
    parts = {Bernoulli: lambda k: rng.integers(0, 2, (n, k)), Softmax: lambda k: np.eye(k)[rng.integers(0, k, n)],
             Gaussian: lambda k: rng.standard_normal((n, k))}
    return np.concatenate([parts[type(kind)](kind.size) for kind in rbm.units], 1).astype(rbm.weight.dtype)


def energy(rbm, v, h):
    """E(v, h) from its definition, float64 (visible states, hidden states)."""
    w, a, b = (p.array.astype(float) for p in (rbm.weight, rbm.visible_bias, rbm.hidden_bias))
    v, variance = v.astype(float), np.ones(len(a)) if rbm.variance is None else rbm.variance.astype(float)
    gaussian = np.concatenate([np.full(kind.size, isinstance(kind, Gaussian)) for kind in rbm.units])
    own = np.where(gaussian, (v - a) ** 2 / (2 * variance), -a * v).sum(1)
    return own[:, None] - h @ b - v / np.where(gaussian, variance, 1) @ w @ h.T


# ---- energies and conditionals --------------------------------------------------------------------------------------

@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_free_energies_are_sums_over_the_other_layer(kinds):
    rbm = machine(kinds, dtype=np.float64)
    v, h = data(rbm, 7), states(4, np.float64)
    np.testing.assert_allclose(rbm.free_energy(v), -special.logsumexp(-energy(rbm, v, h), axis=1))
    np.testing.assert_allclose(rbm.hidden_probabilities(v), special.softmax(-energy(rbm, v, h), axis=1) @ h)
    if kinds is KINDS["bernoulli"]:
        everything = states(5, np.float64)
        p = special.softmax(-energy(rbm, everything, h), axis=0)
        np.testing.assert_allclose(rbm.hidden_free_energy(h), -special.logsumexp(-energy(rbm, everything, h), axis=0))
        np.testing.assert_allclose(rbm.visible_mean(h), p.T @ everything)


def test_the_free_energy_of_hidden_units_integrates_over_gaussian_ones():
    rbm, grid = machine([Gaussian(1)], dtype=np.float64), np.linspace(-40, 40, 400_001)
    h = states(4, np.float64)
    total = np.log(np.exp(-energy(rbm, grid[:, None], h)).sum(0) * (grid[1] - grid[0]))
    np.testing.assert_allclose(rbm.hidden_free_energy(h), -total, rtol=1e-9)


# ---- chains ---------------------------------------------------------------------------------------------------------

def test_gibbs_frequencies_are_the_exact_marginals():
    rbm, v = machine([Bernoulli(4)], 3), states(4)
    start = np.repeat(v, 1500, 0)                                                      # 24,000 chains
    found = rbm.gibbs(start, 60, Generator(1)) @ [8, 4, 2, 1]
    expected = special.softmax(-rbm.free_energy(v))
    assert stats.chisquare(np.bincount(found.astype(int), minlength=16), expected * len(start)).pvalue > 1e-3


def test_clamped_frequencies_are_the_exact_conditionals():
    rbm, v = machine([Bernoulli(5)], 3, seed=2), states(5)
    clamp = np.array([True, False, True, False, False])
    start = np.tile(np.array([1, 0, 0, 0, 0], np.float32), (20_000, 1))
    found = rbm.gibbs(start, 60, Generator(1), clamp)
    assert (found[:, clamp] == start[:, clamp]).all()
    fits = (v[:, clamp] == start[0, clamp]).all(1)
    expected = special.softmax(-rbm.free_energy(v)[fits])
    counts = np.bincount((found @ [16, 8, 4, 2, 1]).astype(int), minlength=32)
    assert counts[~fits].sum() == 0 and stats.chisquare(counts[fits], expected * len(start)).pvalue > 1e-3


def test_gaussian_chains_have_the_mixtures_moments():
    rbm = machine([Gaussian(2)], 2, 0.5, seed=3)
    h = states(2)
    p = special.softmax(-rbm.hidden_free_energy(h))
    means = rbm.visible_input(h)
    found = rbm.gibbs(np.zeros((40_000, 2), np.float32), 60, Generator(1))
    mean = p @ means
    np.testing.assert_allclose(found.mean(0), mean, atol=0.03)
    np.testing.assert_allclose(found.var(0), rbm.variance + p @ (means - mean) ** 2, rtol=0.04)


def test_softmax_units_draw_their_categories():
    rbm = machine([Softmax(3), Bernoulli(1)], 2, seed=4)
    v = np.concatenate([np.eye(3, dtype=np.float32).repeat(2, 0), np.tile(states(1), (3, 1))], 1)
    found = rbm.gibbs(np.tile(v, (4000, 1)), 60, Generator(1))
    assert (found[:, :3].sum(1) == 1).all()
    expected = special.softmax(-rbm.free_energy(v))
    assert stats.chisquare(np.bincount((found @ [0, 2, 4, 1]).astype(int), minlength=6), expected * 24_000).pvalue > 1e-3


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_tempered_draws_follow_the_path_between_base_and_machine(kinds):
    """At inverse temperature 0 the base's units, at 1 the machine's conditional."""
    rbm = machine(kinds, 6)
    base, h_input = rbm.base_rate(data(rbm, 50)), np.tile(rbm.hidden_input(data(rbm, 1)), (30_000, 1))
    cold, h = rbm.sample_between(h_input, 1, base, Generator(1))
    np.testing.assert_allclose(h.mean(0), special.expit(h_input[0]), atol=0.015)
    np.testing.assert_allclose(cold.mean(0), rbm.visible_mean(h).mean(0), atol=0.05)
    hot, h = rbm.sample_between(h_input, 0, base, Generator(2))
    np.testing.assert_allclose(h.mean(0), 0.5, atol=0.015)
    np.testing.assert_allclose(hot.mean(0), rbm._join("mean", base.bias[None])[0], atol=0.05)


def test_the_same_chain_on_any_number_of_threads():
    rbm, found, before = machine([Bernoulli(300)], 200, 0.1), [], jit.get_num_threads()
    try:
        for threads in (1, 2, 3):
            jit.set_num_threads(threads)
            generator, cd = Generator(5), PersistentCD(rbm, 2, 70, generator=Generator(6))
            cd.gradient(data(rbm, 90))
            found.append([rbm.gibbs(data(rbm, 90), 5, generator), rbm.weight.grad.array, cd.state["chains"]])
    finally:
        jit.set_num_threads(before)
    for other in found[1:]:
        assert all(a.tobytes() == b.tobytes() for a, b in zip(found[0], other, strict=True))


# ---- gradients ------------------------------------------------------------------------------------------------------

def exact_gradients(rbm, v, eps=1e-5):
    """Of the mean negative log-likelihood, by differences; log Z by the hidden units' states."""
    h, found = states(len(rbm.hidden_bias), rbm.weight.dtype), {}
    for name, p in rbm.named_parameters():
        found[name] = np.zeros(p.shape)
        for at in np.ndindex(p.shape):
            value, sides = p.array[at], []
            for side in (eps, -eps):
                p.array[at] = value + side
                sides.append(rbm.free_energy(v).mean() + special.logsumexp(-rbm.hidden_free_energy(h)))
            p.array[at], found[name][at] = value, (sides[0] - sides[1]) / (2 * eps)
    return found


@pytest.mark.parametrize("centering", [False, True])
@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_gradients_tend_to_those_of_the_likelihood(kinds, centering):
    """With many samples of the model itself. Centering changes the direction, so it is undone by its own linear map."""
    rbm = machine(kinds, 3, 0.4, np.float64)
    v, n = data(rbm, 40), 200_000
    expected = exact_gradients(rbm, v)
    cd = ContrastiveDivergence(rbm, centering=centering)
    model = rbm.gibbs(np.tile(v, (n // 40, 1)), 40, Generator(3))
    cd._set(v, rbm.hidden_probabilities(v), model, rbm.hidden_probabilities(model))
    if centering:
        m, mean = cd.state["visible_mean"], cd.state["hidden_mean"]
        w, a, b = expected["weight"], expected["visible_bias"], expected["hidden_bias"]
        w = w - np.outer(m, b) - np.outer(a, mean)
        expected |= {"weight": w, "visible_bias": a - w @ mean, "hidden_bias": b - m @ w}
    for name, p in rbm.named_parameters():
        np.testing.assert_allclose(p.grad.array, expected[name], atol=0.02, err_msg=name)


def test_training_finds_a_small_distribution():
    """Four patterns of six units, of unequal weight: the likelihood comes from 4.16 nats to within half a nat of the data's entropy."""
    snn.manual_seed(0)
    patterns = np.array([[1, 1, 0, 0, 0, 1], [0, 0, 1, 1, 0, 0], [1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 1, 1]], np.float32)
    v = patterns.repeat((5, 10, 15, 20), 0)
    for method in (ContrastiveDivergence, PersistentCD, ParallelTempering):
        rbm = RBM(6, 12)
        cd = method(rbm, 5, centering=True)
        optimizer = optim.SGD(rbm.parameters(), 0.2, momentum=0.5)
        for i in range(1500):
            optimizer.param_groups[0]["lr"] = 0.2 * (1 - i / 1500)
            cd.gradient(v)
            optimizer.step()
        log_z = special.logsumexp(-rbm.free_energy(states(6)))
        assert (-rbm.free_energy(v) - log_z).mean() > -stats.entropy([5, 10, 15, 20]) - 0.5, method


def test_sparsity_draws_hidden_units_to_their_target():
    snn.manual_seed(1)
    rbm, v = RBM(20, 30), (np.random.default_rng(0).random((200, 20)) < 0.5).astype(np.float32)
    cd = ContrastiveDivergence(rbm, sparsity_target=0.1, sparsity_cost=2.0)
    optimizer = optim.SGD(rbm.parameters(), 0.1)
    for _ in range(300):
        cd.gradient(v)
        optimizer.step()
    assert abs(rbm.hidden_probabilities(v).mean() - 0.1) < 0.03


def test_persistent_chains_continue_after_restoring():
    rbm, v = machine([Bernoulli(20)], 10), (np.random.default_rng(0).random((30, 20)) < 0.5).astype(np.float32)
    one = PersistentCD(rbm, 1, 16, generator=Generator(1), centering=True)
    one.gradient(v)
    other = PersistentCD(rbm, 1, 16, generator=Generator(9), centering=True)
    other.load_state_dict(one.state_dict())
    other.generator.set_state(one.generator.get_state())
    one.gradient(v)
    found = rbm.weight.grad.array
    other.gradient(v)
    np.testing.assert_array_equal(found, rbm.weight.grad.array)


def test_tempered_chains_cross_between_modes():
    """Two modes that a cold chain never crosses between: with exchanges it visits both about equally."""
    rbm = RBM(20, 5)
    rbm.weight.array[:], rbm.visible_bias.array[:], rbm.hidden_bias.array[:] = 3, -7.5, -30
    pt = ParallelTempering(rbm, chains=50, betas=np.linspace(1, 0, 15), generator=Generator(1))
    pt.state["chains"][:] = 0
    high = [pt.exchange_and_sample().mean() for _ in range(600)][200:]
    assert 0.25 < np.mean(high) < 0.75
    assert (pt.state["swaps"][:, 0] > 0).all()
    assert rbm.gibbs(np.zeros((50, 20), np.float32), 300, Generator(1)).mean() < 0.02


# ---- measures and errors --------------------------------------------------------------------------------------------

def test_pseudo_likelihood_is_that_of_all_units_on_average():
    rbm, v = machine([Bernoulli(6)], 4), states(6)[::3]
    exact = 0
    for i in range(6):
        flipped = v.copy()
        flipped[:, i] = 1 - flipped[:, i]
        exact = exact - np.logaddexp(0, rbm.free_energy(v) - rbm.free_energy(flipped))
    found = np.mean([rbm.pseudo_log_likelihood(np.tile(v, (50, 1)), Generator(s)) for s in range(20)])
    assert abs(found - exact.mean()) < 0.05
    with pytest.raises(ValueError, match="0 or 1"):
        rbm.pseudo_log_likelihood(v * 0.5)


def test_the_gap_and_the_reconstruction():
    rbm, v = machine([Bernoulli(6)], 4), states(6)
    assert rbm.free_energy_gap(v, v) == 0
    assert rbm.free_energy_gap(v[:5], v[5:9]) == pytest.approx(rbm.free_energy(v[5:9]).mean() - rbm.free_energy(v[:5]).mean())
    assert rbm.reconstruction_error(v) == pytest.approx(np.square(rbm.visible_mean(rbm.hidden_probabilities(v)) - v).mean())


def test_a_column_that_never_changes_has_a_finite_base():
    rbm = RBM([Bernoulli(2), Gaussian(1), Softmax(2)], 3)
    base = rbm.base_rate(np.array([[0, 1, 2.5, 1, 0]] * 9, np.float32))
    assert np.isfinite(base.bias).all() and np.isfinite(base.variance).all() and (base.variance > 0).all()


@pytest.mark.parametrize("message, call", [
    (r"\(N, 4\).* \(2, 3\)", lambda: RBM(4, 2).check(np.zeros((2, 3)))),
    (r"from 0 to 1, got numbers from -1 to 2", lambda: RBM(2, 2).check(np.array([[-1.0, 2.0]]))),
    (r"from 0 to 1", lambda: RBM(2, 2).check(np.array([[np.nan, 0.0]]))),
    (r"sum to 1 over their 3 columns, .* 2", lambda: RBM([Softmax(3)], 2).check(np.array([[1.0, 1, 0]]))),
    (r"finite", lambda: RBM([Gaussian(1)], 2).check(np.array([[np.inf]]))),
    (r"number must be positive, got 0", lambda: Gaussian(0)),
    (r"hidden units must be positive, got 0", lambda: RBM(3, 0)),
    (r"k, .* positive, got 0", lambda: ContrastiveDivergence(RBM(3, 2), 0)),
    (r"between 0 and 1, got 1.5", lambda: ContrastiveDivergence(RBM(3, 2), sparsity_target=1.5)),
    (r"chains must be positive, got 0", lambda: PersistentCD(RBM(3, 2), chains=0)),
    (r"descend from 1", lambda: ParallelTempering(RBM(3, 2), betas=[0.5, 1])),
    (r"nothing is left to sample", lambda: RBM(3, 2).gibbs(np.zeros((1, 3), np.float32), 1, clamp=np.ones(3, bool))),
    (r"either all columns", lambda: RBM([Softmax(3)], 2).gibbs(np.eye(3, dtype=np.float32), 1, clamp=np.array([True, False, False]))),
])
def test_errors_say_what_would_be_right(message, call):
    with pytest.raises(ValueError, match=message):
        call()
