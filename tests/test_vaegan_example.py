"""The example of the VAE-GAN: on pictures, points and a table, left alone and killed."""


import numpy as np
import programs
import pytest
from programs import killed, read, run

from scratchnn import checkpoint

STEPS = 3 * 22                                                                  # of --smoke
PICTURES = ("samples.png", "reconstructions.png", "interpolation.png", "attributes.png", "walk.gif", "progress.gif", "curves.png")


def example(out, *options, name="vae_gan"):
    return programs.smoke(name, out, *options)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("smoke")
    run(example(out))
    return out


def test_smoke(smoke):
    assert all((smoke / name).stat().st_size > 5000 for name in PICTURES)
    assert (smoke / "log.jsonl").read_text().count('"similarity"') == 3


def test_killed_at_any_moment_and_resumed(smoke, tmp_path):
    command = example(tmp_path, "--save-every", "0", "--resume")
    assert 0 < killed(command, tmp_path) < STEPS      # in the middle of the training
    run(command)
    for name in ("weights.safetensors", *PICTURES):
        assert (tmp_path / name).read_bytes() == (smoke / name).read_bytes(), name
    mine, other = (checkpoint.load(folder / "checkpoint.safetensors")["parts"] for folder in (tmp_path, smoke))
    for network in ("encoder", "generator", "discriminator"):      # the weights that are trained, and their averages
        for weights in (lambda parts: parts["model"], lambda parts: parts["average"]):
            names = [name for name in weights(mine) if f"{network}." in name]
            assert names and all(np.array_equal(weights(mine)[name], weights(other)[name]) for name in names)


def test_more_samples_of_a_trained_model(smoke, tmp_path):
    run([*example(tmp_path), "--sample", "30", "--from", str(smoke)])
    assert np.load(tmp_path / "samples.npy").shape == (30, 1, 8, 8) and (tmp_path / "samples.png").stat().st_size > 5000
    assert "No such file" in run([*example(tmp_path), "--sample", "30", "--from", str(tmp_path / "nothing")], code=2)


def test_beside_a_vae_by_linear_layers_without_published_choices(tmp_path):
    run(example(tmp_path / "vae", "--epochs", "1", name="vae"))
    run(example(tmp_path / "out", "--hidden", "32", "--beside", str(tmp_path / "vae"), "--ablate", "joint", "no-reconstructions",
                "--game", "minimax", "--layer", "1", "--epochs", "2", "--validate", "200"))
    assert all((tmp_path / "out" / name).stat().st_size > 5000 for name in PICTURES)


def test_points(tmp_path):
    assert " auc=" in run(example(tmp_path, "--data", "moons", "--epochs", "2"))
    assert list(read(tmp_path / "samples.csv")[0]) == ["x1", "x2"] and (tmp_path / "points.png").stat().st_size > 5000


def test_a_table_gets_rows_and_attributes(tmp_path):
    rng, lines = np.random.default_rng(0), ["age,town,pay"]
    for _ in range(400):
        town = rng.choice(["Bern", "Rom"])
        age = rng.normal(30 if town == "Bern" else 60, 4)
        lines.append(f"{age:.0f},{town if rng.random() > 0.1 else ''},{50 * age + rng.normal(0, 100):.2f}")
    (tmp_path / "made.csv").write_text("\n".join(lines))
    data = ("--data", f"csv:{tmp_path / 'made.csv'}")
    assert " correlation_difference=" in run(example(tmp_path / "out", *data, "--epochs", "60", "--ema", "0.99"))
    rows = read(tmp_path / "out" / "attributes.csv")
    assert list(rows[0]) == ["row", "change", "age", "town", "pay"]
    age = {change: np.mean([float(row["age"]) for row in rows if row["change"] == change]) for change in ("", "+town=Rom", "-town=Rom")}
    assert age["-town=Rom"] < age[""] < age["+town=Rom"]                         # in Rome people are older, so the direction says
    run([*example(tmp_path / "more", *data), "--sample", "50", "--from", str(tmp_path / "out")])
    rows = read(tmp_path / "more" / "samples.csv")
    assert len(rows) == 50 and {row["town"] for row in rows} <= {"Bern", "Rom", ""}


@pytest.mark.parametrize("options, message", [
    (["--layer", "3"], "layer is 1 to 2"), (["--data", "moons", "--channels", "8"], "is for pictures"), (["--ablate", "all"], "pixels"),
    (["--beside", "nowhere"], "No such file"), (["--gamma", "-1"], "0 or more"), (["--from", "nowhere", "--sample", "0"], "1 or more")])
def test_what_cannot_be_is_said_in_a_line(tmp_path, options, message):
    assert message in run(example(tmp_path, *options), code=2)


def test_a_vae_of_other_pictures_is_refused(smoke, tmp_path):
    np.save(tmp_path / "small.npy", np.random.default_rng(0).random((100, 1, 6, 6), np.float32))
    run(example(tmp_path / "vae", "--data", f"npy:{tmp_path}/small.npy", "--epochs", "1", "--samples", "1", name="vae"))
    assert "--beside takes a VAE of pictures" in run(example(tmp_path, "--beside", str(tmp_path / "vae")), code=2)
