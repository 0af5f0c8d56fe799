"""A 16-bit sample drawn from a mixture of logistics (Salimans et al. 2017, PixelCNN++, section 2.1); all in float64."""

import math

import numpy as np

from kernels.jit import inner, like
from kernels.scalar import HALF, exp, expm1, log, log1p, philox, sigmoid, uniform64
from kernels.scalar.bits import rint
from kernels.shapes import LEVELS, LOWEST_LOG_SCALE


@inner
def mass(level, mean, scale):
    """What a logistic gives to a level: from half of one below to half above, at the ends all that lies beyond.

    With s the sigmoid, s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)): nothing is lost where both are near 0 or near 1.
    """
    low, high = (level - 0.5 - LEVELS * mean) / (LEVELS * scale), (level + 0.5 - LEVELS * mean) / (LEVELS * scale)
    below, above = sigmoid(high), sigmoid(-low)
    if level == -LEVELS:
        return below
    return above if level == LEVELS - 1 else below * above * -expm1(low - high)


@inner
def mixture_task(n, logits, Q, temperature, seed, block, weights, values, log_probs, at, line):
    """Draw a number for sequence n: values[n * line + at], NaN if its outputs are not finite; and its log-probability.

    Of the block's two uniforms the first chooses the logistic, the second is where its distribution function is inverted. `weights` is
    room for Q numbers of each sequence: means, scales and weights of its logistics.
    """
    M, place, total, fine = Q // 3, np.uint64(n * line + at), 0.0, True
    first, means, scales = n * Q, n * Q + M, n * Q + 2 * M
    best, highest = 0, -math.inf
    for k in range(first, first + Q):
        fine = fine and math.isfinite(logits[np.uint64(k)])
        weights[np.uint64(k)] = logits[np.uint64(k)]
    for m in range(M):
        if weights[np.uint64(first + m)] > highest:
            best, highest = m, weights[np.uint64(first + m)]
    for m in range(M):
        weights[np.uint64(first + m)] = exp(weights[np.uint64(first + m)] - highest)
        weights[np.uint64(scales + m)] = exp(max(weights[np.uint64(scales + m)], LOWEST_LOG_SCALE))
        fine = fine and math.isfinite(weights[np.uint64(scales + m)])
        total += weights[np.uint64(first + m)]
    values[place] = like(values[0], math.nan)
    if not fine:
        return
    at_block = block + np.uint64(n)
    w0, w1, w2, w3 = philox(np.uint32(at_block), np.uint32(at_block >> HALF), np.uint32(seed), np.uint32(seed >> HALF))
    limit, reached, chosen = uniform64(w0, w1) * total, 0.0, 0
    for m in range(M):
        if reached <= limit:
            chosen = m
        reached += weights[np.uint64(first + m)]
    chosen = chosen if temperature > 0 else best
    v = min(max(uniform64(w2, w3), 2.0 ** -54), 1 - 2.0 ** -53)
    x = weights[np.uint64(means + chosen)] + temperature * weights[np.uint64(scales + chosen)] * (log(v) - log1p(-v))
    level = rint(min(max(x * LEVELS, np.float64(-LEVELS)), np.float64(LEVELS - 1)))
    share = 0.0
    for m in range(M):
        share += weights[np.uint64(first + m)] * mass(level, weights[np.uint64(means + m)], weights[np.uint64(scales + m)])
    values[place] = like(values[0], level / LEVELS)
    log_probs[place] = like(log_probs[0], log(share) - log(total))
