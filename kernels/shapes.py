"""Shapes and settings that every wing works out and checks alike."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

WIDTH = 2048   # columns of an elementwise kernel, where the operands leave the choice


def broadcast_shape(name, *shapes):
    """The shape that operands of these shapes broadcast to; ValueError with the shapes and the rule otherwise."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"{name}: shapes {' and '.join(map(str, shapes))} do not fit; aligned at the right, two dimensions must be "
                         "equal or one of them 1") from None


@lru_cache(maxsize=4096)
def broadcast_plan(name, *shapes):
    """How two operands of these shapes are run over: (output shape, layout, operands to copy first).

    The output is seen as rows x columns, contiguous; each operand as a flat contiguous array whose element for (row, column) lies at
    (row % period) * row_stride + column * column_stride, with column_stride 0 or 1:

        operand                      period   row_stride   column_stride
        same shape as the output     rows     columns      1
        one value                    1        0            0
        (D,) beside (N, D)           1        0            1               a bias
        (N, 1) beside (N, D)         N        1            0               a row's scale
        (C, 1, 1) beside (N,C,H,W)   C        1            0               a channel's bias

    What fits none of these is copied to the output's shape first. `layout` holds the number of columns and then the table above, row
    by row: an array, which Numba takes in faster than a tuple.
    """
    shape = broadcast_shape(name, *shapes)
    full = [n for n in shape if n != 1]
    spans = [_span(s, shape) for s in shapes]
    ends = [stop for start, stop in spans if start < stop < len(full)]             # constant along the last dimensions
    split = min(ends) if ends else max(start for start, _ in spans)                # rows: full[:split], columns: full[split:]
    columns = max(1, math.prod(full[split:])) if split else WIDTH
    rows = math.prod(full[:split]) if split else math.prod(full) // WIDTH + 1
    layout, copies = [columns], []
    for i, (start, stop) in enumerate(spans):
        if start == stop:
            layout += (1, 0, 0)
        elif stop == split:
            layout += (math.prod(full[start:stop]), 1, 0)
        elif stop == len(full) and start <= split:
            layout += (math.prod(full[start:split]) if split else rows, columns, 1)
        else:
            layout += (rows, columns, 1)
            copies.append(i)
    return shape, np.array(layout), copies


def _span(own, shape):
    """(start, stop) of the dimensions larger than 1 along which an operand varies; equal if none, (-1, -2) if they have a gap."""
    own = (1,) * (len(shape) - len(own)) + own
    varying = [d for d, size in enumerate(n for n, out in zip(own, shape, strict=True) if out != 1) if size != 1]
    if not varying:
        return 0, 0
    start, stop = varying[0], varying[-1] + 1
    return (start, stop) if stop - start == len(varying) else (-1, -2)


ACTIVATIONS = (None, "relu", "sigmoid", "tanh")      # what a matrix product can do to its result


def product_shape(a, b):
    """(shape of a @ b, whether a has rows, whether b has columns); ValueError with the rule if they do not fit."""
    if a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]:
        return (a.shape[0], b.shape[1]), True, True
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: operands need at least one dimension, got shapes {a.shape} and {b.shape}")
    rows, columns = a.ndim > 1, b.ndim > 1
    if a.shape[-1] != b.shape[-2 if columns else 0]:
        raise ValueError(f"matmul: {a.shape} times {b.shape} does not fit: the last dimension of the first must equal the "
                         f"{'last but one' if columns else 'only one'} of the second")
    batch = ()
    if a.ndim > 2 or b.ndim > 2:
        try:
            batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        except ValueError:
            raise ValueError(f"matmul: the leading dimensions of {a.shape} and {b.shape} do not broadcast") from None
    return (*batch, *a.shape[-2:-1], *(b.shape[-1:] if columns else ())), rows, columns


