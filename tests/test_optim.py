"""Optimisers, without PyTorch: their formulas written out in NumPy, groups, saving and loading, errors."""

import json
import math

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn, optim

# ---- formulas --------------------------------------------------------------------------------------------------------------


def sgd(w, g, s, t):
    g = g + 0.1 * w
    s["b"] = g if t == 1 else 0.9 * s["b"] + 0.7 * g
    return w - 0.05 * s["b"]


def nesterov(w, g, s, t):
    s["b"] = g if t == 1 else 0.9 * s["b"] + g
    return w - 0.05 * (g + 0.9 * s["b"])


def adam(w, g, s, t, decay=0.0):
    s["m"] = 0.8 * s.get("m", 0) + 0.2 * g
    s["v"] = 0.95 * s.get("v", 0) + 0.05 * g ** 2
    return w - 0.05 * decay * w - 0.05 * s["m"] / (1 - 0.8 ** t) / (np.sqrt(s["v"] / (1 - 0.95 ** t)) + 1e-3)


def adamw(w, g, s, t):
    return adam(w, g, s, t, decay=0.2)


def amsgrad(w, g, s, t):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g ** 2
    s["top"] = np.maximum(s.get("top", 0), s["v"])
    return w - 0.05 * s["m"] / (1 - 0.9 ** t) / (np.sqrt(s["top"] / (1 - 0.999 ** t)) + 1e-8)


