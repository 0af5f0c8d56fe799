"""Options of the examples, and what several of them draw and write (drawn.py)."""

import argparse
import csv
import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from scratchnn import drawn
from scratchnn.options import arguments, number, whole
from scratchnn.random import Generator


@pytest.mark.parametrize("check, text, value", [
    (whole(), "1", 1), (whole(), "12345678901", 12345678901), (whole(0), "0", 0), (whole(-3, 3), "-3", -3), (whole(1, 3), " 3 ", 3),
    (number(), "-2.5", -2.5), (number(0), "0", 0), (number(0), "1e3", 1000), (number(0, 1), "1", 1), (number(), "inf", math.inf)])
def test_values_within_their_limits(check, text, value):
    assert check(text) == value


@pytest.mark.parametrize("check, text, message", [
    (whole(), "0", "must be 1 or more, got 0"), (whole(2), "-5", "must be 2 or more, got -5"),
    (whole(0, 9), "10", r"must lie in 0\.\.9, got 10"),
    (whole(), "1.5", "must be a whole number, got '1.5'"), (whole(), "many", "must be a whole number, got 'many'"), (whole(), "", "got ''"),
    (whole(), "nan", "must be a whole number"), (number(0), "-0.1", r"must be 0 or more, got -0\.1"),
    (number(0), "nan", "must be 0 or more, got nan"),
    (number(), "nan", "got nan"), (number(0, 1), "1.5", r"must lie in 0\.\.1, got 1.5"), (number(0, 1), "inf", "got inf"),
    (number(0), "much", "must be a number, got 'much'")])
def test_other_values_are_refused(check, text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        check(text)


@pytest.mark.parametrize("options, message", [(["--rate", "nan"], "argument --rate: must lie in 0..1, got nan"),
                                              (["--epochs", "0"], "argument --epochs: must be 1 or more, got 0"),
                                              (["--save-every", "-1"], "argument --save-every: must be 0 or more, got -1"),
                                              (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
                                              (["--device", "abacus"], "abacus"), (["--epo", "3"], "unrecognized arguments: --epo 3")])
def test_mistakes_take_a_line(options, message, capsys):
    parser = arguments("An example.", out="out/x", epochs=9)
    parser.add_argument("--rate", type=number(0, 1), default=0.5)
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(options)
    line, = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and line.startswith("error: ") and message in line


@pytest.mark.parametrize("name", ["dream", "music", "text", "tour", "wavenet"])
def test_systems_without_cuda_kernels_say_so_before_anything_else(name, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location(f"example_{name}", Path(__file__).parent.parent / "examples" / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)       # where dataclass looks for it
    spec.loader.exec_module(module)
    monkeypatch.setattr("scratchnn.device.require_cuda", lambda: None)            # as with a GPU
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--device", "cuda"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    line, = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and "no CUDA kernels yet" in line and "leave" in line
    assert name != "tour" or "dream, text, music, wavenet have" in line


def test_an_example_counts_epochs_or_steps():
    assert vars(arguments("", out="x", steps=7).parse_args([]))["steps"] == 7
    assert "epochs" not in vars(arguments("", out="x", steps=7).parse_args([]))


# ---- drawn examples -----------------------------------------------------------------------------------------------------

def test_noise_is_always_the_same():
    z, y = drawn.fixed_noise(3, 0, 5, 8)
    assert z.shape == (40, 3) and y is None
    np.testing.assert_array_equal(z, drawn.fixed_noise(3, 0, 5, 8)[0])
    for classes, rows in ((2, 2), (10, 10), (100, drawn.CLASSES)):
        z, y = drawn.fixed_noise(3, classes, 5, 8)
        assert z.shape == (8 * rows, 3)
        np.testing.assert_array_equal(y.reshape(rows, 8), np.arange(rows)[:, None].repeat(8, 1))      # a row of each class


def test_labels_are_as_frequent_as_their_shares():
    y = drawn.labels_for({"a": 0.7, "b": 0.0, "c": 0.3}, 5000, Generator(0))
    np.testing.assert_allclose(np.bincount(y, minlength=3) / 5000, [0.7, 0, 0.3], atol=0.03)
    np.testing.assert_array_equal(y, drawn.labels_for({"a": 0.7, "b": 0.0, "c": 0.3}, 5000, Generator(0)))
    assert drawn.labels_for({}, 5000, Generator(0)) is None


def test_rows_are_written_with_their_classes(tmp_path):
    cells = {"age": np.array([3.0, np.nan]), "town": np.array(["Bern, CH", ""])}
    for y, expected in ((None, [["age", "town"], ["3", "Bern, CH"], ["", ""]]),
                        (np.array([1, 0]), [["age", "town", "sex"], ["3", "Bern, CH", "m"], ["", "", "f"]])):
        drawn.write_rows(tmp_path / "rows.csv", cells, y, ("f", "m"), "sex")
        with open(tmp_path / "rows.csv", newline="", encoding="utf-8") as file:
            assert list(csv.reader(file)) == expected


@pytest.mark.parametrize("count", [1, 5, 30, 200])
def test_pictures_are_written(tmp_path, count):
    x = np.random.default_rng(0).random((count, 1, 4, 4), np.float32)
    drawn.write_pictures(tmp_path, x, None, ())
    np.testing.assert_array_equal(np.load(tmp_path / "samples.npy"), x)
    assert (tmp_path / "samples.png").stat().st_size > 100


@pytest.mark.parametrize("y", [[2], [0, 0, 2, 2, 2], list(range(40)) * 2])
def test_pictures_are_written_with_their_classes(tmp_path, y):
    y, classes = np.array(y), tuple(f"kind {i}" for i in range(40))
    x = np.random.default_rng(0).random((len(y), 3, 4, 4), np.float32)
    drawn.write_pictures(tmp_path, x, y, classes)
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as saved:
        np.testing.assert_array_equal(saved["x"], x)
        assert list(saved["y"]) == [classes[i] for i in y]
    assert (tmp_path / "samples.png").stat().st_size > 100
