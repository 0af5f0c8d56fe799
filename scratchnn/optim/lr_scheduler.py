"""Learning-rate schedules: objects whose step(), called after the optimiser's, sets the rates of its parameter groups.

Most compute the next rate from the present one, as PyTorch's do, so that several can act on one optimiser and their
factors multiply. `last_epoch` counts the calls; whether a call stands for an epoch or for a batch is the caller's choice.
"""

from __future__ import annotations

import copy
import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from scratchnn.optim.optimizer import Optimizer


class LRScheduler:
    """Base of all schedules; by itself it leaves the rates as they are. A subclass gives `get_lr`.

    optimizer    whose rates are set. A group's rate of now becomes its "initial_lr", unless it has one
    last_epoch   the last epoch done, where training goes on and the groups have their "initial_lr"; else -1

    Raises TypeError if the optimizer is none, KeyError if last_epoch is given and a group has no "initial_lr".
    """

    _not_saved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        self.optimizer = _checked(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with last_epoch "
                               f"= {last_epoch}; load the optimizer's state first, or leave last_epoch at -1 to begin anew")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self):
        """Set the rates for the first epoch."""
        self._step_count, self._is_initial = 0, True
        self.step()
        self._is_initial = False

    def _begin(self):
        """Go to epoch 0, from the rates that the groups have now. SequentialLR does this when a schedule's turn comes."""
        self.last_epoch = -1
        self._initial_step()

    def get_lr(self) -> list[float]:
        """One rate a group for epoch `last_epoch`, computed from the groups' present rates, which are those of the epoch before."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """The rates that were last set, one a group."""
        return self._last_lr

    def step(self) -> None:
        """Go to the next epoch and set its rates. Call it after optimizer.step()."""
        if self._step_count == 1 and not self.optimizer._opt_called:
            warnings.warn("Detected call of `lr_scheduler.step()` before `optimizer.step()`: the first value of the schedule is "
                          "skipped. Call optimizer.step() first.", UserWarning, stacklevel=2)
        self._step_count += 1
        self.last_epoch += 1
        self._set(self.get_lr())

    def _set(self, rates):
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = list(rates)

    def state_dict(self) -> dict[str, Any]:
        """A copy of all settings and counters (numbers, strings, lists), without the optimizer and without functions."""
        return copy.deepcopy({k: v for k, v in self.__dict__.items() if k not in self._not_saved})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict()` of the same kind of schedule returned; ValueError for one of another kind. The rates
        themselves are the optimizer's: load its state too."""
        own = self.__dict__.keys() - set(self._not_saved)
        if own != state_dict.keys():
            raise ValueError(f"this is no state of a {type(self).__name__}: it lacks {sorted(own - state_dict.keys())} and has "
                             f"unknown {sorted(state_dict.keys() - own)}")
        self.__dict__.update(copy.deepcopy(state_dict))


def _checked(optimizer):
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
    return optimizer


def _per_group(name, value, optimizer):
    """A list with one value a group, from such a list or from one value for all."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(f"{name} must have one value for each of the {groups} parameter groups, not {len(value)}")
    return list(value)


class LambdaLR(LRScheduler):
    """lr = initial lr * lr_lambda(epoch). lr_lambda: a function, or a list of one a group. Functions are not saved."""

    _not_saved = ("optimizer", "lr_lambdas")

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
                 last_epoch: int = -1):
        self.lr_lambdas = _per_group("lr_lambda", lr_lambda, _checked(optimizer))
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [lr * factor(self.last_epoch) for factor, lr in zip(self.lr_lambdas, self.base_lrs, strict=True)]


class StepLR(LRScheduler):
    """lr is multiplied by gamma every step_size epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        if step_size < 1:
            raise ValueError(f"step_size must be a positive whole number of epochs, got {step_size}")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        due = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return [lr * self.gamma for lr in super().get_lr()] if due else super().get_lr()


class MultiStepLR(LRScheduler):
    """lr is multiplied by gamma at each epoch in `milestones`; at one that is named twice, by gamma^2."""

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1):
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        times = self.milestones.count(self.last_epoch)
        return [lr * self.gamma ** times for lr in super().get_lr()] if times else super().get_lr()