def rmsprop(w, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g ** 2
    s["a"] = 0.9 * s.get("a", 0) + 0.1 * g
    s["b"] = 0.5 * s.get("b", 0) + g / (np.sqrt(s["v"] - s["a"] ** 2) + 1e-3)
    return w - 0.05 * s["b"]


def adagrad(w, g, s, t):
    s["sum"] = s.get("sum", 0.3) + g ** 2
    return w - 0.05 / (1 + (t - 1) * 0.1) * g / (np.sqrt(s["sum"]) + 1e-3)


FORMULAS = [
    (lambda p, **o: optim.SGD(p, 0.05), lambda w, g, s, t: w - 0.05 * g),
    (lambda p, **o: optim.SGD(p, 0.05, momentum=0.9, dampening=0.3, weight_decay=0.1, **o), sgd),
    (lambda p, **o: optim.SGD(p, 0.05, momentum=0.9, nesterov=True, **o), nesterov),
    (lambda p, **o: optim.Adam(p, 0.05, betas=(0.8, 0.95), eps=1e-3, **o), adam),
    (lambda p, **o: optim.AdamW(p, 0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2, **o), adamw),
    (lambda p, **o: optim.Adam(p, 0.05, amsgrad=True, **o), amsgrad),
    (lambda p, **o: optim.RMSprop(p, 0.05, alpha=0.9, eps=1e-3, momentum=0.5, centered=True, **o), rmsprop),
    (lambda p, **o: optim.Adagrad(p, 0.05, lr_decay=0.1, initial_accumulator_value=0.3, eps=1e-3, **o), adagrad),
]
NAMES = ["plain", "momentum", "nesterov", "adam", "adamw", "amsgrad", "rmsprop", "adagrad"]
MAKERS = [make for make, _ in FORMULAS]


def parameter(*shape, seed=0):
    return nn.Parameter(snn.from_numpy(np.random.default_rng(seed).standard_normal(shape)))


def give_gradient(p, seed):
    p.grad = snn.from_numpy(np.random.default_rng(seed).standard_normal(p.shape).astype(p.dtype))


@pytest.mark.parametrize("make, formula", FORMULAS, ids=NAMES)
def test_steps_follow_the_formula(make, formula):
    params = [parameter(4, 3), parameter(), parameter(0, 2), parameter(5)]
    expected, states = [p.array.copy() for p in params], [{} for _ in params]
    optimizer = make(params)
    for t in range(1, 6):
        for i, p in enumerate(params):
            give_gradient(p, 10 * t + i)
            expected[i] = formula(expected[i], p.grad.array, states[i], t)
        optimizer.step()
    for p, w in zip(params, expected, strict=True):
        np.testing.assert_allclose(p.array, w, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("make", MAKERS[1:], ids=NAMES[1:])
def test_maximize_is_descent_on_the_negative(make):
    p, q = parameter(6), parameter(6)
    up, down = make([p], maximize=True), make([q])
    for t in range(4):
        give_gradient(p, t)
        q.grad = snn.from_numpy(-p.grad.array)
        up.step()
        down.step()
    assert np.array_equal(p.array, q.array)


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_any_memory_layout_gives_the_same_numbers(make):
    values = np.random.default_rng(0).standard_normal((3, 4))
    plain = [nn.Parameter(snn.from_numpy(v.copy())) for v in (values, values[::-1])]
    odd = [nn.Parameter(snn.from_numpy(values.T.copy()).T), nn.Parameter(snn.from_numpy(values[::-1]))]
    first, second = make(plain), make(odd)
    for t in range(3):
        for p, q in zip(plain, odd, strict=True):
            give_gradient(p, t)
            q.grad = snn.from_numpy(np.asfortranarray(p.grad.array))
        first.step()
        second.step()
    for p, q in zip(plain, odd, strict=True):
        assert np.array_equal(p.array, q.array)
    assert np.array_equal(values, odd[1].array[::-1])          # the caller's array, of which the parameter is a view, follows


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_the_same_bits_on_one_and_two_threads(make):
    results = []
    before = snn.get_num_threads()
    for threads in (1, 2):
        snn.set_num_threads(threads)
        params = [nn.Parameter(snn.from_numpy(np.random.default_rng(7).standard_normal((300, 401)).astype(np.float32))),
                  nn.Parameter(snn.ones(3))]
        optimizer = make(params)
        for t in range(3):
            for p in params:
                give_gradient(p, t)
            optimizer.step()
        results.append([p.array.tobytes() for p in params])
    snn.set_num_threads(before)
    assert results[0] == results[1]


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_every_optimiser_finds_the_minimum(make):
    w, target = nn.Parameter(snn.zeros(5)), snn.arange(5).float() * 0.1
    optimizer = make([w])
    for _ in range(300):
        optimizer.zero_grad()
        (w - target).square().sum().backward()
        optimizer.step()
    assert (w - target).square().sum().item() < 0.02             # 0.3 at the start; weight decay keeps some from 0


# ---- which parameters are updated --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_a_parameter_without_gradient_waits_and_then_starts_at_its_own_step_one(make):
    late, other, alone = parameter(4), parameter(4, seed=1), parameter(4)
    optimizer, control = make([late, other]), make([alone])
    for t in range(3):
        give_gradient(other, t)
        optimizer.step()
    assert np.array_equal(late.array, alone.array) and late not in optimizer.state
    for t in range(3):
        for p in (late, other, alone):
            give_gradient(p, t)
        optimizer.step()
        control.step()
    assert np.array_equal(late.array, alone.array)


def test_parameters_of_different_dtypes_share_an_optimiser():
    a, b = nn.Parameter(snn.ones(2, dtype=snn.float64)), nn.Parameter(snn.ones(2))
    optimizer = optim.Adam([a, b], lr=0.5)
    for p in (a, b):
        p.grad = snn.ones(2, dtype=p.dtype)
    optimizer.step()
    assert a.dtype == np.float64 and b.dtype == np.float32 and np.allclose(a.array, 0.5) and np.allclose(b.array, 0.5)


def test_groups_have_their_own_options():
    a, b, c = (nn.Parameter(snn.ones(1)) for _ in range(3))
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5, "name": "slow"}], lr=0.25)
    optimizer.add_param_group({"params": [c], "weight_decay": 1.0})
    assert [g["lr"] for g in optimizer.param_groups] == [0.25, 0.5, 0.25] and optimizer.param_groups[1]["name"] == "slow"
    for p in (a, b, c):
        p.grad = snn.ones(1)
    optimizer.step()
    assert (a.item(), b.item(), c.item()) == (0.75, 0.5, 0.5)


