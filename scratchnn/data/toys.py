"""Points in the plane, to see with one's own eyes what a network has learned: two labelled curves, and two sets of Gaussians whose
modes a generator has to find; and a table whose columns depend on each other."""

from __future__ import annotations

import numpy as np

from scratchnn.data.dataset import DataSet
from scratchnn.data.generated import generated
from scratchnn.data.table import Categorical, Numeric, Table
from scratchnn.ops.sampling import multinomial, rand, randn
from scratchnn.random import Generator
from scratchnn.tensor import Tensor

MOONS_SIGMA, ROLL_SIGMA, RING_SIGMA, GRID_SIGMA = 0.1, 0.03, 0.01, 0.05      # standard deviation along each axis


def moons() -> DataSet:
    """Two interleaved half circles of radius 1, as in scikit-learn's make_moons with noise 0.1: 10,000 points and 2,000 to test.

    The label is the half circle: the upper one around (0, 0), or the lower one around (1, 0.5).
    """
    def draw(labels, generator):
        angle = np.float32(np.pi) * rand(len(labels), generator=generator).numpy()
        arc, upper = np.stack([np.cos(angle), np.sin(angle)], axis=1), (labels == 0)[:, None]
        return np.where(upper, arc, np.float32([1, 0.5]) - arc) + _noise(MOONS_SIGMA, labels, generator)

    return generated("moons", ("upper", "lower"), draw, 10_000, 2_000)


def swiss_roll() -> DataSet:
    """A spiral in the plane, (t cos t, t sin t) / 10, t uniform in 1.5 pi..4.5 pi, with noise: 10,000 points and 2,000 to test.

    The usual cut through the three-dimensional roll (Sohl-Dickstein et al. 2015, figure 1). The label is the third of t's range: half
    a turn each, which straight lines do not tell apart.
    """
    def draw(labels, generator):
        t = np.float32(np.pi) * (1.5 + labels.astype(np.float32) + rand(len(labels), generator=generator).numpy())
        return t[:, None] / 10 * np.stack([np.cos(t), np.sin(t)], axis=1) + _noise(ROLL_SIGMA, labels, generator)

    return generated("swiss-roll", ("inner", "middle", "outer"), draw, 10_000, 2_000)


def ring() -> DataSet:
    """8 Gaussians of standard deviation 0.01 evenly on a circle of radius 1: 100,000 points and 10,000 to test. The label is the mode.

    The "2D-ring" of the papers that count modes (Srivastava et al. 2017, VEEGAN; Lin, Khetan, Fanti & Oh 2018, PacGAN, section 4.1).
    """
    return _gaussians("ring", ring_centres(), RING_SIGMA)


def grid() -> DataSet:
    """25 Gaussians of standard deviation 0.05 on a square grid of spacing 2: 100,000 points and 10,000 to test. The label is the mode.

    The "2D-grid" of the papers that `ring` names.
    """
    return _gaussians("grid", grid_centres(), GRID_SIGMA)


# For each district of `flats`: its share, rooms and price of a square metre as a rule, and how many of its houses are old.
DISTRICTS = {"centre": (0.35, 2.0, 19.0, 0.7), "harbour": (0.2, 3.0, 15.0, 0.1), "hill": (0.15, 4.5, 17.0, 0.5),
             "suburb": (0.3, 3.5, 11.0, 0.2)}


def flats() -> DataSet:
    """A made table of flats to let, 8,000 rows and 2,000 to test: names, whole numbers, missing cells, and nothing by itself.

    district, balcony   names; rooms, area in square metres, year of building, rent a month: whole numbers, the rent missing in a tenth
    There are more rooms on the hill and fewer in the centre, whose houses are old or new and seldom in between; the area follows the
    rooms, the rent the area, the district and the balcony, which is rare in old houses. No labels.
    """
    train, test = (_draw_flats(count, Generator(seed)) for seed, count in enumerate((8_000, 2_000)))
    columns = [Categorical(name, tuple(sorted(set(values)))) if isinstance(values, list) else
               Numeric(name, float(np.nanmean(values)), float(np.nanstd(values)), True, bool(np.isnan(values).any()))
               for name, values in train.items()]
    table = Table(tuple(columns))
    x, test_x = (table.encode(list(part.values())) for part in (train, test))
    return DataSet("flats", x, None, test_x, None, (), x.shape[1:], table)


def _draw_flats(count, generator):
    """Columns of so many rows: lists of names and float64 arrays (count,)."""
    kind = multinomial(Tensor(np.array([v[0] for v in DISTRICTS.values()])), count, True, generator=generator).numpy()
    usual_rooms, price, old = np.array([v[1:] for v in DISTRICTS.values()])[kind].T
    noise, chance = randn(5, count, generator=generator).numpy(), rand(3, count, generator=generator).numpy()
    rooms = np.clip(np.rint(usual_rooms + noise[0]), 1, 7)
    area = np.rint(23 * rooms * np.exp(0.16 * noise[1]))
    year = np.rint(np.where(chance[0] < old, 1905 + 9 * noise[2], 1988 + 13 * noise[3]))
    balcony = chance[1] < 1 / (1 + np.exp((1955 - year) / 20))
    rent = np.rint(area * price * (1 + 0.15 * balcony) * np.exp(0.1 * noise[4]))
    return {"district": [list(DISTRICTS)[k] for k in kind], "rooms": rooms, "area": area, "year": year,
            "balcony": ["yes" if has else "no" for has in balcony], "rent": np.where(chance[2] < 0.1, np.nan, rent)}


def ring_centres() -> np.ndarray:
    """The modes of `ring` in the order of its labels, counterclockwise from (1, 0): (8, 2) float32."""
    angle = 2 * np.pi * np.arange(8) / 8
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def grid_centres() -> np.ndarray:
    """The modes of `grid` in the order of its labels, from (-4, -4) to (4, 4), the second coordinate first: (25, 2) float32."""
    line = np.arange(-4, 5, 2)
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)


def _gaussians(name, centres, sigma):
    """100,000 points, each around one of the centres (K, 2)."""
    classes = tuple(f"({x:.2g}, {y:.2g})" for x, y in np.round(centres, 2) + 0.0)        # + 0.0: no "-0"
    return generated(name, classes, lambda labels, generator: centres[labels] + _noise(sigma, labels, generator), 100_000, 10_000)


def _noise(sigma, labels, generator):
    """Normal in the plane for each label: (N, 2) float32."""
    return np.float32(sigma) * randn(len(labels), 2, generator=generator).numpy()