def conv_size(name, x_shape, w_shape, stride, padding, dilation, groups):
    """(OH, OW) of a convolution; ValueError with the numbers given and the rule if the shapes do not fit."""
    if len(x_shape) != 4 or len(w_shape) != 4:
        raise ValueError(f"{name}: x must have shape (N, C, H, W) and weight (O, C / groups, KH, KW), got {x_shape} and {w_shape}")
    if x_shape[1] != w_shape[1] * groups or w_shape[0] % groups:
        raise ValueError(f"{name}: weight {w_shape} with groups={groups} takes {w_shape[1] * groups} channels and its {w_shape[0]} outputs "
                         f"must be divisible by groups; x has shape {x_shape}")
    if min(stride) < 1 or min(dilation) < 1 or min(padding) < 0 or groups < 1:
        raise ValueError(f"{name}: stride {stride}, dilation {dilation} and groups {groups} must be at least 1, and padding {padding} "
                         "at least 0")
    size = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                 for n, k, s, p, d in zip(x_shape[2:], w_shape[2:], stride, padding, dilation, strict=True))
    if min(size) < 1 or min(w_shape[2:]) < 1:
        padded = tuple(n + 2 * p for n, p in zip(x_shape[2:], padding, strict=True))
        reach = tuple(d * (k - 1) + 1 for k, d in zip(w_shape[2:], dilation, strict=True))
        raise ValueError(f"{name}: the kernel reaches over {reach} pixels (size {tuple(w_shape[2:])}, dilation {dilation}), but the padded "
                         f"input has {padded}; it must not be smaller")
    return size


def picture_size(name, x, size):
    """(h, w) of what becomes of the pictures x, by default as large as they are; ValueError or TypeError if they are none."""
    if x.ndim != 4:
        raise ValueError(f"{name}: pictures must have shape (N, C, H, W), got {x.shape}")
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: pictures must be float32 or float64, got {x.dtype}")
    return x.shape[2:] if size is None else tuple(size)


class Distortion(NamedTuple):
    """How far `augment` may change a picture. What is drawn once for a picture is uniform between the limits."""

    shift: float = 0            # pixels, in both directions
    rotation: float = 0         # radians
    scale: float = 0            # of the logarithm of the size
    shear: float = 0            # tangent of the slant
    flip: float = 0             # probability of left for right
    brightness: float = 0       # the factor lies between 1 - brightness and 1 + brightness
    elastic: float = 0          # standard deviation of the displacements, in pixels
    spacing: float = 8          # pixels from one independent displacement to the next
    share: float = 1            # of the pictures; the others are cut out and flipped alone


def spline_nodes(pixels, spacing):
    """Nodes of the cubic B-spline over so many pixels: four are around every pixel."""
    return int((pixels - 1) // spacing) + 4


def spline_weights(pixels, spacing):
    """(nodes, pixels) float32: the weight of each node of a cubic B-spline for each pixel. Node k is around pixel (k - 1) * spacing."""
    away = np.abs(np.arange(pixels) / spacing - np.arange(spline_nodes(pixels, spacing))[:, None] + 1)     # in steps from node to node
    return np.where(away < 1, 2 / 3 - away ** 2 + away ** 3 / 2, np.clip(2 - away, 0, None) ** 3 / 6).astype(np.float32)


TRUNCATE = 4       # standard deviations after which a Gaussian counts as zero, as in scipy.ndimage


def check_blur(x, sigma):
    """Raise unless planes x (..., H, W) of floats can be smoothed with a Gaussian of standard deviation sigma."""
    if not 0 < sigma < math.inf:
        raise ValueError(f"gaussian_blur: sigma must be above 0 and finite, got {sigma}")
    if x.ndim < 2:
        raise ValueError(f"gaussian_blur: planes must have shape (..., H, W), got {x.shape}")
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"gaussian_blur: planes must be float32 or float64, got {x.dtype}")


def gaussian_weights(size, sigma):
    """(size, size): the weight of each pixel of a line in each pixel of the smoothed line; symmetric."""
    radius = int(TRUNCATE * sigma + 0.5)
    distance = np.abs(np.arange(size)[:, None] - np.arange(size))
    total = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).sum()
    return np.exp(-0.5 * (distance / sigma) ** 2) * (distance <= radius) / total


GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}      # blocks of H rows in the weights of a recurrent cell, in torch's order


class TextModel(NamedTuple):
    """A recurrent language model as its arrays, all float32 or all float64, V ids, E numbers in an embedding, H hidden units."""

    cell: str                       # "lstm", "gru", "rnn_tanh" or "rnn_relu"; G of GATES
    embedding: np.ndarray           # (V, E)
    layers: list                    # for each weight_ih (G H, E or H), weight_hh (G H, H), bias_ih and bias_hh (G H,) or None
    weight: np.ndarray              # (V, H), of the output; may be `embedding`
    bias: np.ndarray | None         # (V,)


