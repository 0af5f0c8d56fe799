"""The example of variational autoencoders: on pictures, points and a table, left alone and killed."""

import re

import numpy as np
import programs
import pytest
from programs import killed, read, run

STEPS = 5 * 15                                                                  # of --smoke
AVERAGE = ("--average", "0.9")                                                   # nearly from the beginning, so that a stop falls into it
PICTURES = ("samples.png", "reconstructions.png", "interpolation.png", "traversal.png", "walk.gif", "progress.gif", "curves.png")


def example(out, *options):
    return programs.smoke("vae", out, *options)


def nll(line):
    result = re.fullmatch(r"result: nll=(\S+) active_units=(\S+) (?:\S+=\S+ )*seconds=\S+", line)
    assert result, line
    return float(result[1])


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("smoke")
    return out, run(example(out, *AVERAGE))


def test_smoke(smoke):
    out, line = smoke
    assert 24 < nll(line) < 28                                                  # independent pixels: 28.3
    assert all((out / name).stat().st_size > 5000 for name in PICTURES)
    assert (out / "log.jsonl").read_text().count('"test_bound"') == 5


def test_killed_at_any_moment_and_resumed(smoke, tmp_path):
    command = example(tmp_path, *AVERAGE, "--save-every", "0", "--resume")
    assert 0 < killed(command, tmp_path) < STEPS      # in the middle of the training
    assert run(command).split(" seconds")[0] == smoke[1].split(" seconds")[0]
    for name in ("weights.safetensors", *PICTURES):
        assert (tmp_path / name).read_bytes() == (smoke[0] / name).read_bytes(), name


def test_more_samples_of_a_trained_model(smoke, tmp_path):
    run([*example(tmp_path), "--sample", "30", "--from", str(smoke[0])])
    assert np.load(tmp_path / "samples.npy").shape == (30, 1, 8, 8) and (tmp_path / "samples.png").stat().st_size > 5000
    assert "No such file" in run([*example(tmp_path), "--sample", "30", "--from", str(tmp_path / "nothing")], code=2)


def test_convolutions_on_condition_of_the_class_with_importance_weights(tmp_path):
    line = run(example(tmp_path, "--channels", "8", "16", "--conditional", "--k", "3", "--latent", "2", "--epochs", "40"))
    assert nll(line) < 28.5
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("manifold-0.png", "manifold-9.png", "latents.png", *PICTURES))


def test_points(tmp_path):
    nll(run(example(tmp_path, "--data", "moons", "--latent", "2", "--warm-up", "2", "--free-bits", "0.1")))
    rows = read(tmp_path / "samples.csv")
    assert list(rows[0]) == ["x1", "x2"] and len(rows) > 100 and (tmp_path / "points.png").stat().st_size > 5000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table with categories, missing cells, whole and other numbers, which depend on each other."""
    rng, path, lines = np.random.default_rng(0), tmp_path_factory.mktemp("made") / "made.csv", ["age,town,pay,sex"]
    for _ in range(1500):
        town = rng.choice(["Bern", "Rom"])
        age = rng.normal(30 if town == "Bern" else 60, 4)
        pay, sex = 50 * age + rng.normal(0, 100), rng.choice(["f", "f", "f", "m"])
        lines.append(f"{age:.0f},{town if rng.random() > 0.1 else ''},{pay:.2f},{sex}")
    path.write_text("\n".join(lines))
    return path


def test_a_table_gets_rows_like_its_own(made, tmp_path):
    command = example(tmp_path / "out", "--data", f"csv:{made}?skip=sex")
    line = run([option for option in command if option != "--smoke"])             # the default settings
    assert float(re.search(r" auc=(\S+) ", line)[1]) < 0.65                      # a classifier hardly tells them from real ones
    run([*example(tmp_path / "more"), "--sample", "2000", "--from", str(tmp_path / "out")])
    rows = read(tmp_path / "more" / "samples.csv")
    assert len(rows) == 2000 and list(rows[0]) == ["age", "town", "pay"] and {row["town"] for row in rows} == {"Bern", "Rom", ""}
    age, pay = (np.array([float(row[name]) for row in rows]) for name in ("age", "pay"))
    rome = np.array([row["town"] == "Rom" for row in rows])
    assert (age == np.rint(age)).all() and np.corrcoef(age, pay)[0, 1] > 0.9
    assert age[rome].mean() == pytest.approx(60, abs=5) and 0.03 < np.mean([not row["town"] for row in rows]) < 0.2


def test_a_table_on_condition_of_a_column(made, tmp_path):
    run(example(tmp_path / "out", "--data", f"csv:{made}?target=town&skip=sex", "--conditional"), code=2)     # missing in some rows
    run(example(tmp_path / "out", "--data", f"csv:{made}?target=sex", "--conditional", "--epochs", "2"))
    run([*example(tmp_path / "more"), "--sample", "1000", "--from", str(tmp_path / "out")])
    for folder in ("out", "more"):
        rows = read(tmp_path / folder / "samples.csv")
        assert list(rows[0]) == ["age", "town", "pay", "sex"]
        assert np.mean([row["sex"] == "f" for row in rows]) == pytest.approx(0.75, abs=0.05)


def test_pictures_and_rows_of_arrays_on_condition_of_their_labels(tmp_path):
    rng = np.random.default_rng(0)
    y = np.array(["odd", "even", "none"])[rng.integers(0, 3, 200)]
    for shape in ((8, 8), (3,)):
        np.savez(tmp_path / "made.npz", x=rng.random((200, *shape), np.float32), y=y)
        run(example(tmp_path / "out", "--data", f"npy:{tmp_path / 'made.npz'}", "--conditional", "--epochs", "2"))
        run([*example(tmp_path / "more"), "--sample", "20", "--from", str(tmp_path / "out")])
    assert {row["class"] for row in read(tmp_path / "more" / "samples.csv")} == {"odd", "even", "none"}
    with np.load(tmp_path / "more" / "samples.npz") as drawn:
        assert drawn["x"].shape == (20, 1, 8, 8) and set(drawn["y"]) == {"odd", "even", "none"}


@pytest.mark.parametrize("options, message", [
    (["--k", "5", "--beta", "2"], "usual bound"), (["--average", "2"], "0..1"), (["--latent", "0"], "1 or more"),
    (["--data", "moons", "--channels", "8"], "is for pictures"), (["--data", "moons", "--likelihood", "Bernoulli"], "0 to 1")])
def test_what_cannot_be_is_said_in_a_line(tmp_path, options, message):
    assert message in run(example(tmp_path, *options), code=2)
