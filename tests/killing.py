"""A training that is killed on its way, for the tests that continue it. Not a test itself."""

import subprocess
import time

import numpy as np

from scratchnn import checkpoint


def saved_step(folder):
    """The step of the checkpoint in a run's folder, 0 if there is none."""
    path = folder / "checkpoint.safetensors"
    return checkpoint.load(path)["step"] if path.exists() else 0


def killed(command, folder, environment, after=0, within=0.2):
    """Start an example, kill it (SIGKILL where there are signals) at most so many seconds after it has saved more than step `after`, and
    give the step that it has saved."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    while saved_step(folder) <= after and process.poll() is None:
        time.sleep(0.005)
    time.sleep(np.random.default_rng().uniform(0, within))
    process.kill()
    process.wait()
    return saved_step(folder)
