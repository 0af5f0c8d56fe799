"""What one step does with a few units of one sequence, once the product with the recurrent weights is there, and its gradient.

Numbers are brought into `part`, a small local array of slots for SPAN vectors each, and the results taken back from it: loops over slots
have a constant length and never overlap, so LLVM makes vector instructions of them without any test or remainder.
"""

from kernels import scalar
from kernels.cpu.matmul import simd
from kernels.jit import full_width, inner, like

LSTM, GRU, TANH, RELU = range(4)
GATES = (4, 3, 1, 1)                     # products for each unit and step
KEPT = (4, 4, 0, 0)                      # numbers kept of each unit and step for the gradient
SPAN = 2 * simd.VECTORS               # vectors of units that are treated at a time: two panels
SLOTS = 9


@inner
def load(part, slot, x, at, count):
    """part[slot] = x[at:at + count]"""
    size = SPAN * simd.lanes(part)
    to, row = part[slot * size:][:count], x[at:][:count]
    for i in range(to.size):
        to[i] = row[i]


@inner
def add(part, slot, x, at, count):
    """part[slot] += x[at:at + count]"""
    size = SPAN * simd.lanes(part)
    to, row = part[slot * size:][:count], x[at:][:count]
    for i in range(to.size):
        to[i] += row[i]


@inner
def store(part, slot, y, at, count):
    """y[at:at + count] = part[slot]"""
    size = SPAN * simd.lanes(part)
    row, to = part[slot * size:][:count], y[at:][:count]
    for i in range(to.size):
        to[i] = row[i]


@inner
def slots(part, slot):
    """The numbers of one slot."""
    size = SPAN * simd.lanes(part)
    return part[slot * size:(slot + 1) * size]


@inner
def lstm_step(part, cells, before, after, states, to, gates, kept, H, count):
    """Slots 0..3: the sums that enter i, f, g, o. Writes gates, cells and states."""
    full_width()
    load(part, 4, cells, before, count)
    i, f, g, o, c, h = slots(part, 0), slots(part, 1), slots(part, 2), slots(part, 3), slots(part, 4), slots(part, 5)
    for k in range(i.size):
        i[k] = scalar.sigmoid(i[k])
    for k in range(i.size):
        f[k] = scalar.sigmoid(f[k])
    for k in range(i.size):
        g[k] = scalar.tanh(g[k])
    for k in range(i.size):
        o[k] = scalar.sigmoid(o[k])
    for k in range(i.size):
        c[k] = f[k] * c[k] + i[k] * g[k]
    for k in range(i.size):
        h[k] = o[k] * scalar.tanh(c[k])
    for gate in range(4):
        store(part, gate, gates, kept + gate * H, count)
    store(part, 4, cells, after, count)
    store(part, 5, states, to, count)


@inner
def gru_step(part, states, before, after, gates, kept, H, count):
    """Slots 0..2: p_r, p_z, p_n; slots 3..5: the input's sums x_r, x_z, x_n. Writes r, z, n and p_n, and states."""
    full_width()
    load(part, 6, states, before, count)
    r, z, p, n, h = slots(part, 0), slots(part, 1), slots(part, 2), slots(part, 5), slots(part, 6)
    xr, xz = slots(part, 3), slots(part, 4)
    for k in range(r.size):
        r[k] = scalar.sigmoid(xr[k] + r[k])
    for k in range(r.size):
        z[k] = scalar.sigmoid(xz[k] + z[k])
    for k in range(r.size):
        n[k] = scalar.tanh(n[k] + r[k] * p[k])
    for k in range(r.size):
        h[k] = n[k] + z[k] * (h[k] - n[k])
    store(part, 0, gates, kept, count)
    store(part, 1, gates, kept + H, count)
    store(part, 5, gates, kept + 2 * H, count)
    store(part, 2, gates, kept + 3 * H, count)
    store(part, 6, states, after, count)


@inner
def rnn_step(part, states, after, count, kind):
    """Slot 0: the sum that enters h. Writes states."""
    full_width()
    h = slots(part, 0)
    if kind == TANH:
        for k in range(h.size):
            h[k] = scalar.tanh(h[k])
    else:
        for k in range(h.size):
            h[k] = scalar.relu(h[k])
    store(part, 0, states, after, count)


# ---- gradients ------------------------------------------------------------------------------------------------------

@inner
def lstm_gradient(part, cells, before, after, gates, kept, dc, at, dx, to, H, count):
    """Slot 4: the gradient of h. Writes the gradients of what entered the gates, and takes dc from c to the c before."""
    full_width()
    for gate in range(4):
        load(part, gate, gates, kept + gate * H, count)
    load(part, 5, cells, after, count)
    load(part, 6, cells, before, count)
    load(part, 7, dc, at, count)
    i, f, g, o, dh = slots(part, 0), slots(part, 1), slots(part, 2), slots(part, 3), slots(part, 4)
    bent, old, inside, one = slots(part, 5), slots(part, 6), slots(part, 7), like(part[0], 1)
    for k in range(i.size):
        bent[k] = scalar.tanh(bent[k])
    for k in range(i.size):
        inside[k] += dh[k] * o[k] * (one - bent[k] * bent[k])
    for k in range(i.size):
        o[k] = dh[k] * bent[k] * o[k] * (one - o[k])
    for k in range(i.size):
        first, forget, new, gradient = i[k], f[k], g[k], inside[k]
        i[k] = gradient * new * first * (one - first)
        g[k] = gradient * first * (one - new * new)
        f[k] = gradient * old[k] * forget * (one - forget)
        inside[k] = gradient * forget
    for gate in range(4):
        store(part, gate, dx, to + gate * H, count)
    store(part, 7, dc, at, count)


@inner
def gru_gradient(part, states, before, gates, kept, dh, at, dx, dp, to, H, count):
    """Slot 4: the gradient of h. Writes those of x and of p, and leaves in dh what goes past the gates to the h before."""
    full_width()
    for gate in range(4):
        load(part, gate, gates, kept + gate * H, count)
    load(part, 5, states, before, count)
    r, z, n, p = slots(part, 0), slots(part, 1), slots(part, 2), slots(part, 3)
    total, old, one = slots(part, 4), slots(part, 5), like(part[0], 1)
    for k in range(r.size):
        keep, new, gradient = z[k], n[k], total[k]
        n[k] = gradient * (one - keep) * (one - new * new)
        z[k] = gradient * (old[k] - new) * keep * (one - keep)
        total[k] = gradient * keep
    for k in range(r.size):
        reset, product = r[k], p[k]
        p[k] = n[k] * reset
        r[k] = n[k] * product * reset * (one - reset)
    for gate in range(3):
        store(part, gate, dx, to + gate * H, count)
    store(part, 0, dp, to, count)
    store(part, 1, dp, to + H, count)
    store(part, 3, dp, to + 2 * H, count)
    store(part, 4, dh, at, count)


@inner
def rnn_gradient(part, states, after, dx, to, count, kind):
    """Slot 4: the gradient of h. Writes that of x."""
    full_width()
    load(part, 0, states, after, count)
    h, dh, one = slots(part, 0), slots(part, 4), like(part[0], 1)
    if kind == TANH:
        for k in range(h.size):
            dh[k] *= one - h[k] * h[k]
    else:
        for k in range(h.size):
            dh[k] = scalar.relu_backward(dh[k], h[k])
    store(part, 4, dx, to, count)
