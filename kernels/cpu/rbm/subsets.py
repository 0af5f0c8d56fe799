"""Products of a matrix of zeros and ones with one of numbers: a quarter of the additions, no multiplications.

A row of the product is a sum of those rows of W whose state is 1. Four rows of W have only sixteen possible sums: they are tabled once for
a panel of columns, and every row of states then takes one sum from the table where a product makes four multiply-adds. (Arlazarov,
Dinic, Kronrod & Faradzhev 1970, "the method of the four Russians", for graphs; here for a Gibbs step.) The bits of the states, four of
them a place in a table, are packed beforehand, sixteen to a word.

    loads and additions of a vector    M N K / 4 lanes          the product: M N K / lanes multiply-adds
    tables                             16 stores for 4 rows of W and a vector of columns, so it wants M of 50 and more

Tables of BLOCK words (16 rows of W each) stay in the first-level cache while all rows of states pass.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.cpu.matmul import simd
from kernels.cpu.matmul.packed import pack_b
from kernels.cpu.matmul.simd import I32, I64, _call, _data, _first_lanes, _vector
from kernels.jit import inner

WORD = 16                                                   # states in a word: four places in four tables
BLOCK = 5                                                   # words whose tables are in use at a time: 20 KiB of AVX-512 vectors
TALL, LOW = {"avx512": 24, "avx2": 12, "neon": 24}[simd.HOST], 4      # rows of a tile, whose sums are kept in registers
I16 = ir.IntType(16)


def _subset_sums(rows):
    """tile(words, wo, ldw, tables, blocks, sums, so): sums[r] += the sum over k of tables[4 k + i][(words[k, r] >> 4 i) & 15], i < 4

    A tile of `rows` rows and one vector of columns, the sums of a row following those of the row before, in registers while k counts
    the `blocks` words of a row. Word k of row r is words[wo + k * ldw + r].
    """
    @intrinsic
    def tile(typing_context, words, wo, ldw, tables, blocks, sums, so):
        vector, _ = _vector(sums)
        L = vector.count
        shift = (L * sums.dtype.bitwidth // 8).bit_length() - 1         # bytes of a vector, as a power of two
        size = 16 << shift                                              # bytes of a table

        def codegen(context, builder, signature, args):
            W, T, S = (_data(context, builder, signature, args, i) for i in (0, 3, 5))
            wo, ldw, blocks, so = (args[i] for i in (1, 2, 4, 6))
            places = [builder.bitcast(builder.gep(S, [builder.add(so, I64(r * L))]), vector.as_pointer()) for r in range(rows)]
            start = [builder.load(p, align=4) for p in places]
            pointer = ir.IntType(8).as_pointer()
            tables, words_of_first = builder.bitcast(T, pointer), builder.gep(W, [wo])
            before, loop, after = builder.block, builder.append_basic_block("words"), builder.append_basic_block("after_words")
            builder.branch(loop)
            builder.position_at_end(loop)
            k, base, line = builder.phi(I64), builder.phi(pointer), builder.phi(W.type)
            partial = [builder.phi(vector) for _ in range(rows)]
            for phi, value in ((k, I64(0)), (base, tables), (line, words_of_first), *zip(partial, start, strict=True)):
                phi.add_incoming(value, before)
            total = list(partial)
            for first in range(0, rows, 4):
                group = range(first, first + 4)
                found = [builder.zext(builder.load(builder.gep(line, [I64(r)])), I64) for r in group]
                for i in range(4):
                    moved = shift - 4 * i                   # the place's four bits are moved to where they count entries
                    for r, word in zip(group, found, strict=True):
                        byte = builder.shl(word, I64(moved)) if moved >= 0 else builder.lshr(word, I64(-moved))
                        byte = builder.and_(byte, I64(15 << shift))
                        sum_at = builder.gep(builder.gep(base, [I64(i * size)]), [byte])
                        total[r] = builder.fadd(total[r], builder.load(builder.bitcast(sum_at, vector.as_pointer()), align=4))
            following = builder.add(k, I64(1))
            steps = ((k, following), (base, builder.gep(base, [I64(4 * size)])), (line, builder.gep(line, [ldw])))
            for phi, value in (*steps, *zip(partial, total, strict=True)):
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, blocks), loop, after)
            builder.position_at_end(after)
            for place, value in zip(places, total, strict=True):
                builder.store(value, place, align=4)
            return context.get_dummy_value()

        return types.void(words, wo, ldw, tables, blocks, sums, so), codegen

    return tile


tall_tile, low_tile = _subset_sums(TALL), _subset_sums(LOW)


@intrinsic
def table_of_four(typing_context, w, wo, ldw, rows, columns, factor, table, to):
    """table[to + e * lanes:] = factor * the sum of those rows i of four at w[wo + i * ldw] whose bit i is set in e, for e = 0 .. 15.

    Rows from `rows` on are zeros, and so is what stands beyond the first `columns` numbers.
    """
    vector, suffix = _vector(w)
    L = vector.count

    def codegen(context, builder, signature, args):
        W, T = _data(context, builder, signature, args, 0), _data(context, builder, signature, args, 6)
        wo, ldw, rows, columns, to = (args[i] for i in (1, 2, 3, 4, 7))
        zero, nothing = ir.Constant(vector, [0.0] * L), I64(0)
        factor = simd._broadcast(builder, args[5], vector)
        four = []
        for i in range(4):
            there = builder.select(builder.icmp_signed("<", I64(i), rows), columns, nothing)
            place = builder.bitcast(builder.gep(W, [builder.add(wo, builder.mul(ldw, I64(i)))]), vector.as_pointer())
            loaded = _call(builder, f"llvm.masked.load.{suffix}.p0", vector, place, I32(4), _first_lanes(builder, there, 0, L), zero)
            four.append(builder.fmul(loaded, factor))
        sums = [zero]
        for row in four:
            sums += [builder.fadd(s, row) if s is not zero else row for s in sums]
        for e, value in enumerate(sums):
            builder.store(value, builder.bitcast(builder.gep(T, [builder.add(to, I64(e * L))]), vector.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(w, wo, ldw, rows, columns, factor, table, to), codegen


@intrinsic
def word_of(typing_context, x, at, count):
    """(the word whose bit i says that x[at + i] is not 0, the same for neither 0 nor 1) for the first `count` of sixteen numbers."""
    number = ir.FloatType() if x.dtype.bitwidth == 32 else ir.DoubleType()
    vector = ir.VectorType(number, WORD)
    suffix = f"v{WORD}f{x.dtype.bitwidth}"

    def codegen(context, builder, signature, args):
        place = builder.bitcast(builder.gep(_data(context, builder, signature, args, 0), [args[1]]), vector.as_pointer())
        zero, one = (ir.Constant(vector, [v] * WORD) for v in (0.0, 1.0))
        mask = _first_lanes(builder, args[2], 0, WORD)
        values = _call(builder, f"llvm.masked.load.{suffix}.p0", vector, place, I32(4), mask, zero)
        on, other = builder.fcmp_unordered("!=", values, zero), builder.fcmp_unordered("!=", values, one)
        words = [builder.bitcast(bits, I16) for bits in (on, builder.and_(on, other))]
        return context.make_tuple(builder, signature.return_type, words)

    return types.UniTuple(types.uint16, 2)(x, at, count), codegen


@inner
def padded(rows):
    """Rows for which there is room in words and sums: tiles may have rows to spare."""
    return (rows + TALL - 1) // TALL * TALL


@inner
def pack_rows(x, first, stop, M, K, words):
    """words[k' * padded(M) + m] = the bits of x[m, 16 k' ..] for rows first .. stop - 1 of x (M, K); whether all are 0 or 1."""
    wrong, ldw = np.uint16(0), padded(M)
    for m in range(first, stop):
        for k in range(0, K, WORD):
            word, other = word_of(x, m * K + k, min(WORD, K - k))
            words[np.uint64(k // WORD * ldw + m)] = word
            wrong |= other
    return wrong == 0


@inner
def pack_columns(x, q, M, K, words, start):
    """words[start + q * padded(M) + m] = the bits of x[16 q .., m], for all columns m of x (K, M); whether all are 0 or 1."""
    wrong, line = 0, words[start + q * padded(M):][:M]
    line[:] = 0
    for k in range(q * WORD, min(K, (q + 1) * WORD)):
        row, bit = x[k * M:][:M], np.uint16(1 << (k - q * WORD))
        for m in range(M):
            line[m] |= bit if row[m] != 0 else np.uint16(0)
            wrong |= np.int64((row[m] != 0) & (row[m] != 1))
    return wrong == 0


@inner
def aligned(count, like):
    """An empty array of `count` numbers of like's type that begins on a cache line: a vector across two lines takes two loads."""
    array = np.empty(count + 64 // like.itemsize, like.dtype)
    return array[(-array.ctypes.data & 63) // like.itemsize:]


@inner
def add_sums(words, start, M, first, stop, w, at, transposed, ldw, K, factor, sums, columns):
    """sums[r * lanes + c] += factor * (states @ W)[first + r, c] for rows first .. stop - 1, and one vector of W's columns from `at` on.

    Word k' of row m is words[start + k' * padded(M) + m]. W (K, ...) lies in lines ldw apart, as it is or transposed. The order of the
    additions depends on K alone.
    """
    line, L, count = padded(M), simd.lanes(w), (K + WORD - 1) // WORD
    tables = aligned(BLOCK * 4 * 16 * L, w)
    panel = np.empty(BLOCK * WORD * L if transposed else 0, w.dtype)
    for q in range(0, count, BLOCK):
        blocks, k0 = min(BLOCK, count - q), q * WORD
        if transposed:
            pack_b(w, at + k0, 1, ldw, panel, L, columns, min(K - k0, blocks * WORD))
        for i in range(4 * blocks):
            k = k0 + 4 * i
            if transposed:
                table_of_four(panel, 4 * i * L, L, K - k, columns, factor, tables, i * 16 * L)
            else:
                table_of_four(w, at + k * ldw, ldw, K - k, columns, factor, tables, i * 16 * L)
        r = first
        while r < stop:
            if stop - r > TALL * 3 // 4:
                tall_tile(words, start + q * line + r, line, tables, blocks, sums, (r - first) * L)
                r += TALL
            else:
                low_tile(words, start + q * line + r, line, tables, blocks, sums, (r - first) * L)
                r += LOW
