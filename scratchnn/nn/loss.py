"""Losses as modules: loss(input, target). The formulas stand with the functions of the same names in nn.functional.

reduction: "mean" (the default), "sum", or "none" for one loss each.
"""

from __future__ import annotations

from scratchnn.nn import functional as F
from scratchnn.nn.module import Module
from scratchnn.tensor import Tensor

REDUCTIONS = ("none", "mean", "sum")


class _Loss(Module):
    """Keeps the reduction, and a weight as a buffer, so that it is saved and converted with the module."""

    def __init__(self, reduction: str, allowed: tuple[str, ...] = REDUCTIONS, **buffers: Tensor | None):
        super().__init__()
        if reduction not in allowed:
            raise ValueError(f"{type(self).__name__}: reduction must be one of {', '.join(allowed)}, got {reduction!r}")
        self.reduction = reduction
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)


class CrossEntropyLoss(_Loss):
    """-log softmax(input)[target]. input (N, C), (C) or (N, C, d1, ...) unnormalised log-probabilities ("logits"), target class
    numbers (N), () or (N, d1, ...), or probabilities of input's shape.

    weight (C) weighs classes; targets equal to ignore_index do not count; label_smoothing mixes the target with that part of a
    uniform distribution (Szegedy et al. 2016). A mean divides by the sum of the weights that counted.
    """

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0):
        super().__init__(reduction, weight=weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction,
                               label_smoothing=self.label_smoothing)


class NLLLoss(_Loss):
    """-input[target] of log-probabilities: CrossEntropyLoss after a LogSoftmax. Shapes and options as there."""

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(reduction, weight=weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class BCELoss(_Loss):
    """Binary cross-entropy of probabilities in [0, 1] and targets in [0, 1] of one shape; weight multiplies each loss."""

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean"):
        super().__init__(reduction, weight=weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """BCELoss after a sigmoid, computed together so that nothing overflows; pos_weight multiplies the part of target 1."""

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean", pos_weight: Tensor | None = None):
        super().__init__(reduction, weight=weight, pos_weight=pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, weight=self.weight, reduction=self.reduction,
                                                  pos_weight=self.pos_weight)


class MSELoss(_Loss):
    """(input - target)^2"""

    def __init__(self, *, reduction: str = "mean"):
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """|input - target|"""

    def __init__(self, *, reduction: str = "mean"):
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(_Loss):
    """d^2 / (2 beta) where d = |input - target| < beta, d - beta / 2 elsewhere (Girshick 2015)."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(_Loss):
    """d^2 / 2 where d = |input - target| < delta, delta (d - delta / 2) elsewhere (Huber 1964)."""

    def __init__(self, *, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class KLDivLoss(_Loss):
    """target (log target - input), input being log-probabilities, and target too if log_target. "batchmean" divides the sum by N,
    which is the divergence; "mean", the default as in PyTorch, divides by the number of elements."""

    def __init__(self, *, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction, (*REDUCTIONS, "batchmean"))
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class GaussianNLLLoss(_Loss):
    """(log var + (input - target)^2 / var) / 2 with var limited to at least eps; full adds log(2 pi) / 2."""

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"):
        super().__init__(reduction)
        self.full, self.eps = full, eps

    def forward(self, input: Tensor, target: Tensor, var: Tensor) -> Tensor:
        return F.gaussian_nll_loss(input, target, var, full=self.full, eps=self.eps, reduction=self.reduction)
