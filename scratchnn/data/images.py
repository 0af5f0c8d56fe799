"""Sets of small pictures: `digits`, which comes with the library, and `mnist`, read from files."""

from __future__ import annotations

from importlib import resources

import numpy as np

from kernels import config
from scratchnn.data.dataset import DataSet
from scratchnn.data.glyphs import glyphs
from scratchnn.data.idx import read_idx
from scratchnn.data.toys import grid, moons, ring, swiss_roll

DIGITS = tuple("0123456789")
MNIST_FILES = {"train_x": "train-images-idx3-ubyte.gz", "train_y": "train-labels-idx1-ubyte.gz",
               "test_x": "t10k-images-idx3-ubyte.gz", "test_y": "t10k-labels-idx1-ubyte.gz"}


def digits() -> DataSet:
    """1,797 handwritten digits of 8x8 pixels, 1,438 to learn from and 359 to test. Embedded, no download.

    The test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (UCI Machine Learning Repository,
    1998, https://doi.org/10.24432/C50P49), licence CC BY 4.0, as distributed with scikit-learn. 32x32 bitmaps by 13 writers
    were reduced to counts of 0..16 ink pixels in each 4x4 block; here divided by 16. The order was shuffled once, and the
    first fifth of each class made the test part: the same writers occur in both.
    """
    with resources.files("scratchnn.data").joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        parts = dict(arrays)
    return _labelled("digits", parts, 16)


def mnist() -> DataSet:
    """60,000 handwritten digits of 28x28 pixels to learn from and 10,000 to test (LeCun, Bottou, Bengio & Haffner 1998).

    Read from the four published files in the folder `mnist` of $SCRATCHNN_DATA. Raises FileNotFoundError that says where
    to put a missing file, ValueError that names a file which is not what it should be.
    """
    folder = config.DATA / "mnist"
    missing = [name for name in MNIST_FILES.values() if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"MNIST is not there: put {', '.join(missing)} into {folder} (set SCRATCHNN_DATA to choose another "
                                "place); `--data digits` works without any file")
    parts = {}
    for part, name in MNIST_FILES.items():
        parts[part] = read_idx(folder / name, (None, 28, 28) if part.endswith("x") else (None,))
        if part.endswith("y"):
            _check_labels(folder / name, parts[part], len(parts[part[:-1] + "x"]))
    return _labelled("mnist", parts, 255)


def _check_labels(path, labels, images):
    if len(labels) != images:
        raise ValueError(f"{path}: {len(labels):,} labels for {images:,} images")
    if labels.max(initial=0) > 9:
        raise ValueError(f"{path}: label {labels.max()} found, digits are 0 to 9")


def _labelled(name, parts, white):
    """A DataSet of digits from uint8 arrays (N, H, W) and (N,), `white` being the largest grey value."""
    pictures = {part: parts[part][:, None].astype(np.float32) / np.float32(white) for part in ("train_x", "test_x")}
    labels = {part: parts[part].astype(np.int64) for part in ("train_y", "test_y")}
    return DataSet(name, **pictures, **labels, classes=DIGITS, shape=pictures["train_x"].shape[1:])


SETS = {"digits": digits, "mnist": mnist, "glyphs": glyphs, "moons": moons, "swiss-roll": swiss_roll, "ring": ring, "grid": grid}


def load(name: str) -> DataSet:
    """The data set of that name. Raises ValueError that lists the known names."""
    if name not in SETS:
        raise ValueError(f"data set {name!r} is not known; choose one of {', '.join(SETS)}")
    return SETS[name]()
