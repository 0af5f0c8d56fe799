"""Restricted Boltzmann machines: half a Gibbs step is a matrix product that ends with a draw. Names and formulas: kernels/cpu/rbm.

The four neighbouring columns that a thread finishes at once take one block of Philox. In float64 a kernel of its own draws.
"""

from functools import cache

import numpy as np

from kernels.cuda.array import as_device, contiguous, empty
from kernels.cuda.array import blocks as grid_blocks
from kernels.cuda.compiler import cuda, device, kernel, like, put, scalar, st4
from kernels.cuda.elementwise import mul
from kernels.cuda.matmul import by_fours, form_of, lay_out, matmul
from kernels.cuda.matmul.products import form_name, itself
from kernels.cuda.matmul.tiles import choose, finisher, grid, main_loop, matrix_loader
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


@device
def drawn(p, word):
    """1 where the uniform of a word is below p, else 0."""
    return like(p, 1) if like(p, scalar.uniform32(word)) < p else like(p, 0)


def draw_finisher(tile, vectors, keep):
    """The finisher of draws, out = (draws, kept, M, N, bias, seed, offset, shift); `keep` their probabilities too."""
    @device
    def write(four, column, row, out):
        draws, kept, M, N, bias, seed, offset, shift = out
        if row < M and column < N:
            w = block_words(seed, offset + shift[0] + np.uint64(row * ((N + 3) // 4) + column // 4))
            at = row * N + column
            if vectors:
                p0, p1 = scalar.sigmoid(four[0] + bias[column]), scalar.sigmoid(four[1] + bias[column + 1])
                p2, p3 = scalar.sigmoid(four[2] + bias[column + 2]), scalar.sigmoid(four[3] + bias[column + 3])
                st4(draws, at, drawn(p0, w[0]), drawn(p1, w[1]), drawn(p2, w[2]), drawn(p3, w[3]))
                if keep:
                    st4(kept, at, p0, p1, p2, p3)
            else:
                for q in range(4):
                    if column + q < N:
                        p = scalar.sigmoid(four[q] + bias[column + q])
                        put(draws, at + q, drawn(p, w[q]))
                        if keep:
                            put(kept, at + q, p)
    return finisher(tile, itself, write)


@cache
def draws_kernel(tile, a_along_k, b_along_k, vectors_a, vectors_b, vectors_c, keep):
    """The kernel of a half step, for a tile and the way operands lie as in matmul/products.py."""
    threads, tile_rows, tile_columns, count = tile.threads, tile.rows, tile.columns, tile.side ** 2
    loop = main_loop(tile, matrix_loader(tile.rows, threads, a_along_k, vectors_a),
                     matrix_loader(tile.columns, threads, b_along_k, vectors_b))
    finish = draw_finisher(tile, vectors_c, keep)
    name = f"rbm_draws_{form_name(tile, a_along_k, b_along_k, vectors_a, vectors_b, vectors_c)}{'_keep' * keep}"

    @kernel(name=name, threads=threads)          # Philox takes more registers than two large blocks have
    def rbm_draws(a, b, draws, kept, bias, M, N, K, lead_a, lead_b, seed, offset, shift):
        """draws = 1 with probability sigmoid(A B + bias), else 0."""
        sums = cuda.local.array(count, np.float32)
        row0, column0 = cuda.blockIdx.x * tile_rows, cuda.blockIdx.y * tile_columns
        loop(sums, (a, 0, row0, M, K, lead_a), (b, 0, column0, N, K, lead_b), 0, K)
        finish(sums, (draws, kept, M, N, bias, seed, offset, shift), row0, column0)
    return rbm_draws


@kernel
def draw_kernel(probabilities, draws, seed, offset, shift, units, row_blocks, count):
    """draws = 1 where a uniform is below the probability: a thread for each Philox block, of which every row has `row_blocks`."""
    for b in range(cuda.grid(1), count, cuda.gridsize(1)):
        w = block_words(seed, offset + shift[0] + np.uint64(b))
        row, first = b // row_blocks, b % row_blocks * 4
        for k in range(4):
            if first + k < units:
                draws[row * units + first + k] = drawn(probabilities[row * units + first + k], w[k])


def rbm_sample(states, w, bias, seed, offset, scale=1, probabilities=False):
    """Draws of the other layer, 1 with probability sigmoid(scale * states @ w + bias): (B, K), (K, N), (N,) -> (B, N).

    scale           an inverse temperature, of the weights alone
    probabilities   return (draws, their probabilities)
    Number j of row r is 1 where the uniform of word r * 4 ceil(N / 4) + j is below its probability. Uses rbm_blocks(B, N).
    2 B K N FLOPs; bytes: states, w and what is returned once. In float64 the probabilities are written and read before the draw.
    """
    states, dtype = _checked("rbm_sample", states, w, bias, scale)
    place = stream(seed, offset)
    if dtype == np.float32:
        draws, kept = _draw(states, w, contiguous(bias), place, probabilities)
    else:
        kept = matmul(states, w, bias, "sigmoid")
        draws, units = empty(kept.shape, dtype) if probabilities else kept, kept.shape[1]
        count = rbm_blocks(*kept.shape)
        draw_kernel[grid_blocks(count), 256](kept, draws, *place, units, blocks(units), count)
    return (draws, kept) if probabilities else draws


def _draw(states, w, bias, place, keep):
    """(draws, their probabilities if they are kept) in float32."""
    (M, K), N = states.shape, w.shape[1]
    draws = empty((M, N), np.float32)
    kept = empty((M, N), np.float32) if keep else draws
    if draws.size:
        (a, _), (b, _) = lay_out(states), lay_out(w)
        lead_a, lead_b, form = form_of(M, N, K, a, b, *a.strides, *b.strides)
        tile = choose(M, N, 1)
        launch = draws_kernel(tile, *form, by_fours(draws, N, 0, N), keep)[grid(tile, M, N), tile.threads]
        launch(a, b, draws, kept, bias, M, N, K, lead_a, lead_b, *place)
    return draws, kept


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
    states, _ = _checked(name, states, w, bias, scale)
    return matmul(states, w, bias, activation)


def _checked(name, states, w, bias, scale):
    """(states times scale, their dtype) after a check of all."""
    as_device(name, states, w, bias)
    if states.ndim != 2 or w.ndim != 2 or states.shape[1] != w.shape[0] or bias.shape != w.shape[1:]:
        raise ValueError(f"{name}: states {states.shape}, weights {w.shape} and bias {bias.shape} do not fit: they must have shapes "
                         "(B, K), (K, N) and (N,)")
    dtype = floating(name, states, w, bias)
    return (states if scale == 1 else mul(contiguous(states), np.asarray(scale, dtype))), dtype
