"""A 16-bit sample drawn from a mixture of logistics (Salimans et al. 2017, PixelCNN++, section 2.1); all in float64."""

import math

import numpy as np

from kernels.jit import inner, like
from kernels.scalar import HALF, exp, expm1, log, log1p, philox, uniform64
from kernels.scalar.bits import rint
from kernels.shapes import LEVELS, LOWEST_LOG_SCALE


@inner
def softplus(x):
    """log(1 + exp(x))"""
    return max(x, 0.0) + log1p(exp(-math.fabs(x)))


@inner
def log_mass(level, mean, scale):
    """Logarithm of the mass that a logistic gives to a level: from half of one below to half above, at the ends all that lies beyond.

    With s the sigmoid, s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)): nothing is lost where both are near 0 or near 1.
    """
    low, high = (level - 0.5 - LEVELS * mean) / (LEVELS * scale), (level + 0.5 - LEVELS * mean) / (LEVELS * scale)
    mass = 0.0
    if -LEVELS < level < LEVELS - 1:
        mass = log(-expm1(low - high))
    if level < LEVELS - 1:
        mass -= softplus(-high)
    if level > -LEVELS:
        mass -= softplus(low)
    return mass


@inner
def outputs_of(logits, base, M, m):
    """(logit, mean, scale) of logistic m of M."""
    return (np.float64(logits[np.uint64(base + m)]), np.float64(logits[np.uint64(base + M + m)]),
            exp(max(np.float64(logits[np.uint64(base + 2 * M + m)]), LOWEST_LOG_SCALE)))


@inner
def mixture_task(n, logits, Q, temperature, seed, block, values, log_probs, at, line):
    """Draw a number for sequence n: values[n * line + at], NaN if its outputs are not finite; and its log-probability.

    Of the block's two uniforms the first chooses the logistic, the second is where its distribution function is inverted.
    """
    M, base, place, best, highest, fine = Q // 3, n * Q, np.uint64(n * line + at), 0, -math.inf, True
    for m in range(M):
        logit, mean, scale = outputs_of(logits, base, M, m)
        fine = fine and math.isfinite(logit) and math.isfinite(mean) and math.isfinite(scale)
        if logit > highest:
            best, highest = m, logit
    values[place] = like(values[0], math.nan)
    if not fine:
        return
    total = 0.0
    for m in range(M):
        total += exp(outputs_of(logits, base, M, m)[0] - highest)
    at_block = block + np.uint64(n)
    w0, w1, w2, w3 = philox(np.uint32(at_block), np.uint32(at_block >> HALF), np.uint32(seed), np.uint32(seed >> HALF))
    limit, reached, chosen = uniform64(w0, w1) * total, 0.0, best
    if temperature > 0:
        chosen = 0
        for m in range(M):
            if reached <= limit:
                chosen = m
            reached += exp(outputs_of(logits, base, M, m)[0] - highest)
    v = min(max(uniform64(w2, w3), 2.0 ** -54), 1 - 2.0 ** -53)
    _, mean, scale = outputs_of(logits, base, M, chosen)
    x = (mean + temperature * scale * (log(v) - log1p(-v))) * LEVELS
    level = rint(min(max(x, np.float64(-LEVELS)), np.float64(LEVELS - 1)))
    largest = -math.inf
    for m in range(M):
        logit, mean, scale = outputs_of(logits, base, M, m)
        largest = max(largest, logit + log_mass(level, mean, scale))
    share = 0.0
    for m in range(M):
        logit, mean, scale = outputs_of(logits, base, M, m)
        share += exp(logit + log_mass(level, mean, scale) - largest)
    values[place] = like(values[0], level / LEVELS)
    log_probs[place] = like(log_probs[0], largest + log(share) - highest - log(total))
