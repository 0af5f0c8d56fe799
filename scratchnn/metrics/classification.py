"""How well a classifier does."""

from __future__ import annotations

import numpy as np


def accuracy(predicted, target) -> float:
    """Percent of the predicted classes (N,) that equal the target (N,)."""
    return 100 - error(predicted, target)


def error(predicted, target) -> float:
    """Percent of the predicted classes (N,) that differ from the target (N,). Raises ValueError for unequal or empty shapes."""
    predicted, target = _pair(predicted, target)
    return 100 * float(np.count_nonzero(predicted != target)) / len(target)


def confusion_matrix(predicted, target, classes: int) -> np.ndarray:
    """(classes, classes) int64: row t, column p counts the examples of class t that were taken for class p.

    Raises ValueError for a class outside 0..classes-1.
    """
    predicted, target = _pair(predicted, target)
    for name, labels in (("predicted", predicted), ("target", target)):
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"{name} holds classes {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
    return np.bincount(target * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _pair(predicted, target):
    predicted, target = np.asarray(predicted), np.asarray(target)
    if predicted.shape != target.shape or predicted.ndim != 1 or not len(target):
        raise ValueError(f"expected two lists of classes of one length above 0, got shapes {predicted.shape} and {target.shape}")
    return predicted.astype(np.int64), target.astype(np.int64)
