"""Deep belief nets: the ways up and down, and the multilayer perceptron that one becomes."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import optim
from scratchnn.models.dbn import DBN
from scratchnn.models.rbm import Bernoulli, ContrastiveDivergence, Gaussian
from scratchnn.random import Generator


def net(visible=6, hidden=(5, 4, 3), seed=0, scale=1.0):
    dbn, rng = DBN(visible, hidden, Generator(seed)), np.random.default_rng(seed)
    for p in dbn.parameters():
        p.array[:] = scale * rng.normal(size=p.shape)
    return dbn


@pytest.fixture
def v():
    return (np.random.default_rng(1).random((20, 6)) < 0.5).astype(np.float32)


def test_up_gives_each_machine_its_data(v):
    dbn = net()
    assert np.array_equal(dbn.up(v, 0), v)
    for layer, size in ((1, 5), (2, 4), (None, 3)):
        h = dbn.up(v, layer)
        assert h.shape == (20, size) and np.isin(h, (0, 1)).all()
    first, generator = dbn.up(v, 1, Generator(3)), Generator(3)
    assert np.array_equal(first, dbn.rbms[0].sample_hidden(v, generator))
    with pytest.raises(ValueError, match="arrays \\(N, 6\\), got shape \\(20, 5\\)"):
        dbn.up(first, 0)


@pytest.mark.parametrize("hidden", [(5,), (5, 4, 3)])
def test_samples_have_the_datas_shape_and_repeat(hidden):
    dbn, threads = net(hidden=hidden), snn.get_num_threads()
    x = dbn.sample(7, 10, Generator(5))
    snn.set_num_threads(1)
    again = dbn.sample(7, 10, Generator(5))
    snn.set_num_threads(threads)
    assert x.shape == (7, 6) and (x > 0).all() and (x < 1).all() and np.array_equal(x, again)
    assert not np.array_equal(x, dbn.sample(7, 10, Generator(6)))


def test_samples_follow_the_exact_distribution():
    """The mean of the data, by summing over all states: p(h1, h2) of the top machine, then down."""
    dbn = net(3, (2, 2), scale=1.5)
    bottom, top = dbn
    states = np.array([[i >> k & 1 for k in range(2)] for i in range(4)], np.float32)
    p = np.exp(-top.free_energy(states))                                                     # of the middle layer
    mean = (p / p.sum()) @ bottom.visible_mean(states)
    drawn = dbn.sample(20000, 30, Generator(0))
    np.testing.assert_allclose(drawn.mean(0), mean, atol=4 * 0.5 / np.sqrt(20000))


def test_reconstruction_goes_through_all_layers(v):
    a, b, c = net()
    up = c.hidden_probabilities(b.hidden_probabilities(a.hidden_probabilities(v)))
    assert np.array_equal(net().reconstruction(v), a.visible_mean(b.visible_mean(c.visible_mean(up))))


@pytest.mark.parametrize("visible", [6, [Bernoulli(2), Gaussian(4)]])
def test_the_perceptron_computes_the_hidden_probabilities(v, visible):
    dbn = net(visible)
    mlp = dbn.to_mlp(10)
    x, h = snn.from_numpy(v), v
    assert mlp(x).shape == (20, 10) and [tuple(linear.weight.shape) for linear in mlp.linears()] == [(5, 6), (4, 5), (3, 4), (10, 3)]
    for linear, rbm in zip(mlp.linears(), dbn, strict=False):
        x, h = linear(x).sigmoid(), rbm.hidden_probabilities(h)
        np.testing.assert_allclose(x.detach().numpy(), h, rtol=2e-6, atol=1e-7)
    before = dbn.rbms[0].weight.array.copy()
    mlp.linears()[0].weight.array[:] = 0
    assert np.array_equal(dbn.rbms[0].weight.array, before)


def test_each_layer_learns_from_the_one_below():
    """Pairs of equal pixels: the reconstruction through two layers must come close, layer by layer."""
    x, dbn = np.random.default_rng(0).integers(0, 2, (300, 3)).repeat(2, 1).astype(np.float32), DBN(6, [12, 8], Generator(0))
    before = np.square(dbn.reconstruction(x) - x).mean()
    for layer, rbm in enumerate(dbn):
        cd, optimizer = ContrastiveDivergence(rbm, generator=Generator(layer)), optim.SGD(rbm.parameters(), lr=0.1, momentum=0.5)
        for step in range(2000):
            cd.gradient(dbn.up(x[step % 10 * 30:][:30], layer, Generator(step)))
            optimizer.step()
    assert np.square(dbn.reconstruction(x) - x).mean() < 0.2 * before


def test_errors():
    with pytest.raises(ValueError, match="at least one layer of hidden units"):
        DBN(6, [])
    with pytest.raises(ValueError, match="hidden units must be positive, got 0"):
        DBN(6, [5, 0])
