"""What is wrong with a piece of music that a machine could notice, and what music consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scratchnn.data.score import LOWEST

LARGEST_INTERVAL, LARGEST_LENGTH = 12, 16


@dataclass(frozen=True)
class Faults:
    """The longest stretches of a piece, in steps, in which nothing happens.

    held     a key sounds without a pause
    silent   none does
    looped   a passage of at most an eighth of the piece comes again and again; counted from its third time on
    """

    held: int
    silent: int
    looped: int

    def beyond(self, usual: Faults) -> list[str]:
        """The names of those that exceed what is usual."""
        return [name for name, value in vars(self).items() if value > getattr(usual, name)]


def faults(roll: np.ndarray) -> Faults:
    """The Faults of a piano roll (T, keys)."""
    lengths = note_lengths(roll)
    looped = 0
    for period in range(1, len(roll) // 8 + 1):
        run = _longest((roll[period:] == roll[:-period]).all(1))
        if run >= 2 * period:
            looped = max(looped, run - period)
    return Faults(int(lengths.max(initial=0)), _longest(~roll.any(1)), looped)


def usual(rolls: Sequence[np.ndarray], share: float = 0.99) -> Faults:
    """The Faults that such a share of pieces does not exceed."""
    found = [vars(faults(roll)) for roll in rolls]
    return Faults(*(int(np.quantile([f[name] for f in found], share, method="higher")) for name in ("held", "silent", "looped")))


def _longest(true):
    """The length of the longest run of True."""
    ends = np.flatnonzero(np.diff(np.r_[0, true.astype(np.int8), 0]))
    return int((ends[1::2] - ends[::2]).max(initial=0))


def note_lengths(roll: np.ndarray) -> np.ndarray:
    """Steps of each note of a roll (T, keys), a run of a key being one."""
    change = np.diff(np.pad(roll.astype(np.int8), ((1, 1), (0, 0))), axis=0).T
    return np.nonzero(change == -1)[1] - np.nonzero(change == 1)[1]


def histograms(rolls: Sequence[np.ndarray]) -> dict[str, tuple[list[str], np.ndarray]]:
    """What pieces consist of, as labels and shares that add up to 1: pitch classes of sounding keys; steps of the top voice between
    successive different notes, in semitones; lengths of notes in steps, the last being all longer ones."""
    names = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]
    pitches, intervals, lengths = np.zeros(12), np.zeros(2 * LARGEST_INTERVAL + 1), np.zeros(LARGEST_LENGTH + 1)
    for roll in rolls:
        np.add.at(pitches, (np.nonzero(roll)[1] + LOWEST) % 12, 1)
        top = melody(roll)
        moves = np.diff(top[top >= 0])
        np.add.at(intervals, moves[(moves != 0) & (abs(moves) <= LARGEST_INTERVAL)] + LARGEST_INTERVAL, 1)
        np.add.at(lengths, note_lengths(roll).clip(0, LARGEST_LENGTH), 1)
    return {"pitch class": (names, _shares(pitches)),
            "interval of the top voice": ([f"{i:+d}" for i in range(-LARGEST_INTERVAL, LARGEST_INTERVAL + 1)], _shares(intervals)),
            "length of a note in steps": ([*map(str, range(1, LARGEST_LENGTH)), f"{LARGEST_LENGTH}+"], _shares(lengths[1:]))}


def melody(roll: np.ndarray) -> np.ndarray:
    """The highest key (T,) of each step, -1 where none sounds."""
    return np.where(roll.any(1), roll.shape[1] - 1 - roll[:, ::-1].argmax(1), -1)


def _shares(counts):
    return counts / max(counts.sum(), 1)
