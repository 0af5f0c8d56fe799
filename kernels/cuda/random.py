"""Random numbers from Philox 4x32-10 (kernels/scalar/philox.py): a number is a function of (seed, offset, its place in the array).

A thread works out one block of four words, and what is made of it: two or four numbers. The words and uniforms are those of the other
wings, bit for bit; normals may differ in the last place. Bytes: the output written once.
"""

import math

import numpy as np

from kernels.cuda.array import as_device, contiguous, empty
from kernels.cuda.array import blocks as grid_blocks
from kernels.cuda.checks import require_inside
from kernels.cuda.compiler import cuda, device, kernel, like, scalar, typed
from kernels.cuda.graph import shift
from kernels.cuda.rows import floating

MASK = 0xFFFFFFFFFFFFFFFF
THREADS = 256
HALF = np.uint64(32)


def blocks(n, words_each=1):
    """Philox blocks that n numbers of so many words each use up: ceil(n * words_each / 4)."""
    return (n * words_each + 3) // 4


@device
def block_words(seed, block):
    """The four words of a block."""
    return scalar.philox(np.uint32(block & np.uint64(MASK >> 32)), np.uint32(block >> HALF), np.uint32(seed & np.uint64(MASK >> 32)),
                         np.uint32(seed >> HALF))


def stream(seed, offset):
    """(seed, offset, how many blocks further on that is: an array of one number, graph.py) as kernels take them."""
    return np.uint64(int(seed) & MASK), np.uint64(int(offset) & MASK), shift(seed, offset)


def _run(kernel, n, words_each, *args):
    """Launch a kernel with one thread for each block of the n numbers."""
    count = blocks(n, words_each)
    kernel[grid_blocks(count, THREADS), THREADS](*args, n, count)


@kernel
def words_kernel(out, seed, offset, shift, n, count):
    for b in range(cuda.grid(1), count, cuda.gridsize(1)):
        w = block_words(seed, offset + shift[0] + np.uint64(b))
        for k in range(4):
            if 4 * b + k < n:
                out[4 * b + k] = w[k]


def words(seed, offset, n):
    """The first n uint32 words from block `offset` on. Uses blocks(n)."""
    out = empty(n, np.uint32)
    _run(words_kernel, n, 1, out, *stream(seed, offset))
    return out


# ---- uniform and normal ----------------------------------------------------------------------------------------------

@kernel
def uniform32_kernel(out, seed, offset, shift, n, count):
    for b in range(cuda.grid(1), count, cuda.gridsize(1)):
        w = block_words(seed, offset + shift[0] + np.uint64(b))
        for k in range(4):
            if 4 * b + k < n:
                out[4 * b + k] = scalar.uniform32(w[k])


@kernel
def uniform64_kernel(out, seed, offset, shift, n, count):
    for b in range(cuda.grid(1), count, cuda.gridsize(1)):
        w0, w1, w2, w3 = block_words(seed, offset + shift[0] + np.uint64(b))
        out[2 * b] = scalar.uniform64(w0, w1)
        if 2 * b + 1 < n:
            out[2 * b + 1] = scalar.uniform64(w2, w3)


def uniform(seed, offset, shape, dtype):
    """Uniform in [0, 1). float32: the upper 24 bits of a word; float64: 53 bits of two words.

    Uses blocks(n) for n float32 and blocks(n, 2) for n float64 numbers.
    """
    return _by_width("uniform", uniform32_kernel, uniform64_kernel, seed, offset, shape, dtype)


@kernel(doubles=True)
def normal32_kernel(out, seed, offset, shift, n, count):
    for b in range(cuda.grid(1), count, cuda.gridsize(1)):
        w = block_words(seed, offset + shift[0] + np.uint64(b))
        z0, z1 = scalar.normal32(w[0], w[1])
        z2, z3 = scalar.normal32(w[2], w[3])
        z = z0, z1, z2, z3
        for k in range(4):
            if 4 * b + k < n:
                out[4 * b + k] = z[k]


@kernel
def normal64_kernel(out, seed, offset, shift, n, count):
    for b in range(cuda.grid(1), count, cuda.gridsize(1)):
        w0, w1, w2, w3 = block_words(seed, offset + shift[0] + np.uint64(b))
        z0, z1 = scalar.normal64(w0, w1, w2, w3)
        out[2 * b] = z0
        if 2 * b + 1 < n:
            out[2 * b + 1] = z1


def normal(seed, offset, shape, dtype):
    """Standard normal, by pairs: sqrt(-2 log u) times cos and sin of a random angle (Box & Muller 1958).

    Numbers 2k and 2k + 1 come from words 2k and 2k + 1 (float32) or from block k (float64).
    Uses blocks(n) for n float32 and blocks(n, 2) for n float64 numbers.
    """
    return _by_width("normal", normal32_kernel, normal64_kernel, seed, offset, shape, dtype)


def _by_width(name, kernel32, kernel64, seed, offset, shape, dtype):
    """Fill a new array with one word a number (float32) or two (float64)."""
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: dtype must be float32 or float64, got {dtype}")
    out = empty(shape, dtype)
    kernel, words_each = (kernel32, 1) if out.itemsize == 4 else (kernel64, 2)
    _run(kernel, out.size, words_each, out, *stream(seed, offset))
    return out


# ---- whole numbers --------------------------------------------------------------------------------------------------

