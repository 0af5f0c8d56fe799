"""WaveNet (van den Oord et al. 2016), a ladder: ladder.py holds the rungs below those that the library calls: stack.py, the stack of
residual layers over whole sequences, and steps.py, samples drawn one by one."""

from typing import NamedTuple

import numpy as np

from kernels import jit
from kernels.cpu.random import MASK
from kernels.cpu.wavenet.packing import aligned_zeros, pack_dense, pack_skip, pack_stack, pack_stack_back, unpanelled, whole
from kernels.cpu.wavenet.stack import BLOCK, PARTS, backward_kernel, forward_kernel
from kernels.cpu.wavenet.steps import generate_kernel
from kernels.shapes import (
    WaveNetState,
    raise_not_finite,
    wavenet_choice,
    wavenet_condition,
    wavenet_model_sizes,
    wavenet_sizes,
    wavenet_start,
)

SMALL = 1 << 18      # multiplications below which one thread is faster
GROUP = 16           # sequences at most that one core draws at a time


def wavenet(h, weight, bias, residual, residual_bias, dilations, condition=None):
    """(z of all layers (N, T, L R), their inputs and their sigmoids' values (L, N, T, R)) of a stack of residual layers. Layer l of dilation d:

        p = h[t - d] weight[l, :, :, 0]^T + h[t] weight[l, :, :, 1]^T + bias[l] + condition,   h being 0 before the beginning
        z = tanh(p[:R]) sigmoid(p[R:]);   the next layer's h is h + z residual[l]^T + residual_bias[l]

    h (N, T, R), weight (L, 2 R, R, 2), bias (L, 2 R), residual (L - 1, R, R), residual_bias (L - 1, R), L dilations; condition
    (N, F, L 2 R) with F a divisor of T, or None: position t uses row t F // T, layer l the 2 R numbers from l 2 R on.
    FLOPs: 10 N T R^2 L.
    """
    N, T, R, L, F = wavenet_sizes(h, weight, bias, residual, residual_bias, dilations, condition)
    z, inputs, gate = np.empty((N, T, L * R), h.dtype), np.empty((L, N, T, R), h.dtype), np.empty((L, N, T, R), h.dtype)
    inputs[0] = h
    if z.size:
        w, threads = pack_stack(weight, bias, residual, residual_bias), _threads(N * T * R * R)
        chunks, layers = (N, L) if N % threads == 0 or 8 * threads <= N else (_chunks(N, T), 1)
        forward_kernel(inputs.ravel(), gate.ravel(), z.ravel(), w.ravel(), w.shape[1], np.array(dilations), _flat(condition, h.dtype), N, T,
                       L, R, whole(R, h.dtype), F, chunks, layers, threads)
    return z, inputs, gate


def wavenet_backward(g, z, inputs, gate, weight, residual, dilations, frames=0):
    """Gradients of h, weight, bias, residual, residual_bias and a condition of so many frames (None if 0), given that of z, (N, T, L R),
    and the three results of `wavenet`. FLOPs: 20 N T R^2 L."""
    (L, N, T, R), dtype = inputs.shape, inputs.dtype
    F, K = frames, whole(R, dtype)
    dh, dcondition = np.zeros((N, T, R), dtype), np.empty((N, F, L * 2 * R), dtype) if F else None
    size, chunks = 5 * K * K + 3 * K, _chunks(N, T)
    totals = np.zeros((L, size), dtype)
    if dh.size:
        w, room = pack_stack_back(weight, residual), (np.empty(N * T * 2 * K, dtype), np.empty(N * T * 2 * K, dtype))
        backward_kernel(*(_flat(a, dtype) for a in (g, z, gate, inputs)), dh.ravel(), room, w.ravel(), w.shape[1], np.array(dilations),
                        aligned_zeros((chunks, size), dtype).ravel(), totals.ravel(), _flat(dcondition, dtype), size, N, T, L, R, K, F,
                        chunks, _threads(N * T * R * R))
    dw, dv, db, dc = np.split(totals, np.cumsum([4 * K * K, K * K, 2 * K]), 1)
    dweight = unpanelled(dw.reshape(L, 2, K, 2 * K)[:, :, :R], R).transpose(0, 3, 2, 1)
    return (dh, np.ascontiguousarray(dweight), unpanelled(db, R), dv.reshape(L, K, K)[:-1, :R, :R].copy(), dc[:-1, :R].copy(), dcondition)


class PackedWaveNet(NamedTuple):
    """A WaveNetModel as `pack_wavenet` lays it out: all numbers in one array, in the order in which they are read."""

    numbers: np.ndarray
    table: int                            # place of the rows that become the first layer's inputs
    plan: np.ndarray                      # of the skip product and the two output layers: place, inputs, outputs
    dilations: tuple
    sizes: tuple                          # Q, R, S, L
    ids: bool                             # whether it reads ids, or numbers


