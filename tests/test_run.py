"""Checkpoints, and what Run does around a training loop."""

import argparse
import json
import math
import os
import signal

import numpy as np
import pytest

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import checkpoint, data, nn, optim
from scratchnn.checkpoint import CheckpointError
from scratchnn.debug import NonFiniteError
from scratchnn.options import arguments
from scratchnn.run import Run, start

# ---- checkpoints --------------------------------------------------------------------------------------------------------


def state():
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    return {
        "model": {"0.weight": snn.tensor(base.T), "scale": snn.tensor(2.5), "none": snn.zeros(0, 3)},
        "optimizer": {"state": {0: {"step": 7, "mean": snn.from_numpy(base[:, ::2].copy())}}, "betas": (0.9, 0.999), "empty": ()},
        "arrays": [base[::-1, ::-2], np.array([True, False]), np.arange(3, dtype=np.uint16), np.float64(1.5) * np.ones((2, 1))],
        "numbers": [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, math.inf, -0.0, 2 ** 53 + 1, -(2 ** 90), True, None],
        "text": "Grüße\n\0", "tags": {"$tensor": "no tensor", "": 1, 3: "three"}, "a": {"b": base}, "a.b": base + 1}


def same(a, b):
    """Equal in value, type, dtype, shape and bits."""
    if isinstance(a, snn.Tensor):
        return isinstance(b, snn.Tensor) and same(a.array, b.array)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


def test_checkpoint_round_trip(tmp_path):
    path = tmp_path / "folder" / "x.safetensors"
    checkpoint.save(path, state())
    assert same(checkpoint.load(path), state()) and not same(state(), {**state(), "text": ""})
    assert [p.name for p in path.parent.iterdir()] == ["x.safetensors"]


def test_loaded_arrays_can_be_changed(tmp_path):
    checkpoint.save(tmp_path / "x", {"a": np.zeros(3)})
    checkpoint.load(tmp_path / "x")["a"][0] = 1


@pytest.mark.parametrize("value", [{1, 2}, np.float32(1), 1j, np.array(["text"]), np.zeros(2, complex), print])
def test_what_a_checkpoint_cannot_hold(tmp_path, value):
    with pytest.raises(TypeError, match=r"cannot save a\.b\[1\]"):
        checkpoint.save(tmp_path / "x", {"a": {"b": [0, value]}})
    assert not list(tmp_path.iterdir())


def test_damaged_checkpoints_give_clean_errors(tmp_path):
    path, rng = tmp_path / "x.safetensors", np.random.default_rng(0)
    checkpoint.save(path, state())
    content = path.read_bytes()
    cuts = [content[:n] for n in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1)] + [content + b"\0"]
    flips = []
    for position in rng.integers(0, len(content), 400):
        flips.append(bytearray(content))
        flips[-1][position] ^= 1 << rng.integers(8)
    for damaged in cuts + flips:
        path.write_bytes(damaged)
        try:
            assert same(checkpoint.load(path), state())              # a flip that changes nothing, like a space in the header
        except CheckpointError as error:
            assert "x.safetensors" in str(error)


def test_other_files_and_versions(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    checkpoint.save_weights(path, {"w": snn.zeros(2)})
    with pytest.raises(CheckpointError, match=r"x.safetensors: .* read by load_weights"):
        checkpoint.load(path)
    monkeypatch.setattr(checkpoint, "VERSION", "2")
    checkpoint.save(path, {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format '2'; this version of scratchnn reads '1'"):
        checkpoint.load(path)
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "y")


def test_a_hostile_description_is_refused(tmp_path):
    for text in ('{"$tensor": "missing"}', '{"$dict": 3}', "[" * 100_000, '{"$tensor": []}', '{"$unknown": 1}'):
        metadata = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "sha256": checkpoint._digest(text, {})}
        (tmp_path / "x").write_bytes(checkpoint.to_bytes({}, {**metadata, "state": text}))
        with pytest.raises(CheckpointError, match="makes no sense"):
            checkpoint.load(tmp_path / "x")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "x"
    checkpoint.save(path, {"a": 1})

    def full(*args):
        raise OSError("No space left on device")
    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"a": 2})
    monkeypatch.undo()
    assert checkpoint.load(path) == {"a": 1} and list(tmp_path.iterdir()) == [path]


# ---- Run ----------------------------------------------------------------------------------------------------------------


def options(tmp_path, **changes):
    values = {"out": tmp_path, "resume": False, "save_every": 1e9, "seed": 0, "record": None, "find_nan": False, "device": "cpu",
              "epochs": 3, "lr": 0.01}
    return argparse.Namespace(**{**values, **changes})


