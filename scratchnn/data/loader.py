"""DataLoader: batches in a seeded random order, prepared ahead by threads, with a position that a checkpoint can hold."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np

import kernels
from scratchnn.random import Generator, default_generator
from scratchnn.tensor import Tensor

AHEAD = 2   # batches that each worker prepares before they are asked for


class Position:
    """Where a pass over batches stands, for checkpoints: a seed, the epoch, and how many of its batches were handed out.

    A subclass names in `settings` the attributes that its batches depend on besides the numbers of `arrays`.
    """

    settings: tuple[str, ...] = ()

    def __init__(self, arrays: Sequence[np.ndarray], generator: Generator | None):
        self.arrays = arrays
        self.seed = draw_seed(*(generator or default_generator).take(1))
        self.epoch = self.position = 0

    def state_dict(self) -> dict:
        """Where it stands, and what its batches depend on."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position, "content": self._content,
                **{name: getattr(self, name) for name in self.settings}}

    def load_state_dict(self, state: dict) -> None:
        """Continue where `state` was taken. Raises ValueError if it is of other data or other settings."""
        kind = type(self).__name__
        for name in self.settings:
            if state[name] != getattr(self, name):
                raise ValueError(f"{kind}: the state has {name}={state[name]}, this one has {getattr(self, name)}")
        if state["content"] != self._content:
            alike = ", ".join(f"{name}={state[name]}" for name in self.settings)
            raise ValueError(f"{kind}: the state is of other data: the same {alike}, but other numbers in them")
        self.seed, self.epoch, self.position = state["seed"], state["epoch"], state["position"]

    @cached_property
    def _content(self):
        """What tells these arrays from others of their size, taken once (0.05 s for the 188 MB of MNIST)."""
        checksum = 0
        for a in self.arrays:
            checksum = zlib.crc32(np.ascontiguousarray(a).reshape(-1).view(np.uint8), zlib.crc32(f"{a.dtype} {a.shape}".encode(), checksum))
        return checksum


class DataLoader(Position):
    """Cuts arrays into batches; a pass over it (`for x, y in loader`) is an epoch.

    arrays        a tuple of arrays of equal length, of which a batch holds the same rows: (B, ...) each, as a tuple of Tensors;
                  or a single array, whose batches are single Tensors
    batch_size    rows in a batch
    shuffle       a new random order each epoch
    num_workers   threads that prepare batches ahead; 0 prepares them when asked. The batches are the same for any number
    drop_last     leave out a last batch that is not full
    generator     the loader draws a seed of its own from it, once (default: the global generator)
    transform     transform(*arrays, generator) -> as many arrays, called for each batch, for instance to distort pictures; what it
                  draws from its generator depends on the seed, the epoch and the batch, not on the worker

    Order and transform are functions of the seed, the epoch and the position alone, so `state_dict()` is a few numbers, and
    a loader that loads them goes on with the very same batches. A pass left by `break` is over: the next is a new epoch.
    """

    settings = ("rows", "batch_size")

    def __init__(self, arrays: Sequence | np.ndarray | Tensor, batch_size: int = 1, shuffle: bool = False, *, num_workers: int = 0,
                 drop_last: bool = False, generator: Generator | None = None, transform: Callable | None = None):
        self.single = not isinstance(arrays, (tuple, list))
        arrays = [np.asarray(a) for a in ([arrays] if self.single else arrays)]
        lengths = [len(a) for a in arrays]
        if not lengths or min(lengths) == 0 or len(set(lengths)) > 1:
            raise ValueError(f"DataLoader takes one or more arrays of one length above 0, got lengths {lengths}")
        if batch_size < 1 or num_workers < 0:
            raise ValueError(f"DataLoader needs batch_size >= 1 and num_workers >= 0, got {batch_size} and {num_workers}")
        self.rows, self.batch_size, self.shuffle = lengths[0], batch_size, shuffle
        self.num_workers, self.drop_last, self.transform = num_workers, drop_last, transform
        if drop_last and batch_size > self.rows:
            raise ValueError(f"DataLoader with drop_last has no batch: batch_size {batch_size} exceeds the {self.rows} rows")
        super().__init__(arrays, generator)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.rows // self.batch_size if self.drop_last else -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator:
        order = self._order()
        batches = self._prepared(order) if self.num_workers else (self._batch(order, b) for b in range(self.position, len(self)))
        try:
            for batch in batches:
                self.position += 1
                yield Tensor(batch[0]) if self.single else tuple(Tensor(a) for a in batch)
        finally:
            self.epoch, self.position = self.epoch + 1, 0

    def _order(self):
        """Row numbers in the order of this epoch, (rows,) int64."""
        if not self.shuffle:
            return np.arange(self.rows)
        return kernels.permutation(draw_seed(self.seed, self.epoch << 32), 0, self.rows)

    def _batch(self, order, number):
        rows = order[number * self.batch_size:(number + 1) * self.batch_size]
        batch = [a[rows] for a in self.arrays]
        if self.transform is None:
            return batch
        generator = Generator(draw_seed(self.seed, (self.epoch << 32) + number + 1))
        batch = self.transform(*batch, generator)
        return [batch] if self.single else batch

    def _prepared(self, order):
        """The batches from the position on, in order, prepared by threads. Leaving the generator at any point ends the threads."""
        pool = ThreadPoolExecutor(self.num_workers, "scratchnn-loader")
        waiting = deque()
        try:
            numbers = iter(range(self.position, len(self)))
            for number in numbers:
                waiting.append(pool.submit(self._batch, order, number))
                if len(waiting) > AHEAD * self.num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def draw_seed(seed: int, block: int) -> int:
    """A seed of 63 bits for a purpose of its own: the first two words of Philox block `block` under `seed`."""
    low, high = (int(word) for word in kernels.words(seed, block, 2))
    return (high & 0x7FFFFFFF) << 32 | low
