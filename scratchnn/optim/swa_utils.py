"""Averages of a model's weights over its training, under the names of torch.optim.swa_utils.

    average = AveragedModel(model)
    optimizer.step(); average.update_parameters(model)           as often as one likes; then use average.module
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np

import kernels
from scratchnn import nn
from scratchnn.optim.optimizer import check
from scratchnn.tensor import Tensor

Average = Callable[[list[Tensor], list[Tensor], int], None]      # changes the first list, given the second and how many were averaged


def get_swa_multi_avg_fn() -> Average:
    """Plain mean: average += (weights - average) / (n + 1) (Izmailov et al. 2018, "Averaging weights leads to wider optima and better
    generalization"; Polyak & Juditsky 1992)."""
    return lambda averages, weights, n: _lerp(averages, weights, 1 / (n + 1))


def get_ema_multi_avg_fn(decay: float = 0.999) -> Average:
    """Exponential moving average: average = decay * average + (1 - decay) * weights."""
    check("decay", decay, 0 <= decay <= 1, "in 0..1")
    return lambda averages, weights, n: _lerp(averages, weights, 1 - decay)


def _lerp(averages, weights, weight):
    for dtype in {p.dtype for p in averages}:
        chosen = [(p, q) for p, q in zip(averages, weights, strict=True) if p.dtype == dtype]
        kernels.lerp([p.array for p, _ in chosen], [q.array for _, q in chosen], weight)


class AveragedModel(nn.Module):
    """A copy of a model, `module`, whose parameters are the average of those that `update_parameters` was given.

    multi_avg_fn   what the average is: get_swa_multi_avg_fn() (the default) or get_ema_multi_avg_fn(decay)
    use_buffers    average the floating-point buffers too, for instance the statistics of batch norm; what is not averaged is copied

    The first update copies. Buffer: n_averaged, the updates so far.
    """

    def __init__(self, model: nn.Module, *, multi_avg_fn: Average | None = None, use_buffers: bool = False):
        super().__init__()
        self.module, self.multi_avg_fn, self.use_buffers = copy.deepcopy(model), multi_avg_fn or get_swa_multi_avg_fn(), use_buffers
        self.register_buffer("n_averaged", Tensor(np.array(0)))

    def forward(self, *args, **kwargs):
        """What the averaged model makes of it."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: nn.Module) -> None:
        """Take the present weights of the model that is trained into the average."""
        own, given = list(self.module.parameters()), list(model.parameters())
        copied = []
        for p, q in zip(self.module.buffers(), model.buffers(), strict=True):
            if self.use_buffers and p.is_floating_point():
                own.append(p)
                given.append(q)
            else:
                copied.append((p, q))
        count = self.n_averaged.item()
        if count:
            self.multi_avg_fn(own, given, count)
        else:
            copied += zip(own, given, strict=True)
        for p, q in copied:
            p.array[...] = q.array
        for p in (*own, *self.module.buffers()):
            p.bump_version()
        self.n_averaged.array[...] = count + 1
