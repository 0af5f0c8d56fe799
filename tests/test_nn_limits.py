"""Initialisers, limits on gradients and weights, and parameters as one vector, without PyTorch."""

import math

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn

# ---- initialisers --------------------------------------------------------------------------------------------------------

def test_gains():
    assert nn.init.calculate_gain("linear") == nn.init.calculate_gain("conv2d") == nn.init.calculate_gain("sigmoid") == 1
    assert nn.init.calculate_gain("leaky_relu", 1) == 1 and nn.init.calculate_gain("relu") == math.sqrt(2)
    with pytest.raises(ValueError, match=r"'step'.*tanh"):
        nn.init.calculate_gain("step")


@pytest.mark.parametrize("fill, low, high, std", [
    (lambda t: nn.init.uniform_(t, -2, 3), -2, 3, 5 / math.sqrt(12)),
    (lambda t: nn.init.normal_(t, 0, 0.5), -4, 4, 0.5),
    (lambda t: nn.init.xavier_uniform_(t, gain=2), -2 * math.sqrt(6 / 500), 2 * math.sqrt(6 / 500), 2 * math.sqrt(2 / 500)),
    (lambda t: nn.init.xavier_normal_(t), -1, 1, math.sqrt(2 / 500)),
    (lambda t: nn.init.kaiming_uniform_(t, nonlinearity="relu"), -math.sqrt(6 / 300), math.sqrt(6 / 300), math.sqrt(2 / 300)),
    (lambda t: nn.init.kaiming_normal_(t, mode="fan_out", nonlinearity="linear"), -1, 1, math.sqrt(1 / 200)),
    (lambda t: nn.init.trunc_normal_(t, 0, 1, -1, 2), -1, 2, 0.7203),
], ids=["uniform", "normal", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "trunc_normal"])
def test_initialisers_have_their_bounds_and_spread(fill, low, high, std):
    snn.manual_seed(0)
    for dtype in (snn.float32, snn.float64):
        t = nn.Parameter(snn.zeros(200, 300, dtype=dtype))
        assert fill(t) is t and t.requires_grad and t.dtype == dtype
        assert low <= t.array.min() and t.array.max() <= high
        assert t.array.std() == pytest.approx(std, rel=0.02)
        assert fill(t.clone().detach()).tolist() != t.tolist()


def test_fans_count_the_receptive_field():
    t = nn.init.kaiming_normal_(snn.zeros(64, 16, 5, 5), nonlinearity="linear")
    assert t.array.std() == pytest.approx(1 / math.sqrt(16 * 25), rel=0.05)
    t = nn.init.kaiming_normal_(t, mode="fan_out", nonlinearity="linear")
    assert t.array.std() == pytest.approx(1 / math.sqrt(64 * 25), rel=0.05)


def test_initialisers_draw_from_the_generator_that_is_given():
    a, b = snn.empty(20), snn.empty(20)
    state = snn.get_rng_state()
    for fill in (nn.init.uniform_, nn.init.normal_, nn.init.trunc_normal_):
        fill(a, generator=snn.Generator(5))
        fill(b, generator=snn.Generator(5))
        assert a.tolist() == b.tolist()
    assert snn.get_rng_state() == state


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (4, 2, 3), (5, 5)])
def test_orthogonal(shape):
    m = nn.init.orthogonal_(snn.empty(*shape, dtype=snn.float64), gain=2).array.reshape(shape[0], -1) / 2
    product = m.T @ m if m.shape[0] >= m.shape[1] else m @ m.T
    assert np.allclose(product, np.eye(len(product)), atol=1e-12)


