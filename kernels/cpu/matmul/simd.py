"""Vector instructions for matrix products, as Numba intrinsics in LLVM's own language.

LLVM vectorises simple loops by itself, but it does not keep a block of a matrix in registers. These intrinsics say exactly what the
registers hold. Widths and tile shapes follow the host:

    registers                  vector    tile of C (rows x vectors)    accumulators
    AVX-512   32 x 64 bytes    64        12 x 2                        24
    AVX2      16 x 32 bytes    32         6 x 2                        12
    NEON      32 x 16 bytes    16         8 x 3                        24
"""

import math

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels import config

SHAPES = {"avx512": (64, 12, 2), "avx2": (32, 6, 2), "neon": (16, 8, 3)}      # bytes of a vector, rows, vectors
CONV_SHAPES = {"avx512": (8, 3), "avx2": (4, 3), "neon": (8, 3)}              # rows, vectors: channels come in eights
I32, I64 = ir.IntType(32), ir.IntType(64)


def _host():
    """The widest of SHAPES that this machine has, unless SCRATCHNN_SIMD names one."""
    if config.SIMD != "auto":
        return config.SIMD
    features = llvm.get_host_cpu_features()
    return "avx512" if features.get("avx512f") else "avx2" if features.get("avx2") and features.get("fma") else "neon"


HOST = _host()
VECTOR_BYTES, ROWS, VECTORS = SHAPES[HOST]
PANEL_BYTES = VECTORS * VECTOR_BYTES      # a panel of columns: what a row of a tile holds
HEIGHTS = {12: (12, 8, 4), 8: (8, 4, 2), 6: (6, 4, 2)}[ROWS]      # M rows are cut into tiles, the tallest first
CONV_ROWS, CONV_VECTORS = CONV_SHAPES[HOST]


def _vector(array):
    """LLVM's vector of the array's numbers, and the name that LLVM's functions give it."""
    bits = array.dtype.bitwidth
    count = VECTOR_BYTES * 8 // bits
    return ir.VectorType(ir.FloatType() if bits == 32 else ir.DoubleType(), count), f"v{count}f{bits}"


@intrinsic
def lanes(typing_context, array):
    """Numbers of the array's type in a vector, a constant."""
    count = _vector(array)[0].count
    return types.int64(array), lambda context, builder, signature, args: I64(count)


def _data(context, builder, signature, args, i):
    """Pointer to the first element of the array argument i."""
    return cgutils.create_struct_proxy(signature.args[i])(context, builder, args[i]).data


def _call(builder, name, result, *args):
    """Call LLVM's intrinsic `name`."""
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(function, args)


def product(rows, vectors):
    """tile(a, ao, ra, ka, b, bo, ldb, c, co, ldc, kb, used, columns, add, bias, j, relu): a tile of C in registers, over a block of k.

    C[r, :] (+)= sum_k a[ao + r * ra + k * ka] * b[bo + k * ldb + (0 .. width - 1)], r < rows, width = vectors * lanes

    ldb may be a table instead, whose number k says where row k of B begins: at b[bo + ldb[k]].
    ra and ka are 1 and `rows` in packed A; constants cost nothing. Each step loads `vectors` vectors of B, broadcasts `rows` numbers
    of A and does rows * vectors fused multiply-adds. Only the first `used` rows and `columns` columns are written. `add` adds to
    what is in C. Then bias[j + column] is added, unless bias is empty, and with `relu` numbers below 0 become 0: all of it while
    the tile is in registers.
    """
    @intrinsic
    def tile(typing_context, a, ao, ra, ka, b, bo, ldb, c, co, ldc, kb, used, columns, add, bias, j, relu):
        vector, suffix = _vector(a)
        L = vector.count

        def codegen(context, builder, signature, args):
            A, B, C = (_data(context, builder, signature, args, i) for i in (0, 4, 7))
            ao, ra, ka, bo, ldb, co, ldc, kb, used, columns, add, j, relu = (args[i] for i in (1, 2, 3, 5, 6, 8, 9, 10, 11, 12, 13, 15, 16))
            table = _data(context, builder, signature, args, 6) if isinstance(signature.args[6], types.Array) else None
            total = _accumulate(builder, builder.gep(A, [ao]), ra, ka, builder.gep(B, [bo]), ldb, kb, vector, suffix, rows, vectors, table)
            masks = [_first_lanes(builder, columns, v * L, L) for v in range(vectors)]
            extra = cgutils.create_struct_proxy(signature.args[14])(context, builder, args[14])
            given = builder.icmp_signed(">", extra.nitems, I64(0))
            shift = _bias(builder, builder.gep(extra.data, [j]), given, masks, vector, suffix)
            lowest = builder.select(relu, ir.Constant(vector, [0.0] * L), ir.Constant(vector, [-math.inf] * L))
            _store(builder, total, builder.gep(C, [co]), ldc, used, masks, add, lambda r, v: shift[v], lowest, vector, suffix)
            return context.get_dummy_value()

        return types.void(a, ao, ra, ka, b, bo, ldb, c, co, ldc, kb, used, columns, add, bias, j, relu), codegen

    return tile


