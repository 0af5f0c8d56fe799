"""Steps of a recurrent language model on its own predictions, without a return to Python.

A step of one sequence reads every weight once and multiplies it once, so it can be no faster than the cache that holds the weights:
for 512 LSTM units 4.2 MB, which two Zen 4 cores read from their third-level cache at 150 GB/s, in 28 us. What keeps it near that:

    rows in place      scalar products of eight rows at a time along the rows, which lie as torch has them: to pack them into panels
                       gained nothing (measured: 31 us)
    a table of inputs  the product of an id's embedding and the first layer's input weights is made when the id comes for the first time
    gates at once      a region hands out UNITS hidden units; whoever has their gates bends them while they are in the cache
    one region         a layer and a step, 1.5 us
    back and forth     every other step goes through the weights from the end, where half of them are still in the second-level cache of
                       the core that read them last: 7 % of the whole

A sum's order depends on the shapes alone, so a sequence has the same bits on any number of threads, cut into any calls, and beside any
other sequences.
"""

import numpy as np

from kernels import scalar
from kernels.cpu.generate.sampling import sample_task
from kernels.cpu.matmul import simd
from kernels.cpu.matmul.dots import dot_product
from kernels.jit import full_width, inner, jit, like, parallel_for

LSTM, GRU, RNN_TANH, RNN_RELU = range(4)
ROWS, UNITS, WORDS = 8, 16, 64             # weight rows of a tile; hidden units and logits of a task
SMALL = 1 << 17                            # multiplications below which one thread is faster
one_sequence, two_sequences = dot_product(ROWS, 1), dot_product(ROWS, 2)


@inner
def add_products(w, wo, K, places, rows, x, xo, y, yo, ldy, N):
    """y[n, r] += the sum over k of w[r, k] x[n, k], for `rows` rows of w, which begin at wo, and N rows of x, all K long."""
    for r in range(0, rows, ROWS):
        n = 0
        while n + 2 <= N:
            two_sequences(w, wo + r * K, K, places, x, xo + n * K, K, y, yo + n * ldy + r, ldy, rows - r)
            n += 2
        if n < N:
            one_sequence(w, wo + r * K, K, places, x, xo + n * K, K, y, yo + n * ldy + r, ldy, rows - r)


@inner
def bend_lstm(z, at, H, h, ho, c, co, units):
    """h and c of so many units from the sums z of the input, forget, cell and output gates, which lie H apart."""
    full_width()
    for j in range(units):
        i, f = scalar.sigmoid(z[np.uint64(at + j)]), scalar.sigmoid(z[np.uint64(at + H + j)])
        g, o = scalar.tanh(z[np.uint64(at + 2 * H + j)]), scalar.sigmoid(z[np.uint64(at + 3 * H + j)])
        cell = f * c[np.uint64(co + j)] + i * g
        c[np.uint64(co + j)] = cell
        h[np.uint64(ho + j)] = o * scalar.tanh(cell)


@inner
def bend_gru(z, at, H, h, ho, before, units):
    """h from the sums of the reset and update gates and the new state's two, of the input and of the units, which lie H apart."""
    full_width()
    for j in range(units):
        r, u = scalar.sigmoid(z[np.uint64(at + j)]), scalar.sigmoid(z[np.uint64(at + H + j)])
        new = scalar.tanh(z[np.uint64(at + 2 * H + j)] + r * z[np.uint64(at + 3 * H + j)])
        h[np.uint64(ho + j)] = (like(u, 1) - u) * new + u * h[np.uint64(before + j)]


@inner
def begin(z, zo, source, at, gates, H, j, units):
    """The sums of some units before any product with other units: what `source` holds for them, of which a whole vector is read."""
    for g in range(gates):
        for i in range(g * H + j, g * H + j + units, simd.lanes(z)):
            simd.copy_only(source, at + i, g * H + j + units - i, z, zo + i)


@inner
def on_the_way_back(chunk, chunks, threads):
    """For the first chunk of a thread's range (see parallel_for) the last, and so on: the same chunks the other way round."""
    width = min(threads, chunks)
    thread = ((chunk + 1) * width - 1) // chunks
    return thread * chunks // width + (thread + 1) * chunks // width - 1 - chunk


