"""Downloads from a server on this machine that cuts, lies, refuses and stalls: under its right name lies the right file or nothing."""

import hashlib
import http.server
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from kernels import config
from scratchnn import data
from scratchnn.data import download
from scratchnn.data.dataset import DataError
from scratchnn.data.download import DownloadError, fetch
from scratchnn.data.sources import SOURCES, Archive, File, Source

CONTENT = np.random.default_rng(0).bytes(120)
ROOT = Path(__file__).parent.parent


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files[path]`; `server.behave`, where it is set, answers in its own way."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.server.behave(self)

    def answer(self, cut=None, ranges=True, offset=0):
        content = self.server.files.get(self.path)
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if ranges and self.headers.get("Range") else 0
        if content is None or start >= len(content):
            return self.send_error(404 if content is None else 416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + offset}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start + offset:][:cut])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server whose file /data/toy.bin is the one file of the set `toy`; /mirror/toy.bin is its second address."""
    monkeypatch.setattr(config, "DATA", tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.files, server.asked, server.behave = {"/data/toy.bin": CONTENT}, [], Handler.answer
    server.at = f"http://127.0.0.1:{server.server_port}"
    define(monkeypatch, server, CONTENT)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def define(monkeypatch, server, content, name="toy.bin", archive=None):
    urls = tuple(f"{server.at}/{folder}/{name}" for folder in ("data", "mirror"))
    file = File(name, len(content), hashlib.sha256(content).hexdigest(), urls)
    monkeypatch.setitem(SOURCES, "toy", Source("toy", (file,), "digits", archive))


def files(folder):
    """What lies in the set's folder, but for the lock."""
    folder = folder / "toy"
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"} if folder.exists() else {}


WHOLE = {"toy.bin": CONTENT}


def test_what_is_there_is_not_asked_for_again(server, tmp_path):
    assert fetch("toy") == tmp_path / "toy" and files(tmp_path) == WHOLE
    server.behave = lambda handler: handler.send_error(500)
    assert fetch("toy") == tmp_path / "toy" and len(server.asked) == 1


def test_cut_at_any_byte(server, tmp_path):
    """The connection breaks after any number of bytes; the same call continues from there."""
    for cut in range(len(CONTENT) + 1):
        server.asked.clear()
        server.files["/mirror/toy.bin"] = CONTENT
        server.behave = lambda handler: handler.answer(cut=cut if len(server.asked) == 1 else None)
        fetch("toy")
        assert files(tmp_path) == WHOLE
        assert [asked for _, asked in server.asked] == [None] + [f"bytes={cut}-" if cut else None] * (cut < len(CONTENT))
        (tmp_path / "toy" / "toy.bin").unlink()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_of_any_length_is_continued_or_begun_anew(server, tmp_path, ranges):
    """What an earlier call left: bytes of the file, or others, or more than the file has; from servers that know ranges, and not."""
    server.behave = lambda handler: handler.answer(ranges=ranges)
    (tmp_path / "toy").mkdir()
    for length in range(len(CONTENT) + 3):
        for before in (CONTENT, bytes(len(CONTENT))):
            (tmp_path / "toy" / "toy.bin.part").write_bytes((before + b"xxx")[:length])
            fetch("toy")
            assert files(tmp_path) == WHOLE
            (tmp_path / "toy" / "toy.bin").unlink()


def test_a_range_that_begins_elsewhere_is_not_taken(server, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "toy.bin.part").write_bytes(CONTENT[:70])
    server.behave = lambda handler: handler.answer(offset=7 if handler.headers.get("Range") else 0)
    fetch("toy")
    assert files(tmp_path) == WHOLE


def test_a_server_of_parts_only(server, tmp_path):
    server.files["/mirror/toy.bin"] = CONTENT

    def part(handler):
        if "mirror" in handler.path:
            return handler.answer()
        handler.send_response(206)
        handler.send_header("Content-Range", "bytes 5-9/120")
        handler.end_headers()
        handler.wfile.write(CONTENT[5:10])
    server.behave = part
    for before in (0, 50):
        (tmp_path / "toy").mkdir(exist_ok=True)
        (tmp_path / "toy" / "toy.bin.part").write_bytes(CONTENT[:before])
        fetch("toy")
        assert files(tmp_path) == WHOLE
        (tmp_path / "toy" / "toy.bin").unlink()


@pytest.mark.parametrize("wrong", [bytes(120), CONTENT[:-1] + b"x", CONTENT + b"x", b"<html>no such page</html>", b""])
def test_a_wrong_file_never_gets_the_right_name(server, tmp_path, wrong):
    server.files["/data/toy.bin"] = wrong
    with pytest.raises(DownloadError, match=r"toy\.bin is not there and could not be downloaded") as error:
        fetch("toy")
    assert "toy.bin" not in files(tmp_path)
    assert f"{server.at}/mirror/toy.bin: HTTP 404" in str(error.value) and f"{server.at}/data/toy.bin: " in str(error.value)
    server.files["/mirror/toy.bin"] = CONTENT                                # the next call, and another mirror
    fetch("toy")
    assert files(tmp_path) == WHOLE


@pytest.mark.parametrize("status", [404, 403, 500, 503, 416])
def test_the_next_mirror_is_asked(server, tmp_path, status):
    server.files["/mirror/toy.bin"] = CONTENT
    server.behave = lambda handler: handler.answer() if "mirror" in handler.path else handler.send_error(status)
    fetch("toy")
    assert files(tmp_path) == WHOLE and [path for path, _ in server.asked] == ["/data/toy.bin", "/mirror/toy.bin"]


def test_offline(server, tmp_path, monkeypatch):
    server.at = "http://127.0.0.1:1"                                         # where nobody listens
    define(monkeypatch, server, CONTENT)
    with pytest.raises(DownloadError) as error:
        fetch("toy")
    for part in (f"{server.at}/data/toy.bin", f"{server.at}/mirror/toy.bin", f"put toy.bin into {tmp_path / 'toy'}", "SCRATCHNN_DATA",
                 hashlib.sha256(CONTENT).hexdigest(), "`--data digits` works without a download"):
        assert part in str(error.value)


def test_a_server_that_says_nothing(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    wait = threading.Event()
    server.files["/mirror/toy.bin"] = CONTENT
    server.behave = lambda handler: handler.answer() if "mirror" in handler.path else wait.wait(20)
    fetch("toy")
    wait.set()
    assert files(tmp_path) == WHOLE


def test_another_file_of_the_user_is_used_after_a_warning(server, tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "toy.bin").write_bytes(b"mine")
    with pytest.warns(UserWarning, match=r"toy\.bin is not the published file \(120 bytes"):
        fetch("toy")
    assert files(tmp_path) == {"toy.bin": b"mine"} and not server.asked


def test_a_folder_that_cannot_be_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "DATA", tmp_path / "file")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match=r"toy cannot be written"):
        fetch("toy")


def test_unknown_names():
    with pytest.raises(DataError, match=r"'nist' is not one that can be downloaded; these are mnist, fashion-mnist, cifar10"):
        fetch("nist")


def test_the_table_of_sources_is_sound():
    for source in SOURCES.values():
        assert source.instead in ("", *data.SETS)
        for file in source.files:
            assert len(bytes.fromhex(file.sha256)) == 32 and file.size > 0 and len(set(file.urls)) > 1
            assert all(url.startswith("http") and url.endswith("/" + file.name) for url in file.urls)


# ---- interrupted --------------------------------------------------------------------------------------------------------

@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk(server, tmp_path):
    (tmp_path / "toy").mkdir()
    part = tmp_path / "toy" / "toy.bin.part"
    part.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: .*toy\.bin\.part"):
        fetch("toy")
    part.unlink()
    assert files(tmp_path) == {}
    fetch("toy")
    assert files(tmp_path) == WHOLE


@pytest.mark.parametrize("chunks", [0, 1, 5])
def test_ctrl_c(server, tmp_path, monkeypatch, chunks):
    monkeypatch.setattr(download, "CHUNK", 20)
    calls, read = [], download._read

    def interrupted(response):
        calls.append(1)
        if len(calls) > chunks:
            signal.raise_signal(signal.SIGINT)
        return read(response)
    monkeypatch.setattr(download, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch("toy")
    assert files(tmp_path) == {"toy.bin.part": CONTENT[:20 * chunks]}
    monkeypatch.setattr(download, "_read", read)
    fetch("toy")
    assert files(tmp_path) == WHOLE and server.asked[-1][1] == (f"bytes={20 * chunks}-" if chunks else None)


SCRIPT = """
import sys
from scratchnn.data.download import fetch
from scratchnn.data.sources import SOURCES, File, Source
SOURCES["toy"] = Source("toy", (File("toy.bin", int(sys.argv[2]), sys.argv[3], (sys.argv[1],)),), "")
print("ready", flush=True)
sys.stdin.readline()
fetch("toy")
"""


def processes(server, tmp_path, count, content):
    """Processes that fetch at once, from the same moment on."""
    command = [sys.executable, "-c", SCRIPT, f"{server.at}/data/toy.bin", str(len(content)), hashlib.sha256(content).hexdigest()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCRATCHNN_DATA": str(tmp_path), "no_proxy": "*"}
    started = [subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for _ in range(count)]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    return started


def slowly(handler, content=CONTENT):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for i in range(0, len(content), 30):
        handler.wfile.write(content[i:i + 30])
        time.sleep(0.02)


def test_processes_at_once(server, tmp_path):
    server.behave = slowly
    for process in processes(server, tmp_path, 3, CONTENT):
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
    assert files(tmp_path) == WHOLE and len(server.asked) == 1               # the others waited, and found it there


def test_a_killed_process_leaves_its_part_and_no_lock(server, tmp_path):
    big = CONTENT * 2500
    server.files["/data/toy.bin"] = big
    stop = threading.Event()

    def stall(handler):
        if len(server.asked) > 1:
            return handler.answer()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(big)))
        handler.end_headers()
        handler.wfile.write(big[:200_000])
        stop.wait(30)
    server.behave = stall
    process, = processes(server, tmp_path, 1, big)
    part = tmp_path / "toy" / "toy.bin.part"
    while not (part.exists() and part.stat().st_size > 100_000) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    stop.set()
    assert set(files(tmp_path)) == {"toy.bin.part"}
    other, = processes(server, tmp_path, 1, big)
    _, error = other.communicate(timeout=60)
    assert other.returncode == 0, error
    assert files(tmp_path) == {"toy.bin": big} and server.asked[1][1].startswith("bytes=1")


# ---- archives -----------------------------------------------------------------------------------------------------------

def tar_gz(*names):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return file.getvalue()


ARCHIVE = Archive("inside", inside="top", pattern=r"[a-z]\.bin", count=2, largest=100)


def test_an_archive_is_unpacked_and_deleted(server, tmp_path, monkeypatch):
    server.files["/data/toy.tar.gz"] = content = tar_gz("top/a.bin", "top/b.bin", "top/readme", "a.bin", "/top/c.bin", "../top/d.bin")
    define(monkeypatch, server, content, "toy.tar.gz", ARCHIVE)
    inside = fetch("toy") / "inside"
    assert {p.name: p.read_text() for p in inside.iterdir()} == {"a.bin": "top/a.bin", "b.bin": "top/b.bin"}
    assert sorted(p.name for p in (tmp_path / "toy").iterdir()) == [".lock", "inside"]
    fetch("toy")
    assert len(server.asked) == 1


@pytest.mark.parametrize(("content", "fault"), [
    (tar_gz("top/a.bin"), "1 files match"), (tar_gz("top/a.bin", "top/b.bin")[:-30], "not a sound"), (b"text", "not a sound"),
    (tar_gz("top/a.bin", "top/b.bin", "top/c.bin"), "3 files match")], ids=["one match", "cut off", "text", "three matches"])
def test_an_archive_of_the_user_that_is_another(server, tmp_path, content, fault):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "toy.tar.gz").write_bytes(content)
    SOURCES["toy"] = Source("toy", (File("toy.tar.gz", 5, "0" * 64, (server.at,)),), "", ARCHIVE)
    with pytest.warns(UserWarning, match="not the published file"), pytest.raises(DataError, match=rf"toy\.tar\.gz: .*{fault}"):
        fetch("toy")
    assert not (tmp_path / "toy" / "inside").exists() and not server.asked


def test_an_interrupted_unpacking_is_begun_anew(server, tmp_path, monkeypatch):
    server.files["/data/toy.tar.gz"] = content = tar_gz("top/a.bin", "top/b.bin")
    define(monkeypatch, server, content, "toy.tar.gz", ARCHIVE)

    def interrupted(*args):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download.shutil, "copyfileobj", interrupted)
        fetch("toy")
    assert not (tmp_path / "toy" / "inside").exists()
    assert len(list((fetch("toy") / "inside").iterdir())) == 2 and not (tmp_path / "toy" / "inside.part").exists()
    assert len(server.asked) == 1
