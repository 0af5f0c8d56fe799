"""What one step does with a few units of some sequences, once the products with the recurrent weights are there, and its gradient.

A slot is a part of a small local array, `size` = rows * span numbers: `span` units of each sequence, one sequence after another. Numbers
are brought into slots, and the results taken back from them, so that the loops between are long, overlap nothing and have no remainder,
whatever the number of units. Places are unsigned, and slots never become slices: those would count references to the array.
"""

import numpy as np

from kernels import scalar
from kernels.cpu.matmul import simd
from kernels.jit import full_width, inner, like

LSTM, GRU, TANH, RELU = range(4)
GATES = (4, 3, 1, 1)                     # products for each unit and step
KEPT = (4, 4, 0, 0)                      # numbers kept of each unit and step for the gradient: i, f, g, o, or r, z, n, p_n
PLACES = (0, 1, 3, 2)                    # their slots in `sums`: first those that get a sigmoid
ROOM = (4, 4, 1, 1)                      # slots in `sums`
SIGMOIDS = (3, 2, 0, 0)                  # how many of them get a sigmoid
SPAN = 2 * simd.VECTORS                  # vectors of units that are treated at a time: two panels
SLOTS = 8                                # slots that a gradient takes


@inner
def load(part, to, x, at, count):
    """part[to:to + count] = x[at:at + count], and zeros behind it up to SPAN vectors."""
    L = simd.lanes(part)
    for v in range(SPAN):
        simd.copy_first(x, at + v * L, count - v * L, part, to + v * L)


@inner
def store(part, at, y, to, count):
    """y[to:to + count] = part[at:at + count], for count up to SPAN vectors."""
    L = simd.lanes(part)
    for v in range(SPAN):
        simd.copy_only(part, at + v * L, count - v * L, y, to + v * L)


@inner
def load_slot(part, slot, rows, span, x, at, step, count):
    """`count` numbers for each sequence, which in x are `step` apart."""
    for r in range(rows):
        load(part, (slot * rows + r) * span, x, at + r * step, count)


@inner
def store_slot(part, slot, rows, span, y, to, step, count, t, lengths, first):
    """Those of the sequences first, first + 1, ... that go on at step t."""
    for r in range(rows):
        if t < lengths[first + r]:
            store(part, (slot * rows + r) * span, y, to + r * step, count)


@inner
def sigmoids(part, first, stop):
    full_width()
    for k in range(np.uint64(first), np.uint64(stop)):
        part[k] = scalar.sigmoid(part[k])


@inner
def tanhs(part, first, stop):
    full_width()
    for k in range(np.uint64(first), np.uint64(stop)):
        part[k] = scalar.tanh(part[k])


@inner
def step(kind, sums, part, rows, span, x, row, states, cells, before, after, gates, H, u, t, lengths, first):
    """Units u .. u + span - 1 of a step: from the sums to states, cells and gates, which are written.

    row      number of the sequence `first` at this step t in (T, B); before, after: likewise, in (T + 1, B), of the states
    For an LSTM and an RNN sums are whole, in the order of PLACES; those of a GRU are p_r, p_z, p_n, without the input's.
    """
    size, one = rows * span, np.uint64(rows * span)
    two, three, count = one + one, one + one + one, min(span, H - u)
    if kind == GRU:
        for gate in range(3):
            load_slot(part, gate, rows, span, x, (row * 3 + gate) * H + u, 3 * H, count)
        for k in range(two):
            sums[k] += part[k]
    sigmoids(sums, 0, SIGMOIDS[kind] * size)
    if kind == GRU:
        for k in range(one):
            sums[three + k] = part[two + k] + sums[k] * sums[two + k]
    if kind == RELU:
        for k in range(one):
            sums[k] = scalar.relu(sums[k])
    else:
        place = 0 if kind == TANH else 3 * size
        tanhs(sums, place, place + size)
    if kind == LSTM:
        load_slot(part, 0, rows, span, cells, before * H + u, H, count)
        for k in range(one):
            part[k] = sums[one + k] * part[k] + sums[k] * sums[three + k]
        store_slot(part, 0, rows, span, cells, after * H + u, H, count, t, lengths, first)
        tanhs(part, 0, size)
        for k in range(one):
            part[k] *= sums[two + k]
        store_slot(part, 0, rows, span, states, after * H + u, H, count, t, lengths, first)
    elif kind == GRU:
        load_slot(part, 0, rows, span, states, before * H + u, H, count)
        for k in range(one):
            n = sums[three + k]
            part[k] = n + sums[one + k] * (part[k] - n)
        store_slot(part, 0, rows, span, states, after * H + u, H, count, t, lengths, first)
    else:
        store_slot(sums, 0, rows, span, states, after * H + u, H, count, t, lengths, first)
    for gate in range(KEPT[kind]):
        store_slot(sums, PLACES[gate], rows, span, gates, (row * KEPT[kind] + gate) * H + u, KEPT[kind] * H, count, t, lengths, first)


