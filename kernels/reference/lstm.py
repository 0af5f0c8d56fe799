"""Recurrent networks over a sequence, step by step in NumPy; the gradients by the chain rule, in the other direction.

x (T, B, G H) holds the products of the inputs with the input weights, weight (G H, H) are the recurrent ones. Behind its length a
sequence's outputs are 0 and its state stays.
"""

import numpy as np

from kernels.shapes import recurrent_shapes


def _sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def _steps(T, B, lengths, reverse):
    """(step, place of the state before it, place of the one after it, (B, 1) whether a sequence still goes on) in order."""
    lengths = np.full(B, T) if lengths is None else lengths
    for t in range(T)[::-1 if reverse else 1]:
        yield t, t + reverse, t + 1 - reverse, (t < lengths)[:, None]


def _results(states, lengths, reverse):
    """(outputs, final state) of states (T + 1, B, H), of which the last, or with reverse the first, is the initial one."""
    outputs = states[:-1] if reverse else states[1:]
    if lengths is not None:
        outputs = np.where((np.arange(len(outputs))[:, None] < lengths)[..., None], outputs, 0).astype(states.dtype)
    return outputs, states[0 if reverse else -1].copy()


def lstm(x, h0, c0, weight, lengths=None, reverse=False):
    """Long short-term memory: gates i, f, g, o are sigmoid, sigmoid, tanh, sigmoid of x[t] + h W^T; c = f c + i g; h = o tanh(c).

    (T, B, 4 H), (B, H), (B, H), (4 H, H) -> (outputs (T, B, H), h (B, H), c (B, H), all h (T + 1, B, H), all c, gates (T, B, 4 H)).
    """
    T, B, H = recurrent_shapes("lstm", 4, x, (h0, c0), weight, None, lengths)
    states, cells, gates = np.zeros((T + 1, B, H), x.dtype), np.zeros((T + 1, B, H), x.dtype), np.zeros_like(x)
    states[T if reverse else 0], cells[T if reverse else 0] = h0, c0
    for t, before, after, live in _steps(T, B, lengths, reverse):
        i, f, g, o = np.split(x[t] + states[before] @ weight.T, 4, 1)
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        cells[after] = np.where(live, f * cells[before] + i * g, cells[before])
        states[after] = np.where(live, o * np.tanh(cells[after]), states[before])
        gates[t] = np.where(live, np.concatenate([i, f, g, o], 1), 0)
    outputs, h = _results(states, lengths, reverse)
    return outputs, h, cells[0 if reverse else -1].copy(), states, cells, gates


def lstm_backward(g, gh, gc, cells, gates, weight, lengths=None, reverse=False):
    """Gradients of x, h0 and c0, given those of the outputs, of h and of c (None: no gradient)."""
    (T, B, H), dx = gates.shape[:2] + weight.shape[1:], np.zeros_like(gates)
    dh, dc = (np.zeros((B, H), gates.dtype) if d is None else d for d in (gh, gc))
    for t, before, after, live in reversed(list(_steps(T, B, lengths, reverse))):
        i, f, u, o = np.split(gates[t], 4, 1)
        total, bent = dh + (0 if g is None else g[t]), np.tanh(cells[after])
        inner = dc + total * o * (1 - bent ** 2)
        gradients = [inner * u * i * (1 - i), inner * cells[before] * f * (1 - f), inner * i * (1 - u ** 2), total * bent * o * (1 - o)]
        dx[t] = np.where(live, np.concatenate(gradients, 1), 0)
        dh, dc = np.where(live, dx[t] @ weight, dh), np.where(live, inner * f, dc)
    return dx, dh, dc


def gru(x, h0, weight, bias=None, lengths=None, reverse=False):
    """Gated recurrent unit: with p = h W^T + bias, r and z = sigmoid(x[t] + p), n = tanh(x_n[t] + r p_n); h = (1 - z) n + z h.

    (T, B, 3 H), (B, H), (3 H, H), (3 H,) -> (outputs (T, B, H), h (B, H), all h (T + 1, B, H), (r, z, n, p_n) (T, B, 4 H)).
    """
    T, B, H = recurrent_shapes("gru", 3, x, (h0,), weight, bias, lengths)
    states, gates = np.zeros((T + 1, B, H), x.dtype), np.zeros((T, B, 4 * H), x.dtype)
    states[T if reverse else 0] = h0
    for t, before, after, live in _steps(T, B, lengths, reverse):
        (xr, xz, xn), (pr, pz, pn) = (np.split(a, 3, 1) for a in (x[t], states[before] @ weight.T + (0 if bias is None else bias)))
        r, z = _sigmoid(xr + pr), _sigmoid(xz + pz)
        n = np.tanh(xn + r * pn)
        states[after] = np.where(live, (1 - z) * n + z * states[before], states[before])
        gates[t] = np.where(live, np.concatenate([r, z, n, pn], 1), 0)
    return *_results(states, lengths, reverse), states, gates


def gru_backward(g, gh, states, gates, weight, lengths=None, reverse=False):
    """Gradients of x, of h W^T + bias at each step (T, B, 3 H), and of h0, given those of the outputs and of h (None: no gradient)."""
    T, B, H = gates.shape[:2] + weight.shape[1:]
    dx, dp = np.zeros((2, T, B, 3 * H), gates.dtype)
    dh = np.zeros((B, H), gates.dtype) if gh is None else gh
    for t, before, _, live in reversed(list(_steps(T, B, lengths, reverse))):
        r, z, n, pn = np.split(gates[t], 4, 1)
        total = dh + (0 if g is None else g[t])
        dn, dz = total * (1 - z) * (1 - n ** 2), total * (states[before] - n) * z * (1 - z)
        dr = dn * pn * r * (1 - r)
        dx[t] = np.where(live, np.concatenate([dr, dz, dn], 1), 0)
        dp[t] = np.where(live, np.concatenate([dr, dz, dn * r], 1), 0)
        dh = np.where(live, dp[t] @ weight + total * z, dh)
    return dx, dp, dh


def rnn(x, h0, weight, nonlinearity="tanh", lengths=None, reverse=False):
    """h = tanh(x[t] + h W^T), or max(0, the same) with "relu".

    (T, B, H), (B, H), (H, H) -> (outputs (T, B, H), h (B, H), all h (T + 1, B, H)).
    """
    T, B, H = recurrent_shapes("rnn", 1, x, (h0,), weight, None, lengths)
    activation = {"tanh": np.tanh, "relu": lambda a: np.where(a <= 0, 0, a)}[nonlinearity]
    states = np.zeros((T + 1, B, H), x.dtype)
    states[T if reverse else 0] = h0
    for t, before, after, live in _steps(T, B, lengths, reverse):
        states[after] = np.where(live, activation(x[t] + states[before] @ weight.T), states[before])
    return *_results(states, lengths, reverse), states


def rnn_backward(g, gh, states, weight, nonlinearity="tanh", lengths=None, reverse=False):
    """Gradients of x and h0, given those of the outputs and of h (None: no gradient)."""
    T, (B, H) = len(states) - 1, states.shape[1:]
    dx, dh = np.zeros((T, B, H), states.dtype), np.zeros((B, H), states.dtype) if gh is None else gh
    for t, _, after, live in reversed(list(_steps(T, B, lengths, reverse))):
        slope = 1 - states[after] ** 2 if nonlinearity == "tanh" else states[after] > 0
        dx[t] = np.where(live, (dh + (0 if g is None else g[t])) * slope, 0)
        dh = np.where(live, dx[t] @ weight, dh)
    return dx, dh
