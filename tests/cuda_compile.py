"""Compile every CUDA kernel to machine code for sm_90, without a GPU: `python tests/cuda_compile.py [names]` prints a table.

Kernels are compiled for the types that the cases of test_kernels.py launch them with, on a device whose memory is the host's and whose
launches do nothing. With --loops it says what the loop that multiplies is made of (pip install nvidia-cuda-nvdisasm), with --json it
prints the table for test_cuda_compile.py.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from cuda_wing import run
from test_kernels import arguments, exports, file_of

from kernels import cuda, reference
from kernels.cuda import compiler, indexing, runtime
from kernels.cuda.array import to_device
from kernels.cuda.conv.pictures import pictures_kernel
from kernels.cuda.conv.weights import weights_kernel
from kernels.cuda.matmul import ladder, tf32, tiles
from kernels.cuda.matmul.products import tiled_kernel
from kernels.cuda.simulator import Simulator

ARCHITECTURE = (9, 0)
CASES = ((1, 1), (2, 5), (9, 7))           # N and D of the arguments that test_kernels.py makes


class CompileOnly(Simulator):
    """Memory like the simulator's; a launch compiles the kernel and notes what it became."""

    def __init__(self):
        super().__init__()
        self.found = []

    def load(self, kernel, kinds):
        start = time.perf_counter()
        made = kernel.compile(kinds, ARCHITECTURE)
        floats = any("float64" in kind for kind in kinds)
        self.found.append({"kernel": kernel.name, "kinds": " ".join(kinds), "seconds": time.perf_counter() - start, "wide": floats,
                           "doubles_meant": kernel.doubles, "threads": kernel.threads,
                           **{name: value for name, value in made._asdict().items() if name not in ("name", "cubin")}})
        return True

    def launch(self, loaded, grid, threads, args):
        pass

    def download(self, numbers, address):
        numbers.reshape(-1).view(np.uint8)[:] = 0xFF           # -1: no index is outside


def compile_all(names):
    device = CompileOnly()
    runtime.device = lambda: device
    np.seterr(all="ignore")
    for name in names:
        for N, D in CASES[1:2] if file_of(name) == "conv" else CASES:
            for args in arguments(name, np.float32, N, D):
                if file_of(name) == "conv" and len(args[0]) > 2:       # which take other tiles: those of compile_convolutions suffice
                    continue
                with contextlib.suppress(ValueError):          # categorical, which finds no probabilities
                    run(cuda, name, args)
    if "matmul" in names:
        compile_products(device)
    if "gather_rows" in names:
        compile_indexing()
    if "conv" in names:
        compile_convolutions(device)
    return device.found


def compile_indexing():
    """Keys that are arrays, which belong to no kernel of another wing."""
    x, index = to_device(np.zeros((3, 4), np.float32)), to_device(np.zeros((3, 2), np.int64))
    x[np.array([0, 2])] = x[np.array([1, 0])]
    np.add.at(x, (slice(None), index[0]), np.take_along_axis(x, index, 1))
    indexing.add_along(x[:, :2], 1, index, (3, 4))


def compile_products(device):
    """The tiles that the small cases do not reach: the largest in each form, by fours and singly; every rung of the ladder."""
    kinds, plain = ("*float32",) * 4 + ("int64",) * 10, ("*float32",) * 3 + ("int64",) * 3
    wanted = [(tiles.LARGE, *form, True, True, True, None) for form in ((True, False), (False, False), (True, True))]
    wanted += [(tiles.LARGE, True, False, False, False, False, "tanh"), (tiles.MEDIUM, True, False, True, True, True, "sigmoid")]
    for options in wanted:
        device.load(tiled_kernel(*options), kinds)
    for options in ((tf32.LARGE, True, False, None), (tf32.LARGE, False, True, None), (tf32.SMALL, True, True, "relu")):
        device.load(tf32.tf32_kernel(*options), kinds[:-1])
    for rung in (ladder.matmul_naive, ladder.matmul_shared_tiles, ladder.matmul_register_tiles):
        device.load(rung, plain)


def compile_convolutions(device):
    """Larger tiles of a forward pass and of an input gradient with a stride; weight gradients in parts."""
    pictures, weights = ("*float32",) * 4 + ("*int32",) * 2 + ("int64",) * 17, ("*float32",) * 3 + ("*int32",) * 2 + ("int64",) * 11
    for large, kinds in ((pictures_kernel(tiles.LARGE, True, True, True, False), pictures),
                         (pictures_kernel(tiles.LARGE, True, False, False, True), pictures),
                         (pictures_kernel(tiles.MEDIUM, True, True, False, False), pictures),
                         (weights_kernel(tiles.LARGE, True, True), weights), (weights_kernel(tiles.MEDIUM, True, True), weights)):
        device.load(large, kinds)


def multiplying_loop(cubin):
    """How often each instruction stands in the loop with the most multiplications of a kernel; empty if none multiplies."""
    found = sorted(Path(sysconfig.get_paths()["purelib"], "nvidia").glob("*/bin/nvdisasm"))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        lines = subprocess.run([shutil.which("nvdisasm") or found[-1], "-c", file.name], check=True, capture_output=True, text=True).stdout
    labels, code, best = {}, [], Counter()
    for line in lines.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?\w+\s+)?(\w+)(.*)", line):
            code.append(instruction.groups())
    for end, (name, rest) in enumerate(code):
        target = re.search(r"\.L_x_\d+", rest) if name == "BRA" else None
        if target and labels[target[0]] <= end:
            loop = Counter(name for name, _ in code[labels[target[0]]:end + 1])
            best = max(best, loop, key=lambda loop: loop["FFMA"] + loop["HMMA"])
    return best


def print_loops():
    for kernel in compiler.registry.values():
        for made in kernel.compiled.values():
            loop = multiplying_loop(made.cubin)
            if loop["FFMA"] + loop["HMMA"] >= 16:
                print(f"{kernel.name:48} {loop.total():5} instructions in the loop:",
                      ", ".join(f"{count} {name}" for name, count in loop.most_common(8)))


if __name__ == "__main__":
    chosen = [a for a in sys.argv[1:] if not a.startswith("-")]
    names = sorted(set(exports(cuda)) & set(exports(reference)))
    table = compile_all([n for n in names if n != "pack" and (not chosen or {n, file_of(n)} & {*chosen})])
    if "--json" in sys.argv:
        print(json.dumps(table))
    else:
        for row in table:
            print(f"{row['kernel']:48} {row['kinds']:60} {row['registers']:4} registers, spilled {row['spilled']}, local {row['local']}, "
                  f"shared {row['shared']}, doubles {row['doubles']}, {row['seconds']:.2f} s")
        if "--loops" in sys.argv:
            print_loops()
        print(len(table), "kernels,", round(sum(row["seconds"] for row in table), 1), "s;", len(compiler.registry), "registered")