class ExponentialLR(LRScheduler):
    """lr is multiplied by gamma every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return super().get_lr() if self._is_initial else [lr * self.gamma for lr in super().get_lr()]


class LinearLR(LRScheduler):
    """A factor on lr goes from start_factor to end_factor in a straight line over total_iters epochs, and stays: a warm-up."""

    def __init__(self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5,
                 last_epoch: int = -1):
        if not 0 < start_factor <= 1:
            raise ValueError(f"start_factor must be greater than 0 and at most 1, got {start_factor}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"end_factor must be between 0 and 1, got {end_factor}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [lr * self.start_factor for lr in super().get_lr()]
        if self._is_initial or self.last_epoch > self.total_iters:
            return super().get_lr()
        rise = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * rise          # total_iters * the last factor
        return [lr * (1.0 + rise / before) for lr in super().get_lr()]


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (initial lr - eta_min) (1 + cos(pi epoch / T_max)) / 2: half a cosine down in T_max epochs, then up again.

    Loshchilov & Hutter 2017, "SGDR: Stochastic gradient descent with warm restarts", eq. 5, without restarts. Computed from the
    rate before, as PyTorch does, so rounding errors differ from those of the formula.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        if T_max < 1:
            raise ValueError(f"T_max must be a positive number of epochs, got {T_max}")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._is_initial:
            return super().get_lr()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:          # the last rate was eta_min: nothing to scale
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [lr + (base - self.eta_min) * rise for lr, base in zip(super().get_lr(), self.base_lrs, strict=True)]
        now = 1 + math.cos(math.pi * self.last_epoch / self.T_max)
        before = 1 + math.cos(math.pi * (self.last_epoch - 1) / self.T_max)
        return [now / before * (lr - self.eta_min) + self.eta_min for lr in super().get_lr()]


class OneCycleLR(LRScheduler):
    """One rise and one fall (Smith & Topin 2018, "Super-convergence: very fast training using large learning rates").

    lr goes from max_lr / div_factor up to max_lr during the first pct_start of all steps, then down to initial lr /
    final_div_factor; momentum (beta1 of Adam) the other way, from max_momentum to base_momentum and back, if cycle_momentum.
    three_phase=True comes back to the initial lr as fast as it rose, and falls from there. anneal_strategy: "cos" or "linear".
    Give total_steps, or epochs and steps_per_epoch. max_lr, base_momentum and max_momentum may be lists, one value a group.
    Raises ValueError for settings that do not fit, and in a step after the last.
    """

    def __init__(self, optimizer: Optimizer, max_lr: float | list[float], total_steps: int | None = None, epochs: int | None = None,
                 steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: Literal["cos", "linear"] = "cos",
                 cycle_momentum: bool = True, base_momentum: float | list[float] = 0.85, max_momentum: float | list[float] = 0.95,
                 div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False, last_epoch: int = -1):
        _checked(optimizer)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"pct_start must be a part between 0 and 1, got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', got {anneal_strategy!r}")
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        self.anneal_strategy, self.cycle_momentum = anneal_strategy, cycle_momentum
        self._phases = _one_cycle_phases(self.total_steps, pct_start, three_phase)
        if last_epoch == -1:
            for group, highest in zip(optimizer.param_groups, _per_group("max_lr", max_lr, optimizer), strict=True):
                group.update(initial_lr=highest / div_factor, max_lr=highest, min_lr=highest / div_factor / final_div_factor)
        if cycle_momentum:
            self._prepare_momentum(optimizer, base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    @staticmethod
    def _prepare_momentum(optimizer, base_momentum, max_momentum, last_epoch):
        if not {"momentum", "betas"} & optimizer.defaults.keys():
            raise ValueError(f"{type(optimizer).__name__} has neither momentum nor beta1; use cycle_momentum=False")
        lowest = _per_group("base_momentum", base_momentum, optimizer)
        highest = _per_group("max_momentum", max_momentum, optimizer)
        if last_epoch == -1:
            for group, low, high in zip(optimizer.param_groups, lowest, highest, strict=True):
                group.update(base_momentum=low, max_momentum=high)
                _set_momentum(group, high)

    def get_lr(self) -> list[float]:
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(f"Tried to step {step} times. The specified number of total steps is {self.total_steps}")
        start = 0.0
        for phase in self._phases[:-1]:
            if step <= phase["end_step"]:
                break
            start = phase["end_step"]
        else:
            phase = self._phases[-1]
        part = (step - start) / (phase["end_step"] - start) if phase["end_step"] > start else 1.0
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                _set_momentum(group, self._anneal(group[phase["start_momentum"]], group[phase["end_momentum"]], part))
        return [self._anneal(group[phase["start_lr"]], group[phase["end_lr"]], part) for group in self.optimizer.param_groups]

    def _anneal(self, start, end, part):
        """The value after `part` (0 to 1) of the way from start to end."""
        if self.anneal_strategy == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)


def _set_momentum(group, value):
    """Momentum of a group, or beta1 if its optimiser is of Adam's kind."""
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


