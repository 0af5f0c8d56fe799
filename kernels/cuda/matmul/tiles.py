"""The main loop of the fast products of float32 numbers: tiles of C = A B in registers, fed from shared memory, two buffers in turn.

    block     works on a tile of C, `rows` x `columns`, and goes along k in steps of DEPTH
    warp      has a part of it of 8 x 4 threads, so that a read of shared memory serves several threads at once
    thread    keeps `side` x `side` sums in registers: as blocks of 4 x 4, each fed by one load of four numbers of A and one of B

Shared memory holds a slice of A and one of B, both with k as the slow direction: A's rows, and B's columns, lie side by side. While the
threads multiply one slice, the next is on its way from memory into registers; it then goes into the other buffer, and one
barrier for each slice is enough.

A kernel is made of two loaders, which know how an operand lies, this loop, and a finisher, which knows where results go: of plain
matrices here and in products.py, of pictures in kernels/cuda/conv/, of draws in kernels/cuda/rbm.py.

Each sum is one chain of multiply-adds in the order of k, whatever the tile: the same bits on every GPU.
"""

import math
from typing import NamedTuple

import numpy as np

from kernels.cuda import runtime
from kernels.cuda.compiler import cuda, device, ld4, outer4, put, st4, typed

DEPTH = 16
MOST = 65_535
PAD = 4           # numbers between the lines of a slice: turned numbers then fall into different banks of shared memory


class Tile(NamedTuple):
    """rows x columns of C for each block; side x side for each thread."""

    rows: int
    columns: int
    side: int

    @property
    def threads(self): return self.rows * self.columns // self.side ** 2


LARGE, MEDIUM, SMALL = Tile(128, 128, 8), Tile(64, 64, 8), Tile(32, 32, 4)


