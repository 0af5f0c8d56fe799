"""Losses, with torch.nn.functional's names, options and reductions ("mean", "sum" or "none")."""

from __future__ import annotations

import math

import numpy as np

import kernels
from scratchnn.grad_mode import is_grad_enabled
from scratchnn.op import op
from scratchnn.ops.activation import sigmoid, softplus
from scratchnn.ops.arithmetic import abs, clamp, maximum, where
from scratchnn.ops.elementary import exp, log, log1p
from scratchnn.ops.index import gather, one_hot
from scratchnn.ops.reduce import mean, sum
from scratchnn.ops.shape import permute, reshape, unsqueeze
from scratchnn.ops.softmax import softmax
from scratchnn.tensor import Tensor


def _reduced(losses, reduction):
    if reduction == "mean":
        return mean(losses)
    if reduction == "sum":
        return sum(losses)
    if reduction == "none":
        return losses
    raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")


# ---- classes --------------------------------------------------------------------------------------------------------

@op(cases=[((3, 4), np.array([1, 0, 3])), ((3, 4), np.array([1, -100, 3]), np.array([1.0, 2.0, 0.5, 1.5]), -100, 0.1)])
def cross_entropy_rows(x, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """Loss of each row of logits x (N, C) against class numbers (N,), and log(sum(exp(x))) of each row: (N,), (N,)."""
    return kernels.cross_entropy(x, target, weight, ignore_index, label_smoothing)


@cross_entropy_rows.vjp("x")
def _(g, x, target, weight, ignore_index, label_smoothing, y1):
    if not is_grad_enabled():
        return cross_entropy_backward(g[0], x, y1, target, weight, ignore_index, label_smoothing)
    classes = x.shape[1]                                       # the same in operations, which can be differentiated again
    chosen = one_hot(where(target == ignore_index, 0, target), classes).to(x.dtype)
    weights = Tensor(np.ones(classes, x.dtype)) if weight is None else weight
    share = (chosen * (1 - label_smoothing) + label_smoothing / classes) * weights
    kept = unsqueeze(g[0] * (target != ignore_index).to(x.dtype), 1)
    return kept * (softmax(x, 1) * sum(share, 1, True) - share)


@op
def cross_entropy_backward(grad, x, lse, target, weight, ignore_index, label_smoothing):
    """Gradient of `cross_entropy_rows` with respect to x in one pass."""
    return kernels.cross_entropy_backward(grad, x, lse, target, weight, ignore_index, label_smoothing)


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(input)[target] in nats.

    input    logits (C,), (N, C) or (N, C, d1, ...)
    target   class numbers (int64) of input's shape without C, or probabilities of input's own shape
    weight   (C,) factor of each class; with "mean" the losses are divided by the sum of the factors of their targets
    """
    if target.shape == input.shape and target.is_floating_point():
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    if target.dtype.kind not in "iu" or target.shape != (input.shape[:1] if input.ndim > 1 else ()) + input.shape[2:]:
        raise ValueError(f"cross_entropy: target {target.shape} {target.dtype} does not fit input {input.shape}; give class numbers of "
                         "input's shape without dimension 1, or probabilities of input's own shape")
    classes = input.shape[1] if input.ndim > 1 else input.shape[0]
    rows = input if input.ndim == 2 else reshape(permute(input, (0, *range(2, input.ndim), 1)) if input.ndim > 2 else input, (-1, classes))
    flat = target.long().reshape(-1)
    losses, _ = cross_entropy_rows(rows, flat, weight, ignore_index, label_smoothing)
    if reduction != "mean":
        return _reduced(losses if losses.shape == target.shape else reshape(losses, target.shape), reduction)
    return sum(losses) / _weight_of(flat, weight, ignore_index, input.dtype)


def _weight_of(target, weight, ignore_index, dtype):
    """Sum of the factors of all targets: by what a mean is divided."""
    if target.device.type == "cuda":                           # without waiting for what is kept
        kept = target != ignore_index
        return sum(kept.to(dtype) if weight is None else where(kept, weight[where(kept, target, 0)], 0.0))
    kept = target.array != ignore_index
    return Tensor(np.asarray(kept.sum() if weight is None else weight.array[target.array[kept]].sum(), dtype))


def _soft_cross_entropy(input, target, weight, reduction, label_smoothing):
    """Cross-entropy against probabilities."""
    dim = 1 if input.ndim > 1 else 0
    target = target * (1 - label_smoothing) + label_smoothing / input.shape[dim]
    logs = input.log_softmax(dim)
    if weight is not None:
        logs = logs * reshape(weight, (-1,) + (1,) * (input.ndim - 1 - dim))
    losses = -sum(logs * target, dim)
    return sum(losses) / losses.numel() if reduction == "mean" else _reduced(losses, reduction)


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """-input[target], input being log-probabilities (N, C) or (N, C, d1, ...); options as in cross_entropy."""
    if target.dtype.kind not in "iu" or target.shape != (input.shape[:1] if input.ndim > 1 else ()) + input.shape[2:]:
        raise ValueError(f"nll_loss: target {target.shape} {target.dtype} does not fit input {input.shape}; give class numbers of "
                         "input's shape without dimension 1")
    target = target.long()                                     # ignore_index need not fit uint8
    if input.ndim == 1:
        return nll_loss(unsqueeze(input, 0), unsqueeze(target, 0), weight, ignore_index, reduction if reduction != "none" else "sum")
    kept = target != ignore_index
    index = where(kept, target, 0)
    factors = kept.to(input.dtype)
    if weight is not None:
        factors = factors * weight[index]
    losses = where(kept, -gather(input, 1, unsqueeze(index, 1)).squeeze(1) * factors, 0.0)
    return sum(losses) / sum(factors) if reduction == "mean" else _reduced(losses, reduction)


# ---- binary ---------------------------------------------------------------------------------------------------------

@op
def logistic_loss(x, target):
    """-t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)), element by element, x and t of one shape and dtype."""
    _same_shape("binary_cross_entropy_with_logits", x, target)
    return kernels.binary_cross_entropy_with_logits(x, target)


def _same_shape(name, x, other, label="target"):
    if x.shape != other.shape:
        raise ValueError(f"{name}: {label} {other.shape} must have the shape of the input {x.shape}")


def _binary_target(name, input, target):
    """The target in the input's dtype; both must be floating-point and of one shape."""
    _same_shape(name, input, target)
    if not (input.is_floating_point() and target.is_floating_point()):
        raise TypeError(f"{name}: input ({input.dtype}) and target ({target.dtype}) must be floating-point; use target.to(input.dtype)")
    return target.to(input.dtype)


