"""Optimisers and schedules against PyTorch, step by step, and their states carried from one to the other."""

import math

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn, optim

torch = pytest.importorskip("torch")

OPTIONS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.5, 0.8), "eps": 1e-2}),
    ("Adam", {"lr": 0.05, "betas": (0.0, 0.99)}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.2}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.2, "decoupled_weight_decay": True}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "betas": (0.9, 0.5)}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.05}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.5, "amsgrad": True}),
    ("AdamW", {"lr": 0.05, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.02, "alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.02, "momentum": 0.7}),
    ("RMSprop", {"lr": 0.02, "centered": True, "eps": 1e-4}),
    ("RMSprop", {"lr": 0.02, "centered": True, "momentum": 0.7, "weight_decay": 0.1, "eps": 1e-4, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3, "maximize": True}),
]
IDS = [f"{name}-{'-'.join(options) or 'defaults'}" for name, options in OPTIONS]
SHAPES = [(5, 7), (), (11,), (2, 3, 4), (0, 3)]
TOLERANCE = {"float32": {"rtol": 2e-5, "atol": 2e-6}, "float64": {"rtol": 1e-11, "atol": 1e-13}}


def both(name, options, dtype):
    """The same parameters under our optimiser and under torch's."""
    values = [np.asarray(np.random.default_rng(i).standard_normal(s)).astype(dtype) for i, s in enumerate(SHAPES)]
    mine = [nn.Parameter(snn.from_numpy(v.copy())) for v in values]
    other = [torch.nn.Parameter(torch.from_numpy(v.copy())) for v in values]
    return mine, other, getattr(optim, name)(mine, **options), getattr(torch.optim, name)(other, **options)


def give(mine, other, step, dtype):
    """The same gradients to both; the third parameter gets none at every third step."""
    for i, (p, q) in enumerate(zip(mine, other, strict=True)):
        g = np.asarray(np.random.default_rng(1000 * step + i).standard_normal(p.shape)).astype(dtype)
        skipped = i == 2 and step % 3 == 0
        p.grad, q.grad = (None, None) if skipped else (snn.from_numpy(g.copy()), torch.from_numpy(g.copy()))


def compare(mine, other, step, dtype):
    for i, (p, q) in enumerate(zip(mine, other, strict=True)):
        assert p.array.dtype == dtype
        np.testing.assert_allclose(p.array, q.detach().numpy(), err_msg=f"parameter {i} after step {step}", **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("name, options", OPTIONS, ids=IDS)
def test_twenty_steps_equal_torch(name, options, dtype):
    mine, other, a, b = both(name, options, dtype)
    for step in range(20):
        give(mine, other, step, dtype)
        a.step()
        b.step()
        compare(mine, other, step, dtype)


@pytest.mark.parametrize("name, options", OPTIONS, ids=IDS)
def test_defaults_and_options_have_torchs_names_and_values(name, options):
    _, _, a, b = both(name, options, "float32")
    mine, torchs = a.param_groups[0], b.param_groups[0]
    for key in mine.keys() - {"params"}:
        assert mine[key] == torchs[key], key
    assert torchs.keys() - mine.keys() <= {"foreach", "fused", "capturable", "differentiable"}


@pytest.mark.parametrize("name, options", OPTIONS, ids=IDS)
def test_states_go_to_torch_and_back(name, options):
    mine, other, a, b = both(name, options, "float64")
    for step in range(3):
        give(mine, other, step, "float64")
        b.step()
    for p, q in zip(mine, other, strict=True):
        p.array[...] = q.detach().numpy()
    a.load_state_dict(b.state_dict())
    for step in range(3, 6):
        give(mine, other, step, "float64")
        a.step()
        b.step()
    compare(mine, other, 6, "float64")

    saved = a.state_dict()
    for i, values in saved["state"].items():
        assert values.keys() == b.state_dict()["state"][i].keys()
        saved["state"][i] = {k: v if k == "step" else torch.from_numpy(v.numpy().copy()) for k, v in values.items()}
    _, other, _, c = both(name, options, "float64")
    for p, q in zip(mine, other, strict=True):
        q.data = torch.from_numpy(p.array.copy())
    c.load_state_dict(saved)
    for step in range(6, 9):
        give(mine, other, step, "float64")
        a.step()
        c.step()
    compare(mine, other, 9, "float64")


def test_a_network_trains_like_torchs():
    mine = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 3))
    other = torch.nn.Sequential(torch.nn.Linear(6, 20), torch.nn.Tanh(), torch.nn.Linear(20, 3))
    mine.load_state_dict(other.state_dict())
    a, b = optim.Adam(mine.parameters(), lr=1e-2), torch.optim.Adam(other.parameters(), lr=1e-2)
    x, t = np.random.default_rng(0).standard_normal((32, 6)).astype(np.float32), np.random.default_rng(1).integers(0, 3, 32)
    for _ in range(30):
        a.zero_grad()
        b.zero_grad()
        loss = nn.CrossEntropyLoss()(mine(snn.from_numpy(x)), snn.from_numpy(t))
        expected = torch.nn.CrossEntropyLoss()(other(torch.from_numpy(x)), torch.from_numpy(t))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
        loss.backward()
        expected.backward()
        nn.utils.clip_grad_norm_(mine.parameters(), 0.5)
        torch.nn.utils.clip_grad_norm_(other.parameters(), 0.5)
        a.step()
        b.step()


