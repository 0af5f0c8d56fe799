"""Scalar maths, written once for every compiled wing: the CPU loops and the CUDA kernels are generated from these functions.

A function takes and returns scalars of one floating type (where it says so, integers and booleans too) and works for float32
and float64 alike, so its constants take their type from an argument: `like(x, 0.5)`. Names are those of the kernels.
In `*_backward`, g is the gradient that arrives, x the input and y the output of the function in question.
"""

import math

import numpy as np

from kernels import jit
from kernels.jit import inner, like

INV_SQRT2 = math.sqrt(0.5)
INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)
GELU_SCALE = math.sqrt(2 / math.pi)      # gelu's tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
GELU_CUBIC = 0.044715


# ---- arithmetic (integers too) --------------------------------------------------------------------------------------

@inner
def add(a, b):
    """a + b"""
    return a + b


@inner
def sub(a, b):
    """a - b"""
    return a - b


@inner
def mul(a, b):
    """a * b"""
    return a * b


@inner
def div(a, b):
    """a / b"""
    return a / b


@inner
def floor_divide(a, b):
    """Largest whole number not above a / b."""
    return a // b


@inner
def remainder(a, b):
    """a - b * floor(a / b): the sign of b, as Python's %."""
    return a % b


@inner
def pow(a, b):
    """a to the power b."""
    return a ** b


@inner
def maximum(a, b):
    """The larger of two; NaN if either is."""
    return jit.maximum(a, b)


@inner
def minimum(a, b):
    """The smaller of two; NaN if either is."""
    return jit.minimum(a, b)


@inner
def neg(x):
    """-x"""
    return -x


@inner
def abs(x):
    """|x|"""
    return -x if x < 0 else x


@inner
def sign(x):
    """-1, 0 or 1; 0 for NaN."""
    return like(x, 1) if x > 0 else (like(x, -1) if x < 0 else like(x, 0))


@inner
def clamp(x, low, high):
    """x limited to [low, high]; NaN stays."""
    x = low if x < low else x
    return high if x > high else x


@inner
def where(condition, a, b):
    """a where the condition holds, b elsewhere."""
    return a if condition else b


# ---- comparison and logic (any type in, booleans out) ---------------------------------------------------------------

@inner
def eq(a, b):
    """a == b"""
    return a == b


@inner
def ne(a, b):
    """a != b"""
    return a != b


@inner
def lt(a, b):
    """a < b"""
    return a < b


@inner
def le(a, b):
    """a <= b"""
    return a <= b


@inner
def gt(a, b):
    """a > b"""
    return a > b


@inner
def ge(a, b):
    """a >= b"""
    return a >= b


@inner
def logical_and(a, b):
    """Both are not zero."""
    return (a != 0) & (b != 0)


@inner
def logical_or(a, b):
    """One or both are not zero."""
    return (a != 0) | (b != 0)


@inner
def logical_xor(a, b):
    """Exactly one is not zero."""
    return (a != 0) != (b != 0)


@inner
def logical_not(x):
    """x is zero."""
    return x == 0


@inner
def isnan(x):
    """x is not a number."""
    return x != x


@inner
def isinf(x):
    """x is plus or minus infinity."""
    return math.fabs(x) == like(x, math.inf)


@inner
def isfinite(x):
    """x is neither infinite nor NaN."""
    return math.fabs(x) < like(x, math.inf)


# ---- exponentials, roots, circular functions ------------------------------------------------------------------------

@inner
def exp(x):
    """e to the power x."""
    return math.exp(x)


@inner
def expm1(x):
    """e^x - 1, exact near 0."""
    return math.expm1(x)


@inner
def log(x):
    """Natural logarithm; -inf at 0, NaN below."""
    return math.log(x)


@inner
def log1p(x):
    """log(1 + x), exact near 0."""
    return math.log1p(x)


@inner
def sqrt(x):
    """Square root; NaN below 0."""
    return math.sqrt(x)


@inner
def rsqrt(x):
    """1 / sqrt(x)"""
    return like(x, 1) / math.sqrt(x)


@inner
def sin(x):
    """Sine of x radians."""
    return math.sin(x)


@inner
def cos(x):
    """Cosine of x radians."""
    return math.cos(x)


