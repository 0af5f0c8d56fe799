"""Sets of small pictures: `digits`, which comes with the library, and the IDX files of MNIST and Fashion-MNIST."""

from __future__ import annotations

import math
import mmap
from importlib import resources

import numpy as np

import kernels
from scratchnn.data.dataset import DataError, DataSet
from scratchnn.data.download import fetch
from scratchnn.data.idx import read_idx

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
IDX_FILES = {"train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
             "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")}


def digits() -> DataSet:
    """1,797 handwritten digits of 8x8 pixels, 1,438 to learn from and 359 to test. Embedded, no download.

    The test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (UCI Machine Learning Repository,
    1998, https://doi.org/10.24432/C50P49), licence CC BY 4.0, as distributed with scikit-learn. 32x32 bitmaps by 13 writers
    were reduced to counts of 0..16 ink pixels in each 4x4 block; here divided by 16. The order was shuffled once, and the
    first fifth of each class made the test part: the same writers occur in both.
    """
    with resources.files("scratchnn.data").joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        train_x, train_y, test_x, test_y = (arrays[name] for name in ("train_x", "train_y", "test_x", "test_y"))
    return labelled("digits", train_x[:, None], train_y, test_x[:, None], test_y, 16, DIGITS)


def mnist() -> DataSet:
    """60,000 handwritten digits of 28x28 pixels to learn from and 10,000 to test (LeCun, Bottou, Bengio & Haffner 1998).

    Raises DownloadError if the files are neither in the folder `mnist` of $SCRATCHNN_DATA nor to be had, DataError that
    names a file which is not what it should be.
    """
    return _idx("mnist", DIGITS)


def fashion_mnist() -> DataSet:
    """Clothes in place of digits, in the numbers and format of MNIST (Xiao, Rasul & Vollgraf 2017). Raises what `mnist` does."""
    return _idx("fashion-mnist", CLOTHES)


def stacked_mnist() -> DataSet:
    """Three digits of MNIST, drawn at random, as the channels of a picture: 26,000 to learn from and 10,000 to test, (3, 28, 28). The
    1,000 classes are the modes that a generative model may miss (Metz, Poole, Pfau & Sohl-Dickstein 2017, "Unrolled generative
    adversarial networks"). Raises what `mnist` does."""
    digit = mnist()
    x, y = zip(*(_stacked(digit.train_x, digit.train_y, 26_000, 0), _stacked(digit.test_x, digit.test_y, 10_000, 1)), strict=True)
    return DataSet("stacked-mnist", x[0], y[0], x[1], y[1], tuple(f"{i:03}" for i in range(1000)), (3, 28, 28))


def _stacked(x, y, count, seed):
    chosen = kernels.randint(seed, 0, 0, len(x), (count, 3))
    return x[chosen, 0], y[chosen] @ np.array([100, 10, 1])


def _idx(name, classes):
    folder, arrays = fetch(name), []
    for images_file, labels_file in IDX_FILES.values():
        images, labels = read_idx(folder / images_file, (None, 28, 28)), read_idx(folder / labels_file, (None,))
        if len(labels) != len(images):
            raise DataError(f"{folder / labels_file}: {len(labels):,} labels for {len(images):,} images")
        if labels.max() >= len(classes):
            raise DataError(f"{folder / labels_file}: label {labels.max()} found, labels are 0 to {len(classes) - 1}")
        arrays += [images[:, None], labels]
    return labelled(name, *arrays, 255, classes)


def labelled(name: str, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray, white: int,
             classes: tuple[str, ...]) -> DataSet:
    """A DataSet from uint8 pictures (N, C, H, W), `white` being their largest value, and labels (N,) of any integer type."""
    pictures = [np.divide(x, np.float32(white), out=_in_small_pages(x.shape)) for x in (train_x, test_x)]
    labels = [y.astype(np.int64) for y in (train_y, test_y)]
    return DataSet(name, pictures[0], labels[0], pictures[1], labels[1], classes, pictures[0].shape[1:])


def _in_small_pages(shape):
    """An array of float32. NumPy would ask for pages of 2 MB, and where the system has to find them first, as a virtual machine often
    has, MNIST took 0.65 s to load instead of 0.3."""
    return np.frombuffer(mmap.mmap(-1, 4 * math.prod(shape)), np.float32).reshape(shape)
