"""The example of generative adversarial networks: on pictures, points and a table, left alone and killed."""


import numpy as np
import programs
import pytest
from programs import figures, flat, killed, read, run

from scratchnn import checkpoint
from scratchnn.models.gan import LOSSES

STEPS = 3 * 22                                                                  # of --smoke on digits
PICTURES = ("samples.png", "walk.gif", "progress.gif", "curves.png")
FEW = ("--steps", "6", "--batch-size", "32")


def example(out, *options):
    return programs.smoke("gan", out, *options)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("smoke")
    figures(run(example(out)))
    return out


def test_smoke(smoke):
    assert all((smoke / name).stat().st_size > 5000 for name in PICTURES)
    log = (smoke / "log.jsonl").read_text()
    assert log.count('"told_real"') == log.count('"spread"') == STEPS


def test_killed_at_any_moment_and_resumed(smoke, tmp_path):
    command = example(tmp_path, "--save-every", "0", "--resume")
    assert 0 < killed(command, tmp_path) < STEPS      # in the middle of the training
    run(command)
    for name in ("weights.safetensors", *PICTURES):
        assert (tmp_path / name).read_bytes() == (smoke / name).read_bytes(), name
    whole, continued = (flat(checkpoint.load(folder / "checkpoint.safetensors")["parts"]) for folder in (smoke, tmp_path))
    assert {name.split(".")[0] for name in whole} == {"model", "average", "loader", "to_tell", "to_make", "tell_schedule", "make_schedule",
                                                      "watch", "film"}
    assert whole == continued


def test_more_samples_of_a_trained_model(smoke, tmp_path):
    run([*example(tmp_path), "--sample", "30", "--from", str(smoke)])
    assert np.load(tmp_path / "samples.npy").shape == (30, 1, 8, 8) and (tmp_path / "samples.png").stat().st_size > 2000
    assert "No such file" in run([*example(tmp_path), "--sample", "30", "--from", str(tmp_path / "nothing")], code=2)


@pytest.mark.parametrize("options", [("--conditional", "--n-critic", "2", "--packing", "1"), ("--auxiliary", "--hidden", "32"),
                                     ("--channels", "8", "--hidden", "16", "--packing", "4", "--minibatch-deviation", "--spectral-norm")])
def test_kinds_of_networks_of_pictures(options, tmp_path):
    run(example(tmp_path / "out", *options, *FEW))
    assert all((tmp_path / "out" / name).stat().st_size > 2000 for name in PICTURES)
    run([*example(tmp_path / "more"), "--sample", "40", "--from", str(tmp_path / "out")])
    if options[0] in ("--conditional", "--auxiliary"):
        with np.load(tmp_path / "more" / "samples.npz") as drawn:
            assert drawn["x"].shape == (40, 1, 8, 8) and set(drawn["y"]) <= set("0123456789") and len(set(drawn["y"])) > 5


def test_modes_of_a_grid(tmp_path):
    found = figures(run(example(tmp_path, "--data", "grid", "--steps", "300")))
    assert found["modes"] > 3 and {"high_quality", "reverse_kl"} < set(found)                        # not collapsed
    assert '"modes"' in (tmp_path / "log.jsonl").read_text() and (tmp_path / "points.png").stat().st_size > 5000
    run([*example(tmp_path / "more"), "--sample", "70", "--from", str(tmp_path)])
    assert len(read(tmp_path / "more" / "samples.csv")) == 70


