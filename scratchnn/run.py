"""Run: what a training loop needs around it, while the loop itself stays in the example, in plain sight.

    args = arguments(__doc__, data=("digits", "mnist", "csv:"), epochs=40, out="out/classify").parse_args()      scratchnn/options.py
    run = Run(args, model=model, optimizer=optimizer, scheduler=scheduler, loader=loader)
    for epoch in run.epochs(args.epochs):
        for x, y in run.batches(loader):
            loss = F.cross_entropy(model(x), y)
            run.log(loss=loss)
            ...
    run.result(test_error=...)

Between two batches, and nowhere else, a run may be saved. What it saves is complete (the state of every part, the global
random generator, step and epoch), so a run that is killed at any moment and started again with --resume ends with the same
bits as one that was left alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from scratchnn import checkpoint
from scratchnn.checkpoint import CheckpointError
from scratchnn.data.dataset import DataError
from scratchnn.data.files import writing
from scratchnn.debug import find_nonfinite
from scratchnn.device import on_host
from scratchnn.metrics.record import append_results
from scratchnn.nn.module import Module
from scratchnn.random import get_rng_state, set_rng_state
from scratchnn.tensor import Tensor

NOT_COMPARED = ("out", "resume", "device", "record", "save_every", "find_nan")   # options that may change when a run is continued


def start(main: Callable[[], None]) -> None:
    """Run an example's main(). What a user can do about an error takes one line, `error: ...`, and the exit code 2, not a traceback.

    Such are: a file that is missing, damaged or full of surprises (DataError, CheckpointError, OSError), a refused --resume, a full
    disk, a loss that is not finite. Ctrl-C outside a training loop ends with the exit code 130.
    """
    try:
        main()
    except (DataError, CheckpointError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        raise SystemExit(130) from None


# ---- the run ------------------------------------------------------------------------------------------------------------

class Run:
    """Progress, log, checkpoints and result of one training run.

    args    the parsed options of `options.arguments`; all of them but those about where and how it runs must be the same on --resume
    parts   everything with a state that training changes: models, optimisers, schedulers, loaders; anything that has
            state_dict() and load_state_dict()

    In the folder args.out it keeps `checkpoint.safetensors` and `log.jsonl`, one line for each call of `log`. A new run sets the
    checkpoint of an earlier one aside as `previous.safetensors`.
    Attributes: `out` the folder, `step` the batches done, `epoch` the epochs done, `seconds` spent in the loop, over all
    continuations. Raises CheckpointError if --resume finds a checkpoint that is damaged, or of another configuration or other data.
    """

    def __init__(self, args: argparse.Namespace, **parts):
        self.args, self.parts, self.out = args, parts, Path(args.out)
        self.step = self.epoch = 0
        self._path, self._log_path = self.out / "checkpoint.safetensors", self.out / "log.jsonl"
        self._earlier, self._started, self._saved_at, self._saved_step = 0.0, None, 0.0, None
        self._length, self._bar, self._signal = None, None, None
        self._shown, self._lines = {}, []
        self._config = json.loads(json.dumps({k: v for k, v in vars(args).items() if k not in NOT_COMPARED}, default=str))
        self._restored = self._load() if args.resume else None
        self._log_mode = "a" if self._restored else "w"

    @property
    def seconds(self) -> float:
        """Seconds spent in the loop so far."""
        return self._earlier + (0 if self._started is None else time.perf_counter() - self._started)

    # -- the loop

    def epochs(self, n: int, until: Callable[[], bool] = lambda: False) -> Iterator[int]:
        """The numbers of the epochs that are left of n, as long as `until` does not say True: for instance of EarlyStopping.

        The first one may be continued in its middle: `batches` sees to it. A second loop goes on from where the first one ended.
        A loop left by `break` is not saved at its end.
        """
        with self._running():
            self._length = n
            while self.epoch < n and not until():
                yield self.epoch
                self.epoch += 1
                self._pause()

    def batches(self, loader) -> Iterator:
        """The batches of one epoch, on the device of --device; after each of them the run may save itself or, if asked to, stop."""
        if self._length is None:
            raise RuntimeError("run.batches(loader) belongs inside a loop `for epoch in run.epochs(n)`")
        self._bar.total = self._length * len(loader)
        for batch in loader:
            yield _moved(batch, self.args.device)
            self._end_step()

    def steps(self, n: int) -> Iterator[int]:
        """The numbers of the steps that are left of n, for loops that don't go through a data set."""
        with self._running():
            self._bar.total = n
            while self.step < n:
                yield self.step
                self._end_step()

    def log(self, **values: float | Tensor) -> None:
        """Write numbers to the log and show them beside the progress bar.

        Raises FloatingPointError if one of them is not finite. Called before the step that would spread it, this keeps the
        last checkpoint good.
        """
        numbers = {name: float(v.item() if isinstance(v, Tensor) else v) for name, v in values.items()}
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise FloatingPointError(f"step {self.step}: {name} is {number}; {self._last_good()}")
        line = {"step": self.step, "epoch": self.epoch, "seconds": round(self.seconds, 3)}
        line |= {name: float(f"{number:.7g}") for name, number in numbers.items()}
        self._lines.append(json.dumps(line) + "\n")
        if self._started is None:
            self._write_log()
        else:
            self._shown |= {name: f"{number:.4g}" for name, number in numbers.items()}
            self._bar.set_postfix(self._shown, refresh=False)

    def say(self, text: str) -> None:
        """Print a line to the user, above the progress bar."""
        text = f"step {self.step}: {text}"
        print(text, file=sys.stderr) if self._started is None else self._bar.write(text, file=sys.stderr)

    def history(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(steps, values) of what was logged under a name, over all continuations of the run; for curves."""
        self._write_log()
        lines = [json.loads(line) for line in self._log_path.read_text().splitlines()]
        found = [(line["step"], line[name]) for line in lines if name in line]
        return np.array([step for step, _ in found]), np.array([value for _, value in found])

    def result(self, *, split: str = "test", protocol: str = "", **metrics: float) -> None:
        """Print the last line of every example, `result: name=value ... seconds=...`; with --record, add it to that file too."""
        values = " ".join(f"{name}={value:.4g}" for name, value in metrics.items())
        print(f"result: {values} seconds={self.seconds:.1f}", flush=True)
        if self.args.record:
            append_results(self.args.record, metrics, split=split, protocol=protocol, seed=self.args.seed,
                           seconds=round(self.seconds, 1))

    # -- saving and restoring

    def save(self) -> None:
        """Write the checkpoint. Raises FloatingPointError, and keeps the old one, if a parameter is not finite."""
        self._check_parameters()
        log_bytes = self._write_log()
        checkpoint.save(self._path, {
            "config": self._config, "step": self.step, "epoch": self.epoch, "seconds": self.seconds, "random": get_rng_state(),
            "log_bytes": log_bytes, "parts": {name: part.state_dict() for name, part in self.parts.items()}})
        self._saved_at, self._saved_step = time.perf_counter(), self.step

    def _load(self):
        """The checkpoint of an earlier run with this configuration, None if there is none."""
        if not self._path.exists():
            print(f"no checkpoint in {self.out}: starting from the beginning", file=sys.stderr)
            return None
        state = checkpoint.load(self._path)
        before, now = state["config"], self._config
        different = [f"{name} was {before.get(name)!r}, now {now.get(name)!r}"
                     for name in {**before, **now} if before.get(name) != now.get(name)]
        if set(state["parts"]) != set(self.parts):
            different.append(f"its parts were {', '.join(state['parts'])}, now {', '.join(self.parts)}")
        if different:
            raise CheckpointError(f"{self._path} is of a run with another configuration: {'; '.join(different)}. Continue with the "
                                  "same options, or leave out --resume to start anew")
        return state

    def _restore(self):
        """Take over the loaded checkpoint. It happens when the loop begins: what a program does before is the same each time."""
        state, self._restored = self._restored, None
        for name, part in self.parts.items():
            try:
                part.load_state_dict(state["parts"][name])
            except (KeyError, ValueError, RuntimeError) as fault:
                raise CheckpointError(f"{self._path} does not fit this run: {name}: {fault}") from None
        set_rng_state(state["random"])
        self.step, self.epoch, self._earlier = state["step"], state["epoch"], state["seconds"]
        self._saved_step = self.step
        print(f"continuing after step {self.step}", file=sys.stderr)
        if self._log_path.exists():              # lines that came after the checkpoint will be written again
            os.truncate(self._log_path, min(state["log_bytes"], self._log_path.stat().st_size))

    def _check_parameters(self):
        for name, part in self.parts.items():
            for key, parameter in getattr(part, "named_parameters", tuple)():
                if not np.isfinite(on_host(parameter)).all():
                    raise FloatingPointError(f"step {self.step}: parameter {key} of {name} is not finite; {self._last_good()}")

    def _last_good(self):
        """What is left after a number that is not finite, and how to find where it came from."""
        if self._saved_step is None:
            return "nothing was saved yet; with --find-nan the run stops at the operation that was the first to do this"
        return (f"{self._path} holds the last good state, of step {self._saved_step}; continued with --resume --find-nan, the run "
                "stops at the operation that was the first to do this")

    # -- around the loop

    @contextlib.contextmanager
    def _running(self):
        """Restore, start clock and progress bar, take over Ctrl-C; at the regular end, save."""
        from tqdm import tqdm
        if self._restored:
            self._restore()
        elif self._saved_step is None and self._path.exists():     # of an earlier run, which --resume must not take for ours
            self._path.replace(self.out / "previous.safetensors")
        self._started = self._saved_at = time.perf_counter()
        watch = find_nonfinite() if self.args.find_nan else contextlib.nullcontext()
        bar = tqdm(initial=self.step, unit=" steps", dynamic_ncols=True, disable=None)
        with watch, _signals(self._ask_to_stop), bar as self._bar:
            try:
                yield
                self.save()
            except GeneratorExit:                # by an error in the body of the loop, or by `break`
                saved = "nothing was saved" if self._saved_step is None else f"{self._path} is of step {self._saved_step}"
                bar.write(f"the loop was left in step {self.step}; {saved}", file=sys.stderr)
                raise
            finally:
                self._earlier, self._started = self.seconds, None
                try:
                    self._write_log()
                except OSError as error:         # a full disk: not to be raised over what ended the loop
                    print(f"the end of the log is missing: {error}", file=sys.stderr)

    def _end_step(self):
        self.step += 1
        self._bar.update()
        self._pause()

    def _pause(self):
        """A moment at which the state of all parts is complete: stop if asked to, save if it is time."""
        if self._signal is not None:
            self._stop()
        if time.perf_counter() - self._saved_at >= self.args.save_every:
            self.save()

    def _ask_to_stop(self, number, frame):
        """Signal handler. In the middle of a step nothing could be saved: note the wish. Who asks twice does not want to wait."""
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = number

    def _stop(self):
        self.save()
        self._bar.close()
        command = shlex.join(["python", *sys.argv, *([] if self.args.resume else ["--resume"])])
        print(f"stopped after step {self.step} and saved; to continue:\n  {command}", file=sys.stderr)
        raise SystemExit(128 + self._signal)

    def _write_log(self):
        """Force the lines of the log to the disk; the size of the file."""
        self.out.mkdir(parents=True, exist_ok=True)
        with writing(self._log_path, self._log_mode, encoding="utf-8") as file:
            file.writelines(self._lines)
            file.flush()
            os.fsync(file.fileno())
        self._lines, self._log_mode = [], "a"
        return self._log_path.stat().st_size


def _moved(batch, device):
    """A batch, a Tensor or several, on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    return tuple(x.to(device) if isinstance(x, Tensor) else x for x in batch)


@contextlib.contextmanager
def _signals(handler):
    """Call `handler` on Ctrl-C and on a polite kill; only a program's main thread can ask for that."""
    wanted = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, handler) for number in wanted}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


