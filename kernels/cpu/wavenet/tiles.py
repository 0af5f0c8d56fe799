"""Tiles of products between small local arrays, and what brings numbers there.

All such arrays are whole tiles, filled up with zeros: nothing needs a mask, and a tile is short code. What a register tile holds
follows the host (matmul/simd.py):

                  tall: rows x vectors    wide: rows x vectors    accumulators
    AVX-512        8 x 2                   4 x 4                   16
    AVX2           8 x 1                   4 x 2                    8
    NEON           8 x 2                   4 x 4                   16

A panel is as wide as the wide tile. Of the two products for each channel it holds those of HALF channels: first all that get a tanh, then
all that get a sigmoid. A half panel is as wide as the tall tile.
"""

import itertools

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.cpu.matmul import simd
from kernels.cpu.matmul.simd import I64, _accumulate, _broadcast, _call, _data, _vector
from kernels.jit import inner

WIDE_VECTORS = {"avx512": 4, "avx2": 2, "neon": 4}[simd.HOST]
HALF_BYTES = WIDE_VECTORS // 2 * simd.VECTOR_BYTES
WIDE_ROWS, TALL_ROWS = 4, 8


def _tile(rows, vectors):
    """tile(a, ao, ra, ka, b, bo, ldb, c, co, ldc, kb): C += A B with C[r, :] at c[co + r * ldc], for whole vectors.

    C[r, :] += sum over k < kb of a[ao + r * ra + k * ka] * b[bo + k * ldb + (0 .. vectors * lanes - 1)]
    """
    @intrinsic
    def tile(typing_context, a, ao, ra, ka, b, bo, ldb, c, co, ldc, kb):
        vector, suffix = _vector(a)

        def codegen(context, builder, signature, args):
            A, B, C = (_data(context, builder, signature, args, i) for i in (0, 4, 7))
            _, ao, ra, ka, _, bo, ldb, _, co, ldc, kb = args
            total = _accumulate(builder, builder.gep(A, [ao]), ra, ka, builder.gep(B, [bo]), ldb, kb, vector, suffix, rows, vectors)
            for r, row in enumerate(total):
                line = builder.gep(C, [builder.add(co, builder.mul(ldc, I64(r)))])
                for v, value in enumerate(row):
                    place = builder.bitcast(builder.gep(line, [I64(v * vector.count)]), vector.as_pointer())
                    builder.store(builder.fadd(builder.load(place, align=4), value), place, align=4)
            return context.get_dummy_value()

        return types.void(a, ao, ra, ka, b, bo, ldb, c, co, ldc, kb), codegen

    return tile


