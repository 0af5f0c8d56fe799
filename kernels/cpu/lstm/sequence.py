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

from kernels.cpu.lstm.cells import GATES, GRU, LSTM, PLACES, ROOM, SLOTS, gradient, load, load_slot, step, store
from kernels.cpu.matmul import simd
from kernels.cpu.matmul.packed import H2, KC, VECTORS, block_start, pack_a, pack_b, padded, product, tile_height
from kernels.jit import inner, jit, parallel_for, uncounted


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
def stay(part, values, before, after, H, span):
    """The state of a sequence that has ended."""
    for u in range(0, H, span):
        load(part, 0, values, before + u, H - u)
        store(part, 0, values, after + u, H - u)


@inner
def forward_task(chunk, kind, x, panels, bias, states, cells, gates, lengths, T, B, H, span, reverse, parts):
    """Some sequences from the first step to the last."""
    first, stop = part_of_rows(chunk, parts, B)
    G, rows, wide, size = GATES[kind], stop - first, VECTORS * simd.lanes(x), (stop - first) * span
    x, panels, bias, lengths = uncounted(x), uncounted(panels), uncounted(bias), uncounted(lengths)
    states, cells, gates, nothing = uncounted(states), uncounted(cells), uncounted(gates), bias[:0]
    packed, part, sums = np.empty(padded(rows) * H + 64, x.dtype), np.empty(3 * size, x.dtype), np.empty(ROOM[kind] * size, x.dtype)
    for number in range(T):
        t = T - 1 - number if reverse else number
        row, before, after = t * B + first, (t + reverse) * B + first, (t + 1 - reverse) * B + first
        pack_a(states, before * H, 0, H, packed, rows, H, 0, (H + KC - 1) // KC)
        for u in range(0, H, span):
            for gate in range(G):
                if kind == GRU:
                    load_slot(sums, gate, rows, span, bias, gate * H + u, 0, H - u)
                else:
                    load_slot(sums, PLACES[gate], rows, span, x, (row * G + gate) * H + u, G * H, H - u)
            for j in range(u, min(H, u + span), wide):
                width = panel_width(H - j, x)
                for gate in range(G):
                    slot = gate if kind == GRU else PLACES[gate]
                    add_product(packed, rows, H, panels, (j * G + gate * width) * H, width, min(wide, H - j), sums, slot * size + j - u,
                                span, nothing)
            step(kind, sums, part, rows, span, x, row, states, cells, before, after, gates, H, u, t, lengths, first)
        for r in range(rows):
            if t >= lengths[first + r]:
                stay(part, states, (before + r) * H, (after + r) * H, H, span)
                if kind == LSTM:
                    stay(part, cells, (before + r) * H, (after + r) * H, H, span)


@jit
def forward_kernel(kind, x, weight, bias, states, cells, gates, lengths, T, B, H, span, reverse, threads):
    """Fill states, cells and gates of cell `kind`; the initial ones are there."""
    G, wide = GATES[kind], VECTORS * simd.lanes(x)
    count = (H + wide - 1) // wide
    panels = np.empty(count * wide * G * H, x.dtype)
    parallel_for(pack_gates_task, count * G, threads, (weight, panels, G, H))
    parts = max(1, min(threads, (B + H2 - 1) // H2))
    parallel_for(forward_task, parts, threads, (kind, x, panels, bias, states, cells, gates, lengths, T, B, H, span, reverse, parts))


@inner
def backward_task(chunk, kind, g, states, cells, gates, panels, lengths, dx, dp, dh, dc, T, B, H, span, reverse, parts):
    """Some sequences from the last step to the first: dx, dp; dh and dc hold the gradients of the last state, in the end of the first."""
    first, stop = part_of_rows(chunk, parts, B)
    rows, K, wide = stop - first, GATES[kind] * H, VECTORS * simd.lanes(g)
    g, panels, lengths, states, cells = uncounted(g), uncounted(panels), uncounted(lengths), uncounted(states), uncounted(cells)
    gates, dx, dp, dh, dc, nothing = uncounted(gates), uncounted(dx), uncounted(dp), uncounted(dh), uncounted(dc), g[:0]
    packed, part = np.empty(padded(rows) * K + 64, g.dtype), np.empty(SLOTS * span, g.dtype)
    for number in range(T):
        t = number if reverse else T - 1 - number
        row, before, after = t * B + first, (t + reverse) * B + first, (t + 1 - reverse) * B + first
        for r in range(rows):                 # one by one: their numbers lie side by side in memory
            if t >= lengths[first + r]:
                dx[(row + r) * K:][:K] = 0
                dp[(row + r) * K:][:K] = 0
                continue
            for u in range(0, H, span):
                gradient(kind, part, 1, span, g, row + r, states, cells, before + r, after + r, gates, dx, dp, dh, dc, H, u, t, lengths,
                         first + r)
        pack_a(dp, row * K, 0, K, packed, rows, K, 0, (K + KC - 1) // KC)
        for j in range(0, H, wide):
            add_product(packed, rows, K, panels, j * K, panel_width(H - j, g), min(wide, H - j), dh, first * H + j, H, nothing)


@jit
def backward_kernel(kind, g, states, cells, gates, weight, lengths, dx, dp, dh, dc, T, B, H, span, reverse, threads):
    """Fill dx, dp (the same array but for a GRU), and take dh, dc back to the initial state."""
    wide = VECTORS * simd.lanes(g)
    count = (H + wide - 1) // wide
    panels = np.empty(count * wide * GATES[kind] * H, g.dtype)
    parallel_for(pack_rows_task, count, threads, (weight, panels, GATES[kind] * H, H))
    parts = max(1, min(threads, (B + H2 - 1) // H2))
    parallel_for(backward_task, parts, threads,
                 (kind, g, states, cells, gates, panels, lengths, dx, dp, dh, dc, T, B, H, span, reverse, parts))
