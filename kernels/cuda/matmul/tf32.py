"""The product on tensor cores: float32 operands rounded to TF32 (8 bits of exponent, 10 of fraction), sums in float32.

Used only where it is asked for (snn.set_float32_matmul_precision("high")), since each operand loses half of its digits: a relative error
of up to 2^-11 in each, and 2^-10 in their product. A warp multiplies 16 x 8 by 8 x 8 numbers with one instruction.

    block     works on a tile of C, `rows` x `columns`, and goes along k in steps of DEPTH
    warp      has a part of it of 16 `high` x 32, as blocks of 16 x 8
    thread    keeps four sums of each block, in the places that the instruction gives it (compiler.py, mma)

A slice of either operand goes from memory to shared memory past the registers, four numbers at a time, as it lies: k fast for an operand
along k, slow for one across. While one is multiplied, the next comes into the other buffer. Lines are padded such that the numbers that
the threads of a warp read at once lie in 32 different banks: by 4 along k, by 8 across.

Of the 263 instructions of a large tile's loop 32 are the tensor cores', 51 read shared memory, and 96 round
(`python tests/cuda_compile.py matmul --loops`). Those of eight warps are issued in 526 clocks at best, in which the tensor cores of an H100
could do twice as much.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from kernels.cuda import runtime
from kernels.cuda.compiler import bring16, brought, cuda, device, kernel, mma, tf32, typed
from kernels.cuda.matmul.plain import FUNCTIONS
from kernels.cuda.matmul.tiles import grid, written_out

DEPTH = 16
ARCHITECTURE = 8, 0          # the first that has these instructions: A100


class Tile(NamedTuple):
    """rows x columns of C for each block; warps of 16 high rows and 32 columns."""

    rows: int
    columns: int
    high: int

    @property
    def threads(self): return self.rows * self.columns // (16 * self.high)

    @property
    def warps_down(self): return self.rows // (16 * self.high)


LARGE, SMALL = Tile(128, 128, 4), Tile(64, 64, 2)


def choose(rows, columns, count):
    """The large tile if every multiprocessor gets a block of it; the result has the same bits for each."""
    return LARGE if math.prod(grid(LARGE, rows, columns, count)) >= runtime.device().processors else SMALL


class Slice:
    """An operand's slice in shared memory: `width` rows of A or columns of B, and DEPTH of k."""

    def __init__(self, width, along_k, threads):
        self.width, self.along_k, self.threads = width, along_k, threads
        self.line = DEPTH + 4 if along_k else width + 8
        self.size = self.line * (width if along_k else DEPTH)

    def place(self, number, k):
        """Where a row of A or column of B, by number, has its number k."""
        return number * self.line + k if self.along_k else k * self.line + number

    def mover(self):
        """bring(x, base, first, k0, size, K, lead, shared, start): a device function that asks for the slice from k0 on."""
        width, threads, along_k, line = self.width, self.threads, self.along_k, self.line

        @device
        def bring_one(p, x, base, first, k0, size, K, lead, shared, start):
            place = cuda.threadIdx.x + p * threads
            if along_k:
                number, k = place // (DEPTH // 4), place % (DEPTH // 4) * 4
                inside = number + first < size and k + k0 < K
                bring16(shared, start + number * line + k, x, base + (number + first) * lead + k + k0 if inside else base, inside)
            else:
                number, k = place % (width // 4) * 4, place // (width // 4)
                inside = number + first < size and k + k0 < K
                bring16(shared, start + k * line + number, x, base + (k + k0) * lead + number + first if inside else base, inside)

        lines = [f"bring_one({p}, x, base, first, k0, size, K, lead, shared, start)" for p in range(width * DEPTH // 4 // threads)]
        return written_out("x, base, first, k0, size, K, lead, shared, start", lines, bring_one=bring_one)


def multiplier(tile, slice_a, slice_b):
    """sums += the products of a slice: a device function of (sums, a, at_a, b, at_b), all written out."""
    lines = []
    for k in range(0, DEPTH, 8):
        lines += [f"b{j}{half} = tf32(b, at_b + {slice_b.place(8 * j, k + 4 * half)})" for j in range(4) for half in range(2)]
        for i in range(tile.high):
            parts = [f"tf32(a, at_a + {slice_a.place(16 * i + row, k + more)})" for more in (0, 4) for row in (0, 8)]
            lines += [f"a0, a1, a2, a3 = {', '.join(parts)}"]
            lines += [f"mma(sums, {(4 * i + j) * 4}, a0, a1, a2, a3, b{j}0, b{j}1)" for j in range(4)]
    return written_out("sums, a, at_a, b, at_b", lines, tf32=tf32, mma=mma)


def finisher(tile, activation):
    """Write a thread's sums to C, with bias and activation."""
    activated = FUNCTIONS[activation]

    @device
    def write_two(first, second, c, at, row, M, column, N, bias, biased, add):
        if row < M:
            if column < N:
                total = first + c[at] if add else first
                c[at] = activated(total + bias[column] if biased else total)
            if column + 1 < N:
                total = second + c[at + 1] if add else second
                c[at + 1] = activated(total + bias[column + 1] if biased else total)

    lines = []
    for row in range(0, 16 * tile.high, 8):
        lines += [f"row = row0 + {row}", "at = base + row * N + column0"]
        for j in range(4):
            first = (row // 16 * 4 + j) * 4 + row // 8 % 2 * 2
            lines += [f"write_two(sums[{first}], sums[{first + 1}], c, at + {8 * j}, row, M, column0 + {8 * j}, N, bias, biased, add)"]
    return written_out("sums, c, base, row0, column0, M, N, bias, biased, add", lines, write_two=write_two)


@cache
def tf32_kernel(tile, a_along_k, b_along_k, activation):
    """The kernel for a tile, the way either operand lies, and an activation. Lines of both operands must start at multiples of 16 bytes and
    have a multiple of four numbers."""
    slice_a, slice_b = Slice(tile.rows, a_along_k, tile.threads), Slice(tile.columns, b_along_k, tile.threads)
    bring_a, bring_b = slice_a.mover(), slice_b.mover()
    multiply, finish = multiplier(tile, slice_a, slice_b), finisher(tile, activation)
    size_a, size_b, shared_a, shared_b = slice_a.size, slice_b.size, 2 * slice_a.size, 2 * slice_b.size
    number_a, k_a = (slice_a.place(1, 0), slice_a.place(0, 1))
    number_b, k_b = (slice_b.place(1, 0), slice_b.place(0, 1))
    tile_rows, tile_columns, warps_down, high, count = tile.rows, tile.columns, tile.warps_down, 16 * tile.high, 16 * tile.high

    @kernel(name=f"matmul_tf32_{tile.rows}x{tile.columns}_{'nt'[not a_along_k]}{'nt'[b_along_k]}_{activation or 'linear'}",
            threads=tile.threads, blocks=2)
    def matmul_tf32(a, b, c, bias, M, N, K, lead_a, lead_b, step_a, step_b, biased, add):
        """C = act(A B + bias), or with `add` act(C + A B + bias), for each matrix of a batch (blockIdx.z)."""
        room_a, room_b = cuda.shared.array(shared_a, np.float32, 16), cuda.shared.array(shared_b, np.float32, 16)
        sums = cuda.local.array(count, np.float32)
        warp, g, q = cuda.threadIdx.x // 32, cuda.threadIdx.x % 32 // 4, cuda.threadIdx.x % 4
        down, right = warp % warps_down * high, warp // warps_down * 32
        row0, column0 = cuda.blockIdx.x * tile_rows, cuda.blockIdx.y * tile_columns
        base_a, base_b = cuda.blockIdx.z * step_a, cuda.blockIdx.z * step_b
        own_a, own_b = (down + g) * number_a + q * k_a, (right + g) * number_b + q * k_b
        for i in range(count):
            sums[i] = typed(a, 0)
        bring_a(a, base_a, row0, 0, M, K, lead_a, room_a, 0)
        bring_b(b, base_b, column0, 0, N, K, lead_b, room_b, 0)
        at_a, at_b = 0, 0                                              # where the buffer in use starts
        for k0 in range(DEPTH, K + DEPTH, DEPTH):
            brought()
            cuda.syncthreads()                                         # the slice is there, and nobody reads the other buffer any more
            if k0 < K:
                bring_a(a, base_a, row0, k0, M, K, lead_a, room_a, size_a - at_a)
                bring_b(b, base_b, column0, k0, N, K, lead_b, room_b, size_b - at_b)
            multiply(sums, room_a, at_a + own_a, room_b, at_b + own_b)
            at_a, at_b = size_a - at_a, size_b - at_b
        finish(sums, c, cuda.blockIdx.z * M * N, row0 + down + g, column0 + right + 2 * q, M, N, bias, biased, add)

    return matmul_tf32
