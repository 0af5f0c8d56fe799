"""Cell arrays of matrices in MATLAB's files of version 5 (The MathWorks, "MAT-File Format").

SciPy reads far more of such files, but asks for as much memory as a damaged one announces. Here every element lies inside the bytes that
are there, or it is an error.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scratchnn.data.dataset import DataError
from scratchnn.data.files import read_bytes

LARGEST = 1 << 24               # bytes of a file, of which Nottingham takes 0.4 million
UNPACKED = 1 << 28              # bytes of one variable
HEADER = 128
MATRIX, COMPRESSED, CELL = 14, 15, 1
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}


class _Fault(Exception):
    """What is wrong with a file."""


def read_cells(path: str | Path) -> dict[str, list[np.ndarray]]:
    """The cell arrays of a file by name, each a list of its cells that are matrices of numbers (rows, columns); other variables are passed
    over. Raises DataError naming file and fault, OSError."""
    content = read_bytes(path, LARGEST)
    order = {b"IM": "<", b"MI": ">"}.get(content[HEADER - 2:HEADER])
    if order is None:
        raise DataError(f"{path}: not a MATLAB file of version 5")
    try:
        found = {}
        for kind, data in _elements(memoryview(content)[HEADER:], order):
            if kind == COMPRESSED:
                kind, data = next(_elements(_unpacked(data), order))
            if kind == MATRIX:
                name, cells = _variable(data, order)
                found |= {name: cells} if cells is not None else {}
        return found
    except _Fault as fault:
        raise DataError(f"{path}: not a sound MATLAB file: {fault}") from None


def _unpacked(data):
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(data, UNPACKED)
    except zlib.error as error:
        raise _Fault(error) from None
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise _Fault(f"a variable does not end within its bytes, or unpacks to more than {UNPACKED:,}")
    return memoryview(content)


def _elements(data, order) -> Iterator[tuple[int, memoryview]]:
    """(type, content) of what lies in a row in some bytes."""
    at = 0
    while at < len(data):
        if len(data) < at + 8:
            raise _Fault("an element is cut off")
        kind, size = struct.unpack_from(order + "II", data, at)
        if kind >> 16:                                                         # of four bytes or less, which stand in the tag
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            after = start + (size if kind == COMPRESSED else (size + 7) // 8 * 8)
        if start + size > len(data) or (size > 4 and start == at + 4):
            raise _Fault(f"an element of {size:,} bytes where {len(data) - start:,} are left")
        yield kind, data[start:start + size]
        at = after


def _matrix(data, order):
    """(class, dimensions, name, the elements that follow) of a matrix."""
    parts = _elements(data, order)
    try:
        flags, dimensions, name = (next(parts)[1] for _ in range(3))
    except StopIteration:
        raise _Fault("a matrix without flags, dimensions or a name") from None
    if len(flags) < 4 or len(dimensions) % 4:
        raise _Fault("a matrix with flags or dimensions of the wrong size")
    shape = [int(size) for size in np.frombuffer(dimensions, order + "i4")]
    return struct.unpack_from(order + "I", flags)[0] & 0xFF, shape, bytes(name).decode("latin-1"), parts


def _variable(data, order):
    """(name, the numeric matrices in its cells), or (name, None) if it is no cell array."""
    kind, _, name, parts = _matrix(data, order)
    if kind != CELL:
        return name, None
    return name, [_numbers(content, order) for kind, content in parts if kind == MATRIX and len(content)]


def _numbers(data, order):
    """The matrix (rows, columns) of a cell."""
    _, shape, _, parts = _matrix(data, order)
    kind, content = next(parts, (0, b""))
    if kind not in NUMBERS or len(shape) != 2 or min(shape) < 0:
        raise _Fault("a cell that is no matrix of numbers")
    dtype = np.dtype(order + NUMBERS[kind])
    if len(content) != shape[0] * shape[1] * dtype.itemsize:
        raise _Fault(f"a matrix {shape[0]} x {shape[1]} of {len(content):,} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F")
