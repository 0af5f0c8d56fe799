"""Recurrent layers without a peer: the rungs of the ladder, second derivatives, dropout, errors."""

import numpy as np
import pytest

import scratchnn as snn
from kernels import jit
from kernels.cpu.lstm import ladder
from scratchnn import nn
from scratchnn.nn.utils.parametrizations import weight_drop
from scratchnn.testing import check_gradients


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_the_rungs_of_the_ladder_are_equal():
    args = numbers(5, 3, 4), numbers(3, 7), numbers(3, 7, seed=1), numbers(28, 4), numbers(28, 7) / 3, numbers(28)
    expected = ladder.naive(*args)
    for rung in (ladder.step_by_step, ladder.inputs_at_once, ladder.fused):
        np.testing.assert_allclose(rung(*args), expected, 1e-12, 1e-12)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_second_derivatives_where_one_input_makes_another(name):
    """Weights, inputs and states that come from one tensor, through a layer with lengths in both directions."""
    snn.manual_seed(0)
    layer = getattr(nn, name)(2, 2, bidirectional=True).double()

    def energy(x):
        state = x.sum(0).reshape(1, 2, 2) * snn.ones(2, 1, 1, dtype=snn.float64)
        output, _ = layer(x, state if layer.states == 1 else (state, 2 * state), [3, 2])
        return output

    check_gradients(energy, snn.tensor(numbers(3, 2, 2), requires_grad=True))


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_the_same_bits_on_any_number_of_threads(name):
    """Large enough to be divided."""
    snn.manual_seed(0)
    layer, x, before, found = getattr(nn, name)(9, 70), snn.randn(4, 37, 9), jit.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            jit.set_num_threads(n)
            y = layer(x)[0]
            found.append([y.array, *(g.array for g in snn.grad(y.square().sum(), list(layer.parameters())))])
    finally:
        jit.set_num_threads(before)
    for other in found[1:]:
        assert all(a.tobytes() == b.tobytes() for a, b in zip(found[0], other, strict=True))


def test_frozen_weights_and_constant_states_get_no_gradient():
    layer = nn.LSTM(3, 4)
    layer.weight_hh_l0.requires_grad_(False)
    x = snn.ones(2, 1, 3, requires_grad=True)
    layer(x)[0].sum().backward()
    assert layer.weight_hh_l0.grad is None and x.grad is not None and layer.weight_ih_l0.grad is not None


def test_dropout_between_layers_acts_in_training_alone():
    snn.manual_seed(0)
    layer, x = nn.LSTM(3, 40, 2, dropout=0.5), snn.randn(4, 2, 3)
    first = layer(x)[0]
    assert not np.array_equal(first.array, layer(x)[0].array)
    layer.eval()
    assert np.array_equal(layer(x)[0].array, layer(x)[0].array) and not np.array_equal(first.array, layer(x)[0].array)
    with pytest.warns(UserWarning, match="only one"):
        nn.GRU(3, 4, dropout=0.5)


def test_locked_dropout_has_one_mask_for_all_steps():
    snn.manual_seed(0)
    for layer, x, steps in ((nn.LockedDropout(0.4), snn.ones(6, 50, 40), 0), (nn.LockedDropout(0.4, True), snn.ones(50, 6, 40), 1),
                            (nn.LockedDropout(0.4, True), snn.ones(6, 2000), 0)):
        y = layer(x).array
        assert (y == y.take([0], steps)).all() and set(np.unique(y)) == {0, np.float32(1) / np.float32(0.6)}
        assert abs((y == 0).mean() - 0.4) < 0.044                                                      # 4 standard errors
        assert layer.eval()(x) is x
    with pytest.raises(ValueError, match=r"\(T, B, D\).*\(3,\)"):
        layer(snn.ones(3))


def test_weight_drop():
    """Other weights at each call in training, the whole ones in evaluation, gradients for those that were kept."""
    snn.manual_seed(0)
    plain, x = nn.LSTM(3, 20), snn.randn(4, 2, 3)
    layer = nn.LSTM(3, 20)
    layer.load_state_dict(plain.state_dict())
    assert weight_drop(layer, p=0.5) is layer
    assert "parametrizations.weight_hh_l0.original" in layer.state_dict() and "weight_hh_l0" not in layer.state_dict()
    y = layer(x)[0]
    assert not np.array_equal(y.array, layer(x)[0].array)
    y.sum().backward()
    gradient = dict(layer.named_parameters())["parametrizations.weight_hh_l0.original"].grad.array
    assert abs((gradient == 0).mean() - 0.5) < 0.05                                                    # 4 standard errors
    assert np.array_equal(layer.eval()(x)[0].array, plain(x)[0].array)
    with pytest.raises(ValueError, match="no parameter 'weight_hh_l1'"):
        weight_drop(plain, ["weight_hh_l0", "weight_hh_l1"])
    with pytest.raises(ValueError, match="between 0 and 1"):
        weight_drop(plain, "weight_ih_l0", 2)


@pytest.mark.parametrize("call, message", [
    (lambda: nn.LSTM(3, 4, proj_size=2), "proj_size=2.* not there"), (lambda: nn.LSTM(3, 0), "hidden_size 0"),
    (lambda: nn.GRU(3, 4, 2, dropout=1.5), "dropout must be"), (lambda: nn.RNN(3, 4, nonlinearity="sigmoid"), "'tanh' or 'relu'"),
    (lambda: nn.LSTM(3, 4)(snn.ones(5, 2, 4)), r"\(T, B, 3\).*\(5, 2, 4\)"), (lambda: nn.LSTM(3, 4)(snn.ones(0, 2, 3)), "no step"),
    (lambda: nn.LSTM(3, 4)(snn.ones(5, 2, 3), snn.ones(1, 2, 4)), r"pair \(h_0, c_0\).*\(1, 2, 4\)"),
    (lambda: nn.GRU(3, 4)(snn.ones(5, 2, 3), snn.ones(1, 3, 4)), r"one tensor of shape \(1, 2, 4\), got \(1, 3, 4\)"),
    (lambda: nn.GRU(3, 4)(snn.ones(5, 2, 3), None, [5, 6]), r"1\.\.5"), (lambda: nn.GRU(3, 4)(snn.ones(5, 3), None, [5]), "lengths"),
    (lambda: nn.LSTMCell(3, 4)(snn.ones(2, 3), snn.ones(2, 4)), "pair"), (lambda: nn.GRUCell(3, 4)(snn.ones(2, 2, 3)), r"\(B, 3\)"),
    (lambda: nn.LSTM(3, 4)(snn.ones(5, 2, 3, dtype=snn.float64)), "float64"),
    (lambda: snn.ops.lstm(snn.ones(5, 2, 15), snn.ones(2, 4), snn.ones(2, 4), snn.ones(16, 4)), r"\(5, 2, 15\).*\(T, B, 4 H\)"),
])
def test_errors_say_what_would_fit(call, message):
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=message):
        call()
