"""The fast product of float32 matrices: tiles of C in registers, fed from shared memory by vector loads, two buffers in turn.

    block     works on a tile of C, `rows` x `columns`, and goes along k in steps of DEPTH
    warp      has a part of it of 8 x 4 threads, so that a read of shared memory serves several threads at once
    thread    keeps `side` x `side` sums in registers: as blocks of 4 x 4, each fed by one load of four numbers of A and one of B

Shared memory holds a slice of A and one of B, both with k as the slow direction: A's rows, and B's columns, lie side by side. While the
threads multiply one slice, the next is on its way from memory into registers; it then goes into the other buffer, and one
barrier for each slice is enough.

An operand lies "along k" if its neighbours in memory differ in k (A as it is, B transposed), otherwise across. Either way four
neighbours are loaded at once; those along k are turned on their way into shared memory. Where lines do not start at multiples of
16 bytes, numbers are loaded one by one.

Each element of C is one chain of multiply-adds in the order of k, whatever the tiles: the same bits on every GPU.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from kernels.cuda.compiler import cuda, device, kernel, ld4, outer4, put, st4, typed
from kernels.cuda.matmul.plain import FUNCTIONS

DEPTH = 16
PAD = 4           # numbers between the lines of a slice: turned numbers then fall into different banks of shared memory


class Tile(NamedTuple):
    """rows x columns of C for each block; side x side for each thread."""

    rows: int
    columns: int
    side: int

    @property
    def threads(self): return self.rows * self.columns // self.side ** 2


LARGE, MEDIUM, SMALL = Tile(128, 128, 8), Tile(64, 64, 8), Tile(32, 32, 4)


def written_out(arguments, lines, **names):
    """A device function from lines of source: what selects registers must be written as literals, and loops are not unrolled reliably."""
    scope = {**names}
    exec(compile("\n    ".join([f"def function({arguments}):", *lines]), "<written out>", "exec"), scope)
    return device(scope["function"])


@device
def fetch_vector(x, at, inside, left):
    """Four neighbours from x[at] on if they lie inside the matrix, else zeros; lines have a multiple of four numbers."""
    if inside and left > 0:
        return ld4(x, at)
    zero = typed(x, 0)
    return zero, zero, zero, zero


@device
def fetch_singly(x, at, inside, left):
    """Four neighbours from x[at] on, each 0 if it does not lie inside the matrix; `left` numbers are left on the line."""
    zero = typed(x, 0)
    return (x[at] if inside and left > 0 else zero, x[at + 1] if inside and left > 1 else zero,
            x[at + 2] if inside and left > 2 else zero, x[at + 3] if inside and left > 3 else zero)


def slice_mover(width, threads, along_k, vectors):
    """(fetch, store): device functions that bring a slice of an operand, DEPTH x width, into registers, and on into shared memory."""
    fetch4 = fetch_vector if vectors else fetch_singly
    count = width * DEPTH // 4 // threads                   # loads of each thread
    line = width + PAD

    @device
    def place(p):
        """(k, column) in the slice of load number p of this thread."""
        number = cuda.threadIdx.x + p * threads
        if along_k:
            return number % (DEPTH // 4) * 4, number // (DEPTH // 4)
        return number // (width // 4), number % (width // 4) * 4

    @device
    def fetch_one(p, x, base, first, k0, size, K, lead):
        k, column = place(p)
        k, column = k + k0, column + first
        if along_k:
            return fetch4(x, base + column * lead + k, column < size, K - k)
        return fetch4(x, base + k * lead + column, k < K, size - column)

    @device
    def store_one(p, four, shared, start):
        k, column = place(p)
        at = start + k * line + column
        if along_k:
            put(shared, at, four[0])
            put(shared, at + line, four[1])
            put(shared, at + 2 * line, four[2])
            put(shared, at + 3 * line, four[3])
        else:
            st4(shared, at, four[0], four[1], four[2], four[3])

    fetches = [f"st4(held, {4 * p}, *fetch_one({p}, x, base, first, k0, size, K, lead))" for p in range(count)]
    stores = [f"store_one({p}, ld4(held, {4 * p}), shared, start)" for p in range(count)]
    return (written_out("x, base, first, k0, size, K, lead, held", fetches, fetch_one=fetch_one, st4=st4),
            written_out("held, shared, start", stores, store_one=store_one, ld4=ld4), 4 * count)


def multiplier(tile):
    """sums += the products of a slice: a device function of (sums, slice_a, at_a, slice_b, at_b), all DEPTH steps written out."""
    side, parts, lines = tile.side, range(tile.side // 4), []
    for k in range(DEPTH):
        lines += [f"a{i} = ld4(slice_a, at_a + {k * (tile.rows + PAD) + i * 32})" for i in parts]
        lines += [f"b{j} = ld4(slice_b, at_b + {k * (tile.columns + PAD) + j * 16})" for j in parts]
        lines += [f"outer4(sums, {i * 4 * side + j * 4}, {side}, a{i}, b{j})" for i in parts for j in parts]
    return written_out("sums, slice_a, at_a, slice_b, at_b", lines, ld4=ld4, outer4=outer4)


def finisher(side, vectors, activation):
    """Write a thread's sums to C: a device function, all rows written out. Bias and activation belong to it, so that C is written once."""
    activated = FUNCTIONS[activation]

    @device
    def finish(total, column, bias, biased):
        return activated(total + bias[column] if biased else total)

    @device
    def write_four(four, c, at, inside, column, N, bias, biased, add):
        """Four neighbours of C from c[at] on."""
        if inside and column < N:
            if vectors:
                before = ld4(c, at) if add else (typed(c, 0), typed(c, 0), typed(c, 0), typed(c, 0))
                st4(c, at, finish(before[0] + four[0], column, bias, biased), finish(before[1] + four[1], column + 1, bias, biased),
                    finish(before[2] + four[2], column + 2, bias, biased), finish(before[3] + four[3], column + 3, bias, biased))
            else:
                for q in range(4):
                    if column + q < N:
                        value = four[q] + c[at + q] if add else four[q]
                        c[at + q] = finish(value, column + q, bias, biased)

    lines = []
    for i in range(side):
        lines += [f"row = row0 + {i // 4 * 32 + i % 4}", "at = base + row * N + column0"]
        lines += [f"write_four(ld4(sums, {i * side + j * 4}), c, at + {j * 16}, row < M, column0 + {j * 16}, N, bias, biased, add)"
                  for j in range(side // 4)]
    return written_out("sums, c, base, row0, column0, M, N, bias, biased, add", lines, write_four=write_four, ld4=ld4)


@cache
def tiled_kernel(tile, a_along_k, b_along_k, vectors_a, vectors_b, vectors_c, activation):
    """The kernel for a tile, the way either operand lies, whether they and C can be read and written by fours, and an activation."""
    threads, side, tile_rows, tile_columns = tile.threads, tile.side, tile.rows, tile.columns
    fetch_a, store_a, held_by_a = slice_mover(tile.rows, threads, a_along_k, vectors_a)
    fetch_b, store_b, held_by_b = slice_mover(tile.columns, threads, b_along_k, vectors_b)
    multiply, finish = multiplier(tile), finisher(side, vectors_c, activation)
    size_a, size_b = DEPTH * (tile.rows + PAD), DEPTH * (tile.columns + PAD)
    warps_down = tile.rows // (8 * side)
    shared_a, shared_b, count = 2 * size_a, 2 * size_b, side * side
    name = (f"matmul_{tile.rows}x{tile.columns}_{'nt'[not a_along_k]}{'nt'[b_along_k]}_{'vs'[not vectors_a]}{'vs'[not vectors_b]}"
            f"{'vs'[not vectors_c]}_{activation or 'linear'}")

    two = tile is LARGE and vectors_a and vectors_b and vectors_c        # blocks at once; single numbers take more registers

    @kernel(name=name, threads=threads, blocks=2 if two else None)
    def matmul_tiled(a, b, c, bias, M, N, K, lead_a, lead_b, step_a, step_b, biased, add):
        """C = act(A B + bias), or with `add` act(C + A B + bias), for each matrix of a batch (blockIdx.z)."""
        slice_a, slice_b = cuda.shared.array(shared_a, np.float32), cuda.shared.array(shared_b, np.float32)
        sums = cuda.local.array(count, np.float32)
        held_a, held_b = cuda.local.array(held_by_a, np.float32), cuda.local.array(held_by_b, np.float32)
        warp, lane = cuda.threadIdx.x // 32, cuda.threadIdx.x % 32
        down = warp % warps_down * 8 * side + lane // 4 * 4           # this thread's first row and column in the tile
        right = warp // warps_down * 4 * side + lane % 4 * 4
        row0, column0 = cuda.blockIdx.y * tile_rows, cuda.blockIdx.x * tile_columns
        base_a, base_b = cuda.blockIdx.z * step_a, cuda.blockIdx.z * step_b
        for i in range(count):
            sums[i] = typed(a, 0)
        fetch_a(a, base_a, row0, 0, M, K, lead_a, held_a)
        fetch_b(b, base_b, column0, 0, N, K, lead_b, held_b)
        store_a(held_a, slice_a, 0)
        store_b(held_b, slice_b, 0)
        cuda.syncthreads()
        at_a, at_b = 0, 0                                              # where the buffer in use starts
        for k0 in range(DEPTH, K + DEPTH, DEPTH):
            if k0 < K:
                fetch_a(a, base_a, row0, k0, M, K, lead_a, held_a)
                fetch_b(b, base_b, column0, k0, N, K, lead_b, held_b)
            multiply(sums, slice_a, at_a + down, slice_b, at_b + right)
            if k0 < K:
                at_a, at_b = size_a - at_a, size_b - at_b
                store_a(held_a, slice_a, at_a)
                store_b(held_b, slice_b, at_b)
                cuda.syncthreads()
        finish(sums, c, cuda.blockIdx.z * M * N, row0 + down, column0 + right, M, N, bias, biased, add)

    return matmul_tiled
