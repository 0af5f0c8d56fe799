"""All steps of a recurrent network in one parallel region, forward and backward.

The sequences of a batch do not meet: a task takes some of them through all steps, so that threads wait for each other once, at the end.
The recurrent weights are packed once for all steps, in panels of columns as the product (matmul/packed.py) wants them: forward the
gates of the same units side by side, so that those units can be finished while their sums are in the cache. A step of a task is
    1. the states of its sequences are packed as tiles of rows;
    2. for SPAN vectors of units: the product of the tiles with the panels of each gate, into a small local array; then, sequence by
       sequence, the input's sums are added, and gates, cells and states made (cells.py).
Backward a step makes the gradients of all gates from those of the states, and then takes them through the transposed weights:
a product G times as deep whose result is added to the gradient of the states before.

FLOPs: 2 T B G H^2 in each direction. Bytes: input sums read, gates, cells and states written, once; the packed weights (G H^2) are read
by each task at every step, from the last-level cache if they fit there.
"""

import numpy as np

from kernels.cpu.lstm.cells import (
    GATES,
    GRU,
    KEPT,
    LSTM,
    SLOTS,
    SPAN,
    add,
    gru_gradient,
    gru_step,
    load,
    lstm_gradient,
    lstm_step,
    rnn_gradient,
    rnn_step,
    store,
)
from kernels.cpu.matmul import simd
from kernels.cpu.matmul.packed import H2, KC, VECTORS, pack_a, pack_b, padded, panel_product
from kernels.jit import inner, jit, parallel_for


@inner
def part_of_rows(part, parts, B):
    """First sequence of a part, and the one after its last; parts are cut at whole tiles."""
    tiles = (B + H2 - 1) // H2
    return part * tiles // parts * H2, min(B, (part + 1) * tiles // parts * H2)


@inner
def panel_width(left, a):
    """Width of the panel that holds the next columns when so many are left."""
    return simd.lanes(a) if left <= simd.lanes(a) else VECTORS * simd.lanes(a)


@inner
def pack_gates_task(chunk, weight, panels, G, H):
    """The panel of one gate of some units: panels[(u G + gate width) H + k width + c] = weight[gate H + u + c, k]."""
    wide = VECTORS * simd.lanes(weight)
    u, gate = chunk // G * wide, chunk % G
    width = panel_width(H - u, weight)
    pack_b(weight, (gate * H + u) * H, 1, H, panels[(u * G + gate * width) * H:], width, min(wide, H - u), H)


@inner
def pack_rows_task(chunk, weight, panels, K, N):
    """A panel of weight (K, N), all of K; the panel at column j begins at j K."""
    j = chunk * VECTORS * simd.lanes(weight)
    pack_b(weight, j, 0, N, panels[j * K:], panel_width(N - j, weight), min(VECTORS * simd.lanes(weight), N - j), K)


@inner
def forward_task(chunk, kind, x, panels, bias, states, cells, gates, lengths, T, B, H, reverse, parts):
    """Some sequences from the first step to the last."""
    first, stop = part_of_rows(chunk, parts, B)
    G, kept, wide, span, blocks = GATES[kind], KEPT[kind], VECTORS * simd.lanes(x), SPAN * simd.lanes(x), (H + KC - 1) // KC
    rows = stop - first
    packed, part = np.empty(padded(rows) * H + 64, x.dtype), np.zeros(SLOTS * span, x.dtype)
    sums, nothing = np.empty(rows * G * span, x.dtype), bias[:0]
    for step in range(T):
        t = T - 1 - step if reverse else step
        before, after = (t + reverse) * B, (t + 1 - reverse) * B
        pack_a(states, (before + first) * H, 0, H, packed, rows, H, 0, blocks)
        for u in range(0, H, span):
            for j in range(u, min(H, u + span), wide):
                width = panel_width(H - j, x)
                for gate in range(G):
                    panel_product(packed, rows, panels, (j * G + gate * width) * H, 2, 0, nothing, width, sums, gate * span + j - u,
                                  G * span, min(wide, H - j), H, 0, blocks, False, nothing, 0, False)
            count = min(span, H - u)
            for r in range(first, stop):
                at, old, new = (t * B + r) * G * H + u, (before + r) * H + u, (after + r) * H + u
                if t >= lengths[r]:
                    load(part, 0, states, old, count)
                    store(part, 0, states, new, count)
                    if kind == LSTM:
                        load(part, 0, cells, old, count)
                        store(part, 0, cells, new, count)
                    continue
                for gate in range(G):
                    load(part, gate, sums, ((r - first) * G + gate) * span, count)
                if kind == GRU:
                    for gate in range(3):
                        load(part, 3 + gate, x, at + gate * H, count)
                        if bias.size:
                            add(part, gate, bias, gate * H + u, count)
                    gru_step(part, states, old, new, gates, (t * B + r) * kept * H + u, H, count)
                else:
                    for gate in range(G):
                        add(part, gate, x, at + gate * H, count)
                    if kind == LSTM:
                        lstm_step(part, cells, old, new, states, new, gates, (t * B + r) * kept * H + u, H, count)
                    else:
                        rnn_step(part, states, new, count, kind)


