"""IDX files, the format of MNIST and its relatives.

Big-endian: two zero bytes, a byte for the element type (8: uint8), a byte for the number of dimensions, each dimension as a
4-byte number, then the elements in row order (http://yann.lecun.com/exdb/mnist/). Usually compressed by gzip.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from scratchnn.data.dataset import DataError
from scratchnn.data.files import open_regular

UINT8 = 8
LARGEST = 1 << 30   # bytes; more than any published set, and a bound on what a hostile header can make us read


def read_idx(path: str | Path, shape: tuple[int | None, ...]) -> np.ndarray:
    """The uint8 array in a gzip-compressed IDX file. `shape` is what it must have, None standing for any size but zero.

    Raises DataError naming the file and the fault if it is truncated, corrupt or something else. Nothing is read
    beyond the announced size.
    """
    try:
        with open_regular(path) as raw, gzip.open(raw, "rb") as file:
            dims = _header(file, shape)
            size = math.prod(dims)
            data = file.read(size + 1)
    except EOFError:
        raise DataError(f"{path}: truncated: the gzip stream ends early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a sound gzip file: {error}") from None
    except _Fault as fault:
        raise DataError(f"{path}: {fault}") from None
    if len(data) != size:
        fault = f"truncated: {len(data):,}" if len(data) < size else f"too long: more than {size:,}"
        raise DataError(f"{path}: {fault} bytes of data where the header announces {size:,} ({' x '.join(map(str, dims))})")
    return np.frombuffer(data, np.uint8).reshape(dims)


class _Fault(Exception):
    """What is wrong with the header."""


def _header(file, shape):
    """The dimensions that the header announces, checked against `shape`."""
    magic = file.read(4)
    if len(magic) < 4:
        raise _Fault("truncated: no header")
    if magic[:2] != b"\0\0" or magic[2] != UINT8 or magic[3] != len(shape):
        raise _Fault(f"not an IDX file of {len(shape)}-dimensional uint8 data: it starts with bytes {magic.hex(' ')} "
                     f"instead of 00 00 {UINT8:02x} {len(shape):02x}")
    sizes = file.read(4 * len(shape))
    if len(sizes) < 4 * len(shape):
        raise _Fault("truncated: the header is not complete")
    dims = struct.unpack(f">{len(shape)}I", sizes)
    if any(n == 0 or want not in (None, n) for n, want in zip(dims, shape, strict=True)):
        wanted = " x ".join("any" if n is None else str(n) for n in shape)
        raise _Fault(f"shape {' x '.join(map(str, dims))} where {wanted} is expected")
    if math.prod(dims) > LARGEST:
        raise _Fault(f"the header announces {math.prod(dims):,} bytes, more than the limit of {LARGEST:,}")
    return dims
