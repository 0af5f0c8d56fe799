"""WaveNet (van den Oord et al. 2016, section 2.3 and figure 4) in NumPy: a stack of gated residual layers over whole sequences, its
gradient by the chain rule, and samples that it draws one by one.

Layer l of dilation d, all channels of a position being one row; what lies before the first position is 0:

    p = h[t - d] weight_l[:, :, 0]^T + h[t] weight_l[:, :, 1]^T + bias_l + condition_l          (2 R numbers)
    z = tanh(p[:R]) sigmoid(p[R:]);    h' = h + z residual_l^T + residual_bias_l

Nothing reads the h' of the last layer, so it has no residual. Of condition (N, F, L 2 R) position t uses row t F // T.
"""

import numpy as np

from kernels.reference.generate import _draw
from kernels.reference.random import _uniform53
from kernels.shapes import (
    LEVELS,
    LOWEST_LOG_SCALE,
    WaveNetState,
    raise_not_finite,
    wavenet_choice,
    wavenet_condition,
    wavenet_model_sizes,
    wavenet_sizes,
    wavenet_start,
)


def _sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def _earlier(h, d):
    """h[:, t - d] at t, zeros before the beginning."""
    past = np.zeros_like(h)
    past[:, d:] = h[:, :-d]
    return past


def _later(g, d):
    """The gradient of h, given that of _earlier(h, d)."""
    back = np.zeros_like(g)
    back[:, :-d] = g[:, d:]
    return back


def _gates(h, weight, bias, d, condition):
    """(tanh(p[:R]), sigmoid(p[R:])) of a layer; condition is (N, T, 2 R), or 0."""
    p = _earlier(h, d) @ weight[:, :, 0].T + h @ weight[:, :, 1].T + bias + condition
    a, b = np.split(p, 2, 2)
    return np.tanh(a), _sigmoid(b)


