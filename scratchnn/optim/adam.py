"""Adam and AdamW."""

from __future__ import annotations

import kernels
from scratchnn.optim.optimizer import Optimizer, Params, check


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, "Adam: A method for stochastic optimization", algorithm 1):

        g = gradient + weight_decay * w
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        w = w - lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)          t = 1, 2, ... is the step

    amsgrad=True puts the largest v so far in its place (Reddi et al. 2018, "On the convergence of Adam and beyond").
    decoupled_weight_decay=True shrinks w itself and not through g: AdamW. maximize=True climbs instead.
    State: step (t), exp_avg (m), exp_avg_sq (v), max_exp_avg_sq if amsgrad.
    """

    def __init__(self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False, decoupled_weight_decay: bool = False):
        check("learning rate", lr, lr >= 0)
        check("epsilon", eps, eps >= 0)
        check("beta parameter at index 0", betas[0], 0 <= betas[0] < 1, "in [0, 1)")
        check("beta parameter at index 1", betas[1], 0 <= betas[1] < 1, "in [0, 1)")
        check("weight_decay", weight_decay, weight_decay >= 0)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
                                  "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay})

    def _update(self, params, arrays, grads, group, step, first):
        m, v = self._slot(params, "exp_avg"), self._slot(params, "exp_avg_sq")
        largest = self._slot(params, "max_exp_avg_sq") if group["amsgrad"] else None
        kernels.adam(arrays, grads, m, v, largest, group["lr"], *group["betas"], group["eps"], group["weight_decay"], step,
                     group["decoupled_weight_decay"])
        self._count(params, step)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, "Decoupled weight decay regularization", algorithm 2):
    w is first multiplied by 1 - lr * weight_decay, and then updated as in Adam from the gradient alone."""

    def __init__(self, params: Params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)
