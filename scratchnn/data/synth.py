"""A small synthesiser: notes as sound, a few harmonics each, that swell and fade without clicks."""

from __future__ import annotations

import numpy as np

from scratchnn.data.score import Score

RATE = 22_050                   # samples a second
HARMONICS = (1.0, 0.5, 0.28, 0.14, 0.08, 0.04)
ATTACK, RELEASE = 0.012, 0.12   # seconds in which a note swells and dies away
PEAK = 0.8                      # of the loudest sample


def synthesise(score: Score, rate: int = RATE) -> np.ndarray:
    """The sound of a score, (N,) float32 within -0.8..0.8, at `rate` samples a second. Each note is a sum of harmonics, the higher the
    softer and the sooner gone, none of them above half the rate; all together are made as loud as they may be."""
    second = 60 / (score.tempo * score.quarter)                                # of a step
    sound = np.zeros(int((score.steps * second + RELEASE) * rate) + 1, np.float32)
    for start, length, note, velocity in score.notes.tolist():
        wave = _note(440 * 2 ** ((note - 69) / 12), length * second, rate) * np.float32((velocity / 127) ** 1.5)
        first = int(start * second * rate)
        sound[first:first + len(wave)] += wave[:len(sound) - first]
    fade = min(len(sound), int(RELEASE * rate / 2))
    sound[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    peak = abs(sound).max()
    return sound * (PEAK / peak) if peak > 0 else sound


def _note(frequency, seconds, rate):
    """One note that is held for so many seconds and then dies away."""
    t = np.arange(int((seconds + RELEASE) * rate), dtype=np.float32) / np.float32(rate)
    wave = np.zeros_like(t)
    for n, strength in enumerate(HARMONICS, 1):
        if n * frequency < rate / 2:
            wave += np.float32(strength) * np.sin(np.float32(2 * np.pi * n * frequency) * t) * np.exp(-t * np.float32(0.5 + 0.6 * n))
    swell = 0.5 - 0.5 * np.cos(np.pi * (t / ATTACK).clip(0, 1))
    die = 0.5 + 0.5 * np.cos(np.pi * ((t - seconds) / RELEASE).clip(0, 1))
    return (wave * swell * die).astype(np.float32)