def table_product(rows, vectors):
    """tile(a, ao, b, bo, bstep, table, to, kb, c, co, ldc, cstep, used, columns, fewer, bias, j, relu): a tile of C in registers, the
    vectors of B being where a table says.

    C[r, v] = bias[j + r] + sum_k a[ao + k * rows + r] * b[bo + table[to + k] + v * bstep + (0 .. lanes - 1)], r < rows, v < vectors

    What convolutions are made of: a vector is a run of pixels in a picture. Vector v of row r belongs at c[co + r * ldc + v * cstep],
    of which the first columns - v * fewer numbers are written. Otherwise as `product`, but a bias belongs to a row.
    """
    @intrinsic
    def tile(typing_context, a, ao, b, bo, bstep, table, to, kb, c, co, ldc, cstep, used, columns, fewer, bias, j, relu):
        vector, suffix = _vector(a)
        L = vector.count

        def codegen(context, builder, signature, args):
            A, B, T, C = (_data(context, builder, signature, args, i) for i in (0, 2, 5, 8))
            ao, bo, bstep, to, kb = (args[i] for i in (1, 3, 4, 6, 7))
            co, ldc, cstep, used, columns, fewer, j, relu = (args[i] for i in (9, 10, 11, 12, 13, 14, 16, 17))
            total = _accumulate(builder, builder.gep(A, [ao]), I64(1), I64(rows), builder.gep(B, [bo]), None, kb, vector, suffix, rows,
                                vectors, builder.gep(T, [to]), bstep)
            masks = [_first_lanes(builder, builder.sub(columns, builder.mul(fewer, I64(v))), 0, L) for v in range(vectors)]
            extra = cgutils.create_struct_proxy(signature.args[15])(context, builder, args[15])
            given = builder.icmp_signed(">", extra.nitems, I64(0))
            lowest = builder.select(relu, ir.Constant(vector, [0.0] * L), ir.Constant(vector, [-math.inf] * L))
            shift = _row_bias(builder, extra.data, j, given, used, rows, vector)
            _store(builder, total, builder.gep(C, [co]), ldc, used, masks, None, lambda r, v: shift[r], lowest, vector, suffix, cstep)
            return context.get_dummy_value()

        return types.void(a, ao, b, bo, bstep, table, to, kb, c, co, ldc, cstep, used, columns, fewer, bias, j, relu), codegen

    return tile


def _row_bias(builder, data, j, given, used, rows, vector):
    """For each row a vector full of its bias, zeros if none is given; rows to spare repeat the last one that is used."""
    before = builder.block
    with builder.if_then(given):
        last = builder.sub(used, I64(1))
        at = [builder.select(builder.icmp_signed("<", last, I64(r)), last, I64(r)) for r in range(rows)]
        found = [builder.load(builder.gep(data, [builder.add(j, r)])) for r in at]
        loaded = builder.block
    shift = []
    for value in found:
        phi = builder.phi(vector.element)
        phi.add_incoming(ir.Constant(vector.element, 0.0), before)
        phi.add_incoming(value, loaded)
        shift.append(phi)
    return [_broadcast(builder, value, vector) for value in shift]


