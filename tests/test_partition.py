"""Estimates of log Z against sums over all states, and likelihoods on their promised side."""

import itertools

import numpy as np
import pytest
from scipy import special

import scratchnn as snn
from kernels import jit
from scratchnn import optim
from scratchnn.metrics import partition
from scratchnn.models.rbm import RBM, Bernoulli, Gaussian, PersistentCD, Softmax
from scratchnn.random import Generator

KINDS = {"bernoulli": [Bernoulli(25)], "gaussian": [Gaussian(20)], "mixed": [Gaussian(4), Softmax(5), Bernoulli(8)]}


def random_machine(kinds, hidden, scale, seed):
    rng, rbm = np.random.default_rng(seed), RBM(kinds, hidden, Generator(seed))
    for p, spread in zip(rbm.parameters(), (scale, 0.5, 0.5, 0.3), strict=False):
        p.array[...] = spread * rng.standard_normal(p.shape)
    return rbm


def trained_machine(kinds, hidden, seed):
    """A machine that has learned four noisy patterns, and the patterns' data."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, sum(kind.size for kind in kinds)))
    noisy = centres[rng.integers(0, 4, 500)] + 0.5 * rng.standard_normal((500, centres.shape[1]))
    columns, start = [], 0
    for kind in kinds:
        part = noisy[:, start:start + kind.size]
        columns.append(part if isinstance(kind, Gaussian) else np.eye(kind.size)[part.argmax(1)] if isinstance(kind, Softmax) else part > 0)
        start += kind.size
    v = np.concatenate(columns, 1).astype(np.float32)
    rbm = RBM(kinds, hidden, Generator(seed))
    cd = PersistentCD(rbm, centering=True, generator=Generator(seed))
    optimizer = optim.SGD(rbm.parameters(), 0.02 if rbm.variance is not None else 0.1)
    for _ in range(600):
        cd.gradient(v)
        optimizer.step()
    return rbm, v


def exact_samples(rbm, count):
    """Independent draws: of hidden states by the sum over all of them, then of visible ones."""
    h = np.array(list(itertools.product((0, 1), repeat=len(rbm.hidden_bias))), np.float32)
    p = special.softmax(-rbm.hidden_free_energy(h))
    return rbm.sample_visible(h[np.random.default_rng(0).choice(len(h), count, p=p)], Generator(3))


def test_the_exact_sum_takes_the_smaller_layer():
    for V, H in ((6, 3), (3, 6)):
        rbm = random_machine(V, H, 1, 0)
        v, h = (np.array(list(itertools.product((0, 1), repeat=n)), np.float32) for n in (V, H))
        for energies in (rbm.free_energy(v), rbm.hidden_free_energy(h)):
            assert partition.exact_log_partition(rbm) == pytest.approx(special.logsumexp(-energies), abs=1e-4)
    with pytest.raises(ValueError, match=r"at most 25 units.* has 30; ais\(\)"):
        partition.exact_log_partition(RBM(40, 30))
    with pytest.raises(ValueError, match="has 30"):                       # Gaussian units cannot be summed over
        partition.exact_log_partition(RBM([Gaussian(4)], 30))


@pytest.mark.parametrize("seed, hidden", [(0, 15), (1, 18)])
@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_ais_of_random_machines(kinds, hidden, seed):
    rbm = random_machine(kinds, hidden, 0.6 if kinds is KINDS["bernoulli"] else 0.2, seed)
    found = partition.ais(rbm, partition.linear_schedule(3000), 200, generator=Generator(seed))
    exact = partition.exact_log_partition(rbm)
    assert abs(found.value - exact) < 0.05
    assert found.low < exact < found.high and found.standard_error < 0.03


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_likelihoods_of_trained_machines(kinds):
    """AIS within 0.05 nats of the truth from the data's base rate; RAISE below the truth, and near it, for what the machine itself
    draws: for other data the annealing model, whose likelihood RAISE bounds, may be the better one."""
    rbm, v = trained_machine(kinds, 16, 0)
    exact, base = partition.exact_log_partition(rbm), rbm.base_rate(v)
    found = partition.ais(rbm, partition.linear_schedule(4000), 200, base, Generator(1))
    assert abs(found.value - exact) < 0.05
    v = exact_samples(rbm, 200)
    true = partition.log_likelihood(rbm, v, exact)
    below = partition.raise_bound(rbm, v, partition.linear_schedule(1500), 1, base, Generator(2))
    margin = 3 * (below.each - true.each).std() / np.sqrt(200)
    assert true.value - 0.5 < below.value < true.value + margin
    short = partition.raise_bound(rbm, v, partition.linear_schedule(5), 1, base, Generator(2))
    assert short.value < below.value                                      # a hasty schedule is the more conservative


def test_the_same_estimate_on_any_number_of_threads():
    rbm, found, before = random_machine(200, 70, 0.1, 0), [], jit.get_num_threads()
    try:
        for threads in (1, 2):
            jit.set_num_threads(threads)
            found.append(partition.ais(rbm, partition.linear_schedule(30), 50, generator=Generator(1)).log_weights)
    finally:
        jit.set_num_threads(before)
    np.testing.assert_array_equal(*found)


def test_schedules():
    betas = partition.piecewise_schedule((0.5, 500), (0.9, 4000), (1, 10000))
    assert len(betas) == 14_501 and betas[0] == 0 and betas[500] == 0.5 and betas[4500] == 0.9 and betas[-1] == 1
    for wrong in ([0.5, 1], [0, 0.5], [0, 0.7, 0.7, 1], [1]):
        with pytest.raises(ValueError, match="ascend from 0 to 1"):
            partition.ais(RBM(3, 2), wrong)


def test_one_chain_has_no_standard_error():
    snn.manual_seed(0)
    assert partition.ais(RBM(3, 2), partition.linear_schedule(3), 1).standard_error == np.inf


@pytest.mark.parametrize("measure", [lambda v: partition.log_likelihood(RBM(3, 2), v, 0.0),
                                     lambda v: partition.raise_bound(RBM(3, 2), v, partition.linear_schedule(3))])
def test_grey_values_have_no_likelihood(measure):
    with pytest.raises(ValueError, match=r"of states: Bernoulli\(3\) are 0 or 1"):
        measure(np.full((2, 3), 0.5, np.float32))
    with pytest.raises(ValueError, match="got none"):
        measure(np.zeros((0, 3), np.float32))