def train(args, interrupt=None, poison=None):
    """A small training; `interrupt`: the step that gets Ctrl-C in its middle, `poison`: the step whose loss is infinite."""
    snn.manual_seed(args.seed)
    digits = data.digits()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 10))
    loader = data.DataLoader((digits.train_x[:100], digits.train_y[:100]), 30, shuffle=True, num_workers=1)
    optimizer = optim.Adam(model.parameters(), args.lr)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, args.lr, epochs=args.epochs, steps_per_epoch=len(loader))
    run = Run(args, model=model, loader=loader, optimizer=optimizer, schedule=schedule)
    for _ in run.epochs(args.epochs):
        for x, y in run.batches(loader):
            loss = F.cross_entropy(model(x), y)
            if run.step == poison:
                loss = (loss - loss).log()
            run.log(loss=loss)
            optimizer.zero_grad()
            loss.backward()
            if run.step == interrupt:
                signal.raise_signal(signal.SIGINT)
            optimizer.step()
            schedule.step()
        run.log(noise=snn.rand(1).item())
    return run, [p.array.copy() for p in model.parameters()]


def log_of(run):
    lines = (run.out / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("interrupt", range(12))
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, interrupt, capsys):
    whole, weights = train(options(tmp_path / "a"))
    with pytest.raises(SystemExit) as stopped:
        train(options(tmp_path / "b"), interrupt)
    assert stopped.value.code == 130 and "--resume" in capsys.readouterr().err
    resumed, same_weights = train(options(tmp_path / "b", resume=True))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(weights, same_weights, strict=True))
    assert log_of(whole) == log_of(resumed) and resumed.step == 12 and resumed.epoch == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_lines_after_the_checkpoint_are_dropped_from_the_log(tmp_path):
    _, weights = train(options(tmp_path / "a"))
    with pytest.raises(SystemExit):
        train(options(tmp_path / "b"), 4)
    with open(tmp_path / "b" / "log.jsonl", "a") as log:
        log.write('{"step": 5, "loss": 1}\n{"step": 6, "lo')                 # as after a kill
    resumed, same_weights = train(options(tmp_path / "b", resume=True))
    steps, losses = resumed.history("loss")
    assert steps.tolist() == list(range(12)) and np.isfinite(losses).all()
    assert all(map(np.array_equal, weights, same_weights))


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    run, weights = train(options(tmp_path))
    log = log_of(run)
    resumed, same_weights = train(options(tmp_path, resume=True))
    assert all(map(np.array_equal, weights, same_weights)) and log_of(resumed) == log


def test_another_configuration_is_refused(tmp_path):
    train(options(tmp_path))
    with pytest.raises(ValueError, match=r"lr was 0.01, now 0.02; seed was 0, now 1|seed was 0, now 1; lr was 0.01, now 0.02"):
        train(options(tmp_path, resume=True, lr=0.02, seed=1))
    with pytest.raises(ValueError, match="its parts were model, loader, optimizer, schedule, now model"):
        Run(options(tmp_path, resume=True), model=None)
    train(options(tmp_path, resume=True, save_every=0, device="cpu:0"))


def test_other_data_is_refused(tmp_path, monkeypatch):
    """The same name, the same number of rows, but other content: a file of the user's that was changed meanwhile."""
    train(options(tmp_path))
    content = (tmp_path / "checkpoint.safetensors").read_bytes()
    digits = data.digits()
    digits.train_x[50, 0, 4, 4] += 0.5
    monkeypatch.setattr(data, "digits", lambda: digits)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors does not fit this run: loader: .*same rows=100, .*, but other"):
        train(options(tmp_path, resume=True, epochs=3))
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == content


def test_a_model_of_another_shape_is_refused(tmp_path):
    Run(options(tmp_path), model=nn.Linear(2, 2)).save()
    with pytest.raises(CheckpointError, match=r"does not fit this run: model: (.|\n)*weight"):
        list(Run(options(tmp_path, resume=True), model=nn.Linear(3, 2)).steps(1))


# ---- a full disk and Ctrl-C ---------------------------------------------------------------------------------------------

def same_bits(tmp_path):
    """Whether the run in tmp_path, which was interrupted after it had saved, is completed to what an undisturbed one ends with."""
    step = checkpoint.load(tmp_path / "b" / "checkpoint.safetensors")["step"]
    whole, weights = train(options(tmp_path / "a"))
    resumed, same_weights = train(options(tmp_path / "b", resume=True))
    return 0 < step < 12 and log_of(whole) == log_of(resumed) and all(map(np.array_equal, weights, same_weights))


def at_step(monkeypatch, step, action):
    """Have `action(run)` called when the run has done `step` steps, before it may save."""
    original = Run._end_step

    def end_step(run):
        if run.step + 1 == step:
            action(run)
        original(run)
    monkeypatch.setattr(Run, "_end_step", end_step)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["checkpoint.safetensors.tmp", "log.jsonl"])
