"""A small composer: tunes with chords, by rules that any book of harmony has, and by lot where these leave a choice.

A tune has a key, a metre, a form of four phrases of four bars, and a style of accompaniment. A phrase goes through chords that may follow
each other, to a half cadence (open) or a full one (closed). The melody takes notes of the chord where the beat is strong, moves by step
more than by leap, and turns back after a leap; bars share rhythms, and phrases that have one letter in the form are the same.
"""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate

import numpy as np

import kernels
from scratchnn.data.score import VELOCITY, Score, tidied

QUARTER = 2                                            # steps: eighths
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
FORMS = ("aaba", "abac", "aabb", "abca")
FOLLOWS = {0: {3: 3, 4: 2, 5: 3, 1: 2, 2: 1}, 1: {4: 4, 6: 1}, 2: {5: 3, 3: 2}, 3: {4: 3, 0: 2, 1: 2}, 4: {0: 3, 5: 2, 3: 1},
           5: {1: 3, 3: 3, 2: 1, 4: 1}, 6: {0: 1}}      # degree: {degrees that may follow: how often}
RHYTHMS = {8: ((2, 2, 2, 2), (2, 1, 1, 2, 2), (3, 1, 2, 2), (4, 2, 2), (2, 2, 1, 1, 2), (1, 1, 1, 1, 2, 2), (3, 1, 3, 1)),
           6: ((2, 2, 2), (4, 2), (2, 1, 1, 2), (3, 1, 2), (2, 2, 1, 1), (1, 1, 1, 1, 2))}        # of a bar in eighths
ENDINGS = {8: ((8,), (4, 4), (2, 2, 4)), 6: ((6,), (2, 4))}
STYLES = ("held", "broken", "bass and chord", "two voices")
RANGE = (65, 84)                                       # of the melody, MIDI notes; the accompaniment stays below
LEAPS = (1.0, 6.0, 2.5, 1.0, 0.7, 0.3, 0.2, 0.4)       # how often the melody moves by so many steps of the scale


class Lots:
    """What is drawn for one tune: uniform numbers from Philox, in order."""

    def __init__(self, seed: int, tune: int):
        self.numbers = iter(kernels.uniform(seed, tune << 32, (4096,), np.dtype(np.float32)).tolist())

    def one(self, options, weights=None):
        """One of the options, each as often as its weight says."""
        if weights is None:
            return options[int(next(self.numbers) * len(options))]
        sums = list(accumulate(weights))
        return options[min(bisect(sums, next(self.numbers) * sums[-1]), len(options) - 1)]


def compose(seed: int, tune: int) -> Score:
    """The tune of that number under a seed: 16 bars in 4/4 or 3/4, in any of 24 keys."""
    lots = Lots(seed, tune)
    mode, tonic, bar = lots.one(("major", "minor"), (3, 2)), 60 + lots.one(range(-5, 7)), lots.one((8, 6), (3, 2))
    form, style, tempo = lots.one(FORMS), lots.one(STYLES), lots.one((80, 96, 112, 126))
    phrases, notes, now = {}, [], 0
    for i, letter in enumerate(form):
        closed = i % 2 == 1
        if (letter, closed) not in phrases:
            open_one = phrases.get((letter, not closed))
            phrases[letter, closed] = _phrase(lots, mode, tonic, bar, closed, open_one)
        chords, melody = phrases[letter, closed]
        notes += [(now + start, length, note, VELOCITY + 16) for start, length, note in melody]
        notes += [(now + start, length, note, VELOCITY - 12) for start, length, note in _accompaniment(chords, style, bar, tonic)]
        now += 4 * bar
    return Score(tidied(np.array(notes, np.int64)), now, QUARTER, tempo)


