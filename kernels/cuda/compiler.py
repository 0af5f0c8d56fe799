"""From a Python function to machine code for a GPU: the one file that uses numba-cuda.

    @kernel                                             # every thread of the grid runs this function
    def double(x, y, n):
        i = cuda.grid(1)                                # this thread's number
        if i < n:
            y[i] = x[i] + x[i]

    double[blocks, threads](x, y, n)                    # x and y are DeviceArrays, n a number

A launch looks at the types of its arguments and compiles the kernel for them once: numba-cuda writes PTX, the assembly of an
abstract GPU, and nvjitlink turns that into a cubin, the machine code of one architecture, which is kept on disk. An array
arrives as a bare pointer, a Python int as int64, a NumPy number in its own type; shapes and strides do not arrive at all. That is
one parameter for an array where numba-cuda's own arrays have seven, and none of its launch code runs.

Rules for kernels:
- A Python float is a float64, and few GPUs are fast at these: write typed(x, 0.5) or pass the number in.
- Indices of pointers are not checked and do not wrap around. In shared and local arrays use literals and unsigned numbers.
- No atomic sums of floats: their order, and so the last bit, would change from run to run.

With SCRATCHNN_CUDA=simulator nothing is compiled: kernels run as plain Python (kernels/cuda/simulator.py).
"""

import hashlib
import importlib.metadata
import json
import os
import re
import tempfile
from typing import NamedTuple

import numpy as np

from kernels import config, jit

__all__ = ["Compiled", "Kernel", "at", "bring16", "brought", "cuda", "device", "kernel", "ld4", "like", "mma", "outer4", "put", "registry",
           "require_packages", "scalar", "shifted", "st4", "tf32", "typed"]

INSTALL = "pip install 'scratchnn[cuda]'"
PACKAGES = "numba-cuda", "cuda-bindings", "nvidia-nvjitlink"
DEFAULT_ARCHITECTURE = (9, 0)          # what is compiled for where there is no GPU: H100, H200


def missing_packages():
    """Names, as pip knows them, of the packages that the CUDA wing needs and that are not installed."""
    missing = []
    for package in PACKAGES:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    return missing


def require_packages():
    """RuntimeError that names what is missing and how to install it."""
    missing = missing_packages()
    if missing:
        raise RuntimeError(f"device 'cuda' was asked for, but the Python package{'s' * (len(missing) > 1)} {' and '.join(missing)} "
                           f"{'is' if len(missing) == 1 else 'are'} not installed; {INSTALL} installs what is needed")


SIMULATED = config.CUDA == "simulator"

if SIMULATED:
    from kernels.cuda.simulator import at, bring16, brought, cuda, ld4, like, mma, outer4, put, scalar, shifted, st4, tf32, typed