def test_params_may_be_a_generator_and_changed_rates_count():
    layer = nn.Linear(2, 1)
    optimizer = optim.SGD(layer.parameters(), lr=1.0)
    optimizer.param_groups[0]["lr"] = 0.0
    before = layer.weight.tolist()
    layer(snn.ones(1, 2)).sum().backward()
    optimizer.step()
    assert layer.weight.tolist() == before


def test_zero_grad():
    p, q = parameter(3), parameter(3)
    optimizer = optim.SGD([p, q])
    give_gradient(p, 0)
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0, 0, 0] and q.grad is None
    optimizer.zero_grad()
    assert p.grad is None


def test_a_closure_is_run_with_gradients_and_its_loss_returned():
    w = nn.Parameter(snn.ones(1))
    optimizer = optim.SGD([w], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (w * 3).sum()
        loss.backward()
        return loss

    with snn.no_grad():
        assert optimizer.step(closure).item() == 3
    assert w.item() == pytest.approx(0.7) and optimizer.step() is None


def test_a_step_in_the_middle_of_a_graph_is_noticed():
    w = nn.Parameter(snn.ones(2))
    y = (w * w).sum()
    y.backward(retain_graph=True)
    optim.SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="in place"):
        y.backward()


# ---- saving and loading -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
def test_a_resumed_optimiser_goes_on_with_the_same_bits(make):
    p, q = parameter(4, 3), parameter(2, seed=1)
    optimizer = make([{"params": [p]}, {"params": [q], "lr": 0.02}])
    for t in range(3):
        give_gradient(p, t)
        give_gradient(q, t)
        optimizer.step()
    p2, q2 = (nn.Parameter(x.detach().clone()) for x in (p, q))
    resumed = make([{"params": [p2]}, {"params": [q2]}])
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.param_groups[1]["lr"] == 0.02 and resumed.param_groups[0]["params"][0] is p2
    for t in range(3, 6):
        for x in (p, q, p2, q2):
            give_gradient(x, t)
        optimizer.step()
        resumed.step()
    assert np.array_equal(p.array, p2.array) and np.array_equal(q.array, q2.array)


def test_state_dict_has_torchs_form():
    p, q, r = parameter(2), parameter(3), parameter(4)
    optimizer = optim.Adam([{"params": [p, q]}, {"params": [r], "lr": 0.1}], amsgrad=True)
    give_gradient(p, 0)
    give_gradient(r, 0)
    optimizer.step()
    saved = optimizer.state_dict()
    assert [g["params"] for g in saved["param_groups"]] == [[0, 1], [2]] and saved["param_groups"][1]["lr"] == 0.1
    assert set(saved["state"]) == {0, 2} and saved["state"][0]["step"] == 1
    assert set(saved["state"][2]) == {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}
    assert saved["state"][2]["exp_avg"] is optimizer.state[r]["exp_avg"]
    assert set(saved["param_groups"][0]) == {"params", "lr", "betas", "eps", "weight_decay", "amsgrad", "maximize",
                                             "decoupled_weight_decay"}


def test_loaded_state_is_a_copy_in_the_parameters_dtype():
    p = nn.Parameter(snn.ones(2))
    optimizer = optim.SGD([p], lr=0.1, momentum=0.9)
    buffer, group = np.array([1.0, 2.0]), {"lr": 1.0, "momentum": 0.5, "params": [0]}
    optimizer.load_state_dict({"state": {"0": {"momentum_buffer": buffer}}, "param_groups": [group]})
    p.grad = snn.zeros(2)
    optimizer.step()
    assert p.tolist() == [0.5, 0] and buffer.tolist() == [1, 2] and optimizer.state[p]["momentum_buffer"].dtype == np.float32
    assert optimizer.param_groups[0]["nesterov"] is False


def test_options_survive_json():
    optimizer = optim.Adam([parameter(1)], betas=(0.5, 0.6))
    optimizer.load_state_dict(json.loads(json.dumps(optimizer.state_dict())))
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.6)


