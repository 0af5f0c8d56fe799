"""Batches of takes for a model that reads samples one after the other and says which one comes next."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

import kernels
from scratchnn.data.audio import as_float
from scratchnn.data.loader import Position, draw_seed
from scratchnn.data.spectrum import log_mel, pitch, spectrogram
from scratchnn.random import Generator
from scratchnn.tensor import Tensor

BANDS = 32                      # of a mel frame
FEATURES = {"mel": BANDS, "pitch": 3}       # kind of frame: numbers in it


class Clips(NamedTuple):
    """Stretches of takes of about the same length, side by side.

    samples   (B, before + T) int16: what a model hears before it says anything, and what comes then; silence behind the end of shorter ones
    lengths   (B,) how many of the T samples count
    labels    (B, kinds) class numbers, or None
    frames    (B, F, C) float32: what the stretches sound like, frame f from sample f * hop on; or None
    """

    samples: Tensor
    lengths: Tensor
    labels: Tensor | None
    frames: Tensor | None


def features(kind: str, take: np.ndarray, rate: int, hop: int) -> np.ndarray:
    """Frames (F, C) float32 of about unit size of a take (N,), F = ceil(N / hop): of kind "mel" its log mel spectrum, of kind "pitch"
    whether it has one, octaves above 220 Hz, and how loud it is."""
    sound = as_float(take)
    if kind == "mel":
        return (log_mel(sound, rate, BANDS, hop) + 6) / 3
    hertz, level = pitch(sound, rate, hop), np.log(spectrogram(sound, 256, hop).sum(1) + 1e-4)
    octaves = np.where(hertz > 0, np.log2(np.maximum(hertz, 1) / 220), 0)
    return np.stack([hertz > 0, octaves, (level + 4) / 3], 1).astype(np.float32)


def stretches(take: np.ndarray, ends: Sequence[int], before: int) -> list[slice]:
    """Where a take (N,) is divided: parts that end at `ends` and at its end, each with so many samples before it."""
    edges = [before, *ends, len(take)]
    return [slice(start - before, end) for start, end in itertools.pairwise(edges)]


def frames_of(part: slice, hop: int) -> slice:
    """Those of a stretch that begins with a frame, and the one behind it, which has an influence on the last one's second half."""
    return slice(part.start // hop, -(-part.stop // hop) + 1)


def stacked(takes: Sequence[np.ndarray], before: int, labels: np.ndarray | None = None,
            frames: Sequence[np.ndarray] | None = None) -> Clips:
    """Clips of stretches (before + t,), each with a t of its own, their labels (B, kinds) and frames (F, C)."""
    sizes = np.array([len(take) for take in takes])
    samples = np.zeros((len(takes), sizes.max()), np.int16)
    for row, take in zip(samples, takes, strict=True):
        row[:len(take)] = take
    if frames is not None:
        count = max(map(len, frames))
        frames = Tensor(np.stack([np.pad(f, ((0, count - len(f)), (0, 0)), "edge") for f in frames]))
    return Clips(Tensor(samples), Tensor(sizes - before), None if labels is None else Tensor(labels), frames)


class TakeBatches(Position):
    """Batches of takes of about the same length, in a new order each epoch.

    takes       each (N,) int16
    labels      (takes, kinds) int64, or None
    batch_size  stretches in a batch
    longest     samples; longer takes are divided, at other places each epoch
    before      samples that a model hears before it says anything, a multiple of hop: in front of a take, silence that is known to be there
    after       samples of silence behind each take that are learnt too, so that a model's sounds come to an end
    frames      makes frames (F, C) of a take, one for each hop samples, or None

    A pass is an epoch of Clips. Everything follows from the seed, which is drawn once from the generator, and the epoch.
    """

    settings = ("batch_size", "longest", "before", "after", "hop")

    def __init__(self, takes: Sequence[np.ndarray], labels: np.ndarray | None, batch_size: int, longest: int, before: int, after: int,
                 frames: Callable[[np.ndarray], np.ndarray] | None = None, hop: int = 1, *, generator: Generator | None = None):
        super().__init__([np.pad(take, (before, after)) for take in takes], generator)
        self.labels, self.batch_size, self.longest, self.before, self.after, self.hop = labels, batch_size, longest, before, after, hop
        self.frames = None if frames is None else [frames(take) for take in self.arrays]

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-sum(self._parts(take) for take in self.arrays) // self.batch_size)

    def _parts(self, take):
        return -(-(len(take) - self.before) // self.longest)

    def __iter__(self) -> Iterator[Clips]:
        batches = self._batches()
        try:
            while self.position < len(self):
                batch = batches[self.position]
                self.position += 1
                yield self._clips(batch)
        finally:
            self.epoch, self.position = self.epoch + 1, 0

    def _batches(self):
        """This epoch's stretches, (number of the take, slice), sorted into batches."""
        seed = draw_seed(self.seed, self.epoch)
        shifts, parts = kernels.uniform(seed, 0, (len(self.arrays),), np.dtype(np.float32)), []
        for i, take in enumerate(self.arrays):
            count, size = self._parts(take), len(take) - self.before
            ends = np.arange(1, count) * size / count + (shifts[i] - 0.5) * (self.longest - size / count)
            ends = self.before + ends.astype(int) // self.hop * self.hop
            parts += [(i, part) for part in stretches(take, ends.tolist(), self.before)]
        jitter = kernels.uniform(seed, 1 << 32, (len(parts),), np.dtype(np.float32))
        order = np.argsort([(part.stop - part.start) * (0.8 + 0.4 * u) for (_, part), u in zip(parts, jitter, strict=True)], kind="stable")
        groups = [[parts[i] for i in order[at:at + self.batch_size]] for at in range(0, len(order), self.batch_size)]
        return [groups[i] for i in kernels.permutation(seed, 1 << 33, len(groups))]

    def _clips(self, batch):
        frames = None
        if self.frames is not None:
            frames = [self.frames[i][frames_of(part, self.hop)] for i, part in batch]
        labels = None if self.labels is None else self.labels[[i for i, _ in batch]]
        return stacked([self.arrays[i][part] for i, part in batch], self.before, labels, frames)