def grid(tile, rows, columns, count=1):
    """(tiles down, tiles across, `count` results): blocks along x, where there is room for 2^31, along y and along z, for MOST each."""
    return -(-rows // tile.rows), -(-columns // tile.columns), count


def choose(rows, columns, count):
    """The largest tile that is not half empty and gives every multiprocessor a block; the result has the same bits for each."""
    for tile in (LARGE, MEDIUM):
        if 2 * min(rows, columns) > tile.rows and math.prod(grid(tile, rows, columns, count)) >= runtime.device().processors:
            return tile
    return SMALL


BLOCKS, SHORTEST = 256, 256          # blocks that a GPU should have to do, and the k that is worth one


def split(rows, columns, K):
    """(parts, length): into how many sums over k, each of `length`, a product is cut that would be few tiles. By the shapes alone, so
    that every GPU adds up alike."""
    parts = min(BLOCKS // math.prod(grid(MEDIUM, rows, columns)), K // SHORTEST)
    if parts < 2:
        return 1, K
    length = -(-K // (parts * DEPTH)) * DEPTH
    return -(-K // length), length


def written_out(arguments, lines, **names):
    """A device function from lines of source: what selects registers must be written as literals, and loops are not unrolled reliably."""
    scope = {**names}
    exec(compile("\n    ".join([f"def function({arguments}):", *lines]), "<written out>", "exec"), scope)
    return device(scope["function"])


# ---- loaders --------------------------------------------------------------------------------------------------------

class Loader(NamedTuple):
    """How the slices of an operand, DEPTH x width, come from memory into registers and from there into shared memory.

    fetch     device function of (operand, k0, held): this thread's numbers of the slice from k0 on, 0 where the operand ends;
              `operand` is a tuple of whatever it takes to find them
    store     device function of (held, shared, start): the same on into the slice that starts at shared[start]
    held      how many numbers these are
    """

    fetch: object
    store: object
    held: int


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


def matrix_loader(width, threads, along_k, vectors):
    """The Loader of a matrix as (x, base, first, size, K, lead): it starts at x[base], its lines lie `lead` apart, and of its `size` rows
    of A, or columns of B, the slice has those from `first` on.

    A matrix lies "along k" if its neighbours in memory differ in k (A as it is, B transposed), otherwise across. Either way four
    neighbours are loaded at once; those along k are turned on their way into shared memory. Without `vectors`, where lines do not start
    at multiples of 16 bytes, numbers are loaded one by one.
    """
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
    def fetch_one(p, operand, k0):
        x, base, first, size, K, lead = operand
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

    fetches = [f"st4(held, {4 * p}, *fetch_one({p}, operand, k0))" for p in range(count)]
    stores = [f"store_one({p}, ld4(held, {4 * p}), shared, start)" for p in range(count)]
    return Loader(written_out("operand, k0, held", fetches, fetch_one=fetch_one, st4=st4),
                  written_out("held, shared, start", stores, store_one=store_one, ld4=ld4), 4 * count)


# ---- the loop -------------------------------------------------------------------------------------------------------

def multiplier(tile):
    """sums += the products of a slice: a device function of (sums, slice_a, at_a, slice_b, at_b), all DEPTH steps written out."""
    side, parts, lines = tile.side, range(tile.side // 4), []
    for k in range(DEPTH):
        lines += [f"a{i} = ld4(slice_a, at_a + {k * (tile.rows + PAD) + i * 32})" for i in parts]
        lines += [f"b{j} = ld4(slice_b, at_b + {k * (tile.columns + PAD) + j * 16})" for j in parts]
        lines += [f"outer4(sums, {i * 4 * side + j * 4}, {side}, a{i}, b{j})" for i in parts for j in parts]
    return written_out("sums, slice_a, at_a, slice_b, at_b", lines, ld4=ld4, outer4=outer4)


def corner(tile):
    """A device function: (row, column) in the tile of this thread's first sum."""
    side, warps_down = tile.side, tile.rows // (8 * tile.side)

    @device
    def thread_corner():
        warp, lane = cuda.threadIdx.x // 32, cuda.threadIdx.x % 32
        return warp % warps_down * 8 * side + lane // 4 * 4, warp // warps_down * 4 * side + lane % 4 * 4
    return thread_corner


def main_loop(tile, loader_a, loader_b):
    """A device function of (sums, a, b, begin, end): this thread's sums = A B over k = begin .. end - 1 for the operands a and b of the
    loaders. What lies from K on these take for 0; an `end` before that must be whole slices away from `begin`."""
    fetch_a, store_a, held_by_a = loader_a
    fetch_b, store_b, held_by_b = loader_b
    size_a, size_b = DEPTH * (tile.rows + PAD), DEPTH * (tile.columns + PAD)
    shared_a, shared_b, count = 2 * size_a, 2 * size_b, tile.side ** 2
    multiply, thread_corner = multiplier(tile), corner(tile)

    @device
    def loop(sums, a, b, begin, end):
        slice_a, slice_b = cuda.shared.array(shared_a, np.float32, 16), cuda.shared.array(shared_b, np.float32, 16)
        held_a, held_b = cuda.local.array(held_by_a, np.float32), cuda.local.array(held_by_b, np.float32)
        down, right = thread_corner()
        for i in range(count):
            sums[i] = np.float32(0)
        fetch_a(a, begin, held_a)
        fetch_b(b, begin, held_b)
        store_a(held_a, slice_a, 0)
        store_b(held_b, slice_b, 0)
        cuda.syncthreads()
        at_a, at_b = 0, 0                                              # where the buffer in use starts
        for k0 in range(begin + DEPTH, end + DEPTH, DEPTH):
            if k0 < end:
                fetch_a(a, k0, held_a)
                fetch_b(b, k0, held_b)
            multiply(sums, slice_a, at_a + down, slice_b, at_b + right)
            if k0 < end:
                at_a, at_b = size_a - at_a, size_b - at_b
                store_a(held_a, slice_a, at_a)
                store_b(held_b, slice_b, at_b)
                cuda.syncthreads()
    return loop


# ---- finishers ------------------------------------------------------------------------------------------------------

def finisher(tile, locate, write):
    """A device function of (sums, out, row0, column0) that hands a thread's sums on, four neighbours of a row at a time.

    locate(column, out) is called once for each four columns, and tells write(four, place, row, out) what they have in common; `out` is a
    tuple of whatever these two need.
    """
    side, thread_corner = tile.side, corner(tile)
    lines = ["down, right = thread_corner()"]
    lines += [f"place{j} = locate(column0 + right + {j * 16}, out)" for j in range(side // 4)]
    for i in range(side):
        lines += [f"row = row0 + down + {i // 4 * 32 + i % 4}"]
        lines += [f"write(ld4(sums, {i * side + j * 4}), place{j}, row, out)" for j in range(side // 4)]
    return written_out("sums, out, row0, column0", lines, locate=locate, write=write, ld4=ld4, thread_corner=thread_corner)
