"""Places in arrays from numbers of threads, in 32 bits: to divide 64-bit numbers takes a GPU more than a hundred instructions."""

import math

import numpy as np

from kernels.cuda.compiler import device

LIMIT = 1 << 31


@device
def divide(a, b):
    """(a // b, a % b) for whole numbers 0 <= a < 2^31, 0 < b < 2^31."""
    top, bottom = np.uint32(a), np.uint32(b)
    quotient = np.uint32(top // bottom)
    return np.int32(quotient), np.int32(top - quotient * bottom)


@device
def within(i, n):
    """Whether the int32 i lies in 0 .. n - 1, by one comparison: a negative number is a large one without its sign."""
    return np.uint32(np.int32(i)) < np.uint32(n)


def check_sizes(name, *shapes):
    """ValueError if one of the arrays of these shapes has more numbers than 32 bits count."""
    for shape in shapes:
        if math.prod(shape) >= LIMIT:
            raise ValueError(f"{name}: an array of shape {tuple(shape)} has {math.prod(shape)} numbers, the kernel counts to 2^31 - 1; "
                             "take fewer examples at once")
