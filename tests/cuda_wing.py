"""The CUDA wing's kernels as the tests call them: NumPy arrays in, NumPy arrays out."""

import functools
import os

import numpy as np
import pytest
from test_kernels import flat

import kernels
from kernels import config


def wing():
    """The CUDA wing, in the simulator unless this process was told to use a GPU."""
    chosen = os.environ.get("SCRATCHNN_CUDA", "simulator")
    if chosen == "simulator":
        pytest.importorskip("greenlet", reason="the simulator of the CUDA wing runs on the package greenlet (scratchnn[simulator])")
    before, config.CUDA = config.CUDA, chosen
    from kernels import cuda
    config.CUDA = before
    return cuda


@functools.cache
def simulator():
    from kernels.cuda.simulator import Simulator
    return Simulator()


def use(monkeypatch):
    """For one test the simulator is the device; all other tests of this process see a machine without one."""
    from kernels.cuda import compiler, runtime
    if compiler.SIMULATED:
        monkeypatch.setattr(runtime, "device", simulator)


@pytest.fixture(autouse=True)
def only_here(monkeypatch):
    """For modules that import it: the kernels of this process look for GPU arrays in their tests alone."""
    use(monkeypatch)
    before = dict(vars(kernels))
    yield
    vars(kernels).update(before)


def moved(value, layout=np.copy):
    """Arrays of an argument on the device, in another layout; everything else as it is."""
    from kernels.cuda.array import to_device
    if isinstance(value, list):
        return [moved(v, layout) for v in value]
    if not isinstance(value, np.ndarray):
        return value
    return layout(to_device(value)) if value.ndim else to_device(value)


def run(cuda, name, args, layout=lambda a: a):
    """As run() of test_kernels.py: results of a kernel, and its arguments after the call."""
    from kernels.cuda.array import DeviceArray
    args = [moved(a, layout) for a in args]
    result = getattr(cuda, name)(*args)
    return [a.numpy() if isinstance(a, DeviceArray) else np.asarray(a) for a in flat([result, args])
            if isinstance(a, DeviceArray | np.ndarray | np.generic | int)]
