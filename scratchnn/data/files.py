"""Opening files whose content, size and very nature are not to be trusted, and disks that may be full."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from scratchnn.data.dataset import DataError


def open_regular(path: str | Path) -> IO[bytes]:
    """Open a file to be read. Raises DataError for a pipe, which may never end or begin, a device and a folder; OSError."""
    file = open(path, "rb", opener=_without_waiting)             # noqa: SIM115 (the caller's to close)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise DataError(f"{path}: not a regular file")
    return file


def _without_waiting(path, flags):
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))   # a pipe without a writer would wait for one


def read_bytes(path: str | Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes. Raises DataError for a larger one, OSError."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise DataError(f"{path}: {size:,} bytes, more than the limit of {limit:,}")
        return file.read()


@contextlib.contextmanager
def writing(path: str | Path, mode: str, **options) -> Iterator[IO]:
    """A file opened to be written, whose errors name it: those of a full disk don't by themselves."""
    try:
        with open(path, mode, **options) as file:
            yield file
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