def text_sizes(model):
    """(V, E, H, G) of a TextModel; ValueError or TypeError that says what would fit if it is none."""
    if model.cell not in GATES:
        raise ValueError(f"generate_text: there is no cell {model.cell!r}; choose from {', '.join(GATES)}")
    if not model.layers or model.embedding.ndim != 2 or not model.embedding.size or model.layers[0][1].ndim != 2:
        raise ValueError("generate_text: a model needs an embedding (V, E), V and E at least 1, and at least one layer")
    (V, E), H, G = model.embedding.shape, model.layers[0][1].shape[1], GATES[model.cell]
    wanted = [("embedding", model.embedding, (V, E)), ("output weight", model.weight, (V, H)), ("output bias", model.bias, (V,))]
    for i, arrays in enumerate(model.layers):
        shapes = (G * H, H if i else E), (G * H, H), (G * H,), (G * H,)
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        wanted += [(f"{name} of layer {i}", array, shape) for name, array, shape in zip(names, arrays, shapes, strict=True)]
    for name, array, shape in wanted:
        if array is None and "bias" in name:
            continue
        if array.shape != shape:
            raise ValueError(f"generate_text: {name} must have shape {shape} where {V} ids, {E} numbers in an embedding and {H} hidden "
                             f"units of cell {model.cell!r} meet, got {array.shape}")
        if array.dtype != model.embedding.dtype or array.dtype not in (np.float32, np.float64):
            raise TypeError(f"generate_text: all arrays of a model must be float32 or all float64; the embedding is "
                            f"{model.embedding.dtype}, {name} {array.dtype}")
    return V, E, H, G


def text_start(cell, layers, V, H, dtype, ids, states):
    """(ids (N, P) as int64, the states as a list of fresh arrays (layers, N, H)): zeros if None; IndexError for an id that is none."""
    if ids.ndim != 2 or not ids.size or ids.dtype.kind not in "iu":
        raise ValueError(f"generate_text: ids must be whole numbers (N, P), N and P at least 1, got {ids.dtype} {ids.shape}")
    outside = (ids < 0) | (ids >= V)
    if outside.any():
        n, t = (int(i[0]) for i in np.nonzero(outside))
        raise IndexError(f"generate_text: id {ids[n, t]} at place {t} of sequence {n} is outside 0..{V - 1}")
    shape, count = (layers, len(ids), H), 2 if cell == "lstm" else 1
    states = [np.zeros(shape, dtype) for _ in range(count)] if states is None else list(states)
    if [s.shape for s in states] != [shape] * count or any(s.dtype != dtype for s in states):
        given = ", ".join(f"{s.dtype} {s.shape}" for s in states)
        raise ValueError(f"generate_text: cell {cell!r} keeps {'h and c' if count == 2 else 'h alone'}, {dtype} {shape} "
                         f"(layers, sequences, units), got {given}")
    return ids.astype(np.int64), [np.array(s, order="C") for s in states]


def text_choice(V, steps, temperature, top_k, top_p, name="generate_text"):
    """(steps, temperature, k in 1..V, p) of a way to sample; ValueError for one that is none."""
    if steps < 0:
        raise ValueError(f"{name}: steps must be at least 0, got {steps}")
    if not 0 <= temperature < np.inf:
        raise ValueError(f"{name}: temperature must be finite and at least 0 (0 takes the most likely id), got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"{name}: top_k must be at least 1, or None for all ids, got {top_k}")
    if not 0 < top_p <= 1:
        raise ValueError(f"{name}: top_p must be above 0 and at most 1 (all ids), got {top_p}")
    return int(steps), float(temperature), V if top_k is None else min(int(top_k), V), float(top_p)


def raise_not_finite(step, sequence, name="generate_text"):
    raise ValueError(f"{name}: the outputs of sequence {sequence} before sample {step} are not finite: nothing can be drawn from them; has "
                     "the training diverged?")


def recurrent_shapes(name, gates, x, state, weight, bias, lengths):
    """(T, B, H) of a recurrent network; ValueError with the rule if the shapes do not fit, TypeError if the dtypes differ."""
    H, B = weight.shape[-1], x.shape[1] if x.ndim == 3 else 0
    fits = x.ndim == 3 and x.shape[2] == gates * H and weight.shape == (gates * H, H) and all(s.shape == (B, H) for s in state)
    if not fits or (bias is not None and bias.shape != (gates * H,)) or (lengths is not None and lengths.shape != (B,)):
        more = "".join(f", {label} {a.shape}" for label, a in (("bias", bias), ("lengths", lengths)) if a is not None)
        raise ValueError(f"{name}: input products {x.shape}, state {', '.join(str(s.shape) for s in state)}, weight {weight.shape}{more} "
                         f"do not fit: they must be (T, B, {gates} H), (B, H), ({gates} H, H), bias ({gates} H,) and lengths (B,)")
    dtypes = {a.dtype for a in (x, *state, weight, bias) if a is not None}
    if len(dtypes) > 1 or x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: input products, state, weight and bias must all be float32 or all float64, got "
                        f"{', '.join(sorted(map(str, dtypes)))}")
    return x.shape[0], B, H


