"""Recurrent networks over a sequence, a ladder: ladder.py holds the rungs from step by step on, sequence.py with cells.py the one that
the library calls.

x (T, B, G H) holds the products of the inputs of all steps with the input weights, one large product made beforehand; weight (G H, H) are
the recurrent ones. Behind its length a sequence's outputs are 0 and its state stays; `reverse` goes from the last step to the first.
Gradients by weight and bias are large products and sums over all steps, made from what the kernels here return.
"""

import numpy as np

from kernels import jit
from kernels.cpu.lstm.cells import GRU, LSTM, RELU, SPAN, TANH
from kernels.cpu.lstm.sequence import backward_kernel, forward_kernel
from kernels.cpu.matmul import simd
from kernels.shapes import recurrent_shapes

NOTHING = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
NONLINEARITIES = {"tanh": TANH, "relu": RELU}
SMALL = 1 << 19                      # multiplications below which one thread is faster


def lstm(x, h0, c0, weight, lengths=None, reverse=False):
    """Long short-term memory: gates i, f, g, o are sigmoid, sigmoid, tanh, sigmoid of x[t] + h W^T; c = f c + i g; h = o tanh(c).

    (T, B, 4 H), (B, H), (B, H), (4 H, H) -> (outputs (T, B, H), h (B, H), c (B, H), all h (T + 1, B, H), all c, gates (T, B, 4 H));
    the last three are for the gradient. FLOPs: 8 T B H^2.
    """
    sizes = recurrent_shapes("lstm", 4, x, (h0, c0), weight, None, lengths)
    cells, gates = _with_first(c0, sizes, reverse), _room(x.shape, x.dtype, lengths)
    outputs, h, states = _forward(LSTM, x, h0, weight, NOTHING[x.dtype], cells, gates, lengths, sizes, reverse)
    return outputs, h, _last(cells, reverse), states, cells, gates


def lstm_backward(g, gh, gc, cells, gates, weight, lengths=None, reverse=False):
    """Gradients of x, h0 and c0, given those of the outputs, of h and of c (None: no gradient). FLOPs: 8 T B H^2."""
    dx, dc = np.empty(gates.shape, gates.dtype), _first_gradient(gc, gates, weight)
    dh = _backward(LSTM, g, gh, NOTHING[gates.dtype], cells, gates, weight, lengths, dx, dx, dc, reverse)
    return dx, dh, dc


def gru(x, h0, weight, bias=None, lengths=None, reverse=False):
    """Gated recurrent unit: with p = h W^T + bias, r and z = sigmoid(x[t] + p), n = tanh(x_n[t] + r p_n); h = (1 - z) n + z h.

    (T, B, 3 H), (B, H), (3 H, H), (3 H,) -> (outputs (T, B, H), h (B, H), all h (T + 1, B, H), (r, z, n, p_n) (T, B, 4 H)); the last
    two are for the gradient. FLOPs: 6 T B H^2.
    """
    sizes = T, B, H = recurrent_shapes("gru", 3, x, (h0,), weight, bias, lengths)
    gates, bias = _room((T, B, 4 * H), x.dtype, lengths), np.zeros(3 * H, x.dtype) if bias is None else bias
    return *_forward(GRU, x, h0, weight, bias, NOTHING[x.dtype], gates, lengths, sizes, reverse), gates


def gru_backward(g, gh, states, gates, weight, lengths=None, reverse=False):
    """Gradients of x, of h W^T + bias at each step (T, B, 3 H), and of h0, given those of the outputs and of h (None: no gradient)."""
    T, B, H = gates.shape[:2] + weight.shape[1:]
    dx, dp = np.empty((T, B, 3 * H), gates.dtype), np.empty((T, B, 3 * H), gates.dtype)
    dh = _backward(GRU, g, gh, states, NOTHING[gates.dtype], gates, weight, lengths, dx, dp, NOTHING[gates.dtype], reverse)
    return dx, dp, dh


def rnn(x, h0, weight, nonlinearity="tanh", lengths=None, reverse=False):
    """h = tanh(x[t] + h W^T), or max(0, the same) with "relu".

    (T, B, H), (B, H), (H, H) -> (outputs (T, B, H), h (B, H), all h (T + 1, B, H)). FLOPs: 2 T B H^2.
    """
    sizes, none = recurrent_shapes("rnn", 1, x, (h0,), weight, None, lengths), NOTHING[x.dtype]
    return _forward(NONLINEARITIES[nonlinearity], x, h0, weight, none, none, none, lengths, sizes, reverse)


def rnn_backward(g, gh, states, weight, nonlinearity="tanh", lengths=None, reverse=False):
    """Gradients of x and h0, given those of the outputs and of h (None: no gradient). FLOPs: 2 T B H^2."""
    none, dx = NOTHING[states.dtype], np.empty((len(states) - 1, *states.shape[1:]), states.dtype)
    dh = _backward(NONLINEARITIES[nonlinearity], g, gh, states, none, dx, weight, lengths, dx, dx, none, reverse)
    return dx, dh


# ---- what they share ------------------------------------------------------------------------------------------------

def _with_first(state, sizes, reverse):
    """Room for all states (T + 1, B, H), the initial one being there."""
    T, B, H = sizes
    states = np.empty((T + 1, B, H), state.dtype)
    states[T if reverse else 0] = state
    return states


def _room(shape, dtype, lengths):
    """An array for the gates, zeros where no step will write."""
    return np.empty(shape, dtype) if lengths is None else np.zeros(shape, dtype)


def _last(states, reverse):
    return states[0 if reverse else -1].copy()


def _span(x):
    """Units that are treated at a time."""
    return SPAN * simd.VECTOR_BYTES // x.itemsize


def _threads(T, B, weight):
    return jit.threads(jit.SERIAL_BELOW if T * B * weight.size > SMALL else 0)


def _ends(lengths, T, B):
    return np.full(B, T) if lengths is None else np.ascontiguousarray(lengths, np.int64)


def _flat(*arrays):
    return [np.ascontiguousarray(a).ravel() for a in arrays]


def _forward(kind, x, h0, weight, bias, cells, gates, lengths, sizes, reverse):
    """(outputs, final state, all states)"""
    (T, B, H), states = sizes, _with_first(h0, sizes, reverse)
    if states[1:].size:
        forward_kernel(kind, *_flat(x, weight, bias, states, cells, gates, _ends(lengths, T, B)), T, B, H, _span(x), bool(reverse),
                       _threads(T, B, weight))
    outputs = states[:-1] if reverse else states[1:]
    if lengths is not None:
        outputs = np.where((np.arange(T)[:, None] < lengths)[..., None], outputs, outputs.dtype.type(0))
    return outputs, _last(states, reverse), states


def _first_gradient(g, like, weight):
    """A copy of the gradient (B, H) of a final state, zeros if there is none, that a kernel may change."""
    return np.zeros((like.shape[1], weight.shape[1]), like.dtype) if g is None else np.array(g, like.dtype, order="C")


def _backward(kind, g, gh, states, cells, gates, weight, lengths, dx, dp, dc, reverse):
    """Fills dx and dp and takes dc back; returns the gradient of the initial state."""
    T, B, H = gates.shape[:2] + weight.shape[1:]
    dh = _first_gradient(gh, gates, weight)
    g = np.zeros((T, B, H), gates.dtype) if g is None else g
    if dx.size:
        backward_kernel(kind, *_flat(g, states, cells, gates, weight, _ends(lengths, T, B)), dx.ravel(), dp.ravel(), dh.ravel(), dc.ravel(),
                        T, B, H, _span(dx), bool(reverse), _threads(T, B, weight))
    return dh
