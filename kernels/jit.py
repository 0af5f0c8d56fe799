"""The one place that compiles: flags, cache folder, threads, generated kernels.

A kernel here is an ordinary serial Numba function. It runs on several cores through `parallel_for`, which hands numbered
chunks of work to the threads of OpenMP's runtime:

    @inner
    def double_task(chunk, x, y, size):          # serial: one chunk
        part = slice(chunk * size, (chunk + 1) * size)
        ...

    @jit
    def double(x, y, size, threads):
        parallel_for(double_task, (x.size + size - 1) // size, threads, (x, y, size))

Why not Numba's own `prange`: it analyses and compiles every parallel loop a second time (a parallel matmul took 6-10 s, here
4-6), its regions cost about twice as much, and `get_num_threads()` inside a kernel forbids the cache. Chunks are fixed by
the size of the work alone, so that results do not depend on the number of threads. Each thread begins with the same range of
them every time, whose data its cache may still hold, and then helps the others, so that a slow core delays nobody.

Numba's rules that shape every kernel:
- Index a slice (`row = x[a:b]; for i in range(row.size)`), never `x[a + i]` with a signed `a`: Numba wraps negative
  indices around, and the test for it stops vectorisation.
- Constants take their type from a variable (`like(x, 1)`); a bare 1.0 turns float32 arithmetic into float64.
"""

import contextlib
import ctypes
import hashlib
import os
import sys
import warnings
from pathlib import Path

# libgomp reads this once, when it is loaded: after a region its workers spin this often before they sleep. Without spinning a region
# costs 50 us instead of 1; with its default (300 thousand) it starves the thread pool of any BLAS in the same process. A loop of
# NumPy's matmul and kernels of ours takes, compared with the two apart (benchmarks/checks.py), 1.0 times as long with 300 to 2500 and
# 1.0 to 1.3 with 5000 on two Zen 4 cores; 1.4 with 1000, 1.0 with 5000 and 3.2 with 20000 on two Xeons, whose pauses last longer.
os.environ.setdefault("GOMP_SPINCOUNT", "2500")

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy
from llvmlite import ir
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels import config

# error_model="numpy": Python's check for division by zero stops vectorisation. Of the fast-math flags only those that keep numbers
# honest: fastmath=True would make isnan(nan) False, "arcp" and "afn" make 1 / sqrt(0) NaN and 1 / sqrt(1) 0.9999999.
FLAGS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
SUM_FLAGS = {**FLAGS, "fastmath": FLAGS["fastmath"] | {"reassoc"}}

CHUNK = 16384          # elements in a chunk of a memory-bound kernel: 64 KiB of float32
SERIAL_BELOW = 32768   # elements under which a region costs more than it saves


