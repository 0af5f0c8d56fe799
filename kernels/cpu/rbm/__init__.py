"""Restricted Boltzmann machines, a ladder: ladder.py holds the rungs from plain loops on, gibbs.py with subsets.py the one that the
library calls.

Visible units v (B, V), hidden units h (B, H), weights w (V, H), biases a (V,) and b (H,): p(h = 1 | v) = sigmoid(v w + b) and
p(v = 1 | h) = sigmoid(h w^T + a) (Smolensky 1986; Hinton 2002, "Training products of experts by minimizing contrastive divergence").
All take either direction: from hidden to visible units, w.T.
"""

import numpy as np

from kernels import jit
from kernels.cpu.matmul import matmul
from kernels.cpu.random import MASK, blocks
from kernels.cpu.rbm.gibbs import DRAW, INPUT, PROBABILITY, finish_kernel, half_step_kernel, statistics_kernel

NOTHING = {np.dtype(t): np.empty(0, t) for t in (np.float32, np.float64)}
FEW = 12             # rows below which tables of sums cost more than they save


def rbm_blocks(rows, units):
    """Philox blocks that rbm_sample uses: ceil(units / 4) for each row."""
    return rows * blocks(units)


def rbm_inputs(states, w, bias, scale=1):
    """scale * states @ w + bias: (B, K), (K, N), (N,) -> (B, N).

    B K N / 4 additions for binary states, 4 K N more for the tables; 2 B K N FLOPs for others. Bytes: states, w and the result once.
    """
    return _half_step("rbm_inputs", states, w, bias, scale, INPUT)


def rbm_probabilities(states, w, bias, scale=1):
    """sigmoid(scale * states @ w + bias): (B, K), (K, N), (N,) -> (B, N)."""
    return _half_step("rbm_probabilities", states, w, bias, scale, PROBABILITY)


def rbm_sample(states, w, bias, seed, offset, scale=1, probabilities=False):
    """Draws of the other layer, 1 with probability sigmoid(scale * states @ w + bias): (B, K), (K, N), (N,) -> (B, N).

    scale           an inverse temperature, of the weights alone
    probabilities   return (draws, their probabilities)
    Number j of row r is 1 where the uniform of word r * 4 ceil(N / 4) + j is below its probability. Uses rbm_blocks(B, N).
    """
    return _half_step("rbm_sample", states, w, bias, scale, DRAW, probabilities, seed, offset)


def _half_step(name, states, w, bias, scale, mode, probabilities=False, seed=0, offset=0):
    states, bias = np.ascontiguousarray(states), np.ascontiguousarray(bias)
    if states.ndim != 2 or w.ndim != 2 or states.shape[1] != w.shape[0] or bias.shape != w.shape[1:]:
        raise ValueError(f"{name}: states {states.shape}, weights {w.shape} and bias {bias.shape} do not fit: they must have shapes "
                         "(B, K), (K, N) and (N,)")
    if w.dtype not in NOTHING or not states.dtype == w.dtype == bias.dtype:
        raise TypeError(f"{name}: states, weights and bias must all be float32 or all float64, got {states.dtype}, {w.dtype}, {bias.dtype}")
    (M, K), N = states.shape, w.shape[1]
    out, turned = np.empty((M, N), w.dtype), not w.flags.c_contiguous and w.T.flags.c_contiguous
    kept = np.empty_like(out) if probabilities else NOTHING[w.dtype]
    scale, rest = w.dtype.type(scale), (mode, np.uint64(int(seed) & MASK), np.uint64(int(offset) & MASK))
    if M < FEW or not half_step_kernel(states.ravel(), (w.T if turned else w).ravel(), turned, K if turned else N, bias, scale, out.ravel(),
                                       kept.ravel(), M, N, K, *rest, jit.threads(M * N * K)):
        matmul(states if scale == 1 else states * scale, w, bias, out=out)
        if mode != INPUT:
            finish_kernel(out.ravel(), kept.ravel(), M, N, *rest, jit.threads(M * N))
    return (out, kept) if probabilities else out


def rbm_statistics(v0, h0, v1, h1):
    """v0^T h0 / B0 - v1^T h1 / B1: how much more often units are on together in one batch than in another.

    (B0, V), (B0, H), (B1, V), (B1, H) -> (V, H): the gradient of the log-likelihood by the weights, if the first are data with their
    hidden units and the others draws of the model. Binary v take a quarter of a product's additions; there is no array for
    either product.
    """
    (B0, V), H, B1 = v0.shape, h0.shape[1], len(v1)
    if not (v1.shape[1:] == (V,) and h0.shape == (B0, H) and h1.shape == (B1, H) and B0 and B1):
        raise ValueError(f"rbm_statistics: shapes {v0.shape}, {h0.shape}, {v1.shape} and {h1.shape} do not fit: they must be (B0, V), "
                         "(B0, H), (B1, V) and (B1, H), with B0 and B1 above 0")
    if v0.dtype not in NOTHING or any(x.dtype != v0.dtype for x in (h0, v1, h1)):
        raise TypeError(f"rbm_statistics: all must be float32 or all float64, got {v0.dtype}, {h0.dtype}, {v1.dtype}, {h1.dtype}")
    out = np.empty((V, H), v0.dtype)
    v0, h0, v1, h1 = (np.ascontiguousarray(x) for x in (v0, h0, v1, h1))
    if out.size and not statistics_kernel(*(x.ravel() for x in (v0, h0, v1, h1, out)), V, H, B0, B1, jit.threads(V * H * B0)):
        number = v0.dtype.type
        matmul(v0.T, h0 * number(1 / B0), out=out)
        matmul(v1.T, h1 * number(-1 / B1), out=out, accumulate=True)
    return out
