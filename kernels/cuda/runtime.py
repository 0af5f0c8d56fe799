"""What happens at run time: memory, copies and launches, on one GPU and in one stream.

Work is handed to the GPU in order and done in that order, while Python goes on; only what brings numbers back to the host waits
for it. So memory that is given back while a kernel may still use it can go to the next array at once: its kernels come later.

A graph (kernels/cuda/graph.py) is work that is handed out as a whole, again and again. While one is captured, launches are noted and not
run; while its numbers are renewed, `launch` does nothing.

`device()` is the GPU (a Gpu), or with SCRATCHNN_CUDA=simulator a stand-in in the host's memory (kernels/cuda/simulator.py); both have
the same methods. Nothing here runs before the first array is made.
"""

import ctypes
import functools

import numpy as np

from kernels import config
from kernels.cuda.compiler import kind_of

CTYPES = {"float32": ctypes.c_float, "float64": ctypes.c_double, "int32": ctypes.c_int32, "int64": ctypes.c_int64,
          "uint32": ctypes.c_uint32, "uint64": ctypes.c_uint64, "bool": ctypes.c_uint8, "uint8": ctypes.c_uint8}
SMALL_STEP, LARGE = 512, 1 << 20       # sizes of blocks: multiples of 512 bytes up to 1 MiB, beyond that eight to each power of two


class OutOfMemory(MemoryError):
    """The GPU has no room for an array. What was there before is untouched, and arrays that are deleted make room again."""


class Gpu:
    """The first GPU of this process, through the driver's own interface."""

    def __init__(self):
        try:
            from cuda.bindings import driver
            self.driver = driver
            self._call("cuInit", 0)
            handle = self._call("cuDeviceGet", 0)
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise RuntimeError(f"device 'cuda' was asked for, but there is no GPU that can be used: {reason} Needed are an NVIDIA GPU and "
                               "its driver for CUDA 13.0 or later; `nvidia-smi` shows both") from error
        self.context = self._call("cuDevicePrimaryCtxRetain", handle)           # the one that PyTorch and CuPy use too
        self._call("cuCtxSetCurrent", self.context)
        self.name = self._call("cuDeviceGetName", 256, handle).split(b"\0")[0].decode()
        attributes = driver.CUdevice_attribute
        major, minor, self.processors = (self._call("cuDeviceGetAttribute", getattr(attributes, f"CU_DEVICE_ATTRIBUTE_{name}"), handle)
                                         for name in ("COMPUTE_CAPABILITY_MAJOR", "COMPUTE_CAPABILITY_MINOR", "MULTIPROCESSOR_COUNT"))
        self.architecture = major, minor
        self.stream = self._call("cuStreamCreate", 0)       # waits for, and is waited for by, work in the default stream of others
        self.aside = self._call("cuStreamCreate", driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value)       # uploads during a capture
        self.dlpack_type = 2

    def _call(self, name, *args):
        """A function of the driver; what it returns beyond its status. RuntimeError with the driver's words for any other status than 0."""
        status, *results = getattr(self.driver, name)(*args)
        if status != self.driver.CUresult.CUDA_SUCCESS:
            words = self.driver.cuGetErrorString(status)[1]
            error = RuntimeError(f"{name} failed: {words.decode() if words else status}.")
            error.status = status
            raise error
        return results[0] if len(results) == 1 else results

    def allocate(self, size):
        """Address of so many bytes of the GPU's memory; None if there is no room."""
        try:
            return int(self._call("cuMemAlloc", size))
        except RuntimeError as error:
            if error.status == self.driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
                return None
            raise

    def free(self, address):
        self._call("cuMemFree", address)

    def memory(self):
        """(free, all) bytes of the GPU."""
        return self._call("cuMemGetInfo")

    def upload(self, address, numbers):
        self._call("cuMemcpyHtoDAsync", address, numbers.ctypes.data, numbers.nbytes, self.stream)
        if numbers.nbytes > 65536:           # smaller ones the driver keeps a copy of; these it may still read after it returned
            self.synchronize()

    def download(self, numbers, address):
        self._call("cuMemcpyDtoHAsync", numbers.ctypes.data, address, numbers.nbytes, self.stream)
        self.synchronize()

    def upload_at_once(self, address, numbers):
        """Past the stream, which is being captured."""
        self._call("cuMemcpyHtoDAsync", address, numbers.ctypes.data, numbers.nbytes, self.aside)
        self._call("cuStreamSynchronize", self.aside)

    def synchronize(self):
        """Wait until all work is done. An error of an earlier kernel, such as an illegal address, appears here."""
        self._call("cuStreamSynchronize", self.stream)

    def begin_capture(self):
        """From now on the stream's work is noted, not done. Memory may be taken from the driver meanwhile (the mode RELAXED)."""
        self._call("cuStreamBeginCapture", self.stream, self.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)

    def end_capture(self):
        """What was noted, ready to run."""
        graph = self._call("cuStreamEndCapture", self.stream)
        try:
            return self._call("cuGraphInstantiate", graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)

    def drop_capture(self):
        """End a capture that failed."""
        self._call("cuGraphDestroy", self._call("cuStreamEndCapture", self.stream))

    def launch_graph(self, graph):
        self._call("cuGraphLaunch", graph, self.stream)

    def free_graph(self, graph):
        self._call("cuGraphExecDestroy", graph)

    def load(self, kernel, kinds):
        """Machine code for these types of arguments, ready to run: (function, the arguments' C types)."""
        compiled = kernel.compile(kinds, self.architecture)
        module = self._call("cuModuleLoadData", compiled.cubin)
        function = self._call("cuModuleGetFunction", module, compiled.name.encode())
        return function, tuple([ctypes.c_void_p if kind[0] == "*" else CTYPES[kind] for kind in kinds])

    def launch(self, loaded, grid, threads, args):
        function, kinds = loaded
        values = tuple([a.item() if isinstance(a, np.generic) else a if isinstance(a, int) else a.address for a in args])
        self._call("cuLaunchKernel", function, *grid, threads, 1, 1, 0, self.stream, (values, kinds), 0)