@kernel
def randint_kernel(out, low, span, seed, offset, shift, n, count):
    for b in range(cuda.grid(1), count, cuda.gridsize(1)):
        w0, w1, w2, w3 = block_words(seed, offset + shift[0] + np.uint64(b))
        out[2 * b] = np.int64(low + scalar.multiply_high(scalar.join_words(w0, w1), span))
        if 2 * b + 1 < n:
            out[2 * b + 1] = np.int64(low + scalar.multiply_high(scalar.join_words(w2, w3), span))


def randint(seed, offset, low, high, shape):
    """int64 uniform in low..high-1: the upper half of the product of a 64-bit random number and (high - low) (Lemire 2019).

    ValueError if high <= low. Uses blocks(n, 2).
    """
    if high <= low:
        raise ValueError(f"randint: high must be above low, got low={low}, high={high}")
    out = empty(shape, np.int64)
    start, width = np.uint64(int(low) & MASK), np.uint64(int(high) - int(low))
    _run(randint_kernel, out.size, 2, out, start, width, *stream(seed, offset))
    return out


@kernel
def permutation_kernel(order, w, n):
    """One thread: each exchange depends on those before it."""
    for i in range(n):
        order[i] = i
    for k in range(n - 1):
        last = n - 1 - k
        at = np.int64(scalar.multiply_high(scalar.join_words(w[2 * k], w[2 * k + 1]), np.uint64(last + 1)))
        here, there = order[last], order[at]
        order[last], order[at] = there, here


def permutation(seed, offset, n):
    """0..n-1 in random order, int64: Fisher & Yates' shuffle from the end (Knuth, TAOCP 2, algorithm P), by a single thread: for
    large n the host is faster. Uses blocks(n, 2)."""
    order = empty(n, np.int64)
    if n:
        permutation_kernel[1, 1](order, words(seed, offset, 2 * n), n)
    return order


# ---- choices --------------------------------------------------------------------------------------------------------

@kernel
def bernoulli_kernel(p, out, seed, offset, shift, n, count):
    for b in range(cuda.grid(1), count, cuda.gridsize(1)):
        w = block_words(seed, offset + shift[0] + np.uint64(b))
        for k in range(4):
            i = 4 * b + k
            if i < n:
                out[i] = typed(p, 1) if like(p[i], scalar.uniform32(w[k])) < p[i] else typed(p, 0)


def bernoulli(seed, offset, p):
    """1 with probability p, else 0, in p's shape and dtype; number i is 1 where uniform i < p. Uses blocks(n)."""
    as_device("bernoulli", p)
    out = empty(p.shape, floating("bernoulli", p))
    _run(bernoulli_kernel, out.size, 1, contiguous(p), out, *stream(seed, offset))
    return out


@kernel
def dropout_kernel(x, out, p, scale, seed, offset, shift, n, count):
    for b in range(cuda.grid(1), count, cuda.gridsize(1)):
        w = block_words(seed, offset + shift[0] + np.uint64(b))
        for k in range(4):
            i = 4 * b + k
            if i < n:
                out[i] = x[i] * (scale if like(p, scalar.uniform32(w[k])) >= p else like(p, 0))


def dropout(x, p, seed, offset):
    """Each number set to 0 with probability p, the others divided by 1 - p (Srivastava et al. 2014, section 10, "inverted").

    The mask is a function of (seed, offset), so the gradient is dropout(g, p, seed, offset) and nothing is stored.
    ValueError if p is outside [0, 1]. Uses blocks(n).
    """
    as_device("dropout", x)
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: the probability p must be in [0, 1], got {p}")
    dtype = floating("dropout", x)
    out, scale = empty(x.shape, dtype), 1 / (1 - p) if p < 1 else 0
    _run(dropout_kernel, out.size, 1, contiguous(x), out, dtype.type(p), dtype.type(scale), *stream(seed, offset))
    return out


@kernel(doubles=True)
def categorical_kernel(probabilities, out, seed, offset, shift, columns, samples, n):
    """A thread for each sample goes through its row twice: for the sum, and until the running sum passes its random part of it."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        start, total, valid = i // samples * columns, 0.0, True
        for k in range(columns):
            p = np.float64(probabilities[start + k])
            valid = valid and p >= 0
            total += p
        w0, w1, w2, w3 = block_words(seed, offset + shift[0] + np.uint64(i // 2))
        wanted = total * (scalar.uniform64(w2, w3) if i % 2 else scalar.uniform64(w0, w1))
        pick, running = 0, np.float64(probabilities[start])
        while running <= wanted and pick < columns - 1:
            pick += 1
            running += np.float64(probabilities[start + pick])
        out[i] = pick if valid and total > 0 and total < math.inf else -1


def categorical(seed, offset, probabilities, samples):
    """Indices drawn with replacement: (N, K) non-negative numbers, a row's probabilities times any factor -> (N, samples) int64.

    Sample s of row n compares uniform number n * samples + s (53 bits) with the row's cumulative sum, kept in float64.
    ValueError if a row holds a negative or non-finite number or sums to 0. Uses blocks(N * samples, 2).
    """
    as_device("categorical", probabilities)
    if probabilities.ndim != 2:
        raise ValueError(f"categorical: probabilities must have shape (N, K), got {probabilities.shape}")
    out = empty((len(probabilities), samples), np.int64)
    categorical_kernel[grid_blocks(out.size, THREADS), THREADS](contiguous(probabilities), out, *stream(seed, offset),
                                                                probabilities.shape[1], samples, out.size)
    if out.size:
        require_inside(out, probabilities.shape[1], lambda place, value: ValueError(
            f"categorical: row {place // samples} of the probabilities holds a negative or non-finite number or sums to 0"))
    return out