@inner
def layer_task(chunk, chunks, threads, back, layer, w, starts, embedding, cell, gates, sections, H, E, K, N, before, after, h, c, z,
               table, rows, fresh, embedding_places, places):
    """UNITS units of a layer, for all sequences; `back` turns the order of a thread's chunks round.

    starts[4 * layer:] are the places in w of its weight_ih, weight_hh, bias, and what a GRU adds to the units' own product for the new
    state; before and after those of its h then and now, behind which the next layer's stand. Sequence n reads row rows[n] of `table`,
    which is yet to be made if fresh[n] is not negative: from the embedding of that id.
    """
    j = (on_the_way_back(chunk, chunks, threads) if back else chunk) * UNITS
    units, s = min(UNITS, H - j), np.uint64(4 * layer)
    weight_ih, weight_hh, bias, bias_own = starts[s], starts[s + np.uint64(1)], starts[s + np.uint64(2)], starts[s + np.uint64(3)]
    for n in range(N):
        zo = n * sections * H
        if cell == GRU:
            begin(z, zo + 3 * H, w, bias_own, 1, H, j, units)
        if layer > 0:
            begin(z, zo, w, bias, gates, H, j, units)
            continue
        row, number = rows[np.uint64(n)] * gates * H, fresh[np.uint64(n)]
        if number >= 0:
            begin(table, row, w, bias, gates, H, j, units)
            for g in range(gates):
                to = g * H + j
                add_products(w, weight_ih + to * E, E, embedding_places, units, w, embedding + number * E, table, row + to, 0, 1)
        begin(z, zo, table, row, gates, H, j, units)
    for part in range(1 if layer == 0 else 2):                     # the units' own product, then that of the layer below
        weight, source = (weight_hh, before) if part == 0 else (weight_ih, after - N * K)
        for g in range(gates):
            to = (g + 1 if cell == GRU and g == 2 and part == 0 else g) * H + j
            add_products(w, weight + (g * H + j) * K, K, places, units, h, source, z, to, sections * H, N)
    for n in range(N):
        at, ho, old = n * sections * H + j, after + n * K + j, before + n * K + j
        if cell == LSTM:
            bend_lstm(z, at, H, h, ho, c, (layer * N + n) * H + j, units)
        elif cell == GRU:
            bend_gru(z, at, H, h, ho, old, units)
        else:
            for i in range(units):
                total = z[np.uint64(at + i)]
                h[np.uint64(ho + i)] = scalar.tanh(total) if cell == RNN_TANH else scalar.relu(total)


@inner
def logits_task(chunk, w, weight, bias, h, ho, K, N, V, places, logits):
    """WORDS logits of all sequences."""
    v = chunk * WORDS
    words = min(WORDS, V - v)
    for n in range(N):
        for i in range(v, v + words):
            logits[np.uint64(n * V + i)] = w[np.uint64(bias + i)]
    add_products(w, weight + v * K, K, places, words, h, ho, logits, v, V, N)


@inner
def find_rows(t, ids, P, drawn, steps, N, slots, rows, fresh):
    """rows[n]: the row in the table of inputs of the id that sequence n reads at step t. fresh[n] is that id if the row is new, else -1.

    slots[id] is the row of an id that has come before, -1 for another; slots[V] counts them. Of several sequences that read one new id
    the first makes its row, before any other reads it.
    """
    for n in range(N):
        number = ids[np.uint64(n * P + t)] if t < P else drawn[np.uint64(n * steps + t - P)]
        row = slots[np.uint64(number)]
        fresh[np.uint64(n)] = number if row < 0 else -1
        if row < 0:
            row = slots[slots.size - 1]
            slots[slots.size - 1] += 1
            slots[np.uint64(number)] = row
        rows[np.uint64(n)] = row


@jit
def generate_kernel(w, starts, sizes, ids, h, c, z, logits, table, slots, embedding_places, places, choice, seed, offset, weights, heap,
                    drawn, log_probs, threads):
    """Feed ids (N, P), and then what is drawn; the number of steps after which logits were not finite, else -1.

    h holds two copies of all layers' units, (2, layers, N, K): the states at the start are in the first. `sizes` are cell, gates,
    sections, layers, N, P, steps, V, E, K, H, with E and K, the lengths of the rows, made full vectors; `starts` are places in w, of each
    layer's four arrays and then of the embedding, the output weight and its bias.
    """
    cell, gates, sections, layers, N, P, steps, V, E, K, H = sizes
    temperature, top_k, top_p = choice
    rows, fresh, size, top = np.empty(N, np.int64), np.empty(N, np.int64), layers * N * K, 4 * layers
    embedding, weight, bias = starts[top], starts[top + 1], starts[top + 2]
    chunks = (H + UNITS - 1) // UNITS
    for t in range(P + steps - 1 if steps > 0 else P):
        find_rows(t, ids, P, drawn, steps, N, slots, rows, fresh)
        for layer in range(layers):
            before, after = t % 2 * size + layer * N * K, (t + 1) % 2 * size + layer * N * K
            width = threads if N * gates * H * K > SMALL else 1
            parallel_for(layer_task, chunks, width,
                         (chunks, width, t % 2 == 1, layer, w, starts, embedding, cell, gates, sections, H, E, K, N, before, after, h, c, z,
                          table, rows, fresh, embedding_places, places))
        s = t - P + 1
        if s < 0 or steps == 0:
            continue
        last = (t + 1) % 2 * size + (layers - 1) * N * K
        parallel_for(logits_task, (V + WORDS - 1) // WORDS, threads if N * V * K > SMALL else 1,
                     (w, weight, bias, h, last, K, N, V, places, logits))
        parallel_for(sample_task, N, threads if N * V > SMALL // 8 else 1,
                     (logits, V, temperature, top_k, top_p, seed, offset + np.uint64(s * N), weights, heap, drawn, log_probs, s, steps))
        for n in range(N):
            if drawn[n * steps + s] < 0:
                return s
    return -1