# ---- WaveNet --------------------------------------------------------------------------------------------------------

def wavenet_sizes(h, weight, bias, residual, residual_bias, dilations, condition):
    """(N, T, R, L, F) of a stack of residual layers, F being 0 without a condition; ValueError with the rule if the shapes do not fit,
    TypeError if the dtypes differ."""
    L, R = len(dilations), h.shape[-1] if h.ndim else 0
    names = "h", "weight", "bias", "residual", "residual_bias", "condition"
    given = h, weight, bias, residual, residual_bias, condition
    fits = h.ndim == 3 and L > 0 and R > 0 and [a.shape for a in given[1:5]] == [(L, 2 * R, R, 2), (L, 2 * R), (L - 1, R, R), (L - 1, R)]
    if not fits:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in zip(names, given, strict=True) if a is not None)
        raise ValueError(f"wavenet: {shapes} and {L} dilations do not fit: they must be h (N, T, R), weight (L, 2 R, R, 2), bias (L, 2 R), "
                         "residual (L - 1, R, R), residual_bias (L - 1, R) and L dilations, L at least 1")
    if min(dilations) < 1:
        raise ValueError(f"wavenet: dilations must be at least 1, got {tuple(dilations)}")
    (N, T), F = h.shape[:2], 0
    if condition is not None:
        F = condition.shape[1] if condition.ndim == 3 else 0
        if condition.shape != (N, F, L * 2 * R) or F < 1 or T % F:
            raise ValueError(f"wavenet: condition {condition.shape} does not fit {N} sequences of {T} positions through {L} layers of {R} "
                             f"channels: it must be (N, F, {L * 2 * R}) with a number of frames F that divides {T}")
    dtypes = {name: a.dtype for name, a in zip(names, given, strict=True) if a is not None}
    if len(set(dtypes.values())) > 1 or h.dtype not in (np.float32, np.float64):
        raise TypeError("wavenet: all arrays must be float32 or all float64, got "
                        + ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items()))
    return N, T, R, L, F


class WaveNetModel(NamedTuple):
    """A WaveNet as its arrays, all float32 or all float64: R residual channels, S skip channels, L layers.

    One that reads and draws ids has an embedding; logits are those of a softmax over Q ids. One that reads and draws numbers in -1..1
    has a linear map of one number; its outputs are, for M logistics, M logits, M means and M logarithms of scales (see
    generate_wavenet).
    """

    input_weight: np.ndarray        # (Q, R), one row for each id; or (R, 1)
    input_bias: np.ndarray | None   # None; or (R,)
    weight: np.ndarray              # (L, 2 R, R, 2): tanh's channels, then the sigmoid's; the earlier position's tap, then this one's
    bias: np.ndarray                # (L, 2 R)
    residual: np.ndarray            # (L - 1, R, R)
    residual_bias: np.ndarray       # (L - 1, R)
    dilations: tuple                # L whole numbers
    skip_weight: np.ndarray         # (S, L R)
    skip_bias: np.ndarray           # (S,)
    out1_weight: np.ndarray         # (S, S)
    out1_bias: np.ndarray           # (S,)
    out2_weight: np.ndarray         # (Q, S); or (3 M, S)
    out2_bias: np.ndarray           # (Q,); or (3 M,)


class WaveNetState(NamedTuple):
    """What a WaveNet remembers of the samples that it has read."""

    position: int                   # how many they are
    ring: np.ndarray                # (N, sum of dilations, R): a layer keeps as many inputs, that of position t in row t % dilation


LEVELS = 32768                      # of a 16-bit sample between 0 and 1: it is a whole number from -LEVELS to LEVELS - 1, over LEVELS
LOWEST_LOG_SCALE = -12.0            # a logistic is not made narrower: with this scale 99 % of it lie within two levels


