"""Every environment variable of the project, in one place.

| variable | values | default | meaning |
|---|---|---|---|
| SCRATCHNN_KERNELS | cpu, reference | cpu | which wing runs NumPy arrays; `reference` is plain NumPy, for stepping through |
| SCRATCHNN_NUM_THREADS | 1, 2, ... | the cores this process may use | threads of a kernel |
| SCRATCHNN_THREADING | auto, gomp, numba, serial | auto | who starts the threads (kernels/jit.py) |
| SCRATCHNN_SIMD | auto, avx512, avx2, neon | auto | shape of the register tiles of matrix products |
| SCRATCHNN_CACHE | a folder | the user's cache folder | where compiled kernels are kept |
| SCRATCHNN_DATA | a folder | the user's cache folder | where data sets are kept |
| SCRATCHNN_CUDA | device, simulator | device | where CUDA kernels run: on a GPU, or as plain Python, for stepping through |
| SCRATCHNN_TF32 | 0, 1 | 0 | products of float32 on a GPU's tensor cores, with fewer digits (kernels/cuda/matmul/tf32.py) |
| SCRATCHNN_MALLOPT | 0, 1 | 1 | keep freed memory in the process instead of returning it (Linux with glibc only) |
"""

import os
import sys
from pathlib import Path


def _choice(name, *values):
    value = os.environ.get(name, values[0])
    if value not in values:
        raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(values)}")
    return value


def _threads():
    value = os.environ.get("SCRATCHNN_NUM_THREADS")
    if value is None:
        available = getattr(os, "sched_getaffinity", None)
        return len(available(0)) if available else os.cpu_count() or 1
    if not value.isdigit() or int(value) < 1:
        raise ValueError(f"SCRATCHNN_NUM_THREADS={value!r} is not a positive whole number")
    return int(value)


def _user_cache():
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))


KERNELS = _choice("SCRATCHNN_KERNELS", "cpu", "reference")
THREADING = _choice("SCRATCHNN_THREADING", "auto", "gomp", "numba", "serial")
SIMD = _choice("SCRATCHNN_SIMD", "auto", "avx512", "avx2", "neon")
CUDA = _choice("SCRATCHNN_CUDA", "device", "simulator")
TF32 = _choice("SCRATCHNN_TF32", "0", "1") == "1"          # snn.set_float32_matmul_precision changes it
MALLOPT = _choice("SCRATCHNN_MALLOPT", "1", "0") == "1"
NUM_THREADS = _threads()
CACHE = Path(os.environ.get("SCRATCHNN_CACHE", _user_cache() / "scratchnn" / "jit"))
DATA = Path(os.environ.get("SCRATCHNN_DATA", _user_cache() / "scratchnn" / "data"))
