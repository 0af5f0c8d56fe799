"""The classifier: its metrics, its pictures, and its example, left alone and killed."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from programs import ENVIRONMENT, ROOT, killed

from scratchnn import checkpoint, data, metrics, nn, pictures
from scratchnn.models.classifier import MLP, ConvNet, load_classifier, predict, save_classifier
from scratchnn.run import EarlyStopping

STEPS = 6 * 23                                                                  # of --smoke
PICTURES = ("curves.png", "confusion.png", "mistakes.png", "reasons.png", "filters.png")


def test_metrics():
    predicted, target = [0, 1, 2, 2, 1], [0, 1, 1, 2, 0]
    assert metrics.error(predicted, target) == 40 and metrics.accuracy(predicted, target) == 60
    assert metrics.confusion_matrix(predicted, target, 3).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 1]]
    with pytest.raises(ValueError, match="expected 0 to 1"):
        metrics.confusion_matrix(predicted, target, 2)
    with pytest.raises(ValueError, match=r"\(5,\) and \(4,\)"):
        metrics.error(predicted, target[:4])


def test_mlp():
    model = MLP((1, 8, 8), 10, (32, 16), dropout=0.5, activation=nn.Tanh)
    assert [tuple(layer.weight.shape) for layer in model.linears()] == [(32, 64), (16, 32), (10, 16)]
    x = data.digits().test_x
    probabilities = predict(model, x, batch_size=100)
    assert probabilities.shape == (359, 10) and np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert model.training and np.allclose(probabilities, predict(model, x), atol=1e-6)       # no dropout: eval mode


def test_conv_net():
    model, x = ConvNet((1, 8, 8), 10, (4, 6), dropout=0.2), data.digits().test_x
    probabilities = predict(model, x, batch_size=100)
    assert probabilities.shape == (359, 10) and np.allclose(probabilities, predict(model, x), atol=1e-6) and model.training
    with pytest.raises(ValueError, match=r"at least 4 pixels.*\(1, 2, 8\)"):
        ConvNet((1, 2, 8), 10)
    with pytest.raises(ValueError, match=r"pictures .*\(5,\)"):
        ConvNet((5,), 3)


def test_the_convolutional_example(tmp_path):
    out = tmp_path / "conv"
    text = run([sys.executable, str(ROOT / "examples" / "classify.py"), "--model", "conv", "--augment", "none", "--channels", "8", "16",
                "--epochs", "10", "--out", str(out)]).stdout
    assert float(re.search(r"^result: test_error=([\d.]+)", text, re.M)[1]) < 8
    assert all((out / name).stat().st_size > 1000 for name in PICTURES)


@pytest.mark.parametrize("size", [8, 28])
def test_pictures(tmp_path, size):
    from PIL import Image
    rng = np.random.default_rng(0)
    pictures.confusion_matrix(tmp_path / "confusion.png", rng.integers(0, 9, (10, 10)), "0123456789", "title")
    pictures.image_grid(tmp_path / "mistakes.png", rng.random((5, 1, size, size)), ["a\nb"] * 5, columns=3)
    pictures.heat_maps(tmp_path / "reasons.png", rng.random((3, 1, size, size)), {"a": rng.normal(size=(3, size, size))}, ["x\ny"] * 3)
    pictures.filters(tmp_path / "filters.png", rng.normal(size=(7, size * size)), (1, size, size))
    steps = np.arange(400)
    panels = {"loss": {"a": (steps, np.exp(-steps / 9)), "b": (steps, steps)}, "one": {"c": (steps[:1], steps[:1])}}
    pictures.curves(tmp_path / "curves.png", panels)
    for name in PICTURES:
        with Image.open(tmp_path / name) as image:
            assert image.width > 300 and len(image.convert("L").getcolors(1000)) > 20        # not blank


def example(out, *options):
    return [sys.executable, str(ROOT / "examples" / "classify.py"), "--smoke", "--out", str(out), *options]


def run(command, **variables):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**ENVIRONMENT, **variables})
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("smoke")
    return out, run(example(out)).stdout


def test_smoke(smoke):
    out, text = smoke
    result = re.fullmatch(r"result: test_error=(\S+) seconds=\S+", text.splitlines()[-1])
    assert result and float(result[1]) < 25
    assert all((out / name).stat().st_size > 5000 for name in PICTURES)
    assert (out / "weights.safetensors").exists() and (out / "log.jsonl").read_text().count('"loss"') == STEPS


def test_one_thread_gives_the_same_bits(smoke, tmp_path):
    run(example(tmp_path), SCRATCHNN_NUM_THREADS="1")
    assert (tmp_path / "weights.safetensors").read_bytes() == (smoke[0] / "weights.safetensors").read_bytes()


def test_freshly_compiled_kernels_give_the_same_bits(smoke, tmp_path):
    run(example(tmp_path / "out"), SCRATCHNN_CACHE=str(tmp_path / "cache"))
    assert (tmp_path / "out" / "weights.safetensors").read_bytes() == (smoke[0] / "weights.safetensors").read_bytes()


def test_killed_at_any_moment_and_resumed(smoke, tmp_path):
    expected = (smoke[0] / "weights.safetensors").read_bytes()
    command, stopped_at = example(tmp_path, "--save-every", "0", "--resume"), []
    for _ in range(4):
        stopped_at.append(killed(command, tmp_path, after=max(stopped_at, default=0), within=0.03))
    run(command)
    assert 0 < stopped_at[0] < STEPS                                           # in the middle of the training
    assert (tmp_path / "weights.safetensors").read_bytes() == expected
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(STEPS))


def test_another_configuration_is_refused(smoke):
    done = subprocess.run(example(smoke[0], "--resume", "--lr", "0.5"), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode and "lr was 0.005, now 0.5" in done.stderr


# ---- the user's own data ------------------------------------------------------------------------------------------------

def refused(out, *options):
    done = subprocess.run(example(out, *options), capture_output=True, text=True, timeout=300, env=ENVIRONMENT)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Some of the digits as a table, as arrays, and as a folder of pictures."""
    from PIL import Image
    folder, digits = tmp_path_factory.mktemp("own"), data.digits()
    x, y = digits.train_x[:500], digits.train_y[:500]
    rows = "".join(",".join(f"{v:.4f}" for v in row.ravel()) + f",digit {label}\n" for row, label in zip(x, y, strict=True))
    (folder / "digits.csv").write_text(",".join(f"pixel{i}" for i in range(64)) + ",what\n" + rows)
    np.savez(folder / "digits.npz", x=x, y=y)
    for i, (picture, label) in enumerate(zip(x, y, strict=True)):
        (folder / "pictures" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * picture[0]).astype(np.uint8)).save(folder / "pictures" / str(label) / f"{i}.png")
    return folder


