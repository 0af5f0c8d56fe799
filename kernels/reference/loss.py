"""Cross-entropy in NumPy, computed in float64 and rounded once to the dtype of x."""

import numpy as np

from kernels.reference.elementwise import binary_cross_entropy_with_logits, sigmoid
from kernels.reference.reduce import logsumexp, sum


def _prepared(x, target, weight, ignore_index):
    """(keep, class, weight): which rows count, their class (0 in the others), the weights; IndexError if a target is no class."""
    keep = target != ignore_index
    for t in target[keep]:
        if not 0 <= t < x.shape[1]:
            raise IndexError(f"target {t} is outside 0..{x.shape[1] - 1} and not ignore_index ({ignore_index})")
    return keep, np.where(keep, target, 0), np.ones(x.shape[1]) if weight is None else weight.astype(np.float64)


def cross_entropy(x, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """(losses (N,), lse (N,)) of logits x (N, C) and classes target (N,), with lse = log sum_c exp(x_c) of each row and

    loss = (1 - e) w_t (lse - x_t) + e / C sum_c w_c (lse - x_c), or 0 where t is ignore_index; e is label_smoothing.
    """
    keep, t, w = _prepared(x, target, weight, ignore_index)
    lse = logsumexp(x.astype(np.float64), (1,))
    minus_log_p = lse[:, None] - x                                                        # (N, C)
    hit = w[t] * np.take_along_axis(minus_log_p, t[:, None], axis=1)[:, 0]                # (N,)
    losses = (1 - label_smoothing) * hit
    if label_smoothing:
        losses = losses + label_smoothing / x.shape[1] * np.sum(w * minus_log_p, axis=1)
    return np.where(keep, losses, 0).astype(x.dtype), lse.astype(x.dtype)


def cross_entropy_backward(g, x, lse, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """Gradient (N, C) of the losses for g (N,): g ((1 - e) w_t (p_c - [c = t]) + e / C (W p_c - w_c)).

    p = exp(x - lse) are the probabilities, W the sum of all weights; 0 where t is ignore_index.
    """
    keep, t, w = _prepared(x, target, weight, ignore_index)
    p = np.exp(x.astype(np.float64) - lse[:, None])
    one_hot = np.arange(x.shape[1]) == t[:, None]
    dx = (1 - label_smoothing) * w[t][:, None] * (p - one_hot)
    if label_smoothing:
        dx = dx + label_smoothing / x.shape[1] * (np.sum(w) * p - w)
    return np.where(keep[:, None], g[:, None] * dx, 0).astype(x.dtype)


def binary_cross_entropy_with_logits_total(x, target):
    """Sum of all losses."""
    return sum(binary_cross_entropy_with_logits(x, target))


def binary_cross_entropy_with_logits_rows(x, target):
    """Sums (N, S) of the losses of logits x (N, S, D) against target (N, D)."""
    target = np.broadcast_to(target[:, None], x.shape)
    return binary_cross_entropy_with_logits(x.astype(np.float64), target).sum(2).astype(x.dtype)


def binary_cross_entropy_with_logits_rows_backward(g, x, target):
    """Gradient (N, S, D) of the sums for g (N, S): g (sigmoid(x) - t)."""
    return (g[:, :, None] * (sigmoid(x.astype(np.float64)) - target[:, None])).astype(x.dtype)
