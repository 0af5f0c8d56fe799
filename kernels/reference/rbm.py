"""Half Gibbs steps of a restricted Boltzmann machine and the statistics of its gradient (Hinton 2002), in NumPy."""

import numpy as np

from kernels.reference.random import blocks, uniform


def rbm_blocks(rows, units):
    """Philox blocks that rbm_sample uses: ceil(units / 4) for each row."""
    return rows * blocks(units)


def rbm_inputs(states, w, bias, scale=1):
    """scale * states @ w + bias: (B, K), (K, N), (N,) -> (B, N)."""
    if states.ndim != 2 or states.shape[1:] != w.shape[:1] or bias.shape != w.shape[1:]:
        raise ValueError(f"rbm: states {states.shape}, weights {w.shape} and bias {bias.shape} do not fit: they must have shapes (B, K), "
                         "(K, N) and (N,)")
    return (scale * (states @ w) + bias).astype(w.dtype)


def rbm_probabilities(states, w, bias, scale=1):
    """sigmoid(scale * states @ w + bias): (B, K), (K, N), (N,) -> (B, N)."""
    return 1 / (1 + np.exp(-rbm_inputs(states, w, bias, scale)))


def rbm_sample(states, w, bias, seed, offset, scale=1, probabilities=False):
    """1 where a float32 uniform is below sigmoid(scale * states @ w + bias), else 0; every row starts with a block of
    its own. With `probabilities`, (draws, their probabilities)."""
    p = rbm_probabilities(states, w, bias, scale)
    (rows, units), width = p.shape, 4 * blocks(p.shape[1])
    draws = (uniform(seed, offset, (rows, width), np.float32)[:, :units] < p).astype(p.dtype)
    return (draws, p) if probabilities else draws


def rbm_statistics(v0, h0, v1, h1):
    """v0^T h0 / B0 - v1^T h1 / B1: (B0, V), (B0, H), (B1, V), (B1, H) -> (V, H)."""
    return (v0.T @ h0 / len(v0) - v1.T @ h1 / len(v1)).astype(v0.dtype)
