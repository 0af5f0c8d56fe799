"""Digits of typefaces: their form, their variety and their repetition."""

import time

import numpy as np
import pytest

from kernels import jit
from scratchnn import data
from scratchnn.data.glyphs import BOX, FONTS, SIDE, _distance_maps, glyphs


@pytest.fixture(scope="module")
def digits():
    return glyphs(3000, 500)


def test_form(digits):
    assert digits.name == "glyphs" and digits.shape == (1, 28, 28) and digits.classes == tuple("0123456789")
    for x, y, count in ((digits.train_x, digits.train_y, 3000), (digits.test_x, digits.test_y, 500)):
        assert x.shape == (count, 1, 28, 28) and x.dtype == np.float32 and y.dtype == np.int64
        assert x.min() == 0 and x.max() == 1 and ((x > 0) & (x < 1)).mean() > 0.05             # grey edges
        np.testing.assert_array_equal(np.bincount(y), count // 10)
        assert abs(np.corrcoef(y[:-1], y[1:])[0, 1]) < 0.1
    assert 0.1 < digits.train_x.mean() < 0.18 and 0.28 < digits.train_x.std() < 0.35            # MNIST: 0.13 and 0.31


def test_digits_are_where_mnist_has_them(digits):
    x = digits.train_x[:, 0]
    ink = x.sum((1, 2))
    assert ink.min() > 15
    at = np.arange(SIDE) - (SIDE - 1) / 2
    centres = np.stack([x.sum(2) @ at, x.sum(1) @ at], 1) / ink[:, None]
    assert np.abs(centres.mean(0)).max() < 0.2 and np.abs(centres).max() < 4.5 and centres.std() > 0.5
    heights = (x.max(2) > 0.5).sum(1)
    assert BOX - 5 < heights.mean() < BOX and heights.max() <= SIDE
    edge = np.concatenate([x[:, 0], x[:, -1], x[:, :, 0], x[:, :, -1]], 1)
    assert (edge > 0.5).any(1).mean() < 0.03                                                     # hardly any digit is cut


def test_the_same_pictures_every_time_and_on_any_number_of_threads(digits):
    before = jit.get_num_threads()
    try:
        for threads in (1, 2):
            jit.set_num_threads(threads)
            again = glyphs(3000, 500)
            for name in ("train_x", "train_y", "test_x", "test_y"):
                assert getattr(again, name).tobytes() == getattr(digits, name).tobytes()
    finally:
        jit.set_num_threads(before)


def test_no_picture_occurs_twice_and_every_typeface_differs(digits):
    both = np.concatenate([digits.train_x, digits.test_x]).reshape(3500, -1)
    assert len(np.unique(both, axis=0)) == 3500
    maps = _distance_maps()
    assert maps.shape == (len(FONTS), 10, 1, 68, 68) and maps.min() == 0 and maps[:, :, :, [0, -1]].max() == 0 == maps[..., [0, -1]].max()
    assert len(np.unique(maps.reshape(len(FONTS) * 10, -1), axis=0)) == 10 * len(FONTS)


def test_digits_can_be_told_apart(digits):
    """By the nearest of 3,000 pictures, a method with nothing to tune: far better than chance, but no trivial task."""
    train, test = digits.train_x.reshape(3000, -1), digits.test_x.reshape(500, -1)
    nearest = ((train ** 2).sum(1) - 2 * test @ train.T).argmin(1)
    assert 0.05 < (digits.train_y[nearest] != digits.test_y).mean() < 0.3


def test_seventy_thousand_in_seconds():
    glyphs(10, 10)                                                   # kernels compiled, typefaces drawn
    began = time.process_time()
    digits = data.load("glyphs")
    assert time.process_time() - began < 20                          # about 3 s of two cores
    assert len(digits.train_x) == 60_000 and len(digits.test_x) == 10_000
    np.testing.assert_array_equal(np.bincount(digits.train_y), 6000)


def test_missing_fonts_are_named(tmp_path, monkeypatch):
    import matplotlib
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"fonts DejaVuSans-Bold\.ttf, .*install matplotlib by pip"):
        _distance_maps.__wrapped__()


@pytest.mark.parametrize("count", [1, 7, 1001])
def test_other_counts(count):
    digits = glyphs(count, 3)
    assert len(digits.train_x) == count and np.ptp(np.bincount(digits.train_y, minlength=10)) <= 1
    with pytest.raises(ValueError, match=f"glyphs: both parts need at least one example, got train={count} and test=0"):
        glyphs(count, 0)
