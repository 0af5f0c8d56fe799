"""Whether a classifier can tell drawn examples from real ones: the most general of all comparisons."""

from __future__ import annotations

import numpy as np

import kernels
import scratchnn.nn.functional as F
from scratchnn import data, optim
from scratchnn.metrics.samples import auc
from scratchnn.models.classifier import MLP, predict
from scratchnn.random import Generator, get_rng_state, manual_seed, set_rng_state

BATCH, STEPS = 64, 1500


def two_sample_test(real: np.ndarray, drawn: np.ndarray, seed: int = 0, hidden: tuple[int, ...] = (64, 64)) -> float:
    """AUC of a multilayer perceptron that learnt to tell half of `real` (N, *shape) from half of `drawn` (M, *shape), on the other halves:
    0.5 if it cannot, 1 if it always can.

    D. Lopez-Paz & M. Oquab 2017, "Revisiting classifier two-sample tests", with the AUC in place of the accuracy. As many of both are
    used. With n of each held out, an AUC of two samples of one distribution has a standard deviation of about 0.41 / sqrt(n).
    """
    count = min(len(real), len(drawn)) // 2
    if real.shape[1:] != drawn.shape[1:] or count < 8:
        raise ValueError(f"two_sample_test takes at least 16 examples of one shape each, got {real.shape} and {drawn.shape}")
    generator, before = Generator(seed), get_rng_state()
    halves = [_halves(x, count, generator) for x in (real, drawn)]
    x, unseen = (np.concatenate([half[i] for half in halves]).astype(np.float32) for i in range(2))
    y, mean, spread = np.repeat([1, 0], count), x.mean(0), x.std(0) + 1e-6
    try:
        manual_seed(seed)                                  # of the weights and of dropout
        model = _taught((x - mean) / spread, y, hidden, generator)
        return auc(predict(model, (unseen - mean) / spread)[:, 1], y == 1)
    finally:
        set_rng_state(before)


def _taught(x, y, hidden, generator):
    """A perceptron that learnt the labels y of the rows x."""
    model = MLP(x.shape[1:], 2, hidden, dropout=0.2, input_dropout=0)
    loader = data.DataLoader((x, y), min(BATCH, len(x)), shuffle=True, drop_last=True, generator=generator)
    epochs = -(-STEPS // len(loader))
    optimizer = optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs=epochs, steps_per_epoch=len(loader))
    for _ in range(epochs):
        for batch, label in loader:
            loss = F.cross_entropy(model(batch), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model


def _halves(x, count, generator):
    """Two parts of `count` examples each, chosen at random."""
    order = kernels.permutation(*generator.take(kernels.blocks(len(x), 2)), len(x))
    return x[order[:count]], x[order[count:2 * count]]