else:
    require_packages()
    import numba.cuda.dispatcher
    from llvmlite import ir
    from numba import cuda, types
    from numba.core import cgutils
    from numba.core.dispatcher import Dispatcher
    from numba.cuda.extending import overload_attribute
    from numba.cuda.target import CUDATypingContext
    from numba.extending import intrinsic

    from kernels import scalar
    from kernels.jit import like


    # ---- words for kernels beyond numba-cuda's -----------------------------------------------------------------------

    def _element(context, builder, kind, value, index):
        """Address of an element of a pointer or of a shared array, without a check and without wrapping around."""
        base = value if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, value).data
        return builder.gep(base, [index])

    @intrinsic
    def typed(typing_context, x, value):
        """`value` in the type of the numbers that the array x points to."""
        def codegen(context, builder, signature, args):
            return context.cast(builder, args[1], signature.args[1], signature.return_type)
        return x.dtype(x, value), codegen

    @intrinsic
    def at(typing_context, address, x):
        """The address (uint64 or int64) as a pointer to numbers of the type of x."""
        kind = types.CPointer(x.dtype)
        return kind(address, x), lambda context, builder, signature, args: builder.inttoptr(args[0], context.get_value_type(kind))

    @intrinsic
    def shifted(typing_context, x, n):
        """The pointer y with y[i] = x[n + i] for a kernel's argument x; n may be negative. Made of a number, lest LLVM adds n and i anew
        for each i, and of an address in global memory, lest it forgets that x points there."""
        def codegen(context, builder, signature, args):
            number = ir.IntType(64)
            bytes_each = number(x.dtype.bitwidth // 8)
            address = builder.add(builder.ptrtoint(args[0], number), builder.mul(builder.sext(args[1], number), bytes_each))
            return builder.addrspacecast(builder.inttoptr(address, args[0].type.pointee.as_pointer(1)), args[0].type)
        return x(x, n), codegen

    @intrinsic
    def ld4(typing_context, x, i):
        """(x[i], ..., x[i + 3]) of float32 or int32 by one instruction of 128 bits; x + i must lie at a multiple of 16 bytes."""
        signature = types.UniTuple(x.dtype, 4)(x, i)

        def codegen(context, builder, signature, args):
            vector = ir.VectorType(context.get_value_type(signature.args[0].dtype), 4)
            place = builder.bitcast(_element(context, builder, signature.args[0], *args), vector.as_pointer())
            loaded = builder.load(place, align=16)
            numbers = [builder.extract_element(loaded, ir.IntType(32)(k)) for k in range(4)]
            return context.make_tuple(builder, signature.return_type, numbers)
        return signature, codegen

    @intrinsic
    def st4(typing_context, x, i, a, b, c, d):
        """x[i], ..., x[i + 3] = a, b, c, d of a float32 array by one instruction of 128 bits; alignment as for ld4."""
        def codegen(context, builder, signature, args):
            vector = ir.VectorType(ir.FloatType(), 4)
            place = builder.bitcast(_element(context, builder, signature.args[0], *args[:2]), vector.as_pointer())
            value = ir.Constant(vector, ir.Undefined)
            for k in range(4):
                value = builder.insert_element(value, args[2 + k], ir.IntType(32)(k))
            builder.store(value, place, align=16)
            return context.get_dummy_value()
        return types.void(x, i, *[types.float32] * 4), codegen

    @intrinsic
    def outer4(typing_context, sums, first, line, a, b):
        """sums[first + r * line + s] += a[r] * b[s] for r and s in 0..3: a local array and two results of ld4. The numbers `first` and
        `line` must be literals, so that the array becomes registers."""
        def codegen(context, builder, signature, args):
            number = ir.IntType(64)
            rows, columns = (cgutils.unpack_tuple(builder, value) for value in args[3:])
            for r, row in enumerate(rows):
                start = builder.add(builder.sext(args[1], number), builder.mul(builder.sext(args[2], number), number(r)))
                for s, column in enumerate(columns):
                    place = _element(context, builder, signature.args[0], args[0], builder.add(start, number(s)))
                    builder.store(builder.fadd(builder.load(place), builder.fmul(row, column)), place)
            return context.get_dummy_value()
        return types.void(sums, first, line, a, b), codegen

    @intrinsic
    def put(typing_context, x, i, value):
        """x[i] = value of a pointer or shared array, where Numba's own would ask whether i is negative."""
        def codegen(context, builder, signature, args):
            builder.store(args[2], _element(context, builder, signature.args[0], *args[:2]))
            return context.get_dummy_value()
        return types.void(x, i, x.dtype), codegen

    def _assembly(builder, returned, text, constraints, args, side_effect=False):
        """An instruction of PTX."""
        kind = ir.FunctionType(returned, [a.type for a in args])
        return builder.call(ir.InlineAsm(kind, text, constraints, side_effect=side_effect), args)

    @intrinsic
    def tf32(typing_context, x, i):
        """The bits of x[i] of a float32 array, rounded to the 10 bits of fraction that tensor cores read."""
        def codegen(context, builder, signature, args):
            number = builder.load(_element(context, builder, signature.args[0], *args))
            return _assembly(builder, ir.IntType(32), "cvt.rna.tf32.f32 $0, $1;", "=r,f", [number])
        return types.uint32(x, i), codegen

    @intrinsic
    def mma(typing_context, sums, first, a0, a1, a2, a3, b0, b1):
        """sums[first .. first + 3] += a thread's part of A B, by the tensor cores: A (16, 8) and B (8, 8) of a warp, results of tf32.

        Of lane l, with g = l // 4 and q = l % 4: a0, a1, a2, a3 are A[g, q], A[g + 8, q], A[g, q + 4], A[g + 8, q + 4], b0 and b1 B[q, g]
        and B[q + 4, g], the sums those of [g, 2 q], [g, 2 q + 1], [g + 8, 2 q], [g + 8, 2 q + 1]. (PTX ISA, mma.m16n8k8.)
        """
        def codegen(context, builder, signature, args):
            places = [_element(context, builder, signature.args[0], args[0], builder.add(args[1], args[1].type(k))) for k in range(4)]
            found = _assembly(builder, ir.LiteralStructType([ir.FloatType()] * 4), "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                              "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};", "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f",
                              [*args[2:], *map(builder.load, places)])
            for k, place in enumerate(places):
                builder.store(builder.extract_value(found, k), place)
            return context.get_dummy_value()
        return types.void(sums, first, *[types.uint32] * 6), codegen

    @intrinsic
    def bring16(typing_context, shared, at, x, i, inside):
        """shared[at .. at + 3] = x[i .. i + 3] of float32 arrays, or zeros if not `inside`, past the registers; there after brought()."""
        def codegen(context, builder, signature, args):
            shared, everywhere = (ir.PointerType(ir.FloatType(), addrspace=space) for space in (3, 1))
            to = builder.addrspacecast(_element(context, builder, signature.args[0], *args[:2]), shared)
            source = builder.addrspacecast(_element(context, builder, signature.args[2], *args[2:4]), everywhere)
            size = builder.select(args[4], ir.IntType(32)(16), ir.IntType(32)(0))
            _assembly(builder, ir.VoidType(), "cp.async.cg.shared.global [$0], [$1], 16, $2;", "r,l,r,~{memory}",
                      [builder.ptrtoint(to, ir.IntType(32)), builder.ptrtoint(source, ir.IntType(64)), size], side_effect=True)
            return context.get_dummy_value()
        return types.void(shared, at, x, i, types.boolean), codegen

    @intrinsic
    def brought(typing_context):
        """Wait until all that this thread has asked bring16 for is there; a barrier then shows it to the others."""
        def codegen(context, builder, signature, args):
            _assembly(builder, ir.VoidType(), "cp.async.wait_all;", "~{memory}", [], side_effect=True)
            return context.get_dummy_value()
        return types.void(), codegen

    @overload_attribute(types.CPointer, "dtype")
    def _dtype(x):
        """x.dtype of a pointer, for shared arrays of its type."""
        dtype = x.dtype
        return lambda x: dtype

    # ---- numba-cuda, without a device --------------------------------------------------------------------------------

    class _Target:
        """All that numba-cuda asks a device for while it compiles."""

        compute_capability = DEFAULT_ARCHITECTURE

    numba.cuda.dispatcher.get_current_device = _Target
    _resolve = CUDATypingContext.resolve_value_type

    def _resolve_value_type(self, value):
        """The functions of kernels/scalar/ become device functions. numba-cuda would do that too, but takes any one of their
        fast-math flags for all: division and powers would lose half of their digits."""
        if isinstance(value, Dispatcher):
            if not hasattr(value, "device_function"):
                value.device_function = cuda.jit(device=True, forceinline=True)(value.py_func)
            value = value.device_function
        return _resolve(self, value)

    CUDATypingContext.resolve_value_type = _resolve_value_type


