"""Every kernel of the CPU wing against the reference wing: awkward shapes, any layout, the same bits on any number of threads."""

import contextlib
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes
from scipy import stats

from kernels import cpu, jit, reference, scalar
from kernels.reference.random import _philox
from kernels.shapes import GATES, Distortion, TextModel, WaveNetModel, WaveNetState

FLOATS = [np.float32, np.float64]
TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-11}
LAYOUTS = {
    "contiguous": np.copy,
    "negative strides": lambda a: np.flip(np.flip(a).copy()),
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "transposed": lambda a: a.copy(order="F"),
}
BINARY = {"add", "sub", "mul", "div", "floor_divide", "remainder", "pow", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge",
          "logical_and", "logical_or", "logical_xor", "sigmoid_backward", "tanh_backward", "softplus_backward", "relu_backward",
          "leaky_relu_backward", "elu_backward", "silu_backward", "gelu_backward", "gelu_tanh_backward",
          "binary_cross_entropy_with_logits", "gaussian_kl", "gaussian_kl_backward"}
TERNARY = {"where", "gaussian_sample", "gaussian_sample_backward", "binary_cross_entropy_with_logits_backward"}
PARAMETERS = {"clamp": (-0.5, 0.75), "softplus": (2.0, 1.5), "softplus_backward": (2.0, 1.5), "leaky_relu": (0.2,),
              "leaky_relu_backward": (0.2,), "elu": (1.5,), "elu_backward": (1.5,)}


# ---- what each kernel is called with --------------------------------------------------------------------------------

def exports(wing):
    return {name: f for name, f in vars(wing).items() if callable(f) and not name.startswith("_")}


def file_of(name):
    return exports(reference)[name].__module__.rpartition(".")[2]


def arguments(name, dtype, N, D):
    """A list of argument tuples for the kernel `name`, made of arrays (N, D), (N,) and (D,)."""
    rng = np.random.default_rng([N, D])

    def floats(*shape):
        return np.asarray(rng.standard_normal(shape), dtype)

    x, g, y = floats(N, D), floats(N, D), floats(N, D)
    if file_of(name) == "elementwise":
        operands = (x > 0, g, y) if name == "where" else (x, g, y)[:3 if name in TERNARY else 2 if name in BINARY else 1]
        return [(*operands, *PARAMETERS.get(name, ()))]
    return ARGUMENTS[file_of(name)](rng, floats, N, D, x, g)[name]


def reduce_arguments(rng, floats, N, D, x, g):
    cube = floats(N, 3, D)
    dims = [(cube, dims, keepdim) for dims in (None, (0,), (1,), (2,), (0, 1), (1, 2), (0, 2)) for keepdim in (False, True)]
    one = [(cube, dim) for dim in (0, 1, 2)]
    whole = [(rng.integers(-9, 9, (N, D)), (1,)), (x > 0, (0,)), (rng.integers(0, 255, (N, D)).astype(np.uint8), None)]
    return {"sum": dims + whole, "mean": dims, "max": dims, "min": dims, "logsumexp": dims, "argmax": [(*a, True) for a in one],
            "argmin": one, "gaussian_kl_total": [(x, g)], "cumsum": one + [(x > 0, 1)],
            "var": [(a, d, c, k) for a, d, k in dims for c in (0, 1)]}


def matmul_arguments(rng, floats, N, D, x, g):
    fused = [(x, g.T, floats(N), activation) for activation in (None, "relu", "sigmoid", "tanh")]
    return {"matmul": fused + [(x.T, g), (x, floats(D)), (floats(N), x), (x[0], g[0]), (floats(3, 1, N, D), floats(2, D, 4))]}


