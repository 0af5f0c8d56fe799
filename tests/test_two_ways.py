"""The example that sees the same data in two ways: left alone and killed."""

import numpy as np
import programs
import pytest
from programs import figures, killed, run

from scratchnn.models.classifier import load_classifier
from scratchnn.models.vae import load_vae

STEPS = 2 * 15                                                                  # of --smoke


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("smoke")
    return out, run(programs.smoke("two_ways", out))


def test_smoke(smoke):
    out, line = smoke
    found = figures(line)
    assert found["told_error"] < 50 and found["drawn_error"] < 90                # by chance 90
    assert all((out / name).stat().st_size > 5000 for name in ("samples.png", "strange.png", "curves.png"))


def test_killed_at_any_moment_and_resumed(smoke, tmp_path):
    command = programs.smoke("two_ways", tmp_path, "--save-every", "0", "--resume")
    assert 0 < killed(command, tmp_path, within=0) < STEPS
    assert run(command).split(" seconds")[0] == smoke[1].split(" seconds")[0]
    for name in ("teller.safetensors", "drawer.safetensors"):
        assert (tmp_path / name).read_bytes() == (smoke[0] / name).read_bytes(), name


def test_points(tmp_path):
    found = figures(run(programs.smoke("two_ways", tmp_path, "--data", "moons", "--epochs", "4", "--batch-size", "500")))
    assert found["told_error"] < 20 and found["drawn_error"] < 30 and found["strange_auc_drawn"] > 0.5
    maps = np.load(tmp_path / "plane.npz")
    assert maps["told"].shape == maps["drawn"].shape == (120, 120, 2) and np.allclose(maps["drawn"].sum(-1), 1, atol=1e-5)
    assert maps["evidence"][0, 0] < maps["evidence"].max() - 3                   # a corner far from all points
    assert load_classifier(tmp_path / "teller.safetensors").classes == list(load_vae(tmp_path / "drawer.safetensors").classes)


def test_data_without_classes_are_refused(tmp_path):
    assert "needs labels of at least two classes" in run(programs.smoke("two_ways", tmp_path, "--data", "csv:" + table(tmp_path)), code=2)


def table(folder):
    path = folder / "table.csv"
    path.write_text("a,b\n" + "".join(f"{i},{i * i}\n" for i in range(30)))
    return str(path)