def _versions():
    """Everything but our own sources that decides what a kernel compiles to."""
    names = ("numba", "numba-cuda", "llvmlite", "nvidia-nvvm", "nvidia-nvjitlink", "cuda-bindings")
    return [importlib.metadata.version(name) for name in names]


# ---- kernels --------------------------------------------------------------------------------------------------------

class Compiled(NamedTuple):
    """Machine code of a kernel for one list of argument types and one architecture, and what there is to say about it.

    registers      of each thread; 65,536 are shared by the threads of a multiprocessor
    spilled        bytes that did not fit into registers and go through memory instead
    local          bytes of local arrays in each thread that did not become registers
    shared         bytes of shared memory of a block
    doubles        instructions on float64 in the PTX
    """

    name: str
    cubin: bytes
    registers: int
    spilled: int
    local: int
    shared: int
    doubles: int


registry = {}          # every kernel by name: tests and benchmarks go through it


class Kernel:
    """A function that every thread of a grid runs. Make one with @kernel.

    threads      largest block it is launched with; the compiler divides the registers by that
    blocks       how many blocks shall fit on a multiprocessor at once
    doubles      float64 is meant to appear in it, whatever its arguments are
    """

    def __init__(self, function, name=None, threads=256, blocks=None, doubles=False):
        self.function, self.name = function, name or function.__name__
        self.threads, self.blocks, self.doubles = threads, blocks, doubles
        self.compiled = {}                       # (argument types, architecture): Compiled
        self.__doc__ = function.__doc__
        if self.name in registry:
            raise ValueError(f"there are two CUDA kernels of the name {self.name!r}")
        registry[self.name] = self

    def __repr__(self):
        return f"<CUDA kernel {self.name}>"

    def __getitem__(self, configuration):
        """kernel[blocks, threads](*arguments) launches it; blocks may be a tuple of up to three numbers."""
        from kernels.cuda import runtime
        grid, threads = configuration
        return lambda *args: runtime.launch(self, grid, threads, args)

    def compile(self, kinds, architecture=DEFAULT_ARCHITECTURE):
        """The Compiled for argument types such as ("*float32", "int64"), "*" for a pointer: from this process, from disk or made."""
        found = self.compiled.get((kinds, architecture))
        if found is None:
            key = json.dumps([_versions(), self.name, kinds, architecture, self.threads, self.blocks])
            path = jit.CACHE_FOLDER / "cuda" / f"{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.cubin"
            found = _read(path) or _write(path, self._build(kinds, architecture))
            self.compiled[kinds, architecture] = found
        return found

    def ptx(self, kinds, architecture=DEFAULT_ARCHITECTURE):
        """The kernel in PTX."""
        _Target.compute_capability = architecture
        bounds = self.threads if self.blocks is None else (self.threads, self.blocks)
        text, _ = cuda.compile_ptx(self.function, types.void(*map(_numba_type, kinds)), cc=architecture, launch_bounds=bounds)
        return text

    def _build(self, kinds, architecture):
        ptx = self.ptx(kinds, architecture)
        name = re.search(r"\.entry\s+(\w+)", ptx).group(1)
        cubin, log = _link(ptx, architecture)
        registers, spilled, local = (int(found.group(1)) if (found := re.search(pattern, log)) else 0 for pattern in (
            r"Used (\d+) registers", r"(\d+) bytes spill stores", r"(\d+) bytes stack frame"))
        shared = sum(map(int, re.findall(r"\.shared .*\.b8 \w+\[(\d+)\]", ptx)))
        doubles = len(re.findall(r"^\s+(?:@\S+\s+)?[a-z]\S*\.f64", ptx, re.MULTILINE))
        return Compiled(name, cubin, registers, spilled, local, shared, doubles)


