"""Compilation, cache, threads: each in processes of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scratchnn as snn
from kernels import jit
from kernels.cpu.matmul import simd
from scratchnn import nn, optim

ROOT = Path(__file__).parent.parent
OTHERS = [host for host in ("avx512", "avx2", "neon") if host != simd.HOST]
STEP = """
import scratchnn as snn
from scratchnn import nn, optim
from kernels import jit
snn.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
adam = optim.Adam(model.parameters(), 0.01)
for _ in range(2):
    loss = nn.functional.cross_entropy(model(snn.rand(5, 8)), snn.randint(0, 3, (5,)))
    adam.zero_grad()
    loss.backward()
    adam.step()
print(loss.item().hex(), jit.cache_statistics()["hits"], jit.cache_statistics()["misses"], jit.threading_layer)
"""


def python(code, path=ROOT, check=True, **variables):
    """Standard output of a new Python process, which fails on any warning."""
    environment = {**os.environ, "PYTHONPATH": str(path), **{k: str(v) for k, v in variables.items()}}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, cwd=path, capture_output=True, text=True, timeout=300
    )
    assert not check or result.returncode == 0, result.stderr
    return result.stdout.split() if check else result


def test_a_second_process_compiles_nothing_and_a_changed_file_is_never_served_stale(tmp_path):
    copy = tmp_path / "project"
    for package in ("kernels", "scratchnn"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    cache = tmp_path / "cache"
    loss, hits, misses, _ = python(STEP, copy, SCRATCHNN_CACHE=cache)
    assert int(hits) == 0 and int(misses) > 10
    again = python(STEP, copy, SCRATCHNN_CACHE=cache)
    assert again[:3] == [loss, misses, "0"]

    scalar = copy / "kernels" / "scalar" / "activation.py"  # a callee of every kernel, in another file than they
    relu_backward = "return g if y > 0 else like(g, 0)"
    assert relu_backward in scalar.read_text()
    scalar.write_text(scalar.read_text().replace(relu_backward, "return -g if y > 0 else like(g, 0)"))
    os.utime(scalar, (0, 0))  # a date says nothing
    changed = python(STEP, copy, SCRATCHNN_CACHE=cache)
    assert changed[0] != loss and int(changed[1]) == 0


def test_import_is_quick_and_loads_no_pictures():
    code = "import time, numba; t = time.perf_counter(); import scratchnn; print(time.perf_counter() - t)"
    seconds = [float(python(code, PYTHONDONTWRITEBYTECODE="")[0]) for _ in range(6)]
    assert min(seconds) < 0.15, seconds
    loaded = python(
        "import sys, numba; before = set(sys.modules); import scratchnn, scratchnn.nn, scratchnn.optim; "
        "print(*{m.partition('.')[0] for m in set(sys.modules) - before})"
    )
    assert not {"matplotlib", "scipy", "PIL", "tqdm", "torch", "sklearn", "pandas"} & set(loaded)


@pytest.mark.parametrize("threading", ["gomp", "numba", "serial"])
def test_every_way_to_start_threads_gives_the_same(threading):
    if threading == "gomp" and sys.platform != "linux":
        pytest.skip("libgomp is used on Linux only")
    code = """
import numpy as np, kernels
x = np.linspace(-3, 3, 300000, dtype=np.float32).reshape(300, 1000)
y = kernels.matmul(kernels.tanh(x), x.T.copy())
print(y.sum(dtype=float).hex(), kernels.sum(x).item().hex())
"""
    assert python(code, SCRATCHNN_THREADING=threading) == python(code, SCRATCHNN_NUM_THREADS=1)


@pytest.mark.parametrize("host", OTHERS)
def test_matrix_products_of_other_tile_shapes(host):
    """The tiles of other machines, run on this one (LLVM cuts their vectors to its own); its own are run by all other tests."""
    code = """
import numpy as np, kernels
rng = np.random.default_rng(0)
for dtype, bound in ((np.float32, 1e-4), (np.float64, 1e-12)):
    for M, K, N in ((1, 5, 7), (13, 17, 33), (64, 330, 50), (100, 77, 130), (29, 700, 31), (500, 40, 65)):
        a, b, bias = (rng.standard_normal(shape).astype(dtype) for shape in ((M, K), (K, N), N))
        for left in (a, a.T.copy().T):
            for right in (b, b.T.copy().T):
                c = kernels.matmul(left, right, bias=bias, activation='relu')
                assert np.allclose(c, np.maximum(a.astype(float) @ b + bias, 0), atol=bound * K), (M, K, N, dtype)
print('equal')
"""
    assert python(code, SCRATCHNN_SIMD=host) == ["equal"]


@pytest.mark.parametrize("host", OTHERS)
def test_convolutions_of_other_tile_shapes(host):
    """The same for the tiles of convolutions; packed operands too."""
    code = """
import numpy as np, kernels
from kernels import reference
rng = np.random.default_rng(0)
cases = ((20, 13, (3, 3), (1, 1), (1, 1), 1, (9, 30)), (40, 6, (3, 2), (2, 2), (1, 0), 2, (11, 8)),
         (3, 5, (4, 4), (2, 1), (1, 1), 1, (10, 70)), (18, 3, (1, 1), (1, 1), (0, 0), 3, (5, 21)))
for C, M, kernel, stride, padding, groups, size in cases:
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, C, *size), (M, C // groups, *kernel)))
    options = (stride, padding, (1, 1), groups)
    y = reference.conv(x, w, None, *options)
    g = rng.standard_normal(y.shape).astype(np.float32)
    for name, args in (('conv', (x, w, None)), ('conv_input_gradient', (g, w, size, None)), ('conv_weight_gradient', (g, x, kernel))):
        ours, theirs = (getattr(wing, name)(*args, *options) for wing in (kernels, reference))
        assert np.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max()), (name, C, M, kernel)
