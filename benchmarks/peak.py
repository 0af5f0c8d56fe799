"""What the machine can do at most: fused multiply-adds on registers, and copying memory. Other figures are shares of these."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from kernels import jit
from kernels.cpu.matmul import simd

DEPTH = 256
tile = simd.product(simd.ROWS, simd.VECTORS)


@jit.inner
def tile_task(chunk, a, b, c, none, repeats, width):
    """Tiles of the matrix product on operands that stay in the first-level cache: little else than multiply-adds."""
    for _ in range(repeats):
        tile(a, 0, 1, simd.ROWS, b, 0, width, c, chunk * 4096, width, DEPTH, simd.ROWS, width, False, none, 0, False)


@jit.jit
def tiles(a, b, c, none, repeats, width, chunks, threads):
    jit.parallel_for(tile_task, chunks, threads, (a, b, c, none, repeats, width))


@jit.inner
def copy_task(chunk, x, y, size):
    y[chunk * size:(chunk + 1) * size] = x[chunk * size:(chunk + 1) * size]


@jit.jit
def copies(x, y, size, threads):
    jit.parallel_for(copy_task, x.size // size, threads, (x, y, size))


def _best(function, turns=20):
    function()
    found = []
    for _ in range(turns):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


def measured_peak(threads=None):
    """{"flops": per second, "bytes": copied per second, read and write counted, "threads"}: the best of several turns."""
    threads = threads or jit.get_num_threads()
    width = simd.VECTORS * simd.VECTOR_BYTES // 4
    a, b, c = np.ones(DEPTH * 16, np.float32), np.ones(DEPTH * width, np.float32), np.empty(4096 * 4 * threads, np.float32)
    none = np.empty(0, np.float32)
    seconds = _best(lambda: tiles(a, b, c, none, 400, width, 4 * threads, threads))
    x = np.ones(1 << 25, np.float32)
    y = np.empty_like(x)
    return {"flops": 2 * simd.ROWS * width * DEPTH * 400 * 4 * threads / seconds, "threads": threads,
            "bytes": 2 * x.nbytes / _best(lambda: copies(x, y, 1 << 16, threads), 8)}


if __name__ == "__main__":
    for count in range(1, jit.get_num_threads() + 1):
        peak = measured_peak(count)
        print(f"{count} threads: {peak['flops'] / 1e9:.0f} GFLOP/s float32, copy {peak['bytes'] / 1e9:.1f} GB/s")