# ---- when to stop ---------------------------------------------------------------------------------------------------------

class EarlyStopping:
    """Keeps a model's best weights, and says when `patience` epochs found none that are better.

        stopping = EarlyStopping(model, patience=5)
        run = Run(args, ..., stopping=stopping)
        for epoch in run.epochs(args.epochs, until=stopping.is_over):
            ...
            stopping.update(validation_error)           the lower the better, of examples that are neither learnt from nor tested on
        stopping.restore()                              gives the model its best weights
    """

    def __init__(self, model: Module, patience: int):
        if patience < 1:
            raise ValueError(f"EarlyStopping needs a patience of at least 1, got {patience}")
        self.model, self.patience, self.best, self.since, self.weights = model, patience, math.inf, 0, None

    def update(self, value: float) -> None:
        """Take note of how good the model is now."""
        self.since += 1
        if value < self.best:
            self.best, self.since = value, 0
            self.weights = {name: Tensor(t.array.copy()) for name, t in self.model.state_dict().items()}

    def is_over(self) -> bool:
        return self.since >= self.patience

    def restore(self) -> None:
        """Give the model the best weights that were seen, if any."""
        if self.weights is not None:
            self.model.load_state_dict(self.weights)

    def state_dict(self) -> dict:
        return {"best": self.best, "since": self.since, "weights": self.weights}

    def load_state_dict(self, state: dict) -> None:
        self.best, self.since, self.weights = state["best"], state["since"], state["weights"]
