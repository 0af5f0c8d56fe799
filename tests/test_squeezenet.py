"""SqueezeNet: its layers against PyTorch's, its gradient, its files, fine-tuning; where they are, ImageNet's weights on photographs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scratchnn as snn
from kernels import config
from scratchnn import checkpoint, nn, optim
from scratchnn.data import DataError
from scratchnn.models.classifier import predict
from scratchnn.models.imagenet import MEAN, STD, class_names, likeliest, picture
from scratchnn.models.squeezenet import SqueezeNet

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
WEIGHTS = config.DATA / "squeezenet" / "squeezenet1_0.safetensors"
# (class, probability) of the centre of each photograph, as they were found with the published network.
PHOTOS = {"chelsea.png": [(285, 0.628), (282, 0.230)], "coffee.png": [(967, 0.973)], "rocket.jpg": [(733, 0.527), (657, 0.193)]}


def torch_logits(weights, x):
    """The network in torch's functions, for pictures that may need a gradient."""
    torch = pytest.importorskip("torch")
    F, w = torch.nn.functional, {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}

    def conv(x, name, **options):
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options).relu()

    mean, std = (torch.tensor(values).to(x.dtype)[:, None, None] for values in (MEAN, STD))
    x = conv((x - mean) / std, "features.0", stride=2)
    for i in range(2, 13):
        if i in (2, 6, 11):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        else:
            x = conv(x, f"features.{i}.squeeze")
            x = torch.cat([conv(x, f"features.{i}.expand1x1"), conv(x, f"features.{i}.expand3x3", padding=1)], 1)
    return conv(x, "classifier.1").mean((2, 3))


def random_net(classes=7):
    snn.manual_seed(0)
    return SqueezeNet(classes).eval()


@pytest.fixture
def names(tmp_path):
    (tmp_path / "names.json").write_text(json.dumps([f"class {i}" for i in range(1000)]))
    return class_names(tmp_path / "names.json")


@pytest.mark.parametrize("size", [(63, 50), (32, 32)])
def test_values_and_gradients_are_torchs(size):
    torch = pytest.importorskip("torch")
    net, numbers = random_net(), np.random.default_rng(0).random((2, 3, *size))
    net.double()
    x, y = snn.tensor(numbers, requires_grad=True), torch.tensor(numbers, requires_grad=True)
    ours, theirs = net(x), torch_logits(net.state_dict(), y)
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-9, atol=1e-12)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=0, atol=1e-9 * np.abs(y.grad.numpy()).max())
    with snn.no_grad():
        assert np.array_equal(net(x).numpy(), ours.detach().numpy())


def test_any_layer_can_be_looked_at():
    net, seen = random_net(), {}
    x = snn.rand(1, 3, 63, 63)
    plain = net(x).detach().numpy()
    layers = ["features.0", "features.1", "features.5", "features.5.squeeze_activation", "features.9.expand3x3_activation", "classifier.2"]
    for name in layers:
        net.get_submodule(name).register_forward_hook(lambda module, args, output, name=name: seen.update({name: output}))
    assert np.array_equal(net(x).detach().numpy(), plain)
    assert [seen[name].shape[1] for name in layers] == [96, 96, 256, 32, 192, 7]
    assert seen["features.0"].detach().numpy().min() < 0 <= seen["features.1"].detach().numpy().min()


