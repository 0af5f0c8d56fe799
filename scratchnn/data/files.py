"""Opening files whose content, size and very nature are not to be trusted, and disks that may be full."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from scratchnn.data.dataset import DataError


def read_bytes(path: str | Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes. Raises DataError for a larger one, and for what is no file (a pipe, a device)."""
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            fault = f"{status.st_size:,} bytes, more than the limit of {limit:,}" if stat.S_ISREG(status.st_mode) else "not a regular file"
            raise DataError(f"{path}: {fault}")
        return file.read()


def _without_waiting(path, flags):
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))   # a pipe without a writer would wait for one


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
