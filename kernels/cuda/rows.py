"""What the kernels over rows (softmax, cross-entropy, layer normalisation, ...) share: one block of threads works on each row.

Thread t takes the numbers t, t + blockDim, t + 2 blockDim, ... of the row, so that neighbours read neighbours, and folds them to one
number. What the threads have is folded inside each warp, whose 32 threads can read each other's registers, and then, through
shared memory, across the warps. The order depends on the sizes alone: the same bits in every run, on every GPU.
"""

import math

import numpy as np

from kernels.cuda.compiler import cuda, device, like, scalar

WARP = 32
ALL = 0xFFFFFFFF          # all lanes of a warp take part
NARROW = 1024             # up to here one warp works on a row: no barrier, and 32 numbers for each lane


def row_threads(columns):
    """Threads in the block that works on a row of so many columns."""
    return WARP if columns <= NARROW else 256


@device
def add(a, b):
    return a + b


@device
def warp_sum(value):
    """The sum of the values that the 32 threads of a warp have: the same bits in each of them."""
    for distance in (16, 8, 4, 2, 1):
        value += cuda.shfl_xor_sync(ALL, value, distance)
    return value


@device
def warp_max(value):
    """The largest of the values of a warp; NaN if one is."""
    for distance in (16, 8, 4, 2, 1):
        value = scalar.maximum(value, cuda.shfl_xor_sync(ALL, value, distance))
    return value


@device
def block_sum(value, room):
    """The sum of the values of all threads of a block, in each of them; `room` is a shared array of 32 numbers."""
    value = warp_sum(value)
    if cuda.blockDim.x > WARP:
        lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
        cuda.syncthreads()                        # nobody reads `room` from an earlier use any more
        if lane == 0:
            room[warp] = value
        cuda.syncthreads()
        value = warp_sum(room[lane] if lane < cuda.blockDim.x // WARP else like(value, 0))
    return value


@device
def block_max(value, room):
    """The largest of the values of all threads of a block, in each of them; NaN if one is. As block_sum."""
    value = warp_max(value)
    if cuda.blockDim.x > WARP:
        lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
        cuda.syncthreads()
        if lane == 0:
            room[warp] = value
        cuda.syncthreads()
        value = warp_max(room[lane] if lane < cuda.blockDim.x // WARP else like(value, -math.inf))
    return value


@device
def row_max(x, start, columns, room):
    """The largest number of a row that starts at x[start]."""
    highest = like(x[start], -math.inf)
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        highest = scalar.maximum(highest, x[start + i])
    return block_max(highest, room)


@device
def row_sum_exp(x, start, columns, highest, room):
    """sum_i exp(x_i - highest) over a row."""
    total = like(highest, 0)
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        total += scalar.exp(x[start + i] - highest)
    return block_sum(total, room)


def floating(name, *arrays):
    """TypeError unless all arrays are float32, or all float64; their dtype otherwise."""
    dtypes = {a.dtype for a in arrays if a is not None}
    if len(dtypes) > 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
        raise TypeError(f"{name}: all arrays must be float32 or all float64, got {', '.join(sorted(map(str, dtypes)))}")
    return dtypes.pop()
