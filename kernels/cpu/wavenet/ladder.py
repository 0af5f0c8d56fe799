"""The rungs below the fast kernels, to read and to time. The first ladder is z of all layers over whole sequences, arguments those of
`wavenet` without a condition; the second draws ids from one id on, one sequence, at a temperature alone.

`pytest benchmarks/test_kernels.py` times them beside the fast ones, stack.py and steps.py. Shares of the FMA peak are of two Zen 4 cores
at 4 sequences of 4,096 positions, 2 x 9 layers of 32 channels; samples a second of one core, the same layers, 128 skip channels, 256 ids.
"""

import numpy as np

from kernels.cpu.elementwise import mul, sigmoid, tanh
from kernels.cpu.generate.sampling import draw, weigh
from kernels.cpu.matmul import matmul
from kernels.cpu.random import categorical
from kernels.cpu.rows import row_dot, row_max
from kernels.cpu.softmax import softmax
from kernels.cpu.wavenet import generate_wavenet, pack_wavenet, wavenet
from kernels.jit import jit
from kernels.scalar import HALF, philox, uniform64
from kernels.scalar import sigmoid as logistic
from kernels.scalar import tanh as tangent

# ---- whole sequences ------------------------------------------------------------------------------------------------

def naive(h, weight, bias, residual, residual_bias, dilations):
    """The definition in NumPy: two products a layer, one for each tap, and a pass over memory for every operation. 20 %."""
    found = []
    for i, d in enumerate(dilations):
        past = np.zeros_like(h)
        past[:, d:] = h[:, :-d]
        a, b = np.split(past @ weight[i, :, :, 0].T + h @ weight[i, :, :, 1].T + bias[i], 2, 2)
        found.append(np.tanh(a) / (1 + np.exp(-b)))
        if i < len(residual):
            h = h + found[i] @ residual[i].T + residual_bias[i]
    return np.concatenate(found, 2)


def layer_by_layer(h, weight, bias, residual, residual_bias, dilations):
    """The same on kernels: fast products, sums where they are wanted, but each operation still reads and writes whole sequences, and a
    product of 32 channels with 64 does 21 multiplications for each number that it moves. 22 %."""
    (N, T, R), rows = h.shape, h.shape[0] * h.shape[1]
    z = np.empty((N, T, len(dilations) * R), h.dtype)
    for i, d in enumerate(dilations):
        past = np.zeros_like(h)
        past[:, d:] = h[:, :-d]
        p = matmul(past.reshape(rows, R), weight[i, :, :, 0].T, bias[i])
        a, b = np.split(matmul(h.reshape(rows, R), weight[i, :, :, 1].T, out=p, accumulate=True), 2, 1)
        found = mul(tanh(a), sigmoid(b))
        z[:, :, i * R:(i + 1) * R] = found.reshape(N, T, R)
        if i < len(residual):
            h = h + matmul(found, residual[i].T, residual_bias[i]).reshape(N, T, R)
    return z


def fused(h, weight, bias, residual, residual_bias, dilations):
    """Then one kernel (stack.py): a block of positions stays in the nearest cache from the first layer to the last; both taps are one
    product of two vectors of channels laid side by side, and gates and residual follow while its sums are there. 44 %."""
    return wavenet(h, weight, bias, residual, residual_bias, dilations)[0]


# ---- one sample after the other -------------------------------------------------------------------------------------

def _logits(model, z):
    skip = np.maximum(matmul(z, model.skip_weight.T, model.skip_bias), 0)
    return matmul(np.maximum(matmul(skip, model.out1_weight.T, model.out1_bias), 0), model.out2_weight.T, model.out2_bias)


def full_run(model, start, steps, temperature, seed, offset):
    """For every sample the whole network over all that it can see: as many positions as its receptive field, of which the last counts.
    570 samples a second."""
    ids, field = [start], 1 + sum(model.dilations)
    for s in range(steps):
        z, _, _ = wavenet(model.input_weight[ids[-field:]][None], *model[2:7])
        p = softmax(_logits(model, z[0, -1:]) / z.dtype.type(temperature))
        ids.append(int(categorical(seed, offset + s, p, 1)[0, 0]))
    return np.array(ids[1:])


