"""The rungs of the ladders against each other, on one core: verified first, then timed by pytest-benchmark.

    pytest benchmarks/test_kernels.py --benchmark-columns=median --benchmark-group-by=group

Compilation is not in the times: each function is called, and its result checked, before. extra_info holds GFLOP/s.
"""

import numpy as np
import pytest

import kernels
from kernels import jit
from kernels.cpu.conv import ladder as conv_ladder
from kernels.cpu.generate import ladder as text_ladder
from kernels.cpu.lstm import ladder as lstm_ladder
from kernels.cpu.matmul import ladder
from kernels.cpu.rbm import ladder as rbm_ladder
from kernels.cpu.wavenet import ladder as wavenet_ladder
from kernels.shapes import TextModel, WaveNetModel

RUNGS = {"naive": ladder.naive, "by_rows": ladder.by_rows, "blocked": ladder.blocked, "four_steps": ladder.four_steps,
         "packed": lambda a, b, c: kernels.matmul(a, b, out=c)}
CONV_RUNGS = {"naive": conv_ladder.naive, "by_rows": conv_ladder.by_rows, "im2col": conv_ladder.im2col,
              "direct": lambda x, w, y: np.copyto(y, kernels.conv(x, w, padding=(w.shape[2] // 2,) * 2))}
SEED = (1, 2)                                                            # and offset of the draws
RBM_RUNGS = {"naive": lambda v, w, b, u: rbm_ladder.naive(v, w, b, u, np.empty_like(u)),
             "rows_of_ones": lambda v, w, b, u: rbm_ladder.rows_of_ones(v, w, b, u, np.empty_like(u)),
             "product_and_draw": lambda v, w, b, u: rbm_ladder.product_and_draw(v, w, b, *SEED),
             "fused": lambda v, w, b, u: rbm_ladder.fused(v, w, b, *SEED),
             "tables": lambda v, w, b, u: kernels.rbm_sample(v, w, b, *SEED)}

TEXT_RUNGS = {"call_by_call": lambda model, steps: text_ladder.call_by_call(model, 0, steps, 0.8, *SEED),
              "one_kernel": lambda model, steps: text_ladder.one_kernel(model, 0, steps, 0.8, *SEED),
              "on_all_cores": lambda model, steps: kernels.generate_text(model, np.zeros((1, 1), int), None, steps, 0.8, None, 1.0,
                                                                         *SEED)[0][0]}
LSTM_RUNGS = {name: getattr(lstm_ladder, name) for name in ("naive", "step_by_step", "inputs_at_once", "fused")}
WAVENET_RUNGS = ("naive", "layer_by_layer", "fused")
WAVENET_SAMPLERS = ("full_run", "cached", "one_kernel", "in_columns")


@pytest.fixture
def one_thread():
    before = jit.get_num_threads()
    jit.set_num_threads(1)
    yield
    jit.set_num_threads(before)


@pytest.mark.parametrize("shape", [(128, 784, 512), (512, 512, 512)], ids=str)
@pytest.mark.parametrize("rung", RUNGS)
def test_matmul(benchmark, one_thread, rung, shape):
    M, K, N = shape
    rng = np.random.default_rng(0)
    a, b, c = rng.random((M, K), np.float32), rng.random((K, N), np.float32), np.empty((M, N), np.float32)
    function = RUNGS[rung]
    function(a, b, c)
    np.testing.assert_allclose(c, a.astype(float) @ b, rtol=1e-4)
    benchmark.group = f"matmul {M} x {K} x {N}"
    benchmark(function, a, b, c)
    if benchmark.stats:
        benchmark.extra_info["GFLOP/s"] = round(2e-9 * M * N * K / benchmark.stats.stats.median, 1)


@pytest.mark.parametrize("epilogue", ["none", "bias", "bias and relu"])
def test_matmul_epilogue(benchmark, epilogue):
    """Bias and activation applied to the tile in the cache, beside the bare product."""
    rng = np.random.default_rng(0)
    a, b, c = rng.random((128, 784), np.float32), rng.random((784, 512), np.float32), np.empty((128, 512), np.float32)
    bias = None if epilogue == "none" else np.ones(512, np.float32)
    activation = "relu" if "relu" in epilogue else None
    kernels.matmul(a, b, bias=bias, activation=activation, out=c)
    np.testing.assert_allclose(c, a.astype(float) @ b + (0 if bias is None else bias), rtol=1e-4)
    benchmark.group = "epilogue 128 x 784 x 512"
    benchmark(kernels.matmul, a, b, bias=bias, activation=activation, out=c)


@pytest.mark.parametrize("shape", [(4, 32, 28, 28), (1, 64, 64, 64)], ids=str)
@pytest.mark.parametrize("rung", CONV_RUNGS)
def test_conv(benchmark, one_thread, rung, shape):
    """As many outputs as inputs, kernels of 3 x 3."""
    C, rng = shape[1], np.random.default_rng(0)
    x, w, y = rng.random(shape, np.float32), rng.random((C, C, 3, 3), np.float32), np.empty(shape, np.float32)
    function = CONV_RUNGS[rung]
    function(x, w, y)
    np.testing.assert_allclose(y, kernels.conv(x.astype(float), w.astype(float), padding=(1, 1)), rtol=1e-4)
    benchmark.group = f"conv {' x '.join(map(str, shape))}"
    benchmark(function, x, w, y)
    if benchmark.stats:
        benchmark.extra_info["GFLOP/s"] = round(2e-9 * 9 * C * y.size / benchmark.stats.stats.median, 1)


@pytest.mark.parametrize("rung", RBM_RUNGS)
def test_half_step(benchmark, one_thread, rung):
    """100 x 784 binary states to draws of 500 hidden units; GFLOP/s as if all products were made."""
    rng = np.random.default_rng(0)
    v, w = (rng.random((100, 784)) < 0.5).astype(np.float32), rng.normal(0, 0.3, (784, 500)).astype(np.float32)
    b = np.zeros(500, np.float32)
    u = kernels.uniform(*SEED, (100, 500), np.dtype(np.float32))
    function = RBM_RUNGS[rung]
    p = 1 / (1 + np.exp(-(v.astype(float) @ w + b)))
    np.testing.assert_array_equal((function(v, w, b, u) == (u < p))[abs(u - p) > 1e-6], True)
    benchmark.group = "half step 100 x 784 x 500"
    benchmark(function, v, w, b, u)
    if benchmark.stats:
        benchmark.extra_info["GFLOP/s"] = round(2e-9 * 100 * 784 * 500 / benchmark.stats.stats.median, 1)


@pytest.mark.parametrize("rung", TEXT_RUNGS)
def test_text(benchmark, rung):
    """200 characters of 65 from an LSTM of 512 units, on all cores."""
    rng = np.random.default_rng(0)
    shapes = (65, 64), (2048, 64), (2048, 512), (2048,), (2048,), (65, 512), (65,)
    embedding, *layer, weight, bias = (rng.uniform(-0.04, 0.04, shape).astype(np.float32) for shape in shapes)
    model, function = TextModel("lstm", embedding, [layer], weight, bias), TEXT_RUNGS[rung]
    np.testing.assert_array_equal(function(model, 200), TEXT_RUNGS["one_kernel"](model, 200))
    benchmark.group = "200 characters, LSTM 512"
    benchmark(function, model, 200)


@pytest.mark.parametrize("rung", LSTM_RUNGS)
def test_lstm(benchmark, rung):
    """64 steps of 64 sequences, 64 inputs, 512 units, on all cores."""
    T, B, D, H = 64, 64, 64, 512
    rng = np.random.default_rng(0)
    x, h, c = (rng.standard_normal(shape).astype(np.float32) for shape in ((T, B, D), (B, H), (B, H)))
    weights = [rng.uniform(-0.04, 0.04, shape).astype(np.float32) for shape in ((4 * H, D), (4 * H, H), 4 * H)]
    function = LSTM_RUNGS[rung]
    np.testing.assert_allclose(function(x, h, c, *weights), lstm_ladder.naive(x, h, c, *weights), rtol=1e-4, atol=1e-5)
    benchmark.group = f"lstm {T} x {B} x {D}, {H} units"
    benchmark(function, x, h, c, *weights)
    if benchmark.stats:
        benchmark.extra_info["GFLOP/s"] = round(2e-9 * T * B * 4 * H * (D + H) / benchmark.stats.stats.median, 1)


def wavenet_model(R=32, S=128, Q=256):
    """2 x 9 layers with random weights."""
    rng, dilations = np.random.default_rng(0), tuple(2 ** i for i in range(9)) * 2
    L = len(dilations)
    shapes = (Q, R), (L, 2 * R, R, 2), (L, 2 * R), (L - 1, R, R), (L - 1, R), (S, L * R), (S,), (S, S), (S,), (Q, S), (Q,)
    table, *arrays = ((rng.random(shape, np.float32) - 0.5) / np.float32(3) for shape in shapes)
    return WaveNetModel(table, None, *arrays[:4], dilations, *arrays[4:])


@pytest.mark.parametrize("rung", WAVENET_RUNGS)
def test_wavenet(benchmark, one_thread, rung):
    """The stack forward, a sequence of 4096 positions."""
    model, function = wavenet_model(), getattr(wavenet_ladder, rung)
    h = np.random.default_rng(1).standard_normal((1, 4096, 32)).astype(np.float32)
    np.testing.assert_allclose(function(h, *model[2:7]), wavenet_ladder.naive(h, *model[2:7]), atol=1e-5)
    benchmark.group = "wavenet 2 x 9 layers, 32 channels, 4096 positions"
    benchmark(function, h, *model[2:7])
    if benchmark.stats:
        benchmark.extra_info["GFLOP/s"] = round(10e-9 * 18 * 4096 * 32 ** 2 / benchmark.stats.stats.median, 1)


@pytest.mark.parametrize("rung", WAVENET_SAMPLERS)
def test_wavenet_samples(benchmark, one_thread, rung):
    model, function, steps = wavenet_model(), getattr(wavenet_ladder, rung), 20
    np.testing.assert_array_equal(function(model, 0, steps, 0.8, *SEED), wavenet_ladder.one_kernel(model, 0, steps, 0.8, *SEED))
    benchmark.group = "wavenet samples"
    benchmark(function, model, 0, steps, 0.8, *SEED)
    if benchmark.stats:
        benchmark.extra_info["samples/s"] = round(steps / benchmark.stats.stats.median)
