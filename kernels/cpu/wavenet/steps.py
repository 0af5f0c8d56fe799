"""Samples that a WaveNet draws one by one, without a return to Python.

Of each layer only its last `dilation` inputs are needed again (van den Oord et al. 2016 do not say so; Paine et al. 2016 do): they stand
in a ring. A sample then costs as many multiplications as there are weights, and reads each weight once: for 2 x 9 layers of 32
channels and 128 skip channels 860 kB, which fit the second-level cache of one core. What keeps it near the speed of that cache:

    one stream         weights lie in the order in which they are read, in panels of columns
    columns            a product goes along the inputs, a panel of outputs being in registers: no sums of lanes, and a gate's two sums
                       end in the same place of two vectors
    sums in parts      each sum is cut in two or four, which do not wait for each other
    one skip product   the z of all layers, side by side, meet the skip weights once a sample
    sequences apart    they do not meet: a core takes some of them through all samples, two at a time sharing each weight that is read

A sum's order depends on the shapes alone, so a sequence has the same bits on any number of threads, cut into any calls, and beside any
other sequences.
"""

import numpy as np

from kernels.cpu.generate.sampling import sample_task
from kernels.cpu.wavenet.mixture import mixture_task
from kernels.cpu.wavenet.stack import bend, half_panel
from kernels.cpu.wavenet.tiles import add_half_lines, add_lines, give, take
from kernels.jit import inner, jit, like, parallel_for, uncounted


@inner
def read(w, place, ids, values, at, h, to, K):
    """The first layer's input, K numbers of h: the row of an id, or a number times one row plus another."""
    if values.size == 0:
        take(w, place + ids[np.uint64(at)] * K, K, h, to, K)
        return
    for k in range(np.uint64(K)):
        h[np.uint64(to) + k] = values[np.uint64(at)] * w[np.uint64(place) + k] + w[np.uint64(place + K) + k]


@inner
def add_frame(w, step, condition, at, L, R, K, bias, to):
    """bias[to:] = for each layer its bias and, of the condition's 2 L R numbers from `at` on, its own 2 R, as panels (2 K)."""
    half = half_panel(w)
    for layer in range(L):
        row = to + layer * 2 * K
        take(w, layer * step + 4 * K * K, 2 * K, bias, row, 2 * K)
        for k in range(R):
            place = row + k // half * 2 * half + k % half
            bias[np.uint64(place)] += condition[np.uint64(at + layer * 2 * R + k)]
            bias[np.uint64(place + half)] += condition[np.uint64(at + layer * 2 * R + R + k)]