@functools.cache
def device():
    """The device that everything runs on. RuntimeError that says what is missing if there is none."""
    if config.CUDA == "simulator":
        from kernels.cuda.simulator import Simulator
        return Simulator()
    return Gpu()


def is_available():
    """Whether there is a GPU that can be used, and everything that is needed to use it."""
    try:
        device()
    except RuntimeError:
        return False
    return True


def synchronize():
    """Wait until all work that was handed out is done: before a clock is read."""
    refuse_in_capture()
    device().synchronize()
    _look()


def download(numbers, address):
    """Numbers from the GPU into a NumPy array; waits for the GPU."""
    refuse_in_capture()
    device().download(numbers, address)
    _look()


looks = []             # functions that are called whenever the host has waited for the GPU (kernels/cuda/checks.py)


def _look():
    for look in looks:
        look()


def refuse_in_capture():
    """RuntimeError while a graph is captured, for what the host would have to do each time that it runs."""
    if captured is not None:
        raise RuntimeError("a CUDA graph is being captured: numbers cannot come to or from the host, or be waited for, within it. What "
                           "needs them (.item(), .cpu(), printing, a branch that depends on them, another graph) belongs before or "
                           "behind it")


# ---- launches -------------------------------------------------------------------------------------------------------

_loaded = {}           # (kernel, types of its arguments): what the device made of it
captured = None        # the Graph that is being captured
renewed = None         # the Graph whose numbers are being renewed