def _accumulate(builder, a, ra, ka, b, ldb, kb, vector, suffix, rows, vectors, table=None, step=None):
    """The loop over k; returns the accumulators as [row][vector]. The rows of B are `ldb` apart, or at the places in `table`; their
    vectors follow each other, or are `step` apart."""
    L, zero = vector.count, ir.Constant(vector, [0.0] * vector.count)
    before, loop, after = builder.block, builder.append_basic_block("k"), builder.append_basic_block("after_k")
    builder.branch(loop)
    builder.position_at_end(loop)
    k, ap = builder.phi(I64), builder.phi(a.type)
    bp = builder.phi(b.type) if table is None else None
    sums = [[builder.phi(vector) for _ in range(vectors)] for _ in range(rows)]
    for phi, start in ((k, I64(0)), (ap, a), *([(bp, b)] if table is None else []), *((s, zero) for row in sums for s in row)):
        phi.add_incoming(start, before)
    places = [I64(v * L) if step is None else builder.mul(step, I64(v)) for v in range(vectors)]
    row_of_b = bp if table is None else builder.gep(b, [builder.load(builder.gep(table, [k]))])
    right = [builder.load(builder.bitcast(builder.gep(row_of_b, [at]), vector.as_pointer()), align=4) for at in places]
    total = []
    for r in range(rows):
        left = _broadcast(builder, builder.load(builder.gep(ap, [builder.mul(ra, I64(r))])), vector)
        total.append([_call(builder, f"llvm.fma.{suffix}", vector, left, right[v], sums[r][v]) for v in range(vectors)])
    following = builder.add(k, I64(1))
    steps = [(k, following), (ap, builder.gep(ap, [ka]))] + ([(bp, builder.gep(bp, [ldb]))] if table is None else [])
    for phi, value in (*steps, *((sums[r][v], total[r][v]) for r in range(rows) for v in range(vectors))):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, kb), loop, after)
    builder.position_at_end(after)
    return total


def _broadcast(builder, number, vector):
    undefined = ir.Constant(vector, ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(undefined, number, I32(0)), undefined,
                                  ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count))


def _first_lanes(builder, columns, start, L):
    """Mask of the lanes start .. start + L - 1 that lie below `columns`."""
    places = ir.Constant(ir.VectorType(I32, L), list(range(start, start + L)))
    limit = _broadcast(builder, builder.trunc(columns, I32), ir.VectorType(I32, L))
    return builder.icmp_signed("<", places, limit)


def _bias(builder, bias, given, masks, vector, suffix):
    """The vectors of the bias, zeros if none is given."""
    zero, before = ir.Constant(vector, [0.0] * vector.count), builder.block
    with builder.if_then(given):
        found = []
        for v, mask in enumerate(masks):
            place = builder.bitcast(builder.gep(bias, [I64(v * vector.count)]), vector.as_pointer())
            found.append(_call(builder, f"llvm.masked.load.{suffix}.p0", vector, place, I32(4), mask, zero))
        loaded = builder.block
    shift = [builder.phi(vector) for _ in masks]
    for phi, value in zip(shift, found, strict=True):
        phi.add_incoming(zero, before)
        phi.add_incoming(value, loaded)
    return shift


def _store(builder, total, c, ldc, used, masks, adds, shift, lowest, vector, suffix, step=None):
    """Write the accumulators, or add them to what is there if `adds`, unless that is None; plus shift(row, vector), but at least
    `lowest` (NaN stays). The vectors of a row follow each other, or are `step` apart.

    A masked load that loads no lane would need no branch, but cost 3 % of a whole product of 512 x 512 x 512.
    """
    L, zero = vector.count, ir.Constant(vector, [0.0] * vector.count)
    end = builder.append_basic_block("end_of_rows")
    for r, row in enumerate(total):
        start = builder.gep(c, [builder.mul(ldc, I64(r))])
        for v, value in enumerate(row):
            at = I64(v * L) if step is None else builder.mul(step, I64(v))
            place = builder.bitcast(builder.gep(start, [at]), vector.as_pointer())
            result = value
            if adds is not None:
                before = builder.block
                with builder.if_then(adds):
                    old = _call(builder, f"llvm.masked.load.{suffix}.p0", vector, place, I32(4), masks[v], zero)
                    summed, added = builder.fadd(old, value), builder.block
                result = builder.phi(vector)
                result.add_incoming(value, before)
                result.add_incoming(summed, added)
            result = builder.fadd(result, shift(r, v))
            result = builder.select(builder.fcmp_ordered("<=", result, lowest), lowest, result)
            _call(builder, f"llvm.masked.store.{suffix}.p0", ir.VoidType(), result, place, I32(4), masks[v])
        following = builder.append_basic_block("next_row") if r + 1 < len(total) else end
        if following is not end:
            builder.cbranch(builder.icmp_signed(">", used, I64(r + 1)), following, end)
        else:
            builder.branch(end)
        builder.position_at_end(following)