@inner
def tanh(x):
    """Hyperbolic tangent."""
    return math.tanh(x)


@inner
def erf(x):
    """Error function 2/sqrt(pi) * integral of exp(-t^2) from 0 to x."""
    return math.erf(x)


@inner
def floor(x):
    """Largest whole number not above x, in x's type."""
    return np.floor(x)


@inner
def ceil(x):
    """Smallest whole number not below x, in x's type."""
    return np.ceil(x)


# ---- activations and their gradients --------------------------------------------------------------------------------

@inner
def sigmoid(x):
    """1 / (1 + exp(-x))"""
    return like(x, 1) / (like(x, 1) + exp(-x))


@inner
def sigmoid_backward(g, y):
    """g y (1 - y)"""
    return g * y * (like(y, 1) - y)


@inner
def tanh_backward(g, y):
    """g (1 - y^2)"""
    return g * (like(y, 1) - y * y)


@inner
def softplus(x, beta, threshold):
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold."""
    z = beta * x
    return x if z > threshold else (maximum(z, like(x, 0)) + log1p(exp(-math.fabs(z)))) / beta


@inner
def softplus_backward(g, x, beta, threshold):
    """g sigmoid(beta x), and g where beta x > threshold."""
    return g if beta * x > threshold else g * sigmoid(beta * x)


@inner
def relu(x):
    """max(x, 0); NaN stays."""
    return like(x, 0) if x <= 0 else x


@inner
def relu_backward(g, y):
    """g where y > 0, else 0."""
    return g if y > 0 else like(g, 0)


@inner
def leaky_relu(x, slope):
    """x above 0, slope * x below."""
    return x if x > 0 else slope * x


@inner
def leaky_relu_backward(g, x, slope):
    """g where x > 0, slope * g elsewhere."""
    return g if x > 0 else slope * g


@inner
def elu(x, alpha):
    """x above 0, alpha (exp(x) - 1) below (Clevert et al. 2016, eq. 15)."""
    return x if x > 0 else alpha * expm1(x)


@inner
def elu_backward(g, x, alpha):
    """g where x > 0, g alpha exp(x) elsewhere."""
    return g if x > 0 else g * alpha * exp(x)


@inner
def silu(x):
    """x sigmoid(x)"""
    return x * sigmoid(x)


@inner
def silu_backward(g, x):
    """g s (1 + x (1 - s)), s = sigmoid(x)"""
    s = sigmoid(x)
    return g * s * (like(x, 1) + x * (like(x, 1) - s))


@inner
def gelu(x):
    """x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016)."""
    return like(x, 0.5) * x * (like(x, 1) + erf(x * like(x, INV_SQRT2)))


@inner
def gelu_backward(g, x):
    """g (Phi(x) + x phi(x))"""
    phi = like(x, INV_SQRT_2PI) * exp(like(x, -0.5) * x * x)
    return g * (like(x, 0.5) * (like(x, 1) + erf(x * like(x, INV_SQRT2))) + x * phi)


@inner
def gelu_tanh(x):
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), gelu's approximation."""
    inside = like(x, GELU_SCALE) * (x + like(x, GELU_CUBIC) * x * x * x)
    return like(x, 0.5) * x * (like(x, 1) + tanh(inside))


@inner
def gelu_tanh_backward(g, x):
    """Gradient of gelu_tanh."""
    inside = like(x, GELU_SCALE) * (x + like(x, GELU_CUBIC) * x * x * x)
    slope = like(x, GELU_SCALE) * (like(x, 1) + like(x, 3 * GELU_CUBIC) * x * x)
    t = tanh(inside)
    return g * like(x, 0.5) * (like(x, 1) + t + x * (like(x, 1) - t * t) * slope)


# ---- losses ---------------------------------------------------------------------------------------------------------

@inner
def binary_cross_entropy_with_logits(x, target):
    """-t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)) = max(x, 0) - x t + log(1 + exp(-|x|)), which never overflows."""
    return maximum(x, like(x, 0)) - x * target + log1p(exp(-math.fabs(x)))


@inner
def binary_cross_entropy_with_logits_backward(g, x, target):
    """g (sigmoid(x) - t)"""
    return g * (sigmoid(x) - target)


# ---- random numbers: Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") --------------

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
