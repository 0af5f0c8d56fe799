"""Restricted Boltzmann machines: a half Gibbs step is a matrix product and a kernel that draws. Names and formulas: kernels/cpu/rbm."""

import numpy as np

from kernels.cuda.array import as_device, contiguous, empty
from kernels.cuda.array import blocks as grid_blocks
from kernels.cuda.compiler import cuda, kernel, like, scalar
from kernels.cuda.elementwise import mul
from kernels.cuda.matmul import matmul
from kernels.cuda.random import block_words, blocks, stream
from kernels.cuda.rows import floating


def rbm_blocks(rows, units):
    """Philox blocks that rbm_sample uses: ceil(units / 4) for each row."""
    return rows * blocks(units)


def rbm_inputs(states, w, bias, scale=1):
    """scale * states @ w + bias: (B, K), (K, N), (N,) -> (B, N). 2 B K N FLOPs."""
    return _product("rbm_inputs", states, w, bias, scale, None)


def rbm_probabilities(states, w, bias, scale=1):
    """sigmoid(scale * states @ w + bias): (B, K), (K, N), (N,) -> (B, N)."""
    return _product("rbm_probabilities", states, w, bias, scale, "sigmoid")


@kernel
def draw_kernel(probabilities, draws, seed, offset, shift, units, row_blocks, count):
    """draws = 1 where a uniform is below the probability: a thread for each Philox block, of which every row has `row_blocks`."""
    for b in range(cuda.grid(1), count, cuda.gridsize(1)):
        w = block_words(seed, offset + shift[0] + np.uint64(b))
        row, first = b // row_blocks, b % row_blocks * 4
        for k in range(4):
            if first + k < units:
                p = probabilities[row * units + first + k]
                draws[row * units + first + k] = like(p, 1) if like(p, scalar.uniform32(w[k])) < p else like(p, 0)


def rbm_sample(states, w, bias, seed, offset, scale=1, probabilities=False):
    """Draws of the other layer, 1 with probability sigmoid(scale * states @ w + bias): (B, K), (K, N), (N,) -> (B, N).

    scale           an inverse temperature, of the weights alone
    probabilities   return (draws, their probabilities)
    Number j of row r is 1 where the uniform of word r * 4 ceil(N / 4) + j is below its probability. Uses rbm_blocks(B, N).
    """
    p = _product("rbm_sample", states, w, bias, scale, "sigmoid")
    draws, (rows, units) = empty(p.shape, p.dtype) if probabilities else p, p.shape
    count = rbm_blocks(rows, units)
    draw_kernel[grid_blocks(count), 256](p, draws, *stream(seed, offset), units, blocks(units), count)
    return (draws, p) if probabilities else draws


def rbm_statistics(v0, h0, v1, h1):
    """v0^T h0 / B0 - v1^T h1 / B1: how much more often units are on together in one batch than in another.

    (B0, V), (B0, H), (B1, V), (B1, H) -> (V, H): the gradient of the log-likelihood by the weights, if the first are data with their
    hidden units and the others draws of the model.
    """
    as_device("rbm_statistics", v0, h0, v1, h1)
    (B0, V), H, B1 = v0.shape, h0.shape[1], len(v1)
    if not (v1.shape[1:] == (V,) and h0.shape == (B0, H) and h1.shape == (B1, H) and B0 and B1):
        raise ValueError(f"rbm_statistics: shapes {v0.shape}, {h0.shape}, {v1.shape} and {h1.shape} do not fit: they must be (B0, V), "
                         "(B0, H), (B1, V) and (B1, H), with B0 and B1 above 0")
    dtype = floating("rbm_statistics", v0, h0, v1, h1)
    out = matmul(v0.T, mul(h0, np.asarray(1 / B0, dtype)))
    return matmul(v1.T, mul(h1, np.asarray(-1 / B1, dtype)), out=out, accumulate=True)


def _product(name, states, w, bias, scale, activation):
    as_device(name, states, w, bias)
    if states.ndim != 2 or w.ndim != 2 or states.shape[1] != w.shape[0] or bias.shape != w.shape[1:]:
        raise ValueError(f"{name}: states {states.shape}, weights {w.shape} and bias {bias.shape} do not fit: they must have shapes "
                         "(B, K), (K, N) and (N,)")
    dtype = floating(name, states, w, bias)
    states = states if scale == 1 else mul(contiguous(states), np.asarray(scale, dtype))
    return matmul(states, w, bias, activation)
