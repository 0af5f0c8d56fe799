"""The few machine instructions on floating-point numbers that Python has no words for, as Numba intrinsics."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.jit import on_gpu

# bits of the number, of the mantissa, exponent of 1.0; sqrt(1/2) and 1.5 * 2^mantissa as bits
FORMATS = {32: (32, 23, 127, 0x3F3504F3, 0x4B400000), 64: (64, 52, 1023, 0x3FE6A09E667F3BCD, 0x4338000000000000)}


def _types(x):
    """(LLVM's type of the number, of its bits, FORMATS entry) for a Numba float type."""
    bits = x.bitwidth
    return (ir.FloatType() if bits == 32 else ir.DoubleType()), ir.IntType(bits), FORMATS[bits]


@intrinsic
def is_single(typing_context, x):
    """Whether x is a float32: a constant, so that only one branch of an `if` is left."""
    single = x == types.float32
    return types.boolean(x), lambda context, builder, signature, args: ir.IntType(1)(single)


def _rounding(name, gpu=None):
    """Intrinsic f(x) on LLVM's function `name`, or on the GPU, where its compiler does not know that one, on PTX's instruction `gpu`."""
    @intrinsic
    def function(typing_context, x):
        def codegen(context, builder, signature, args):
            number, _, _ = _types(x)
            kind = ir.FunctionType(number, [number])
            if gpu and on_gpu(builder):
                letter = "f" if x.bitwidth == 32 else "d"
                called = ir.InlineAsm(kind, f"{gpu}.f{x.bitwidth}.f{x.bitwidth} $0, $1;", f"={letter},{letter}")
            else:
                called = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.f{x.bitwidth}")
            return builder.call(called, args)
        return x(x), codegen
    return function


rint = _rounding("rint", "cvt.rni")      # the nearest whole number, halves to the even one, in x's type
floor = _rounding("floor")               # the largest whole number not above x, in x's type
ceil = _rounding("ceil")                 # the smallest whole number not below x, in x's type


@intrinsic
def fma(typing_context, a, b, c):
    """a * b + c, rounded once."""
    def codegen(context, builder, signature, args):
        number, _, _ = _types(a)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(number, [number] * 3), f"llvm.fma.f{a.bitwidth}")
        return builder.call(function, args)
    return a(a, a, a), codegen


@intrinsic
def scale(typing_context, x, n):
    """x * 2^n for a whole number n of x's type, |n| < 2 * (largest exponent): in two steps, so that 0, denormals and infinity come
    out right. The bits of n come from adding 1.5 * 2^mantissa, whose last bits then are n; that is defined for NaN too."""
    def codegen(context, builder, signature, args):
        number, whole, (_, mantissa_bits, bias, _, magic) = _types(x)
        value, n_value = args
        shifter = builder.bitcast(whole(magic), number)
        n_bits = builder.sub(builder.bitcast(builder.fadd(n_value, shifter), whole), whole(magic))
        half = builder.ashr(n_bits, whole(1))
        for part in (half, builder.sub(n_bits, half)):
            power = builder.shl(builder.add(part, whole(bias)), whole(mantissa_bits))
            value = builder.fmul(value, builder.bitcast(power, number))
        return value
    return x(x, x), codegen


@intrinsic
def scale_normal(typing_context, x, n):
    """x * 2^n for a whole number n of x's type where 2^n is a normal number: in one step."""
    def codegen(context, builder, signature, args):
        number, whole, (_, mantissa_bits, bias, _, magic) = _types(x)
        n_bits = builder.bitcast(builder.fadd(args[1], builder.bitcast(whole(magic), number)), whole)      # the last bits are those of n
        power = builder.shl(builder.add(n_bits, whole(bias)), whole(mantissa_bits))
        return builder.fmul(args[0], builder.bitcast(power, number))
    return x(x, x), codegen


def _split(builder, x, value):
    """The bits of a positive normal number, less those of sqrt(1/2): the upper part is the exponent."""
    _, whole, (_, _, _, root, _) = _types(x)
    return builder.sub(builder.bitcast(value, whole), whole(root))


@intrinsic
def exponent(typing_context, x):
    """n of x = m * 2^n with m in [sqrt(1/2), sqrt(2)), as a float, for positive normal x."""
    def codegen(context, builder, signature, args):
        number, whole, (_, mantissa_bits, _, _, _) = _types(x)
        return builder.sitofp(builder.ashr(_split(builder, x, args[0]), whole(mantissa_bits)), number)
    return x(x), codegen


@intrinsic
def mantissa(typing_context, x):
    """m of x = m * 2^n with m in [sqrt(1/2), sqrt(2)), for positive normal x."""
    def codegen(context, builder, signature, args):
        number, whole, (_, mantissa_bits, _, root, _) = _types(x)
        low = builder.and_(_split(builder, x, args[0]), whole((1 << mantissa_bits) - 1))
        return builder.bitcast(builder.add(low, whole(root)), number)
    return x(x), codegen
