"""What drawn examples are judged by, against what is known of distributions that are."""

import numpy as np
import pytest
from scipy import linalg, stats

from scratchnn import data, metrics
from scratchnn.metrics.digits import digit_classifier, digit_features, digit_probabilities
from scratchnn.metrics.judge import judge
from scratchnn.metrics.samples import auc, classifier_score, column_differences, correlation_difference, frechet_distance, mode_coverage
from scratchnn.metrics.two_sample import two_sample_test
from scratchnn.random import get_rng_state


def test_modes_of_the_true_mixture():
    rng, centres = np.random.default_rng(0), data.grid_centres()
    samples = centres[rng.integers(0, 25, 100_000)] + data.GRID_SIGMA * rng.standard_normal((100_000, 2))
    found = mode_coverage(samples, centres, data.GRID_SIGMA)
    assert found.modes == 25 and found.high_quality == pytest.approx(98.9, abs=0.15) and found.reverse_kl < 1e-3


def test_modes_that_are_missing_and_samples_between_them():
    centres = data.ring_centres()
    samples = np.concatenate([np.repeat(centres[:2], 50, 0), 0.5 * (centres[2:3] + centres[3:4])])
    found = mode_coverage(samples, centres, data.RING_SIGMA)
    q = np.array([50, 50, 1]) / 101
    assert found.modes == 2 and found.high_quality == pytest.approx(100 * 100 / 101)
    assert found.reverse_kl == pytest.approx((q * np.log(8 * q)).sum())
    for bad, message in ((np.full((1, 2), np.nan), "not finite"), (np.zeros((0, 2)), "samples"), (np.zeros((3, 1)), r"\(3, 1\)")):
        with pytest.raises(ValueError, match=message):
            mode_coverage(bad, centres, 0.1)


def test_frechet_distance_is_its_formula():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((200, 6)) @ rng.standard_normal((6, 6)), 2 + rng.standard_normal((300, 6)) @ rng.standard_normal((6, 6))
    first, second = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * linalg.sqrtm(first @ second).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8) == frechet_distance(b, a)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(a, a + 3) == pytest.approx(6 * 9)
    flat = np.column_stack([a[:, 0], np.zeros(200)])                                  # a covariance without full rank
    assert frechet_distance(flat, 2 * flat) == pytest.approx((flat.std(0, ddof=1) ** 2).sum() + flat.mean(0) @ flat.mean(0))
    with pytest.raises(ValueError, match="at least two"):
        frechet_distance(a[:1], b)


def test_classifier_score():
    assert classifier_score(np.eye(10)[np.arange(100) % 10]) == pytest.approx(10, rel=1e-6)
    assert classifier_score(np.full((50, 10), 0.1)) == pytest.approx(1) == classifier_score(np.eye(10)[[3] * 20])


def test_columns():
    rng = np.random.default_rng(0)
    real = {"age": rng.normal(40, 10, 500), "job": rng.choice(["smith", "baker"], 500, p=[0.7, 0.3])}
    drawn = {"age": rng.normal(45, 10, 300), "job": np.array(["smith"] * 150 + ["cook"] * 150)}
    found = column_differences(real, drawn)
    assert found["age"] == pytest.approx(stats.ks_2samp(real["age"], drawn["age"]).statistic)
    assert found["job"] == pytest.approx((abs((real["job"] == "smith").mean() - 0.5) + (real["job"] == "baker").mean() + 0.5) / 2)
    assert column_differences(real, real) == {"age": 0, "job": 0}
    missing = {"a": np.array([1, np.nan, 2, np.nan])}
    assert column_differences(missing, {"a": np.array([1.0, 2.0])})["a"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="age, job and age"):
        column_differences(real, {"age": real["age"]})


def test_correlations():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5000, 2))
    assert correlation_difference(a, np.column_stack([a[:, 0], a[:, 0] + a[:, 1]])) == pytest.approx(np.sqrt(0.5), abs=0.03)
    assert correlation_difference(np.column_stack([a, np.ones(5000)]), np.column_stack([a, np.ones(5000)])) == 0


def test_auc():
    assert auc([1, 2, 3, 4], [0, 0, 1, 1]) == 1 and auc([1, 1, 1, 1], [0, 1, 0, 1]) == 0.5 and auc([3, 1, 2], [0, 1, 1]) == 0
    with pytest.raises(ValueError, match="both kinds"):
        auc([1, 2], [1, 1])


def test_a_classifier_tells_what_differs_and_nothing_else():
    rng, before = np.random.default_rng(0), get_rng_state()
    a, b = rng.standard_normal((2, 2000, 3))
    same = two_sample_test(a, b)
    assert abs(same - 0.5) < 4 * 0.41 / np.sqrt(1000) and get_rng_state() == before and two_sample_test(a, b) == same
    b[:, 2] = b[:, 0] * np.sign(b[:, 1]) * 0.7 + b[:, 2] * 0.7                           # each column and pair as before
    assert correlation_difference(a, b) < 0.1 and two_sample_test(a, b) > 0.6
    with pytest.raises(ValueError, match="at least 16"):
        two_sample_test(a[:10], b)


def test_the_frozen_classifier_knows_digits():
    model = digit_classifier()
    assert not any(p.requires_grad for p in model.parameters()) and not model.training
    glyphs = data.glyphs(10, 400)                                                        # typefaces, which it has never seen
    p, features = digit_probabilities(glyphs.test_x), digit_features(glyphs.test_x, batch_size=150)
    assert metrics.accuracy(p.argmax(1), glyphs.test_y) > 90 and features.shape == (400, 64)
    upside_down = digit_features(glyphs.test_x[:, :, ::-1, ::-1].copy())
    assert frechet_distance(features[:200], upside_down[200:]) > 2 * frechet_distance(features[:200], features[200:])
    with pytest.raises(ValueError, match=r"\(N, 1, 28, 28\), got \(3, 1, 8, 8\)"):
        digit_features(np.zeros((3, 1, 8, 8)))


def test_judging_as_fits_the_data(tmp_path):
    rng, grid = np.random.default_rng(0), data.grid()
    assert judge(grid, grid.test_x)["modes"] == 25
    moons = data.moons()
    assert set(judge(moons, moons.train_x[:400])) == {"auc"} and judge(moons, moons.train_x[:400] + 1)["auc"] > 0.9
    glyphs = data.glyphs(300, 300)
    drawn = judge(glyphs, glyphs.train_x)
    assert set(drawn) == {"frechet", "score"} and drawn["score"] > 5
    assert judge(glyphs, rng.random((300, 1, 28, 28)))["frechet"] > 3 * drawn["frechet"]
    data.write_csv(tmp_path / "a.csv", {"x": rng.normal(5, 2, 300).round(2), "kind": rng.choice(["a", "b", "c"], 300)})
    table = data.load(f"csv:{tmp_path / 'a.csv'}")
    figures = judge(table, table.train_x)
    assert set(figures) == {"column_difference", "correlation_difference", "auc"} and figures["column_difference"] < 0.25
    assert set(judge(data.digits(), data.digits().train_x)) == {"auc"}
