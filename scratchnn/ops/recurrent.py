"""Recurrent networks over whole sequences: LSTM, GRU and simple RNN.

x (T, B, G H) holds the products of all steps' inputs with the input weights, biases added: one large product, made beforehand.
weight (G H, H) are the recurrent weights. Each function returns the outputs (T, B, H) and the final state. lengths (B,): behind its end
a sequence's outputs are 0 and its state stays. reverse: from the last step to the first.

Each is one fused operation forward and backward. A gradient that shall be differentiated again (create_graph) is made of plain
operations instead, step by step.
"""

from __future__ import annotations

import numpy as np

import kernels
from scratchnn import autograd
from scratchnn.grad_mode import is_grad_enabled
from scratchnn.op import op
from scratchnn.ops.activation import relu, sigmoid, tanh
from scratchnn.ops.arithmetic import where
from scratchnn.ops.linear import linear, matmul
from scratchnn.ops.reduce import sum
from scratchnn.ops.shape import chunk, reshape, stack
from scratchnn.tensor import Tensor

_ENDS = np.array([3, 1])                     # lengths for the tests


# ---- LSTM -----------------------------------------------------------------------------------------------------------

@op(constant=("lengths",), cases=[((3, 2, 12), (2, 3), (2, 3), (12, 3)), ((3, 2, 4), (2, 1), (2, 1), (4, 1), _ENDS, True)])
def lstm_sequence(x, h0, c0, weight, lengths=None, reverse=False):
    """The results of `lstm`; then all h and all c, (T + 1, B, H), and the gates, (T, B, 4 H), for the gradient."""
    return kernels.lstm(x, h0, c0, weight, lengths, reverse)


@lstm_sequence.vjp("x", "h0", "c0", "weight")
def _(g, x, h0, c0, weight, lengths, reverse, y3, y4, y5, needs):
    if is_grad_enabled():
        return composed(lambda x, h, c, w: _steps(_lstm_step(w), x, (h, c), lengths, reverse), (x, h0, c0, weight), g)
    dx, dh, dc = lstm_backward(*g[:3], y4, y5, weight, lengths, reverse)
    return dx, dh, dc, _weight_gradient(dx, y3, reverse) if needs[3] else None


@op
def lstm_backward(g, gh, gc, cells, gates, weight, lengths, reverse):
    """Gradients of x, h0 and c0, given those of the outputs, h and c (None: no gradient)."""
    return kernels.lstm_backward(g, gh, gc, cells, gates, weight, lengths, reverse)


