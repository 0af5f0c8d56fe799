"""Random numbers from Philox 4x32-10 (kernels/scalar/philox.py): a number is a function of (seed, offset, its place in the array).

A seed names a stream of 2^64 blocks of four 32-bit words. Every kernel here starts at block `offset` and says how many blocks it
uses, so that its caller moves on by that; the same words come out on any number of threads. Bytes: the output written once.
"""

import math

import numpy as np

from kernels import jit
from kernels.jit import inner, like, parallel_for
from kernels.scalar import HALF, join_words, multiply_high, normal32, normal64, philox, uniform32, uniform64

WORDS = 4096                     # words in a chunk: 16 KiB stay in the first-level cache
MASK = 0xFFFFFFFFFFFFFFFF


def blocks(n, words_each=1):
    """Philox blocks that n numbers of so many words each use up: ceil(n * words_each / 4)."""
    return (n * words_each + 3) // 4


@inner
def fill(words, seed, block):
    """The words of the blocks from `block` on; words.size is a multiple of 4."""
    key0, key1 = np.uint32(seed), np.uint32(seed >> HALF)
    for i in range(words.size // 4):
        at = block + np.uint64(i)
        w0, w1, w2, w3 = philox(np.uint32(at), np.uint32(at >> HALF), key0, key1)
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = w0, w1, w2, w3


@inner
def chunk_words(chunk, count, seed, offset):
    """`count` words, rounded up to whole blocks, of a chunk of WORDS."""
    words = np.empty((count + 3) // 4 * 4, np.uint32)
    fill(words, seed, offset + np.uint64(chunk * (WORDS // 4)))
    return words


def _chunks(n, words_each=1):
    """Chunks that hold n numbers, and threads for them."""
    return (n * words_each + WORDS - 1) // WORDS, jit.threads(n)


def _stream(seed, offset):
    return np.uint64(int(seed) & MASK), np.uint64(int(offset) & MASK)


# ---- words ----------------------------------------------------------------------------------------------------------

@inner
def words_task(chunk, out, seed, offset):
    part = out[chunk * WORDS:(chunk + 1) * WORDS]
    w = chunk_words(chunk, part.size, seed, offset)
    for i in range(part.size):
        part[i] = w[i]


@jit.jit
def words_kernel(out, seed, offset, chunks, threads):
    parallel_for(words_task, chunks, threads, (out, seed, offset))


def words(seed, offset, n):
    """The first n uint32 words from block `offset` on. Uses blocks(n)."""
    out = np.empty(n, np.uint32)
    words_kernel(out, *_stream(seed, offset), *_chunks(n))
    return out


# ---- uniform --------------------------------------------------------------------------------------------------------

@inner
def uniform32_task(chunk, out, seed, offset):
    part = out[chunk * WORDS:(chunk + 1) * WORDS]
    w = chunk_words(chunk, part.size, seed, offset)
    for i in range(part.size):
        part[i] = uniform32(w[i])


@inner
def uniform64_task(chunk, out, seed, offset):
    part = out[chunk * (WORDS // 2):(chunk + 1) * (WORDS // 2)]
    w = chunk_words(chunk, 2 * part.size, seed, offset)
    for i in range(part.size):
        part[i] = uniform64(w[2 * i], w[2 * i + 1])


@jit.jit
def uniform32_kernel(out, seed, offset, chunks, threads):
    parallel_for(uniform32_task, chunks, threads, (out, seed, offset))


@jit.jit
def uniform64_kernel(out, seed, offset, chunks, threads):
    parallel_for(uniform64_task, chunks, threads, (out, seed, offset))


def uniform(seed, offset, shape, dtype):
    """Uniform in [0, 1). float32: the upper 24 bits of a word; float64: 53 bits of two words.

    Uses blocks(n) for n float32 and blocks(n, 2) for n float64 numbers.
    """
    return _by_width("uniform", uniform32_kernel, uniform64_kernel, seed, offset, shape, dtype)


def _by_width(name, kernel32, kernel64, seed, offset, shape, dtype):
    """Fill a new array with one word a number (float32) or two (float64)."""
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: dtype must be float32 or float64, got {dtype}")
    out = np.empty(shape, dtype)
    kernel, words_each = (kernel32, 1) if out.itemsize == 4 else (kernel64, 2)
    kernel(out.reshape(-1), *_stream(seed, offset), *_chunks(out.size, words_each))
    return out


# ---- normal ---------------------------------------------------------------------------------------------------------

@inner
def normal32_task(chunk, out, seed, offset):
    part = out[chunk * WORDS:(chunk + 1) * WORDS]
    w = chunk_words(chunk, part.size, seed, offset)
    for i in range(part.size // 2):
        part[2 * i], part[2 * i + 1] = normal32(w[2 * i], w[2 * i + 1])
    last = part.size - 1
    if last % 2 == 0:
        part[last], _ = normal32(w[last], w[last + 1])


@inner
def normal64_task(chunk, out, seed, offset):
    part = out[chunk * (WORDS // 2):(chunk + 1) * (WORDS // 2)]
    w = chunk_words(chunk, 2 * part.size, seed, offset)
    for i in range(part.size // 2):
        part[2 * i], part[2 * i + 1] = normal64(w[4 * i], w[4 * i + 1], w[4 * i + 2], w[4 * i + 3])
    last = part.size - 1
    if last % 2 == 0:
        part[last], _ = normal64(w[2 * last], w[2 * last + 1], w[2 * last + 2], w[2 * last + 3])


@jit.jit
def normal32_kernel(out, seed, offset, chunks, threads):
    parallel_for(normal32_task, chunks, threads, (out, seed, offset))


@jit.jit
def normal64_kernel(out, seed, offset, chunks, threads):
    parallel_for(normal64_task, chunks, threads, (out, seed, offset))


def normal(seed, offset, shape, dtype):
    """Standard normal, by pairs: sqrt(-2 log u) times cos and sin of a random angle (Box & Muller 1958).

    Numbers 2k and 2k + 1 come from words 2k and 2k + 1 (float32) or from block k (float64).
    Uses blocks(n) for n float32 and blocks(n, 2) for n float64 numbers.
    """
    return _by_width("normal", normal32_kernel, normal64_kernel, seed, offset, shape, dtype)


# ---- whole numbers --------------------------------------------------------------------------------------------------

@inner
def randint_task(chunk, out, seed, offset, low, span):
    part = out[chunk * (WORDS // 2):(chunk + 1) * (WORDS // 2)]
    w = chunk_words(chunk, 2 * part.size, seed, offset)
    for i in range(part.size):
        part[i] = np.int64(low + multiply_high(join_words(w[2 * i], w[2 * i + 1]), span))


@jit.jit
def randint_kernel(out, seed, offset, low, span, chunks, threads):
    parallel_for(randint_task, chunks, threads, (out, seed, offset, low, span))


def randint(seed, offset, low, high, shape):
    """int64 uniform in low..high-1: the upper half of the product of a 64-bit random number and (high - low) (Lemire 2019).

    ValueError if high <= low. Uses blocks(n, 2).
    """
    if high <= low:
        raise ValueError(f"randint: high must be above low, got low={low}, high={high}")
    out = np.empty(shape, np.int64)
    start, width = np.uint64(int(low) & MASK), np.uint64(int(high) - int(low))
    randint_kernel(out.reshape(-1), *_stream(seed, offset), start, width, *_chunks(out.size, 2))
    return out


@jit.jit
def permutation_kernel(order, w):
    for k in range(order.size - 1):
        last = order.size - 1 - k
        at = np.int64(multiply_high(join_words(w[2 * k], w[2 * k + 1]), np.uint64(last + 1)))
        order[last], order[at] = order[at], order[last]


def permutation(seed, offset, n):
    """0..n-1 in random order, int64: Fisher & Yates' shuffle from the end (Knuth, TAOCP 2, algorithm P). Uses blocks(n, 2)."""
    order = np.arange(n)
    permutation_kernel(order, words(seed, offset, 2 * n))
    return order


# ---- choices --------------------------------------------------------------------------------------------------------

@inner
def bernoulli_task(chunk, p, out, seed, offset):
    part = slice(chunk * WORDS, (chunk + 1) * WORDS)
    p, out = p[part], out[part]
    w = chunk_words(chunk, out.size, seed, offset)
    for i in range(out.size):
        out[i] = like(p[i], like(p[i], uniform32(w[i])) < p[i])


@jit.jit
def bernoulli_kernel(p, out, seed, offset, chunks, threads):
    parallel_for(bernoulli_task, chunks, threads, (p, out, seed, offset))


def bernoulli(seed, offset, p):
    """1 with probability p, else 0, in p's shape and dtype; number i is 1 where uniform i < p. Uses blocks(n)."""
    out = np.empty(p.shape, p.dtype)
    bernoulli_kernel(p.ravel(), out.reshape(-1), *_stream(seed, offset), *_chunks(out.size))
    return out


@inner
def dropout_task(chunk, x, out, p, scale, seed, offset):
    part = slice(chunk * WORDS, (chunk + 1) * WORDS)
    x, out = x[part], out[part]
    w = chunk_words(chunk, out.size, seed, offset)
    for i in range(out.size):
        out[i] = x[i] * (scale if like(p, uniform32(w[i])) >= p else like(p, 0))


@jit.jit
def dropout_kernel(x, out, p, scale, seed, offset, chunks, threads):
    parallel_for(dropout_task, chunks, threads, (x, out, p, scale, seed, offset))


def dropout(x, p, seed, offset):
    """Each number set to 0 with probability p, the others divided by 1 - p (Srivastava et al. 2014, section 10, "inverted").

    The mask is a function of (seed, offset), so the gradient is dropout(g, p, seed, offset) and nothing is stored.
    ValueError if p is outside [0, 1]. Uses blocks(n).
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: the probability p must be in [0, 1], got {p}")
    out, number = np.empty(x.shape, x.dtype), x.dtype.type
    scale = 1 / (1 - p) if p < 1 else 0
    dropout_kernel(x.ravel(), out.reshape(-1), number(p), number(scale), *_stream(seed, offset), *_chunks(out.size))
    return out


@inner
def search(cumulative, value):
    """Index of the first number above value, by bisection; the last index if there is none."""
    low, high = 0, cumulative.size - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > value:
            high = middle
        else:
            low = middle + 1
    return low


@inner
def categorical_task(chunk, probabilities, out, rows, seed, offset):
    cumulative = np.empty(probabilities.shape[1])
    for n in range(chunk * rows, min((chunk + 1) * rows, out.shape[0])):
        row, picks, total = probabilities[n], out[n], 0.0
        for k in range(row.size):
            total += row[k] if row[k] >= 0 else math.nan
            cumulative[k] = total
        for s in range(picks.size):
            i = np.uint64(n * picks.size + s)
            at = offset + (i >> np.uint64(1))
            w0, w1, w2, w3 = philox(np.uint32(at), np.uint32(at >> HALF), np.uint32(seed), np.uint32(seed >> HALF))
            u = uniform64(w2, w3) if i & np.uint64(1) else uniform64(w0, w1)
            picks[s] = search(cumulative, u * total) if 0 < total < math.inf else -1


@jit.jit
def categorical_kernel(probabilities, out, rows, seed, offset, chunks, threads):
    parallel_for(categorical_task, chunks, threads, (probabilities, out, rows, seed, offset))


def categorical(seed, offset, probabilities, samples):
    """Indices drawn with replacement: (N, K) non-negative numbers, a row's probabilities times any factor -> (N, samples) int64.

    Sample s of row n compares uniform number n * samples + s (53 bits) with the row's cumulative sum, kept in float64.
    ValueError if a row holds a negative or non-finite number or sums to 0. Uses blocks(N * samples, 2).
    """
    if probabilities.ndim != 2:
        raise ValueError(f"categorical: probabilities must have shape (N, K), got {probabilities.shape}")
    rows = max(1, WORDS // max(1, sum(probabilities.shape[1:]) + samples))
    out = np.empty((len(probabilities), samples), np.int64)
    chunks, threads = (len(out) + rows - 1) // rows, jit.threads(probabilities.size + out.size)
    categorical_kernel(np.ascontiguousarray(probabilities), out, rows, *_stream(seed, offset), chunks, threads)
    if out.size and out.min() < 0:
        raise ValueError(f"categorical: row {out.min(axis=1).argmin()} of the probabilities holds a negative or non-finite number "
                         "or sums to 0")
    return out