a, b = rng.standard_normal((7, 530)).astype(np.float32), rng.standard_normal((530, 45)).astype(np.float32)
assert np.allclose(kernels.matmul(a, kernels.pack(b)), a @ b, atol=1e-3)
print('equal')
"""
    assert python(code, SCRATCHNN_SIMD=host) == ["equal"]


@pytest.mark.parametrize("host", OTHERS)
def test_gibbs_steps_of_other_tile_shapes(host):
    """The same for the tables of sums of a Gibbs step and of its statistics."""
    code = """
import numpy as np, kernels
from kernels import reference
rng = np.random.default_rng(0)
for M, K, N in ((12, 5, 7), (29, 130, 33), (60, 100, 130)):
    v, h = ((rng.random(shape) < 0.5).astype(np.float32) for shape in ((M, K), (M, N)))
    w, b = rng.standard_normal((K, N)).astype(np.float32), rng.standard_normal(N).astype(np.float32)
    for weights in (w, w.T.copy().T):
        for name in ('rbm_inputs', 'rbm_probabilities'):
            ours, theirs = (getattr(wing, name)(v, weights, b, 0.5) for wing in (kernels, reference))
            assert np.allclose(ours, theirs, atol=1e-4), (name, M, K, N)
        assert (kernels.rbm_sample(v, weights, b, 1, 2) == reference.rbm_sample(v, weights, b, 1, 2)).all()
    assert np.allclose(kernels.rbm_statistics(v, h, v[3:], h[3:]), reference.rbm_statistics(v, h, v[3:], h[3:]), atol=1e-4)
print('equal')
"""
    assert python(code, SCRATCHNN_SIMD=host) == ["equal"]


@pytest.mark.parametrize("host", OTHERS)
def test_wavenet_of_other_tile_shapes(host):
    """The same for its stack, forward and backward, and for the samples that it draws."""
    code = """
import numpy as np, kernels
from kernels import reference
from kernels.shapes import WaveNetModel
rng, R, L, S, Q, dilations = np.random.default_rng(0), 5, 3, 7, 11, (1, 2, 4)
def floats(*shape):
    return 0.5 * rng.standard_normal(shape)
h, stack = floats(2, 53, R), (floats(L, 2 * R, R, 2), floats(L, 2 * R), floats(L - 1, R, R), floats(L - 1, R))
ours, theirs = (wing.wavenet(h, *stack, dilations) for wing in (kernels, reference))
g = floats(*theirs[0].shape)
ours += kernels.wavenet_backward(g, *ours, stack[0], stack[2], dilations)[:5]
theirs += reference.wavenet_backward(g, *theirs, stack[0], stack[2], dilations)[:5]
assert all(np.allclose(a, b, atol=1e-12) for a, b in zip(ours, theirs, strict=True))
model = WaveNetModel(floats(Q, R), None, *stack, dilations, floats(S, L * R), floats(S), floats(S, S), floats(S), floats(Q, S), floats(Q))
ours, theirs = (wing.generate_wavenet(model, np.array([[1], [2], [3]]), None, 20) for wing in (kernels, reference))
assert np.array_equal(ours[0], theirs[0]) and np.allclose(ours[1], theirs[1], atol=1e-12)
print('equal')
"""
    assert python(code, SCRATCHNN_SIMD=host) == ["equal"]


def test_the_reference_wing_runs_a_whole_step():
    reference, cpu = python(STEP, SCRATCHNN_KERNELS="reference"), python(STEP)
    assert abs(float.fromhex(reference[0]) - float.fromhex(cpu[0])) < 1e-5
    assert reference[2] == "0"


def test_a_forked_child_runs_serial_instead_of_hanging():
    if not hasattr(os, "fork"):
        pytest.skip("this platform has no fork")
    code = """
import os, numpy as np, kernels
x = np.ones(200000, np.float32)
kernels.exp(x)
child = os.fork()
if child == 0:
    os._exit(0 if kernels.exp(x)[0] > 2.7 else 1)
print(os.waitpid(child, 0)[1])
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.stdout.split() == ["0"], result.stderr


@pytest.mark.parametrize(
    "name, value", [("SCRATCHNN_KERNELS", "gpu"), ("SCRATCHNN_NUM_THREADS", "many"), ("SCRATCHNN_THREADING", "tbb")]
)
def test_a_wrong_setting_is_refused(name, value):
    result = python("import scratchnn", check=False, **{name: value})
    assert result.returncode != 0 and f"{name}='{value}'" in result.stderr


def test_another_packages_kernels_is_named(tmp_path):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("")
    result = python(f"import sys; sys.path.append({str(ROOT)!r}); import scratchnn", tmp_path, check=False)
    assert result.returncode != 0 and "fresh virtual environment" in result.stderr


def test_training_is_bit_equal_on_one_and_two_threads():
    def train(threads):
        before = snn.get_num_threads()
        snn.set_num_threads(threads)
        try:
            snn.manual_seed(3)
            model = nn.Sequential(nn.Linear(300, 257), nn.LayerNorm(257), nn.GELU(), nn.Dropout(0.2), nn.Linear(257, 11))
            adam = optim.AdamW(model.parameters(), 1e-2)
            for _ in range(4):
                loss = nn.functional.cross_entropy(model(snn.randn(200, 300)), snn.randint(0, 11, (200,)))
                adam.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                adam.step()
            return [p.array.copy() for p in model.parameters()]
        finally:
            snn.set_num_threads(before)

    one, two = train(1), train(2)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert jit.threading_layer in ("gomp", "numba", "serial")
