"""Random numbers: counter-based (Philox 4x32-10), so that a seed and an offset say everything.

A Generator is two whole numbers: the seed, and how many blocks of four 32-bit words were handed out. The same pair gives the same
numbers on any number of threads and on any device, and a checkpoint holds the whole state.
"""

from __future__ import annotations

import os


class Generator:
    """A stream of random numbers. State: {"seed", "offset"}."""

    def __init__(self, seed: int = 0):
        self.manual_seed(seed)

    def __repr__(self):
        return f"Generator(seed={self.seed}, offset={self.offset})"

    def manual_seed(self, seed: int) -> Generator:
        """Start again from a seed in 0..2^64 - 1."""
        if not 0 <= seed < 2 ** 64:
            raise ValueError(f"a seed must lie in 0..2^64 - 1, got {seed}")
        self.seed, self.offset = int(seed), 0
        return self

    def take(self, blocks: int) -> tuple[int, int]:
        """Reserve `blocks` blocks of four words: the (seed, offset) at which they start."""
        start, self.offset = self.offset, self.offset + blocks
        return self.seed, start

    def get_state(self) -> dict[str, int]:
        return {"seed": self.seed, "offset": self.offset}

    def set_state(self, state: dict[str, int]) -> None:
        self.manual_seed(state["seed"])
        self.offset = int(state["offset"])


default_generator = Generator(int.from_bytes(os.urandom(4), "little"))


def manual_seed(seed: int) -> Generator:
    """Seed the generator that everything uses unless it is given another one."""
    return default_generator.manual_seed(seed)


def get_rng_state() -> dict[str, int]:
    """Where the generator that everything uses stands: its seed and offset."""
    return default_generator.get_state()


def set_rng_state(state: dict[str, int]) -> None:
    """Go on from where `get_rng_state` found it."""
    default_generator.set_state(state)