# ---- schedules -----------------------------------------------------------------------------------------------------------------

def one_cycle(**options):
    return lambda lib, o: lib.OneCycleLR(o, **{"max_lr": 0.3, "total_steps": 51, **options})


SCHEDULES = {
    "step": lambda lib, o: lib.StepLR(o, 7, 0.3),
    "step-default": lambda lib, o: lib.StepLR(o, 20),
    "multistep": lambda lib, o: lib.MultiStepLR(o, [30, 3, 10, 10], gamma=0.5),
    "exponential": lambda lib, o: lib.ExponentialLR(o, 0.93),
    "cosine": lambda lib, o: lib.CosineAnnealingLR(o, 10, eta_min=0.01),
    "cosine-50": lambda lib, o: lib.CosineAnnealingLR(o, 50),
    "cosine-1": lambda lib, o: lib.CosineAnnealingLR(o, 1, eta_min=0.05),
    "linear": lambda lib, o: lib.LinearLR(o),
    "linear-down": lambda lib, o: lib.LinearLR(o, 1.0, 0.1, total_iters=33),
    "lambda": lambda lib, o: lib.LambdaLR(o, lambda t: 0.95 ** t),
    "lambda-list": lambda lib, o: lib.LambdaLR(o, [lambda t: 1 / (t + 1), lambda t: t]),
    "one-cycle": one_cycle(),
    "one-cycle-linear": one_cycle(anneal_strategy="linear", pct_start=0.5, div_factor=10.0, final_div_factor=5.0),
    "one-cycle-three": one_cycle(three_phase=True, base_momentum=0.7, max_momentum=0.99),
    "one-cycle-groups": one_cycle(max_lr=[0.1, 0.2], base_momentum=[0.8, 0.7]),
    "one-cycle-epochs": one_cycle(total_steps=None, epochs=10, steps_per_epoch=6, cycle_momentum=False),
    "chained": lambda lib, o: (lib.LinearLR(o, 0.1, total_iters=8), lib.ExponentialLR(o, 0.9)),
    "sequential": lambda lib, o: lib.SequentialLR(o, [lib.LinearLR(o, 0.1, total_iters=5), lib.CosineAnnealingLR(o, 20),
                                                      lib.ExponentialLR(o, 0.9), lib.StepLR(o, 4)], [5, 25, 30]),
    "sequential-multi": lambda lib, o: lib.SequentialLR(o, [lib.MultiStepLR(o, [2, 4]), lib.LambdaLR(o, lambda t: t + 1),
                                                            lib.MultiStepLR(o, [0, 3])], [10, 20]),
}


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_fifty_epochs_equal_torch(make, kind):
    options = {"momentum": 0.5} if kind == "SGD" else {}
    a = getattr(optim, kind)([{"params": [snn.zeros(1)], "lr": lr} for lr in (0.2, 0.05)], **options)
    b = getattr(torch.optim, kind)([{"params": [torch.zeros(1)], "lr": lr} for lr in (0.2, 0.05)], **options)
    mine, other = make(optim.lr_scheduler, a), make(torch.optim.lr_scheduler, b)
    for epoch in range(51):
        for g, h in zip(a.param_groups, b.param_groups, strict=True):
            assert g["lr"] == pytest.approx(h["lr"], rel=1e-12, abs=1e-15), epoch
            key = "momentum" if kind == "SGD" else "betas"
            assert g[key] == pytest.approx(h[key], rel=1e-12), epoch
        if epoch < 50:
            a.step()
            b.step()
            for s in (mine, other):
                for scheduler in s if isinstance(s, tuple) else (s,):
                    scheduler.step()
    if not isinstance(mine, tuple):
        assert mine.get_last_lr() == pytest.approx(other.get_last_lr(), rel=1e-12) and mine.last_epoch == other.last_epoch == 50