def wavenet_model_sizes(model):
    """(outputs Q or 3 M, R, S, L) of a WaveNetModel; ValueError or TypeError that says what would fit if it is none."""
    L, S = len(model.dilations), model.skip_weight.shape[0]
    Q, R = model.out2_weight.shape[0], model.weight.shape[1] // 2 if model.weight.ndim == 4 else 0
    wavenet_sizes(np.empty((1, 1, R), model.weight.dtype), *model[2:7], None)
    ids = model.input_bias is None
    wanted = {"input_weight": (Q, R) if ids else (R, 1), "input_bias": (R,), "skip_weight": (S, L * R), "skip_bias": (S,),
              "out1_weight": (S, S), "out1_bias": (S,), "out2_weight": (Q, S), "out2_bias": (Q,)}
    for name, shape in wanted.items():
        array = getattr(model, name)
        if array is None and name == "input_bias":
            continue
        if array.shape != shape:
            raise ValueError(f"generate_wavenet: {name} must have shape {shape} where {R} residual and {S} skip channels, {L} layers and "
                             f"{Q} outputs meet, got {array.shape}")
        if array.dtype != model.weight.dtype:
            raise TypeError(f"generate_wavenet: all arrays of a model must have one dtype; weight is {model.weight.dtype}, {name} "
                            f"{array.dtype}")
    if not ids and (Q == 0 or Q % 3):
        raise ValueError(f"generate_wavenet: a model that reads numbers draws from M logistics of 3 outputs each, it has {Q} outputs")
    return Q, R, S, L


def wavenet_start(sizes, dilations, dtype, ids, start, state):
    """(start (N, P), WaveNetState with a ring of its own): zeros if None. ValueError, TypeError or IndexError for what is none."""
    (Q, R, _, _), start = sizes, np.asarray(start)
    kinds = "iu" if ids else "f"
    if start.ndim != 2 or not start.size or start.dtype.kind not in kinds:
        raise ValueError(f"generate_wavenet: start must be {'whole numbers' if ids else 'floating-point numbers'} (N, P), N and P at least "
                         f"1, got {start.dtype} {start.shape}")
    if ids and not (start.min() >= 0 and start.max() < Q):
        raise IndexError(f"generate_wavenet: start holds ids from {start.min()} to {start.max()}, the model knows 0..{Q - 1}")
    shape = (len(start), int(sum(dilations)), R)
    if state is None:
        state = WaveNetState(0, np.zeros(shape, dtype))
    if state.ring.shape != shape or state.ring.dtype != dtype or state.position < 0:
        raise ValueError(f"generate_wavenet: the state holds {state.ring.dtype} {state.ring.shape} at position {state.position}; of this "
                         f"model and start it would be {dtype} {shape} (sequences, sum of dilations, channels)")
    return start.astype(np.int64 if ids else dtype), WaveNetState(int(state.position), np.array(state.ring, order="C"))


def wavenet_condition(sizes, N, steps, position, condition, hop, dtype):
    """(condition (N, F, L 2 R), hop): one row of zeros if None. ValueError if it does not last for `steps` samples from `position` on."""
    _, R, _, L = sizes
    if condition is None:
        return np.zeros((1, 1, L * 2 * R), dtype), steps + position + 1
    shape, hop = condition.shape, steps + position + 1 if hop is None else int(hop)
    if condition.ndim != 3 or shape[0] != N or shape[2] != L * 2 * R or condition.dtype != dtype:
        raise ValueError(f"generate_wavenet: condition must be {dtype} ({N}, frames, {L * 2 * R}), got {condition.dtype} {shape}")
    if hop < 1:
        raise ValueError(f"generate_wavenet: hop, the samples of a frame, must be at least 1, got {hop}")
    frames = (position + max(steps, 1) - 1) // hop - position // hop + 1
    if shape[1] < frames:
        raise ValueError(f"generate_wavenet: {steps} samples from position {position} on need {frames} frames of {hop} samples, the "
                         f"condition has {shape[1]}")
    return condition, hop


def wavenet_choice(Q, ids, steps, temperature, top_k):
    """(steps, temperature, k) of a way to sample; ValueError for one that is none."""
    if top_k is not None and not ids:
        raise ValueError("generate_wavenet: top_k chooses among ids; a mixture of logistics has none")
    return text_choice(Q, steps, temperature, top_k, 1.0, "generate_wavenet")[:3]
