"""WaveNet's kernels: every rung the same, drawn samples those of the naive way, in any cut, company and number of threads."""

import numpy as np
import pytest

from kernels import cpu, jit, reference
from kernels.cpu.wavenet import ladder
from kernels.cpu.wavenet.gates import gates
from kernels.reference.generate import _draw
from kernels.reference.random import _uniform53
from kernels.reference.wavenet import _draw_number
from kernels.shapes import LEVELS, WaveNetModel, WaveNetState


def make(R=19, S=21, Q=11, dilations=(1, 2, 4, 1, 2, 4), dtype=np.float64, ids=True):
    """A model with random weights that keep it lively."""
    rng, L = np.random.default_rng(0), len(dilations)

    def floats(*shape):
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(dtype)

    first, Q = ((floats(Q, R) * 4, None), Q) if ids else ((floats(R, 1), floats(R)), 12)
    stack = floats(L, 2 * R, R, 2) * dtype(1.5 / np.sqrt(R)), floats(L, 2 * R), floats(L - 1, R, R), floats(L - 1, R), dilations
    return WaveNetModel(*first, *stack, floats(S, L * R) * 2, floats(S), floats(S, S) * 2, floats(S), floats(Q, S) * 4, floats(Q))


def begin(model, N, P=3):
    rng = np.random.default_rng(1)
    if model.input_bias is None:
        return rng.integers(0, len(model.input_weight), (N, P))
    return (rng.integers(-LEVELS, LEVELS, (N, P)) / LEVELS).astype(model.weight.dtype)


def naive(model, start, steps, temperature, seed, condition=None, hop=1):
    """Samples drawn by running the whole network over everything so far for each of them, and their log-probabilities."""
    x, log_probs, ids = start, [], model.input_bias is None
    for s in range(steps):
        h = model.input_weight[x] if ids else x[..., None] * model.input_weight[:, 0] + model.input_bias
        added = None if condition is None else condition[:, np.arange(x.shape[1]) // hop]
        z = reference.wavenet(h, *model[2:7], added)[0]
        skip = np.maximum(z[:, -1] @ model.skip_weight.T + model.skip_bias, 0)
        outputs = np.maximum(skip @ model.out1_weight.T + model.out1_bias, 0) @ model.out2_weight.T + model.out2_bias
        u = [_uniform53(seed, s * len(x) + n, 2) for n in range(len(x))]
        drawn = [_draw(row, temperature, len(row), 1.0, u[n][0]) if ids else _draw_number(row, temperature, u[n])
                 for n, row in enumerate(outputs)]
        x = np.concatenate([x, np.array([[d[0]] for d in drawn], x.dtype)], 1)
        log_probs.append([d[1] for d in drawn])
    return x[:, start.shape[1]:], np.array(log_probs).T


@pytest.mark.parametrize("ids, dtype, tolerance", [(True, np.float32, 1e-4), (True, np.float64, 1e-10), (False, np.float64, 1e-10)])
def test_cached_samples_are_those_of_the_naive_way(ids, dtype, tolerance):
    """Several stacks, without a condition, with one for all and with one a frame; more samples than the receptive field sees.
    (In float32 a number may be rounded to the level beside.)"""
    rng = np.random.default_rng(2)
    for shape, frames, hop in (({}, 0, 1), ({"R": 5, "dilations": (1, 3, 9)}, 1, 99), ({"R": 33, "S": 70, "dilations": (2, 1)}, 9, 4)):
        model = make(ids=ids, dtype=dtype, **shape)
        condition = rng.standard_normal((2, frames, model.bias.size)).astype(dtype) if frames else None
        start = begin(model, 2)
        samples, log_probs = naive(model, start, 30, 0.8, 7, condition, hop)
        ours, ours_log_probs, _ = cpu.generate_wavenet(model, start, None, 30, 0.8, seed=7, condition=condition, hop=hop)
        np.testing.assert_array_equal(ours, samples)
        np.testing.assert_allclose(ours_log_probs, log_probs, atol=tolerance)


@pytest.mark.parametrize("ids", [True, False])
def test_cuts_threads_packing_and_company_change_no_bit(ids):
    model = make(R=33, dtype=np.float32, ids=ids)
    start, rng = begin(model, 5), np.random.default_rng(3)
    condition = rng.standard_normal((5, 9, model.bias.size)).astype(np.float32)
    settings = {"temperature": 0.9, "top_k": 7 if ids else None, "seed": 3, "hop": 5}
    before, found = jit.get_num_threads(), []
    try:
        for threads in (1, 2):
            jit.set_num_threads(threads)
            found.append(cpu.generate_wavenet(model, start, None, 40, **settings, condition=condition))
    finally:
        jit.set_num_threads(before)
    packed, given, state, pieces = cpu.pack_wavenet(model), start, None, []
    for s in range(0, 40, 8):
        frames = condition[:, 0 if state is None else state.position // 5:]
        more, log_probs, state = cpu.generate_wavenet(packed, given, state, 8, **settings, offset=5 * s, condition=frames)
        pieces.append((more, log_probs))
        given = more[:, -1:]
    found.append((*(np.concatenate(p, 1) for p in zip(*pieces, strict=True)), state))
    for samples, log_probs, state in found:
        assert state.position == 42
        for ours, theirs in zip((samples, log_probs, state.ring), (*found[0][:2], found[0][2].ring), strict=True):
            assert ours.tobytes() == theirs.tobytes()
    alone = cpu.generate_wavenet(model, start[:1], None, 1, **settings, condition=condition[:1])
    assert alone[0][0, 0] == found[0][0][0, 0] and alone[1][0, 0] == found[0][1][0, 0]


def test_all_rungs_do_the_same():
    model = make(R=32, dtype=np.float32)
    h = np.random.default_rng(0).standard_normal((2, 60, 32)).astype(np.float32)
    z = reference.wavenet(h, *model[2:7])[0]
    for rung in (ladder.naive, ladder.layer_by_layer, ladder.fused):
        np.testing.assert_allclose(rung(h, *model[2:7]), z, atol=2e-5)
    expected, _, _ = reference.generate_wavenet(model, [[0]], None, 25, 0.8, seed=3, offset=9)
    for rung in (ladder.full_run, ladder.cached, ladder.one_kernel, ladder.in_columns):
        np.testing.assert_array_equal(rung(model, 0, 25, 0.8, 3, 9), expected[0])


def test_layers_at_a_time_change_no_bit():
    """Whole sequences through all layers at once, or, where there are fewer of them than threads, layer by layer."""
    model, before = make(dtype=np.float32), jit.get_num_threads()
    h = np.random.default_rng(0).standard_normal((3, 333, 19)).astype(np.float32)
    try:
        found = []
        for threads in (1, 2):
            jit.set_num_threads(threads)
            found.append(cpu.wavenet(np.tile(h, (1, 9, 1)), *model[2:7]))
    finally:
        jit.set_num_threads(before)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*found, strict=True))


