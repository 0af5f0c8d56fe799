"""The user's arrays: .npy and .npz files. Objects in them, which would be pickle, are refused."""

from __future__ import annotations

import math
import os
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

from scratchnn.data.dataset import LARGEST, DataError, DataSet, split
from scratchnn.data.files import open_regular

KERAS = {"x_train": "train_x", "y_train": "train_y", "x_test": "test_x", "y_test": "test_y"}
BROKEN = (ValueError, EOFError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError, OverflowError, TypeError, KeyError,
          NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)   # what NumPy and zipfile raise on damaged files


def array_file(path: str | Path, test: float = 0.2) -> DataSet:
    """Examples from a .npy file, or from an .npz file with labels or parts of its own.

    .npy    the examples: (N, D) rows, (N, H, W) or (N, C, H, W) or (N, H, W, C) pictures, C being 1 or 3
    .npz    x and perhaps y (N,), whole numbers or text; or train_x, test_x and perhaps train_y, test_y
    test    share that is set apart for the test where the file is not divided

    uint8 is divided by 255; other numbers are taken as they are. Raises DataError naming file and fault, OSError.
    """
    path = Path(path)
    arrays = {KERAS.get(name, name): array for name, array in read_arrays(path).items()}
    x, y = arrays.get("x"), arrays.get("y")
    classes = ()
    if {"train_x", "test_x"} <= set(arrays):
        count = len(arrays["train_x"])
        x, y = _joined(path, arrays, "x"), _joined(path, arrays, "y") if {"train_y", "test_y"} & set(arrays) else None
        train, held = slice(count), slice(count, None)
    elif x is None:
        raise DataError(f"{path}: holds {', '.join(arrays) or 'nothing'}; expected x (and y), or train_x, test_x (and train_y, test_y)")
    if y is not None:
        classes, y = _labels(path, y, len(x))
    if "x" in arrays:
        train, held = split(str(path), len(x), test, y)
    x, y = _examples(path, x), (None, None) if y is None else (y[train], y[held])
    return DataSet(path.stem, x[train], y[0], x[held], y[1], classes, x.shape[1:])


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, or that of a .npy file under the name `x`: numbers and text, nothing else.

    What a header announces is held against the size of the file before anything is allocated. Raises DataError, OSError.
    """
    try:
        with open_regular(path) as file:
            if zipfile.is_zipfile(file):
                return _read_npz(file)
            file.seek(0)
            return {"x": _read_npy(file, os.fstat(file.fileno()).st_size)}
    except OSError as fault:
        if fault.filename is not None:
            raise
        raise DataError(f"{path}: not a sound .npz file: {fault}") from None
    except BROKEN as fault:
        raise DataError(f"{path}: not a sound .npy or .npz file: {fault or type(fault).__name__}") from None


def _read_npz(file):
    """The arrays in a zip file of .npy files."""
    with zipfile.ZipFile(file) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        if sum(member.file_size for member in members) > LARGEST:
            raise DataError(f"its arrays announce more than the limit of {LARGEST:,} bytes")
        arrays = {}
        for member in members:
            with archive.open(member) as content:
                arrays[member.filename.removesuffix(".npy")] = _read_npy(content, member.file_size)
        return arrays


def _read_npy(file, size):
    """The array in a .npy file of `size` bytes (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html)."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"format {version[0]}.{version[1]} is not one of 1.0 and 2.0")
    with warnings.catch_warnings():              # of files from Python 2, which are read all the same
        warnings.simplefilter("ignore")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(file)
    if dtype.kind not in "buifUS":
        raise DataError(f"its elements are {dtype}; only numbers and text are read, never objects, which could run code")
    count = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 1 or not 0 < count <= min(size, LARGEST):
        raise DataError(f"its header announces shape {shape} of {dtype}, {count:,} bytes, in a file of {size:,}")
    content = file.read(count + 1)
    if len(content) != count:
        raise DataError(f"{len(content):,} bytes of data where the header announces {count:,}")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _joined(path, arrays, kind):
    """The training and the test part of `kind` (x or y), one after the other."""
    parts = [arrays.get(f"{part}_{kind}") for part in ("train", "test")]
    if any(part is None for part in parts):
        raise DataError(f"{path}: has one of train_{kind} and test_{kind}; labels are for both parts or for none")
    if parts[0].shape[1:] != parts[1].shape[1:] or parts[0].dtype != parts[1].dtype:
        raise DataError(f"{path}: train_{kind} has shape {parts[0].shape} of {parts[0].dtype}, "
                        f"test_{kind} {parts[1].shape} of {parts[1].dtype}")
    return np.concatenate(parts)


def _labels(path, y, count):
    """(names of the classes, labels (count,) int64) from whole numbers or text."""
    if y.shape != (count,) or y.dtype.kind not in "buiUS":
        raise DataError(f"{path}: y has shape {y.shape} of {y.dtype}, expected ({count},) whole numbers or text")
    try:
        values, labels = np.unique(y, return_inverse=True)
        return tuple(str(value) for value in values), labels.astype(np.int64)
    except ValueError as fault:                  # code points that are none
        raise DataError(f"{path}: y: {fault}") from None


def _examples(path, x):
    """Float32 examples (N, D) or (N, C, H, W)."""
    if x.dtype.kind not in "buif" or x.ndim not in (2, 3, 4):
        raise DataError(f"{path}: x has shape {x.shape} of {x.dtype}; expected numbers (N, D), (N, H, W), (N, C, H, W) or (N, H, W, C)")
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[1] not in (1, 3):
        if x.shape[3] not in (1, 3):
            raise DataError(f"{path}: pictures of shape {x.shape[1:]} have neither 1 nor 3 channels first or last")
        x = x.transpose(0, 3, 1, 2)
    if 4 * x.size > LARGEST:
        raise DataError(f"{path}: x of shape {x.shape} needs {4 * x.size:,} bytes as float32, more than the limit of {LARGEST:,}")
    if x.dtype == np.uint8:
        return np.divide(x, np.float32(255), dtype=np.float32, order="C")
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.asarray(x, np.float32, order="C")
    if not np.isfinite(values).all():
        raise DataError(f"{path}: x holds values that are not finite, or too large for float32")
    return values
