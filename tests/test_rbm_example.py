"""The example of restricted Boltzmann machines: on pictures, points and a table, left alone and killed."""

import csv
import re

import numpy as np
import programs
import pytest
from programs import killed, read, run

from scratchnn import data
from scratchnn.models.rbm import RBM, Binary, Columns, Gaussian, Numbers, Softmax, visible_for
from scratchnn.random import Generator

STEPS = 10 * 15                                                                 # of --smoke
PICTURES = ("filters.png", "chains.png", "chains.gif", "fantasies.png", "completed.png", "curves.png")


def example(out, *options):
    return programs.smoke("rbm", out, *options)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("smoke")
    return out, run(example(out))


def test_smoke(smoke):
    out, line = smoke
    result = re.fullmatch(r"result: log_p=(\S+) seconds=\S+", line)
    assert result and -27.5 < float(result[1]) < -25                           # independent pixels: -28.3
    assert all((out / name).stat().st_size > 5000 for name in PICTURES)
    assert (out / "log.jsonl").read_text().count('"free_energy_gap"') == 10


def test_pictures_that_move(smoke):
    from PIL import Image
    with Image.open(smoke[0] / "chains.gif") as image:
        assert image.is_animated and image.n_frames > 20 and image.width > 300


def test_killed_at_any_moment_and_resumed(smoke, tmp_path):
    command = example(tmp_path, "--save-every", "0", "--resume")
    assert 0 < killed(command, tmp_path, within=0.3) < STEPS      # in the middle of the training
    assert run(command).split(" seconds")[0] == smoke[1].split(" seconds")[0]
    for name in ("weights.safetensors", *PICTURES):
        assert (tmp_path / name).read_bytes() == (smoke[0] / name).read_bytes(), name


@pytest.mark.parametrize("method", ["cd", "pt"])
def test_other_ways_to_learn(tmp_path, method):
    """Every option once; with more than 25 units log Z is estimated."""
    line = run(example(tmp_path, "--method", method, "--hidden", "30", "--epochs", "4", "--k", "1", "2", "--lr", "0.1", "0.05",
                       "--momentum", "0.5", "0.9", "--weight-decay", "1e-4", "--centering",
                       "--sparsity", "0.3", "--average", "0", "--validate", "100",
                       "--ais-steps", "300", "--ais-chains", "20", "--raise-examples", "10"))
    numbers = re.fullmatch(r"result: log_p=(\S+) log_p_standard_error=(\S+) log_p_raise=(\S+) seconds=\S+", line)
    assert numbers and float(numbers[1]) < -20 and 0 < float(numbers[2]) < 0.5


def test_points(tmp_path):
    line = run(example(tmp_path, "--data", "moons", "--epochs", "4", "--lr", "0.1"))
    assert float(re.match(r"result: log_p=(\S+)", line)[1]) > -2.84            # of two independent normal numbers
    samples = read(tmp_path / "samples.csv")
    assert list(samples[0]) == ["x1", "x2"] and len(samples) == 1000
    assert abs(np.mean([float(row["x1"]) for row in samples]) - 0.5) < 0.3 and (tmp_path / "points.png").stat().st_size > 5000
    assert [row["completed"] for row in read(tmp_path / "completed.csv")[:3]] == ["x1", "x2", "x1"]


# ---- tables -------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two kinds of people: the old earn about 5000 and live in Rome, the young about 1000 and live in Oslo or Bern."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("table") / "people.csv"
    rows = []
    for _ in range(600):
        old = rng.random() < 0.5
        row = [rng.integers(60, 80) if old else rng.integers(20, 40), f"{rng.normal(5000 if old else 1000, 200):.2f}",
               "Rome" if old else rng.choice(["Oslo", "Bern"])]
        if rng.random() < 0.2:
            row[rng.integers(3)] = ""
        rows.append(row)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["age", "income", "city"], *rows])
    return path


