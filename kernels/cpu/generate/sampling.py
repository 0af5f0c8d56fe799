"""An id drawn from logits: temperature, the k most likely, the nucleus of mass p; all in float64.

Ids are kept in order of likelihood, the smaller of two that tie first: a heap gives them one after the other, so that nobody sorts a
vocabulary of which a dozen words are wanted. The draw goes along the kept ids in order of their numbers.
"""

import math

import numpy as np

from kernels.jit import full_width, inner, like
from kernels.scalar import HALF, exp, log, philox, uniform64


@inner
def first(a, b, logits, base):
    """Whether id a is more likely than b, or as likely and smaller."""
    x, y = logits[np.uint64(base + a)], logits[np.uint64(base + b)]
    return x > y or (x == y and a < b)


@inner
def sift(heap, logits, base, place, size):
    """Let the id at a place of the heap sink below those that come before it."""
    item = heap[np.uint64(base + place)]
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and first(heap[np.uint64(base + child + 1)], heap[np.uint64(base + child)], logits, base):
            child += 1
        below = heap[np.uint64(base + child)]
        if first(item, below, logits, base):
            break
        heap[np.uint64(base + place)] = below
        place = child
    heap[np.uint64(base + place)] = item


@inner
def keep_likely(weights, logits, heap, base, V, top_k, top_p, total):
    """Set the weights of all ids but the likely ones to 0: of the top_k first, those up to where their share reaches top_p.

    `heap` is room for V ids. Those that were taken from it stand behind it, the first one last.
    """
    for i in range(V):
        heap[np.uint64(base + i)] = i
    for i in range(V // 2):
        sift(heap, logits, base, V // 2 - 1 - i, V)
    mass, size, largest = 0.0, V, V - top_k
    while size > largest and (top_k < V or mass < top_p * total):
        size -= 1
        likely, last = heap[np.uint64(base)], heap[np.uint64(base + size)]
        heap[np.uint64(base)], heap[np.uint64(base + size)] = last, likely
        sift(heap, logits, base, 0, size)
        mass += weights[np.uint64(base + likely)]
    if top_k < V and top_p < 1:
        largest, share = size, 0.0
        size = V
        while size > largest and share < top_p * mass:
            size -= 1
            share += weights[np.uint64(base + heap[np.uint64(base + size)])]
    for i in range(size):
        weights[np.uint64(base + heap[np.uint64(base + i)])] = 0.0


@inner
def draw(weights, base, V, u):
    """The first id whose cumulated weight is above u times the sum of all; the last one that has a weight, if none is."""
    total = 0.0
    for i in range(V):
        total += weights[np.uint64(base + i)]
    reached, limit, chosen = 0.0, u * total, 0
    for i in range(V):
        weight = weights[np.uint64(base + i)]
        if weight > 0:
            chosen = i
            reached += weight
            if reached > limit:
                break
    return chosen


@inner
def weigh(weights, logits, base, V, highest, temperature):
    """weights = exp((logits - highest) / temperature); their sum."""
    full_width()
    for i in range(V):
        weights[np.uint64(base + i)] = (np.float64(logits[np.uint64(base + i)]) - highest) / temperature
    for i in range(V):
        weights[np.uint64(base + i)] = exp(weights[np.uint64(base + i)])
    total = 0.0
    for i in range(V):
        total += weights[np.uint64(base + i)]
    return total


@inner
def sample_task(n, logits, V, temperature, top_k, top_p, seed, block, weights, heap, drawn, log_probs, at, line):
    """Draw an id for sequence n: drawn[n * line + at], -1 if its logits are not finite; and its log-probability."""
    base, best, highest = n * V, 0, -math.inf
    for i in range(V):
        value = np.float64(logits[np.uint64(base + i)])
        if value > highest:
            best, highest = i, value
    place, total = np.uint64(n * line + at), weigh(weights, logits, base, V, highest, 1.0)
    if not 0 < total < math.inf:                              # NaN, too
        drawn[place] = -1
        return
    log_total, chosen = log(total), best
    if temperature > 0:
        if temperature != 1:
            total = weigh(weights, logits, base, V, highest, temperature)
        if top_k < V or top_p < 1:
            keep_likely(weights, logits, heap, base, V, top_k, top_p, total)
        at_block = block + np.uint64(n)
        w0, w1, _, _ = philox(np.uint32(at_block), np.uint32(at_block >> HALF), np.uint32(seed), np.uint32(seed >> HALF))
        chosen = draw(weights, base, V, uniform64(w0, w1))
    drawn[place] = chosen
    log_probs[place] = like(log_probs[0], np.float64(logits[np.uint64(base + chosen)]) - highest - log_total)