def test_constant_initialisers():
    assert nn.init.ones_(snn.empty(2)).tolist() == [1, 1] and nn.init.zeros_(snn.empty(2)).tolist() == [0, 0]
    assert nn.init.constant_(nn.Parameter(snn.empty(2)), 3.5).tolist() == [3.5, 3.5]
    assert nn.init.eye_(snn.empty(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]


def test_initialisers_name_what_does_not_fit():
    for fill in (nn.init.xavier_uniform_, nn.init.kaiming_normal_):
        with pytest.raises(ValueError, match=r"fewer than 2 dimensions.*\(3,\)"):
            fill(snn.empty(3))
    with pytest.raises(ValueError, match="'fan_avg'"):
        nn.init.kaiming_uniform_(snn.empty(2, 2), mode="fan_avg")
    with pytest.raises(ValueError, match=r"2 dimensions.*\(3,\)"):
        nn.init.eye_(snn.empty(3))
    with pytest.raises(ValueError, match=r"2 or more.*\(3,\)"):
        nn.init.orthogonal_(snn.empty(3))
    with pytest.warns(UserWarning, match="more than 2 std"):
        nn.init.trunc_normal_(snn.empty(3), mean=9.0)


def test_empty_tensors_can_be_initialised():
    assert nn.init.kaiming_uniform_(snn.empty(0, 3)).shape == (0, 3)
    assert nn.init.kaiming_normal_(snn.empty(3, 0)).shape == (3, 0)
    assert nn.init.orthogonal_(snn.empty(3, 0)).shape == (3, 0)


# ---- limits on gradients and weights ---------------------------------------------------------------------------------------

def with_gradients(*gradients):
    params = []
    for g in gradients:
        p = nn.Parameter(snn.zeros(*np.shape(g)))
        p.grad = snn.from_numpy(np.asarray(g, np.float32))
        params.append(p)
    return params


def test_clip_grad_norm_scales_all_gradients_together():
    params = [*with_gradients([[3.0, 0.0]], [0.0, 4.0]), nn.Parameter(snn.ones(2))]
    norm = nn.utils.clip_grad_norm_(iter(params), 1.0)
    assert norm.item() == 5 and norm.dtype == np.float32
    assert np.allclose(params[0].grad.array, [[0.6, 0]]) and np.allclose(params[1].grad.array, [0, 0.8]) and params[2].grad is None


def test_clip_grad_norm_leaves_small_gradients_untouched():
    (p,) = with_gradients([3.0, 4.0])
    version = p.grad._version
    assert nn.utils.clip_grad_norm_(p, 6.0).item() == 5 and p.grad.tolist() == [3, 4] and p.grad._version == version
    assert nn.utils.clip_grad_norm_([], 1.0).item() == 0


def test_clip_grad_norm_by_the_largest_value():
    params = with_gradients([1.0, -8.0], [2.0])
    assert nn.utils.clip_grad_norm_(params, 4.0, norm_type=math.inf).item() == 8
    assert np.allclose(params[0].grad.array, [0.5, -4], rtol=1e-6) and np.allclose(params[1].grad.array, [1], rtol=1e-6)
    with pytest.raises(ValueError, match=r"norm_type must be 2 or math.inf, got 1"):
        nn.utils.clip_grad_norm_(params, 4.0, norm_type=1)


def test_clip_grad_norm_of_gradients_that_are_not_finite():
    params = with_gradients([1.0, math.inf], [2.0])
    with pytest.raises(RuntimeError, match="is inf, so it cannot be clipped"):
        nn.utils.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert params[0].grad.tolist() == [1, math.inf] and params[1].grad.tolist() == [2]
    assert nn.utils.clip_grad_norm_(params, 1.0).item() == math.inf
    assert params[1].grad.tolist() == [0] and math.isnan(params[0].grad.tolist()[1])
    params = with_gradients([math.nan], [2.0])
    assert math.isnan(nn.utils.clip_grad_norm_(params, 1.0).item()) and math.isnan(params[1].grad.item())


def test_clipping_handles_any_memory_layout():
    p = nn.Parameter(snn.zeros(3, 2))
    p.grad = snn.from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3)).T
    expected = p.grad.array / math.sqrt(55)
    nn.utils.clip_grad_norm_([p], 1.0)
    assert np.allclose(p.grad.array, expected, rtol=1e-5)
    nn.utils.clip_grad_value_([p], 0.3)
    assert np.allclose(p.grad.array, np.minimum(expected, 0.3), rtol=1e-5)


def test_two_parameters_with_one_upstream_gradient_are_clipped_once_each():
    a, b = nn.Parameter(snn.zeros(4)), nn.Parameter(snn.zeros(4))
    (a + b).sum().backward()
    nn.utils.clip_grad_norm_([a, b], 1.0)
    assert np.allclose(a.grad.array, 1 / math.sqrt(8), rtol=1e-5) and np.allclose(b.grad.array, 1 / math.sqrt(8), rtol=1e-5)


def test_clip_grad_value():
    params = with_gradients([-3.0, 0.5], [9.0])
    assert nn.utils.clip_grad_value_(params, 1.0) is None
    assert params[0].grad.tolist() == [-1, 0.5] and params[1].grad.tolist() == [1]


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("transposed", [False, True])
def test_max_norm_limits_only_what_is_above(dim, transposed):
    values = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    values[2] *= 0.01
    values[:, 2] *= 0.01
    p = nn.Parameter(snn.from_numpy(values.T.copy()).T if transposed else snn.from_numpy(values.copy()))
    axis = 1 if dim == 0 else 0
    before = np.linalg.norm(values, axis=axis, keepdims=True)
    assert nn.utils.max_norm_(p, 1.5, dim=dim) is p and p._version > 0
    after = np.linalg.norm(p.array, axis=axis, keepdims=True)
    assert (before > 1.5).any() and (before < 1.5).any()
    assert np.allclose(after, np.minimum(before, 1.5), rtol=1e-6)
    assert np.allclose(p.array, values * after / before, rtol=1e-6)
    untouched = np.broadcast_to(before <= 1.5, values.shape)
    assert np.array_equal(p.array[untouched], values[untouched])


def test_max_norm_of_zeros_and_of_one_dimension():
    assert nn.utils.max_norm_(snn.zeros(2, 3), 1.0).tolist() == [[0] * 3] * 2
    assert nn.utils.max_norm_(snn.tensor([3.0, -0.5]), 1.0).tolist() == [1, -0.5]


def test_parameters_to_vector_and_back():
    net = nn.Linear(3, 2)
    vector = nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (8,) and vector.requires_grad and np.array_equal(vector.array[6:], net.bias.array)
    nn.utils.vector_to_parameters(snn.arange(8).float(), net.parameters())
    assert net.weight.tolist() == [[0, 1, 2], [3, 4, 5]] and net.bias.tolist() == [6, 7]
    for size in (7, 9):
        with pytest.raises(ValueError, match=f"8 elements, but the vector has shape \\({size},\\)"):
            nn.utils.vector_to_parameters(snn.ones(size), net.parameters())
