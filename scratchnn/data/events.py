"""Music as a sequence of events, to be written like a text: I. Simon & S. Oore 2017, "Performance RNN".

    0             a piece ends
    1..128        a note starts: MIDI note 0..127
    129..256      a note ends
    257..304      time passes: 1..48 steps
    305..336      how loud the notes that follow are: one of 32 velocities
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from scratchnn.data.score import LONGEST, VELOCITY, Score, tidied

END, ON, OFF, SHIFT, LOUD = 0, 1, 129, 257, 305
SHIFTS, LEVELS = 48, 32
EVENTS = LOUD + LEVELS


def encode(score: Score) -> np.ndarray:
    """Events (N,) int64 of a score, the last being END. What ends comes before what starts; notes go up."""
    changes = [(start, 1, note, velocity) for start, _, note, velocity in score.notes.tolist()]
    changes += [(start + length, 0, note, 0) for start, length, note, _ in score.notes.tolist()]
    events, now, loud = [], 0, VELOCITY // 4
    for step, starts, note, velocity in sorted(changes):
        events += _passing(step - now)
        now = step
        if starts and velocity // 4 != loud:
            loud = velocity // 4
            events.append(LOUD + loud)
        events.append((ON if starts else OFF) + note)
    return np.array([*events, *_passing(score.steps - now), END], np.int64)


def _passing(steps):
    return [SHIFT + SHIFTS - 1] * (steps // SHIFTS) + ([SHIFT + steps % SHIFTS - 1] if steps % SHIFTS else [])


def decode(events: Iterable[int], quarter: int, tempo: float = 120.0) -> Score:
    """The score of any events, up to END or the limit of a piece: it is that of `encode`, with velocities in 32 levels. Of events as a
    model writes them, an end of a note that does not sound is passed over, and notes that nothing ends sound to the end."""
    now, loud, sounding, notes = 0, VELOCITY // 4, {}, []

    def stop(note):
        if note in sounding:
            start, level = sounding.pop(note)
            if now > start:
                notes.append((start, now - start, note, 4 * level + 2))

    for event in map(int, events):
        if event == END:
            break
        if event >= LOUD:
            loud = event - LOUD
        elif event >= SHIFT:
            if now + event - SHIFT + 1 > LONGEST:
                break
            now += event - SHIFT + 1
        elif event >= OFF:
            stop(event - OFF)
        else:
            stop(event - ON)
            sounding[event - ON] = (now, loud)
    for note in list(sounding):
        stop(note)
    return Score(tidied(np.array(notes, np.int64).reshape(-1, 4)), now, quarter, tempo)


def steps(ids: np.ndarray) -> int:
    """The steps that pass in events (N,)."""
    ids = np.asarray(ids)
    return int((ids - SHIFT + 1)[(ids >= SHIFT) & (ids < LOUD)].sum())


def transposed(ids: np.ndarray, semitones: int) -> np.ndarray:
    """Events (N,) so many semitones higher; notes that MIDI does not have stay where they are."""
    note = (ids >= ON) & (ids < SHIFT)
    moved = (ids - ON) % 128 + semitones
    return np.where(note & (moved >= 0) & (moved < 128), ids + semitones, ids)
