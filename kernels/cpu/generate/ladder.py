"""The rungs below the fast kernel, to read and to time: one LSTM layer, one sequence that goes on from one id, a temperature alone.

z = W_ih e[id] + b_ih + W_hh h + b_hh, of four gates i f g o;  c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c)
id ~ softmax((W h + b) / temperature)

`pytest benchmarks/test_kernels.py` times them beside the fast one, steps.py. All draw the same ids. Shares are what reading the weights
of 512 units from the cache takes of a step's time, 28 us on two Zen 4 cores and 48 on one.
"""

import numpy as np

from kernels.cpu.elementwise import mul, sigmoid, tanh
from kernels.cpu.generate.sampling import draw, weigh
from kernels.cpu.matmul import matmul
from kernels.cpu.random import categorical
from kernels.cpu.rows import row_dot, row_max
from kernels.cpu.softmax import softmax
from kernels.jit import jit
from kernels.scalar import HALF, philox, uniform64
from kernels.scalar import sigmoid as logistic
from kernels.scalar import tanh as tangent


def call_by_call(model, start, steps, temperature, seed, offset):
    """A fast kernel for each product, gate and draw: what libraries of tensors do, a dozen calls a step. 26 % on two cores."""
    (weight_ih, weight_hh, bias_ih, bias_hh), = model.layers
    h = c = np.zeros((1, weight_hh.shape[1]), weight_hh.dtype)
    found, number = [], start
    for s in range(steps):
        z = matmul(model.embedding[number:number + 1], weight_ih.T, bias_ih) + matmul(h, weight_hh.T, bias_hh)
        i, f, g, o = np.split(z, 4, axis=1)
        c = mul(sigmoid(f), c) + mul(sigmoid(i), tanh(g))
        h = mul(sigmoid(o), tanh(c))
        p = softmax(matmul(h, model.weight.T, model.bias) / z.dtype.type(temperature))
        number = int(categorical(seed, offset + s, p, 1)[0, 0])
        found.append(number)
    return np.array(found)


@jit
def _one_kernel(embedding, weight_ih, weight_hh, bias_ih, bias_hh, weight, bias, start, temperature, seed, offset, found):
    H, V = weight_hh.shape[1], weight.shape[0]
    h, c, z = np.zeros(H, weight.dtype), np.zeros(H, weight.dtype), np.empty(4 * H, weight.dtype)
    logits, weights, number = np.empty(V, weight.dtype), np.empty(V), start
    for s in range(found.size):
        for r in range(4 * H):
            z[r] = row_dot(weight_ih[r], embedding[number]) + bias_ih[r] + row_dot(weight_hh[r], h) + bias_hh[r]
        for j in range(H):
            c[j] = logistic(z[H + j]) * c[j] + logistic(z[j]) * tangent(z[2 * H + j])
            h[j] = logistic(z[3 * H + j]) * tangent(c[j])
        for v in range(V):
            logits[v] = row_dot(weight[v], h) + bias[v]
        weigh(weights, logits, 0, V, np.float64(row_max(logits)), temperature)
        block = offset + np.uint64(s)
        w0, w1, _, _ = philox(np.uint32(block), np.uint32(block >> HALF), np.uint32(seed), np.uint32(seed >> HALF))
        number = draw(weights, 0, V, uniform64(w0, w1))
        found[s] = number


def one_kernel(model, start, steps, temperature, seed, offset):
    """The same in one kernel, with plain loops: nothing is allocated, and no call is paid for. 88 % of what one core can do: from here on
    only a second core helps, and not to read what need not be read. The next rung, steps.py, reaches 88 % of what both can."""
    found, numbers = np.empty(steps, np.int64), (np.uint64(seed), np.uint64(offset))
    _one_kernel(model.embedding, *model.layers[0], model.weight, model.bias, start, float(temperature), *numbers, found)
    return found
