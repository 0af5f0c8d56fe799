"""Learning-rate schedules, without PyTorch: their formulas, saving and loading, errors."""

import json
import math
import warnings

import pytest

import scratchnn as snn
from scratchnn import optim
from scratchnn.optim import lr_scheduler as schedules


def optimizer(*rates, kind=optim.SGD, **options):
    return kind([{"params": [snn.zeros(1)], "lr": lr} for lr in rates or (0.8,)], **options)


def rates_of(scheduler, steps):
    """The rate of the first group at epochs 0, 1, ..., steps."""
    rates = [scheduler.optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        scheduler.optimizer.step()
        scheduler.step()
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        assert scheduler.get_last_lr()[0] == rates[-1]
    return rates


FORMULAS = [
    (lambda o: schedules.LRScheduler(o), lambda t: 0.8),
    (lambda o: schedules.StepLR(o, 3, gamma=0.5), lambda t: 0.8 * 0.5 ** (t // 3)),
    (lambda o: schedules.MultiStepLR(o, [5, 2, 5], gamma=0.5), lambda t: 0.8 * 0.5 ** ((t >= 2) + 2 * (t >= 5))),
    (lambda o: schedules.ExponentialLR(o, 0.9), lambda t: 0.8 * 0.9 ** t),
    (lambda o: schedules.LambdaLR(o, lambda t: 1 / (1 + t)), lambda t: 0.8 / (1 + t)),
    (lambda o: schedules.LinearLR(o, 0.25, 0.75, total_iters=4), lambda t: 0.8 * (0.25 + 0.5 * min(t, 4) / 4)),
    (lambda o: schedules.CosineAnnealingLR(o, 4, eta_min=0.1), lambda t: 0.1 + 0.7 * (1 + math.cos(math.pi * t / 4)) / 2),
    (lambda o: schedules.CosineAnnealingLR(o, 1), lambda t: 0.8 * (t % 2 == 0)),
]
IDS = ["constant", "step", "multistep", "exponential", "lambda", "linear", "cosine", "cosine_every_epoch"]


@pytest.mark.parametrize("make, formula", FORMULAS, ids=IDS)
def test_rates_follow_the_formula(make, formula):
    assert rates_of(make(optimizer()), 20) == pytest.approx([formula(t) for t in range(21)], rel=1e-9, abs=1e-12)


def test_each_group_keeps_its_own_rate():
    o = optimizer(0.8, 0.2)
    scheduler = schedules.ExponentialLR(o, 0.5)
    scheduler.optimizer.step()
    scheduler.step()
    assert [g["lr"] for g in o.param_groups] == [0.4, 0.1] == scheduler.get_last_lr() and scheduler.base_lrs == [0.8, 0.2]
    scheduler = schedules.LambdaLR(optimizer(0.8, 0.2), [lambda t: 2, lambda t: t])
    assert scheduler.get_last_lr() == [1.6, 0]


def test_two_schedules_multiply():
    o = optimizer()
    warm, fall = schedules.LinearLR(o, 0.5, total_iters=2), schedules.ExponentialLR(o, 0.9)
    o.step()
    for _ in range(2):
        warm.step()
        fall.step()
    assert o.param_groups[0]["lr"] == pytest.approx(0.8 * 0.9 ** 2)


def test_one_cycle_reaches_its_corners():
    o = optimizer(kind=optim.SGD, momentum=0.9)
    scheduler = schedules.OneCycleLR(o, max_lr=1.0, total_steps=11, pct_start=0.4, div_factor=10, final_div_factor=100,
                                     base_momentum=0.7, max_momentum=0.9, anneal_strategy="linear")
    momenta, rates = [o.param_groups[0]["momentum"]], [o.param_groups[0]["lr"]]
    for _ in range(10):
        o.step()
        scheduler.step()
        momenta.append(o.param_groups[0]["momentum"])
        rates.append(o.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.1) and max(rates) <= 1 and rates[10] == pytest.approx(0.001)
    top = 0.4 * 11 - 1                                                                              # in steps: between 3 and 4
    assert rates[3] == pytest.approx(0.1 + 0.9 * 3 / top) and rates[4] == pytest.approx(1 - 0.999 * (4 - top) / (10 - top))
    assert momenta[0] == 0.9 and momenta[3] == pytest.approx(0.9 - 0.2 * 3 / top) and momenta[10] == pytest.approx(0.9)


def test_one_cycle_moves_beta1_and_can_leave_it():
    o = optimizer(kind=optim.Adam, betas=(0.5, 0.99))
    schedules.OneCycleLR(o, 1.0, epochs=2, steps_per_epoch=5)
    assert o.param_groups[0]["betas"] == (0.95, 0.99) and o.param_groups[0]["lr"] == pytest.approx(1 / 25)
    o = optimizer(kind=optim.Adam, betas=(0.5, 0.99))
    schedules.OneCycleLR(o, 1.0, total_steps=10, cycle_momentum=False)
    assert o.param_groups[0]["betas"] == (0.5, 0.99)


def test_one_cycle_whose_rise_ends_at_step_zero_starts_at_the_top():
    assert rates_of(schedules.OneCycleLR(optimizer(), 1.0, total_steps=4, pct_start=0.25), 3)[::3] == pytest.approx([1.0, 4e-6])


def test_one_cycle_ends():
    o = optimizer()
    scheduler = schedules.OneCycleLR(o, 1.0, total_steps=3)
    o.step()
    for _ in range(3):
        scheduler.step()
    with pytest.raises(ValueError, match=r"Tried to step 4 times. The specified number of total steps is 3"):
        scheduler.step()


def test_sequential_runs_one_after_another():
    o = optimizer()
    parts = [schedules.LinearLR(o, 0.5, total_iters=4), schedules.ExponentialLR(o, 0.5), schedules.LRScheduler(o)]
    rates = rates_of(schedules.SequentialLR(o, parts, milestones=[4, 7]), 9)
    assert rates == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.4, 0.2, 0.8, 0.8, 0.8])


def test_sequential_schedules_nest():
    o = optimizer()
    inner = schedules.SequentialLR(o, [schedules.ExponentialLR(o, 0.5), schedules.LRScheduler(o)], milestones=[2])
    outer = schedules.SequentialLR(o, [schedules.LRScheduler(o), inner], milestones=[2])
    assert rates_of(outer, 5) == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.8, 0.8])