def launch(kernel, grid, threads, args):
    """Run a kernel on `grid` blocks (a number, or up to three) of so many threads each."""
    if renewed is not None:
        return
    key = (kernel, *[type(a) if isinstance(a, (int, np.generic)) else a.dtype for a in args])
    loaded = _loaded.get(key)
    if loaded is None:
        if threads > kernel.threads:
            raise ValueError(f"{kernel.name} is compiled for blocks of at most {kernel.threads} threads, not {threads}")
        loaded = _loaded[key] = device().load(kernel, tuple(map(kind_of, args)))
    grid = (grid, 1, 1) if isinstance(grid, int) else (*grid, 1, 1)[:3]
    if captured is not None:
        captured.keep(args)
    if 0 not in grid:
        device().launch(loaded, grid, threads, args)


# ---- memory ---------------------------------------------------------------------------------------------------------

class Shelf:
    """Blocks that wait for an array: blocks[size] = [address, ...]. A graph has one of its own, since what it writes to must not become
    another's."""

    __slots__ = ("blocks",)

    def __init__(self):
        self.blocks = {}


class Pool:
    """Memory that arrays gave back, by size, for the next arrays: the driver takes 100 us or more for a new block, this 1.

    held       bytes in blocks that belong to arrays
    waiting    bytes in blocks that wait for an array
    shelf      where blocks are taken from: that of all, or that of a graph that is captured
    """

    def __init__(self):
        self.common = self.shelf = Shelf()
        self.held = self.waiting = self.arrays = 0

    @staticmethod
    def size_class(size):
        """Bytes of the block for so many: at most an eighth more from 1 MiB on."""
        if size <= LARGE:
            return max(SMALL_STEP, -(-size // SMALL_STEP) * SMALL_STEP)
        step = 1 << (size.bit_length() - 4)
        return -(-size // step) * step

    def get(self, size, shelf):
        """(address, size) of a block for so many bytes. OutOfMemory if there is none, even after all that waited was given back."""
        size_class = self.size_class(size)
        waiting = shelf.blocks.get(size_class)
        if waiting:
            address = waiting.pop()
            self.waiting -= size_class
        else:
            address = device().allocate(size_class)
            if address is None and captured is None:
                self.release()
                address = device().allocate(size_class)
            if address is None:
                raise OutOfMemory(self._complaint(size))
        self.held += size_class
        self.arrays += 1
        return address, size_class

    def put(self, address, size_class, shelf):
        shelf.blocks.setdefault(size_class, []).append(address)
        self.held -= size_class
        self.waiting += size_class
        self.arrays -= 1

    def release(self):
        """Give all blocks that wait for anybody's array back to the driver, once no kernel uses them any more."""
        device().synchronize()
        for size_class, addresses in self.common.blocks.items():
            while addresses:
                device().free(addresses.pop())
                self.waiting -= size_class

    def dissolve(self, shelf):
        """The blocks of a graph that is gone, those that come back later too, are anybody's."""
        for size_class, addresses in shelf.blocks.items():
            self.common.blocks.setdefault(size_class, []).extend(addresses)
        shelf.blocks = self.common.blocks

    def _complaint(self, size):
        free, total = device().memory()
        return (f"the GPU has no room for an array of {_readable(size)}: scratchnn holds {_readable(self.held)} in {self.arrays} arrays, "
                f"and {_readable(free)} of the GPU's {_readable(total)} are free. Smaller batches need less; arrays that are no longer "
                "needed make room once nothing refers to them")


def _readable(size):
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"


pool = Pool()


class Block:
    """Memory of an array and its views; it goes back to the pool when the last of them is gone."""

    __slots__ = ("__weakref__", "address", "shelf", "size")

    def __init__(self, address, size, shelf):
        self.address, self.size, self.shelf = address, size, shelf

    def __del__(self, pool=pool):                 # a default, as the module's own name may be gone when the interpreter ends
        pool.put(self.address, self.size, self.shelf)


def new_block(size, shelf=None):
    """A Block for so many bytes."""
    shelf = shelf or pool.shelf
    return Block(*pool.get(size, shelf), shelf)

