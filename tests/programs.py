"""The examples as programs: run to their end, or killed on their way. Not a test itself."""

import contextlib
import csv
import io
import os
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from scratchnn import checkpoint

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def smoke(name, out, *options):
    """The command of an example's --smoke."""
    return [sys.executable, str(ROOT / "examples" / f"{name}.py"), "--smoke", "--out", str(out), *options]


def run(command, code=0):
    """The last line of what an example prints, of its errors if it shall end with such an exit code.

    It runs in this process, since Python takes longer to start than most of these take to run.
    """
    (_, *argv), before, said, errors, status = command, sys.argv, io.StringIO(), io.StringIO(), 0
    sys.argv = argv
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.argv = before
    assert status == code, errors.getvalue()
    return (errors if code else said).getvalue().splitlines()[-1]


def figures(line):
    """The numbers of a result by name."""
    assert line.startswith("result: ") and " seconds=" in line, line
    return {name: float(value) for name, value in re.findall(r"(\w+)=(\S+)", line)}


def read(path):
    """The rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def saved_step(folder):
    """The step of the checkpoint in a run's folder, 0 if there is none."""
    path = folder / "checkpoint.safetensors"
    return checkpoint.load(path)["step"] if path.exists() else 0


def killed(command, folder, after=0, within=0.2):
    """Start an example, kill it (SIGKILL where there are signals) at most so many seconds after it has saved more than step `after`, and
    give the step that it has saved."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    while saved_step(folder) <= after and process.poll() is None:
        time.sleep(0.005)
    time.sleep(np.random.default_rng().uniform(0, within))
    process.kill()
    process.wait()
    return saved_step(folder)


def flat(state, place=""):
    """Everything in a nested state by its place; numbers of arrays as their bytes."""
    if isinstance(state, (dict, list, tuple)):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        return {k: v for name, value in items for k, v in flat(value, f"{place}.{name}".strip(".")).items()}
    array = getattr(state, "array", state)
    return {place: array.tobytes() if isinstance(array, np.ndarray) else array}
