"""What one step does with a few units of one sequence, once the product with the recurrent weights is there, and its gradient.

Numbers are brought into slots of a small local array, SPAN vectors each, and the results taken back from it. Loops over slots have a
length that is known and no remainder, whatever the number of units: LLVM makes vector instructions of all of it.
"""

from kernels import scalar
from kernels.cpu.matmul import simd
from kernels.jit import full_width, inner, like

LSTM, GRU, TANH, RELU = range(4)
GATES = (4, 3, 1, 1)                     # products for each unit and step
KEPT = (4, 4, 0, 0)                      # numbers kept of each unit and step for the gradient: i, f, g, o, or r, z, n, p_n
PLACES = (0, 1, 3, 2)                    # their slots in `sums`: first those that get a sigmoid
ROOM = (4, 4, 1, 1)                      # slots of a sequence in `sums`
SIGMOIDS = (3, 2, 0, 0)                  # how many of them get a sigmoid
SPAN = 2 * simd.VECTORS                  # vectors of units that are treated at a time: two panels
SLOTS = 9


@inner
def load(part, slot, x, at, count):
    """Slot of part = x[at:at + count]"""
    L = simd.lanes(part)
    for v in range(SPAN):
        simd.copy_first(x, at + v * L, count - v * L, part, (slot * SPAN + v) * L)


@inner
def store(part, slot, y, at, count):
    """y[at:at + count] = slot of part"""
    L = simd.lanes(part)
    for v in range(SPAN):
        simd.copy_only(part, (slot * SPAN + v) * L, count - v * L, y, at + v * L)


@inner
def slots(part, slot, count=1):
    """The numbers of one slot or several."""
    size = SPAN * simd.lanes(part)
    return part[slot * size:][:count * size]


@inner
def sigmoids(part, slot, count):
    full_width()
    x = slots(part, slot, count)
    for k in range(x.size):
        x[k] = scalar.sigmoid(x[k])


@inner
def tanhs(part, slot):
    full_width()
    x = slots(part, slot)
    for k in range(x.size):
        x[k] = scalar.tanh(x[k])


@inner
def step(kind, sums, row, part, x, at, states, cells, before, after, gates, kept, H, count):
    """A step of `count` units: from the sums in slots row, row + 1, ... to states, cells and gates, which are written.

    For an LSTM and an RNN sums are whole, in the order of PLACES; those of a GRU are p_r, p_z, p_n, without the input's, x[at], ...
    """
    if kind == GRU:
        for gate in range(3):
            load(part, gate, x, at + gate * H, count)
        sides, inputs = slots(sums, row, 2), slots(part, 0, 2)
        for k in range(sides.size):
            sides[k] += inputs[k]
    sigmoids(sums, row, SIGMOIDS[kind])
    if kind == GRU:
        r, p, n, xn = slots(sums, row), slots(sums, row + 2), slots(sums, row + 3), slots(part, 2)
        for k in range(n.size):
            n[k] = xn[k] + r[k] * p[k]
    if kind == RELU:
        h = slots(sums, row)
        for k in range(h.size):
            h[k] = scalar.relu(h[k])
    else:
        tanhs(sums, row if kind == TANH else row + 3)
    if kind == LSTM:
        load(part, 0, cells, before, count)
        i, f, o, g = slots(sums, row), slots(sums, row + 1), slots(sums, row + 2), slots(sums, row + 3)
        c, h = slots(part, 0), slots(part, 1)
        for k in range(c.size):
            c[k] = f[k] * c[k] + i[k] * g[k]
            h[k] = c[k]
        tanhs(part, 1)
        for k in range(c.size):
            h[k] *= o[k]
        store(part, 0, cells, after, count)
        store(part, 1, states, after, count)
    elif kind == GRU:
        load(part, 0, states, before, count)
        z, n, h = slots(sums, row + 1), slots(sums, row + 3), slots(part, 0)
        for k in range(h.size):
            h[k] = n[k] + z[k] * (h[k] - n[k])
        store(part, 0, states, after, count)
    else:
        store(sums, row, states, after, count)
    for gate in range(KEPT[kind]):
        store(sums, row + PLACES[gate], gates, kept + gate * H, count)


# ---- gradients ------------------------------------------------------------------------------------------------------

@inner
def arrive(part, g, at, dh, to, count):
    """Slot 4 = g + dh: the gradient of h, from the outputs and from the step after."""
    load(part, 4, g, at, count)
    load(part, 5, dh, to, count)
    total, more = slots(part, 4), slots(part, 5)
    for k in range(total.size):
        total[k] += more[k]


@inner
def lstm_gradient(part, cells, before, after, gates, kept, dc, at, dx, to, H, count):
    """Slot 4: the gradient of h. Writes the gradients of what entered the gates, and takes dc from c to the c before."""
    for gate in range(4):
        load(part, gate, gates, kept + gate * H, count)
    load(part, 5, cells, after, count)
    load(part, 6, cells, before, count)
    load(part, 7, dc, at, count)
    tanhs(part, 5)
    i, f, g, o, dh = slots(part, 0), slots(part, 1), slots(part, 2), slots(part, 3), slots(part, 4)
    bent, old, inside, one = slots(part, 5), slots(part, 6), slots(part, 7), like(part[0], 1)
    for k in range(i.size):
        gradient = inside[k] + dh[k] * o[k] * (one - bent[k] * bent[k])
        first, forget, new, out = i[k], f[k], g[k], o[k]
        i[k] = gradient * new * first * (one - first)
        g[k] = gradient * first * (one - new * new)
        f[k] = gradient * old[k] * forget * (one - forget)
        o[k] = dh[k] * bent[k] * out * (one - out)
        inside[k] = gradient * forget
    for gate in range(4):
        store(part, gate, dx, to + gate * H, count)
    store(part, 7, dc, at, count)


@inner
def gru_gradient(part, states, before, gates, kept, dh, at, dx, dp, to, H, count):
    """Slot 4: the gradient of h. Writes those of x and of p, and leaves in dh what goes past the gates to the h before."""
    for gate in range(4):
        load(part, gate, gates, kept + gate * H, count)
    load(part, 5, states, before, count)
    r, z, n, p = slots(part, 0), slots(part, 1), slots(part, 2), slots(part, 3)
    total, old, one = slots(part, 4), slots(part, 5), like(part[0], 1)
    for k in range(r.size):
        keep, new, gradient, reset, product = z[k], n[k], total[k], r[k], p[k]
        inside = gradient * (one - keep) * (one - new * new)
        n[k] = inside
        p[k] = inside * reset
        r[k] = inside * product * reset * (one - reset)
        z[k] = gradient * (old[k] - new) * keep * (one - keep)
        total[k] = gradient * keep
    for gate in range(3):
        store(part, gate, dx, to + gate * H, count)
        store(part, gate if gate < 2 else 3, dp, to + gate * H, count)
    store(part, 4, dh, at, count)


@inner
def rnn_gradient(part, states, after, dx, to, count, kind):
    """Slot 4: the gradient of h. Writes that of x."""
    load(part, 0, states, after, count)
    h, dh, one = slots(part, 0), slots(part, 4), like(part[0], 1)
    for k in range(h.size):
        dh[k] *= one - h[k] * h[k] if kind == TANH else like(h[k], h[k] > 0)
    store(part, 4, dx, to, count)
