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
    PLACES,
    ROOM,
    SLOTS,
    SPAN,
    arrive,
    gru_gradient,
    load,
    lstm_gradient,
    rnn_gradient,
    step,
    store,
)
from kernels.cpu.matmul import simd
from kernels.cpu.matmul.packed import H2, KC, VECTORS, block_start, pack_a, pack_b, padded, product, tile_height
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
def add_product(packed, rows, K, panels, at, width, columns, c, co, ldc, nothing):
    """`rows` rows by `columns` columns of C from co on += packed rows (rows, K) times the panel that begins at `at`."""
    for block in range((K + KC - 1) // KC):
        k0, i = block_start(block, K), 0
        kb = block_start(block + 1, K) - k0
        while i < rows:
            height = tile_height(rows - i)
            product(height, packed, k0 * padded(rows) + i * kb, panels, at + k0 * width, width, c, co + i * ldc, ldc, kb, rows - i, columns,
                    True, nothing, 0, False)
            i += height


@inner
def stay(part, values, before, after, H):
    """The state of a sequence that has ended."""
    size = SPAN * simd.lanes(part)
    for u in range(0, H, size):
        load(part, 0, values, before + u, H - u)
        store(part, 0, values, after + u, H - u)


@inner
def forward_task(chunk, kind, x, panels, bias, states, cells, gates, lengths, T, B, H, reverse, parts):
    """Some sequences from the first step to the last."""
    first, stop = part_of_rows(chunk, parts, B)
    G, room, wide, span = GATES[kind], ROOM[kind], VECTORS * simd.lanes(x), SPAN * simd.lanes(x)
    rows, blocks = stop - first, (H + KC - 1) // KC
    packed, part, sums = np.empty(padded(rows) * H + 64, x.dtype), np.zeros(SLOTS * span, x.dtype), np.zeros(rows * room * span, x.dtype)
    for number in range(T):
        t = T - 1 - number if reverse else number
        before, after = (t + reverse) * B, (t + 1 - reverse) * B
        pack_a(states, (before + first) * H, 0, H, packed, rows, H, 0, blocks)
        for u in range(0, H, span):
            for r in range(rows):
                for gate in range(G):
                    if kind == GRU:
                        load(sums, r * room + gate, bias, gate * H + u, H - u)
                    else:
                        load(sums, r * room + PLACES[gate], x, ((t * B + first + r) * G + gate) * H + u, H - u)
            for j in range(u, min(H, u + span), wide):
                width = panel_width(H - j, x)
                for gate in range(G):
                    slot = gate if kind == GRU else PLACES[gate]
                    add_product(packed, rows, H, panels, (j * G + gate * width) * H, width, min(wide, H - j), sums, slot * span + j - u,
                                room * span, bias[:0])
            for r in range(rows):
                if t < lengths[first + r]:
                    at = t * B + first + r
                    step(kind, sums, r * room, part, x, at * G * H + u, states, cells, (before + first + r) * H + u,
                         (after + first + r) * H + u, gates, at * KEPT[kind] * H + u, H, min(span, H - u))
        for r in range(first, stop):
            if t >= lengths[r]:
                stay(part, states, (before + r) * H, (after + r) * H, H)
                if kind == LSTM:
                    stay(part, cells, (before + r) * H, (after + r) * H, H)


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
def gradient_row(kind, part, g, states, cells, before, after, gates, dx, dp, dh, dc, at, r, H):
    """Gradients of what entered the gates of sequence r at one step, whose number in (T, B) is `at`."""
    kept, out = at * KEPT[kind] * H, at * GATES[kind] * H
    for u in range(0, H, SPAN * simd.lanes(part)):
        count = min(SPAN * simd.lanes(part), H - u)
        arrive(part, g, at * H + u, dh, r * H + u, count)
        if kind == LSTM:
            lstm_gradient(part, cells, before + u, after + u, gates, kept + u, dc, r * H + u, dx, out + u, H, count)
        elif kind == GRU:
            gru_gradient(part, states, before + u, gates, kept + u, dh, r * H + u, dx, dp, out + u, H, count)
        else:
            rnn_gradient(part, states, after + u, dx, out + u, count, kind)
    if kind != GRU:
        dh[r * H:][:H] = 0


@inner
def backward_task(chunk, kind, g, states, cells, gates, panels, lengths, dx, dp, dh, dc, T, B, H, reverse, parts):
    """Some sequences from the last step to the first: dx, dp; dh and dc hold the gradients of the last state, in the end of the first."""
    first, stop = part_of_rows(chunk, parts, B)
    rows, K, wide = stop - first, GATES[kind] * H, VECTORS * simd.lanes(g)
    packed, part = np.empty(padded(rows) * K + 64, g.dtype), np.zeros(SLOTS * SPAN * simd.lanes(g), g.dtype)
    for number in range(T):
        t = number if reverse else T - 1 - number
        before, after = (t + reverse) * B, (t + 1 - reverse) * B
        for r in range(first, stop):
            if t < lengths[r]:
                gradient_row(kind, part, g, states, cells, (before + r) * H, (after + r) * H, gates, dx, dp, dh, dc, t * B + r, r, H)
            else:
                dx[(t * B + r) * K:][:K] = 0
                dp[(t * B + r) * K:][:K] = 0
        pack_a(dp, (t * B + first) * K, 0, K, packed, rows, K, 0, (K + KC - 1) // KC)
        for j in range(0, H, wide):
            add_product(packed, rows, K, panels, j * K, panel_width(H - j, g), min(wide, H - j), dh, first * H + j, H, g[:0])


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
