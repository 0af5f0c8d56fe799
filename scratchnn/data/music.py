"""Music for models: chorales, folk tunes, tunes of our own composer, a folder of the user's MIDI files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import kernels
from scratchnn.data import events
from scratchnn.data.composer import QUARTER, compose
from scratchnn.data.dataset import DataError
from scratchnn.data.download import fetch
from scratchnn.data.files import read_bytes
from scratchnn.data.loader import Position, draw_seed
from scratchnn.data.mat import read_cells
from scratchnn.data.midi import read_midi
from scratchnn.data.score import KEYS, LONGEST, Score, as_roll
from scratchnn.random import Generator
from scratchnn.tensor import Tensor

LARGEST = 1 << 24       # bytes of a file; the published ones have less than half a million
CELLS = 1 << 28         # of all rolls of a file: what 370 kB of Nottingham unpack to is a tenth of it


@dataclass(frozen=True)
class Music:
    """Pieces in parts: to learn from, to choose settings by, to be judged by.

    train, valid, test   piano rolls, each (T, 88) uint8 of 0 and 1 with a T of its own, 2 or more
    quarter              steps in a quarter note;  tempo   quarters a minute, to play them at
    scores               the same pieces as notes, by part, where they come from files that have them
    """

    name: str
    train: Sequence[np.ndarray]
    valid: Sequence[np.ndarray]
    test: Sequence[np.ndarray]
    quarter: int
    tempo: float
    scores: dict[str, list[Score]] | None = None

    def __post_init__(self):
        for part in ("train", "valid", "test"):
            rolls = getattr(self, part)
            if not len(rolls):
                raise DataError(f"{self.name}: no piece for the part {part!r}")
            for i, roll in enumerate(rolls):
                if roll.ndim != 2 or roll.shape[1] != KEYS or not 2 <= len(roll) <= LONGEST or roll.dtype != np.uint8 or roll.max() > 1:
                    raise DataError(f"{self.name}: piece {i} of {part} has shape {roll.shape}, {roll.dtype}; a piece takes 2 to {LONGEST} "
                                    f"steps of {KEYS} keys that are 0 or 1")

    def notes(self, part: str) -> list[Score]:
        """The pieces of a part as notes: as their files have them, or with held notes where only rolls are known."""
        if self.scores:
            return self.scores[part]
        return [Score.of_roll(roll, self.quarter, self.tempo) for roll in getattr(self, part)]


def jsb_chorales() -> Music:
    """J. S. Bach's chorales in quarter notes, 229 / 76 / 77 of them, as N. Boulanger-Lewandowski, Y. Bengio & P. Vincent (2012) divided
    them."""
    return read_json(fetch("jsb-chorales") / "jsb-chorales-quarter.json", "jsb-chorales", 1, 80)


def nottingham() -> Music:
    """British and American folk tunes with chords in sixteenths, 694 / 173 / 170 of them, likewise."""
    return read_mat(fetch("nottingham") / "Nottingham.mat", "nottingham", 4, 110)


def tunes() -> Music:
    """480 / 60 / 60 tunes with chords in eighths, by the rules of scratchnn.data.composer; always the same."""
    scores = [compose(0, i) for i in range(600)]
    parts = {"train": scores[:480], "valid": scores[480:540], "test": scores[540:]}
    return Music("tunes", *([score.roll() for score in part] for part in parts.values()), QUARTER, 104.0, parts)


def midi_folder(path: str | Path, steps: int = 4) -> Music:
    """The MIDI files of a folder (.mid, .midi) in order of their names, in steps of which a quarter has `steps`; every tenth is to choose
    settings by, and the one after it for the test. The tempo is the median of theirs.

    A warning reports what was skipped and why. Raises DataError if less than three pieces are left, OSError.
    """
    path = Path(path)
    if not 1 <= steps <= 96:
        raise DataError(f"{path}: steps of a quarter must lie in 1..96, got {steps}")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".mid", ".midi"))
    scores, skipped, size = [], [], 0
    for file in files:
        try:
            score = read_midi(file, steps)
            roll = score.roll()
            if len(roll) < 2 or not roll.any():
                raise DataError(f"{file}: has no two steps that a piano can play")
        except (DataError, OSError) as error:
            skipped.append(str(error))
            continue
        scores.append(score)
        size += roll.size
        if size > CELLS:
            raise DataError(f"{path}: more than {CELLS // KEYS:,} steps in all; take fewer files, or fewer steps in a quarter")
    report = "\n  ".join(skipped[:10]) + ("\n  ..." if len(skipped) > 10 else "")
    if len(scores) < 3:
        raise DataError(f"{path}: {len(scores)} pieces in {len(files)} MIDI files, 3 are needed; skipped {len(skipped)}:\n  {report}")
    if skipped:
        warnings.warn(f"{path}: {len(scores):,} pieces read, {len(skipped):,} files skipped:\n  {report}", stacklevel=2)
    parts = {"train": [s for i, s in enumerate(scores) if i % 10 not in (1, 2)], "valid": scores[1::10], "test": scores[2::10]}
    tempo = float(np.median([score.tempo for score in scores]))
    return Music(path.name, *([score.roll() for score in part] for part in parts.values()), steps, tempo, parts)


def read_json(path: str | Path, name: str, quarter: int, tempo: float) -> Music:
    """{"train": pieces, "valid": pieces, "test": pieces}, a piece being a list of steps, a step the list of the MIDI notes that sound.
    Raises DataError naming file and fault, OSError."""
    content = read_bytes(path, LARGEST)
    try:
        parts = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file: {error}") from None
    rolls = {}
    for part in ("train", "valid", "test"):
        pieces = parts.get(part) if isinstance(parts, dict) else None
        if not isinstance(pieces, list):
            raise DataError(f"{path}: has no list of pieces {part!r}")
        rolls[part] = [as_roll(piece, f"{path}: {part}, piece {i}") for i, piece in enumerate(pieces)]
    return _music(path, name, rolls, quarter, tempo)


def read_mat(path: str | Path, name: str, quarter: int, tempo: float) -> Music:
    """A MATLAB 5 file of cell arrays traindata, validdata and testdata, of matrices (T, 88) of 0 and 1. Raises DataError naming file and
    fault, OSError."""
    found, names = read_cells(path), {part: f"{part}data" for part in ("train", "valid", "test")}
    return _music(path, name, {part: _matrices(path, found.get(key), key) for part, key in names.items()}, quarter, tempo)


def _matrices(path, cells, key):
    """The piano rolls in a cell array."""
    if cells is None:
        raise DataError(f"{path}: has no cell array {key!r}")
    for i, matrix in enumerate(cells):
        if matrix.shape[1] != KEYS or not ((matrix == 0) | (matrix == 1)).all():
            raise DataError(f"{path}: {key}, piece {i} is no matrix of {KEYS} columns of 0 and 1")
    return [np.ascontiguousarray(matrix, np.uint8) for matrix in cells]


def _music(path, name, rolls, quarter, tempo):
    try:
        return Music(name, *rolls.values(), quarter, tempo)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


# ---- batches ------------------------------------------------------------------------------------------------------------

def padded(pieces: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pieces side by side, silent behind their ends, and their lengths (B,): rolls (T, keys) as (T, B, keys) float32, events (T,) as (T, B)
    int64."""
    lengths = np.array([len(piece) for piece in pieces])
    first = pieces[0]
    x = np.zeros((lengths.max(), len(pieces), *first.shape[1:]), np.float32 if first.ndim == 2 else np.int64)
    for b, piece in enumerate(pieces):
        x[:len(piece), b] = piece
    return x, lengths