# ---- gradients ------------------------------------------------------------------------------------------------------

@inner
def gradient(kind, part, rows, span, g, row, states, cells, before, after, gates, dx, dp, dh, dc, H, u, t, lengths, first):
    """Units u .. u + span - 1 of a step's gradient: from that of h, which is g + dh, to those of what entered the gates.

    dh and dc become the parts of the gradients of the state before that do not go through
    the recurrent weights.
    """
    count, one = min(span, H - u), np.uint64(rows * span)
    load_slot(part, 4, rows, span, g, row * H + u, H, count)
    load_slot(part, 5, rows, span, dh, first * H + u, H, count)
    four = one + one + one + one
    five = four + one
    for k in range(one):
        part[four + k] += part[five + k]
    for gate in range(KEPT[kind]):
        load_slot(part, gate, rows, span, gates, (row * KEPT[kind] + gate) * H + u, KEPT[kind] * H, count)
    if kind == LSTM:
        load_slot(part, 5, rows, span, cells, after * H + u, H, count)
        load_slot(part, 6, rows, span, cells, before * H + u, H, count)
        load_slot(part, 7, rows, span, dc, first * H + u, H, count)
        tanhs(part, 5 * rows * span, 6 * rows * span)
        lstm_gradient(part, one)
        store_slot(part, 7, rows, span, dc, first * H + u, H, count, t, lengths, first)
    elif kind == GRU:
        load_slot(part, 5, rows, span, states, before * H + u, H, count)
        gru_gradient(part, one)
    else:
        load_slot(part, 5, rows, span, states, after * H + u, H, count)
        rnn_gradient(part, one, kind)
    for gate in range(GATES[kind]):
        to = (row * GATES[kind] + gate) * H + u
        store_slot(part, gate, rows, span, dx, to, GATES[kind] * H, count, t, lengths, first)
        if kind == GRU:
            store_slot(part, gate if gate < 2 else 3, rows, span, dp, to, GATES[kind] * H, count, t, lengths, first)
    store_slot(part, 4, rows, span, dh, first * H + u, H, count, t, lengths, first)


@inner
def lstm_gradient(part, size):
    """Slots i, f, g, o, gradient of h, tanh(c), c before, gradient of c -> gradients of what entered i, f, g, o, 0, -, -, of c before."""
    one, p2, p3, p4 = like(part[0], 1), size + size, size + size + size, size + size + size + size
    p5, p6, p7 = p4 + size, p4 + p2, p4 + p3
    for k in range(size):
        i, f, g, o, dh, bent = part[k], part[size + k], part[p2 + k], part[p3 + k], part[p4 + k], part[p5 + k]
        inside = part[p7 + k] + dh * o * (one - bent * bent)
        part[k] = inside * g * i * (one - i)
        part[size + k] = inside * part[p6 + k] * f * (one - f)
        part[p2 + k] = inside * i * (one - g * g)
        part[p3 + k] = dh * bent * o * (one - o)
        part[p4 + k] = one - one
        part[p7 + k] = inside * f


@inner
def gru_gradient(part, size):
    """Slots r, z, n, p_n, gradient of h, h before -> gradients of what entered r, z, n, of p_n, of h before."""
    one, p2, p3, p4 = like(part[0], 1), size + size, size + size + size, size + size + size + size
    p5 = p4 + size
    for k in range(size):
        r, z, n, p, dh = part[k], part[size + k], part[p2 + k], part[p3 + k], part[p4 + k]
        inside = dh * (one - z) * (one - n * n)
        part[k] = inside * p * r * (one - r)
        part[size + k] = dh * (part[p5 + k] - n) * z * (one - z)
        part[p2 + k] = inside
        part[p3 + k] = inside * r
        part[p4 + k] = dh * z


@inner
def rnn_gradient(part, size, kind):
    """Slots 4, gradient of h, and 5, h -> gradient of what entered h in slot 0, and 0 in slot 4."""
    one, p4 = like(part[0], 1), size + size + size + size
    p5 = p4 + size
    for k in range(size):
        h = part[p5 + k]
        part[k] = part[p4 + k] * (one - h * h if kind == TANH else like(h, h > 0))
        part[p4 + k] = one - one
