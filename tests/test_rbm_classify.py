"""The machine that classifies, against sums over all its states."""

import numpy as np
import pytest

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import optim
from scratchnn.models.classifier import predict
from scratchnn.models.rbm import Bernoulli, ClassRBM, ContrastiveDivergence, Gaussian, Softmax, hybrid_gradient
from scratchnn.random import Generator


def machine(visible=4, seed=0, dtype=np.float64):
    rbm, rng = ClassRBM(visible, 3, 5, Generator(seed)).to(dtype=dtype), np.random.default_rng(seed)
    for p in rbm.parameters():
        p.array[:] = rng.normal(size=p.shape)
    if isinstance(visible, list):
        rbm.log_variance.array[[0, 4, 5, 6]] = 0                                # not Gaussian: no variance
    return rbm


def states(size):
    return np.array([[i >> k & 1 for k in range(size)] for i in range(2 ** size)], np.float64)


def joint(rbm, x):
    """log p(x, y) + log Z, (N, classes), with each hidden state summed on its own."""
    W, a, b, h = rbm.weight.array, rbm.visible_bias.array, rbm.hidden_bias.array, states(5)
    found = [np.logaddexp.reduce((v @ a)[:, None] + (v @ W + b) @ h.T, 1)
             for v in (np.concatenate([x, np.tile(row, (len(x), 1))], 1) for row in np.eye(3))]
    return np.stack(found, 1)


def test_class_probabilities_are_exact():
    rbm, x = machine(), states(4)
    log_p = joint(rbm, x)
    np.testing.assert_allclose(predict(rbm, x), np.exp(log_p - np.logaddexp.reduce(log_p, 1)[:, None]), rtol=1e-12)


@pytest.mark.parametrize("visible", [4, [Bernoulli(1), Gaussian(3)]])
def test_logits_are_free_energies(visible):
    rbm, x = machine(visible), np.random.default_rng(1).random((6, 4))
    logits = rbm(snn.from_numpy(x)).detach().numpy()
    energies = np.stack([rbm.free_energy(rbm.join(x, np.full(6, y))) for y in range(3)], 1)
    np.testing.assert_allclose(logits - logits[:, :1], energies[:, :1] - energies, rtol=1e-11, atol=1e-12)


def test_only_gaussian_units_learn_a_variance():
    rbm = machine([Bernoulli(1), Gaussian(3)])
    F.cross_entropy(rbm(snn.from_numpy(np.random.default_rng(1).random((6, 4)))), snn.from_numpy(np.arange(6) % 3)).backward()
    assert ((rbm.log_variance.grad.array != 0) == [False, True, True, True, False, False, False]).all()


def test_the_discriminative_gradient():
    rbm, x, y = machine(), states(4), np.arange(16) % 3
    F.cross_entropy(rbm(snn.from_numpy(x)), snn.from_numpy(y)).backward()
    p, W, U = predict(rbm, x), rbm.weight.array[:4], rbm.weight.array[4:]
    active = 1 / (1 + np.exp(-((x @ W + rbm.hidden_bias.array)[:, None] + U)))                     # (N, classes, H)
    pull = (np.eye(3)[y] - p)[:, :, None] * active
    np.testing.assert_allclose(-16 * rbm.hidden_bias.grad.array, pull.sum((0, 1)), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(-16 * rbm.weight.grad.array, np.concatenate([x.T @ pull.sum(1), pull.sum(0)]), rtol=1e-10, atol=1e-12)


def test_hybrid_gradient_is_the_sum_of_both():
    rbm, x, y = machine(), states(4), np.arange(16) % 3
    ContrastiveDivergence(rbm, generator=Generator(7)).gradient(rbm.join(x, y))
    generative = [p.grad.array.copy() for p in rbm.parameters()]
    rbm.zero_grad()
    loss = F.cross_entropy(rbm(snn.from_numpy(x)), snn.from_numpy(y))
    loss.backward()
    own = [p.grad.array.copy() for p in rbm.parameters()]
    assert hybrid_gradient(ContrastiveDivergence(rbm, generator=Generator(7)), x, y, 0.25) == pytest.approx(loss.item(), rel=1e-12)
    visible_bias = rbm.visible_bias.grad.array
    assert np.abs(visible_bias[:4]).max() > 0                                   # the discriminative term leaves these alone
    for p, a, b in zip(rbm.parameters(), own, generative, strict=True):
        np.testing.assert_allclose(p.grad.array, a + 0.25 * b, rtol=1e-12, atol=1e-14)


def test_pictures_of_a_class_follow_the_exact_conditional():
    rbm, x = machine(dtype=np.float32), states(4)
    log_p = joint(rbm, x)
    p = np.exp(log_p - np.logaddexp.reduce(log_p, 0))                           # p(x | y): columns
    for y in range(3):
        drawn = rbm.generate(np.full(20000, y), 30, Generator(y))
        np.testing.assert_allclose(drawn.mean(0), p[:, y] @ x, atol=4 * 0.5 / np.sqrt(20000))
    assert np.array_equal(drawn, rbm.generate(np.full(20000, 2), 30, Generator(2)))


@pytest.mark.parametrize("generative", [None, 0.1])
def test_it_learns_to_classify(generative):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    x = (rng.random((300, 6)) < np.where(np.eye(3)[y].repeat(2, 1), 0.9, 0.1)).astype(np.float32)
    rbm = ClassRBM(6, 3, 10, Generator(0))
    cd, optimizer = ContrastiveDivergence(rbm, generator=Generator(1)), optim.SGD(rbm.parameters(), lr=0.1, momentum=0.5)
    for step in range(600):
        part = slice(step % 10 * 30, step % 10 * 30 + 30)
        if generative is None:
            cd.gradient(rbm.join(x[part], y[part]))
        else:
            hybrid_gradient(cd, x[part], y[part], generative)
        optimizer.step()
    clean = np.eye(3, dtype=np.float32).repeat(2, 1)
    assert (predict(rbm, clean).argmax(1) == np.arange(3)).all() and (predict(rbm, x).argmax(1) == y).mean() > 0.9


def test_rows_of_a_class_with_categories():
    rbm = ClassRBM([Softmax(3), Gaussian(2)], 4, 5, Generator(0))
    assert rbm.generate(np.array([0, 3, 2]), 3, Generator(1)).shape == (3, 5)


def test_errors():
    rbm = machine()
    with pytest.raises(ValueError, match="without columns of the class; got shape \\(2, 7\\)"):
        rbm(snn.zeros(2, 7))
    with pytest.raises(ValueError, match="a class from 0 to 2 for each example"):
        rbm.join(np.zeros((2, 4)), [0, 3])
    with pytest.raises(ValueError, match="takes arrays \\(N, 7\\), got shape \\(2, 8\\)"):
        rbm.join(np.zeros((2, 5)), [0, 1])