def transposed(roll: np.ndarray, semitones: int) -> np.ndarray:
    """The piece so many semitones higher; octaves lower or higher where the piano has not the keys."""
    keys = np.flatnonzero(roll.any(0))
    if not len(keys):
        return roll
    while keys[-1] + semitones >= roll.shape[1]:
        semitones -= 12
    while keys[0] + semitones < 0:
        semitones += 12
    return np.roll(roll, semitones, 1) if keys[-1] + semitones < roll.shape[1] else roll


class PieceBatches(Position):
    """Batches of pieces of about the same length, in a new order each epoch.

    pieces      rolls, each (T, keys), or events, each (T,)
    batch_size  pieces in a batch
    longest     steps or events; longer pieces are divided, at another place each epoch
    transpose   each piece is moved by -transpose..transpose semitones, drawn anew in each epoch

    A pass is an epoch of pairs of Tensors: x and lengths of `padded`. Everything follows from the seed, which is drawn
    once from the generator, and the epoch.
    """

    settings = ("batch_size", "longest", "transpose")

    def __init__(self, pieces: Sequence[np.ndarray], batch_size: int, longest: int, transpose: int = 0, *,
                 generator: Generator | None = None):
        super().__init__(pieces, generator)
        self.batch_size, self.longest, self.transpose = batch_size, longest, transpose

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-sum(-(-len(piece) // self.longest) for piece in self.arrays) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        batches = self._batches()
        try:
            while self.position < len(self):
                batch = batches[self.position]
                self.position += 1
                x, lengths = padded(batch)
                yield Tensor(x), Tensor(lengths)
        finally:
            self.epoch, self.position = self.epoch + 1, 0

    def _batches(self):
        """The pieces of this epoch, divided, transposed and sorted into batches."""
        seed = draw_seed(self.seed, self.epoch)
        moves, cuts = kernels.uniform(seed, 0, (2, len(self.arrays)), np.dtype(np.float32))
        parts = []
        for i, piece in enumerate(self.arrays):
            count, move = -(-len(piece) // self.longest), transposed if piece.ndim == 2 else events.transposed
            ends = np.arange(1, count) * len(piece) / count + (cuts[i] - 0.5) * (self.longest - len(piece) / count)
            parts += np.split(move(piece, int(moves[i] * (2 * self.transpose + 1)) - self.transpose), ends.astype(int))
        jitter = kernels.uniform(seed, 1 << 32, (len(parts),), np.dtype(np.float32))
        order = np.argsort([len(part) * (0.8 + 0.4 * u) for part, u in zip(parts, jitter, strict=True)], kind="stable")
        groups = [[parts[i] for i in order[at:at + self.batch_size]] for at in range(0, len(order), self.batch_size)]
        return [groups[i] for i in kernels.permutation(seed, 1 << 33, len(groups))]