@logistic_loss.vjp("x")
def _(g, x, target):
    if is_grad_enabled():
        return g * (sigmoid(x) - target)
    return logistic_loss_backward(g, x, target)


@logistic_loss.vjp("target")
def _(g, x):
    return -g * x


@op
def logistic_loss_backward(grad, x, target):
    """grad * (sigmoid(x) - target) in one pass; grad has their shape or is one value."""
    return kernels.binary_cross_entropy_with_logits_backward(grad, x, target)


@op(cases=[((3, 4), (3, 4))])
def logistic_loss_total(x, target):
    """Sum of logistic_loss over all elements, without storing them."""
    _same_shape("binary_cross_entropy_with_logits", x, target)
    return kernels.binary_cross_entropy_with_logits_total(x, target)


logistic_loss_total.vjp("x")(logistic_loss.rules["x"].function)
logistic_loss_total.vjp("target")(logistic_loss.rules["target"].function)


@op(cases=[((3, 2, 4), np.array([[0, 1, 1, 0], [1, 0, 0.5, 1], [0, 0, 1, 1]]))])
def logistic_loss_rows(x, target):
    """Sums (N, S) over D of logistic_loss, of logits (N, S, D) and one target (N, D) for the S rows of each n."""
    return kernels.binary_cross_entropy_with_logits_rows(x, target)


@logistic_loss_rows.vjp("x")
def _(g, x, target):
    if is_grad_enabled():
        return unsqueeze(g, 2) * (sigmoid(x) - unsqueeze(target, 1))
    return logistic_loss_rows_backward(g, x, target)