def test_a_table_with_missing_cells(table, tmp_path):
    run(example(tmp_path, "--data", f"csv:{table}", "--epochs", "60", "--batch-size", "20", "--lr", "0.05", "0"))
    samples = read(tmp_path / "samples.csv")
    assert list(samples[0]) == ["age", "income", "city"] and len(samples) == 1000
    assert {row["city"] for row in samples} == {"Rome", "Oslo", "Bern"} and all(row["age"].lstrip("-").isdigit() for row in samples)
    agree = np.mean([(float(row["income"]) > 3000) == (row["city"] == "Rome") for row in samples])
    completed = read(tmp_path / "completed.csv")
    given = [[row[name] == "" for name in ("age", "income", "city")].count(True) for row in read(table)]
    assert len(completed) == sum(given) and all(row["completed"] in ("age", "income", "city") for row in completed)
    assert not any(value == "" for row in completed for value in row.values())
    right = np.mean([(float(row["age"]) > 50) == (row["city"] == "Rome") for row in completed])
    assert agree > 0.9 and right > 0.9


def test_visible_units(table):
    examples = data.load(f"csv:{table}")
    columns = visible_for(examples)
    assert isinstance(columns, Columns) and [(type(u), u.size) for u in columns.units] == [(Gaussian, 2), (Softmax, 3)]
    v = columns.encode(examples.train_x)
    assert v.shape == (len(examples.train_x), 5) and np.isnan(v).any() and not np.isnan(columns.start).any()
    known = ~np.isnan(v)
    filled = columns.states(v, RBM(columns.units, 4), Generator(0))
    assert np.array_equal(filled[known], v[known]) and not np.isnan(filled).any() and np.all(filled[:, 2:].sum(1) == 1)
    truth, back = examples.table.inverse(examples.train_x), columns.cells(filled)
    whole = known.all(1)
    assert all(np.array_equal(truth[name][whole], back[name][whole]) for name in truth)

    moons = data.load("moons")
    numbers = visible_for(moons)
    v = numbers.encode(moons.train_x)
    assert isinstance(numbers, Numbers) and np.allclose(v.std(0), 1, atol=1e-3) and np.allclose(numbers.decode(v), moons.train_x, atol=1e-5)
    assert isinstance(visible_for(data.load("digits")), Binary)


def refused(out, *options):
    line = run(example(out, *options), code=2)
    assert line.startswith("error: ")
    return line


def test_mistakes_of_users_take_a_line(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(50, 1, 4, 4)))
    (tmp_path / "holes.csv").write_text("a,b\n" + "1.5,\n,2\n2.5,\n,3\n" * 20)
    (tmp_path / "constant.csv").write_text("a,b\n" + "1.5,7\n2.5,7\n" * 20)
    assert "pictures take values from 0 to 1" in refused(tmp_path / "out", "--data", f"npy:{tmp_path}/x.npy")
    assert "rows in which nothing is missing" in refused(tmp_path / "out", "--data", f"csv:{tmp_path}/holes.csv")
    assert "column 'b' never changes" in refused(tmp_path / "out", "--data", f"csv:{tmp_path}/constant.csv")
    assert "--average: must lie in 0..1, got 2" in refused(tmp_path / "out", "--average", "2")
    assert "one or two values" in refused(tmp_path / "out", "--lr", "1", "2", "3")
    assert "argument --hidden: must be 1 or more, got 0" in refused(tmp_path / "out", "--hidden", "0")
    assert not (tmp_path / "out").exists()


def test_rows_of_zeros_and_ones(tmp_path):
    """Bernoulli units whose examples are no pictures end in tables."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", (rng.random((200, 6)) < rng.random((200, 1))).astype(np.float32))
    run(example(tmp_path / "out", "--data", f"npy:{tmp_path}/x.npy"))
    rows = np.loadtxt(tmp_path / "out" / "samples.csv", delimiter=",", skiprows=1)
    assert rows.shape[1] == 6 and np.isin(rows, (0, 1)).all()
