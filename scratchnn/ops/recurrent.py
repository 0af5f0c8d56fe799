"""Recurrent networks over whole sequences: LSTM, GRU and simple RNN.

x (T, B, G H) holds the products of all steps' inputs with the input weights, biases added: one large product, made beforehand.
weight (G H, H) are the recurrent weights. Each function returns the outputs (T, B, H) and the final state. lengths (B,): behind its end
a sequence's outputs are 0 and its state stays. reverse: from the last step to the first.
"""

from __future__ import annotations

import numpy as np

from scratchnn.ops.activation import relu, sigmoid, tanh
from scratchnn.ops.arithmetic import where
from scratchnn.ops.linear import linear
from scratchnn.ops.shape import chunk, stack
from scratchnn.tensor import Tensor


def _steps(step, x, state, lengths, reverse):
    """Step by step: state = step(x[t], *state). (outputs, *final state)"""
    outputs = [None] * x.shape[0]
    for t in range(x.shape[0])[::-1 if reverse else 1]:
        new = step(x[t], *state)
        outputs[t] = new[0]
        if lengths is not None:
            live = Tensor(np.asarray(t < lengths)[:, None])
            outputs[t] = where(live, new[0], 0.0)
            new = [where(live, after, before) for after, before in zip(new, state, strict=True)]
        state = new
    return stack(outputs), *state


def lstm(x: Tensor, h0: Tensor, c0: Tensor, weight: Tensor, lengths=None, reverse: bool = False):
    """(outputs, h, c): gates i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of x[t] + h W^T; c = f c + i g; h = o tanh(c)."""
    def step(x, h, c):
        i, f, g, o = chunk(x + linear(h, weight), 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c
    return _steps(step, x, (h0, c0), lengths, reverse)


def gru(x: Tensor, h0: Tensor, weight: Tensor, bias: Tensor | None = None, lengths=None, reverse: bool = False):
    """(outputs, h): with p = h W^T + bias, r and z = sigmoid of x[t] + p; n = tanh(x_n[t] + r p_n); h = (1 - z) n + z h."""
    def step(x, h):
        (xr, xz, xn), (pr, pz, pn) = chunk(x, 3, -1), chunk(linear(h, weight, bias), 3, -1)
        z, n = sigmoid(xz + pz), tanh(xn + sigmoid(xr + pr) * pn)
        return (n + z * (h - n),)
    return _steps(step, x, (h0,), lengths, reverse)


def rnn(x: Tensor, h0: Tensor, weight: Tensor, nonlinearity: str = "tanh", lengths=None, reverse: bool = False):
    """(outputs, h): h = tanh(x[t] + h W^T), or relu instead of tanh."""
    activation = {"tanh": tanh, "relu": relu}[nonlinearity]
    return _steps(lambda x, h: (activation(x + linear(h, weight)),), x, (h0,), lengths, reverse)
