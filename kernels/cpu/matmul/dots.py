"""Tiles of scalar products, for a right operand that lies along k as the left one does: nothing is packed or turned first."""

import itertools

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.cpu.matmul.simd import I32, I64, _call, _data, _first_lanes, _vector


def dot_product(rows, vectors):
    """tile(a, ao, lda, places, b, bo, ldb, c, co, ldc, used): a tile of C in registers, both operands read along k.

    C[v, r] += sum_k sum over lanes of  a[ao + r * lda + places[k] + lane] * b[bo + v * ldb + k * lanes + lane]     r < rows, v < vectors

    up to a negative place, of which `places` has one at least after the first. C[v, r] is c[co + v * ldc + r], written for r < used only.
    Each lane has a sum of its own, and in the end the lanes are added by shuffles. Nothing is packed or turned, but a load serves only
    `rows` or `vectors` products. With a count of steps LLVM would unroll the loop, and move accumulators to memory and back.
    """
    @intrinsic
    def tile(typing_context, a, ao, lda, places, b, bo, ldb, c, co, ldc, used):
        vector, suffix = _vector(a)
        L = vector.count

        def codegen(context, builder, signature, args):
            A, P, B, C = (_data(context, builder, signature, args, i) for i in (0, 3, 4, 7))
            ao, lda, bo, ldb, co, ldc = (args[i] for i in (1, 2, 5, 6, 8, 9))
            used = builder.select(builder.icmp_signed("<", args[10], I64(rows)), args[10], I64(rows))
            last, zero = builder.sub(used, I64(1)), ir.Constant(vector, [0.0] * L)
            at = [builder.select(builder.icmp_signed("<", last, I64(r)), last, I64(r)) for r in range(rows)]
            lines = [builder.gep(A, [builder.add(ao, builder.mul(lda, r))]) for r in at]
            columns = [builder.gep(B, [builder.add(bo, builder.mul(ldb, I64(v)))]) for v in range(vectors)]
            total = _dot_products(builder, lines, columns, P, vector, suffix)
            for v in range(vectors):
                for r in range(0, rows, L):
                    place = builder.gep(C, [builder.add(builder.add(co, builder.mul(ldc, I64(v))), I64(r))])
                    place, mask = builder.bitcast(place, vector.as_pointer()), _first_lanes(builder, used, r, L)
                    old = _call(builder, f"llvm.masked.load.{suffix}.p0", vector, place, I32(4), mask, zero)
                    result = builder.fadd(old, _sums_of_lanes(builder, [sums[v] for sums in total[r:r + L]], vector))
                    _call(builder, f"llvm.masked.store.{suffix}.p0", ir.VoidType(), result, place, I32(4), mask)
            return context.get_dummy_value()

        return types.void(a, ao, lda, places, b, bo, ldb, c, co, ldc, used), codegen

    return tile


def _dot_products(builder, lines, columns, places, vector, suffix):
    """The loop over k of dot_product; returns the accumulators as [line][column]."""
    before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("after_k")
    first = builder.load(places)
    builder.branch(loop)
    builder.position_at_end(loop)
    k, place, sums = builder.phi(I64), builder.phi(I64), [[builder.phi(vector) for _ in columns] for _ in lines]

    def load(line, at):
        return builder.load(builder.bitcast(builder.gep(line, [at]), vector.as_pointer()), align=4)

    right, total = [load(column, builder.mul(k, I64(vector.count))) for column in columns], []
    for line, row in zip(lines, sums, strict=True):
        left = load(line, place)
        total.append([_call(builder, f"llvm.fma.{suffix}", vector, left, *pair) for pair in zip(right, row, strict=True)])
    following = builder.add(k, I64(1))
    next_place = builder.load(builder.gep(places, [following]))
    zero, of_sums = ir.Constant(vector, [0.0] * vector.count), zip(itertools.chain(*sums), itertools.chain(*total), strict=True)
    for phi, start, value in ((k, I64(0), following), (place, first, next_place), *((s, zero, t) for s, t in of_sums)):
        phi.add_incoming(start, before)
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed(">=", next_place, I64(0)), loop, after)
    builder.position_at_end(after)
    return total


def _sums_of_lanes(builder, vectors, vector):
    """A vector whose lane i is the sum of the lanes of vectors[i]; their number is a power of two."""
    L, count, distance = vector.count, len(vectors), len(vectors) // 2

    def shuffled(a, b, lanes):
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, L), lanes))

    while distance:                                       # two vectors become one, which keeps half of the lanes of each for itself
        keep = [c if not c & distance else L + c for c in range(L)]
        swap = [c + distance if not c & distance else L + c - distance for c in range(L)]
        pairs = zip(vectors[:distance], vectors[distance:], strict=True)
        vectors = [builder.fadd(shuffled(*pair, keep), shuffled(*pair, swap)) for pair in pairs]
        distance //= 2
    total = vectors[0]
    while count < L:
        total = builder.fadd(total, shuffled(total, total, [c ^ count for c in range(L)]))
        count *= 2
    return total