def test_plateau_reduces_after_patience_and_not_in_cooldown():
    o = optimizer()
    scheduler = schedules.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=2, min_lr=0.15)
    rates = []
    for loss in (5.0, 4.0, 4.0, snn.tensor(4.0), 4.0, 4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0):
        scheduler.step(loss)
        rates.append(o.param_groups[0]["lr"])
    assert rates == [0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.2, 0.15] and scheduler.best == 1


@pytest.mark.parametrize("mode, threshold_mode, metrics, reduced", [
    ("min", "rel", [100, 91], True), ("min", "rel", [100, 89], False), ("max", "rel", [100, 109], True),
    ("max", "rel", [100, 111], False), ("min", "abs", [1, 0.91], True), ("min", "abs", [1, 0.89], False),
    ("max", "abs", [1, 1.09], True), ("max", "abs", [1, 1.11], False), ("min", "rel", [1, math.nan], True),
])
def test_plateau_knows_what_is_better(mode, threshold_mode, metrics, reduced):
    o = optimizer()
    scheduler = schedules.ReduceLROnPlateau(o, mode, patience=0, threshold=0.1, threshold_mode=threshold_mode)
    for metric in metrics:
        scheduler.step(metric)
    assert (o.param_groups[0]["lr"] < 0.8) == reduced


SAVED = [
    *[make for make, _ in FORMULAS],
    lambda o: schedules.OneCycleLR(o, 1.0, total_steps=30, three_phase=True),
    lambda o: schedules.SequentialLR(o, [schedules.LinearLR(o), schedules.CosineAnnealingLR(o, 7)], milestones=[5]),
]


@pytest.mark.parametrize("make", SAVED, ids=[*IDS, "one_cycle", "sequential"])
@pytest.mark.parametrize("done", [0, 3, 5, 8])
def test_a_resumed_schedule_goes_on_with_the_same_rates(make, done):
    scheduler = make(optimizer(0.8, momentum=0.9))
    rates_of(scheduler, done)
    saved = json.loads(json.dumps([scheduler.state_dict(), scheduler.optimizer.state_dict()]))
    resumed = make(optimizer(0.8, momentum=0.9))
    resumed.load_state_dict(saved[0])
    resumed.optimizer.load_state_dict(saved[1])
    assert rates_of(resumed, 12) == rates_of(scheduler, 12) and resumed.last_epoch == scheduler.last_epoch
    assert resumed.optimizer.param_groups[0]["momentum"] == scheduler.optimizer.param_groups[0]["momentum"]


