"""What a sound consists of, frame by frame: its spectrum, the same on the ear's scale, and its pitch."""

from __future__ import annotations

import numpy as np

FLOOR = 1e-5                    # of a frame's amplitude, where its logarithm ends: 100 dB below a full sine
VOICED = 0.5                    # least correlation of a frame with itself a period later that is called a pitch


def frames(sound: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Frames (F, size) of a sound (N,): the frame f has its middle at the sample hop * f, F = ceil(N / hop). Around the sound is silence.
    The array may be a view."""
    count = -(-len(sound) // hop)
    padded = np.zeros((count - 1) * hop + size if count else size, np.float32)
    room = padded[size // 2:]
    room[:min(len(sound), len(room))] = sound[:len(room)]
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:count]


def spectrogram(sound: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Amplitudes (F, size // 2 + 1) of the frequencies rate * k / size, through Hann's window; a full sine has about 1 at its own."""
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    return np.abs(np.fft.rfft(frames(sound, size, hop) * (2 / window.sum() * window))).astype(np.float32)


def mel_bands(size: int, rate: int, bands: int) -> np.ndarray:
    """Weights (size // 2 + 1, bands) that gather frequencies into overlapping triangles of equal width in mel, 2595 log10(1 + f / 700)
    (D. O'Shaughnessy 1987), from 60 Hz to half the rate."""
    ends = 2595 * np.log10(1 + np.array([60, rate / 2]) / 700)
    corners = 700 * (10 ** (np.linspace(*ends, bands + 2) / 2595) - 1)
    at = np.arange(size // 2 + 1)[:, None] * rate / size
    rising = (at - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - at) / (corners[2:] - corners[1:-1])
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(sound: np.ndarray, rate: int, bands: int = 40, hop: int = 128, size: int = 256) -> np.ndarray:
    """Natural logarithms (F, bands) of the amplitudes in mel bands, float32, none below log(1e-5)."""
    return np.log(np.maximum(spectrogram(sound, size, hop) @ mel_bands(size, rate, bands), FLOOR))


def pitch(sound: np.ndarray, rate: int, hop: int = 128, size: int = 512, low: float = 60, high: float = 1200) -> np.ndarray:
    """The fundamental frequency (F,) of each frame in Hz, float32, 0 where it has none: the first high peak of the autocorrelation, each
    lag over the energies of both stretches that it compares, to a fraction of a sample by a parabola."""
    cut = frames(sound, size, hop).astype(np.float64)
    cut = cut - cut.mean(1, keepdims=True)
    shortest, longest = max(2, int(rate / high)), min(int(rate / low) + 1, size // 2)
    spectrum = np.fft.rfft(cut, 2 * size)
    products = np.fft.irfft(spectrum * spectrum.conj())[:, :longest + 2]
    energy = np.cumsum(np.pad(cut * cut, ((0, 0), (1, 0))), 1)
    lags = np.arange(longest + 2)
    norms = np.sqrt(energy[:, size - lags] * (energy[:, -1:] - energy[:, lags]))
    correlation = products / np.maximum(norms, 1e-9)
    inside = correlation[:, shortest:longest + 1]
    peak = (inside >= correlation[:, shortest - 1:longest]) & (inside > correlation[:, shortest + 1:longest + 2])
    heights = np.where(peak, inside, 0)
    high_enough = heights >= np.maximum(VOICED, 0.9 * heights.max(1, keepdims=True))       # the first, not a multiple of the period
    lag = shortest + high_enough.argmax(1)
    before, at, after = (correlation[np.arange(len(lag)), lag + i] for i in (-1, 0, 1))
    curve = before - 2 * at + after
    exact = lag + np.where(curve < 0, (before - after) / (2 * np.where(curve < 0, curve, -1)), 0)
    loud = energy[:, -1] > size * 1e-6                                                      # 60 dB below full scale
    return np.where(high_enough.any(1) & loud, rate / exact, 0).astype(np.float32)