def test_a_full_disk_in_training(tmp_path, monkeypatch, name):
    def fill(run):
        (run.out / name).rename(tmp_path / "kept") if name == "log.jsonl" else None
        (run.out / name).symlink_to("/dev/full")
    with monkeypatch.context() as patch:
        at_step(patch, 7, fill)
        with pytest.raises(OSError, match=f"No space left on device: .*{name}"):
            train(options(tmp_path / "b", save_every=0))
    assert checkpoint.load(tmp_path / "b" / "checkpoint.safetensors")["step"] == 6
    (tmp_path / "b" / name).unlink(missing_ok=True)                          # room is made
    if name == "log.jsonl":
        (tmp_path / "kept").rename(tmp_path / "b" / name)
    assert same_bits(tmp_path)


@pytest.mark.parametrize(("module", "name", "call", "saved"), [
    (checkpoint, "to_bytes", 1, 4), (os, "fsync", 1, 4), (os, "fsync", 2, 4), (os, "replace", 1, 4), (os, "fsync", 3, 5)])
def test_ctrl_c_twice_while_saving(tmp_path, monkeypatch, module, name, call, saved):
    """The first is noted, the second stops the program at once: before the save, while it syncs log, checkpoint or folder."""
    original, calls = getattr(module, name), []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return original(*args)
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda run: patch.setattr(module, name, interrupted))
        with pytest.raises(KeyboardInterrupt):
            train(options(tmp_path / "b", save_every=0))
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["checkpoint.safetensors", "log.jsonl"]
    assert checkpoint.load(tmp_path / "b" / "checkpoint.safetensors")["step"] == saved and same_bits(tmp_path)


def test_ctrl_c_while_saving_lets_it_finish(tmp_path, monkeypatch):
    original = os.fsync

    def interrupted(file):
        monkeypatch.setattr(os, "fsync", original)
        signal.raise_signal(signal.SIGINT)
        original(file)
    at_step(monkeypatch, 5, lambda run: monkeypatch.setattr(os, "fsync", interrupted))
    with pytest.raises(SystemExit):
        train(options(tmp_path / "b", save_every=0))
    monkeypatch.undo()
    assert checkpoint.load(tmp_path / "b" / "checkpoint.safetensors")["step"] == 6 and same_bits(tmp_path)


@pytest.mark.parametrize("place", ["_read", "_digest", "_unpack"])
def test_ctrl_c_while_loading(tmp_path, monkeypatch, place):
    with pytest.raises(SystemExit):
        train(options(tmp_path / "b"), 6)
    content = (tmp_path / "b" / "checkpoint.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, place, lambda *args: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train(options(tmp_path / "b", resume=True))
    assert (tmp_path / "b" / "checkpoint.safetensors").read_bytes() == content and same_bits(tmp_path)


def test_resume_without_a_checkpoint_starts_from_the_beginning(tmp_path, capsys):
    run, _ = train(options(tmp_path, resume=True))
    assert run.step == 12 and "starting from the beginning" in capsys.readouterr().err


def test_a_new_run_sets_the_old_checkpoint_aside(tmp_path):
    train(options(tmp_path))
    content = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(FloatingPointError):
        train(options(tmp_path, lr=0.5), poison=0)
    assert (tmp_path / "previous.safetensors").read_bytes() == content and not (tmp_path / "checkpoint.safetensors").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, capsys):
    with pytest.raises(FloatingPointError, match=r"step 5: loss is -inf; .*safetensors holds the last good state, of step 5"):
        train(options(tmp_path, save_every=0), poison=5)
    assert checkpoint.load(tmp_path / "checkpoint.safetensors")["step"] == 5
    with pytest.raises(NonFiniteError, match=r"log\(x \(\)\) made 1 infinite of 1 values"):
        train(options(tmp_path, resume=True, find_nan=True), poison=5)
    assert "the loop was left in step 5; " in capsys.readouterr().err


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = nn.Linear(2, 2)
    run = Run(options(tmp_path), model=model)
    run.save()
    model.weight.array[0, 0] = np.nan
    with pytest.raises(FloatingPointError, match=r"parameter weight of model is not finite; .* of step 0"):
        run.save()
    assert np.isfinite(checkpoint.load(tmp_path / "checkpoint.safetensors")["parts"]["model"]["weight"].array).all()


def test_a_loop_over_steps(tmp_path):
    def count(args, stop=None):
        model = nn.Linear(1, 1)
        run = Run(args, model=model)
        for step in run.steps(6):
            with snn.no_grad():
                model.weight.copy_(snn.full((1, 1), float(step)))
            if step == stop:
                signal.raise_signal(signal.SIGTERM)
        return run.step, model.weight.item()
    with pytest.raises(SystemExit) as stopped:
        count(options(tmp_path), stop=2)
    assert stopped.value.code == 143 and checkpoint.load(tmp_path / "checkpoint.safetensors")["step"] == 3
    assert count(options(tmp_path, resume=True)) == (6, 5.0)


