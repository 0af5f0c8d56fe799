"""Sounds made by rule: vowels by a source and a filter, and melodies for a plucked string. A seed and a number say everything."""

from __future__ import annotations

import numpy as np

import kernels
from scratchnn.data.composer import LEAPS, Lots

RATE = 8000                     # samples a second
PEAK = 0.6
# Formants in Hz as men have them on average (G. Peterson & H. Barney 1952), and their bandwidths.
FORMANTS = {"a": (730, 1090, 2440), "e": (530, 1840, 2480), "i": (270, 2290, 3010), "o": (570, 840, 2410), "u": (300, 870, 2240)}
VOWELS = tuple(FORMANTS)
BANDWIDTHS = (70, 100, 140, 220)
FOURTH = 3500                   # Hz, of all vowels
LADDER = (48, 50, 52, 55, 57, 60, 62, 64, 67, 69, 72)       # MIDI notes of a melody: C major without F and B
NOTE = 0.2                      # seconds
SMOOTH, SUSTAIN = 0.3, 0.996    # of a string
LENGTHS = ((1, 6), (2, 3), (4, 1))                          # of a note, and how often


def vowel(name: str, seed: int, number: int) -> np.ndarray:
    """A take of a vowel, (N,) float32, 0.3 to 0.5 s at 8 kHz, by a speaker with a pitch, a size and a breath of their own.

    The source is a pulse for each opening of the vocal folds (A. Rosenberg 1971's trigonometric one, differentiated) with a little noise;
    the filter a resonator for each formant, one after the other (D. Klatt 1980).
    """
    from scipy.signal import lfilter
    u = kernels.uniform(seed, number << 32, (7,), np.dtype(np.float32)).tolist()
    count = int(RATE * (0.3 + 0.2 * u[0]))
    size = 1 + 0.18 * u[1]                                                     # shorter throats have higher formants
    t = np.linspace(0, 1, count)
    pitch = (100 + 110 * u[2]) * 2 ** (0.3 * (u[3] - 0.7) * t + 0.01 * np.sin(2 * np.pi * (2 + u[4]) * t))
    phase = np.cumsum(pitch / RATE) % 1
    noise = kernels.normal(seed, (number << 32) + (1 << 30), (count,), np.dtype(np.float32))
    sound = np.gradient(_pulse(phase)) + (0.002 + 0.004 * u[5]) * noise
    for frequency, width in zip((*FORMANTS[name], FOURTH), BANDWIDTHS, strict=True):
        frequency = min(frequency * size, 0.47 * RATE)
        c = -np.exp(-2 * np.pi * width / RATE)
        b = 2 * np.exp(-np.pi * width / RATE) * np.cos(2 * np.pi * frequency / RATE)
        sound = lfilter([1 - b - c], [1, -b, -c], sound)
    swell = np.minimum(t / 0.12, 1) * np.minimum((1 - t) / 0.25, 1)
    sound = sound * np.sin(np.pi / 2 * swell) ** 2
    return (sound * ((0.5 + 0.5 * u[6]) * PEAK / abs(sound).max())).astype(np.float32)


def _pulse(phase, opening=0.4, closing=0.16):
    """The flow between the vocal folds at a phase of their period in 0..1: they open, close sooner, and stay closed."""
    rise = 0.5 - 0.5 * np.cos(np.pi * phase / opening)
    fall = np.cos(np.pi / 2 * (phase - opening) / closing)
    return np.where(phase < opening, rise, np.where(phase < opening + closing, fall, 0))


def melody(seed: int, number: int) -> np.ndarray:
    """A tune of about six seconds, (N,) float32 at 8 kHz: a walk over a pentatonic scale, more by step than by leap, on one string."""
    lots = Lots(seed, (1 << 16) + number)
    at, sounds, left = lots.one(range(3, 8)), [], 30
    while left > 0:
        length = min(lots.one(*zip(*LENGTHS, strict=True)), left)
        sounds.append(pluck(440 * 2 ** ((LADDER[at] - 69) / 12), int(length * NOTE * RATE), seed, (number << 16) + len(sounds)))
        weights = [LEAPS[abs(place - at)] if abs(place - at) < len(LEAPS) else 0 for place in range(len(LADDER))]
        at, left = lots.one(range(len(LADDER)), weights), left - length
    return np.concatenate(sounds)


def pluck(frequency: float, count: int, seed: int, number: int) -> np.ndarray:
    """A plucked string, (count,) float32: a triangle, as the finger leaves the string, that runs round a delay of one period and gets
    smoother each time (K. Karplus & A. Strong 1983, who begin with noise), here by 0.7 of itself and 0.3 of its neighbour; an allpass makes
    up for the fraction of a sample that the delay lacks (D. Jaffe & J. Smith 1983)."""
    from scipy.signal import lfilter
    period = RATE / frequency - SMOOTH
    whole = int(period - 0.1)
    rest = period - whole                                                      # 0.1 to 1.1 samples
    allpass = (1 - rest) / (1 + rest)
    u = kernels.uniform(seed, (number << 32) + (1 << 31), (2,), np.dtype(np.float32)).tolist()
    place, along = 0.08 + 0.25 * u[0], np.arange(whole) / whole                # of the finger: the nearer to the end, the brighter
    burst = np.zeros(count)
    burst[:whole] = np.minimum(along / place, (1 - along) / (1 - place)) - 0.5
    burst *= 0.7 + 0.6 * u[1]
    loop = np.zeros(whole + 3)
    loop[:2] = 1, allpass
    loop[whole:] -= SUSTAIN * np.convolve([allpass, 1], [1 - SMOOTH, SMOOTH])
    sound = lfilter([1, allpass], loop, burst)
    fade = int(0.01 * RATE)
    sound[-fade:] *= np.linspace(1, 0, fade)                                   # the finger that plucks the next note
    return (sound * PEAK).astype(np.float32)
