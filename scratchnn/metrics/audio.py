"""What a model of sounds is measured beside, and by: how well simple predictors do, what a listener of ours hears, which notes sound."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

import scratchnn.nn.functional as F
from scratchnn import optim
from scratchnn.data.audio import as_float, mu_law_decode, mu_law_edges, mu_law_encode, trimmed
from scratchnn.data.augment import Augment
from scratchnn.data.loader import DataLoader
from scratchnn.data.spectrum import log_mel, pitch
from scratchnn.models.classifier import ConvNet, predict

ORDER = 16                      # of the linear predictor
NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


# ---- what simple predictors need ------------------------------------------------------------------------------------------

class Levels(NamedTuple):
    """The classes of samples whose bits are counted.

    encode   takes (N,) int16 -> class numbers;  values   of a class, in -1..1;  edges   where one class ends and the next begins
    """

    encode: Callable[[np.ndarray], np.ndarray]
    values: np.ndarray
    edges: np.ndarray


def mu_law_levels(classes: int = 256) -> Levels:
    """Levels of mu-law."""
    return Levels(lambda take: mu_law_encode(as_float(take), classes), mu_law_decode(np.arange(classes), classes), mu_law_edges(classes))


def companded_levels(classes: int = 256) -> Levels:
    """Levels of mu-law whose values are what mu-law makes of samples: equally far apart."""
    values = 2 * np.arange(classes) / (classes - 1) - 1
    return Levels(mu_law_levels(classes).encode, values, (values[:-1] + values[1:]) / 2)


def pcm_levels() -> Levels:
    """Levels of 16 bits: all 65,536."""
    level = np.arange(-32768, 32768)
    return Levels(lambda take: take.astype(np.int64) + 32768, level / 32768, (level[:-1] + 0.5) / 32768)


def unigram_bits(train: Sequence[np.ndarray], test: Sequence[np.ndarray], levels: Levels, before: int) -> float:
    """Mean bits of the samples of test takes but the first `before` of each, by how often their classes occur in the training takes, each
    once more than it does."""
    counts = 1.0 + sum(np.bincount(levels.encode(take), minlength=len(levels.values)) for take in train)
    bits = -np.log2(counts / counts.sum())
    return float(bits[np.concatenate([levels.encode(take[before:]) for take in test])].mean())


class LinearPredictor:
    """The next sample as a weighted sum of the last 16, plus a normal residual, which is integrated over the classes: least squares over
    the training takes, and the deviation under which they are likeliest."""

    def __init__(self, train: Sequence[np.ndarray], levels: Levels):
        from scipy.optimize import minimize_scalar
        self.levels = levels
        products = sum(window.T @ window for window in map(self._windows, train))
        products[np.diag_indices(ORDER + 1)] *= 1 + 1e-9                       # of takes that repeat themselves
        self.weights = np.linalg.solve(products[:-1, :-1], products[:-1, -1])
        windows = np.concatenate([self._windows(take)[::1 + len(train) // 50] for take in train])
        ids, means = np.searchsorted(levels.edges, windows[:, -1]), windows[:, :-1] @ self.weights
        found = minimize_scalar(lambda log: self._nats(ids, means, np.exp(log)).mean(), bounds=(-12, 0), method="bounded")
        self.deviation = float(np.exp(found.x))

    def _windows(self, take):
        """(N - 16, 17) float64: each sample behind those before it, as their classes have them."""
        values = self.levels.values[self.levels.encode(take)].astype(np.float64)
        return np.lib.stride_tricks.sliding_window_view(values, ORDER + 1) if len(values) > ORDER else np.zeros((0, ORDER + 1))

    def _nats(self, ids, means, deviation):
        """-log p (P,) of classes: the mass of a normal distribution between the edges of each."""
        from scipy.special import log_ndtr
        edges = np.r_[-np.inf, self.levels.edges, np.inf]
        low, high = ((edges[i] - means) / deviation for i in (ids, ids + 1))
        low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)         # in the left tail, where logarithms are exact
        high, low = log_ndtr(high), log_ndtr(low)
        return -(high + np.log1p(-np.exp(np.minimum(low - high, -1e-15))))

    def bits(self, test: Sequence[np.ndarray], before: int) -> float:
        """Mean bits of the samples of test takes but the first `before` of each, at least 16."""
        windows = np.concatenate([self._windows(take)[before - ORDER:] for take in test])
        ids = np.concatenate([self.levels.encode(take[before:]) for take in test])
        return float(self._nats(ids, windows[:, :-1] @ self.weights, self.deviation).mean() / np.log(2))


def linear_bits(train: Sequence[np.ndarray], valid: Sequence[np.ndarray], test: Sequence[np.ndarray], scales: Sequence[Levels],
                before: int) -> float:
    """Mean bits of the samples of test takes by a linear predictor, on the one of the scales on which it does best on the takes to choose
    by."""
    predictors = [LinearPredictor(train, levels) for levels in scales]
    return min(predictors, key=lambda predictor: predictor.bits(valid, before)).bits(test, before)


# ---- a listener -----------------------------------------------------------------------------------------------------------

class Recogniser:
    """A small convolutional network that learns from spectrograms of real takes which class they are of, and says it of others.

    takes, labels (N,)   to learn from;  classes   how many there are;  rate   samples a second
    steps                of 32 takes, moved in time and pitch

    What is drawn comes from the global generator.
    """

    FRAMES, BANDS = 64, 40

    def __init__(self, takes: Sequence[np.ndarray], labels: np.ndarray, classes: int, rate: int, steps: int = 300):
        self.rate = rate
        self.hop = max(1, int(np.quantile([len(take) for take in takes], 0.98)) // self.FRAMES)
        self.model = ConvNet((1, self.BANDS, self.FRAMES), classes, (16, 32, 64), 0.3)
        loader = DataLoader((self.pictures(takes), np.asarray(labels, np.int64)), min(32, len(takes)), shuffle=True, drop_last=True,
                            transform=Augment(shift=0.08, scale=0.08))
        optimizer = optim.AdamW(self.model.parameters(), 4e-3, weight_decay=0.02)
        schedule = optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
        passes = itertools.chain.from_iterable(itertools.repeat(loader))
        for x, y in itertools.islice(passes, steps):
            loss = F.cross_entropy(self.model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    def pictures(self, takes: Sequence[np.ndarray]) -> np.ndarray:
        """Spectrograms (N, 1, bands, frames) in 0..1 without quiet ends, the loudest point of each at 1 and what is 70 dB below it at 0."""
        size = 1 << max(6, int(np.log2(0.04 * self.rate)))
        found = np.zeros((len(takes), 1, self.BANDS, self.FRAMES), np.float32)
        for picture, take in zip(found, takes, strict=True):
            if len(take):
                sound = trimmed(as_float(take), self.rate)[:self.hop * self.FRAMES]
                level = log_mel(sound, self.rate, self.BANDS, self.hop, size).T
                picture[0, :, :level.shape[1]] = (1 + (level - level.max()) / 8).clip(0, 1)
        return found

    def classes(self, takes: Sequence[np.ndarray]) -> np.ndarray:
        """The likeliest class (N,) of each take."""
        return predict(self.model, self.pictures(takes)).argmax(1)


# ---- notes ----------------------------------------------------------------------------------------------------------------

def pitch_histograms(takes: Sequence[np.ndarray], rate: int) -> dict[str, tuple[list[str], np.ndarray]]:
    """Which notes sound in takes, as labels and shares of the frames that have a pitch: pitch classes, and notes by name."""
    hertz = np.concatenate([pitch(as_float(take), rate) for take in takes])
    notes = np.rint(69 + 12 * np.log2(hertz[hertz > 0] / 440)).astype(int)
    classes = np.bincount(notes % 12, minlength=12)
    low, high = 36, 96
    named = np.bincount(notes.clip(low, high) - low, minlength=high - low + 1)
    return {"pitch class": (list(NOTES), _shares(classes)),
            "note": ([f"{NOTES[n % 12]}{n // 12 - 1}" for n in range(low, high + 1)], _shares(named))}


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """What two distributions have in common: 1 if they are the same, 0 if they never meet."""
    return float(np.minimum(a, b).sum())


def _shares(counts):
    return counts / max(counts.sum(), 1)