def cached(model, start, steps, temperature, seed, offset):
    """Each layer's earlier inputs are kept in a ring (Paine et al. 2016): a sample is one position's work, but 130 calls of kernels.
    2,800 samples a second."""
    R, number, found, rings = model.weight.shape[2], start, [], [np.zeros((d, model.weight.shape[2]), model.weight.dtype)
                                                                 for d in model.dilations]
    for s in range(steps):
        h, z = model.input_weight[number:number + 1], []
        for i, ring in enumerate(rings):
            both = np.concatenate([ring[s % len(ring)][None], h], 1)
            ring[s % len(ring)] = h[0]
            p = matmul(both, model.weight[i].transpose(2, 1, 0).reshape(2 * R, -1), model.bias[i])
            z.append(mul(tanh(p[:, :R]), sigmoid(p[:, R:])))
            if i < len(model.residual):
                h = h + matmul(z[i], model.residual[i].T, model.residual_bias[i])
        p = softmax(_logits(model, np.concatenate(z, 1)) / h.dtype.type(temperature))
        number = int(categorical(seed, offset + s, p, 1)[0, 0])
        found.append(number)
    return np.array(found)


@jit
def _dense(weight, bias, x, y, rectified):
    for r in range(y.size):
        y[r] = row_dot(weight[r], x) + bias[r]
        if rectified and y[r] < 0:
            y[r] = 0


@jit
def _one_kernel(table, past, now, bias, residual, residual_bias, dilations, skip_weight, skip_bias, out1_weight, out1_bias, out2_weight,
                out2_bias, start, temperature, seed, offset, found):
    (L, _, R), S, Q, kind = past.shape, skip_bias.size, out2_bias.size, past.dtype
    ring, h, z, p = np.zeros((dilations.sum(), R), kind), np.zeros(R, kind), np.zeros(L * R, kind), np.zeros(2 * R, kind)
    skip, out, logits, weights, number = np.zeros(S, kind), np.zeros(S, kind), np.zeros(Q, kind), np.empty(Q), start
    for s in range(found.size):
        slot = 0
        h[:] = table[number]
        for i in range(L):
            row = ring[slot + s % dilations[i]]
            slot += dilations[i]
            for r in range(2 * R):
                p[r] = row_dot(past[i, r], row) + row_dot(now[i, r], h) + bias[i, r]
            row[:] = h
            own = z[i * R:][:R]
            for r in range(R):
                own[r] = tangent(p[r]) * logistic(p[R + r])
            if i < L - 1:
                for r in range(R):
                    h[r] += row_dot(residual[i, r], own) + residual_bias[i, r]
        _dense(skip_weight, skip_bias, z, skip, True)
        _dense(out1_weight, out1_bias, skip, out, True)
        _dense(out2_weight, out2_bias, out, logits, False)
        weigh(weights, logits, 0, Q, np.float64(row_max(logits)), temperature)
        block = offset + np.uint64(s)
        w0, w1, _, _ = philox(np.uint32(block), np.uint32(block >> HALF), np.uint32(seed), np.uint32(seed >> HALF))
        number = draw(weights, 0, Q, uniform64(w0, w1))
        found[s] = number


def one_kernel(model, start, steps, temperature, seed, offset):
    """The same in one kernel: nothing is allocated, no call is paid for. But each output is a scalar product of its own, whose vectors
    are short and whose lanes must be added. 62,000 samples a second."""
    found, taps = np.empty(steps, np.int64), [np.ascontiguousarray(model.weight[..., tap]) for tap in range(2)]
    _one_kernel(model.input_weight, *taps, *model[3:6], np.array(model.dilations), *model[7:], start, float(temperature), np.uint64(seed),
                np.uint64(offset), found)
    return found


def in_columns(model, start, steps, temperature, seed, offset):
    """Then weights are laid as they are read, in panels of columns (steps.py): 860 kB go from the second cache through the registers in
    one stream. 88,000 samples a second, which is 75 GB/s of weights."""
    return generate_wavenet(pack_wavenet(model), np.array([[start]]), None, steps, temperature, None, seed, offset)[0][0]