def _phrase(lots, mode, tonic, bar, closed, like):
    """(chords, melody) of four bars: [(start, length, semitones above the tonic)] and [(start, length, note)]. `like` is the same phrase
    with the other cadence: its first two bars are taken over."""
    degrees = [lots.one((0, 5, 3), (5, 1, 1))]
    for _ in range(2):
        after = FOLLOWS[degrees[-1]]
        degrees.append(lots.one(list(after), after.values()))
    before = lots.one((1, 3))                                                  # what comes before the dominant
    degrees = [*degrees[:2], before, 4, 0] if closed else [*degrees[:2], *lots.one(((0, before), (5, 1), (3, 0))), 4]
    half = bar // 2 if bar == 8 else 4
    spans = [(0, bar), (bar, bar), (2 * bar, half), (2 * bar + half, bar - half), (3 * bar, bar)]
    chords = [(*span, _chord(mode, degree)) for span, degree in zip(spans, degrees, strict=True)]
    melody = []
    if like:
        chords[:2] = like[0][:2]
        melody = [note for note in like[1] if note[0] < 2 * bar]
    first, second = lots.one(RHYTHMS[bar]), lots.one(RHYTHMS[bar])
    lengths = [*(() if like else (*first, *second)), *first, *lots.one(ENDINGS[bar])]
    _sing(lots, mode, tonic, bar, chords, lengths, melody)
    return chords, melody


def _chord(mode, degree):
    """The triad on a degree, in semitones above the tonic; the dominant is major in minor too."""
    scale = SCALES[mode]
    notes = [scale[(degree + i) % 7] + 12 * ((degree + i) // 7) for i in (0, 2, 4)]
    if mode == "minor" and degree in (4, 6):
        notes = [note + (note % 12 == 10) for note in notes]
    return tuple(notes)


def _sing(lots, mode, tonic, bar, chords, lengths, melody):
    """Add notes of these lengths to the end of a melody."""
    now = 4 * bar - sum(lengths)
    ladder = [note for note in range(RANGE[0], RANGE[1] + 1) if (note - tonic) % 12 in SCALES[mode]]
    before = melody[-1][2] if melody else tonic + 12
    at, leap = min(range(len(ladder)), key=lambda i: abs(ladder[i] - before)), 0
    for i, length in enumerate(lengths):
        chord = {note % 12 for note in next(chord for start, size, chord in chords if start <= now < start + size)}
        strong, last = now % bar == 0 or (bar == 8 and now % bar == 4), i == len(lengths) - 1
        weights = []
        for place, note in enumerate(ladder):
            move = place - at
            weight = LEAPS[abs(move)] if abs(move) < len(LEAPS) else 0.0
            weight *= (4.0 if strong else 1.5) if (note - tonic) % 12 in chord else (0.1 if strong or last else 1.0)
            weight *= 3.0 if abs(leap) > 1 and move * leap < 0 and abs(move) == 1 else 1.0
            weights.append(weight * (100.0 if last and (note - tonic) % 12 == min(chord) % 12 else 1.0))
        place = lots.one(range(len(ladder)), weights)
        at, leap, note = place, place - at, ladder[place]
        if mode == "minor" and (note - tonic) % 12 == 10 and 11 in chord:
            note += 1                                                          # the leading note
        melody.append((now, length, note))
        now += length


def _accompaniment(chords, style, bar, tonic):
    """Notes (start, length, note) under a melody: a bass, and inner voices that move as little as they can."""
    notes, inner = [], None
    for start, length, chord in chords:
        root = 36 + (tonic + chord[0]) % 12
        bass = root + 12 if root < 40 else root
        choices = [sorted(48 + (tonic + note) % 12 + 12 * (i == turn) for i, note in enumerate(chord)) for turn in (None, 0, 1, 2)]
        choices = [c for c in choices if max(c) < 64 and len(set(c)) == 3] or choices
        inner = min(choices, key=lambda c: sum(abs(a - b) for a, b in zip(c, inner or [50, 55, 58], strict=True)))
        if style == "held":
            notes += [(start, length, note) for note in (bass, *inner)]
        elif style == "two voices":
            notes += [(start, length, bass), *((start + t, 2, inner[(t // 2) % 3]) for t in range(0, length - 1, 2))]
        elif style == "broken":
            notes += [(start, length, bass), *((start + t, 1, inner[(0, 2, 1, 2)[t % 4]]) for t in range(length))]
        else:
            beats = range(2, length, 4) if bar == 8 else range(2, length, 2)
            notes += [(start, 2, bass), *((start + t, 2 if bar == 8 else 1, note) for t in beats for note in inner)]
            notes += [(start + 4, 2, bass + 7 if bass < 46 else bass - 5)] if bar == 8 and length == 8 else []
    return notes
