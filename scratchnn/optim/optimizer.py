"""Optimizer: what every optimiser shares, which is everything but its own formula.

A subclass gives `_update`, which looks up its options in the group, its state through `_slot`, and makes one kernel call over the
lists of arrays. This class finds out what to update, and keeps options and state in PyTorch's format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

import kernels
from scratchnn.autograd import enable_grad
from scratchnn.device import moved, on_host
from scratchnn.tensor import Tensor

Params = Iterable[Tensor] | Iterable[dict[str, Any]]
captured: Callable | None = None      # while a CUDA graph is captured, is given each update, to make and remember it (scratchnn/cuda.py)


def check(name: str, value: float, fits: bool, expected: str = "0 or more") -> None:
    """Raise ValueError if an option does not fit. NaN fits nothing, as long as `fits` is a comparison that must hold."""
    if not fits:
        raise ValueError(f"Invalid {name} value: {value}; it must be {expected}")


class Optimizer(ABC):
    """Base of all optimisers.

    params     Tensors, or dicts {"params": Tensors, option: value, ...}, each a group with options of its own
    defaults   options of the groups that do not give them

    Attributes: `param_groups` (list of such dicts), `state` (by parameter: dict of Tensors and numbers), `defaults`.
    Raises ValueError for no parameter at all, for a parameter given twice and for one that is not a leaf; TypeError for
    what is not a Tensor of floating-point numbers.
    """

    def __init__(self, params: Params, defaults: dict[str, Any]):
        if isinstance(params, (Tensor, dict)):
            raise TypeError(f"params must be an iterable of Tensors or of dicts, not one {type(params).__name__}; write [params]")
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._opt_called = False              # whether step() ran: schedulers warn when they are stepped before it
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add {"params": Tensors, option: value, ...}; options left out take the optimiser's defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"a parameter group must be a dict, not {type(param_group).__name__}")
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        known = {id(p) for group in self.param_groups for p in group["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not np.issubdtype(p.dtype, np.floating):
                raise TypeError(f"optimizer can only optimize floating-point Tensors, but one of the params is {p.dtype}")
            if not p.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor: it was computed from others, whose own updates would be lost")
            if id(p) in known:
                raise ValueError(f"a parameter of shape {p.shape} appears twice, in one parameter group or in two")
            known.add(id(p))
        options = {k: v for k, v in param_group.items() if k not in self.defaults and k != "params"}
        self.param_groups.append({"params": params, **{k: param_group.get(k, v) for k, v in self.defaults.items()}, **options})

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with 0 where set_to_none is False."""
        for p in chain.from_iterable(group["params"] for group in self.param_groups):
            if p.grad is not None:
                p.grad = None if set_to_none else Tensor(np.zeros_like(p.grad.array))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, in place. Returns what `closure`, called first if given, returned.

        All parameters of a group are updated by one call of a kernel, unless they differ in dtype or in their number of steps.
        Raises ValueError for a gradient of another shape or dtype than its parameter.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self._opt_called = True
        for group in self.param_groups:
            for params in self._batches(group["params"]):
                grads = [kernels.neg(p.grad.array) if group.get("maximize") else p.grad.array for p in params]
                update = partial(self._advance, params, grads, group)
                update() if captured is None else captured(update)
        return loss

    def _advance(self, params, grads, group):
        """Update parameters that have made as many steps so far."""
        state = self.state.get(params[0], {})
        self._update(params, [p.array for p in params], grads, group, state.get("step", 0) + 1, not state)
        for p in params:
            p.bump_version()

    def _batches(self, params):
        """The parameters that have a gradient, those of one dtype and as many steps so far together."""
        batches = defaultdict(list)
        for p in params:
            if p.grad is not None:
                if p.grad.shape != p.shape or p.grad.dtype != p.dtype:
                    raise ValueError(f"a parameter of shape {p.shape} and dtype {p.dtype} has a gradient of shape {p.grad.shape} "
                                     f"and dtype {p.grad.dtype}")
                state = self.state.get(p, {})
                batches[p.dtype, state.get("step", 0), not state].append(p)
        return list(batches.values())

    @abstractmethod
    def _update(self, params: list[Tensor], arrays: list, grads: list, group: dict[str, Any], step: int, first: bool) -> None:
        """Change `arrays` (those of `params`) in place. `step` counts from 1; `first`: there is no state yet."""

    def _slot(self, params, name, value=0.0):
        """The state arrays `name` of these parameters; where there is none yet, one of the parameter's shape full of `value`."""
        for p in params:
            if name not in self.state[p]:
                self.state[p][name] = Tensor(np.full_like(p.array, value))
        return [self.state[p][name].array for p in params]

    def _count(self, params, step):
        """Note the number of steps that these parameters have made."""
        for p in params:
            self.state[p]["step"] = step

    # ---- saving and loading ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """{"state": {number: {name: Tensor or number}}, "param_groups": [options, with the numbers of "params"]}.

        Parameters are numbered through all groups, as in PyTorch. The Tensors are the optimiser's own, not copies.
        """
        numbers = {id(p): i for i, p in enumerate(chain.from_iterable(g["params"] for g in self.param_groups))}
        groups = [{**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": {numbers[id(p)]: dict(values) for p, values in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a copy of what `state_dict()` returned, here or in PyTorch. Raises ValueError, and changes nothing, if the
        groups have other sizes or a state array has another shape than its parameter."""
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(f"loaded state dict has a different number of parameter groups: {len(saved)}, "
                             f"not {len(self.param_groups)}")
        for i, (own, other) in enumerate(zip(self.param_groups, saved, strict=True)):
            if len(own["params"]) != len(other["params"]):
                raise ValueError(f"loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                                 f"group {i} has {len(other['params'])} parameters, not {len(own['params'])}")
        numbers = chain.from_iterable(group["params"] for group in saved)
        params = dict(zip(numbers, chain.from_iterable(group["params"] for group in self.param_groups), strict=True))
        state = defaultdict(dict)
        for number, values in state_dict["state"].items():
            if int(number) not in params:
                raise ValueError(f"loaded state dict has a state for parameter {number}, which is in none of its groups")
            p = params[int(number)]
            state[p] = {name: _state_value(number, name, v, p) for name, v in values.items() if v is not None}
        groups = zip(self.param_groups, saved, strict=True)
        self.param_groups = [{**self.defaults, **_copied(other), "params": own["params"]} for own, other in groups]
        self.state = state

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines += [f"Parameter Group {i}", *(f"    {k}: {group[k]}" for k in sorted(group) if k != "params")]
        return "\n".join([*lines, ")"])


def _copied(group):
    """Options of a saved group, without "params"; lists, which is what JSON makes of tuples, become tuples again."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in group.items() if k != "params"}


def _state_value(number, name, value, p):
    """A copy of one saved state value: a count as int, an array (Tensor, NumPy, PyTorch) as contiguous Tensor in p's dtype."""
    array = on_host(value)
    if name == "step":
        return int(array)
    if array.shape != p.shape:
        raise ValueError(f"loaded state {name!r} of parameter {number} has shape {array.shape}, the parameter has {p.shape}")
    return Tensor(moved(np.array(array, p.dtype, order="C"), p.device))