def _conditions(condition, T, L):
    """For each layer what is added at each position, (N, T, 2 R)."""
    return [0] * L if condition is None else np.split(np.repeat(condition, T // condition.shape[1], 1), L, 2)


def wavenet(h, weight, bias, residual, residual_bias, dilations, condition=None):
    """(z of all layers (N, T, L R), their inputs and their sigmoids' values (L, N, T, R)) of a stack of residual layers.

    h (N, T, R), weight (L, 2 R, R, 2), bias (L, 2 R), residual (L - 1, R, R), residual_bias (L - 1, R), L dilations, condition
    (N, F, L 2 R) with F a divisor of T, or None.
    """
    _, T, _, L, _ = wavenet_sizes(h, weight, bias, residual, residual_bias, dilations, condition)
    inputs, found, gate = [], [], []
    for i, added in enumerate(_conditions(condition, T, L)):
        a, s = _gates(h, weight[i], bias[i], dilations[i], added)
        inputs.append(h)
        found.append(a * s)
        gate.append(s)
        if i < L - 1:
            h = h + found[i] @ residual[i].T + residual_bias[i]
    return np.concatenate(found, 2), np.stack(inputs), np.stack(gate)


def wavenet_backward(g, z, inputs, gate, weight, residual, dilations, frames=0):
    """Gradients of h, weight, bias, residual, residual_bias and a condition of so many frames (None if 0), given that of z, (N, T, L R),
    and the three results of `wavenet`."""
    (L, N, _, R), dh = inputs.shape, np.zeros_like(inputs[0])
    dweight, dbias, dresidual = np.zeros_like(weight), np.zeros(weight.shape[:2], weight.dtype), np.zeros_like(residual)
    dresidual_bias, dcondition = np.zeros(residual.shape[:2], residual.dtype), []
    for i in reversed(range(L)):
        h, s, d, dz, own = inputs[i], gate[i], dilations[i], g[:, :, i * R:(i + 1) * R], z[:, :, i * R:(i + 1) * R]
        a = own / np.where(s > 0, s, 1)
        if i < L - 1:
            dz = dz + dh @ residual[i]
            dresidual[i] = np.einsum("nto,nti->oi", dh, own)
            dresidual_bias[i] = dh.sum((0, 1))
        dp = np.concatenate([dz * s * (1 - a * a), dz * own * (1 - s)], 2)
        for tap, source in enumerate((_earlier(h, d), h)):
            dweight[i, :, :, tap] = np.einsum("nto,nti->oi", dp, source)
        dbias[i] = dp.sum((0, 1))
        dh = dh + _later(dp @ weight[i, :, :, 0], d) + dp @ weight[i, :, :, 1]
        if frames:
            dcondition.insert(0, dp.reshape(N, frames, -1, 2 * R).sum(2))
    return dh, dweight, dbias, dresidual, dresidual_bias, np.concatenate(dcondition, 2) if dcondition else None


# ---- one sample after the other -------------------------------------------------------------------------------------

def pack_wavenet(model):
    """The model as generate_wavenet reads it fastest, which here is as it is."""
    wavenet_model_sizes(model)
    return model


def _outputs(model, x, t, ring, condition):
    """Outputs (N, Q or 3 M) at position t from samples x (N,); each layer's h[t - d] is taken from the ring and h[t] put there."""
    h = model.input_weight[x] if model.input_bias is None else x[:, None] * model.input_weight[:, 0] + model.input_bias
    R, place, found = h.shape[1], 0, []
    for i, d in enumerate(model.dilations):
        row = place + t % d
        past, place = ring[:, row].copy(), place + d
        ring[:, row] = h
        p = past @ model.weight[i, :, :, 0].T + h @ model.weight[i, :, :, 1].T + model.bias[i] + condition[:, i * 2 * R:(i + 1) * 2 * R]
        found.append(np.tanh(p[:, :R]) * _sigmoid(p[:, R:]))
        if i < len(model.residual):
            h = h + found[i] @ model.residual[i].T + model.residual_bias[i]
    skip = np.maximum(np.concatenate(found, 1) @ model.skip_weight.T + model.skip_bias, 0)
    return np.maximum(skip @ model.out1_weight.T + model.out1_bias, 0) @ model.out2_weight.T + model.out2_bias


def _draw_number(outputs, temperature, u):
    """(a 16-bit sample in -1..1, its log-probability) from M logits, M means and M logarithms of scales; None if they are not finite.

    The first of the uniforms u chooses the logistic, the second is where its distribution function is inverted. A sample's probability
    is the mass from half a level below to half a level above, at the two ends with all that lies beyond.
    """
    logits, means, scales = np.split(outputs.astype(np.float64), 3)
    scales = np.exp(np.maximum(scales, LOWEST_LOG_SCALE))
    if not np.isfinite([logits, means, scales]).all():
        return None
    cumulative = np.cumsum(np.exp(logits - logits.max()))
    drawn = min(np.searchsorted(cumulative, u[0] * cumulative[-1], side="right"), len(logits) - 1)
    chosen = np.argmax(logits) if temperature == 0 else drawn
    v = min(max(u[1], 2.0 ** -54), 1 - 2.0 ** -53)
    x = means[chosen] + temperature * scales[chosen] * (np.log(v) - np.log1p(-v))
    level = np.clip(np.rint(x * LEVELS), -LEVELS, LEVELS - 1)
    low, high = ((level + side - LEVELS * means) / (LEVELS * scales) for side in (-0.5, 0.5))
    below, above = _sigmoid(high), _sigmoid(-low)                       # of the difference of two sigmoids, so written, nothing is lost
    mass = below if level == -LEVELS else above if level == LEVELS - 1 else below * above * -np.expm1(low - high)
    return level / LEVELS, np.log(np.sum(np.exp(logits - logits.max()) * mass)) - np.log(cumulative[-1])


def generate_wavenet(model, start, state, steps, temperature=1.0, top_k=None, seed=0, offset=0, condition=None, hop=None):
    """(samples (N, steps), their log-probabilities, WaveNetState): N sequences go on from start (N, P), as kernels/cpu/wavenet says."""
    sizes, dtype = wavenet_model_sizes(model), model.weight.dtype
    ids = model.input_bias is None
    start, (position, ring) = wavenet_start(sizes, model.dilations, dtype, ids, start, state)
    steps, temperature, k = wavenet_choice(sizes[0], ids, steps, temperature, top_k)
    N, P = start.shape
    fed = P + max(steps - 1, 0)
    condition, hop = wavenet_condition(sizes, N, fed, position, condition, hop, dtype)
    drawn, log_probs = np.empty((N, steps), start.dtype), np.empty((N, steps), dtype)
    for t in range(fed):
        x = start[:, t] if t < P else drawn[:, t - P]
        outputs = _outputs(model, x, position + t, ring, condition[:, (position + t) // hop - position // hop])
        if (s := t - P + 1) >= 0 and steps:
            for n in range(N):
                u = _uniform53(seed, offset + s * N + n, 2)
                found = _draw(outputs[n], temperature, k, 1.0, u[0]) if ids else _draw_number(outputs[n], temperature, u)
                if found is None:
                    raise_not_finite(s, n, "generate_wavenet")
                drawn[n, s], log_probs[n, s] = found
    return drawn, log_probs, WaveNetState(position + fed, ring)
