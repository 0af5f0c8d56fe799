"""Augment: what it promises of each change, and of repeatability."""

import numpy as np
import pytest

from kernels import cpu, jit
from kernels.shapes import Distortion
from scratchnn import data
from scratchnn.data.augment import DRAWINGS, PHOTOGRAPHS, Augment, augmentation
from scratchnn.random import Generator


def spots(N, size=33, place=16):
    """Pictures with one bright spot of 3 x 3 pixels around (place, place)."""
    x = np.zeros((N, 1, size, size), np.float32)
    x[:, :, place - 1:place + 2, place - 1:place + 2] = 1
    return x


def middles(x):
    """(N, 2): the centre of mass of each picture, from the picture's centre."""
    i, j = np.indices(x.shape[2:]) - (np.array(x.shape[2:]) - 1).reshape(2, 1, 1) / 2
    mass = x[:, 0].sum((1, 2))
    return np.stack([(x[:, 0] * i).sum((1, 2)) / mass, (x[:, 0] * j).sum((1, 2)) / mass], 1)


def test_nothing_changes_nothing():
    x = np.random.default_rng(0).random((3, 2, 9, 7), np.float32)
    np.testing.assert_array_equal(Augment()(x, Generator(1)), x)


def test_shift_is_uniform_up_to_its_limit():
    moved = middles(Augment(shift=0.25)(spots(500), Generator(0)))
    limit = 33 / 4
    assert np.abs(moved).max() <= limit + 1e-3 and np.abs(moved).max() > 0.95 * limit
    assert np.abs(moved.mean(0)).max() < 0.7 and moved.std(0) == pytest.approx(limit / np.sqrt(3), rel=0.1)
    assert abs(np.corrcoef(moved.T)[0, 1]) < 0.15


def test_rotation_scale_and_shear():
    x = spots(400, place=26)                                                                     # 10 pixels down and to the right
    at = middles(Augment(rotate=30)(x, Generator(0)))
    np.testing.assert_allclose(np.hypot(*at.T), np.hypot(10, 10), atol=0.1)
    angle = np.degrees(np.arctan2(at[:, 0], at[:, 1])) - 45
    assert np.abs(angle).max() <= 30.5 and np.abs(angle).max() > 28 and angle.std() == pytest.approx(30 / np.sqrt(3), rel=0.1)
    at = middles(Augment(scale=0.5)(spots(400, place=24), Generator(0)))                         # 8 pixels
    np.testing.assert_allclose(at[:, 0], at[:, 1], atol=0.05)
    assert at.min() == pytest.approx(8 / 1.5, abs=0.3) and at.max() == pytest.approx(12, abs=0.3)
    at = middles(Augment(shear=20)(x, Generator(0)))
    np.testing.assert_allclose(at[:, 0], 10, atol=0.05)
    assert np.abs(at[:, 1] - 10).max() == pytest.approx(10 * np.tan(np.radians(20)), rel=0.05)


def test_elastic_moves_a_point_by_its_standard_deviation_and_neighbours_alike():
    at = middles(Augment(elastic=0.06, spacing=0.3)(spots(800), Generator(0)))
    assert at.std(0) == pytest.approx(0.06 * 33, rel=0.12)
    two = spots(800) + spots(800, place=19)                                                      # three pixels apart: they stay together
    together = middles(Augment(elastic=0.06, spacing=0.9)(two, Generator(0)))
    assert together.std() == pytest.approx(0.06 * 33, rel=0.15)                                  # 1.4 if each went its own way


def test_flip_brightness_and_crop():
    x = np.random.default_rng(0).random((400, 3, 6, 8), np.float32)
    flipped = (Augment(flip=0.3)(x, Generator(0)) == x[..., ::-1]).all((1, 2, 3))
    same = (Augment(flip=0.3)(x, Generator(0)) == x).all((1, 2, 3))
    assert (flipped ^ same).all() and flipped.mean() == pytest.approx(0.3, abs=0.07)
    light = Augment(brightness=0.4)(x, Generator(0)) / x
    assert light.min() >= 0.6 - 1e-5 and light.max() <= 1.4 + 1e-5 and Augment(brightness=0.9)(x, Generator(0)).max() == 1
    darker = light[(light < 1).all((1, 2, 3))]
    np.testing.assert_allclose(darker, np.broadcast_to(darker[:, :1, :1, :1], darker.shape), rtol=1e-5)   # one factor a picture
    i, j = np.indices((60, 60), np.float32)
    pieces = Augment(crop=(10, 20))(np.broadcast_to(np.stack([i, j]), (300, 2, 60, 60)), Generator(0))
    assert pieces.shape == (300, 2, 10, 20)
    np.testing.assert_allclose(np.diff(pieces[:, 0], axis=1), 1, rtol=1e-4)
    assert 0 <= pieces[:, 0, 0].min() < 1 and 49 < pieces[:, 0, 0].max() <= 50 and 39 < pieces[:, 1, 0, 0].max() <= 40


