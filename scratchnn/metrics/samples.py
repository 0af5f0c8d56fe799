"""How good drawn examples are: points beside the centres they should be drawn from, features of pictures, columns of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# ---- points ---------------------------------------------------------------------------------------------------------


class ModeCoverage(NamedTuple):
    """modes: centres with one good sample at least; high_quality: percent of the samples that are good; reverse_kl: nats."""

    modes: int
    high_quality: float
    reverse_kl: float


def mode_coverage(samples: np.ndarray, centres: np.ndarray, sigma: float) -> ModeCoverage:
    """Samples (N, D) beside the centres (K, D) of a mixture of equally probable Gaussians of standard deviation `sigma`.

    A sample is good within 3 sigma of the nearest centre. The divergence is sum q log (K q), q being the shares of the samples that are
    nearest to each centre: that of the samples' modes from the true ones. Of samples of the mixture itself, 98.9 % are good in two
    dimensions. Protocol: Lin, Khetan, Fanti & Oh 2018, "PacGAN: the power of two samples in generative adversarial networks".
    Raises ValueError if there is no sample or one that is not finite.
    """
    if samples.ndim != 2 or centres.ndim != 2 or samples.shape[1] != centres.shape[1] or not len(samples):
        raise ValueError(f"mode_coverage takes samples (N, D) and centres (K, D), got {samples.shape} and {centres.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("mode_coverage: a sample is not finite")
    distance = np.linalg.norm(samples[:, None].astype(np.float64) - centres, axis=2)
    nearest, good = distance.argmin(1), distance.min(1) <= 3 * sigma
    q = np.bincount(nearest, minlength=len(centres)) / len(samples)
    present = q[q > 0]
    return ModeCoverage(len(np.unique(nearest[good])), 100 * float(good.mean()), float((present * np.log(len(centres) * present)).sum()))


# ---- features of pictures -------------------------------------------------------------------------------------------

def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The Frechet distance between normal distributions with the mean and covariance of two sets of features (N, D) and (M, D):

        |mean_a - mean_b|^2 + trace(C_a + C_b - 2 (C_a C_b)^(1/2))                                        Dowson & Landau 1982

    On features of a network it says how far drawn pictures are from real ones (Heusel et al. 2017, "GANs trained by a two time-scale update
    rule converge to a local Nash equilibrium"); with features of another network than theirs, here `digit_features`, its values are
    comparable among themselves alone. Too large in expectation, by less the more examples: compare sets of one size.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"frechet_distance takes two sets of features (N, D) of at least two examples, got {a.shape} and {b.shape}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # The eigenvalues of C_a C_b are those of the symmetric R C_b R, R = C_a^(1/2), which are real and not negative.
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    mixed = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * mixed)


def classifier_score(probabilities: np.ndarray) -> float:
    """exp(mean of KL(p(class | x) || p(class))) of probabilities (N, classes): near the number of classes if each picture is clearly of one
    class, and all classes are drawn equally often; 1 at worst. Salimans et al. 2016, "Improved techniques for training GANs", section 4."""
    p = probabilities.astype(np.float64).clip(1e-12)
    return float(np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()))


# ---- tables ---------------------------------------------------------------------------------------------------------

def column_differences(real: Mapping[str, np.ndarray], drawn: Mapping[str, np.ndarray]) -> dict[str, float]:
    """For each column the largest difference between the two shares of rows: of numbers, up to any value (the statistic of Kolmogorov
    and Smirnov); of texts, over all sets of values (total variation). 0: alike, 1: nothing in common. Missing numbers are NaN and count
    as a value below all others."""
    if set(real) != set(drawn):
        raise ValueError(f"column_differences: the columns {', '.join(real)} and {', '.join(drawn)} are not the same")
    return {name: _difference(np.asarray(real[name]), np.asarray(drawn[name])) for name in real}


def _difference(a, b):
    if a.dtype.kind in "fiub" and b.dtype.kind in "fiub":
        a, b = (np.sort(np.where(np.isnan(x), -np.inf, x)) for x in (a.astype(np.float64), b.astype(np.float64)))
        at = np.concatenate([a, b])
        return float(np.abs(np.searchsorted(a, at, "right") / len(a) - np.searchsorted(b, at, "right") / len(b)).max())
    values, places = np.unique(np.concatenate([a.astype(str), b.astype(str)]), return_inverse=True)
    shares = [np.bincount(part, minlength=len(values)) / len(part) for part in (places[:len(a)], places[len(a):])]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def correlation_difference(real: np.ndarray, drawn: np.ndarray) -> float:
    """The largest |difference| between the correlations of two columns, in rows (N, D) and (M, D) of numbers, for instance as a Table
    encodes them. Columns that never change are left out."""
    changing = (real.std(0) > 0) & (drawn.std(0) > 0)
    if changing.sum() < 2:
        return 0.0
    return float(np.abs(np.corrcoef(real[:, changing], rowvar=False) - np.corrcoef(drawn[:, changing], rowvar=False)).max())


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: the probability that an example with `positive` True has the higher score, ties counting half."""
    from scipy.stats import rankdata
    positive = np.asarray(positive, bool)
    count = int(positive.sum())
    if not 0 < count < len(positive):
        raise ValueError(f"auc needs examples of both kinds, got {count} positive ones of {len(positive)}")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))
