"""A GPU in plain Python: the same kernels, one Python function call for each of their threads. For tests, and to step through.

    SCRATCHNN_CUDA=simulator python ...

Each thread of a block is a greenlet. One runs until it reaches a barrier, then the next; when all have arrived, they go on. That is
some thousand times faster than threads of the operating system, always the same order, and stricter than a GPU:
- pointers know their arrays: an index outside raises IndexError, an unaligned vector load ValueError
- memory starts as NaN, shared memory too: what was never written is seen in the result
- a barrier that some threads of a block reach and others do not, or not at the same line, raises RuntimeError

`cuda` stands for numba-cuda's module of this name, `scalar` for kernels.scalar.
"""

import bisect
import contextvars
import functools
import sys

import numba
import numpy as np
from greenlet import greenlet

from kernels import scalar as compiled_scalar

WARP = 32
MEMORY = 1 << 30             # bytes that the simulated device has

_thread = None               # the simulated thread that runs
_hub = None                  # the greenlet that hands out turns


class Position:
    """Three numbers x, y, z, as threadIdx has them."""

    __slots__ = ("x", "y", "z")

    def __init__(self, x, y=1, z=1):
        self.x, self.y, self.z = x, y, z


class Thread:
    """A simulated thread: where it is, what it waits for, and its block's common memory."""

    __slots__ = ("arrays", "block", "greenlet", "number", "waits_for")

    def __init__(self, block, number, function, args):
        self.block, self.number, self.arrays, self.waits_for = block, number, 0, None
        self.greenlet = greenlet(lambda: function(*args))
        self.greenlet.gr_context = contextvars.copy_context()        # NumPy's errstate