@pytest.mark.parametrize("change, words", [
    (lambda s: s["param_groups"].append(s["param_groups"][0]), "different number of parameter groups: 2, not 1"),
    (lambda s: s["param_groups"][0]["params"].pop(), "group 0 has 1 parameters, not 2"),
    (lambda s: s["state"][1].update(exp_avg=np.zeros(7)), r"'exp_avg' of parameter 1 has shape \(7,\), the parameter has \(3,\)"),
    (lambda s: s["state"].update({5: {}}), "state for parameter 5"),
])
def test_a_state_that_does_not_fit_changes_nothing(change, words):
    p, q = parameter(2), parameter(3)
    optimizer = optim.Adam([p, q], lr=0.1)
    for x in (p, q):
        give_gradient(x, 0)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["param_groups"][0]["lr"] = 9.0
    saved["state"][0] = {**saved["state"][0], "step": 77}
    change(saved)
    with pytest.raises(ValueError, match=words):
        optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.1 and optimizer.state[p]["step"] == 1


# ---- errors ---------------------------------------------------------------------------------------------------------------------

def test_parameters_that_cannot_be_optimised():
    p = parameter(2)
    with pytest.raises(ValueError, match="empty parameter list"):
        optim.SGD([])
    with pytest.raises(TypeError, match="not one Parameter"):
        optim.SGD(p)
    with pytest.raises(TypeError, match="one of the params is ndarray"):
        optim.SGD([p.array])
    with pytest.raises(TypeError, match="int64"):
        optim.SGD([snn.tensor([1, 2])])
    with pytest.raises(ValueError, match="non-leaf"):
        optim.SGD([p * 2])
    for params in ([p, p], [{"params": [p]}, {"params": [p]}]):
        with pytest.raises(ValueError, match=r"shape \(2,\) appears twice"):
            optim.SGD(params)
    with pytest.raises(TypeError, match="a dict, not list"):
        optim.SGD([p]).add_param_group([parameter(1)])
    with pytest.raises(TypeError, match="abstract"):
        optim.Optimizer([p], {})


@pytest.mark.parametrize("make, words", [
    (lambda p: optim.SGD(p, lr=-1), "Invalid learning rate value: -1"),
    (lambda p: optim.SGD(p, lr=math.nan), "Invalid learning rate value: nan"),
    (lambda p: optim.SGD(p, momentum=-0.1), "Invalid momentum value: -0.1"),
    (lambda p: optim.SGD(p, weight_decay=-1), "Invalid weight_decay value"),
    (lambda p: optim.SGD(p, nesterov=True), "Nesterov momentum requires a momentum"),
    (lambda p: optim.SGD(p, momentum=0.9, dampening=0.1, nesterov=True), "zero dampening; given are momentum=0.9, dampening=0.1"),
    (lambda p: optim.Adam(p, betas=(1.0, 0.9)), r"Invalid beta parameter at index 0 value: 1.0; it must be in \[0, 1\)"),
    (lambda p: optim.AdamW(p, betas=(0.9, -0.1)), "beta parameter at index 1"),
    (lambda p: optim.Adam(p, eps=-1e-8), "Invalid epsilon value"),
    (lambda p: optim.RMSprop(p, alpha=-1), "Invalid alpha value"),
    (lambda p: optim.RMSprop(p, momentum=-1), "Invalid momentum value"),
    (lambda p: optim.Adagrad(p, lr_decay=-1), "Invalid lr_decay value"),
    (lambda p: optim.Adagrad(p, initial_accumulator_value=-1), "Invalid initial_accumulator_value value"),
])
def test_options_that_do_not_fit(make, words):
    with pytest.raises(ValueError, match=words):
        make([parameter(1)])


def test_a_gradient_of_another_shape_or_dtype_is_refused():
    for gradient in (snn.ones(3), snn.ones(2, dtype=snn.float64)):
        p = nn.Parameter(snn.ones(2))
        p.grad = gradient
        with pytest.raises(ValueError, match=r"\(2,\)"):
            optim.SGD([p]).step()
        assert p.tolist() == [1, 1]


def test_printing_shows_the_options():
    text = repr(optim.SGD([parameter(1)], lr=0.25))
    assert text.startswith("SGD (\nParameter Group 0\n") and "    lr: 0.25\n" in text and "params" not in text
