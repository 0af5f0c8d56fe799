"""The rungs below the fast half step, to read and to time: draws h (B, H) given states v (B, V).

p(h[n, j] = 1 | v[n]) = sigmoid(b[j] + sum over i of v[n, i] w[i, j]), u[n, j] uniform. `pytest benchmarks/test_kernels.py` times them
beside the fast one, gibbs.py: there only the sums of four rows that a table holds are added, and the draw follows in the cache.
"""

import math

from kernels.cpu.elementwise import sigmoid
from kernels.cpu.matmul import matmul
from kernels.cpu.random import bernoulli
from kernels.jit import jit


@jit
def naive(v, w, b, u, h):
    """The definition: one sum for each hidden unit, whose weights lie a row apart. 2 % of a core's FMA peak at 100 x 784 x 500."""
    for n in range(v.shape[0]):
        for j in range(w.shape[1]):
            total = b[j]
            for i in range(v.shape[1]):
                total += v[n, i] * w[i, j]
            h[n, j] = u[n, j] < 1 / (1 + math.exp(-total))
    return h


@jit
def rows_of_ones(v, w, b, u, h):
    """States are 0 or 1: add up those rows of w whose state is 1, in vector instructions, and multiply nothing.

    Half the work if half of the units are on; but every row is fetched anew for every example. As fast as a product at 32 % of the peak.
    """
    for n in range(v.shape[0]):
        total = b.copy()
        for i in range(v.shape[1]):
            if v[n, i] != 0:
                row = w[i]
                for j in range(row.size):
                    total[j] += row[j]
        for j in range(total.size):
            h[n, j] = u[n, j] < 1 / (1 + math.exp(-total[j]))
    return h


def product_and_draw(v, w, b, seed, offset):
    """One fast product for all examples, then a pass for the sigmoid and one for the draw: what libraries of tensors do. 81 % of the
    peak; from here on it is arithmetic that takes the time, and only a way with less of it can be faster."""
    return bernoulli(seed, offset, sigmoid(matmul(v, w, bias=b)))


def fused(v, w, b, seed, offset):
    """The product's epilogue makes the sigmoid while a panel is in the cache; the draw is a pass of its own. It gains nothing that could
    be seen: with tables of sums, the next rung, the whole half step takes half the time, as a product at 160 % of the peak would."""
    return bernoulli(seed, offset, matmul(v, w, bias=b, activation="sigmoid"))