wide_tile, tall_tile = _tile(WIDE_ROWS, WIDE_VECTORS), _tile(TALL_ROWS, WIDE_VECTORS // 2)


def _line_tile(rows, vectors, ways):
    """The same for few rows, which lie along k, and a `kb` divisible by `ways`: each sum is cut into so many, of every ways-th term, that
    do not wait for each other. What is in C begins the first one."""
    @intrinsic
    def tile(typing_context, a, ao, ra, b, bo, ldb, c, co, ldc, kb):
        vector, suffix = _vector(a)
        L = vector.count

        def codegen(context, builder, signature, args):
            A, B, C = (_data(context, builder, signature, args, i) for i in (0, 3, 6))
            _, ao, ra, _, bo, ldb, _, co, ldc, kb = args
            lines = [builder.gep(A, [builder.add(ao, builder.mul(ra, I64(r)))]) for r in range(rows)]
            places = [[_vector_place(builder, C, builder.add(co, builder.mul(ldc, I64(r))), v, vector) for v in range(vectors)]
                      for r in range(rows)]
            zero = ir.Constant(vector, [0.0] * L)
            first = [[[builder.load(place, align=4) if way == 0 else zero for place in row] for row in places] for way in range(ways)]
            top = builder.gep(B, [bo])
            before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("after_k")
            builder.branch(loop)
            builder.position_at_end(loop)
            k, row = builder.phi(I64), builder.phi(B.type)
            sums = [[[builder.phi(vector) for _ in range(vectors)] for _ in range(rows)] for _ in range(ways)]
            total, following, below = [], builder.add(k, I64(ways)), row
            for way in range(ways):
                right = [builder.load(_vector_place(builder, below, I64(0), v, vector), align=4) for v in range(vectors)]
                left = [_broadcast(builder, builder.load(builder.gep(line, [builder.add(k, I64(way))])), vector) for line in lines]
                total.append([[_call(builder, f"llvm.fma.{suffix}", vector, left[r], right[v], sums[way][r][v]) for v in range(vectors)]
                              for r in range(rows)])
                below = builder.gep(below, [ldb])
            for phi, start, value in ((k, I64(0), following), (row, top, below),
                                      *zip(_all(sums), _all(first), _all(total), strict=True)):
                phi.add_incoming(start, before)
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, kb), loop, after)
            builder.position_at_end(after)
            for r, v in itertools.product(range(rows), range(vectors)):
                parts = [total[way][r][v] for way in range(ways)]
                while len(parts) > 1:
                    parts = [builder.fadd(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
                builder.store(parts[0], places[r][v], align=4)
            return context.get_dummy_value()

        return types.void(a, ao, ra, b, bo, ldb, c, co, ldc, kb), codegen

    return tile


def _vector_place(builder, base, at, v, vector):
    """Pointer to vector v from number `at` on."""
    return builder.bitcast(builder.gep(base, [builder.add(at, I64(v * vector.count))]), vector.as_pointer())


def _all(nested):
    return [x for plane in nested for row in plane for x in row]


one_line, two_lines = _line_tile(1, WIDE_VECTORS, 2), _line_tile(2, WIDE_VECTORS, 2)
one_half_line, two_half_lines = _line_tile(1, WIDE_VECTORS // 2, 4), _line_tile(2, WIDE_VECTORS // 2, 4)


@inner
def add_lines(a, ao, ra, b, bo, c, co, ldc, kb, rows, width):
    """C (rows, width) += A (rows, kb) B for few rows; the panels of B, one after the other, begin at bo. A row has the same bits beside
    any others."""
    wide = WIDE_VECTORS * simd.lanes(c)
    for j in range(width // wide):
        r, at = 0, bo + j * wide * kb
        while r + 2 <= rows:
            two_lines(a, ao + r * ra, ra, b, at, wide, c, co + r * ldc + j * wide, ldc, kb)
            r += 2
        if r < rows:
            one_line(a, ao + r * ra, ra, b, at, wide, c, co + r * ldc + j * wide, ldc, kb)


@inner
def add_half_lines(a, ao, ra, b, bo, c, co, ldc, kb, rows, width):
    """The same for half panels."""
    half = WIDE_VECTORS // 2 * simd.lanes(c)
    for j in range(width // half):
        r, at = 0, bo + j * half * kb
        while r + 2 <= rows:
            two_half_lines(a, ao + r * ra, ra, b, at, half, c, co + r * ldc + j * half, ldc, kb)
            r += 2
        if r < rows:
            one_half_line(a, ao + r * ra, ra, b, at, half, c, co + r * ldc + j * half, ldc, kb)


@inner
def add_wide(a, ao, ra, ka, b, bo, ldb, step, c, co, ldc, kb, rows, width):
    """C (rows, width) += A (rows, kb) B, `width` in whole panels; panel number j of B begins at bo + j * step."""
    wide = WIDE_VECTORS * simd.lanes(c)
    for j in range(width // wide):
        for r in range(0, rows, WIDE_ROWS):
            wide_tile(a, ao + r * ra, ra, ka, b, bo + j * step, ldb, c, co + r * ldc + j * wide, ldc, kb)


@inner
def add_tall(a, ao, ra, ka, b, bo, ldb, step, c, co, ldc, kb, rows, width):
    """The same for half panels."""
    half = WIDE_VECTORS // 2 * simd.lanes(c)
    for j in range(width // half):
        for r in range(0, rows, TALL_ROWS):
            tall_tile(a, ao + r * ra, ra, ka, b, bo + j * step, ldb, c, co + r * ldc + j * half, ldc, kb)


@inner
def aligned(room):
    """Where the first cache line of an array begins."""
    return (-room.ctypes.data % 64) // room.itemsize


@inner
def take(x, at, count, room, to, width):
    """room[to:to + width] = x[at:at + count], and zeros behind it; width in whole vectors."""
    L = simd.lanes(x)
    for v in range(0, width, L):
        simd.copy_first(x, at + v, count - v, room, to + v)


@inner
def give(room, at, y, to, count, width):
    """y[to:to + count] = room[at:at + count]; width, in whole vectors, is at least that."""
    L = simd.lanes(y)
    for v in range(0, width, L):
        simd.copy_only(room, at + v, count - v, y, to + v)


@inner
def clear(room, to, width):
    L = simd.lanes(room)
    for v in range(0, width, L):
        simd.zeros(room, to + v)