class Block:
    """A block of threads; run() takes them to their ends."""

    def __init__(self, function, args, place, size, grid):
        self.place, self.size, self.grid = Position(*place), Position(size), Position(*grid)
        self.shared, self.exchange = [], {}
        self.threads = [Thread(self, number, function, args) for number in range(size)]

    def run(self):
        global _thread, _hub
        _hub, living = greenlet.getcurrent(), self.threads
        while living:
            for thread in living:
                if thread.waits_for is None:
                    _thread = thread
                    thread.greenlet.switch()
            living = [t for t in living if not t.greenlet.dead]
            self._release(living)

    def _release(self, living):
        """Let those go on whose barrier is complete: all threads of a warp, or all of the block."""
        warps = {}
        for thread in living:
            warps.setdefault(thread.number // WARP, []).append(thread)
        complete = [w for w in warps.values() if all(t.waits_for[0] == "warp" for t in w) and len({t.waits_for for t in w}) == 1]
        if not complete and living:
            places = {thread.waits_for for thread in living}
            if len(places) > 1 or next(iter(places))[0] == "warp":
                raise RuntimeError(f"threads of block {self.place.x, self.place.y, self.place.z} wait at different barriers: {places}")
            complete = [living]
        for threads in complete:
            for thread in threads:
                thread.waits_for = None


def _wait(kind, depth=2):
    caller = sys._getframe(depth)
    _thread.waits_for = kind, caller.f_code.co_filename, caller.f_lineno
    _hub.switch()


def _exchange(value, choose):
    """choose(values of the warp's 32 threads, own lane), after all of them have given theirs."""
    warp, lane = divmod(_thread.number, WARP)
    values = _thread.block.exchange.setdefault(warp, [None] * WARP)
    values[lane] = value
    _wait("warp", 3)
    chosen = choose(values, lane)
    _wait("warp", 3)
    return chosen


class _Memory:
    """cuda.shared and cuda.local."""

    def __init__(self, shared):
        self.is_shared = shared

    def array(self, shape, dtype, alignment=None):
        if not self.is_shared:
            return _poisoned(shape, dtype)
        number, arrays = _thread.arrays, _thread.block.shared       # all threads ask for the same arrays in the same order
        _thread.arrays += 1
        if number == len(arrays):
            arrays.append(Pointer(_poisoned(shape, dtype)))
        return arrays[number]


def _poisoned(shape, dtype):
    array = np.empty(shape, dtype)
    array.view(np.uint8).fill(0xFF)
    return array


class _Cuda:
    """What kernels use of numba-cuda's module `cuda`."""

    shared, local = _Memory(True), _Memory(False)
    threadIdx = property(lambda self: Position(_thread.number, 0, 0))
    blockIdx = property(lambda self: _thread.block.place)
    blockDim = property(lambda self: _thread.block.size)
    gridDim = property(lambda self: _thread.block.grid)

    def grid(self, dimensions):
        return _thread.block.place.x * _thread.block.size.x + _thread.number

    def gridsize(self, dimensions):
        return _thread.block.grid.x * _thread.block.size.x

    def syncthreads(self):
        _wait("block")

    def syncwarp(self, mask=0xFFFFFFFF):
        _wait("warp")

    def shfl_xor_sync(self, mask, value, other):
        return _exchange(value, lambda values, lane: values[lane ^ other])

    def shfl_sync(self, mask, value, source):
        return _exchange(value, lambda values, lane: values[source])


cuda = _Cuda()


class Pointer:
    """A pointer to the numbers of an array, which knows how many there are."""

    __slots__ = ("dtype", "numbers", "size")

    def __init__(self, numbers):
        self.numbers, self.size, self.dtype = numbers, numbers.size, numbers.dtype

    def _check(self, i):
        if not 0 <= i < self.size:
            raise IndexError(f"index {i} is outside an array of {self.size} numbers")

    def __getitem__(self, i):
        if not 0 <= i < self.size:
            self._check(i)
        return self.numbers[i]

    def __setitem__(self, i, value):
        if not 0 <= i < self.size:
            self._check(i)
        self.numbers[i] = value


class Shifted:
    """A pointer to another number than the first, of which only those that the array has may be read."""

    __slots__ = ("base", "dtype", "start")

    def __init__(self, base, start):
        self.base, self.start, self.dtype = base, int(start), base.dtype

    def __getitem__(self, i):
        return self.base[self.start + int(i)]


# ---- the words that compiler.py adds to numba-cuda's -----------------------------------------------------------------

def typed(x, value):
    return x.dtype.type(value)


def like(x, value):
    return type(x)(value)


def at(address, x):
    """The rest of the array in which the address lies."""
    from kernels.cuda import runtime
    return Pointer(runtime.device().numbers(int(address), x.dtype)) if address else Pointer(np.empty(0, x.dtype))


shifted = Shifted


def _check_vector(x, i):
    if not isinstance(x, Pointer):           # a local array, which becomes registers
        return
    x._check(i)
    x._check(i + 3)
    if (x.numbers.ctypes.data + int(i) * x.dtype.itemsize) % 16:
        raise ValueError(f"a vector at index {i} does not lie at a multiple of 16 bytes")


def ld4(x, i):
    if isinstance(x, Shifted):
        return ld4(x.base, x.start + int(i))
    _check_vector(x, i)
    return tuple((x.numbers if isinstance(x, Pointer) else x)[i:i + 4])


def st4(x, i, a, b, c, d):
    _check_vector(x, i)
    (x.numbers if isinstance(x, Pointer) else x)[i:i + 4] = a, b, c, d


def outer4(sums, first, line, a, b):
    for r in range(4):
        for s in range(4):
            sums[first + r * line + s] += a[r] * b[s]


def put(x, i, value):
    x[i] = value


def tf32(x, i):
    """x[i] with 10 bits of fraction, half away from zero, and not its bits."""
    bits = np.float32(x[i]).view(np.uint32)
    return x[i] if not np.isfinite(x[i]) else ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def mma(sums, first, a0, a1, a2, a3, b0, b1):
    sums[first:first + 4] += _exchange((a0, a1, a2, a3, b0, b1), _warp_product)


def _warp_product(values, lane):
    """The lane's four numbers of A B, summed as float32. Lane l gave a0..a3 and b0, b1, as compiler.py says."""
    given = np.array(values, np.float32).reshape(8, 4, 6)                 # [g, q, which]
    row, column = lane // 4, lane % 4 * 2
    a = np.concatenate([given[row, :, :4:2].T.ravel(), given[row, :, 1:4:2].T.ravel()]).reshape(2, 8)
    b = np.concatenate([given[column:column + 2, :, 4].T, given[column:column + 2, :, 5].T])
    return (a @ b).ravel()


def bring16(shared, at, x, i, inside):
    st4(shared, at, *(ld4(x, i) if inside else (np.float32(0),) * 4))


def brought():
    pass


class _Scalar:
    """kernels.scalar, whose functions return NumPy numbers of the type that they have in a kernel, where Numba returns Python's."""

    def __getattr__(self, name):
        value = getattr(compiled_scalar, name)
        if hasattr(value, "py_func"):
            value = _typed_function(value)
        setattr(self, name, value)
        return value


def _typed_function(dispatcher):
    converters = {}

    @functools.wraps(dispatcher.py_func)
    def function(*args):
        value = dispatcher(*args)
        key = tuple(map(type, args))
        if key not in converters:
            result = dispatcher.overloads[tuple(map(numba.typeof, args))].signature.return_type
            kinds = [getattr(np, "bool_" if str(t) == "bool" else str(t)) for t in getattr(result, "types", [result])]
            converters[key] = kinds if hasattr(result, "types") else kinds[0]
        convert = converters[key]
        return tuple([c(v) for c, v in zip(convert, value, strict=True)]) if isinstance(convert, list) else convert(value)
    return function


scalar = _Scalar()


# ---- the device -----------------------------------------------------------------------------------------------------

class Simulator:
    """What runtime.Gpu is, in the host's memory."""

    name, architecture, processors, stream, dlpack_type = "simulator", (9, 0), 4, 0, 1

    def __init__(self):
        self.buffers, self.addresses, self.taken, self.noted = {}, [], 0, None

    def allocate(self, size):
        if self.taken + size > MEMORY:
            return None
        buffer = np.full(size + 256, 0xFF, np.uint8)
        address = -(-buffer.ctypes.data // 256) * 256            # as aligned as the driver's
        self.buffers[address] = buffer[address - buffer.ctypes.data:][:size]
        bisect.insort(self.addresses, address)
        self.taken += size
        return address

    def free(self, address):
        self.taken -= self.buffers.pop(address).size
        self.addresses.remove(address)

    def memory(self):
        return MEMORY - self.taken, MEMORY

    def numbers(self, address, dtype, count=None):
        """The numbers from an address on, `count` of them or all to the end of its block."""
        start = self.addresses[bisect.bisect_right(self.addresses, address) - 1]
        rest = self.buffers[start][address - start:]
        stop = rest.size // dtype.itemsize * dtype.itemsize if count is None else count * dtype.itemsize
        return rest[:stop].view(dtype)

    def upload(self, address, numbers):
        self.numbers(address, numbers.dtype, numbers.size)[:] = numbers.reshape(-1)

    upload_at_once = upload

    def download(self, numbers, address):
        numbers.reshape(-1)[:] = self.numbers(address, numbers.dtype, numbers.size)

    def synchronize(self):
        pass

    def load(self, kernel, kinds):
        return kernel.function

    def begin_capture(self):
        self.noted = []

    def end_capture(self):
        noted, self.noted = self.noted, None
        return noted

    def drop_capture(self):
        self.noted = None

    def launch_graph(self, graph):
        for launch in graph:
            self._run(*launch)

    def free_graph(self, graph):
        pass

    def launch(self, function, grid, threads, args):
        if threads > 1024 or max(grid[1:]) > 65_535 or grid[0] >= 1 << 31:
            raise ValueError(f"a GPU cannot launch {grid} blocks of {threads} threads")
        launch = function, grid, threads, [self._argument(a) for a in args]
        if self.noted is None:
            self._run(*launch)
        else:
            self.noted.append(launch)

    @staticmethod
    def _run(function, grid, threads, args):
        with np.errstate(all="ignore"):
            for z in range(grid[2]):
                for y in range(grid[1]):
                    for x in range(grid[0]):
                        Block(function, args, (x, y, z), threads, grid).run()

    def _argument(self, a):
        if isinstance(a, np.signedinteger | np.bool_):
            return int(a)                                          # index arithmetic in Python's numbers
        if isinstance(a, int | np.generic):
            return a
        dtype = np.dtype(np.uint8) if a.dtype == np.bool_ else a.dtype
        return Pointer(self.numbers(a.address, dtype, a.extent) if a.extent else np.empty(0, dtype))