@jit
def forward_kernel(kind, x, weight, bias, states, cells, gates, lengths, T, B, H, reverse, threads):
    """Fill states, cells and gates of cell `kind`; the initial ones are there."""
    G, wide = GATES[kind], VECTORS * simd.lanes(x)
    count = (H + wide - 1) // wide
    panels = np.empty(count * wide * G * H, x.dtype)
    parallel_for(pack_gates_task, count * G, threads, (weight, panels, G, H))
    parts = max(1, min(threads, (B + H2 - 1) // H2))
    parallel_for(forward_task, parts, threads, (kind, x, panels, bias, states, cells, gates, lengths, T, B, H, reverse, parts))


@inner
def backward_task(chunk, kind, g, states, cells, gates, panels, lengths, dx, dp, dh, dc, T, B, H, reverse, parts):
    """Some sequences from the last step to the first: dx, dp; dh and dc hold the gradients of the state, of the last and then the first."""
    first, stop = part_of_rows(chunk, parts, B)
    G, kept, wide, span = GATES[kind], KEPT[kind], VECTORS * simd.lanes(g), SPAN * simd.lanes(g)
    rows, K = stop - first, G * H
    blocks = (K + KC - 1) // KC
    packed, part, nothing = np.empty(padded(rows) * K + 64, g.dtype), np.zeros(SLOTS * span, g.dtype), g[:0]
    for step in range(T):
        t = step if reverse else T - 1 - step
        before, after = (t + reverse) * B, (t + 1 - reverse) * B
        for r in range(first, stop):
            if t >= lengths[r]:
                dx[(t * B + r) * K:][:K] = 0
                if kind == GRU:
                    dp[(t * B + r) * K:][:K] = 0
                continue
            for u in range(0, H, span):
                count, old, new, at = min(span, H - u), (before + r) * H + u, (after + r) * H + u, (t * B + r) * kept * H + u
                to = (t * B + r) * K + u
                load(part, 4, dh, r * H + u, count)
                add(part, 4, g, (t * B + r) * H + u, count)
                if kind == LSTM:
                    lstm_gradient(part, cells, old, new, gates, at, dc, r * H + u, dx, to, H, count)
                elif kind == GRU:
                    gru_gradient(part, states, old, gates, at, dh, r * H + u, dx, dp, to, H, count)
                else:
                    rnn_gradient(part, states, new, dx, to, count, kind)
                if kind != GRU:
                    dh[r * H + u:][:count] = 0
        pack_a(dp, (t * B + first) * K, 0, K, packed, rows, K, 0, blocks)
        for j in range(0, H, wide):
            panel_product(packed, rows, panels, j * K, 2, 0, nothing, panel_width(H - j, g), dh, first * H + j, H, min(wide, H - j), K,
                          0, blocks, True, nothing, 0, False)


@jit
def backward_kernel(kind, g, states, cells, gates, weight, lengths, dx, dp, dh, dc, T, B, H, reverse, threads):
    """Fill dx, dp (the same array but for a GRU), and take dh, dc back to the initial state."""
    wide = VECTORS * simd.lanes(g)
    count = (H + wide - 1) // wide
    panels = np.empty(count * wide * GATES[kind] * H, g.dtype)
    parallel_for(pack_rows_task, count, threads, (weight, panels, GATES[kind] * H, H))
    parts = max(1, min(threads, (B + H2 - 1) // H2))
    parallel_for(backward_task, parts, threads,
                 (kind, g, states, cells, gates, panels, lengths, dx, dp, dh, dc, T, B, H, reverse, parts))
