"""Adagrad."""

from __future__ import annotations

import kernels
from scratchnn.optim.optimizer import Optimizer, Params, check


class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011, "Adaptive subgradient methods for online learning and stochastic optimization"):

        g = gradient + weight_decay * w
        s = s + g^2                                     s = initial_accumulator_value before the first step
        w = w - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)          t = 1, 2, ... is the step

    maximize=True climbs instead. State: step (t), sum (s).
    """

    def __init__(self, params: Params, lr: float = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
                 initial_accumulator_value: float = 0, eps: float = 1e-10, *, maximize: bool = False):
        check("learning rate", lr, lr >= 0)
        check("lr_decay", lr_decay, lr_decay >= 0)
        check("weight_decay", weight_decay, weight_decay >= 0)
        check("initial_accumulator_value", initial_accumulator_value, initial_accumulator_value >= 0)
        check("epsilon", eps, eps >= 0)
        super().__init__(params, {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
                                  "initial_accumulator_value": initial_accumulator_value})

    def _update(self, params, arrays, grads, group, step, first):
        sums = self._slot(params, "sum", group["initial_accumulator_value"])
        kernels.adagrad(arrays, grads, sums, group["lr"], group["lr_decay"], group["eps"], group["weight_decay"], step)
        self._count(params, step)
