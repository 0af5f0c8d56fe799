"""One call that judges drawn examples as fits their data: what every generative example reports."""

from __future__ import annotations

import numpy as np

from scratchnn.data import GRID_SIGMA, RING_SIGMA, DataSet, grid_centres, ring_centres
from scratchnn.metrics.digits import compare_digits, digit_features, digit_probabilities
from scratchnn.metrics.samples import classifier_score, column_differences, correlation_difference, frechet_distance, mode_coverage
from scratchnn.metrics.two_sample import two_sample_test

MIXTURES = {"grid": (grid_centres, GRID_SIGMA), "ring": (ring_centres, RING_SIGMA)}
DIGITS = ("mnist", "glyphs")


def judge(examples: DataSet, drawn: np.ndarray, teach: bool = True) -> dict[str, float]:
    """Figures for examples (N, *shape) drawn by a model of `examples`, beside its test part.

    mnist, glyphs     frechet, to as many test digits, and score, both by the frozen classifier of metrics/digits.py
    grid, ring        modes, high_quality (percent), reverse_kl (nats): metrics/samples.py
    stacked-mnist     modes of 1,000 and reverse_kl, by the same classifier on each channel
    tables            column_difference, the largest of a column; correlation_difference; auc
    all others        auc, of a classifier that was taught to tell drawn from real: 0.5 if it cannot; without `teach` it is left out
    """
    if examples.name in MIXTURES:
        centres, sigma = MIXTURES[examples.name]
        return mode_coverage(drawn, centres(), sigma)._asdict()
    if examples.name in DIGITS:
        count = min(len(drawn), len(examples.test_x))
        features = [digit_features(x[:count]) for x in (examples.test_x, drawn)]
        return {"frechet": frechet_distance(*features), "score": classifier_score(digit_probabilities(drawn))}
    if examples.name == "stacked-mnist":
        return stacked_modes(drawn)
    figures = {}
    if examples.table:
        cells = examples.table.inverse(drawn)
        drawn = examples.table.encode(list(cells.values()))                   # as a file would hold them: whole numbers, whole categories
        columns = column_differences(examples.table.inverse(examples.test_x), cells)
        figures = {"column_difference": max(columns.values()), "correlation_difference": correlation_difference(examples.test_x, drawn)}
    if teach and min(len(drawn), len(examples.test_x)) >= 16:
        figures["auc"] = two_sample_test(examples.test_x, drawn)
    return figures


def judge_reconstructions(examples: DataSet, x: np.ndarray, decoded: np.ndarray) -> dict[str, float]:
    """Figures for reconstructions (N, *shape) of examples x, which of mnist and glyphs are those of `compare_digits`; other data have none
    here: the result is empty."""
    return compare_digits(x, decoded) if examples.name in DIGITS else {}


def stacked_modes(drawn: np.ndarray) -> dict[str, float]:
    """Modes found of the 1,000 that three digits make, in pictures (N, 3, 28, 28) with one in each channel, and the divergence of their
    shares from equal ones in nats: the protocol of PacGAN (Lin, Khetan, Fanti & Oh 2018) with the classifier of metrics/digits.py."""
    digits = digit_probabilities(drawn.reshape(-1, 1, *drawn.shape[2:])).argmax(1).reshape(-1, 3)
    share = np.bincount(digits @ [100, 10, 1], minlength=1000) / len(drawn)
    found = share[share > 0]
    return {"modes": len(found), "reverse_kl": float((found * np.log(1000 * found)).sum())}
