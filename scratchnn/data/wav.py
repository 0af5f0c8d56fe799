"""WAV files: read whatever programs write, as one channel at the rate that is wanted; written at once or while the sound comes to be."""

from __future__ import annotations

import io
import math
import struct
import warnings
from pathlib import Path

import numpy as np

from scratchnn.data.dataset import DataError
from scratchnn.data.files import read_bytes, writing

LARGEST = 1 << 28               # bytes of a file: 25 minutes of stereo in CD quality
RATES = (1_000, 384_000)        # samples a second that a header may name
CHANNELS = 64
SILENT = 2.0 ** -12             # what nobody would call a sound: a peak of eight steps of 16 bits
KINDS = ("uint8", "int16", "int32", "float32")
HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


def read_wav(path: str | Path, rate: int | None = None) -> tuple[np.ndarray, int]:
    """The sound of a WAV file of 8, 16, 24 or 32 bits or floating point, its channels averaged: (samples (N,) float32 in -1..1, samples a
    second), resampled to `rate` if that is given.

    Raises DataError naming file, fault and remedy for a file that is damaged, empty or silent, or has fewer samples a second than `rate`;
    OSError.
    """
    found, samples = _parsed(path, read_bytes(path, LARGEST))
    if not RATES[0] <= found <= RATES[1]:
        raise DataError(f"{path}: its header names {found:,} samples a second; {RATES[0]:,} to {RATES[1]:,} make sense: write it anew")
    if samples.ndim > 2 or (samples.ndim == 2 and samples.shape[1] > CHANNELS):
        raise DataError(f"{path}: its header names {samples.shape[1:]} channels, more than {CHANNELS}: write it anew")
    if not len(samples):
        raise DataError(f"{path}: has no samples: record it again, or leave it out")
    sound = _scaled(path, samples)
    peak = float(abs(sound).max())
    if peak < SILENT:
        raise DataError(f"{path}: is silent: its loudest sample is {peak:.2g} of full scale; record it again, or leave it out")
    return (sound, found) if rate is None else (resample(sound, found, rate, path), rate)


def _parsed(path, content):
    """(samples a second, samples (N,) or (N, channels)) by SciPy, for which a file that ends early is only a warning."""
    from scipy.io import wavfile
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)                # chunks of notes and names, which harm nobody
            warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
            return wavfile.read(io.BytesIO(content))
    except Exception as error:                  # a damaged file ends in any of half a dozen kinds
        raise DataError(f"{path}: not a sound WAV file: {error or type(error).__name__}; export it anew") from None


def _scaled(path, samples):
    """One channel in -1..1, float32."""
    kind = samples.dtype
    if kind == np.uint8:
        sound = (samples - np.float32(128)) / np.float32(128)
    elif kind.kind == "i":                      # of 24 bits in the upper ones of 32
        sound = np.divide(samples, 2.0 ** (8 * kind.itemsize - 1), dtype=np.float32 if kind.itemsize < 4 else np.float64)
    else:
        if not np.isfinite(samples).all():
            raise DataError(f"{path}: has samples that are no finite numbers: write it anew")
        sound = np.clip(samples, -1, 1)         # floating point may go beyond full scale, where players clip too
    sound = sound if sound.ndim == 1 else sound.mean(1, dtype=np.float64)
    return np.ascontiguousarray(sound, np.float32)


def resample(sound: np.ndarray, found: int, rate: int, name: str | Path = "sound") -> np.ndarray:
    """A sound (N,) of `found` samples a second at `rate`, through a polyphase filter that keeps what lies above half the new rate out.
    Raises DataError that begins with `name` if that is more than it has."""
    if found == rate:
        return sound
    if found < rate:
        raise DataError(f"{name}: has {found:,} samples a second, {rate:,} are wanted, and what it lacks cannot be made up; record it at "
                        f"{rate:,}, or take a rate of {found:,}")
    from scipy.signal import resample_poly
    shared = math.gcd(found, rate)
    if max(found, rate) // shared > 20_000:     # the filter is twenty times as long
        raise DataError(f"{name}: {found:,} samples a second have no simple ratio to {rate:,}; record it at a usual rate, such as 44,100")
    return resample_poly(sound.astype(np.float64), rate // shared, found // shared).clip(-1, 1).astype(np.float32)


def write_wav(path: str | Path, sound: np.ndarray, rate: int, kind: str = "int16") -> None:
    """Write samples (N,) or (N, channels) in -1..1 as a WAV file of one of KINDS. Raises ValueError for another one."""
    from scipy.io import wavfile
    if kind not in KINDS:
        raise ValueError(f"write_wav: kind must be one of {', '.join(KINDS)}, not {kind!r}")
    sound, path = np.asarray(sound, np.float64).clip(-1, 1), Path(path)
    if kind == "float32":
        samples = sound.astype(np.float32)
    elif kind == "uint8":
        samples = np.rint(127 * sound + 128).astype(np.uint8)
    else:
        samples = np.rint(sound * np.iinfo(kind).max).astype(kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, "wb") as file:
        wavfile.write(file, rate, samples)


class WavWriter:
    """A WAV file of 16 bits that grows while its sound is made, and is a sound file after each `write`, and whenever the process ends.

    with WavWriter("sample.wav", 8000) as file:
        file.write(samples)                      (N,) int16, as often as one likes
    """

    def __init__(self, path: str | Path, rate: int):
        self.path, self.rate, self.samples = Path(path), rate, 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.writing = writing(self.path, "wb", buffering=0)

    def __enter__(self) -> WavWriter:
        self.file = self.writing.__enter__()
        self.write(np.zeros(0, np.int16))
        return self

    def __exit__(self, *error) -> None:
        self.writing.__exit__(*error)

    def write(self, samples: np.ndarray) -> None:
        """Add samples (N,) int16. First they are written, behind the end that the header names, and then, in one piece, the header."""
        self.file.seek(HEADER.size + 2 * self.samples)
        self.file.write(np.ascontiguousarray(samples, "<i2"))
        self.samples += len(samples)
        size = 2 * self.samples
        self.file.seek(0)
        self.file.write(HEADER.pack(b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, self.rate, 2 * self.rate, 2, 16, b"data", size))