def test_points_of_a_chosen_class(tmp_path):
    assert "auc" in figures(run(example(tmp_path, "--data", "moons", "--conditional", "--steps", "300", "--validate", "1000")))
    run([*example(tmp_path / "more"), "--sample", "1000", "--from", str(tmp_path)])
    rows = read(tmp_path / "more" / "samples.csv")
    assert list(rows[0]) == ["x1", "x2", "class"] and len(rows) == 1000
    kinds = sorted({row["class"] for row in rows})
    lower, upper = (np.mean([float(row["x2"]) for row in rows if row["class"] == kind]) for kind in kinds)
    assert len(kinds) == 2 and upper > lower


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table with categories, missing cells, whole and other numbers, which depend on each other."""
    rng, path, lines = np.random.default_rng(0), tmp_path_factory.mktemp("made") / "made.csv", ["age,town,pay,sex"]
    for _ in range(1500):
        town = rng.choice(["Bern", "Rom"])
        age = rng.normal(30 if town == "Bern" else 60, 4)
        pay, sex = 50 * age + rng.normal(0, 100), rng.choice(["f", "f", "f", "m"])
        lines.append(f"{age:.0f},{town if rng.random() > 0.1 else ''},{f'{pay:.2f}' if rng.random() > 0.2 else ''},{sex}")
    path.write_text("\n".join(lines))
    return path


def test_a_table_gets_rows_like_its_own(made, tmp_path):
    found = figures(run(example(tmp_path / "out", "--data", f"csv:{made}?skip=sex", "--steps", "500", "--batch-size", "128")))
    assert {"column_difference", "correlation_difference", "auc"} < set(found) and found["column_difference"] < 0.5
    run([*example(tmp_path / "more"), "--sample", "2000", "--from", str(tmp_path / "out")])
    rows = read(tmp_path / "more" / "samples.csv")
    assert len(rows) == 2000 and list(rows[0]) == ["age", "town", "pay"] and {row["town"] for row in rows} <= {"Bern", "Rom", ""}
    age = np.array([float(row["age"]) for row in rows])
    assert (age == np.rint(age)).all() and age.std() > 3 and 0.02 < np.mean([not row["pay"] for row in rows]) < 0.6


@pytest.mark.parametrize("how", ["--conditional", "--auxiliary"])
def test_a_table_of_chosen_classes(made, tmp_path, how):
    assert "needs labels" in run(example(tmp_path / "out", "--data", f"csv:{made}", how), code=2)
    run(example(tmp_path / "out", "--data", f"csv:{made}?target=sex", how, *FEW))
    run([*example(tmp_path / "more"), "--sample", "1000", "--from", str(tmp_path / "out")])
    for folder in ("out", "more"):
        rows = read(tmp_path / folder / "samples.csv")
        assert list(rows[0]) == ["age", "town", "pay", "sex"]
        assert np.mean([row["sex"] == "f" for row in rows]) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("options", [*(("--loss", name) for name in (*LOSSES, "feature-matching")), ("--penalty", "none"),
                                     ("--loss", "wasserstein", "--clip", "0.01", "--n-critic", "5"),
                                     ("--loss", "wasserstein", "--penalty", "gradient", "--penalty-weight", "10", "--n-critic", "5")])
def test_losses_and_penalties(options, tmp_path):
    found = figures(run(example(tmp_path, "--data", "ring", *options, "--steps", "6", "--batch-size", "2000")))        # of 100,000 points
    assert np.isfinite(list(found.values())).all()
    state = checkpoint.load(tmp_path / "checkpoint.safetensors")["parts"]
    largest = max(np.abs(t.array).max() for name, t in state["model"].items() if name.startswith("discriminator"))
    assert (largest <= np.float32(0.01)) == ("--clip" in options)
    assert state["average"]["n_averaged"].item() == state["tell_schedule"]["last_epoch"] // (5 if "--n-critic" in options else 1)


@pytest.mark.parametrize("options, message", [
    (["--conditional", "--auxiliary"], "leave out one of both"), (["--packing", "2", "--conditional"], "a pack has no class"),
    (["--clip", "0.1"], "--loss wasserstein"), (["--latent", "0"], "1 or more"), (["--betas", "0.5", "1"], "0..0.9999"),
    (["--ema", "nan"], "must lie in"), (["--data", "moons", "--channels", "8"], "is for pictures"),
    (["--data", "moons", "--packing", "999999"], "fewer examples"),
    (["--validate", "99999"], "cannot hold out"), (["--loss", "best"], "invalid choice")])
def test_what_cannot_be_is_said_in_a_line(tmp_path, options, message):
    line = run(example(tmp_path, *options), code=2)
    assert line.startswith("error: ") and message in line
