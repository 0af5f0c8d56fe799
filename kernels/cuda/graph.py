"""CUDA graphs: work that is noted once and then handed to the GPU as a whole, again and again.

A small network's kernels take less time than Python takes to launch them. A graph takes one launch for all. Every run does exactly what
was noted: the same kernels at the same addresses with the same numbers. So

- memory that was given out while it was noted stays the graph's own (a Shelf), whatever becomes of its arrays
- numbers of the host are constants, but for two kinds, which lie in the GPU's memory and are renewed before each run: where the stream of
  random numbers stands, and what an optimiser's step is told (kernels/cuda/optimizer.py), as Adam's divisors and the learning rate
- nothing can come back to the host on the way; checks (kernels/cuda/checks.py) are looked at afterwards
"""

import contextlib

import numpy as np

from kernels.cuda import array, runtime
from kernels.cuda.checks import Checks

_started = []          # graphs that ran since the host last waited
runtime.looks.append(lambda: _look())


def _look():
    while _started:
        _started.pop().checks.look(again=True)


class Graph:
    """Work on the GPU that can be run again.

    with graph.capture(seed, offset):          the work, which isn't done yet; it may use random numbers of this seed, from `offset` on
        ...
    graph.run(blocks)                          do it, with the random numbers so many blocks further on
    graph.renew(first, update)                 before a run: the optimiser's numbers number `first` and up are those that `update()` gives

    A graph that could not be captured, since its work needs the host, raises RuntimeError and is of no use.
    """

    def __init__(self):
        self.device, self.handle = runtime.device(), None
        self.shelf, self.constants = runtime.Shelf(), runtime.Shelf()
        self.checks, self.shift = Checks(), array.full(1, 0, np.uint64)
        self.kept, self.numbers, self.next = [], [], 0

    def __del__(self, pool=runtime.pool):
        if self.handle is not None:
            self.device.free_graph(self.handle)
        pool.dissolve(self.shelf)
        pool.dissolve(self.constants)

    @contextlib.contextmanager
    def capture(self, seed, offset):
        if runtime.captured is not None or self.handle is not None:
            raise RuntimeError("a CUDA graph is captured once, and not within another")
        self.stream = seed, offset
        self.checks.open()
        runtime.pool.release()                         # the graph takes new memory, and cannot give back what waits while it is captured
        self.device.begin_capture()
        runtime.captured, runtime.pool.shelf = self, self.shelf
        try:
            yield self
        except BaseException:
            with contextlib.suppress(RuntimeError):
                self.device.drop_capture()
            raise
        finally:
            runtime.captured, runtime.pool.shelf = None, runtime.pool.common
        self.handle = self.device.end_capture()

    def run(self, blocks=0):
        """Do the work once more, with random numbers from so many Philox blocks after those it was captured with."""
        array.upload_into(self.shift, np.array([blocks], np.uint64))
        self.device.launch_graph(self.handle)
        if self.checks.asked and self not in _started:
            _started.append(self)

    def renew(self, first, update):
        """Call `update` for its numbers alone (optimiser_numbers): launches do nothing meanwhile."""
        runtime.renewed, self.next = self, first
        try:
            update()
        finally:
            runtime.renewed = None

    # -- while it is captured

    def keep(self, arrays):
        """Arrays from outside that the work uses must not be given to others, even if nobody else refers to them."""
        self.kept += [a.block for a in arrays if isinstance(a, array.DeviceArray) and getattr(a.block, "shelf", None) is not self.shelf]

    def constant(self, numbers):
        """A NumPy array on the GPU, there at once and for as long as the graph, in memory that nothing else is written to."""
        block = runtime.new_block(numbers.nbytes, self.constants)
        self.kept.append(block)
        if numbers.size:
            self.device.upload_at_once(block.address, numbers)
        return array.DeviceArray(block, block.address, numbers.shape, numbers.dtype)

    def check_stream(self, seed, offset):
        """Only random numbers of the stream that the graph was captured with are new in each run."""
        if seed != self.stream[0] or offset < self.stream[1]:
            raise RuntimeError("within a CUDA graph random numbers come from the default generator alone; draw those of another one before")


_no_shift = None


def shift(seed, offset):
    """Array of one number: how many blocks further on than `offset` the stream of random numbers begins. 0 outside of graphs."""
    global _no_shift
    if runtime.captured is not None:
        runtime.captured.check_stream(seed, offset)
        return runtime.captured.shift
    if _no_shift is None:
        _no_shift = array.full(1, 0, np.uint64)
    return _no_shift


def optimiser_numbers(values):
    """A NumPy array on the GPU, which a graph has new values of in each run."""
    if runtime.renewed is not None:
        found = runtime.renewed.numbers[runtime.renewed.next]
        runtime.renewed.next += 1
        array.upload_into(found, values)
        return found
    found = array.to_device(values)
    if runtime.captured is not None:
        runtime.captured.numbers.append(found)
    return found