def test_fine_tuning_changes_the_last_layer_alone(tmp_path):
    checkpoint.save_weights(tmp_path / "w.safetensors", SqueezeNet().state_dict())
    net = SqueezeNet.pretrained(tmp_path / "w.safetensors", classes=3)
    trained = [name for name, p in net.named_parameters() if p.requires_grad]
    assert trained == ["classifier.1.weight", "classifier.1.bias"] and net.classifier[1].weight.shape == (3, 512, 1, 1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x, y = snn.rand(6, 3, 48, 48), snn.tensor([0, 1, 2, 0, 1, 2])
    adam = optim.Adam(net.parameters(), 0.01)
    for _ in range(3):
        adam.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        adam.step()
    changed = [name for name, value in net.state_dict().items() if not np.array_equal(value.array, before[name].array)]
    assert changed == trained


def test_files_that_hold_something_else(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(FileNotFoundError, match=r"w\.safetensors is not there\. PyTorch's weights make it"):
        SqueezeNet.pretrained(path)
    checkpoint.save_weights(path, nn.Linear(2, 3).state_dict())
    with pytest.raises(checkpoint.CheckpointError, match=r"(?s)w\.safetensors: not the weights of SqueezeNet, .*_0: .*Missing key"):
        SqueezeNet.pretrained(path)
    checkpoint.save_weights(path, SqueezeNet(5).state_dict())
    with pytest.raises(checkpoint.CheckpointError, match=r"(?s)size mismatch for classifier\.1\.weight"):
        SqueezeNet.pretrained(path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(checkpoint.CheckpointError, match=r"w\.safetensors: truncated, corrupt"):
        SqueezeNet.pretrained(path)
    names = tmp_path / "names.json"
    for content, fault in ((b"[", "not a JSON file"), (b"\xff", "not a JSON file"), (b'["cat"]', "not a list of 1000 names")):
        names.write_bytes(content)
        with pytest.raises(DataError, match=rf"names\.json: {fault}"):
            class_names(names)


def test_the_centre_of_a_picture(tmp_path):
    from PIL import Image
    pixels = np.zeros((5, 12, 3), np.uint8)
    pixels[:, 3:8] = 51, 102, 255                                # whole pixels, the odd one left out at the right
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "high.png")
    for name in ("wide.png", "high.png"):
        found = picture(tmp_path / name, 8)
        assert found.dtype == np.float32 and np.allclose(found, np.array([0.2, 0.4, 1])[:, None, None]) and found.shape == (3, 8, 8)


def test_the_likeliest(names):
    assert likeliest(np.eye(1000)[3] + np.eye(1000)[7] / 2, names, 2) == [("class 3", 1.0), ("class 7", 0.5)]
    assert len(likeliest(np.full(1000, 0.001), names)) == 5


if WEIGHTS.exists():
    @pytest.mark.parametrize("photo", PHOTOS)
    def test_photographs(photo):
        torch = pytest.importorskip("torch")
        net, x = SqueezeNet.pretrained(), picture(config.DATA / "photos" / photo, 227)[None]
        found = predict(net, x)[0]
        expected = torch_logits(net.state_dict(), torch.from_numpy(x)).softmax(1).numpy()[0]
        assert np.abs(found - expected).max() < 1e-4
        for number, probability in PHOTOS[photo]:
            assert abs(found[number] - probability) < 0.001

    def test_names_of_the_likeliest():
        found = predict(SqueezeNet.pretrained(), picture(config.DATA / "photos" / "coffee.png", 227)[None])[0]
        assert [name for name, _ in likeliest(found, class_names())][:2] == ["espresso", "soup bowl"]


def test_the_example_learns_new_classes_and_says_what_it_sees(tmp_path):
    from PIL import Image
    checkpoint.save_weights(tmp_path / "w.safetensors", random_net(1000).state_dict())
    rng = np.random.default_rng(0)
    for name, tint in (("red", (255, 40, 40)), ("blue", (40, 40, 255))):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(30):
            Image.fromarray((rng.random((40, 50, 1)) * tint).astype(np.uint8)).save(tmp_path / "own" / name / f"{i}.png")
    run = [sys.executable, str(ROOT / "examples" / "classify.py"), "--out", str(tmp_path / "out")]
    learn = ["--weights", str(tmp_path / "w.safetensors"), "--data", f"folder:{tmp_path / 'own'}?size=48", "--epochs", "10",
             "--batch-size", "8", "--augment", "none"]
    text = subprocess.run([*run, *learn], capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout
    assert float(re.search(r"^result: test_error=([\d.]+)", text, re.M)[1]) < 20
    seen = [str(tmp_path / "own" / name / "0.png") for name in ("red", "blue")]
    text = subprocess.run([*run, "--predict", *seen], capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout.splitlines()
    assert [text[1].split()[-1], text[4].split()[-1]] == ["red", "blue"] and (tmp_path / "out" / "predicted.png").stat().st_size > 5000


if WEIGHTS.exists():
    def test_the_example_names_a_photograph(tmp_path):
        command = [sys.executable, str(ROOT / "examples" / "classify.py"), "--weights", str(WEIGHTS), "--out", str(tmp_path), "--predict",
                   str(config.DATA / "photos" / "coffee.png")]
        text = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout.splitlines()
        assert text[1].split() == ["97.3", "%", "espresso"] and len(text) == 6
