"""RMSprop."""

from __future__ import annotations

import kernels
from scratchnn.optim.optimizer import Optimizer, Params, check


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012, "Neural networks for machine learning", lecture 6e):

        g = gradient + weight_decay * w
        v = alpha * v + (1 - alpha) * g^2
        w = w - lr * g / (sqrt(v) + eps)

    centered=True subtracts from v the square of a running mean a = alpha * a + (1 - alpha) * g, so that v is a variance (Graves
    2013, "Generating sequences with recurrent neural networks", eq. 38-45). With momentum, b = momentum * b + g / (sqrt(v) +
    eps) and w = w - lr * b. maximize=True climbs instead.
    State: step, square_avg (v), momentum_buffer (b) and grad_avg (a) where they are used.
    """

    def __init__(self, params: Params, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
                 momentum: float = 0, centered: bool = False, *, maximize: bool = False):
        check("learning rate", lr, lr >= 0)
        check("epsilon", eps, eps >= 0)
        check("momentum", momentum, momentum >= 0)
        check("weight_decay", weight_decay, weight_decay >= 0)
        check("alpha", alpha, alpha >= 0)
        super().__init__(params, {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
                                  "centered": centered, "maximize": maximize})

    def _update(self, params, arrays, grads, group, step, first):
        squares = self._slot(params, "square_avg")
        buffers = self._slot(params, "momentum_buffer") if group["momentum"] else None
        means = self._slot(params, "grad_avg") if group["centered"] else None
        kernels.rmsprop(arrays, grads, squares, buffers, means, group["lr"], group["alpha"], group["eps"], group["weight_decay"],
                        group["momentum"])
        self._count(params, step)
