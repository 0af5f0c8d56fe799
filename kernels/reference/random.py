"""Philox 4x32-10 (Salmon et al. 2011) and the distributions made of its words, in NumPy.

A seed names a stream of 2^64 blocks of four words; every function starts at block `offset` and says how many blocks it uses.
"""

import numpy as np

MASK = 0xFFFFFFFFFFFFFFFF


def blocks(n, words_each=1):
    """Philox blocks that n numbers of so many words each use up: ceil(n * words_each / 4)."""
    return -(-n * words_each // 4)


def _philox(counter, key):
    """Four random words for each counter (..., 4), lowest word first, under a key of two words; uint32 in and out."""
    c0, c1, c2, c3 = (np.asarray(counter)[..., i].astype(np.uint64) for i in range(4))
    low = np.uint64(0xFFFFFFFF)
    for r in range(10):
        key0, key1 = ((int(k) + r * step) & 0xFFFFFFFF for k, step in zip(key, (0x9E3779B9, 0xBB67AE85), strict=True))
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ np.uint64(key0), b & low, (a >> 32) ^ c3 ^ np.uint64(key1), a & low
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words(seed, offset, n):
    """The first n uint32 words from block `offset` on: block b is philox of (low b, high b, 0, 0). Uses blocks(n)."""
    index = np.uint64(int(offset) & MASK) + np.arange(blocks(n), dtype=np.uint64)          # wraps around at 2^64
    counter = np.stack([index & np.uint64(0xFFFFFFFF), index >> np.uint64(32), 0 * index, 0 * index], axis=-1)
    return _philox(counter, (int(seed) & 0xFFFFFFFF, int(seed) >> 32 & 0xFFFFFFFF)).reshape(-1)[:n]


def _uniform53(seed, offset, n):
    """n float64 in [0, 1) of two words each: their upper 53 bits."""
    low, high = words(seed, offset, 2 * n).astype(np.uint64).reshape(n, 2).T
    return ((high << np.uint64(32) | low) >> np.uint64(11)) * 2.0 ** -53


def uniform(seed, offset, shape, dtype):
    """Uniform in [0, 1): 24 bits of a word (float32, blocks(n) blocks) or 53 bits of two (float64, blocks(n, 2))."""
    n = int(np.prod(shape))
    values = (words(seed, offset, n) >> 8) * 2.0 ** -24 if dtype == np.float32 else _uniform53(seed, offset, n)
    return values.astype(dtype).reshape(shape)


def normal(seed, offset, shape, dtype):
    """Standard normal: sqrt(-2 log u) (cos, sin)(2 pi turn) (Box & Muller 1958), u in (0, 1], turn in [-1/2, 1/2].

    float32: u and turn are a word each, rounded to float32; blocks(n). float64: two words each; blocks(n, 2).
    """
    n = int(np.prod(shape))
    pairs = (n + 1) // 2
    if dtype == np.float32:
        w = words(seed, offset, 2 * pairs).reshape(pairs, 2)
        u = (w[:, 0] >> 1 | 1).astype(np.float32).astype(np.float64) * 2.0 ** -31
        turn = w[:, 1].view(np.int32).astype(np.float32).astype(np.float64) * 2.0 ** -32
    else:
        u, turn = _uniform53(seed, offset, 2 * pairs).reshape(pairs, 2).T
        u, turn = 1 - u, turn - 0.5
    radius, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * turn
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:n].astype(dtype).reshape(shape)


def _below(seed, offset, spans):
    """For each span a whole number in 0..span-1: the upper 64 bits of span times a 64-bit random number of two words."""
    w = words(seed, offset, 2 * len(spans))
    return [(int(low) | int(high) << 32) * span >> 64 for low, high, span in zip(w[0::2], w[1::2], spans, strict=True)]


def randint(seed, offset, low, high, shape):
    """int64 uniform in low..high-1; ValueError if there is none. Uses blocks(n, 2)."""
    if high <= low:
        raise ValueError(f"randint: high must be above low, got low={low}, high={high}")
    n = int(np.prod(shape))
    return np.array([low + v for v in _below(seed, offset, [int(high) - int(low)] * n)], np.int64).reshape(shape)


def permutation(seed, offset, n):
    """0..n-1 in random order, int64 (Fisher & Yates): the last place swaps with any up to it, and so on down. Uses blocks(n, 2)."""
    order = list(range(n))
    for last, at in zip(range(n - 1, 0, -1), _below(seed, offset, range(n, 1, -1)), strict=True):
        order[last], order[at] = order[at], order[last]
    return np.array(order, np.int64)


def bernoulli(seed, offset, p):
    """1 with probability p, else 0, in p's shape and dtype: 1 where a float32 uniform is below p. Uses blocks(n)."""
    return (uniform(seed, offset, p.shape, np.float32) < p).astype(p.dtype)


def dropout(x, p, seed, offset):
    """x / (1 - p) where a float32 uniform is at least p, else 0; ValueError if p is outside [0, 1]. Uses blocks(n)."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: the probability p must be in [0, 1], got {p}")
    keep = uniform(seed, offset, x.shape, np.float32) >= x.dtype.type(p)
    return x * keep * x.dtype.type(1 / (1 - p) if p < 1 else 0)


def categorical(seed, offset, probabilities, samples):
    """Indices (N, samples), int64, drawn with replacement from the rows (N, K) of non-negative numbers, each times any factor.

    Sample s of row n is where uniform number n * samples + s (53 bits), times the row's sum, falls among its cumulative sums.
    ValueError if a row holds a negative or non-finite number or sums to 0. Uses blocks(N * samples, 2).
    """
    u = _uniform53(seed, offset, len(probabilities) * samples).reshape(len(probabilities), samples)
    out = np.empty(u.shape, np.int64)
    for n, row in enumerate(probabilities):
        if not (np.isfinite(row).all() and (row >= 0).all() and row.sum() > 0):
            raise ValueError(f"categorical: row {n} of the probabilities holds a negative or non-finite number or sums to 0")
        cumulative = np.cumsum(row, dtype=np.float64)
        out[n] = np.searchsorted(cumulative, u[n] * cumulative[-1], side="right")
    return out
