"""What the generative examples have in common: noise that is always the same, walks, classes to draw of, and files of what was drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import scratchnn as snn
from scratchnn import data, pictures
from scratchnn.models.vae import interpolate
from scratchnn.random import Generator

# What --data takes: whatever is no sequence.
DATA = ("digits", "glyphs", "mnist", "fashion-mnist", "stacked-mnist", "cifar10", "cifar10-subset", "moons", "swiss-roll", "ring", "grid",
        "flats", "csv:", "npy:", "folder:")
CLASSES = 12         # of which pictures are shown, at most


def fixed_noise(latent: int, classes: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Noise (rows * columns, latent), always the same, for a table of pictures, and labels: of a model that takes classes, each row is of
    one, and there are as many rows as classes."""
    rows = min(classes, CLASSES) or rows
    return snn.randn(rows * columns, latent, generator=Generator(0)).array, np.arange(rows).repeat(columns) if classes else None


def labels_for(shares: Mapping[str, float], count: int, generator: Generator) -> np.ndarray | None:
    """(count,) labels, each as probable as its share; None where there are no classes."""
    return snn.multinomial(snn.tensor(list(shares.values())), count, True, generator=generator).numpy() if shares else None


def round_trip(latent: int, count: int) -> np.ndarray:
    """Latents (84, count, latent) of `count` walks that end where they began, always the same: over 7 draws from the prior each."""
    stops = snn.randn(7, count, latent, generator=Generator(1)).array
    return np.concatenate([interpolate(stops[i], stops[(i + 1) % 7], 13)[:-1] for i in range(7)])


def write_rows(path: Path, cells: Mapping[str, np.ndarray], y: np.ndarray | None, classes: Sequence[str], target: str) -> None:
    """A CSV file of columns by name, with the class of each row in the column `target` if there are labels y (N,)."""
    data.write_csv(path, cells if y is None else {**cells, target: np.array(classes)[y]})
    print(f"wrote {path}")


def write_pictures(out: Path, x: np.ndarray, y: np.ndarray | None, classes: Sequence[str]) -> None:
    """samples.npy, or with labels samples.npz, which --data npy: reads, and samples.png with up to 12 pictures in a row; with labels,
    each row is of one class."""
    if y is None:
        path, columns = out / "samples.npy", min(12, len(x))
        shown, names = x[:len(x) // columns * columns].reshape(-1, columns, *x.shape[1:])[:12], ()
        np.save(path, x)
    else:
        path, present = out / "samples.npz", np.unique(y)[:CLASSES]
        columns = min(12, np.bincount(y)[present].min())
        shown, names = np.stack([x[y == label][:columns] for label in present]), [classes[label] for label in present]
        np.savez(path, x=x, y=np.array(classes)[y])
    pictures.image_table(out / "samples.png", shown, names)
    print(f"wrote {path} and {out / 'samples.png'}")
