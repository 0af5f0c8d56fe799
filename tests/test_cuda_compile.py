"""Every CUDA kernel becomes machine code for sm_90, without a GPU, and what it became is looked at (tests/cuda_compile.py)."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REGISTERS = 65536          # of a multiprocessor


def installed(package):
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


if missing := [p for p in ("numba-cuda", "nvidia-nvjitlink", "greenlet") if not installed(p)]:
    pytest.skip(f"to compile for a GPU takes {' and '.join(missing)}: pip install 'scratchnn[cuda,simulator]'", allow_module_level=True)


@pytest.fixture(scope="module")
def table():
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "SCRATCHNN_CUDA": "device"}
    result = subprocess.run([sys.executable, str(HERE / "cuda_compile.py"), "--json"], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_no_kernel_uses_what_is_slow(table):
    """float64 only where it is meant, nothing spilled, no local memory; half of all warps fit, but for products, which are registers."""
    assert len(table) > 100
    for row in table:
        if not row["wide"] and not row["doubles_meant"]:
            assert row["doubles"] == 0, f"{row['kernel']} computes in float64: is there a Python float in it?"
        assert row["spilled"] == 0, row
        assert row["local"] == 0, f"{row['kernel']} keeps a local array in memory"
        assert row["shared"] <= 48 * 1024, row
        product = row["kernel"].startswith(("matmul", "conv", "rbm_draws"))
        assert row["registers"] <= (255 if product else 64), f"{row['kernel']} leaves few warps room"
        assert row["registers"] * row["threads"] <= REGISTERS, row
    large = [row for row in table if re.match("(matmul_128x128_.._vvv|conv_128x128_vv)_", row["kernel"])]
    assert large and max(row["registers"] for row in large) <= 128, "two blocks fit"
