"""The example of Deep Dream: with a network trained on the way, with one of the user's, and what it says when something does not fit."""

import json

import numpy as np
import programs
import pytest
from PIL import Image
from programs import figures, killed, run

import scratchnn as snn
from scratchnn import checkpoint
from scratchnn.data import digits
from scratchnn.models.classifier import MLP, save_classifier
from scratchnn.models.squeezenet import SqueezeNet

STEPS = 2 * 2                                                                   # of --smoke: octaves, steps in each


def example(out, *options):
    return programs.smoke("dream", out, *options)


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("smoke")
    found = figures(run(example(out)))
    assert found["objective"] > 0 and found["times_noise"] > 0
    return out


def test_smoke(smoke):
    photo, dream = (pixels(smoke / name) for name in ("photo.png", "dream.png"))
    assert photo.shape == dream.shape == (96, 82, 3) and (photo != dream).mean() > 0.5
    assert (smoke / "before-after.png").stat().st_size > 5000
    assert (smoke / "log.jsonl").read_text().count('"objective"') == STEPS


def test_killed_at_any_moment_and_resumed(smoke, tmp_path):
    command = example(tmp_path, "--save-every", "0", "--resume")
    killed(command, tmp_path / "network")                                       # while the network is trained
    killed(command, tmp_path)                                                   # while it dreams
    run(command)
    for name in ("dream.png", "network/weights.safetensors"):
        assert (tmp_path / name).read_bytes() == (smoke / name).read_bytes(), name


def test_with_a_network_trained_before(smoke, tmp_path, capsys):
    network = str(smoke / "network")
    assert "probability_after=" in run(example(tmp_path, "--network", network, "--class", "3", "--from-noise", "--flip", "--rotate", "3",
                                               "--normalise", "frequency", "--tv", "0.1", "--keep-colours", "--tile", "128", "--size",
                                               "160"))
    run(example(tmp_path, str(smoke / "photo.png"), "--network", network, "--layer", "features.2", "--guide", str(smoke / "dream.png"),
                "--zoom", "2"))
    with Image.open(tmp_path / "dream.gif") as film:
        assert film.n_frames == 2 and film.size == (82, 96)
    assert "10 classes: 0, 1, 2" in run(example(tmp_path, "--network", network, "--list-layers"))


def test_an_mlp_dreams_in_its_own_size(tmp_path):
    snn.manual_seed(0)
    save_classifier(tmp_path / "weights.safetensors", MLP((1, 8, 8), 10, [16]), digits())
    run(example(tmp_path / "out", "--network", str(tmp_path), "--layer", "layers.2", "--channel", "5"))
    assert pixels(tmp_path / "out" / "dream.png").shape == (8, 8, 3)


@pytest.mark.parametrize(("options", "message"), [
    (("--layer", "feature"), "no layer 'feature'; there are "),
    (("--layer", "features.0=much"), "the weight must be a number"),
    (("--layer", "features.0", "--channel", "999"), "has channels 0 to "),
    (("--layer", "features.0", "--unit", "1", "1"), "it is one of a --channel"),
    (("--channel", "1"), "they need one --layer"),
    (("--class", "ten"), "there is no such class; numbers go from 0 to 9"),
    (("--weights", "w.safetensors"), "they are for --network squeezenet"),
    (("--tile", "150"), "must be a multiple of 32"),
    (("--layer", "features.0", "--channel", "1", "--guide", "x.png"), "it is for all channels"),
])
def test_what_does_not_exist_is_said_with_what_does(smoke, tmp_path, options, message):
    assert message in run(example(tmp_path, "--network", str(smoke / "network"), *options), code=2)


def test_networks_and_photographs_that_are_none(smoke, tmp_path):
    assert "neither squeezenet, vgg16, googlenet nor a folder" in run(example(tmp_path, "--network", "resnet"), code=2)
    text = tmp_path / "photo.txt"
    text.write_text("no picture")
    network = ("--network", str(smoke / "network"))
    assert "photo.txt: not a picture" in run(example(tmp_path, str(text), *network), code=2)
    assert "nothing.png" in run(example(tmp_path, str(tmp_path / "nothing.png"), *network), code=2)


def test_weights_that_do_not_fit_and_photographs_too_small(tmp_path):
    snn.manual_seed(0)
    weights, tiny = tmp_path / "weights.safetensors", tmp_path / "tiny.png"
    (tmp_path / "imagenet-simple-labels.json").write_text(json.dumps([f"class {i}" for i in range(1000)]))
    Image.new("RGB", (9, 9)).save(tiny)
    command = [part for part in example(tmp_path, str(tiny), "--network", "squeezenet", "--weights", str(weights)) if part != "--smoke"]
    for classes, message in ((12, "in this model (1000,)"), (1000, "at least 21 pixels a side")):
        checkpoint.save_weights(weights, SqueezeNet(classes).state_dict())
        assert message in run(command, code=2)
