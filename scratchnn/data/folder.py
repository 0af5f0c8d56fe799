"""A folder of the user's pictures, in any sizes, with or without a subfolder for each class."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from scratchnn.data.dataset import LARGEST, DataError, DataSet, split
from scratchnn.data.files import read_bytes

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM")   # those of Pillow that are plain pictures; EPS would run a program
FILE_LIMIT = 1 << 28                                     # bytes of a picture's file
GREY = np.array([0.299, 0.587, 0.114], np.float32)       # red, green and blue in a grey value, ITU-R BT.601
SHOWN = 10                                               # lines of the report of what was skipped


def picture_folder(path: str | Path, size: int = 32, channels: int | None = None, test: float = 0.2) -> DataSet:
    """The pictures in a folder, scaled to size x size; what is too wide or too high is cut off at both ends alike.

    The classes are the subfolders that lie directly in it; without any, the pictures in the folder itself are taken, and have no
    labels. Nothing deeper is read.
    channels   1: grey, 3: colour; None: colour if any picture has some
    test       share of the pictures that is set apart for the test, of each class as much
    A warning reports what was skipped and why. Raises DataError if nothing is left, OSError.
    """
    path = Path(path)
    if not 1 <= size <= 4096 or channels not in (None, 1, 3):
        raise DataError(f"{path}: size is 1 to 4096 and channels 1 or 3, got size {size} and channels {channels}")
    names, files, skipped = listing(path)
    if 12 * size * size * len(files) > LARGEST:
        raise DataError(f"{path}: {len(files):,} pictures of 3 x {size} x {size} float32 exceed the limit of {LARGEST:,} bytes; "
                        "choose a smaller size")
    pictures, labels = [], []
    for file, label in files:
        try:
            pictures.append(read_picture(file, size))
            labels.append(label)
        except (DataError, OSError) as fault:
            skipped.append(str(fault) if str(file) in str(fault) else f"{file}: {fault}")
    report = "\n  ".join(skipped[:SHOWN] + ([f"and {len(skipped) - SHOWN:,} more"] if len(skipped) > SHOWN else []))
    if len(pictures) < 2:
        raise DataError(f"{path}: {len(pictures)} pictures found ({', '.join(FORMATS)} are read); skipped {len(skipped):,}:\n  {report}")
    if skipped:
        warnings.warn(f"{path}: {len(pictures):,} pictures read, {len(skipped):,} files skipped:\n  {report}", stacklevel=2)
    return _dataset(path, np.stack(pictures), np.array(labels), names, channels, test)


def read_pictures(paths: Sequence[str | Path], size: tuple[int, int], channels: int) -> np.ndarray:
    """Pictures as the examples of `picture_folder`: (N, channels, H, W) float32 in 0..1, scaled to size = (H, W), channels 1 or 3.

    Raises DataError naming file and fault, OSError.
    """
    return _pixels(np.stack([read_picture(path, size) for path in paths]), channels)


def read_picture(path: str | Path, size: int | tuple[int, int] | None = None) -> np.ndarray:
    """A picture as (3, H, W) uint8, turned upright as its camera says, transparent parts white; scaled to size x size or (H, W) if
    given, what is too wide or too high cut off at both ends alike.

    Raises DataError naming file and fault, for pictures beyond Pillow's limit of pixels too.
    """
    from PIL import Image, ImageOps
    content = io.BytesIO(read_bytes(path, FILE_LIMIT))           # from a file, Pillow allocates what a damaged PNG announces: 4 GB
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(content, formats=FORMATS) as image:
                ImageOps.exif_transpose(image, in_place=True)
                image = _colours(image)
        if size is not None:
            height, width = (size, size) if isinstance(size, int) else size
            image = ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    except Image.UnidentifiedImageError:
        raise DataError(f"{path}: not a picture ({', '.join(FORMATS)})") from None
    except Exception as fault:                   # Pillow's decoders raise nearly anything on damaged files
        raise DataError(f"{path}: not a sound picture: {fault or type(fault).__name__}") from None
    return np.asarray(image).transpose(2, 0, 1)


def _colours(image):
    """The picture in RGB. Pillow would cut 16-bit grey values off at 255, and show what lies under transparent parts."""
    from PIL import Image
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def listing(path: Path) -> tuple[tuple[str, ...], list[tuple[Path, int]], list[str]]:
    """(names of the classes, [(file, number of its class)], what is skipped) of a folder, in the order of the names."""
    folders = [entry for entry in _entries(path) if os.path.isdir(entry)]
    files = [entry for entry in _entries(path) if entry not in folders]
    if not folders:
        return (), [(file, 0) for file in files], []
    classes, skipped = [], [f"{file}: lies beside the folders of the classes" for file in files]
    found = []
    for entry in folders:
        inside = list(_entries(entry))
        skipped += [f"{name}: a folder in the folder of a class" for name in inside if os.path.isdir(name)]
        inside = [name for name in inside if not os.path.isdir(name)]
        if inside:
            found += [(name, len(classes)) for name in inside]
            classes.append(entry.name)
        else:
            skipped.append(f"{entry}: no file in it")
    return tuple(classes), found, skipped


def _entries(path) -> Iterator[Path]:
    """What lies in a folder, but for hidden files."""
    return (path / name for name in sorted(os.listdir(path)) if not name.startswith("."))


def _dataset(path, pictures, labels, classes, channels, test):
    """The DataSet of (N, 3, S, S) uint8 pictures."""
    if channels is None:
        channels = 1 if (pictures == pictures[:, :1]).all() else 3
    used, labels = np.unique(labels, return_inverse=True)        # all pictures of a class may have been skipped
    classes = tuple(classes[i] for i in used) if classes else ()
    train, held = split(str(path), len(pictures), test, labels)
    x = _pixels(pictures, channels)
    y = (labels[train], labels[held]) if classes else (None, None)
    return DataSet(path.name, x[train], y[0], x[held], y[1], classes, x.shape[1:])


def _pixels(pictures, channels):
    """(N, 3, H, W) uint8 -> (N, channels, H, W) in 0..1."""
    if channels == 1:                            # rounded, which leaves what is grey as it is
        pictures = np.rint(pictures.transpose(0, 2, 3, 1) @ GREY)[:, None]
    return np.divide(pictures, np.float32(255), dtype=np.float32)