def test_a_resumed_plateau_remembers_its_best():
    scheduler = schedules.ReduceLROnPlateau(optimizer(), patience=1)
    for loss in (1.0, 2.0):
        scheduler.step(loss)
    resumed = schedules.ReduceLROnPlateau(optimizer(), patience=1)
    resumed.load_state_dict(scheduler.state_dict())
    resumed.step(2.0)
    assert resumed.get_last_lr() == [pytest.approx(0.08)]


def test_a_saved_state_is_a_copy_and_of_one_kind_only():
    scheduler = schedules.MultiStepLR(optimizer(), [3])
    state = scheduler.state_dict()
    state["milestones"].append(9)
    assert scheduler.milestones == [3] and "optimizer" not in state
    with pytest.raises(ValueError, match=r"no state of a StepLR: it lacks \['step_size'\] and has unknown \['milestones'\]"):
        schedules.StepLR(optimizer(), 3).load_state_dict(state)


def test_stepping_before_the_optimiser_warns_once():
    scheduler = schedules.ExponentialLR(optimizer(), 0.5)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()
        rates_of(schedules.ExponentialLR(optimizer(), 0.5), 2)


def test_going_on_from_an_epoch_needs_initial_rates():
    with pytest.raises(KeyError, match=r"param_groups\[0\].*last_epoch = 3"):
        schedules.StepLR(optimizer(), 2, last_epoch=3)
    o = optimizer()
    o.param_groups[0].update(initial_lr=1.6)
    assert schedules.LambdaLR(o, lambda t: t, last_epoch=3).get_last_lr() == [pytest.approx(6.4)]


@pytest.mark.parametrize("make, words", [
    (lambda o: schedules.StepLR(o, 0), "step_size must be a positive"),
    (lambda o: schedules.CosineAnnealingLR(o, 0), "T_max must be a positive"),
    (lambda o: schedules.LinearLR(o, 0.0), "start_factor must be greater than 0"),
    (lambda o: schedules.LinearLR(o, 0.5, 1.5), "end_factor must be between 0 and 1"),
    (lambda o: schedules.LambdaLR(o, [abs, abs]), "one value for each of the 1 parameter groups, not 2"),
    (lambda o: schedules.OneCycleLR(o, 1.0), "either total_steps OR"),
    (lambda o: schedules.OneCycleLR(o, 1.0, total_steps=0), "positive whole number, got 0"),
    (lambda o: schedules.OneCycleLR(o, 1.0, total_steps=5, pct_start=1.5), "pct_start"),
    (lambda o: schedules.OneCycleLR(o, 1.0, total_steps=5, anneal_strategy="log"), "'cos' or 'linear', got 'log'"),
    (lambda o: schedules.OneCycleLR(optimizer(kind=optim.Adagrad), 1.0, total_steps=5), "Adagrad has neither momentum nor beta1"),
    (lambda o: schedules.ReduceLROnPlateau(o, "low"), "mode must be 'min' or 'max', got 'low'"),
    (lambda o: schedules.ReduceLROnPlateau(o, factor=1.0), "factor must be smaller than 1"),
    (lambda o: schedules.ReduceLROnPlateau(o, threshold_mode="part"), "got 'part'"),
    (lambda o: schedules.SequentialLR(o, [], []), "one milestone between each two"),
    (lambda o: schedules.SequentialLR(o, [schedules.LRScheduler(o)], [3]), "for 1 schedulers 0, not 1"),
    (lambda o: schedules.SequentialLR(o, [schedules.ReduceLROnPlateau(o)], []), "does not support ReduceLROnPlateau"),
    (lambda o: schedules.SequentialLR(o, [schedules.LRScheduler(optimizer())], []), "the same optimizer; that of index 0"),
])
def test_settings_that_do_not_fit(make, words):
    with pytest.raises(ValueError, match=words):
        make(optimizer())


def test_a_schedule_needs_an_optimiser():
    for make in (schedules.LRScheduler, schedules.ReduceLROnPlateau, lambda o: schedules.OneCycleLR(o, 1.0, total_steps=3)):
        with pytest.raises(TypeError, match="list is not an Optimizer"):
            make([])
