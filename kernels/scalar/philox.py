"""Random numbers: Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), uniforms and normals."""

import math

import numpy as np

from kernels.jit import inner, like
from kernels.scalar.elementary import cos, log, sin, sqrt

# Typed constants: Numba widens uint32 * uint32 to uint64, but uint64 + int64 to float64.
PHILOX_MULTIPLIER_0, PHILOX_MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
PHILOX_STEP_0, PHILOX_STEP_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
LOW_HALF, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


@inner
def philox_4x32(c0, c1, c2, c3, key0, key1):
    """Ten rounds on a counter of four uint32 words, the lowest first, under a key of two: four random uint32 words."""
    for _ in range(10):
        a, b = PHILOX_MULTIPLIER_0 * np.uint64(c0), PHILOX_MULTIPLIER_1 * np.uint64(c2)
        c0, c1 = np.uint32((b >> HALF) ^ c1 ^ key0), np.uint32(b)
        c2, c3 = np.uint32((a >> HALF) ^ c3 ^ key1), np.uint32(a)
        key0, key1 = np.uint32(key0 + PHILOX_STEP_0), np.uint32(key1 + PHILOX_STEP_1)
    return c0, c1, c2, c3


@inner
def philox(block_low, block_high, key0, key1):
    """The four words of a block: counter (block_low, block_high, 0, 0), key = the low and the high half of the seed."""
    return philox_4x32(block_low, block_high, np.uint32(0), np.uint32(0), key0, key1)


@inner
def join_words(low, high):
    """The uint64 made of two uint32 words."""
    return np.uint64(low) | (np.uint64(high) << HALF)


@inner
def uniform32(word):
    """float32 in [0, 1) from a word: its upper 24 bits times 2^-24."""
    return np.float32(np.int32(word >> np.uint32(8))) * np.float32(2.0 ** -24)


@inner
def uniform64(low, high):
    """float64 in [0, 1) from two words: their upper 53 bits times 2^-53."""
    return np.float64(np.int64(join_words(low, high) >> np.uint64(11))) * 2.0 ** -53


@inner
def box_muller(u, turn):
    """Two independent standard normals from u, uniform in (0, 1], and turn, uniform in [-1/2, 1/2] (Box & Muller 1958)."""
    radius = sqrt(like(u, -2) * log(u))
    angle = like(u, 2 * math.pi) * turn
    return radius * cos(angle), radius * sin(angle)


@inner
def normal32(word0, word1):
    """Two float32 normals from two words. Odd multiples of 2^-31 keep u above 0 and reach out to 6.5 sigma."""
    u = np.float32(np.int32((word0 >> np.uint32(1)) | np.uint32(1))) * np.float32(2.0 ** -31)
    return box_muller(u, np.float32(np.int32(word1)) * np.float32(2.0 ** -32))


@inner
def normal64(word0, word1, word2, word3):
    """Two float64 normals from four words, out to 8.5 sigma."""
    return box_muller(1.0 - uniform64(word0, word1), uniform64(word2, word3) - 0.5)


@inner
def multiply_high(a, b):
    """The upper 64 bits of the product of two uint64: for a random a, a whole number in [0, b), biased by less than b / 2^64."""
    a_low, a_high, b_low, b_high = a & LOW_HALF, a >> HALF, b & LOW_HALF, b >> HALF
    middle = a_high * b_low + ((a_low * b_low) >> HALF)
    return a_high * b_high + (middle >> HALF) + ((a_low * b_high + (middle & LOW_HALF)) >> HALF)