@op
def logistic_loss_rows_backward(grad, x, target):
    """grad (sigmoid(x) - target) in one pass, grad (N, S)."""
    return kernels.binary_cross_entropy_with_logits_rows_backward(grad, x, target)


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean",
                                     pos_weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of logits in nats, without overflow; targets in 0..1. pos_weight multiplies the part of target 1."""
    target = _binary_target("binary_cross_entropy_with_logits", input, target)
    if pos_weight is None and weight is None and reduction in ("sum", "mean"):
        total = logistic_loss_total(input, target)
        return total if reduction == "sum" else total / input.numel()
    if pos_weight is None:
        losses = logistic_loss(input, target)
    else:
        losses = (1 - target) * input + (1 + (pos_weight - 1) * target) * softplus(-input, 1.0, math.inf)
    return _reduced(losses if weight is None else losses * weight, reduction)


@op(domain=(0.1, 0.9), cases=[((3, 4), (3, 4))])
def bernoulli_loss(x, target):
    """-t log(x) - (1 - t) log(1 - x), element by element, logarithms limited to -100; x in 0..1, x and t of one shape and dtype."""
    _same_shape("binary_cross_entropy", x, target)
    if not ((x >= 0) & (x <= 1)).all():
        raise ValueError("binary_cross_entropy: the input must be probabilities, in 0..1; for logits there is "
                         "binary_cross_entropy_with_logits")
    yes, no = np.maximum(kernels.log(x), -100), np.maximum(kernels.log1p(kernels.neg(x)), -100)
    return np.asarray((target - 1) * no - target * yes, x.dtype, like=x)


@bernoulli_loss.vjp("x")
def _(g, x, target):
    return g * (x - target) / clamp(x * (1 - x), min=1e-12)


@bernoulli_loss.vjp("target")
def _(g, x):
    return g * (log1p(-x) - log(x))


def binary_cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """Binary cross-entropy of probabilities in nats; logarithms are limited to -100, as in torch."""
    losses = bernoulli_loss(input, _binary_target("binary_cross_entropy", input, target))
    return _reduced(losses if weight is None else losses * weight, reduction)


# ---- distances ------------------------------------------------------------------------------------------------------

def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(input - target)^2."""
    return _reduced((input - target).square(), reduction)


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|input - target|."""
    return _reduced(abs(input - target), reduction)


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d^2 / 2 where d = |input - target| <= delta, delta (d - delta / 2) beyond."""
    d = abs(input - target)
    inside = clamp(d, max=delta)
    return _reduced(inside * (d - 0.5 * inside), reduction)


def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d^2 / (2 beta) where d = |input - target| < beta, d - beta / 2 beyond; |d| for beta = 0."""
    return huber_loss(input, target, reduction, beta) / beta if beta else l1_loss(input, target, reduction)


def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """target (log target - input), input being log-probabilities; "batchmean" divides the sum by the first size."""
    weights, logs = (exp(target), target) if log_target else (target, log(where(target > 0, target, 1.0)))
    losses = weights * (logs - input)
    return sum(losses) / input.shape[0] if reduction == "batchmean" else _reduced(losses, reduction)


def gaussian_nll_loss(input: Tensor, target: Tensor, var: Tensor, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> Tensor:
    """(log var + (input - target)^2 / var) / 2, plus log(2 pi) / 2 if full; the variance is at least eps."""
    var = var + (maximum(var, eps) - var).detach()
    losses = 0.5 * (log(var) + (input - target).square() / var)
    return _reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


# ---- divergence of a normal distribution --------------------------------------------------------------------------------

@op(promote=True, cases=[((3, 4), (3, 4))])
def gaussian_divergence(mean, logvar):
    """(mean^2 + exp(logvar) - 1 - logvar) / 2, element by element."""
    return kernels.gaussian_kl(mean, logvar)


@op(promote=True, cases=[((3, 4), (3, 4))])
def gaussian_divergence_total(mean, logvar):
    """Sum of gaussian_divergence over all elements, without storing them."""
    return kernels.gaussian_kl_total(mean, logvar)


for _divergence in (gaussian_divergence, gaussian_divergence_total):
    @_divergence.vjp("mean")
    def _(g, mean):
        return g * mean

    @_divergence.vjp("logvar")
    def _(g, logvar):
        return gaussian_divergence_backward(g, logvar)


@op(promote=True, cases=[((3, 4), (3, 4))])
def gaussian_divergence_backward(grad, logvar):
    """grad * (exp(logvar) - 1) / 2."""
    return kernels.gaussian_kl_backward(grad, logvar)


@gaussian_divergence_backward.vjp("grad", "logvar")
def _(g, grad, logvar):
    return gaussian_divergence_backward(g, logvar), g * grad * (0.5 * exp(logvar))


def gaussian_kl(mean: Tensor, logvar: Tensor, reduction: str = "sum") -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) in nats (Kingma & Welling 2014, appendix B); reduction as in the losses."""
    _same_shape("gaussian_kl", mean, logvar, "logvar")
    if reduction in ("sum", "mean"):
        total = gaussian_divergence_total(mean, logvar)
        return total if reduction == "sum" else total / mean.numel()
    return _reduced(gaussian_divergence(mean, logvar), reduction)