def test_a_second_loop_goes_on_and_keeps_the_checkpoint(tmp_path):
    run = Run(options(tmp_path))
    assert list(run.epochs(2)) == [0, 1] and list(run.epochs(5)) == [2, 3, 4] and not (tmp_path / "previous.safetensors").exists()
    run = Run(options(tmp_path, resume=True))
    assert list(run.epochs(2)) == [] and list(run.epochs(6)) == [5]


def test_a_log_without_a_checkpoint_is_begun_anew(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 0, "loss": 1}\n{"st')
    run = Run(options(tmp_path, resume=True))
    for _ in run.steps(2):
        run.log(loss=2)
    assert run.history("loss")[1].tolist() == [2, 2]


def test_batches_belong_into_epochs(tmp_path):
    with pytest.raises(RuntimeError, match="belongs inside"):
        next(Run(options(tmp_path)).batches([1]))


def test_asking_twice_stops_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        for _ in Run(options(tmp_path)).steps(3):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_result_and_record(tmp_path, capsys):
    record = tmp_path / "mlp-digits.json"
    run = Run(options(tmp_path, record=record, seed=3))
    for value in (1.25, 1.5):
        run.result(test_error=value, protocol="a test")
    assert capsys.readouterr().out.splitlines() == ["result: test_error=1.25 seconds=0.0", "result: test_error=1.5 seconds=0.0"]
    entries = json.loads(record.read_text())
    assert [e["value"] for e in entries] == [1.25, 1.5]
    assert set(entries[0]) == {"metric", "value", "unit", "split", "seed", "protocol", "command", "seconds", "commit", "machine"}
    assert entries[0]["unit"] == "percent" and entries[0]["seed"] == 3
    with pytest.raises(ValueError, match="no unit is known for speed"):
        run.result(speed=1)
    record.write_text("{}")
    with pytest.raises(ValueError, match="holds a dict where a list"):
        run.result(test_error=1)


def test_arguments():
    parser = arguments("An example.", out="out/x", data=("digits", "mnist"), epochs=9, smoke={"epochs": 1, "hidden": 2})
    parser.add_argument("--hidden", type=int, default=5)
    args = parser.parse_args([])
    assert (args.data, args.epochs, args.seed, args.device, str(args.out), args.hidden) == ("digits", 9, 0, "cpu", "out/x", 5)
    assert not args.resume and not args.smoke and args.record is None
    args = parser.parse_args(["--smoke", "--hidden", "7"])
    assert (args.epochs, args.hidden) == (1, 7)


def test_data_of_an_example(capsys):
    parser = arguments("", out="x", data=("digits", "csv:"))
    for spec in ("digits", "csv:a.csv", "csv:C:\\a.csv?target=b"):
        assert parser.parse_args(["--data", spec]).data == spec
    for spec in ("mnist", "npy:a.npy", "csv", ""):
        with pytest.raises(SystemExit) as stopped:
            parser.parse_args(["--data", spec])
        line, = capsys.readouterr().err.splitlines()
        assert stopped.value.code == 2
        assert line == f"error: argument --data: {spec!r} is not known here; choose one of digits, csv:PATH (--help lists the options)"
    assert "digits, csv:PATH (default: digits)" in parser.format_help()


@pytest.mark.parametrize("error", [data.DataError("a.csv: line 3"), CheckpointError("x: corrupt"), FileNotFoundError(2, "Missing", "a"),
                                   FloatingPointError("step 5: loss is nan"), data.DownloadError("mnist: tried")])
def test_errors_of_users_take_a_line(error, capsys):
    def main():
        raise error
    with pytest.raises(SystemExit) as stopped:
        start(main)
    assert stopped.value.code == 2 and capsys.readouterr().err == f"error: {error}\n"


def test_other_errors_keep_their_traceback():
    def main():
        raise ValueError("a mistake in the program")
    with pytest.raises(ValueError, match="a mistake"):
        start(main)


def test_ctrl_c_before_the_loop(capsys):
    with pytest.raises(SystemExit) as stopped:
        start(lambda: signal.raise_signal(signal.SIGINT))
    assert stopped.value.code == 130 and capsys.readouterr().err == "stopped by Ctrl-C\n"


def test_device_errors_are_clear(capsys):
    with pytest.raises(SystemExit):
        arguments("", out="x").parse_args(["--device", "cuda"])
    assert "device 'cuda' was asked for" in capsys.readouterr().err