def kernel(function=None, **options):
    """Decorator: a function on pointers and numbers becomes a Kernel. Options are those of Kernel."""
    return Kernel(function, **options) if function is not None else lambda f: Kernel(f, **options)


def device(function):
    """Decorator: a function that kernels call; it becomes part of each of them."""
    return function if SIMULATED else cuda.jit(device=True, forceinline=True)(function)


def _numba_type(kind):
    return types.CPointer(_numba_type(kind[1:])) if kind.startswith("*") else getattr(types, {"bool": "uint8"}.get(kind, kind))


def _link(ptx, architecture):
    """(machine code, the assembler's report) for PTX. nvjitlink holds the assembler ptxas; no driver is needed."""
    from cuda.bindings import nvjitlink
    options = [f"-arch=sm_{architecture[0]}{architecture[1]}", "-O3", "-Xptxas=-v"]
    handle = nvjitlink.create(len(options), options)
    try:
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, ptx.encode(), len(ptx), "kernel")
        nvjitlink.complete(handle)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, cubin)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    finally:
        nvjitlink.destroy(handle)
    return bytes(cubin), log.decode(errors="replace")


# ---- the cache on disk: the report as a line of JSON, then the machine code ----------------------------------------------

def _read(path):
    try:
        report, _, cubin = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    return Compiled(cubin=cubin, **json.loads(report))


def _write(path, compiled):
    """Under another name first, so that no other process reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {name: value for name, value in compiled._asdict().items() if name != "cubin"}
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(json.dumps(report).encode() + b"\n" + compiled.cubin)
    os.replace(file.name, path)
    return compiled


def kind_of(argument):
    """The type of a kernel's argument, as Kernel.compile takes it."""
    if isinstance(argument, np.generic):
        return str(argument.dtype)
    if isinstance(argument, int):
        return "int64"
    return "*" + str(argument.dtype)
