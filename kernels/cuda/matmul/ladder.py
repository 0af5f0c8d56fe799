"""The rungs below the fast product, to read and to time: C = A B for contiguous float32 A (M, K) and B (K, N).

A multiprocessor of an H100 does 128 multiply-adds a clock, but its memory brings only some 6 float32 numbers in that time: each number
that was fetched must be used many times. A rung is a step on that way. Every rung adds up the products of an element in the order of k,
so all give the same bits. The shares of cuBLAS's speed are those of siboehm/SGEMM_CUDA on an A6000 at 4096.
"""

import numpy as np

from kernels.cuda.compiler import cuda, kernel, typed

SIDE, SQUARE = 16, 16 * 16             # shared_tiles: the tiles, and the blocks of threads
TILE, DEPTH, SLICE = 64, 8, 64 * 8     # register_tiles: a block's part of C, and how much of k lies in shared memory at once


@kernel
def matmul_naive(a, b, c, M, N, K):
    """The definition, a thread for each element (9 %; with threads that go down C's columns instead of along its rows, 1 %: here a warp
    reads neighbours in B, there each of its threads another line).

    Each multiply-add waits for two numbers from memory.
    """
    i = cuda.grid(1)
    row, column = i // N, i % N
    if row < M:
        total = typed(a, 0)
        for k in range(K):
            total += a[row * K + k] * b[k * N + column]
        c[i] = total


@kernel
def matmul_shared_tiles(a, b, c, M, N, K):
    """A block of 16 x 16 threads brings a tile of A and one of B into shared memory, whence each number is read 16 times (13 %).

    Still two reads of shared memory for every multiply-add.
    """
    tile_a, tile_b = cuda.shared.array(SQUARE, a.dtype), cuda.shared.array(SQUARE, a.dtype)
    r, s = cuda.threadIdx.x // SIDE, cuda.threadIdx.x % SIDE
    row, column = cuda.blockIdx.y * SIDE + r, cuda.blockIdx.x * SIDE + s
    total = typed(a, 0)
    for k0 in range(0, K, SIDE):
        tile_a[r * SIDE + s] = a[row * K + k0 + s] if row < M and k0 + s < K else typed(a, 0)
        tile_b[r * SIDE + s] = b[(k0 + r) * N + column] if k0 + r < K and column < N else typed(a, 0)
        cuda.syncthreads()                         # the tiles are complete
        for k in range(SIDE):
            total += tile_a[r * SIDE + k] * tile_b[k * SIDE + s]
        cuda.syncthreads()                         # nobody reads them any more
    if row < M and column < N:
        c[row * N + column] = total


@kernel(threads=64)
def matmul_register_tiles(a, b, c, M, N, K):
    """Each thread keeps 8 x 8 elements of C in registers: 16 numbers from shared memory serve 64 multiply-adds (69 %).

    From here on it takes loads of four numbers, of which the next come while the last are used: tiles.py.
    """
    tile_a, tile_b = cuda.shared.array(SLICE, np.float32), cuda.shared.array(SLICE, np.float32)
    sums = cuda.local.array(64, np.float32)
    t = cuda.threadIdx.x
    r, s = t // 8 * 8, t % 8 * 8                   # this thread's first row and column in the block's part of C
    row0, column0 = cuda.blockIdx.y * TILE, cuda.blockIdx.x * TILE
    for i in range(64):
        sums[i] = typed(a, 0)
    for k0 in range(0, K, DEPTH):
        for p in range(8):                         # 64 threads bring 8 x 64 numbers of either operand
            row, k = row0 + p * 8 + t // 8, k0 + t % 8
            tile_a[t % 8 * TILE + p * 8 + t // 8] = a[row * K + k] if row < M and k < K else typed(a, 0)
            tile_b[p * TILE + t] = b[(k0 + p) * N + column0 + t] if k0 + p < K and column0 + t < N else typed(a, 0)
        cuda.syncthreads()
        for k in range(DEPTH):
            for i in range(8):
                for j in range(8):
                    sums[i * 8 + j] += tile_a[k * TILE + r + i] * tile_b[k * TILE + s + j]
        cuda.syncthreads()
    for i in range(8):
        for j in range(8):
            if row0 + r + i < M and column0 + s + j < N:
                c[(row0 + r + i) * N + column0 + s + j] = sums[i * 8 + j]


def naive(a, b, c):
    """C = A B by matmul_naive."""
    (M, K), N = a.shape, b.shape[1]
    matmul_naive[-(-M * N // 256), 256](a, b, c, M, N, K)


def shared_tiles(a, b, c):
    """C = A B by matmul_shared_tiles."""
    (M, K), N = a.shape, b.shape[1]
    matmul_shared_tiles[(-(-N // SIDE), -(-M // SIDE)), SQUARE](a, b, c, M, N, K)


def register_tiles(a, b, c):
    """C = A B by matmul_register_tiles."""
    (M, K), N = a.shape, b.shape[1]
    matmul_register_tiles[(-(-N // TILE), -(-M // TILE)), 64](a, b, c, M, N, K)