def _fingerprint():
    """Hash of all sources of kernels/ and of what compiles them: a change anywhere leads to another cache folder."""
    digest = hashlib.sha256("|".join([sys.version, numba.__version__, llvmlite.__version__, numpy.__version__, config.SIMD]).encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


CACHE_FOLDER = config.CACHE / _fingerprint()
_dispatchers = []


@contextlib.contextmanager
def _our_cache_folder():
    """Numba looks at its global setting when a function is decorated; the user's own functions keep theirs."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(CACHE_FOLDER)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


def jit(function=None, *, sums=False):
    """Compile on first call and keep the machine code on disk. sums=True allows a sum to be reordered for SIMD."""
    if function is None:
        return lambda f: jit(f, sums=sums)
    with _our_cache_folder():
        dispatcher = njit(cache=True, **(SUM_FLAGS if sums else FLAGS))(function)
    _dispatchers.append(dispatcher)
    return dispatcher


def inner(function=None, *, sums=False):
    """Compile as part of the kernels that call it; needs no cache entry of its own.

    Always inlined: a call to a function of its own could be answered by another copy of it in the process, optimised in another
    place and rounding otherwise, so that a kernel just compiled and the same from the cache would differ in the last bit.
    """
    if function is None:
        return lambda f: inner(f, sums=sums)
    return njit(forceinline=True, **(SUM_FLAGS if sums else FLAGS))(function)


def generate(source, name, module, **names):
    """The function `name` defined by source text, ready for @jit or @inner, as if written in `module` (its globals()).

    A closure over a jitted function would miss Numba's cache in every process; a function whose globals are `names`, under
    the name and file of a module that can be imported, does not.
    """
    scope = {**names, "__name__": module["__name__"]}
    # Numba looks the function's lines up in the module's file: from its first line on, that is always sound Python.
    exec(compile(source.lstrip(), module["__file__"], "exec"), scope)
    return scope[name]


def cache_statistics():
    """{"hits": n, "misses": n}: kernels taken from disk and kernels compiled in this process so far."""
    stats = [d.stats for d in _dispatchers]
    return {"hits": sum(sum(s.cache_hits.values()) for s in stats), "misses": sum(sum(s.cache_misses.values()) for s in stats)}


# ---- typed constants ------------------------------------------------------------------------------------------------

@intrinsic
def like(typing_context, x, value):
    """`value` in the type of the scalar x: like(x, 0.5) is a float32 when x is one."""
    def codegen(context, builder, signature, args):
        return context.cast(builder, args[1], signature.args[1], signature.return_type)
    return x(x, value), codegen


@intrinsic
def full_width(typing_context):
    """Call it in a function whose loops shall use the widest vectors: on AVX-512 LLVM takes those of half the width by itself."""
    def codegen(context, builder, signature, args):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')      # llvmlite's own add() knows no attributes with values
        return context.get_dummy_value()
    return types.void(), codegen


@intrinsic
def pointer(typing_context, address, model):
    """The address as a pointer to numbers of the type of the array `model`, for numba.carray."""
    kind = types.CPointer(model.dtype)
    return kind(address, model), lambda context, builder, signature, args: builder.inttoptr(args[0], context.get_value_type(kind))


@inner
def uncounted(array):
    """The numbers of a flat array as another one to which Numba counts no references: in inner loops two threads that count on one
    array wait for each other. For arguments of a task, which others keep alive."""
    return numba.carray(pointer(array.ctypes.data, array), array.size)


def on_gpu(builder):
    """Whether what is being compiled is to run on a CUDA GPU, whose compiler knows fewer of LLVM's functions."""
    return builder.module.triple.startswith("nvptx")


def _two_way(name):
    """Intrinsic f(a, b) on LLVM's function `name` for floats, on a comparison for whole numbers and booleans."""
    sign = ">" if name == "maximum" else "<"

    @intrinsic
    def function(typing_context, a, b):
        def codegen(context, builder, signature, args):
            kind = signature.return_type
            if isinstance(kind, types.Float):
                if on_gpu(builder):
                    better = builder.select(builder.fcmp_unordered(sign, *args), *args)     # the first, if that is NaN
                    return builder.select(builder.fcmp_unordered("uno", args[1], args[1]), args[1], better)
                shape = context.get_value_type(kind)
                function_type = ir.FunctionType(shape, [shape, shape])
                return builder.call(cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.f{kind.bitwidth}"), args)
            compare = builder.icmp_signed if getattr(kind, "signed", False) else builder.icmp_unsigned
            return builder.select(compare(sign, *args), *args)
        return a(a, a), codegen

    function.__doc__ = f"The {name} of two numbers of one type; NaN if one is. Vectorised, unlike a comparison that minds NaN."
    return function


maximum, minimum = _two_way("maximum"), _two_way("minimum")


# ---- threads --------------------------------------------------------------------------------------------------------

def _load_gomp():
    """Addresses of GOMP_parallel(function, data, threads, flags), the entry that every OpenMP program compiled by GCC uses, and of
    omp_get_thread_num()."""
    try:
        library = ctypes.CDLL("libgomp.so.1")
        return [ctypes.cast(f, ctypes.c_void_p).value for f in (library.GOMP_parallel, library.omp_get_thread_num)]
    except (OSError, AttributeError):
        return None


def _portable():
    """The same call through Numba's own threading layer: any platform, at its price for a region."""
    @intrinsic
    def call(typing_context, function, data):
        def codegen(context, builder, signature, args):
            pointer = ir.FunctionType(ir.VoidType(), [ir.IntType(64)]).as_pointer()
            builder.call(builder.inttoptr(args[0], pointer), [args[1]])
            return context.get_dummy_value()
        return types.void(types.int64, types.int64), codegen

    @njit(parallel=True, nogil=True)
    def run(function, data, threads):
        for _ in prange(threads):
            call(function, data)

    @numba.cfunc(types.void(types.int64, types.int64, types.uint32, types.uint32))
    def entry(function, data, threads, flags):
        run(function, data, types.int64(threads))

    numba.set_num_threads(min(config.NUM_THREADS, numba.config.NUMBA_NUM_THREADS))
    _keep_alive.append(entry)
    return entry.address


def _first_thread():
    """What stands for omp_get_thread_num() where there is none: every thread begins with the first range."""
    entry = numba.cfunc(types.int32())(lambda: 0)
    _keep_alive.append(entry)
    return entry.address


_keep_alive = []
_num_threads = config.NUM_THREADS


def _choose_threading():
    """Bind the symbol `scratchnn_parallel` that compiled kernels call; returns the name of what was bound."""
    if config.THREADING in ("auto", "gomp"):
        addresses = _load_gomp()
        if addresses:
            llvm.add_symbol("scratchnn_parallel", addresses[0])
            llvm.add_symbol("scratchnn_thread", addresses[1])
            return "gomp"
        if config.THREADING == "gomp":
            raise OSError("SCRATCHNN_THREADING=gomp, but libgomp.so.1 does not load; install GCC's OpenMP runtime (Debian: libgomp1)")
    llvm.add_symbol("scratchnn_thread", _first_thread())
    if config.THREADING != "serial" and config.NUM_THREADS > 1:
        if config.THREADING == "auto" and sys.platform == "linux":
            warnings.warn("libgomp.so.1 does not load: kernels fall back to Numba's own threads, whose regions cost 50 us "
                          "instead of 1. Install GCC's OpenMP runtime (Debian: libgomp1).", stacklevel=2)
        llvm.add_symbol("scratchnn_parallel", _portable())
        return "numba"
    llvm.add_symbol("scratchnn_parallel", ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value)   # bound, never called
    return "serial"


threading_layer = _choose_threading()


def set_num_threads(n):
    """Use n threads for kernels from now on. Results are the same bits for every n."""
    global _num_threads
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"set_num_threads takes a positive whole number, got {n!r}")
    _num_threads = n


def get_num_threads():
    """How many threads kernels use."""
    return _num_threads


def threads(elements):
    """How many threads a memory-bound kernel over so many elements should use."""
    return 1 if elements < SERIAL_BELOW or threading_layer == "serial" else _num_threads


if hasattr(os, "register_at_fork"):   # OpenMP's workers do not survive a fork: the child runs serial instead of hanging
    os.register_at_fork(after_in_child=lambda: set_num_threads(1))


MAX_THREADS = 256


@intrinsic
def parallel_for(typing_context, task, chunks, threads, args):
    """task(chunk, *args) for chunk in range(chunks), on `threads` threads; `args` is a tuple.

    The intrinsic packs `args` beside one counter for each thread's range of chunks, and emits a function that takes numbers from the
    counters until none is left. That function is called once here, or by each thread of an OpenMP region.
    """
    task_types = (types.int64, *args.types)
    typing_context.resolve_function_type(task, task_types, {})
    signature = types.void(task, types.int64, types.int64, args)

    def codegen(context, builder, signature, values):
        _, count, wanted, packed = values
        i32, i64, pointer = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
        layout = ir.LiteralStructType([i64, i64, packed.type, ir.ArrayType(i64, MAX_THREADS)])     # chunks, threads, args, counters
        worker = _worker(context, builder, task.dispatcher.overloads[task_types], layout)
        limit = builder.select(builder.icmp_signed("<", count, i64(MAX_THREADS)), count, i64(MAX_THREADS))
        width = builder.select(builder.icmp_signed("<", wanted, limit), wanted, limit)

        state = cgutils.alloca_once(builder, layout)
        for i, value in enumerate((count, width, packed)):
            builder.store(value, builder.gep(state, [i32(0), i32(i)]))
        with cgutils.for_range(builder, width, intp=i64) as loop:
            start = _range_start(builder, loop.index, count, width)
            builder.store(start, builder.gep(state, [i32(0), i32(3), loop.index]))
        data = builder.bitcast(state, pointer)
        with builder.if_else(builder.icmp_signed("<=", width, i64(1))) as (serial, region):
            with serial, builder.if_then(builder.icmp_signed(">", count, i64(0))):
                builder.call(worker, [data])
            with region:
                kind = ir.FunctionType(ir.VoidType(), [worker.type, pointer, i32, i32])
                start = cgutils.get_or_insert_function(builder.module, kind, "scratchnn_parallel")
                builder.call(start, [worker, data, builder.trunc(width, i32), i32(0)])
        return context.get_dummy_value()

    return signature, codegen


def _range_start(builder, thread, count, width):
    """The first chunk of a thread's range: thread * count / width."""
    return builder.sdiv(builder.mul(thread, count), width)


def _worker(context, builder, compiled, layout):
    """void worker(state*): run the chunks of one's own range, then those left of the others'. Kernels raise nothing, so the status
    that a call returns is dropped."""
    context.add_linking_libs([compiled.library])
    i32, i64 = ir.IntType(32), ir.IntType(64)
    name = f"{builder.function.name}.worker{len(builder.module.functions)}"
    worker = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()]), name)
    worker.linkage = "internal"
    b = ir.IRBuilder(worker.append_basic_block("entry"))
    state = b.bitcast(worker.args[0], layout.as_pointer())
    count, width, packed = (b.load(b.gep(state, [i32(0), i32(i)])) for i in range(3))
    args = cgutils.unpack_tuple(b, packed)
    number = cgutils.get_or_insert_function(builder.module, ir.FunctionType(i32, []), "scratchnn_thread")
    own = b.srem(b.zext(b.call(number, []), i64), width)
    with cgutils.for_range(b, width, intp=i64) as loop:
        thread = b.srem(b.add(own, loop.index), width)
        counter, end = b.gep(state, [i32(0), i32(3), thread]), _range_start(b, b.add(thread, i64(1)), count, width)
        again, work, done = (worker.append_basic_block(n) for n in ("again", "work", "done"))
        b.branch(again)
        b.position_at_end(again)
        chunk = b.atomic_rmw("add", counter, i64(1), "monotonic")
        b.cbranch(b.icmp_signed("<", chunk, end), work, done)
        b.position_at_end(work)
        descriptor = compiled.fndesc
        function = context.declare_function(builder.module, descriptor)
        context.call_conv.call_function(b, function, descriptor.restype, descriptor.argtypes, [chunk, *args])
        b.branch(again)
        b.position_at_end(done)
    b.ret_void()
    return worker


# ---- memory ---------------------------------------------------------------------------------------------------------

def _keep_freed_memory():
    """glibc returns large blocks to the system at every free and pays page faults at the next allocation: six fresh 4 MB arrays
    cost 7.3 ms, 0.6 ms when kept. Raises M_MMAP_THRESHOLD (-3) and M_TRIM_THRESHOLD (-1) to 1 GiB; SCRATCHNN_MALLOPT=0 leaves them."""
    if config.MALLOPT and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(-3, 1 << 30)
            libc.mallopt(-1, 1 << 30)


_keep_freed_memory()