@inner
def run_layers(w, step, dilations, t, ring, first, rows, D, R, K, h, pairs, p, bias, z, L):
    """z (rows, L K) of all layers from h (rows, K), at position t. ring (N, D, R) gives each layer's input of `dilation` before and takes
    this one's; bias (rows, L, 2 K) is where its sums begin."""
    slot, half, lane = 0, half_panel(w), L * K
    for layer in range(L):
        d, wo = dilations[layer], layer * step
        for r in range(rows):
            at = ((first + r) * D + slot + t % d) * R
            take(ring, at, R, pairs, r * 2 * K, K)
            take(h, r * K, K, pairs, r * 2 * K + K, K)
            give(h, r * K, ring, at, R, K)
            take(bias, (r * L + layer) * 2 * K, 2 * K, p, r * 2 * K, 2 * K)
        slot += d
        add_lines(pairs, 0, 2 * K, w, wo, p, 0, 2 * K, 2 * K, rows, 2 * K)
        for r in range(rows):
            bend(p, r * 2 * K, z, r * lane + layer * K, K // half)
        if layer < L - 1:
            residual = wo + 4 * K * K + 2 * K
            for r in range(rows):
                for k in range(np.uint64(K)):
                    h[np.uint64(r * K) + k] += w[np.uint64(residual + K * K) + k]
            add_half_lines(z, layer * K, lane, w, residual, h, 0, K, K, rows, K)


@inner
def run_head(w, plan, x, rows):
    """x holds z of all layers (rows, plan[1]), and then takes the sums of the skip connections and of the two output layers, each (rows,
    width); where the last ones begin. plan: for each product the place of its weights, inputs and width; the bias is behind the weights."""
    at, zero = 0, like(x[0], 0)
    for i in range(0, plan.size, 3):
        place, inputs, width = plan[i], plan[i + 1], plan[i + 2]
        to = at + rows * inputs
        for r in range(rows):
            take(w, place + inputs * width, width, x, to + r * width, width)
        add_lines(x, at, inputs, w, place, x, to, width, inputs, rows, width)
        if i + 3 < plan.size:
            for k in range(np.uint64(to), np.uint64(to + rows * width)):
                x[k] = zero if x[k] <= zero else x[k]
        at = to
    return at


@inner
def generate_task(chunk, chunks, w, table, plan, dilations, sizes, start_ids, start_values, ring, t0, condition, hop, choice, seed, offset,
                  logits, weights, heap, ids, values, log_probs, bad):
    """Some sequences through all samples; bad[n] is the step before which the outputs of sequence n were not finite, or -1.

    table: the place in w of the rows that become the first layer's inputs; plan: see run_head; the layers' weights begin w.
    """
    N, P, steps, frames, L, R, K, S, Q, V, D, step = sizes
    temperature, top_k = choice
    w, ring, logits = uncounted(w), uncounted(ring), uncounted(logits)
    first, stop = chunk * N // chunks, (chunk + 1) * N // chunks
    rows, real = stop - first, start_values.size > 0
    h, pairs, p = np.zeros(rows * K, w.dtype), np.zeros(rows * 2 * K, w.dtype), np.zeros(rows * 2 * K, w.dtype)
    bias, z = np.zeros(rows * L * 2 * K, w.dtype), np.zeros(rows * (L * K + 2 * S + V), w.dtype)
    frame = -1
    for i in range(P + steps - 1 if steps > 0 else P):
        now = (t0 + i) // hop - t0 // hop
        for r in range(rows):
            n = first + r
            if i < P:
                read(w, table, start_ids, start_values, n * P + i, h, r * K, K)
            else:
                read(w, table, ids, values, n * steps + i - P, h, r * K, K)
            if now != frame:
                add_frame(w, step, condition, (n * frames + now if frames > 0 else 0) * L * 2 * R, L, R, K, bias, r * L * 2 * K)
        frame = now
        run_layers(w, step, dilations, t0 + i, ring, first, rows, D, R, K, h, pairs, p, bias, z, L)
        s = i - P + 1
        if s < 0 or steps == 0:
            continue
        top = run_head(w, plan, z, rows)
        for r in range(rows):
            n = first + r
            for k in range(Q):
                logits[np.uint64(n * Q + k)] = z[np.uint64(top + r * V + k)]
            if real:
                mixture_task(n, logits, Q, temperature, seed, offset + np.uint64(s * N), weights, values, log_probs, s, steps)
                finite = values[np.uint64(n * steps + s)] >= -1
            else:
                sample_task(n, logits, Q, temperature, top_k, 1.0, seed, offset + np.uint64(s * N), weights, heap, ids, log_probs, s, steps)
                finite = ids[np.uint64(n * steps + s)] >= 0
            if not finite:
                bad[n] = s
                return


@jit
def generate_kernel(w, table, plan, dilations, sizes, start_ids, start_values, ring, t0, condition, hop, choice, seed, offset, logits,
                    weights, heap, ids, values, log_probs, bad, chunks, threads):
    """Feed the start (N, P), and then what is drawn. sizes: N, P, steps, frames, L, R, K, S, Q, V, D, step, of which K, S and V are filled
    up to whole panels, D is the sum of dilations and `step` the numbers that a layer's weights take."""
    parallel_for(generate_task, chunks, threads, (chunks, w, table, plan, dilations, sizes, start_ids, start_values, ring, t0, condition,
                                                  hop, choice, seed, offset, logits, weights, heap, ids, values, log_probs, bad))
