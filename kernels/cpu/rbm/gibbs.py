"""Half a Gibbs step of a restricted Boltzmann machine and the statistics of its gradient, in one pass each.

A half step goes from the states of one layer to those of the other: a product with the weights (of binary states by subsets.py), a
bias, a sigmoid and a draw. The last three are made while a part of the product is in the cache; nothing but what was asked for is
written. The random numbers of row r are the words from block offset + r * ceil(N / 4) on, so that a row's draws are a function of
its place, not of who computes them.
"""

import numpy as np

from kernels import scalar
from kernels.cpu.matmul import simd
from kernels.cpu.random import fill
from kernels.cpu.rbm.subsets import TALL, WORD, add_sums, aligned, pack_columns, pack_rows, padded
from kernels.jit import full_width, inner, jit, like, parallel_for

PANELS = 4                               # vectors of columns in a chunk: their random numbers are made together
ROWS = 34 * TALL                         # rows in a chunk
PACK = 16                                # rows to a chunk of packing
INPUT, PROBABILITY, DRAW = 0, 1, 2       # what a half step gives


@inner
def finish_row(r, j, end, out, probabilities, part, bits, mode, N, seed, offset):
    """Make probabilities, and draws if asked for, of columns j .. end - 1 of row r, which hold inputs.

    `part` and `bits` are room for as many numbers and more. Only such slices of the shared arrays are taken as Numba sees through: one
    that is handed on counts a reference, and threads that count on one array wait for each other.
    """
    full_width()
    row = out[r * N + j:][:end - j]
    for i in range(row.size):
        part[i] = row[i]
    for i in range(part.size):
        part[i] = scalar.sigmoid(part[i])
    if mode == DRAW:
        if probabilities.size > 0:
            kept = probabilities[r * N + j:][:end - j]
            for i in range(kept.size):
                kept[i] = part[i]
        fill(bits, seed, offset + np.uint64(r) * np.uint64((N + 3) // 4) + np.uint64(j // 4))
        for i in range(part.size):
            part[i] = like(part[i], like(part[i], scalar.uniform32(bits[i])) < part[i])
    for i in range(row.size):
        row[i] = part[i]


@inner
def pack_task(chunk, x, M, K, words, wrong):
    if not pack_rows(x, chunk * PACK, min(M, (chunk + 1) * PACK), M, K, words):
        wrong[0] = 1


@inner
def half_step_task(chunk, words, w, transposed, ldw, bias, scale, out, probabilities, M, N, K, parts, mode, seed, offset):
    """A group of rows and a few vectors of columns of a half step."""
    L = simd.lanes(w)
    first, j = chunk // parts * ROWS, chunk % parts * PANELS * L
    stop, end = min(M, first + ROWS), min(N, j + PANELS * L)
    sums = aligned(ROWS * L, w)
    for at in range(j, end, L):
        columns = min(L, end - at)
        sums[:] = 0
        add_sums(words, 0, M, first, stop, w, at * ldw if transposed else at, transposed, ldw, K, scale, sums, columns)
        for r in range(first, stop):
            row, shift, found = out[r * N + at:][:columns], bias[at:][:columns], sums[(r - first) * L:][:columns]
            for i in range(row.size):
                row[i] = found[i] + shift[i]
    if mode != INPUT:
        part, bits = np.zeros(PANELS * L, w.dtype), np.empty(PANELS * L, np.uint32)
        for r in range(first, stop):
            finish_row(r, j, end, out, probabilities, part, bits, mode, N, seed, offset)


@jit
def half_step_kernel(x, w, transposed, ldw, bias, scale, out, probabilities, M, N, K, mode, seed, offset, threads):
    """out (M, N) = scale * x @ W + bias, or the sigmoid of it, or draws from that; False, and nothing done, if x is not binary."""
    words, wrong = np.empty((K + WORD - 1) // WORD * padded(M), np.uint16), np.zeros(1, np.int64)
    parallel_for(pack_task, (M + PACK - 1) // PACK, threads, (x, M, K, words, wrong))
    if wrong[0]:
        return False
    parts = (N + PANELS * simd.lanes(w) - 1) // (PANELS * simd.lanes(w))
    parallel_for(half_step_task, (M + ROWS - 1) // ROWS * parts, threads,
                 (words, w, transposed, ldw, bias, scale, out, probabilities, M, N, K, parts, mode, seed, offset))
    return True


@inner
def finish_task(chunk, out, probabilities, M, N, mode, seed, offset):
    wide = PANELS * simd.lanes(out)
    part, bits = np.zeros(wide, out.dtype), np.empty(wide, np.uint32)
    for r in range(chunk * PACK, min(M, (chunk + 1) * PACK)):
        for j in range(0, N, wide):
            finish_row(r, j, min(N, j + wide), out, probabilities, part, bits, mode, N, seed, offset)


@jit
def finish_kernel(out, probabilities, M, N, mode, seed, offset, threads):
    """The end of a half step whose inputs are in `out`."""
    parallel_for(finish_task, (M + PACK - 1) // PACK, threads, (out, probabilities, M, N, mode, seed, offset))


# ---- statistics -----------------------------------------------------------------------------------------------------

@inner
def pack_columns_task(chunk, v0, v1, V, B0, B1, words, wrong):
    """A word of all visible units: the first ones from v0, then those from v1."""
    count = (B0 + WORD - 1) // WORD
    if chunk < count and not pack_columns(v0, chunk, V, B0, words, 0):
        wrong[0] = 1
    if chunk >= count and not pack_columns(v1, chunk - count, V, B1, words, count * padded(V)):
        wrong[0] = 1


@inner
def statistics_task(chunk, words, h0, h1, out, V, H, B0, B1, parts):
    """A group of visible units and one vector of hidden units of the statistics."""
    L = simd.lanes(out)
    first, at = chunk // parts * ROWS, chunk % parts * L
    stop, columns = min(V, first + ROWS), min(L, H - at)
    sums = aligned(ROWS * L, out)
    sums[:] = 0
    for side in range(2):
        start, B = (B0 + WORD - 1) // WORD * padded(V) if side else 0, B1 if side else B0
        factor = like(out[0], -1 if side else 1) / like(out[0], B)
        add_sums(words, start, V, first, stop, h1 if side else h0, at, 0, H, B, factor, sums, columns)
    for r in range(first, stop):
        row, found = out[r * H + at:][:columns], sums[(r - first) * L:][:columns]
        for i in range(row.size):
            row[i] = found[i]


@jit
def statistics_kernel(v0, h0, v1, h1, out, V, H, B0, B1, threads):
    """out = v0^T h0 / B0 - v1^T h1 / B1 for binary v; False, and nothing done, if they are not."""
    count = (B0 + WORD - 1) // WORD + (B1 + WORD - 1) // WORD
    words, wrong = np.empty(count * padded(V), np.uint16), np.zeros(1, np.int64)
    parallel_for(pack_columns_task, count, threads, (v0, v1, V, B0, B1, words, wrong))
    if wrong[0]:
        return False
    parts = (H + simd.lanes(out) - 1) // simd.lanes(out)
    parallel_for(statistics_task, (V + ROWS - 1) // ROWS * parts, threads, (words, h0, h1, out, V, H, B0, B1, parts))
    return True