@intrinsic
def copy(typing_context, x, xo, y, yo):
    """y[yo:yo + lanes] = x[xo:xo + lanes]"""
    vector, _ = _vector(x)

    def codegen(context, builder, signature, args):
        source, target = (builder.bitcast(builder.gep(_data(context, builder, signature, args, i), [args[i + 1]]), vector.as_pointer())
                          for i in (0, 2))
        builder.store(builder.load(source, align=4), target, align=4)
        return context.get_dummy_value()

    return types.void(x, xo, y, yo), codegen


@intrinsic
def zeros(typing_context, y, yo):
    """y[yo:yo + lanes] = 0"""
    vector, _ = _vector(y)

    def codegen(context, builder, signature, args):
        target = builder.bitcast(builder.gep(_data(context, builder, signature, args, 0), [args[1]]), vector.as_pointer())
        builder.store(ir.Constant(vector, [0.0] * vector.count), target, align=4)
        return context.get_dummy_value()

    return types.void(y, yo), codegen


@intrinsic
def copy_first(typing_context, x, xo, count, y, yo):
    """y[yo:yo + count] = x[xo:xo + count] for count <= lanes, and zeros behind it up to a whole vector."""
    vector, suffix = _vector(x)

    def codegen(context, builder, signature, args):
        source, target = (builder.bitcast(builder.gep(_data(context, builder, signature, args, i), [args[i + 1]]), vector.as_pointer())
                          for i in (0, 3))
        mask = _first_lanes(builder, args[2], 0, vector.count)
        zero = ir.Constant(vector, [0.0] * vector.count)
        builder.store(_call(builder, f"llvm.masked.load.{suffix}.p0", vector, source, I32(4), mask, zero), target, align=4)
        return context.get_dummy_value()

    return types.void(x, xo, count, y, yo), codegen


