"""Sequences from a recurrent language model that reads what it has drawn, in NumPy.

Cells are torch's: LSTM (Hochreiter & Schmidhuber 1997, with forget gates), GRU (Cho et al. 2014, the reset gate after the product), and
plain tanh or ReLU units.
"""

import numpy as np

from kernels.reference.random import _uniform53
from kernels.shapes import raise_not_finite, text_choice, text_sizes, text_start


def pack_text_model(model):
    """The model as generate_text reads it fastest, which here is as it is."""
    text_sizes(model)
    return model


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _cell(kind, x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """(h, c) after one step: x (N, inputs), h and c (N, H)."""
    given = x @ weight_ih.T + (0 if bias_ih is None else bias_ih)
    kept = h @ weight_hh.T + (0 if bias_hh is None else bias_hh)
    if kind == "lstm":
        i, f, g, o = np.split(given + kept, 4, axis=1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        return _sigmoid(o) * np.tanh(c), c
    if kind == "gru":
        (rx, zx, nx), (rh, zh, nh) = np.split(given, 3, axis=1), np.split(kept, 3, axis=1)
        z, new = _sigmoid(zx + zh), np.tanh(nx + _sigmoid(rx + rh) * nh)
        return (1 - z) * new + z * h, c
    return (np.tanh(given + kept) if kind == "rnn_tanh" else np.maximum(given + kept, 0)), c


def _probabilities(logits, temperature, top_k, top_p):
    """What is drawn from, (V,) float64 that need not sum to 1: softmax of logits / temperature, of the top_k most likely ids alone, and
    of these the fewest whose share reaches top_p."""
    if temperature == 0:
        return (np.arange(len(logits)) == np.argmax(logits)).astype(float)
    p = np.exp((logits - logits.max()) / temperature)
    if top_k < len(p) or top_p < 1:
        order = np.lexsort((np.arange(len(p)), -logits))[:top_k]
        if top_p < 1:
            share = np.cumsum(p[order])
            order = order[:np.searchsorted(share, top_p * share[-1]) + 1]
        p = np.where(np.isin(np.arange(len(p)), order), p, 0)
    return p


def _draw(logits, temperature, top_k, top_p, u):
    """(id, its log-probability by the softmax of the logits); None if they are not finite."""
    logits = logits.astype(np.float64)
    highest = logits.max()
    if not np.isfinite(highest):
        return None
    cumulative = np.cumsum(_probabilities(logits, temperature, top_k, top_p))
    last = np.searchsorted(cumulative, cumulative[-1])
    chosen = min(np.searchsorted(cumulative, u * cumulative[-1], side="right"), last)
    return chosen, logits[chosen] - highest - np.log(np.sum(np.exp(logits - highest)))


def generate_text(model, ids, states, steps, temperature=1.0, top_k=None, top_p=1.0, seed=0, offset=0):
    """(ids (N, steps), their log-probabilities (N, steps), states): N sequences go on from ids (N, P), as kernels/cpu/generate says."""
    V, _, H, _ = text_sizes(model)
    dtype = model.embedding.dtype
    ids, states = text_start(model.cell, len(model.layers), V, H, dtype, np.asarray(ids), states)
    choice = text_choice(V, steps, temperature, top_k, top_p)
    (N, P), (h, *c) = ids.shape, states
    drawn, log_probs = np.empty((N, steps), np.int64), np.empty((N, steps), dtype)
    for t in range(P + max(steps - 1, 0)):
        x = model.embedding[ids[:, t] if t < P else drawn[:, t - P]]
        for layer, arrays in enumerate(model.layers):
            h[layer], cell = _cell(model.cell, x, h[layer], c[0][layer] if c else None, *arrays)
            x = h[layer]
            if c:
                c[0][layer] = cell
        if (s := t - P + 1) >= 0 and steps:
            logits = x @ model.weight.T + (0 if model.bias is None else model.bias)
            for n in range(N):
                u, = _uniform53(seed, offset + s * N + n, 1)
                found = _draw(logits[n], *choice[1:], u)
                if found is None:
                    raise_not_finite(s, n)
                drawn[n, s], log_probs[n, s] = found
    return drawn, log_probs, states
