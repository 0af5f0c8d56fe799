"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

import kernels
from scratchnn.optim.optimizer import Optimizer, Params, check


class SGD(Optimizer):
    """Stochastic gradient descent:

        g = gradient + weight_decay * w
        b = momentum * b + (1 - dampening) * g          b = g at the first step
        w = w - lr * b                                  nesterov: w - lr * (g + momentum * b); without momentum: w - lr * g

    Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", in the form in which lr scales
    the whole step. maximize=True climbs instead. State: momentum_buffer (b), if momentum is not 0.
    """

    def __init__(self, params: Params, lr: float = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
                 nesterov: bool = False, *, maximize: bool = False):
        check("learning rate", lr, lr >= 0)
        check("momentum", momentum, momentum >= 0)
        check("weight_decay", weight_decay, weight_decay >= 0)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening; "
                             f"given are momentum={momentum}, dampening={dampening}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                                  "nesterov": nesterov, "maximize": maximize})

    def _update(self, params, arrays, grads, group, step, first):
        buffers = self._slot(params, "momentum_buffer") if group["momentum"] else None
        kernels.sgd(arrays, grads, buffers, group["lr"], group["momentum"], group["dampening"], group["weight_decay"],
                    group["nesterov"], first=first)
