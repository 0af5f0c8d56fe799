"""fetch(name): the files of a published data set, downloaded once and checked against their sha256.

What holds, whatever happens (a cut connection, a full disk, Ctrl-C, a kill, a second process): under its right name lies either
a whole, checked file or nothing. What has arrived so far lies in NAME.part, where the next call continues.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import os
import re
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import warnings
import zlib
from pathlib import Path

from kernels import config
from scratchnn.data.dataset import DataError
from scratchnn.data.files import writing
from scratchnn.data.sources import SOURCES, Archive, File, Source

CHUNK = 1 << 16
TIMEOUT = 30        # seconds without a byte
ATTEMPTS = 10       # connections to one mirror, if each of them brings the file further


class DownloadError(OSError):
    """A data set that could not be had. The message says what was tried, and what to do."""


def fetch(name: str) -> Path:
    """The folder of $SCRATCHNN_DATA with the files of a set of SOURCES. Those that are missing are downloaded.

    A file that is there already is used, after a warning if it is not the published one. Raises DownloadError if no mirror
    gave the file, OSError if it could not be written.
    """
    if name not in SOURCES:
        raise DataError(f"data set {name!r} is not one that can be downloaded; these are {', '.join(SOURCES)}")
    source = SOURCES[name]
    folder = config.DATA / source.folder
    missing = _missing(folder, source)
    if not missing:
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "ab")      # noqa: SIM115 (closed below)
    except OSError as error:
        raise _not_had(name, missing[0], [f"{folder} cannot be written: {error.strerror}"]) from None
    with lock:
        _wait_for(lock)
        for file in _missing(folder, source):    # asked again: another process may have been at it meanwhile
            if not (folder / file.name).is_file():
                _download(name, file, folder)
        if source.archive and not (folder / source.archive.folder).exists():
            _unpack(folder / source.files[0].name, source.archive, folder)
    return folder


def _missing(folder, source: Source):
    """The files that are not there; of an archive that was unpacked, none."""
    if source.archive and (folder / source.archive.folder).is_dir():
        return []
    for file in source.files:
        path = folder / file.name
        if path.is_file() and (path.stat().st_size != file.size or _sha256(path) != file.sha256):
            warnings.warn(f"{path} is not the published file ({file.size:,} bytes, sha256 {file.sha256}); it is used all the same",
                          stacklevel=3)
    return [file for file in source.files if source.archive or not (folder / file.name).is_file()]


def _not_had(name, file, tried):
    """The error that says what was tried and what to do."""
    source = SOURCES[name]
    instead = f"; `--data {source.instead}` works without a download" if source.instead else ""
    return DownloadError(f"{name}: {file.name} is not there and could not be downloaded:\n  " + "\n  ".join(dict.fromkeys(tried)) +
                         f"\nput {file.name} into {config.DATA / source.folder} (sha256 {file.sha256}), or set SCRATCHNN_DATA to a folder "
                         f"that has {source.folder}/{file.name}{instead}")


def _wait_for(file):
    """Take the file's lock, which one process at a time can hold. Closing the file gives it back, and so does any end of the process."""
    if sys.platform == "win32":
        import msvcrt
        while True:
            with contextlib.suppress(OSError):                   # raised after ten seconds of waiting
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                break
    else:
        import fcntl
        fcntl.flock(file, fcntl.LOCK_EX)


# ---- one file -----------------------------------------------------------------------------------------------------------

class _Refused(Exception):
    """Why one attempt at one address failed."""


def _download(name, file: File, folder: Path):
    """Bring `file` into the folder from the first mirror that has it."""
    path, part, tried = folder / file.name, folder / (file.name + ".part"), []
    for url in file.urls:
        for _ in range(ATTEMPTS):
            before = _size(part)
            try:
                _transfer(url, part, file)
                os.replace(part, path)
                return
            except _Refused as reason:
                tried.append(f"{url}: {reason}")
            further, dropped = _size(part) > before, _size(part) < before
            if not further and not dropped:
                break
    raise _not_had(name, file, tried)


def _transfer(url, part, file: File):
    """Continue `part` with what `url` sends, until it is the whole file. A part that cannot become it is removed."""
    from tqdm import tqdm
    have = _size(part)
    if have < file.size:
        response, have = _opened(url, have)
        with response, writing(part, "ab" if have else "wb") as out, \
                tqdm(desc=file.name, total=file.size, initial=have, unit="B", unit_scale=True, disable=None) as bar:
            while have <= file.size and (chunk := _read(response)):
                out.write(chunk)
                have += len(chunk)
                bar.update(len(chunk))
            out.flush()
            os.fsync(out.fileno())
    if have < file.size:
        raise _Refused(f"the connection ended after {have:,} of {file.size:,} bytes")
    if have > file.size or _sha256(part) != file.sha256:
        part.unlink()
        raise _Refused(f"what it sent is not the published file of {file.size:,} bytes with sha256 {file.sha256}")


def _opened(url, have):
    """(the response to a request for what follows the first `have` bytes, the byte at which it begins: `have`, or 0)."""
    headers = {"User-Agent": "scratchnn", "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have:                       # it has not that many bytes: ask for all of them
                return _opened(url, 0)
            raise _Refused(f"HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Refused(str(getattr(error, "reason", error)) or type(error).__name__) from None
    if response.status != 206:
        return response, 0
    if have and response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        return response, have
    response.close()
    if have:
        return _opened(url, 0)
    raise _Refused("it sent a part where the whole file was asked for")


def _read(response):
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException):                 # what came before stays in the part
        return b""


def _size(path):
    return path.stat().st_size if path.is_file() else 0


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- archives -----------------------------------------------------------------------------------------------------------

def _unpack(path, archive: Archive, folder):
    """Unpack the wanted files into a new folder that gets its name when they are all there; then delete the archive.

    Names are compared, never used as paths, and links and devices are passed over: nothing is written elsewhere.
    """
    unfinished = folder / (archive.folder + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        with tarfile.open(path, "r:gz") as tar:
            found = {_extract(tar, member, match[1], archive, unfinished) for member in tar
                     if member.isfile() and (match := _member(member.name, archive))}
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: not a sound .tar.gz file: {error}") from None
    if len(found) != archive.count:
        raise DataError(f"{path}: {len(found)} files match {archive.inside}/{archive.pattern}, expected {archive.count}")
    os.replace(unfinished, folder / archive.folder)
    path.unlink()


def _member(name, archive):
    return re.fullmatch(f"{re.escape(archive.inside)}/({archive.pattern})", name)


def _extract(tar, member, name, archive, folder):
    if member.size > archive.largest:
        raise DataError(f"{tar.name}: {member.name} announces {member.size:,} bytes, more than the {archive.largest:,} expected")
    with tar.extractfile(member) as content, writing(folder / name, "wb") as out:
        shutil.copyfileobj(content, out)
    return name
