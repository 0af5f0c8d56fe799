"""Points in the plane: their geometry, their labels and their repetition."""

import numpy as np
import pytest

from scratchnn import data
from scratchnn.data.toys import MOONS_SIGMA, ROLL_SIGMA

SIZES = {"moons": (10_000, 2_000, 2), "swiss-roll": (10_000, 2_000, 3), "ring": (100_000, 10_000, 8), "grid": (100_000, 10_000, 25)}


def parts(points):
    return [(points.train_x, points.train_y), (points.test_x, points.test_y)]


@pytest.mark.parametrize("name", SIZES)
def test_sizes_labels_and_repetition(name):
    points, again = data.load(name), data.load(name)
    train, test, classes = SIZES[name]
    assert points.name == name and points.shape == (2,) and len(points.train_y) == train and len(points.test_y) == test
    assert len(points.classes) == len(set(points.classes)) == classes
    for (x, y), (x2, y2) in zip(parts(points), parts(again), strict=True):
        assert x.dtype == np.float32 and y.dtype == np.int64 and x.tobytes() == x2.tobytes() and y.tobytes() == y2.tobytes()
        counts = np.bincount(y, minlength=classes)
        assert len(counts) == classes and counts.max() - counts.min() <= 1
        assert abs(np.corrcoef(y[:-1], y[1:])[0, 1]) < 0.1 and len(np.unique(y[:50])) > 1               # in random order
    assert len(np.unique(np.concatenate([points.train_x, points.test_x]), axis=0)) > 0.99 * (train + test)


@pytest.mark.parametrize(("name", "centres", "sigma"), [("ring", data.ring_centres(), data.RING_SIGMA),
                                                        ("grid", data.grid_centres(), data.GRID_SIGMA)])
def test_modes(name, centres, sigma):
    points = data.load(name)
    for x, y in parts(points):
        off = x - centres[y]
        assert np.abs(off).max() < 6 * sigma and off.std(0) == pytest.approx(sigma, rel=0.03)
        assert abs(np.corrcoef(off.T)[0, 1]) < 0.04 and np.abs(off.mean(0)).max() < 0.05 * sigma
        nearest = np.linalg.norm(x[:2000, None] - centres, axis=2).argmin(1)
        np.testing.assert_array_equal(nearest, y[:2000])
    centre = centres[3]
    assert points.classes[3] == f"({centre[0]:.2g}, {centre[1]:.2g})" and not any("-0," in c or "-0)" in c for c in points.classes)


def test_centres():
    ring, grid = data.ring_centres(), data.grid_centres()
    assert ring.shape == (8, 2) and grid.shape == (25, 2) and ring.dtype == grid.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(ring, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(ring - np.roll(ring, 1, 0), axis=1), 2 * np.sin(np.pi / 8), rtol=1e-5)
    assert {tuple(c) for c in grid.tolist()} == {(x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)}
    assert grid[1].tolist() == [-4, -2]


def test_moons_are_half_circles():
    for x, y in parts(data.moons()):
        for label, centre, side in ((0, (0, 0), 1), (1, (1, 0.5), -1)):
            off = x[y == label] - np.float32(centre)
            radius = np.linalg.norm(off, axis=1)
            assert radius.mean() == pytest.approx(1, abs=0.02) and radius.std() == pytest.approx(MOONS_SIGMA, rel=0.1)
            assert (side * off[:, 1] > -5 * MOONS_SIGMA).all() and off[:, 0].min() < -0.9 and off[:, 0].max() > 0.9


def test_the_swiss_roll_is_a_spiral():
    for x, y in parts(data.swiss_roll()):
        t = 10 * np.linalg.norm(x, axis=1)                                            # about the angle
        assert 1.5 * np.pi - 2 < t.min() < 1.5 * np.pi + 0.5 and 4.5 * np.pi - 0.5 < t.max() < 4.5 * np.pi + 2
        angle = np.arctan2(x[:, 1], x[:, 0])
        difference = (t - angle + np.pi) % (2 * np.pi) - np.pi                         # across the spiral: mostly noise of the radius
        assert np.abs(difference).mean() < 10 * ROLL_SIGMA
        middle = np.pi * (2 + np.arange(3))
        assert (np.abs(t[:, None] - middle).argmin(1) == y).mean() > 0.9


def test_a_table_whose_columns_depend_on_each_other():
    flats, again = data.load("flats"), data.load("flats")
    assert flats.train_x.tobytes() == again.train_x.tobytes() and len(flats.train_x) == 8_000 and len(flats.test_x) == 2_000
    assert not flats.classes and flats.train_y is None
    for x in (flats.train_x, flats.test_x):
        cells = flats.table.inverse(x)
        assert list(cells) == ["district", "rooms", "area", "year", "balcony", "rent"]
        assert set(cells["rooms"]) == {1, 2, 3, 4, 5, 6, 7} and set(cells["balcony"]) == {"no", "yes"}
        assert 0.08 < np.isnan(cells["rent"]).mean() < 0.12 and cells["area"].min() > 10 and (cells["area"] % 1 == 0).all()
        assert np.corrcoef(cells["rooms"], cells["area"])[0, 1] > 0.8
        rooms, year = ([cells[name][cells["district"] == kind].mean() for kind in ("centre", "hill")] for name in ("rooms", "year"))
        assert rooms[0] + 2 < rooms[1] and year[0] + 10 < year[1]
        assert cells["year"][cells["balcony"] == "no"].mean() + 50 < cells["year"][cells["balcony"] == "yes"].mean()