@pytest.mark.parametrize("options", [
    {}, {"patience": 0, "factor": 0.5}, {"mode": "max", "patience": 2}, {"threshold": 0.1, "patience": 1, "cooldown": 3},
    {"threshold_mode": "abs", "threshold": 0.05, "patience": 1}, {"mode": "max", "threshold_mode": "abs", "patience": 1},
    {"min_lr": [0.05, 0.001], "patience": 1}, {"patience": 0, "eps": 0.01},
], ids=str)
def test_plateau_equals_torch(options):
    a = optim.SGD([{"params": [snn.zeros(1)], "lr": lr} for lr in (0.2, 0.05)])
    b = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": lr} for lr in (0.2, 0.05)])
    mine = optim.lr_scheduler.ReduceLROnPlateau(a, **options)
    other = torch.optim.lr_scheduler.ReduceLROnPlateau(b, **options)
    losses = 1 / np.arange(1, 51) + np.random.default_rng(0).normal(0, 0.2, 50)
    losses[20] = math.nan
    for loss in losses:
        mine.step(loss)
        other.step(loss)
        assert mine.get_last_lr() == other.get_last_lr() and mine.num_bad_epochs == other.num_bad_epochs
    assert mine.get_last_lr()[0] < 0.2


@pytest.mark.parametrize("last_epoch", [4, 9, 19])
@pytest.mark.parametrize("name", ["step", "multistep", "exponential", "cosine", "lambda", "linear"])
def test_going_on_from_an_epoch_equals_torch(name, last_epoch):
    a = optim.SGD([{"params": [snn.zeros(1)], "lr": 0.07, "initial_lr": 0.2}])
    b = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": 0.07, "initial_lr": 0.2}])
    rates = []
    for lib, o in ((optim.lr_scheduler, a), (torch.optim.lr_scheduler, b)):
        make = {"step": lambda lib, o: lib.StepLR(o, 5, last_epoch=last_epoch),
                "multistep": lambda lib, o: lib.MultiStepLR(o, [5, 12], last_epoch=last_epoch),
                "exponential": lambda lib, o: lib.ExponentialLR(o, 0.9, last_epoch=last_epoch),
                "cosine": lambda lib, o: lib.CosineAnnealingLR(o, 15, last_epoch=last_epoch),
                "lambda": lambda lib, o: lib.LambdaLR(o, lambda t: 1 / (1 + t), last_epoch=last_epoch),
                "linear": lambda lib, o: lib.LinearLR(o, 0.5, total_iters=12, last_epoch=last_epoch)}[name]
        scheduler = make(lib, o)
        rates.append([o.param_groups[0]["lr"]])
        for _ in range(12):
            o.step()
            scheduler.step()
            rates[-1].append(o.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)


@pytest.mark.parametrize("decay", [None, 0.9, 1.0])
@pytest.mark.parametrize("use_buffers", [False, True])
def test_averaged_model(decay, use_buffers):
    """Against torch, with batch norm's running means as buffers; the module that is trained stays as it is."""
    from torch.optim import swa_utils
    mine, other = nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    mine.num_batches_tracked = other.num_batches_tracked = None                # an integer, which torch does not average either
    options = [{} if decay is None else {"multi_avg_fn": utils.get_ema_multi_avg_fn(decay)} for utils in (optim.swa_utils, swa_utils)]
    average = optim.swa_utils.AveragedModel(mine, use_buffers=use_buffers, **options[0])
    expected = swa_utils.AveragedModel(other, use_buffers=use_buffers, **options[1])
    for step in range(4):
        values = np.random.default_rng(step).standard_normal((4, 3)).astype(np.float32)
        for name, value in zip(("weight", "bias", "running_mean", "running_var"), values, strict=True):
            getattr(mine, name).array[...] = value
            getattr(other, name).data.copy_(torch.from_numpy(value))
        average.update_parameters(mine)
        expected.update_parameters(other)
        assert average.n_averaged.item() == expected.n_averaged.item() == step + 1
        for name, value in expected.module.state_dict().items():
            np.testing.assert_allclose(average.module.state_dict()[name].numpy(), value.numpy(), rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(mine.state_dict()[name].numpy(), other.state_dict()[name].numpy())
    assert set(average.state_dict()) == set(expected.state_dict())


def test_averages_refuse():
    with pytest.raises(ValueError, match=r"decay value: 1\.5"):
        optim.swa_utils.get_ema_multi_avg_fn(1.5)
