"""Sounds for models: spoken digits, vowels and melodies made by rule, a folder of the user's WAV files; and mu-law.

A take is one recording: (N,) int16, N samples of 16 bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from scratchnn.data.dataset import DataError, split
from scratchnn.data.download import fetch
from scratchnn.data.folder import SHOWN, listing
from scratchnn.data.voices import VOWELS, melody, vowel
from scratchnn.data.wav import read_wav

PARTS = ("train", "valid", "test")
SAMPLES = 1 << 28               # of all takes: 9 hours at 8 kHz
QUIET = 0.01                    # share of the loudest stretch's amplitude, 40 dB below it, below which ends are cut off
STRETCH, KEPT = 0.01, 0.03      # seconds: of a stretch, and of the quiet that stays around a sound
DIGITS, SPEAKERS, TAKES = tuple("0123456789"), ("george", "jackson", "theo"), 50


@dataclass(frozen=True)
class Audio:
    """Takes in parts: to learn from, to choose settings by, to be judged by.

    rate                 samples a second
    train, valid, test   takes, each (N,) int16 with an N of its own
    classes              what is known of each take: names by kind, as {"digit": ("0", ...), "speaker": ("george", ...)}; may be empty
    labels               of a part, (takes, kinds) int64: for each take and kind the number of its class
    """

    name: str
    rate: int
    train: Sequence[np.ndarray]
    valid: Sequence[np.ndarray]
    test: Sequence[np.ndarray]
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        for part in PARTS:
            takes, labels = getattr(self, part), self.labels.setdefault(part, np.zeros((len(getattr(self, part)), 0), np.int64))
            if not len(takes):
                raise DataError(f"{self.name}: no take for the part {part!r}")
            if any(take.dtype != np.int16 or take.ndim != 1 for take in takes) or labels.shape != (len(takes), len(self.classes)):
                raise DataError(f"{self.name}: {part} has labels {labels.shape} and takes that must be (N,) int16")

    def lasting(self, samples: int, why: str) -> Audio:
        """The same without takes that have fewer samples, of which a warning says why. Takes that have labels stay: each is a whole
        sound, with silence before it. Raises DataError if no take of a part has so many."""
        kept = {part: [i for i, take in enumerate(getattr(self, part)) if len(take) >= samples] for part in PARTS}
        short = sum(len(getattr(self, part)) - len(kept[part]) for part in PARTS)
        if not short:
            return self
        fault = f"{self.name}: {short} takes are shorter than {samples:,} samples ({samples / self.rate:.2f} s), {why}"
        empty = [part for part in PARTS if not kept[part]]
        if empty:
            raise DataError(f"{fault}; nothing is left of {', '.join(empty)}")
        if self.classes:
            warnings.warn(f"{fault}; they are learnt from, but none of their samples is judged", stacklevel=2)
            return self
        warnings.warn(f"{fault}; they are left out", stacklevel=2)
        return replace(self, **{part: [getattr(self, part)[i] for i in kept[part]] for part in PARTS},
                       labels={part: self.labels[part][kept[part]] for part in PARTS})


# ---- sets -----------------------------------------------------------------------------------------------------------------

def fsdd() -> Audio:
    """The Free Spoken Digit Dataset (Z. Jackson and others): 1,500 English digits by three of its speakers, at 8 kHz. Of the 50 takes of
    each digit by each speaker, 0 to 4 are the test, as published, and 5 to 9 to choose settings by."""
    folder = fetch("free-spoken-digit-dataset") / "recordings"
    takes, labels = {part: [] for part in PARTS}, {part: [] for part in PARTS}
    for d, digit in enumerate(DIGITS):
        for s, speaker in enumerate(SPEAKERS):
            for take in range(TAKES):
                part = "test" if take < 5 else "valid" if take < 10 else "train"
                path = folder / f"{digit}_{speaker}_{take}.wav"
                sound, rate = read_wav(path)
                if rate != 8000:
                    raise DataError(f"{path}: has {rate:,} samples a second where the published file has 8,000; fetch it anew")
                takes[part].append(as_int16(sound))
                labels[part].append((d, s))
    return Audio("fsdd", 8000, *takes.values(), {"digit": DIGITS, "speaker": SPEAKERS}, {k: np.array(v) for k, v in labels.items()})


def vowels() -> Audio:
    """200 / 25 / 25 spoken vowels of five kinds at 8 kHz, by scratchnn.data.voices; always the same."""
    takes = [as_int16(vowel(VOWELS[i % len(VOWELS)], 0, i)) for i in range(250)]
    labels = np.arange(250)[:, None] % len(VOWELS)
    return _in_parts("vowels", 8000, takes, {"vowel": VOWELS}, labels, 200, 225)


def melodies() -> Audio:
    """48 / 6 / 6 tunes of about six seconds for a plucked string, in C, at 8 kHz, by scratchnn.data.voices; always the same."""
    return _in_parts("melodies", 8000, [as_int16(melody(0, i)) for i in range(60)], {}, np.zeros((60, 0), np.int64), 48, 54)


def _in_parts(name, rate, takes, classes, labels, *ends):
    parts = np.split(np.arange(len(takes)), ends)
    return Audio(name, rate, *([takes[i] for i in part] for part in parts), classes,
                 {part: labels[rows] for part, rows in zip(PARTS, parts, strict=True)})


def wav_folder(path: str | Path, rate: int = 8000, trim: bool = True) -> Audio:
    """The WAV files of a folder, a take each, at `rate` samples a second, one channel. Subfolders, if there are any, are the classes.
    A tenth is to choose settings by and a tenth the test, of each class as much, always the same.

    trim   cut off what is quiet at both ends
    A warning reports what was skipped and why. Raises DataError if less than three takes are left, OSError.
    """
    path = Path(path)
    if not 1000 <= rate <= 48_000:
        raise DataError(f"{path}: rate is 1,000 to 48,000 samples a second, got {rate:,}")
    names, files, skipped = listing(path)
    takes, labels, samples = [], [], 0
    for file, label in files:
        if file.suffix.lower() not in (".wav", ".wave"):
            continue
        try:
            sound = read_wav(file, rate)[0]
        except (DataError, OSError) as fault:
            skipped.append(str(fault))
            continue
        takes.append(as_int16(trimmed(sound, rate) if trim else sound))
        labels.append(label)
        samples += len(takes[-1])
        if samples > SAMPLES:
            raise DataError(f"{path}: more than {SAMPLES:,} samples in all; take fewer files or a lower rate")
    report = "\n  ".join(skipped[:SHOWN] + ([f"and {len(skipped) - SHOWN:,} more"] if len(skipped) > SHOWN else []))
    if len(takes) < 3:
        raise DataError(f"{path}: {len(takes)} takes, 3 are needed: to learn from, to choose by, to be judged by; cut long recordings into "
                        f"pieces. Skipped {len(skipped):,}:\n  {report}")
    if skipped:
        warnings.warn(f"{path}: {len(takes):,} takes read, {len(skipped):,} files skipped:\n  {report}", stacklevel=2)
    return _divided(path.name, rate, takes, np.array(labels), names)


def _divided(name, rate, takes, labels, names):
    """Audio of takes of classes by number."""
    used, labels = np.unique(labels, return_inverse=True)        # all takes of a class may have been skipped
    classes = {"class": tuple(names[i] for i in used)} if names else {}
    share = max(0.1, 1.01 / len(takes))                          # one take at least
    rest, test = split(name, len(takes), share, labels)
    kept, held = split(name, len(rest), max(0.1, 1.01 / len(rest)), labels[rest])
    rows = {"train": rest[kept], "valid": rest[held], "test": test}
    return Audio(name, rate, *([takes[i] for i in chosen] for chosen in rows.values()), classes,
                 {part: labels[chosen][:, None][:, :len(classes)] for part, chosen in rows.items()})


# ---- samples --------------------------------------------------------------------------------------------------------------

def as_int16(sound: np.ndarray) -> np.ndarray:
    """A sound in -1..1 as a take: 1 is 32768, which is out of reach by a step."""
    return np.rint(32768 * sound).clip(-32768, 32767).astype(np.int16)


def as_float(take: np.ndarray) -> np.ndarray:
    """A take in -1..1, float32."""
    return take / np.float32(32768)


def trimmed(sound: np.ndarray, rate: int) -> np.ndarray:
    """A sound (N,) without what is quiet at its ends: more than 40 dB below its loudest hundredth of a second, but for 0.03 s."""
    size = max(1, round(STRETCH * rate))
    power = np.add.reduceat(sound.astype(np.float64) ** 2, np.arange(0, len(sound), size))
    loud = np.flatnonzero(power >= QUIET ** 2 * power.max())
    margin = round(KEPT * rate)
    return sound[max(0, loud[0] * size - margin):(loud[-1] + 1) * size + margin]


def mu_law_encode(x: np.ndarray, classes: int = 256) -> np.ndarray:
    """Class numbers int64 of x in -1..1: sign(x) log(1 + mu |x|) / log(1 + mu), mu = classes - 1, in equal steps (van den Oord et al. 2016,
    section 2.2; G.711). As torchaudio has it: the nearest of `classes` values from -1 to 1, of two the higher."""
    mu = classes - 1
    x = np.asarray(x, np.float64).clip(-1, 1)
    return np.floor((np.sign(x) * np.log1p(mu * abs(x)) / np.log1p(mu) + 1) / 2 * mu + 0.5).astype(np.int64)


def mu_law_decode(ids: np.ndarray, classes: int = 256) -> np.ndarray:
    """The middle, float32 in -1..1, of what `mu_law_encode` gives each class."""
    return _expanded(2 * np.asarray(ids, np.float64) / (classes - 1) - 1, classes).astype(np.float32)


def mu_law_edges(classes: int = 256) -> np.ndarray:
    """The numbers (classes - 1,) float64 at which one class ends and the next begins."""
    return _expanded(2 * (np.arange(classes - 1) + 0.5) / (classes - 1) - 1, classes)


def _expanded(y, classes):
    """The x whose mu-law is y."""
    return np.sign(y) * np.expm1(abs(y) * np.log(classes)) / (classes - 1)