def _total_steps(total_steps, epochs, steps_per_epoch):
    if total_steps is None and (epochs is None or steps_per_epoch is None):
        raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
    total = epochs * steps_per_epoch if total_steps is None else total_steps
    if not isinstance(total, int) or total <= 0:
        raise ValueError(f"the number of steps must be a positive whole number, got {total}")
    return total


def _one_cycle_phases(total, pct_start, three_phase):
    """Where each phase ends (in steps), and the keys in a group of its first and last rate and momentum."""
    top = float(pct_start * total) - 1
    ends = [top, 2 * top, total - 1] if three_phase else [top, total - 1]
    rates = ["initial_lr", "max_lr", "initial_lr", "min_lr"] if three_phase else ["initial_lr", "max_lr", "min_lr"]
    momenta = ["max_momentum", "base_momentum", "max_momentum", "max_momentum"]
    return [{"end_step": end, "start_lr": rates[i], "end_lr": rates[i + 1],
             "start_momentum": momenta[i], "end_momentum": momenta[i + 1]} for i, end in enumerate(ends)]


class SequentialLR(LRScheduler):
    """Schedules one after another: `schedulers[i + 1]` takes over, from its own epoch 0, at epoch `milestones[i]`.

    Raises ValueError unless there is one milestone fewer than schedulers, all of `optimizer` and none a ReduceLROnPlateau.
    """

    _not_saved = ("optimizer", "_schedulers")

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]):
        self.optimizer = _checked(optimizer)
        if len(schedulers) < 1 or len(milestones) != len(schedulers) - 1:
            raise ValueError(f"SequentialLR takes one milestone between each two schedulers: for {len(schedulers)} schedulers "
                             f"{max(0, len(schedulers) - 1)}, not {len(milestones)}")
        for i, scheduler in enumerate(schedulers):
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(f"SequentialLR does not support ReduceLROnPlateau (index {i}), whose step() takes a metric")
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"SequentialLR expects all schedulers to belong to the same optimizer; that of index {i} does not")
        self._schedulers, self._milestones = list(schedulers), list(milestones)
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._set(self.base_lrs)
        self._begin()

    def _begin(self):
        self.last_epoch = 0
        self._current()._begin()
        self._last_lr = self._current().get_last_lr()

    def _current(self):
        return self._schedulers[bisect_right(self._milestones, self.last_epoch)]

    def step(self) -> None:
        self.last_epoch += 1
        scheduler = self._current()
        if self.last_epoch in self._milestones:
            self._set(scheduler.base_lrs)
            scheduler._begin()
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class ReduceLROnPlateau(LRScheduler):
    """lr is multiplied by `factor` when step(metric) has seen no better metric for more than `patience` epochs.

    mode             "min": a lower metric is better; "max": a higher one
    threshold        what counts as better: by this part of the best ("rel"), or by this much ("abs", threshold_mode)
    cooldown         epochs after a reduction in which bad ones are not counted
    min_lr           rates never fall below: one for all groups, or a list
    eps              a change of lr smaller than this is not made
    """

    def __init__(self, optimizer: Optimizer, mode: Literal["min", "max"] = "min", factor: float = 0.1, patience: int = 10,
                 threshold: float = 1e-4, threshold_mode: Literal["rel", "abs"] = "rel", cooldown: int = 0,
                 min_lr: float | list[float] = 0, eps: float = 1e-8):
        if factor >= 1.0:
            raise ValueError(f"factor must be smaller than 1, got {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode must be 'rel' or 'abs', got {threshold_mode!r}")
        self.optimizer = _checked(optimizer)
        self.mode, self.factor, self.patience, self.cooldown, self.eps = mode, factor, patience, cooldown, eps
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.min_lrs = _per_group("min_lr", min_lr, optimizer)
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0
        self._last_lr = self.get_lr()

    def step(self, metrics: float) -> None:
        """Look at this epoch's metric (a number or a Tensor with one element) and reduce the rates if it is time."""
        current = float(metrics)
        self.last_epoch += 1
        if self._is_better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce_lr()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self.get_lr()

    def _is_better(self, metric):
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "rel":
            return sign * metric < sign * self.best * (1.0 - sign * self.threshold)
        return sign * metric < sign * self.best - self.threshold

    def _reduce_lr(self):
        for group, lowest in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            lr = max(group["lr"] * self.factor, lowest)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr
