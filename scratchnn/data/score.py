"""Music as notes and as piano rolls.

A Score is a list of notes in whole steps; a piano roll a table (T, 88) of uint8: 1 where a key sounds in a step, column = MIDI note - 21.
A roll can't tell a note that is held from one that is struck again without a pause: a score made of a roll holds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scratchnn.data.dataset import DataError

KEYS, LOWEST = 88, 21           # of a piano; the MIDI note of its lowest key
LONGEST = 1 << 15               # steps of a piece: more than two hours of quarters in sixteenths
VELOCITY = 78                   # of notes that come without one


@dataclass(frozen=True)
class Score:
    """A piece of music.

    notes    (N, 4) int64: step of its start, length in steps (1 or more), MIDI note 0..127, velocity 1..127; ordered by start, then by
             note; no two sound at once on the same key
    steps    length of the piece, silence at its end included
    quarter  steps in a quarter note
    tempo    quarters a minute
    """

    notes: np.ndarray
    steps: int
    quarter: int
    tempo: float = 120.0

    @classmethod
    def of_roll(cls, roll: np.ndarray, quarter: int, tempo: float = 120.0) -> Score:
        """That of a piano roll (T, 88): each run of a key is one note."""
        change = np.diff(np.pad(roll.astype(np.int8), ((1, 1), (0, 0))), axis=0)
        key, start = np.nonzero(change.T == 1)
        end = np.nonzero(change.T == -1)[1]
        notes = np.stack([start, end - start, key + LOWEST, np.full(len(key), VELOCITY)], 1)
        return cls(notes[np.lexsort((key, start))], len(roll), quarter, tempo)

    def roll(self) -> np.ndarray:
        """The piano roll (steps, 88). Notes that a piano does not have are left out."""
        roll = np.zeros((self.steps, KEYS), np.uint8)
        for start, length, note, _ in self.notes:
            if LOWEST <= note < LOWEST + KEYS:
                roll[start:start + length, note - LOWEST] = 1
        return roll

    def cut(self, steps: int) -> Score:
        """Its first steps."""
        notes = self.notes[self.notes[:, 0] < steps].copy()
        notes[:, 1] = np.minimum(notes[:, 1], steps - notes[:, 0])
        return Score(notes, min(steps, self.steps), self.quarter, self.tempo)


def tidied(notes: np.ndarray) -> np.ndarray:
    """Notes (N, 4) as a Score has them: of those that start together on one key the longest is kept, as loud as the loudest; a note ends
    where the next one on its key starts."""
    notes = notes[np.lexsort((notes[:, 1], notes[:, 0], notes[:, 2]))]
    if not len(notes):
        return notes
    first = np.r_[True, (np.diff(notes[:, 0]) != 0) | (np.diff(notes[:, 2]) != 0)]
    loudest = np.maximum.reduceat(notes[:, 3], np.flatnonzero(first))
    notes = notes[np.r_[first[1:], True]]                                      # the last of each group is its longest
    notes[:, 3] = loudest
    same = notes[:-1, 2] == notes[1:, 2]
    notes[:-1, 1] = np.where(same, np.minimum(notes[:-1, 1], notes[1:, 0] - notes[:-1, 0]), notes[:-1, 1])
    return notes[np.lexsort((notes[:, 2], notes[:, 0]))]


def as_roll(steps: list, name: str) -> np.ndarray:
    """The piano roll of a list that holds the MIDI notes sounding in each step. Raises DataError that begins with `name`."""
    if not isinstance(steps, list) or not 0 < len(steps) <= LONGEST:
        raise DataError(f"{name}: a piece is a list of 1 to {LONGEST} steps")
    roll = np.zeros((len(steps), KEYS), np.uint8)
    for t, notes in enumerate(steps):
        if not isinstance(notes, list) or not all(type(n) is int and LOWEST <= n < LOWEST + KEYS for n in notes):
            raise DataError(f"{name}: step {t} is no list of MIDI notes in {LOWEST}..{LOWEST + KEYS - 1}")
        roll[t, [n - LOWEST for n in notes]] = 1
    return roll
