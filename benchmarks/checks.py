"""Figures that turns.py does not give: one core's share of the peak, what a fused epilogue costs, how we get on with BLAS, peak memory.

    python benchmarks/checks.py

Each but the last is a ratio of things timed in turns, call by call, so that a machine which slows down slows both.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import numpy as np  # noqa: E402
from peak import measured_peak  # noqa: E402

import kernels  # noqa: E402
from kernels import jit  # noqa: E402

rng = np.random.default_rng(0)


def in_turns(*functions, seconds=1.5):
    """Median seconds of each function, called one after the other again and again."""
    times = [[] for _ in functions]
    for f in functions:
        f()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for f, found in zip(functions, times, strict=True):
            start = time.perf_counter()
            f()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def one_core():
    """Products of square matrices on one core as a share of its peak, measured before and after each."""
    before = jit.get_num_threads()
    jit.set_num_threads(1)
    for n in (512, 768, 1024):
        a, b, c = (rng.random((n, n), np.float32) for _ in range(3))
        peak = measured_peak(1)["flops"]
        seconds, = in_turns(lambda a=a, b=b, c=c: kernels.matmul(a, b, out=c))
        peak = (peak + measured_peak(1)["flops"]) / 2
        print(f"matmul {n} x {n} x {n} on one core: {2 * n ** 3 / seconds / peak:.1%} of {peak / 1e9:.0f} GFLOP/s")
    jit.set_num_threads(before)


def epilogue():
    """A bias, and a bias and ReLU, applied to the tile in registers."""
    a, b, c, bias = (rng.random(shape, np.float32) for shape in ((128, 784), (784, 512), (128, 512), 512))
    bare, shifted, bent = in_turns(lambda: kernels.matmul(a, b, out=c), lambda: kernels.matmul(a, b, bias, out=c),
                                   lambda: kernels.matmul(a, b, bias, "relu", out=c), seconds=3)
    print(f"128 x 784 x 512: a bias costs {shifted / bare - 1:+.1%}, bias and ReLU {bent / bare - 1:+.1%}")


def beside_blas(rounds=300):
    """A loop of NumPy's matmul and of kernels of ours, against the two loops apart: what their thread pools cost each other."""
    a, b, x = rng.random((256, 256), np.float32), rng.random((256, 256), np.float32), rng.random(200_000, np.float32)

    def loop(*calls):
        for _ in range(rounds):
            for call in calls:
                call()

    blas, ours = (lambda: a @ b), (lambda: kernels.tanh(x))
    apart_blas, apart_ours, mixed = in_turns(lambda: loop(blas), lambda: loop(ours), lambda: loop(blas, ours), seconds=4)
    print(f"NumPy's matmul and our tanh in one loop: {mixed / (apart_blas + apart_ours):.2f} of the time of the two apart")


MEMORY = """
import ctypes, sys
sys.path[:0] = sys.argv[2:]
import cases, systems

def kilobytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

library = cases._library(sys.argv[1])
step = systems.cnn_step(library[0], *library[2:], batch=2)
step()
ctypes.CDLL(None).malloc_trim(0)
before = kilobytes("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
step = systems.cnn_step(library[0], *library[2:])
for _ in range(5):
    step()
print(kilobytes("VmHWM") - before)
"""


def peak_memory():
    """Peak resident memory of five training steps of cnn_step, batch 64, each library in a process of its own (Linux).

    The baseline is the resident memory after the import, a network of the same shape and a step of two examples: compiled kernels and
    pools are there, what belongs to the batch is not, and free memory went back to the system. Then the mark of the peak is set back.
    """
    found = {}
    for side in ("scratchnn", "torch"):
        command = [sys.executable, "-c", MEMORY, side, *sys.path[:2]]
        output = [subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout for _ in range(3)]
        found[side] = statistics.median(int(text) for text in output) / 1024
    print(f"cnn_step takes {found['scratchnn']:.1f} MiB at its peak, torch {found['torch']:.1f} MiB: "
          f"{found['scratchnn'] / found['torch']:.2f} of it")


if __name__ == "__main__":
    one_core()
    epilogue()
    beside_blas()
    peak_memory()