def pack_wavenet(model):
    """A WaveNetModel laid out for generate_wavenet, for one that draws in many calls: what packing costs is then paid once.

    It is a copy: later changes of the model do not reach it. ValueError and TypeError for arrays that do not fit each other.
    """
    sizes = Q, R, S, L = wavenet_model_sizes(model)
    dtype, ids = model.weight.dtype, model.input_bias is None
    K, S, V = whole(R, dtype), whole(S, dtype, 2), whole(Q, dtype, 2)
    rows = np.zeros((Q if ids else 2, K), dtype)
    rows[:, :R] = model.input_weight if ids else np.stack([model.input_weight[:, 0], model.input_bias])
    parts = [pack_stack(model.weight, model.bias, model.residual, model.residual_bias),
             pack_dense(pack_skip(model.skip_weight, R, K), model.skip_bias, L * K, S),
             pack_dense(model.out1_weight, model.out1_bias, S, S), pack_dense(model.out2_weight, model.out2_bias, S, V), rows]
    places = np.cumsum([part.size for part in parts])
    numbers = aligned_zeros(places[-1], dtype)
    np.concatenate([part.ravel() for part in parts], out=numbers)
    plan = np.array([places[0], L * K, S, places[1], S, S, places[2], S, V])
    return PackedWaveNet(numbers, places[3], plan, tuple(model.dilations), sizes, ids)


def generate_wavenet(model, start, state, steps, temperature=1.0, top_k=None, seed=0, offset=0, condition=None, hop=None):
    """(samples (N, steps), their log-probabilities (N, steps), WaveNetState): N sequences go on from start (N, P), a WaveNet reading
    what it has drawn:  outputs = out2(relu(out1(relu(skip(z of all layers)))))

    model        WaveNetModel, or what pack_wavenet made of one
    start        ids or numbers (N, P), P at least 1: fed first, whatever the model thinks of them
    state        WaveNetState from which the sequences start; None for the beginning. The one returned is that before the last sample was
                 read: a call with that sample alone as `start` and offset + steps * N goes on exactly
    temperature  divides the logits of ids, and multiplies the scales of logistics; 0 takes the most likely id, or the mean of the most
                 likely logistic
    top_k        draw among so many most likely ids alone, the smaller id first where two tie; None for all
    condition    (N, F, 2 L R) or None: rows that are added to what enters the gates, one for each frame of `hop` samples since position 0;
                 the first is that of the frame in which this call's first sample lies. hop None: one frame for all

    Sample s of sequence n takes the uniforms of block offset + s * N + n. Uses steps * N blocks. The log-probabilities are the model's
    own, without temperature and choice. Steps may be 0: the start is fed, and the state returned.
    Of numbers, the outputs are M logits, M means and M logarithms of scales of a mixture of logistics (Salimans et al. 2017): a sample is a
    16-bit one, of 65,536 levels from -1 to 1 - 2^-15, whose mass is that of the bin of width 2^-15 around it, at the ends with all beyond.
    ValueError for shapes that do not fit, settings out of range, outputs that are not finite; IndexError for an id that there is not.

    A sample makes (5 L R^2 + L R S + S^2 + S Q) N multiply-adds, and reads all weights once for every two sequences.
    """
    packed = model if isinstance(model, PackedWaveNet) else pack_wavenet(model)
    (Q, R, S, L), dtype, dilations, ids = packed.sizes, packed.numbers.dtype, packed.dilations, packed.ids
    start, (position, ring) = wavenet_start(packed.sizes, dilations, dtype, ids, start, state)
    steps, temperature, k = wavenet_choice(Q, ids, steps, temperature, top_k)
    (N, P), K = start.shape, whole(R, dtype)
    fed = P + max(steps - 1, 0)
    frames = 0 if condition is None else condition.shape[1]
    condition, hop = wavenet_condition(packed.sizes, N, fed, position, condition, hop, dtype)
    drawn, log_probs, bad = np.empty((N, steps), start.dtype), np.empty((N, steps), dtype), np.full(N, -1)
    no_ids, no_numbers = np.empty(0, np.int64), np.empty(0, dtype)
    sizes = (N, P, steps, frames, L, R, K, whole(S, dtype, 2), Q, whole(Q, dtype, 2), ring.shape[1], 5 * K * K + 3 * K)
    threads = _threads(N * fed * packed.numbers.size)
    generate_kernel(packed.numbers, packed.table, packed.plan, np.array(dilations), sizes, start.ravel() if ids else no_ids,
                    no_numbers if ids else start.ravel(), ring.ravel(), position, _flat(condition, dtype), hop, (temperature, k),
                    np.uint64(int(seed) & MASK), np.uint64(int(offset) & MASK), np.empty(N * Q, dtype), np.empty(N * Q),
                    np.empty(N * Q, np.int64), drawn.ravel() if ids else no_ids, no_numbers if ids else drawn.ravel(), log_probs.ravel(),
                    bad, max(min(N, threads), -(-N // GROUP)), threads)
    if bad.max() >= 0:
        step, n = min((int(s), n) for n, s in enumerate(bad) if s >= 0)
        raise_not_finite(step, n, "generate_wavenet")
    return drawn, log_probs, WaveNetState(position + fed, ring)


def _flat(x, dtype):
    return np.empty(0, dtype) if x is None else np.ascontiguousarray(x).ravel()


def _chunks(N, T):
    return min(PARTS, N * -(-T // BLOCK))


def _threads(work):
    return jit.threads(jit.SERIAL_BELOW if work > SMALL else 0)