def test_paper_comes_into_view_where_there_is_paper():
    x = np.full((50, 1, 12, 12), 1, np.float32)
    np.testing.assert_array_equal(Augment(shift=0.3, rotate=20, elastic=0.1, fill=1)(x, Generator(0)), x)
    assert Augment(shift=0.3)(x, Generator(0)).min() == 0


def test_a_share_keeps_its_pixels():
    x = np.random.default_rng(0).random((500, 1, 12, 12), np.float32)
    y = Augment(shift=0.2, rotate=20, elastic=0.1, brightness=0.3, share=0.6)(x, Generator(0))
    assert (y == x).all((1, 2, 3)).mean() == pytest.approx(0.4, abs=0.07)


def test_a_picture_depends_on_its_seed_and_number_alone():
    x = np.random.default_rng(0).random((6, 1, 20, 20), np.float32)
    whole = DRAWINGS(x, Generator(5))
    generator = Generator(5)
    np.testing.assert_array_equal(whole, np.concatenate([DRAWINGS(x[:2], generator), DRAWINGS(x[2:], generator)]))
    assert not np.allclose(whole, DRAWINGS(x, Generator(6)))
    same = DRAWINGS(np.repeat(x[:1], 6, 0), Generator(5))
    assert len({picture.tobytes() for picture in same}) == 6 and same[0].tobytes() == whole[0].tobytes()


def test_the_same_bits_on_any_number_of_threads():
    x, before, found = np.random.default_rng(0).random((50, 3, 32, 32), np.float32), jit.get_num_threads(), set()
    try:
        for n in (1, 2, 3):
            jit.set_num_threads(n)
            found.add(Augment(0.1, 10, 0.1, 5, 0.03, 0.3, 0.5, 0.2, 0.9, crop=(28, 28))(x, Generator(1)).tobytes())
    finally:
        jit.set_num_threads(before)
    assert len(found) == 1


def test_in_a_loader():
    x, y = np.random.default_rng(0).random((10, 1, 8, 8), np.float32), np.arange(10)
    loader = data.DataLoader((x, y), 4, transform=DRAWINGS, generator=Generator(3))
    first, second = ([(a.numpy(), b.numpy()) for a, b in loader] for _ in range(2))
    assert [b.tolist() for _, b in first] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert not np.allclose(first[0][0], second[0][0])                                            # each epoch anew
    again = data.DataLoader((x, y), 4, transform=DRAWINGS, generator=Generator(3), num_workers=2)
    assert all(np.array_equal(a, b.numpy()) for (a, _), (b, _) in zip(first, again, strict=True))


def test_settings_as_text():
    assert augmentation("none") is None and augmentation("photographs") is PHOTOGRAPHS
    assert augmentation("shift=0.1,rotate=10,crop=24x20") == Augment(shift=0.1, rotate=10, crop=(24, 20))
    for text, message in {"shif=1": "'shif' is not known; choose none, drawings", "shift=a": "shift cannot be 'a'",
                          "flip=2": "flip is 0 to 1, got 2", "shift=nan": "any finite number, got nan", "crop=3": "crop is",
                          "shift=inf": "any finite number, got inf", "fill=1,brightness=0.1": "leave out fill"}.items():
        with pytest.raises(ValueError, match=message):
            augmentation(text)


def test_pictures_that_do_not_fit():
    x = np.zeros((2, 1, 4, 5), np.float32)
    for message, call in {r"piece of 5 x 5 pixels .* 4 x 5": lambda: cpu.augment(x, 0, 0, Distortion(), (5, 5)),
                          r"\(N, C, H, W\), got \(4, 5\)": lambda: cpu.augment(x[0, 0], 0, 0, Distortion())}.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="float32 or float64, got uint8"):
        cpu.augment(x.astype(np.uint8), 0, 0, Distortion())
