"""CIFAR-10: 32x32 colour pictures of ten kinds of things, in the binary version of the published files.

A record is a label byte and 3,072 bytes of pixels: the red plane, the green, the blue, each in row order
(https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kernels import config
from scratchnn.data.dataset import DataError, DataSet
from scratchnn.data.download import fetch
from scratchnn.data.files import read_bytes
from scratchnn.data.images import labelled

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 1 + 3 * 32 * 32
LARGEST = 60_000 * RECORD
SUBSET = {"data_batch_1_first2500.bin": ("data_batch_1.bin", 2500), "test_batch_first500.bin": ("test_batch.bin", 500)}


def cifar10() -> DataSet:
    """50,000 pictures to learn from and 10,000 to test (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009).

    Raises DownloadError if the files are neither there nor to be had, DataError that names a damaged one.
    """
    folder = fetch("cifar10") / "cifar-10-batches-bin"
    return _set("cifar10", [read_cifar(folder / f"data_batch_{i}.bin") for i in range(1, 6)], [read_cifar(folder / "test_batch.bin")])


def cifar10_subset() -> DataSet:
    """The first 2,500 pictures of data_batch_1.bin to learn from and the first 500 of test_batch.bin to test.

    Read from files of these records alone, if both are in the folder `cifar10`, otherwise from the full set. Results are not
    comparable with published ones.
    """
    folder = config.DATA / "cifar10"
    if all((folder / name).is_file() for name in SUBSET):
        parts = [read_cifar(folder / name) for name in SUBSET]
    else:
        folder = fetch("cifar10") / "cifar-10-batches-bin"
        parts = [tuple(a[:count] for a in read_cifar(folder / name)) for name, count in SUBSET.values()]
    return _set("cifar10-subset", parts[:1], parts[1:])


def read_cifar(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """(pictures (N, 3, 32, 32), labels (N,)), both uint8, of a file of records. Raises DataError naming file and fault."""
    content = read_bytes(path, LARGEST)
    if not content or len(content) % RECORD:
        raise DataError(f"{path}: {len(content):,} bytes are not one or more records of {RECORD:,} bytes: truncated, or another kind "
                        "of file")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0]
    if labels.max() >= len(CLASSES):
        raise DataError(f"{path}: record {labels.argmax()} has label {labels.max()}, labels are 0 to {len(CLASSES) - 1}")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels


def _set(name, train, test):
    arrays = [np.concatenate(list(part)) for files in (train, test) for part in zip(*files, strict=True)]
    return labelled(name, *arrays, 255, CLASSES)