def conv_arguments(rng, floats, N, D, x, g):
    """1x1 kernels, large ones and such as see the whole picture; strides, holes, groups, more channels than a vector holds. Two pictures;
    and more and fewer than one or two vectors hold, some with channels enough for Winograd's way."""
    found = {"conv": [], "conv_input_gradient": [], "conv_weight_gradient": []}
    H, W = min(D, 9) + 4, min(N, 70) + 4
    alone = [(1, 17, 5, (1, 1), (1, 1), (0, 0), (1, 1), 1), (2, 2, 3, (1, 1), (1, 1), (0, 0), (1, 1), 1),
             (2, 17, 5, (3, 2), (1, 1), (1, 1), (1, 1), 1), (2, 3, 6, (3, 3), (2, 3), (1, 0), (1, 2), 3),
             (2, 5, 5, (3, 3), (1, 1), (1, 1), (1, 1), 5), (2, 2, 2, (1, 2), (3, 3), (0, 1), (1, 1), 2),
             (2, 4, 6, (2, 3), (2, 1), (1, 2), (1, 2), 2), (2, 3, 13, (4, 4), (2, 3), (2, 2), (1, 1), 1),
             (2, 2, 2, (H, W), (1, 1), (0, 0), (1, 1), 1), (2, 6, 34, (1, 1), (1, 1), (0, 0), (1, 1), 2)]
    batches = [(15, 9, 5, (3, 3), (1, 1), (1, 1), (1, 1), 1), (16, 24, 21, (3, 3), (1, 1), (0, 2), (1, 1), 1),
               (37, 40, 42, (3, 3), (1, 1), (1, 1), (1, 1), 2), (35, 9, 5, (3, 3), (1, 1), (1, 1), (1, 1), 1),
               (19, 6, 10, (4, 3), (2, 3), (2, 1), (1, 1), 2), (17, 3, 2, (2, 2), (3, 3), (0, 0), (1, 1), 1)]
    for batch, C, outputs, kernel, *options, groups in alone + batches:
        y = reference.conv(np.zeros((1, C, H, W)), np.zeros((outputs, C // groups, *kernel)), None, *options, groups)
        weight = floats(outputs, C // groups, *kernel) / np.sqrt(C * np.prod(kernel)).astype(x.dtype)
        pictures, arrived = floats(batch, C, H, W), floats(batch, *y.shape[1:]) / np.sqrt(batch * y[0].size).astype(x.dtype)
        found["conv"] += [(pictures, weight, floats(outputs), *options, groups, activation) for activation in (None, "relu")]
        found["conv_input_gradient"] += [(arrived, weight, (H, W), bias, *options, groups) for bias in (None, floats(C))]
        found["conv_weight_gradient"] += [(arrived, pictures, kernel, *options, groups)]
    return found


def softmax_arguments(rng, floats, N, D, x, g):
    y = reference.softmax(x)
    return {"softmax": [(x,), (floats(2, N, 3),), (200 * x,)], "log_softmax": [(x,), (x[0],), (200 * x,)],
            "softmax_backward": [(g, y)], "log_softmax_backward": [(g, np.log(y))]}


def loss_arguments(rng, floats, N, D, x, g):
    target, weight = rng.integers(0, D, N), rng.random(D).astype(x.dtype)
    target[::3] = -1
    lse = reference.logsumexp(x, (1,))
    options = [(None, -1), (weight, -1, 0.0), (None, -1, 0.1), (weight, -1, 0.3)]
    rows, binary = 3 * floats(N, 3, D), rng.integers(0, 2, (N, D)).astype(x.dtype)
    return {"binary_cross_entropy_with_logits_rows": [(rows, binary), (20 * rows[:, :1], binary)],
            "binary_cross_entropy_with_logits_rows_backward": [(rows[:, :, 0], rows, binary)],
            "binary_cross_entropy_with_logits_total": [(x, g), (rows, np.cos(rows))],
            "cross_entropy": [(x, target, *o) for o in options] + [(x, np.abs(target).astype(np.uint8) % D)],
            "cross_entropy_backward": [(g[:, 0], x, lse, target, *o) for o in options]}


def norm_arguments(rng, floats, N, D, x, g):
    x, weight, bias = 3 * x + 5, floats(D), floats(D)
    _, mean, rstd = reference.layer_norm(x, None, None, 1e-3)
    return {"layer_norm": [(x, weight, bias, 1e-3), (x, weight, None, 1e-3), (x, None, None, 1e-3)],
            "layer_norm_backward": [(g, x, mean, rstd, weight), (g, x, mean, rstd, None)]}


def batch_norm_arguments(rng, floats, N, D, x, g):
    weight, bias, pixels = floats(D), floats(D), floats(N, D, 3, 11)
    shapes = [(3 * a + 5, floats(*a.shape)) for a in (x[1:] if N > 2 else np.repeat(x, 2, 0), floats(N, D, 3), pixels)]
    forward, backward, groups, groups_backward = [], [], [], []
    for a, grad in shapes:
        _, mean, var = reference.batch_norm(a, None, None, 1e-3)
        forward += [(a, weight, bias, 1e-3), (a, None, None, 1e-3), (a, weight, None, 1e-3, floats(D), floats(D) ** 2)]
        forward += [(a, weight, bias, 1e-3, None, None, slope) for slope in (0, 0.2)]
        forward += [(a, weight, bias, 1e-3, floats(D), floats(D) ** 2, 0.2)]
        backward += [(grad, a, mean, var, weight, 1e-3), (grad, a, mean, var, None, 1e-3)]
        backward += [(grad, a, mean, var, weight, 1e-3, b, slope) for b in (None, bias) for slope in (0, 0.2)]
        for count in (D, 1):
            if a[0].size > count:
                _, mean, var = reference.group_norm(a, count, None, None, 1e-3)
                groups += [(a, count, weight, bias, 1e-3), (a, count, None, None, 1e-3)]
                groups_backward += [(grad, a, mean, var, weight, 1e-3)]
    return {"batch_norm": forward, "batch_norm_backward": backward, "group_norm": groups, "group_norm_backward": groups_backward}


def embedding_arguments(rng, floats, N, D, x, g):
    index = rng.integers(0, 7, N)
    return {"gather_rows": [(floats(7, D), index)], "scatter_add_rows": [(g, index, 7), (g, index.astype(np.int32), 9)]}


def random_arguments(rng, floats, N, D, x, g):
    seed, p = 2 ** 63 + 12345, rng.random((N, D)).astype(x.dtype)
    far = 2 ** 64 - 3                                                              # blocks number 0 follow on 2^64 - 1
    shapes = [(seed, 7, (N, D), x.dtype), (1, far, N * D + 1, x.dtype)]
    return {"blocks": [(N * D, 2), (N,)], "words": [(seed, 2 ** 32 - 2, N * D), (-1, far, N * D + 1)],
            "uniform": shapes, "normal": shapes,
            "randint": [(seed, 0, -3, 9, (N, D)), (seed, far, -2 ** 63, 2 ** 63 - 1, N)], "bernoulli": [(seed, 5, p)],
            "permutation": [(seed, 3, N * D)], "dropout": [(x, 0.3, seed, 0), (x, 0, seed, 0), (x, 1.0, seed, 0)],
            "categorical": [(seed, 1, p, 3), (seed, 1, p * (p > 0.5) + (p.max(1, keepdims=True) == p), 1)]}


def optimizer_arguments(rng, floats, N, D, x, g):
    params, grads, buffers = ([floats(N, D), floats(D), floats()] for _ in range(3))
    s, s2 = ([np.square(floats(*a.shape)) + np.ones_like(a) for a in params] for _ in range(2))
    s, s2, small = ([np.asarray(a) for a in arrays] for arrays in (s, s2, [0.1 * b for b in buffers]))
    adam = (1e-2, 0.9, 0.99, 1e-8)
    return {"sgd": [(params, grads, None, 0.1, 0.0, 0.0, 0.01), (params, grads, buffers, 0.1, 0.9, 0.2, 0.01),
                    (params, grads, buffers, 0.1, 0.9, 0.0, 0.0, True), (params, grads, buffers, 0.1, 0.9, 0.5, 0.01, False, True)],
            "adam": [(params, grads, buffers, s, None, *adam, 0.1, 1, False), (params, grads, buffers, s, s2, *adam, 0.1, 3, True)],
            "rmsprop": [(params, grads, s, None, None, 0.1, 0.9, 1e-8, 0.01, 0.0),
                        (params, grads, s, buffers, small, 0.1, 0.9, 1e-8, 0.01, 0.9)],
            "adagrad": [(params, grads, s, 0.1, 0.01, 1e-10, 0.01, 4)],
            "lerp": [(params, grads, 0.3)], "squared_norms": [(params,), ([],)], "scale": [(params, 0.5)]}


def rbm_arguments(rng, floats, N, D, x, g):
    """Few rows and many, binary states and real ones, weights as they lie and transposed, columns that fill no vector."""
    binary, real, w, b = (x > 0).astype(x.dtype), np.abs(x), floats(D, 37) / np.sqrt(D).astype(x.dtype), floats(37)
    steps = [(v, *rest) for v in (binary, real) for rest in ((w, b), (floats(37, D).T / 6, b, 0.5))]
    draws = [(v, m, c, 2 ** 63 + 5, 2 ** 64 - 3, *rest) for v, m, c, *rest in steps]
    h, h1 = rng.random((2, N, 37)).astype(x.dtype)
    return {"rbm_blocks": [(N, D)], "rbm_inputs": steps, "rbm_probabilities": steps,
            "rbm_sample": [*draws, (binary, w, b, 1, 2, 1, True)],
            "rbm_statistics": [(v, h, (g > 0).astype(x.dtype)[1 if N > 1 else 0:], h1[1 if N > 1 else 0:]) for v in (binary, real)]}


def lstm_arguments(rng, floats, N, D, x, g):
    """One unit and more than two panels hold, one sequence and more than a tile; lengths, both directions."""
    found = {name: [] for name in ("lstm", "lstm_backward", "gru", "gru_backward", "rnn", "rnn_backward")}
    few = min(N, 14)
    for T, B, H, lengths, reverse in ((3, N, D, None, False), (4, few, 34, np.arange(few) % 4 + 1, True), (1, 3, D, None, True)):
        h0, c0, gh, gc = floats(4, B, H)
        way, out = (lengths, reverse), floats(T, B, H)
        for name, G, nonlinearity in (("lstm", 4, ()), ("gru", 3, ()), ("rnn", 1, ("tanh",)), ("rnn", 1, ("relu",))):
            x, weight, state = floats(T, B, G * H), floats(G * H, H) / np.sqrt(2 * H).astype(h0.dtype), (h0, c0)[:2 if G == 4 else 1]
            biases = (None, floats(G * H)) if name == "gru" else ()
            forward = [(x, *state, weight, *nonlinearity, *([bias] if biases else []), *way) for bias in biases or (None,)]
            found[name] += forward
            kept = getattr(reference, name)(*forward[-1])[1 + len(state) + (G == 4):]
            found[f"{name}_backward"] += [(arrived, *last, *kept, weight, *nonlinearity, *way) for arrived, last in
                                          ((out, (gh, gc)[:len(state)]), (out, (None,) * len(state)), (None, (gh, gc)[:len(state)]))]
    return found


def warp_arguments(rng, floats, N, D, x, g):
    pictures, near, far = floats(N, 2, D, 3), floats(N, 2, 3), 9 * floats(N, 2, 3)
    return {"warp": [(pictures, near), (pictures, near, floats(N, 2, D, 3)), (pictures, far, floats(N, 2, 4, 7), (4, 7))],
            "gaussian_blur": [(pictures, 0.3), (pictures, 1.5), (x, 4)]}


def augment_arguments(rng, floats, N, D, x, g):
    pictures = floats(N, 2, D + 1, 5)
    rigid, bent = Distortion(1.5, 0.3, 0.2, 0.1, 0.5, 0.4, share=0.6), Distortion(elastic=1.5, spacing=3, brightness=0.5, share=0.7)
    return {"augment": [(pictures, 7, 3, rigid), (pictures, 7, 3, rigid, (D, 3)), (np.abs(pictures).astype(np.float32), 1, 0, bent),
                        (pictures, 1, 0, Distortion())],
            "augment_blocks": [(rigid, (D, 3)), (bent, (D, 5))]}


def pool_arguments(rng, floats, N, D, x, g):
    pictures, line = np.round(floats(N, 2, 5, D + 2), 1), floats(N, D + 4)                        # ties
    pictures[0, 0, 0, :2], pictures[0, 1, :, 0] = -np.inf, np.nan
    largest = [(pictures, (3, (D + 1) // 2), (3, 3), (2, 2), (1, 1), (1, 1)), (pictures, (5, D + 1), (1, 2), (1, 1), (0, 0), (1, 1)),
               (pictures, (2, (D + 5) // 3), (3, 2), (2, 3), (1, 1), (2, 1)), (line, (D // 2 + 2,), (2,), (2,), (0,), (1,)),
               *((pictures, size, (2, 2), (2, 2), (0, 0), (1, 1)) for size in ((2, (D + 2) // 2), (3, (D + 3) // 2)))]
    places = [(reference.max_pool(*args)[1], args[0].shape[-len(args[1]):]) for args in largest]
    starts, ends = np.arange(D), np.arange(D) + rng.integers(1, 3, D)
    windows = (np.array([[0, 3, 1], [2, 5, 5], [9, 1, 3]]), np.array([starts, ends, ends]))
    return {"max_pool": largest, "max_pool_values": largest, "max_pool_backward": [(floats(*at.shape), at, size) for at, size in places],
            "avg_pool": [(pictures[:, 1:, :, 1:], windows), (line, windows[1:])],
            "avg_pool_backward": [(floats(N, 2, 3, D), windows, (5, D + 1)), (g, windows[1:], (D + 1,))]}


def resize_arguments(rng, floats, N, D, x, g):
    pictures, size = floats(N, 2, 4, D), (4, D)
    whole = (np.array([3, 0, 0, 2, 1]), rng.integers(0, D, 2 * D))
    between = (np.array([0, 0.25, 3, 2.5]), (D - 1) * rng.random(D + 3))
    taken, blended = floats(N, 2, 5, 2 * D), floats(N, 2, 4, D + 3)
    return {"take_grid": [(pictures, whole), (x, whole[1:]), (rng.integers(0, 255, (N, D)).astype(np.uint8), whole[1:])],
            "take_grid_backward": [(taken, whole, size), (taken[:, 0, 0], whole[1:], size[1:])],
            "lerp_grid": [(pictures, between), (x, between[1:])],
            "lerp_grid_backward": [(blended, between, size), (blended[:, 0, 0], between[1:], size[1:])]}


def generate_arguments(rng, floats, N, D, x, g):
    """Every cell, one layer and two, biases or none, tied weights; few sequences, many of them, and more ids than one task holds."""
    found, sequences, hidden = [], min(N, 5), D + 3
    ids = rng.integers(0, N, (sequences, 2))
    for i, (cell, gates) in enumerate(GATES.items()):
        layers = [[floats(gates * hidden, k) / np.sqrt(k).astype(x.dtype), floats(gates * hidden, hidden) / np.sqrt(hidden).astype(x.dtype),
                   *((None, None) if i == 1 else (floats(gates * hidden), floats(gates * hidden)))] for k in (D, hidden)[:1 + i % 2]]
        model = TextModel(cell, floats(N, D), layers, floats(N, hidden), floats(N) if i else None)
        states = [floats(len(layers), sequences, hidden) for _ in range(2 if cell == "lstm" else 1)]
        found += [(model, ids, states, 3, 0.8, None, 1.0, 2 ** 63 + 5, 2 ** 64 - 2), (model, ids[:1], None, 2, 1.2, 7, 0.9),
                  (model, ids, None, 0)]
    tied = floats(N, D)
    cell = [[floats(4 * D, D), floats(4 * D, D), floats(4 * D), None]]
    return {"generate_text": [*found, (TextModel("lstm", tied, cell, tied, None), ids, None, 4, 0)]}


def wavenet_arguments(rng, floats, N, D, x, g):
    """Channels that fill a panel and others, one layer and several, dilations beyond the beginning, conditions of one frame and of many;
    softmax and mixture, samples in one call and a second one that goes on within a frame."""
    found = {name: [] for name in ("wavenet", "wavenet_backward", "generate_wavenet")}
    sequences = min(N, 3)
    for R, T, dilations, F in ((min(D, 40), 7, (1, 9, 2), 0), (2, min(N, 60) * 2, (1, 2), 2), (32, 3, (2,), 3), (33, 101, (1, 50), 1)):
        L, half = len(dilations), np.asarray(0.5 / np.sqrt(R), x.dtype)
        weight, residual = floats(L, 2 * R, R, 2) * half, floats(L - 1, R, R) * half
        stack = floats(sequences, T, R), weight, floats(L, 2 * R), residual, floats(L - 1, R), dilations
        condition = floats(sequences, F, L * 2 * R) if F else None
        found["wavenet"].append((*stack, condition))
        kept, arrived = reference.wavenet(*stack, condition), floats(sequences, T, L * R) / np.sqrt(T).astype(x.dtype)
        found["wavenet_backward"].append((arrived, *kept, weight, residual, dilations, F))
        if T > 101 or R > 40:
            continue
        S, ids = R + 3, R != 2 or x.dtype == np.float32                 # in which a number may be rounded to the level beside
        first = (floats(9, R), None) if ids else (floats(R, 1), floats(R))
        last = floats(9, S) / np.sqrt(S).astype(x.dtype), floats(9)
        model = WaveNetModel(*first, *stack[1:], floats(S, L * R) * half, floats(S), floats(S, S) * half, floats(S), *last)
        start = rng.integers(0, 9, (sequences, 2)) if ids else np.clip(floats(sequences, 2), -1, 1)
        frames = floats(sequences, 3, L * 2 * R) if F else None
        state = WaveNetState(5, floats(sequences, sum(dilations), R))
        found["generate_wavenet"] += [(model, start, None, 4, 0.8, 3 if ids else None, 2 ** 63 + 5, 2 ** 64 - 2, frames, 2 if F else None),
                                      (model, start, state, 2, 0, None, 0, 0, frames, 3), (model, start, state, 0)]
    return found


ARGUMENTS = {"reduce": reduce_arguments, "matmul": matmul_arguments, "softmax": softmax_arguments, "loss": loss_arguments, "norm":
             norm_arguments, "conv": conv_arguments, "batch_norm": batch_norm_arguments, "embedding": embedding_arguments, "random":
             random_arguments, "optimizer": optimizer_arguments, "warp": warp_arguments, "augment": augment_arguments, "pool":
             pool_arguments, "resize": resize_arguments, "rbm": rbm_arguments, "generate": generate_arguments,
             "lstm": lstm_arguments, "wavenet": wavenet_arguments}


# ---- running and comparing ------------------------------------------------------------------------------------------

def lay_out(value, layout):
    """Fresh arrays of another memory layout in place of the arrays of an argument."""
    if isinstance(value, list):
        return [lay_out(v, layout) for v in value]
    return layout(value) if isinstance(value, np.ndarray) and value.ndim else value


def flat(value):
    """All arrays and numbers in nested lists and tuples."""
    return [a for v in value for a in flat(v)] if isinstance(value, list | tuple) else [value]


def run(wing, name, args, layout=np.copy):
    """Results of a kernel, and its arguments after the call: changed in place or left alone in both wings alike."""
    args = [lay_out(a, layout) for a in args]
    result = getattr(wing, name)(*args)
    return [np.asarray(a) for a in flat([result, args]) if isinstance(a, np.ndarray | np.generic | int)]


def assert_close(actual, expected):
    assert [a.shape for a in actual] == [e.shape for e in expected]
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        tolerance = TOLERANCE.get(a.dtype, 0)
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance)


@contextlib.contextmanager
def threads(n):
    before = jit.get_num_threads()
    jit.set_num_threads(n)
    try:
        yield
    finally:
        jit.set_num_threads(before)


def test_both_wings_export_the_same_kernels():
    ours, theirs = exports(cpu), exports(reference)
    assert set(ours) == set(theirs)
    for name in ours:
        assert ours[name].__module__.split(".")[2] == theirs[name].__module__.split(".")[2], f"{name} is in another file"
        assert isinstance(ours[name], types.FunctionType) and ours[name].__doc__ and theirs[name].__doc__, name


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", sorted(set(exports(cpu)) - {"pack", "pack_text_model", "pack_wavenet"}))    # for one kernel alone
def test_kernel(name, dtype):
    """Equal to reference on small shapes, in every layout, and on a large one, with the same bits from 1, 2 and 3 threads."""
    for N, D in ((1, 1), (2, 5), (9, 7)):
        for args in arguments(name, dtype, N, D):
            expected = run(reference, name, args)
            for layout in LAYOUTS.values():
                assert_close(run(cpu, name, args, layout), expected)
    for args in arguments(name, dtype, 310, 131):
        with threads(1):
            alone = run(cpu, name, args)
        assert_close(alone, run(reference, name, args))
        for n in (2, 3):
            with threads(n):
                assert all(a.tobytes() == b.tobytes() for a, b in zip(alone, run(cpu, name, args), strict=True)), f"{n} threads"


# ---- shapes ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty_arrays(shape):
    x, none = np.zeros(shape, np.float32), np.zeros(0, np.int64)
    for name, *args in (("exp", x), ("clamp", x, 0, 1), ("add", x, x), ("where", x > 0, x, x), ("sum", x, (0,)), ("mean", x, (1,)),
                        ("logsumexp", x, (1,)), ("cumsum", x, 1), ("matmul", x, x.T), ("softmax", x), ("log_softmax", x),
                        ("softmax_backward", x, x), ("log_softmax_backward", x, x), ("layer_norm", x, None, None, 1e-5),
                        ("layer_norm_backward", x, x, x.sum(1), x.sum(1), None), ("batch_norm", x, None, None, 1e-5),
                        ("batch_norm_backward", x, x, x.sum(0), x.sum(0), None, 1e-5), ("group_norm", x, 1, None, None, 1e-5),
                        ("group_norm_backward", x, x, x.sum(1, keepdims=True), x.sum(1, keepdims=True), None, 1e-5),
                        ("gather_rows", x, none), ("scatter_add_rows", x[:0], none, 2), ("cross_entropy", x[:0], none),
                        ("cross_entropy_backward", x.sum(1)[:0], x[:0], x.sum(1)[:0], none), ("bernoulli", 0, 0, x),
                        ("binary_cross_entropy_with_logits_rows", x[:, None], x),
                        ("binary_cross_entropy_with_logits_rows", np.zeros((*shape, 2), np.float32), np.zeros((shape[0], 2), np.float32)),
                        ("binary_cross_entropy_with_logits_rows_backward", x[:, :1], x[:, None, :][:, :x[:, :1].shape[1]], x),
                        ("dropout", x, 0.5, 0, 0), ("categorical", 0, 0, x[:0], 2), ("words", 0, 0, 0), ("permutation", 0, 0, 0),
                        ("randint", 0, 0, 0, 5, shape), ("sgd", [x], [x], None, 0.1), ("squared_norms", [x]),
                        ("max_pool", np.zeros((0, 3), np.float32), (1,), (1,), (1,), (0,), (1,)),
                        ("max_pool_backward", x[:0, :0], none.reshape(0, 0), (3,)),
                        ("avg_pool", x, (none.reshape(3, 0),)), ("avg_pool_backward", x[:, :0], (none.reshape(3, 0),), (3,)),
                        ("take_grid", x, (none,)), ("take_grid_backward", x[:, :0], (none,), (3,)),
                        ("lerp_grid", x, (none,)), ("lerp_grid_backward", x[:, :0], (none,), (3,))):
        assert_close(run(cpu, name, args), run(reference, name, args))


@settings(max_examples=150, deadline=None)
@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=5, max_side=4, min_side=0), st.sampled_from(sorted(LAYOUTS)))
def test_elementwise_broadcasts(shapes, layout):
    rng = np.random.default_rng(0)
    a, b = (np.asarray(rng.standard_normal(s)) for s in shapes.input_shapes)
    result, = run(cpu, "sub", (a, b), LAYOUTS[layout])[:1]
    np.testing.assert_array_equal(result, a - b)
    assert result.shape == shapes.result_shape


@settings(max_examples=60, deadline=None)
@given(mutually_broadcastable_shapes(num_shapes=3, max_dims=4, max_side=3))
def test_where_broadcasts(shapes):
    rng = np.random.default_rng(0)
    c, a, b = (np.asarray(rng.standard_normal(s)) for s in shapes.input_shapes)
    np.testing.assert_array_equal(cpu.where(c > 0, a, b), np.where(c > 0, a, b))


@settings(max_examples=100, deadline=None)
@given(array_shapes(max_dims=5, max_side=4), st.data())
def test_reductions_over_any_dims(shape, data):
    x = np.random.default_rng(0).standard_normal(shape)
    dims = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1).map(lambda d: tuple(sorted(d))))
    keepdim = data.draw(st.booleans())
    for name in ("sum", "max", "mean"):
        assert_close(run(cpu, name, (x, dims, keepdim)), run(reference, name, (x, dims, keepdim)))


@settings(max_examples=60, deadline=None)
@given(mutually_broadcastable_shapes(signature="(m,k),(k,n)->(m,n)", max_dims=2, max_side=5, min_side=0))
def test_matmul_shapes(shapes):
    rng = np.random.default_rng(0)
    args = [rng.standard_normal(s) for s in shapes.input_shapes]
    assert_close(run(cpu, "matmul", args), run(reference, "matmul", args))


@pytest.mark.parametrize("dtype", FLOATS)
def test_matmul_adds_to_out(dtype):
    rng = np.random.default_rng(0)
    a, b, c, bias = (rng.standard_normal(s).astype(dtype) for s in ((33, 70), (70, 41), (33, 41), 41))
    for args in ((None, None), (bias, "relu")):
        ours, theirs = c.copy(), c.copy()
        assert cpu.matmul(a, b, *args, out=ours, accumulate=True) is ours
        reference.matmul(a, b, *args, out=theirs, accumulate=True)
        assert_close([ours], [theirs])


@pytest.mark.parametrize("shape", [(1, 40, 70), (9, 700, 33), (130, 50, 16), (30, 1, 1), (2, 0, 3), (5, 330, 96)], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_packed_operand(dtype, shape):
    """The same product whether the right operand is packed before or not, lies in rows, transposed or with gaps."""
    M, K, N = shape
    rng = np.random.default_rng(0)
    a, b, bias = (rng.standard_normal(s).astype(dtype) for s in ((M, K), (K, N), N))
    activation = "relu" if K else None
    expected = reference.matmul(a, reference.pack(b), bias, activation)
    for right in (b.copy(), b.copy(order="F"), np.repeat(b, 2, 1)[:, ::2]):
        packed = cpu.pack(right)
        right[...] = 0                                                                # it is a copy
        assert_close([cpu.matmul(a, packed, bias, activation)], [expected])
        assert_close([cpu.matmul(np.stack([a, a]), packed)], [reference.matmul(np.stack([a, a]), b)])
    with pytest.raises(ValueError, match=r"pack: .*\(3,\)"):
        cpu.pack(np.zeros(3))


def test_out_may_be_an_operand():
    x = np.arange(5.0)
    for wing in (cpu, reference):
        y = x.copy()
        assert wing.mul(y, x, out=y) is y
        np.testing.assert_array_equal(y, x * x)


# ---- values ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values(dtype):
    special = np.array([0.0, -0.0, 1, -1, 2.5, -3.5, 1e-30, 1e30, -1e30, 100, -100, np.inf, -np.inf, np.nan], dtype)
    for name in ("neg", "abs", "sign", "isnan", "isinf", "isfinite", "logical_not", "exp", "expm1", "log", "log1p", "sqrt", "rsqrt",
                 "tanh", "erf", "floor", "ceil", "sigmoid", "relu", "clamp", "softplus", "leaky_relu", "elu"):
        args = (special, *PARAMETERS.get(name, ()))
        assert_close(run(cpu, name, args), run(reference, name, args))
    for name in ("add", "mul", "div", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_xor"):
        args = (special[:, None], special)
        assert_close(run(cpu, name, args), run(reference, name, args))


@pytest.mark.parametrize("name", ["add", "mul", "floor_divide", "remainder", "maximum", "eq"])
def test_whole_numbers(name):
    rng = np.random.default_rng(0)
    args = (rng.integers(-50, 50, (7, 5)), rng.integers(1, 9, 5))
    assert_close(run(cpu, name, args), run(reference, name, args))


def test_nan_in_reductions():
    x = np.array([[1, np.nan, 3, np.nan], [4, 1, 4, 1], [np.inf, -np.inf, 0, 0]], np.float32)
    for name in ("max", "min", "argmax", "argmin", "sum"):
        args = (x, 1) if name.startswith("arg") else (x, (1,))
        assert_close(run(cpu, name, args), run(reference, name, args))


def test_large_logits_stay_finite():
    x = np.array([[1e4, -1e4, 0], [-np.inf, 0, -np.inf]], np.float32)
    np.testing.assert_array_equal(cpu.softmax(x), [[1, 0, 0], [0, 1, 0]])
    losses, _ = cpu.cross_entropy(x, np.array([0, 1]))
    np.testing.assert_array_equal(losses, [0, 0])
    assert np.isnan(cpu.softmax(np.array([[0, np.nan, 1]], np.float32))).all()


@pytest.mark.parametrize("shape", [(200, 3), (9, 3, 50)], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_statistics_far_from_zero(shape, dtype):
    """Variance 1 around a mean of 1e5 (1e9 in float64), where the difference of two sums would have no digit left."""
    x = (np.random.default_rng(0).standard_normal(shape) + (1e5 if dtype == np.float32 else 1e9)).astype(dtype)
    for found, true in ((cpu.batch_norm(x, None, None, 1e-5), reference.batch_norm(x, None, None, 1e-5)),
                        (cpu.group_norm(x, 3, None, None, 1e-5), reference.group_norm(x, 3, None, None, 1e-5))):
        np.testing.assert_allclose(found[1], true[1], rtol=1e-7)
        np.testing.assert_allclose(found[2], true[2], rtol=1e-6)


# ---- errors ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("wing", [cpu, reference])
def test_indices_outside_are_named(wing):
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(IndexError, match=r"target 4 .*0\.\.3"):
        wing.cross_entropy(x, np.array([0, 4, 1]))
    with pytest.raises(IndexError, match=r"target -1 .*0\.\.3"):
        wing.cross_entropy(x, np.array([0, 1, -1]))
    with pytest.raises(IndexError, match=r"index -1 .*0\.\.2"):
        wing.gather_rows(x, np.array([0, -1]))
    with pytest.raises(IndexError, match=r"index 3 .*0\.\.2"):
        wing.scatter_add_rows(x, np.array([0, 3, 1]), 3)


@pytest.mark.parametrize("wing", [cpu, reference])
@pytest.mark.parametrize("row", [[0.0, 0.0], [1.0, -1.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_what_is_no_probability_is_refused(wing, row):
    with pytest.raises(ValueError, match="row 1 "):
        wing.categorical(0, 0, np.array([[1.0, 0.0], row]), 2)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        wing.dropout(np.zeros(3), 1.5, 0, 0)
    with pytest.raises(ValueError, match="above low"):
        wing.randint(0, 0, 3, 3, (2,))


def test_places_outside_are_named():
    x = np.zeros((3, 4), np.float32)
    for message, call in {
        r"place 9 .*0\.\.8": lambda: cpu.max_pool_backward(x, np.full((3, 4), 9), (9,)),
        r"place -1 .*\(3, 3\)": lambda: cpu.max_pool_backward(x, np.full((3, 4), -1), (3, 3)),
        r"from 1 to 5 .*0\.\.4": lambda: cpu.avg_pool(x, (np.array([[1], [5], [4]]),)),
        r"from -1 to 2 .*0\.\.3": lambda: cpu.take_grid(x, (np.array([2, -1]),)),
        r"from 0\.5 to 3\.5 .*0\.\.3": lambda: cpu.lerp_grid(x, (np.array([3.5, 0.5]),)),
        r"from nan": lambda: cpu.lerp_grid_backward(x, (np.full(4, np.nan),), (9,)),
    }.items():
        with pytest.raises(IndexError, match=message):
            call()


def test_messages_name_the_shapes():
    x = np.zeros((3, 4), np.float32)
    for shapes, call in {
        r"\(3, 4\) .*\(2,\)": lambda: cpu.cross_entropy(x, np.zeros(2, int)),
        r"\(3,\).*\(4,\) fits": lambda: cpu.cross_entropy(x, np.zeros(3, int), weight=np.zeros(3)),
        r"\(5,\), \(4,\) fits": lambda: cpu.layer_norm(x, np.zeros(5), None, 1e-5),
        r"bias has shape \(5,\), \(4,\) fits x of shape \(3, 4\)": lambda: cpu.batch_norm(x, None, np.zeros(5), 1e-5),
        r"\(3, 4\) has 4 channels, which 3 groups do not divide": lambda: cpu.group_norm(x, 3, None, None, 1e-5),
        r"shape \(4,\), its input \(3, 4\)": lambda: cpu.batch_norm_backward(x[0], x, x[0], x[0], None, 1e-5),
        r"\(3, 4\).* \(4,\)": lambda: cpu.softmax_backward(x, x[0]),
        r"3 rows.* 2 indices": lambda: cpu.scatter_add_rows(x, np.zeros(2, int), 5),
        r"\(N, D\).*\(4,\)": lambda: cpu.layer_norm(x[0], None, None, 1e-5),
        r"array 0 of list 1 .*\(4,\).*\(3, 4\)": lambda: cpu.sgd([x], [x[0]], None, 0.1),
        r"1, 2 arrays": lambda: cpu.sgd([x, x], [x], None, 0.1),
        r"g has shape \(3, 4\), places \(3,\)": lambda: cpu.max_pool_backward(x, np.zeros(3, int), (9,)),
        r"\(3, 4\) does not end with \(2,\), the numbers": lambda: cpu.avg_pool_backward(x, (np.ones((3, 2), int),), (9,)),
        r"\(3, 4\) does not end with \(2,\), the lengths": lambda: cpu.take_grid_backward(x, (np.zeros(2, int),), (9,)),
        r"2 tables .* 1 dimensions of sizes \(4,\)": lambda: cpu.lerp_grid_backward(x, (np.zeros(4), np.zeros(4)), (4,)),
        r"got 3 for shape \(3, 4\)": lambda: cpu.max_pool(x, (1,) * 3, (1,) * 3, (1,) * 3, (0,) * 3, (1,) * 3),
    }.items():
        with pytest.raises(ValueError, match=shapes):
            call()
    with pytest.raises(TypeError, match="float32"):
        cpu.cross_entropy(x, np.zeros(3, np.float32))
    whole, windows = np.zeros((3, 4), np.int64), (np.array([[0], [4], [4]]),)
    for call in (lambda: cpu.max_pool(whole, (1,), (4,), (1,), (0,), (1,)), lambda: cpu.avg_pool(whole, windows),
                 lambda: cpu.lerp_grid(whole, (np.zeros(2),))):
        with pytest.raises(TypeError, match="float32 or float64, got int64"):
            call()


@pytest.mark.parametrize("shape", [(300, 784, 100), (600, 784, 100), (700, 1000, 64), (100, 784, 300), (1000, 330, 20)], ids=str)
def test_matrix_products_are_bit_equal_on_any_number_of_threads(shape):
    """Tall and wide ones: the parts that threads get differ in rows, and how much of K they pack at a time with them."""
    M, K, N = shape
    rng = np.random.default_rng(0)
    a, b, before, found = rng.random((M, K), np.float32), rng.random((K, N), np.float32), jit.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4):
            jit.set_num_threads(threads)
            found.append(cpu.matmul(a, b))
    finally:
        jit.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


# ---- random numbers -------------------------------------------------------------------------------------------------

KNOWN_ANSWERS = [   # counter, key, words: kat_vectors of the Random123 distribution, philox4x32 10
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize("counter, key, words", KNOWN_ANSWERS)
def test_philox_known_answers(counter, key, words):
    counter, key, words = ([np.uint32(int(w, 16)) for w in line.split()] for line in (counter, key, words))
    assert list(scalar.philox_4x32(*counter, *key)) == words
    assert _philox(counter, key).tolist() == words


def test_a_stream_is_seekable():
    for wing in (cpu, reference):
        assert [f"{w:08x}" for w in wing.words(0, 0, 4)] == KNOWN_ANSWERS[0][2].split()
        np.testing.assert_array_equal(wing.words(9, 0, 40)[12:], wing.words(9, 3, 28))
        assert not np.intersect1d(wing.words(1, 0, 100), wing.words(1 << 32, 0, 100)).size
        assert wing.blocks(9) == 3 and wing.blocks(9, 2) == 5 and wing.blocks(0) == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_and_normal_distributions(dtype):
    for seed in range(3):
        u, z = cpu.uniform(seed, 0, 100_000, dtype), cpu.normal(seed, 0, 100_000, dtype)
        assert u.min() >= 0 and u.max() < 1
        assert stats.kstest(u.astype(np.float64), "uniform").pvalue > 1e-3
        assert stats.kstest(z.astype(np.float64), "norm").pvalue > 1e-3
        assert abs(z.mean()) < 0.012 and abs(z.var() - 1) < 0.018 and 3.8 < np.abs(z).max() < 6     # 4 standard errors
        for a in (u - 0.5, z):
            assert all(abs(np.corrcoef(a[:-lag], a[lag:])[0, 1]) < 0.013 for lag in (1, 2, 4))


def test_choices_have_their_probabilities():
    n, p = 100_000, np.array([0.0, 5.0, 1.0, 0.0, 3.0, 1.0, 0.0])
    counts = np.bincount(cpu.categorical(3, 0, p[None], n)[0], minlength=7)
    assert counts[p == 0].sum() == 0 and stats.chisquare(counts[p > 0], p[p > 0] / p.sum() * n).pvalue > 1e-3
    assert stats.chisquare(np.bincount(cpu.randint(3, 0, 0, 13, (n,)))).pvalue > 1e-3
    assert abs(cpu.bernoulli(3, 0, np.full(n, 0.3)).mean() - 0.3) < 0.006                            # 4 standard errors
    assert cpu.bernoulli(0, 0, np.zeros(n)).sum() == 0 and cpu.bernoulli(0, 0, np.ones(n)).sum() == n
    orders = np.array([cpu.permutation(3, cpu.blocks(4, 2) * i, 4) for i in range(4800)])
    assert (np.sort(orders) == range(4)).all()
    assert stats.chisquare(np.unique(orders @ [64, 16, 4, 1], return_counts=True)[1]).pvalue > 1e-3  # all 24 orders, about equally


def test_dropout_repeats_its_mask_on_the_gradient():
    x, g = np.random.default_rng(0).standard_normal((2, 50_000)).astype(np.float32)
    y, dx = cpu.dropout(x, 0.25, 1, 2), cpu.dropout(g, 0.25, 1, 2)
    np.testing.assert_array_equal(y == 0, dx == 0)
    np.testing.assert_allclose(y[y != 0], x[y != 0] / 0.75, rtol=1e-6)
    assert abs((y == 0).mean() - 0.25) < 0.008                                                       # 4 standard errors
