"""GPUs, under the names of torch.cuda. Importing it needs no CUDA package; what needs one says which are missing.

    with snn.cuda.graph(g): ...         a CUDA graph, captured once; g.replay() does its work again
    step = snn.cuda.graphed(step)       the same for a training step, with inputs of its own
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

from kernels import config
from scratchnn.grad_mode import no_grad
from scratchnn.optim import optimizer
from scratchnn.random import default_generator
from scratchnn.tensor import Tensor

__all__ = ["CUDAGraph", "empty_cache", "get_device_name", "get_float32_matmul_precision", "graph", "graphed", "is_available",
           "memory_allocated", "memory_reserved", "set_float32_matmul_precision", "synchronize"]


def _runtime():
    from kernels.cuda import runtime
    return runtime


def is_available() -> bool:
    """Whether there is a GPU that can be used, and everything that is needed to use it."""
    try:
        return _runtime().is_available()
    except RuntimeError:                       # a package is missing
        return False


def get_device_name() -> str:
    """The GPU's name. RuntimeError without one."""
    return _runtime().device().name


def synchronize() -> None:
    """Wait until all work on the GPU is done: before a clock is read. Errors of that work appear here."""
    _runtime().synchronize()


def memory_allocated() -> int:
    """Bytes of the GPU's memory that arrays hold."""
    return _runtime().pool.held


def memory_reserved() -> int:
    """Bytes of the GPU's memory that scratchnn has taken: for arrays, and for those to come."""
    return _runtime().pool.held + _runtime().pool.waiting


def empty_cache() -> None:
    """Give the memory that waits for arrays to come back, so that other programs can have it."""
    _runtime().pool.release()


def set_float32_matmul_precision(precision: str) -> None:
    """How products of float32 matrices are computed on a GPU: "highest" with all digits (the default), "high" on its tensor cores, which
    read operands rounded to 11 binary digits, a relative error of up to 2^-11 in each (TF32). The CPU has no such choice."""
    if precision not in ("highest", "high"):
        raise ValueError(f"set_float32_matmul_precision: precision must be 'highest' or 'high', not {precision!r}")
    config.TF32 = precision == "high"


def get_float32_matmul_precision() -> str:
    """What set_float32_matmul_precision set, or the environment's SCRATCHNN_TF32."""
    return "high" if config.TF32 else "highest"


# ---- graphs ---------------------------------------------------------------------------------------------------------------

class CUDAGraph:
    """Work on the GPU that is captured once, by `graph`, and done again by `replay()`, which takes one launch for all.

    A replay computes what was captured from the same tensors, whatever they hold by then, into the same tensors. New in each are random
    numbers, which go on where the default generator stands, and the steps of optimisers: their count, and options such as the learning
    rate as they are by then. Everything else that Python decides stays as it was: branches, train() or eval(), what a `.item()` gave,
    which is refused. Do the work once before it is captured, so that kernels are compiled and optimisers have their state, and capture
    anew after an optimiser's load_state_dict.
    """

    def __init__(self):
        from kernels.cuda.graph import Graph
        self._graph, self._updates, self._ran = Graph(), [], False

    def _capture(self):
        return self._graph.capture(default_generator.seed, default_generator.offset)

    def _captured_update(self, update):
        self._updates.append((len(self._graph.numbers), update))
        update()

    def replay(self) -> None:
        """Do the work: for the first time what was captured, after that the same with what is new."""
        _runtime().refuse_in_capture()
        seed, start = self._graph.stream
        if default_generator.seed != seed:
            raise RuntimeError(f"the CUDA graph was captured with the seed {seed}, the default generator has {default_generator.seed} now; "
                               "capture it anew after manual_seed()")
        shift = 0
        if self._ran:
            shift = default_generator.take(self._blocks)[1] - start
            for first, update in self._updates:
                self._graph.renew(first, update)
        self._ran = True
        self._graph.run(shift)


@contextlib.contextmanager
def graph(cuda_graph: CUDAGraph) -> Iterator[None]:
    """Capture in `cuda_graph` what is done in the with statement. It is not done yet: replay() does it, from the first time on.

    RuntimeError for what cannot be captured, above all numbers that come to the host.
    """
    if optimizer.captured is not None:
        raise RuntimeError("a CUDA graph cannot be captured within another")
    optimizer.captured = cuda_graph._captured_update
    try:
        with cuda_graph._capture():
            yield
    finally:
        optimizer.captured = None
    cuda_graph._blocks = default_generator.offset - cuda_graph._graph.stream[1]


def graphed(step: Callable) -> Callable:
    """`step(*inputs)`, a function that returns a Tensor, several or None, such as a training step, by CUDA graphs.

        @snn.cuda.graphed
        def learn(x, y):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

    Tensors of shapes that have not been there are worked on by `step` itself; the next time a graph is captured for these shapes, and
    replayed from then on, with the Tensors copied to where it reads them. Other inputs, such as True or None, have a graph for each value.
    What it returns, without history, is overwritten by the next call. Results are those of `step`, bit for bit. Where inputs lie on the
    CPU, `step` is simply called. See CUDAGraph for what it may do; above all, what it changes must be changed in place.
    """
    known = {}

    @functools.wraps(step)
    def run(*inputs):
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        if not tensors or tensors[0].device.type == "cpu" or optimizer.captured is not None:          # or it becomes part of another graph
            return step(*inputs)
        kind = tuple([(x.shape, x.dtype) if isinstance(x, Tensor) else x for x in inputs])
        if kind not in known:
            known[kind] = None
            return step(*inputs)
        if known[kind] is None:
            known[kind] = _captured(step, inputs)
        cuda_graph, own, results = known[kind]
        with no_grad():
            for x, given in zip(own, tensors, strict=True):
                x.copy_(given)
        cuda_graph.replay()
        return results
    return run


def _captured(step, inputs):
    """(the graph of a step, the Tensors that it reads, its results)"""
    cuda_graph, inputs = CUDAGraph(), [x.detach().clone() if isinstance(x, Tensor) else x for x in inputs]
    with graph(cuda_graph):
        results = step(*inputs)
    if isinstance(results, tuple):
        results = getattr(results, "_make", tuple)(r.detach() for r in results)
    elif results is not None:
        results = results.detach()
    return cuda_graph, [x for x in inputs if isinstance(x, Tensor)], results
