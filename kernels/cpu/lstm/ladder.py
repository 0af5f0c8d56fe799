"""The rungs below the fused LSTM, to read and to time: outputs (T, B, H) of a sequence x (T, B, D).

weight_ih (4 H, D), weight_hh (4 H, H), bias (4 H,), gates i, f, g, o (Hochreiter & Schmidhuber 1997). `pytest benchmarks/test_kernels.py`
times them beside the fast one, `fused`. Shares of the FMA peak are of two Zen 4 cores at T = 64, B = 64, D = 64, H = 512, without
gradients, each rung in a process of its own.
"""

import numpy as np

from kernels.cpu.elementwise import sigmoid, tanh
from kernels.cpu.lstm import lstm
from kernels.cpu.matmul import matmul


def naive(x, h, c, weight_ih, weight_hh, bias):
    """The definition in NumPy: every step has two products, each gate is an array of its own, every operation a pass over memory. 47 %."""
    outputs = []
    for step in x:
        i, f, g, o = np.split(step @ weight_ih.T + h @ weight_hh.T + bias, 4, 1)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        outputs.append(h)
    return np.stack(outputs)


def step_by_step(x, h, c, weight_ih, weight_hh, bias):
    """The same on kernels. A product of 64 rows reads all of its weights for little arithmetic, and packs them anew at every step. 70 %."""
    outputs = np.empty((*x.shape[:2], weight_hh.shape[1]), x.dtype)
    for t, step in enumerate(x):
        sums = matmul(step, weight_ih.T, bias)
        h, c = _cell(matmul(h, weight_hh.T, out=sums, accumulate=True), c)
        outputs[t] = h
    return outputs


def inputs_at_once(x, h, c, weight_ih, weight_hh, bias):
    """What enters from outside is known before: the inputs of all steps take one large product, which runs at the speed of such. Only
    the product with the state before remains in the loop. 68 %: it gains nothing yet, since the sums of all steps (33 MB) leave
    the cache on the way."""
    T, B, D = x.shape
    sums = matmul(x.reshape(T * B, D), weight_ih.T, bias).reshape(T, B, -1)
    outputs = np.empty((T, B, weight_hh.shape[1]), x.dtype)
    for t in range(T):
        h, c = _cell(matmul(h, weight_hh.T, out=sums[t], accumulate=True), c)
        outputs[t] = h
    return outputs


def fused(x, h, c, weight_ih, weight_hh, bias):
    """Then all steps in one kernel (sequence.py): recurrent weights are packed once for all steps, the gates of some units are finished
    while their sums are in the nearest cache, and each core takes its sequences to the end without waiting for the other. 83 %."""
    T, B, D = x.shape
    return lstm(matmul(x.reshape(T * B, D), weight_ih.T, bias).reshape(T, B, -1), h, c, weight_hh)[0]


def _cell(sums, c):
    """(h, c) from the sums (B, 4 H) that enter the gates; six passes over memory."""
    i, f, g, o = np.split(sums, 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c