@pytest.mark.parametrize(("spec", "drawn"), [("csv:{}/digits.csv?target=what", PICTURES[:2]), ("npy:{}/digits.npz", PICTURES),
                                             ("folder:{}/pictures?size=8", PICTURES)])
def test_own_data(own, tmp_path, spec, drawn):
    text = run(example(tmp_path, "--data", spec.format(own))).stdout
    result = re.fullmatch(r"result: test_error=(\S+) seconds=\S+", text.splitlines()[-1])
    assert result and float(result[1]) < 50                                    # of a smoke run on 400 examples; chance is 90
    assert [name for name in PICTURES if (tmp_path / name).exists()] == list(drawn)


def test_mistakes_of_users_take_a_line(own, tmp_path):
    assert "has no column 'nothing'; its columns are pixel0" in refused(tmp_path, "--data", f"csv:{own}/digits.csv?target=nothing")
    assert "a classifier needs labels" in refused(tmp_path, "--data", f"csv:{own}/digits.csv?skip=what")
    assert "No such file or directory" in refused(tmp_path, "--data", f"npy:{own}/nothing.npy")
    assert "cannot hold out 5000" in refused(tmp_path, "--validate", "5000")
    assert "--copies needs pictures" in refused(tmp_path, "--copies", "3")
    assert "--augment changes pictures in 0..1" in refused(tmp_path, "--data", "moons", "--augment", "drawings")
    assert "convolutions need pictures" in refused(tmp_path, "--data", "moons", "--model", "conv")
    assert "crop=(40, 40)" in refused(tmp_path, "--model", "conv", "--augment", "crop=40x40")
    assert "must be 1 or more, got 0" in refused(tmp_path, "--patience", "0")
    assert "leave out --model" in refused(tmp_path, "--weights", "w.safetensors", "--model", "conv")
    assert "SqueezeNet takes colour pictures" in refused(tmp_path, "--weights", "w.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_changed_file_is_not_continued_with(own, tmp_path):
    options = ("--data", f"npy:{tmp_path}/x.npz", "--resume")
    with np.load(own / "digits.npz") as arrays:
        np.savez(tmp_path / "x.npz", **arrays)
        run(example(tmp_path / "out", *options))
        np.savez(tmp_path / "x.npz", x=arrays["x"], y=arrays["y"][::-1])
    assert "does not fit this run: loader: DataLoader: the state is of other data" in refused(tmp_path / "out", *options)


def test_early_stopping_average_and_copies_go_on_where_they_were(tmp_path):
    options = ("--model", "conv", "--epochs", "8", "--patience", "1", "--ema", "0.9", "--copies", "2", "--lr", "0.02")
    text = run(example(tmp_path / "whole", *options)).stdout
    held = re.findall(r'"held_out_error": ([\d.]+)', (tmp_path / "whole" / "log.jsonl").read_text())
    errors = [float(e) for e in held]
    best = int(np.argmin(errors))
    assert len(errors) == min(8, best + 2) and "test_error" in text                            # one epoch that was no better, or none
    command = example(tmp_path / "parts", *options, "--save-every", "0", "--resume")
    killed(command, tmp_path / "parts", after=29)
    run(command)
    assert all((tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
               for name in ("weights.safetensors", "confusion.png"))


def test_early_stopping_keeps_the_best(tmp_path):
    model = nn.Linear(1, 1)
    stopping = EarlyStopping(model, 2)
    for value, over in ((3, False), (1, False), (2, False), (1, True)):
        model.weight.detach().fill_(value)
        stopping.update(value)
        assert stopping.is_over() is over
    other = EarlyStopping(nn.Linear(1, 1), 2)
    other.load_state_dict(checkpoint.load(saved(tmp_path / "state", stopping.state_dict())))
    other.restore()
    assert other.model.weight.item() == 1 and other.is_over()
    with pytest.raises(ValueError, match="patience of at least 1, got 0"):
        EarlyStopping(model, 0)


def saved(path, state):
    checkpoint.save(path, state)
    return path


def test_prediction_from_a_run(smoke, tmp_path):
    from PIL import Image
    digits = data.digits()
    for name, picture in (("a.png", digits.test_x[0, 0]), ("b.png", 1 - digits.test_x[1, 0])):   # bright ink, and dark ink on paper
        Image.fromarray((255 * picture).astype(np.uint8)).resize((80, 80)).save(tmp_path / name)
    out = tmp_path / "run"
    out.mkdir()
    (out / "weights.safetensors").write_bytes((smoke[0] / "weights.safetensors").read_bytes())
    text = run(example(out, "--predict", str(tmp_path / "a.png"), str(tmp_path / "b.png"))).stdout.splitlines()
    assert text[0] == str(tmp_path / "a.png") and text[6] == str(tmp_path / "b.png") and len(text) == 12
    shares = [float(line.split()[0]) for line in text[1:6]]
    assert shares == sorted(shares, reverse=True) and sum(shares) <= 100.5
    assert [text[1].split()[-1], text[7].split()[-1]] == [str(y) for y in digits.test_y[:2]]
    assert (out / "predicted.png").stat().st_size > 5000
    assert "No such file" in refused(out, "--predict", str(tmp_path / "c.png"))
    assert "No such file" in refused(tmp_path / "empty", "--predict", str(tmp_path / "a.png"))


def test_saved_classifiers(tmp_path):
    x, y = np.full((4, 3, 8, 8), 0.25, np.float32), np.array([0, 1, 0, 1])
    examples = data.DataSet("own", x, y, x, y, ("yes", "no"), (3, 8, 8))
    for model in (MLP((2, 3), 2, (4,), activation=nn.Tanh), ConvNet((3, 8, 8), 2, (4, 6))):
        save_classifier(tmp_path / "w", model.eval(), examples)
        loaded, *about = load_classifier(tmp_path / "w")
        assert about == [["yes", "no"], (3, 8, 8), 0.25] and loaded.options == model.options
        x = np.random.default_rng(0).random((3, *model.options["shape"]), np.float32)
        np.testing.assert_array_equal(predict(loaded, x), predict(model, x))
    checkpoint.save_weights(tmp_path / "w", model.state_dict())
    with pytest.raises(checkpoint.CheckpointError, match="without the description of a classifier"):
        load_classifier(tmp_path / "w")
    wrong = {"classifier": '{"kind": "ConvNet", "options": {"shap": 1}, "classes": []}'}
    checkpoint.save_weights(tmp_path / "w", model.state_dict(), wrong)
    with pytest.raises(checkpoint.CheckpointError, match="do not fit its description"):
        load_classifier(tmp_path / "w")