@jit.jit
def _gates(x, tangent, gate):
    for i in range(x.size):
        tangent[i], gate[i] = gates(x[i], x[i])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gates_are_exact(dtype):
    x = np.concatenate([np.linspace(-79, 79, 20001), 10.0 ** np.linspace(-30, 2, 999), [np.inf, -np.inf, np.nan, -0.0]]).astype(dtype)
    tangent, gate, exact = np.empty_like(x), np.empty_like(x), x.astype(np.longdouble)
    _gates(x, tangent, gate)
    with np.errstate(over="ignore", invalid="ignore"):
        for ours, true in ((tangent, np.tanh(exact)), (gate, 1 / (1 + np.exp(-exact)))):
            np.testing.assert_allclose(ours, true.astype(dtype), rtol=5 * np.finfo(dtype).eps, atol=2e-35)


def test_numbers_are_16_bit_samples_of_the_mixture():
    """Their frequencies are those of the two logistics; beyond the ends they are the ends."""
    model = make(R=2, S=3, dilations=(1,), ids=False)
    bias = np.array([np.log(0.3), np.log(0.7), -0.5, 0.4, -4.0, -2.0])
    model = model._replace(out2_weight=np.zeros((6, 3)), out2_bias=bias)
    samples, log_probs, _ = cpu.generate_wavenet(model, np.zeros((1, 1)), None, 20000, seed=1)
    levels = samples * LEVELS
    assert (levels == np.rint(levels)).all() and samples.min() >= -1 and samples.max() <= 1 - 1 / LEVELS

    def below(x):
        return sum(w / (1 + np.exp(-(x - m) / np.exp(s))) for w, m, s in ((0.3, -0.5, -4), (0.7, 0.4, -2)))

    for x in (-0.52, -0.5, 0.2, 0.4, 0.6, 0.95):
        assert abs((samples <= x).mean() - below(x)) < 0.02
    half = 0.5 / LEVELS
    expected = np.where(levels == LEVELS - 1, 1 - below(samples - half), below(samples + half) - below(samples - half))
    np.testing.assert_allclose(np.exp(log_probs), np.where(levels == -LEVELS, below(samples + half), expected), rtol=1e-6)
    mean, _, _ = cpu.generate_wavenet(model, np.zeros((1, 1)), None, 1, temperature=0)
    assert abs(mean[0, 0] - 0.4) <= half


def test_errors_say_what_would_fit():
    model, numbers = make(), make(ids=False)
    for error, text, change in (
            (ValueError, "whole numbers", {"start": [[0.5]]}), (IndexError, "0..10", {"start": [[11]]}),
            (ValueError, "steps", {"steps": -1}), (ValueError, "temperature", {"temperature": np.nan}), (ValueError, "top_k", {"top_k": 0}),
            (ValueError, "mixture", {"model": numbers, "start": [[0.5]], "top_k": 3}),
            (ValueError, r"\(1, 14, 19\)", {"state": WaveNetState(0, np.zeros((1, 3, 19)))}),
            (ValueError, "4 frames of 5", {"condition": np.zeros((1, 3, 228)), "hop": 5, "steps": 20}),
            (ValueError, "hop", {"condition": np.zeros((1, 3, 228)), "hop": 0}),
            (ValueError, "condition", {"condition": np.zeros((1, 3, 3))}),
            (ValueError, "skip_weight", {"model": model._replace(skip_weight=np.zeros((21, 3)))}),
            (TypeError, "skip_bias", {"model": model._replace(skip_bias=np.zeros(21, np.float32))}),
            (ValueError, "dilations", {"model": model._replace(dilations=(1, 0, 1, 1, 1, 1))}),
            (ValueError, "before sample 0 are not finite", {"model": model._replace(out2_bias=np.full(11, np.nan))})):
        for wing in (reference, cpu):
            with pytest.raises(error, match=text):
                wing.generate_wavenet(**{"model": model, "start": [[0]], "state": None, "steps": 3} | change)
    h, stack = np.zeros((2, 6, 19)), model[2:7]
    for error, text, arrays in ((ValueError, "divides", (h, *stack, np.zeros((2, 4, 228)))), (ValueError, "L at least 1", (h[0], *stack)),
                                (TypeError, "float32", (h.astype(np.float32), *stack))):
        for wing in (reference, cpu):
            with pytest.raises(error, match=text):
                wing.wavenet(*arrays)