def _lstm_step(weight):
    def step(x, h, c):
        i, f, g, o = chunk(x + linear(h, weight), 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c
    return step


def lstm(x: Tensor, h0: Tensor, c0: Tensor, weight: Tensor, lengths: Tensor | None = None, reverse: bool = False):
    """(outputs, h, c): gates i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of x[t] + h W^T; c = f c + i g; h = o tanh(c).

    Shapes: x (T, B, 4 H), h0 and c0 (B, H), weight (4 H, H) -> (T, B, H), (B, H), (B, H).
    """
    return lstm_sequence(x, h0, c0, weight, lengths, reverse)[:3]


# ---- GRU ------------------------------------------------------------------------------------------------------------

@op(constant=("lengths",), cases=[((3, 2, 9), (2, 3), (9, 3), (9,)), ((3, 2, 3), (2, 1), (3, 1), None, _ENDS, True)])
def gru_sequence(x, h0, weight, bias=None, lengths=None, reverse=False):
    """The results of `gru`; then all h (T + 1, B, H), and r, z, n, p_n, (T, B, 4 H), for the gradient."""
    return kernels.gru(x, h0, weight, bias, lengths, reverse)


@gru_sequence.vjp("x", "h0", "weight", "bias")
def _(g, x, h0, weight, bias, lengths, reverse, y2, y3, needs):
    if is_grad_enabled():
        given = (x, h0, weight) if bias is None else (x, h0, weight, bias)
        found = composed(lambda x, h, *w: _steps(_gru_step(*w), x, (h,), lengths, reverse), given, g)
        return found if bias is not None else (*found, None)
    dx, dp, dh = gru_backward(*g[:2], y2, y3, weight, lengths, reverse)
    return (dx, dh, _weight_gradient(dp, y2, reverse) if needs[2] else None,
            sum(reshape(dp, (-1, dp.shape[2])), 0) if needs[3] else None)


@op
def gru_backward(g, gh, states, gates, weight, lengths, reverse):
    """Gradients of x, of h W^T + bias at each step, and of h0, given those of the outputs and h (None: no gradient)."""
    return kernels.gru_backward(g, gh, states, gates, weight, lengths, reverse)


def _gru_step(weight, bias=None):
    def step(x, h):
        (xr, xz, xn), (pr, pz, pn) = chunk(x, 3, -1), chunk(linear(h, weight, bias), 3, -1)
        z, n = sigmoid(xz + pz), tanh(xn + sigmoid(xr + pr) * pn)
        return (n + z * (h - n),)
    return step


def gru(x: Tensor, h0: Tensor, weight: Tensor, bias: Tensor | None = None, lengths: Tensor | None = None, reverse: bool = False):
    """(outputs, h): with p = h W^T + bias, r and z = sigmoid of x[t] + p; n = tanh(x_n[t] + r p_n); h = (1 - z) n + z h.

    Shapes: x (T, B, 3 H), h0 (B, H), weight (3 H, H), bias (3 H,) -> (T, B, H), (B, H).
    """
    return gru_sequence(x, h0, weight, bias, lengths, reverse)[:2]


# ---- simple RNN -----------------------------------------------------------------------------------------------------

@op(constant=("lengths",), cases=[((3, 2, 3), (2, 3), (3, 3)), ((3, 2, 2), (2, 2), (2, 2), "relu", _ENDS, True)])
def rnn_sequence(x, h0, weight, nonlinearity="tanh", lengths=None, reverse=False):
    """The results of `rnn`; then all h, (T + 1, B, H), for the gradient."""
    return kernels.rnn(x, h0, weight, nonlinearity, lengths, reverse)


@rnn_sequence.vjp("x", "h0", "weight")
def _(g, x, h0, weight, nonlinearity, lengths, reverse, y2, needs):
    if is_grad_enabled():
        return composed(lambda x, h, w: _steps(_rnn_step(w, nonlinearity), x, (h,), lengths, reverse), (x, h0, weight), g)
    dx, dh = rnn_backward(*g[:2], y2, weight, nonlinearity, lengths, reverse)
    return dx, dh, _weight_gradient(dx, y2, reverse) if needs[2] else None


@op
def rnn_backward(g, gh, states, weight, nonlinearity, lengths, reverse):
    """Gradients of x and h0, given those of the outputs and h (None: no gradient)."""
    return kernels.rnn_backward(g, gh, states, weight, nonlinearity, lengths, reverse)


def _rnn_step(weight, nonlinearity):
    activation = {"tanh": tanh, "relu": relu}[nonlinearity]
    return lambda x, h: (activation(x + linear(h, weight)),)


def rnn(x: Tensor, h0: Tensor, weight: Tensor, nonlinearity: str = "tanh", lengths: Tensor | None = None, reverse: bool = False):
    """(outputs, h): h = tanh(x[t] + h W^T), or relu instead of tanh. Shapes: x (T, B, H), h0 (B, H), weight (H, H) -> (T, B, H), (B, H)."""
    return rnn_sequence(x, h0, weight, nonlinearity, lengths, reverse)[:2]


# ---- what they share ------------------------------------------------------------------------------------------------

def _weight_gradient(dp, states, reverse):
    """Gradient (G H, H) of the recurrent weights: one product over all steps of that of h W^T and the h before each."""
    before = states[1:] if reverse else states[:-1]
    return matmul(reshape(dp, (-1, dp.shape[2])).mT, reshape(before, (-1, before.shape[2])))


def _steps(step, x, state, lengths, reverse):
    """Step by step: state = step(x[t], *state). (outputs, *final state)"""
    outputs = [None] * x.shape[0]
    for t in range(x.shape[0])[::-1 if reverse else 1]:
        new = step(x[t], *state)
        outputs[t] = new[0]
        if lengths is not None:
            live = Tensor((t < lengths.array)[:, None])
            outputs[t] = where(live, new[0], 0.0)
            new = [where(live, after, before) for after, before in zip(new, state, strict=True)]
        state = new
    return stack(outputs), *state


def composed(function, inputs, g):
    """Gradients of function(*inputs) that can be differentiated again; g are those of its results, None where there is none.

    It is called with copies of the inputs, since one of them may have been computed from another.
    """
    copies = [reshape(x if x.requires_grad else x.detach().requires_grad_(), x.shape) for x in inputs]
    pairs = [(y, d) for y, d in zip(function(*copies), g, strict=False) if d is not None]
    return autograd.grad([y for y, _ in pairs], copies, [d for _, d in pairs], create_graph=True, allow_unused=True)