@intrinsic
def copy_second(typing_context, x, xo, count, y, yo):
    """y[yo:yo + count] = x[xo::2][:count] for count <= lanes, and zeros behind it up to a whole vector."""
    vector, suffix = _vector(x)
    L = vector.count

    def codegen(context, builder, signature, args):
        X, Y = (_data(context, builder, signature, args, i) for i in (0, 3))
        zero, last = ir.Constant(vector, [0.0] * L), builder.sub(builder.mul(args[2], I64(2)), I64(1))
        halves = [_call(builder, f"llvm.masked.load.{suffix}.p0", vector,
                        builder.bitcast(builder.gep(X, [builder.add(args[1], I64(h * L))]), vector.as_pointer()), I32(4),
                        _first_lanes(builder, last, h * L, L), zero) for h in range(2)]
        even = builder.shuffle_vector(*halves, ir.Constant(ir.VectorType(I32, L), list(range(0, 2 * L, 2))))
        builder.store(even, builder.bitcast(builder.gep(Y, [args[4]]), vector.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(x, xo, count, y, yo), codegen


@intrinsic
def copy_only(typing_context, x, xo, count, y, yo):
    """y[yo:yo + count] = x[xo:xo + count] for count <= lanes; a whole vector of x is read."""
    vector, suffix = _vector(x)

    def codegen(context, builder, signature, args):
        source, target = (builder.bitcast(builder.gep(_data(context, builder, signature, args, i), [args[i + 1]]), vector.as_pointer())
                          for i in (0, 3))
        mask = _first_lanes(builder, args[2], 0, vector.count)
        _call(builder, f"llvm.masked.store.{suffix}.p0", ir.VoidType(), builder.load(source, align=4), target, I32(4), mask)
        return context.get_dummy_value()

    return types.void(x, xo, count, y, yo), codegen


def transpose(rows=None):
    """block(x, xo, ldx, y, yo, ldy, last): y[yo + c * ldy + r] = x[xo + min(r, last) * ldx + c] for r < rows, c < lanes, by shuffles.

    `rows` is at most the number of lanes, which None stands for. Writes whole vectors: beyond the `rows` numbers of a column there is
    rubbish, which the next column's store covers.
    """
    @intrinsic
    def block(typing_context, x, xo, ldx, y, yo, ldy, last):
        vector, _ = _vector(x)
        L = vector.count

        def codegen(context, builder, signature, args):
            X, Y = _data(context, builder, signature, args, 0), _data(context, builder, signature, args, 3)
            xo, ldx, yo, ldy, last = args[1], args[2], args[4], args[5], args[6]

            def line(base, start, ld, i):
                return builder.bitcast(builder.gep(base, [builder.add(start, builder.mul(ld, i))]), vector.as_pointer())

            at = [builder.select(builder.icmp_signed("<", last, I64(r)), last, I64(r)) for r in range(rows or L)]
            lines = [builder.load(line(X, xo, ldx, r), align=4) for r in at]
            lines += [ir.Constant(vector, ir.Undefined)] * (L - len(lines))
            distance = L // 2
            while distance:                                   # exchange ever smaller blocks across the diagonal
                for i in range(L):
                    if not i & distance:
                        low, high = lines[i], lines[i + distance]
                        keep = [c if not c & distance else c - distance + L for c in range(L)]
                        swap = [c + distance if not c & distance else c + L for c in range(L)]
                        lines[i], lines[i + distance] = (
                            builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(I32, L), m)) for m in (keep, swap))
                distance //= 2
            for c in range(L):
                builder.store(lines[c], line(Y, yo, ldy, I64(c)), align=4)
            return context.get_dummy_value()

        return types.void(x, xo, ldx, y, yo, ldy, last), codegen

    return block


def sandwich(matrix):
    """transform(x, xo, row, column, y, yo, yrow, ycolumn, relu): Y = P D P^T, P being the constant `matrix` and D one of vectors.

    D[i, j] = x[xo + i * row + j * column + (0 .. lanes - 1)], and likewise Y in y. With `relu` numbers below 0 become 0. Factors of 0
    and 1 cost nothing: what Winograd's convolution is made of.
    """
    @intrinsic
    def transform(typing_context, x, xo, row, column, y, yo, yrow, ycolumn, relu):
        vector, _ = _vector(x)

        def codegen(context, builder, signature, args):
            def line(base, start, *steps):
                at = start
                for step, i in steps:
                    at = builder.add(at, builder.mul(step, I64(i)))
                return builder.bitcast(builder.gep(_data(context, builder, signature, args, base), [at]), vector.as_pointer())

            size = range(len(matrix[0]))
            middle = [[builder.load(line(0, args[1], (args[2], i), (args[3], j)), align=4) for j in size] for i in size]
            for _ in range(2):                            # P times the columns, turned; and once more
                middle = [[_combine(builder, factors, column, vector) for factors in matrix] for column in zip(*middle, strict=True)]
            zero = ir.Constant(vector, [0.0] * vector.count)
            for i, vectors in enumerate(middle):
                for j, value in enumerate(vectors):
                    below = builder.and_(_broadcast(builder, args[8], ir.VectorType(ir.IntType(1), vector.count)),
                                         builder.fcmp_ordered("<", value, zero))
                    builder.store(builder.select(below, zero, value), line(4, args[5], (args[6], i), (args[7], j)), align=4)
            return context.get_dummy_value()

        return types.void(x, xo, row, column, y, yo, yrow, ycolumn, relu), codegen

    return transform


def _combine(builder, factors, vectors, vector):
    """The sum of factor * vector."""
    total = None
    for factor, value in zip(factors, vectors, strict=True):
        if abs(factor) not in (0, 1):
            value = builder.fmul(value, ir.Constant(vector, [abs(float(factor))] * vector.count))
        if factor and total is None:
            total = value if factor > 0 else builder.fneg(value)
        elif factor:
            total = builder.fadd(total, value) if factor > 0 else builder.fsub(total, value)
    return total
