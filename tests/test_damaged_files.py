"""Thousands of damaged and hostile files, each of which may end in one way only: an error that names the file and its fault.

Every format has sound files, of which seeded mutations are made: cut, flipped bits, overwritten, doubled and deleted stretches,
numbers of a header made huge. A reader may also accept a mutation that does no harm; what it returns must then make sense.
"""

import gzip
import io
import json
import os
import pickle
import struct
import sys
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.signal import chirp

import kernels
from scratchnn import checkpoint, data
from scratchnn.data import download
from scratchnn.data.cifar import RECORD, read_cifar
from scratchnn.data.dataset import DataError
from scratchnn.data.folder import read_picture
from scratchnn.data.idx import read_idx
from scratchnn.data.midi import read_midi
from scratchnn.data.music import read_json, read_mat
from scratchnn.data.score import LONGEST
from scratchnn.data.sources import Archive
from scratchnn.data.text import read_text
from scratchnn.data.wav import read_wav

MEMORY = 64 << 20      # bytes that a reader may take for any of these small files
SECONDS = 2.0
FORBIDDEN = {"pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect"}
watched = {"on": False}


def _audit(event, args):
    if watched["on"] and event in FORBIDDEN:
        raise AssertionError(f"a reader called {event} {args}")


sys.addaudithook(_audit)


# ---- mutations ----------------------------------------------------------------------------------------------------------

def mutated(content, rng):
    """`content` with one to three faults."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        size = max(len(content), 1)
        at, length = int(rng.integers(size)) if rng.random() < 0.7 else int(rng.integers(min(size, 80))), int(rng.integers(1, 40))
        kind = rng.integers(8)
        if kind == 0:
            del content[at:]
        elif kind in (1, 2) and content:
            content[at % len(content)] ^= 1 << int(rng.integers(8))
        elif kind == 3:
            content[at:at + length] = rng.bytes(length)
        elif kind == 4:
            content[at:at] = content[at:at + length] * int(rng.integers(1, 5))
        elif kind == 5:
            del content[at:at + length]
        elif kind == 6:
            content[at:at + 4] = struct.pack(rng.choice(["<I", ">I"]), int(rng.choice([0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])))
        else:
            content[at:at] = rng.choice([b"9" * 30, b"\0" * 8, b"((((" * 50, b'"', b"\xff\xfe", b"\r\n", b"\xc3"])
    return bytes(content)


def outcome(read, path):
    """What `read(path)` returns, or its error, after a look at the error, the memory and the time."""
    tracemalloc.reset_peak()
    before, start = tracemalloc.get_traced_memory()[0], time.perf_counter()
    watched["on"] = True
    try:
        result = read(path)
    except (DataError, checkpoint.CheckpointError, OSError) as error:
        assert path.name in str(error), f"{error!r} does not name the file"
        result = error
    finally:
        watched["on"] = False
    assert tracemalloc.get_traced_memory()[1] - before < MEMORY
    assert time.perf_counter() - start < SECONDS
    return result


@pytest.fixture(autouse=True)
def traced():
    kernels.permutation(0, 0, 3)               # loaded from Numba's cache, which is pickle, before that is watched for
    tracemalloc.start()
    yield
    tracemalloc.stop()


# ---- sound files --------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(7)
PIXELS = RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8)
TABLE = "age,income,city,class\n" + "".join(f'{20 + i % 50},{i * 9.5},"{("Rome", "New York, NY", "Köln")[i % 3]}",{i % 2}\n'
                                            for i in range(40))


def idx():
    return struct.pack(">4B3I", 0, 0, 8, 3, *PIXELS.shape) + PIXELS.tobytes()


def cifar():
    records = RNG.integers(0, 256, (4, RECORD), dtype=np.uint8)
    records[:, 0] %= 10
    return records.tobytes()


def npy(array=PIXELS):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(x=None, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("x.npy", npy() if x is None else x)
        archive.writestr("y.npy", npy(np.arange(12) % 3))
    return file.getvalue()


def picture(kind, **options):
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (24, 20, 3), dtype=np.uint8)).save(file, kind, **options)
    return file.getvalue()


def tensors():
    return checkpoint.to_bytes({"a": np.arange(12, dtype=np.float32), "b": np.zeros((2, 3), np.int64)}, {"format": "x"})


def saved(tmp_path):
    checkpoint.save(tmp_path / "sound", {"model": {"w": np.arange(6.0)}, "step": 3})
    return (tmp_path / "sound").read_bytes()


PARTS = ("train", "valid", "test")


def song(kind):
    """Two tracks, or one, with running status."""
    voice = bytes.fromhex("00 c0 05 00 90 3c 50 83 60 3c 00 00 40 48 81 70 80 40 00 00 90 37 30 60 43 31 60 80 37 00 00 43 00 00 ff 2f 00")
    tempo = bytes.fromhex("00 ff 51 03 07 a1 20 00 ff 58 04 04 02 18 08 00 ff 03 04 54 75 6e 65 00 ff 2f 00")
    tracks = [tempo, voice] if kind else [voice]
    return struct.pack(">4sIHHH", b"MThd", 6, kind, len(tracks), 480) + b"".join(struct.pack(">4sI", b"MTrk", len(t)) + t for t in tracks)


def playable(score):
    assert score.notes.dtype == np.int64 and (score.notes[:, 1] >= 1).all() and (score.notes[:, [0, 1]].sum(1) <= score.steps).all()
    assert len(score.notes) and score.steps <= LONGEST + 1 and 3 < score.tempo <= 6e7 and score.roll().shape == (score.steps, 88)


def mat(compressed):
    cells = np.empty((1, 3), object)
    cells[0] = [RNG.integers(0, 2, (T, 88)).astype(kind) for T, kind in ((6, np.uint8), (3, np.float64), (5, np.uint8))]
    file = io.BytesIO()
    savemat(file, {f"{part}data": cells for part in PARTS}, do_compression=compressed)
    return file.getvalue()


def music(found):
    assert all(roll.dtype == np.uint8 and roll.max() <= 1 and len(roll) >= 2 for part in PARTS for roll in getattr(found, part))


def wav(bits, channels=1, tag=1):
    """A sixteenth of a second that rises, with a chunk of text behind its header."""
    width = bits // 8
    levels = 0.5 * chirp(np.arange(500) / 8000, 200, 0.06, 3000)[:, None].repeat(channels, 1)
    if tag == 3:
        samples = levels.astype("<f4").tobytes()
    else:
        whole = np.rint(levels * (2 ** (bits - 1) - 1)).astype("<i4") + (128 if bits == 8 else 0)
        samples = whole.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    chunks = [(b"fmt ", struct.pack("<HHIIHH", tag, channels, 8000, 8000 * channels * width, channels * width, bits)),
              (b"LIST", b"INFOINAM\x06\0\0\0noise\0"), (b"data", samples)]
    body = b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def heard(found):
    sound, rate = found
    assert sound.dtype == np.float32 and sound.ndim == 1 and len(sound) and abs(sound).max() <= 1 and rate == 4000


ARCHIVE = Archive("inside", inside="top", pattern=r"[a-z]\.bin", count=2, largest=1000)


def tar_gz(*extra):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, kind, link in [("top/a.bin", tarfile.REGTYPE, ""), ("top/b.bin", tarfile.REGTYPE, ""), *extra]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, 500 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(bytes(500)))
    return file.getvalue()


def unpack(path):
    download._unpack(path, ARCHIVE, path.parent)
    names = {file.name for file in (path.parent / "inside").iterdir()}
    for name in names:
        (path.parent / "inside" / name).unlink()
    (path.parent / "inside").rmdir()
    assert names == {"a.bin", "b.bin"}


def sensible(examples):
    assert examples.train_x.dtype == np.float32 and np.isfinite(examples.train_x).all() and np.isfinite(examples.test_x).all()
    assert len(examples.train_x) and len(examples.test_x)


CASES = {   # name of the file: (how many, sound contents, reader)
    "idx.gz": (350, lambda _: [gzip.compress(idx(), mtime=0)], lambda path: read_idx(path, (None, 28, 28))),
    "cifar.bin": (400, lambda _: [cifar()], read_cifar),
    "table.csv": (900, lambda _: [TABLE.encode(), TABLE.replace(",", ";").encode("cp1252"), TABLE.encode("utf-16")],
                  lambda path: sensible(data.csv_file(path))),
    "target.csv": (400, lambda _: [TABLE.encode()], lambda path: sensible(data.csv_file(path, target="class"))),
    "array.npy": (700, lambda _: [npy(), npy(np.linspace(0, 1, 60).reshape(20, 3)), npy(np.asfortranarray(PIXELS))],
                  lambda path: sensible(data.array_file(path))),
    "arrays.npz": (600, lambda _: [npz(), npz(compression=zipfile.ZIP_STORED)], lambda path: sensible(data.array_file(path))),
    "picture.png": (500, lambda _: [picture("PNG")], lambda path: read_picture(path, 16)),
    "picture.jpg": (500, lambda _: [picture("JPEG"), picture("JPEG", progressive=True)], lambda path: read_picture(path, 16)),
    "weights.safetensors": (400, lambda _: [tensors()], checkpoint.load_weights),
    "checkpoint.safetensors": (400, lambda tmp_path: [saved(tmp_path)], checkpoint.load),
    "text.txt": (250, lambda _: [("Grüße, world.\r\n" * 20).encode()], read_text),
    "song.mid": (1000, lambda _: [song(0), song(1)], lambda path: playable(read_midi(path))),
    "rolls.json": (1000, lambda _: [json.dumps({part: [[[60, 64], [62], []]] * 3 for part in PARTS}).encode()],
                   lambda path: music(read_json(path, "rolls", 1, 100))),
    "rolls.mat": (1000, lambda _: [mat(False), mat(True)], lambda path: music(read_mat(path, "rolls", 4, 100))),
    "take.wav": (1000, lambda _: [wav(8), wav(16), wav(24, 2), wav(32), wav(32, 2, tag=3)], lambda path: heard(read_wav(path, 4000))),
    "archive.tar.gz": (200, lambda _: [tar_gz()], unpack)}


def test_there_are_enough_cases():
    assert sum(count for count, _, _ in CASES.values()) + 2 * 300 >= 5000


@pytest.mark.parametrize("name", CASES)
def test_mutations(name, tmp_path):
    count, sounds, read = CASES[name]
    sounds, rng, path, errors = sounds(tmp_path), np.random.default_rng(len(name)), tmp_path / name, 0
    for content in sounds:
        path.write_bytes(content)
        assert not isinstance(outcome(read, path), Exception)
    for i in range(count):
        path.write_bytes(mutated(sounds[i % len(sounds)], rng))
        errors += isinstance(outcome(read, path), Exception)
    assert errors > 0.2 * count                                       # the mutations do damage


@pytest.mark.parametrize(("name", "wrap", "inner", "read"), [
    ("idx.gz", gzip.compress, idx, CASES["idx.gz"][2]), ("arrays.npz", npz, npy, CASES["arrays.npz"][2])])
def test_mutations_inside_a_sound_wrapping(name, wrap, inner, read, tmp_path):
    rng, path, errors = np.random.default_rng(3), tmp_path / name, 0
    for _ in range(300):
        path.write_bytes(wrap(mutated(inner(), rng)))
        errors += isinstance(outcome(read, path), Exception)
    assert errors > 100


# ---- made with bad intent -----------------------------------------------------------------------------------------------

class Touch:
    """What pickle would turn into a call that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def header(text, version=1):
    text = text.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text


HOSTILE_NPY = {
    "huge": header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3)}\n"),
    "overflow": header("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}\n"),
    "many digits": header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'9' * 5000}, 3)}}\n"),
    "negative": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -6)}\n") + bytes(48),
    "nested": header("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 4000 + ")" * 4000 + "}\n"),
    "long": header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)" + " " * 60000 + "}\n"),
    "code": header("{'descr': __import__('os').system('touch hacked'), 'fortran_order': False, 'shape': (2, 3)}\n"),
    "object": header("{'descr': '|O', 'fortran_order': False, 'shape': (2, 3)}\n") + bytes(48),
    "record": header("{'descr': [('a', '<f4'), ('b', '|O')], 'fortran_order': False, 'shape': (2, 3)}\n") + bytes(96),
    "text": npy(np.array([["a", "b"], ["c", "d"]])),
    "complex": npy(np.zeros((4, 3), complex)),
    "not finite": npy(np.array([[1, np.nan], [2, 3]])),
    "beyond float32": npy(np.array([[1, 1e300], [2, 3]])),
    "one row": npy(np.zeros((1, 3))),
    "one dimension": npy(np.zeros(5)),
    "version 9": b"\x93NUMPY\x09\0" + bytes(100),
    "empty": b""}


@pytest.mark.parametrize("case", HOSTILE_NPY)
def test_hostile_arrays(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in (("array.npy", HOSTILE_NPY[case]), ("arrays.npz", npz(HOSTILE_NPY[case] or b"x"))):
        (tmp_path / name).write_bytes(content)
        assert isinstance(outcome(data.array_file, tmp_path / name), DataError)
    assert not (tmp_path / "hacked").exists()


def test_pickles_in_arrays_are_not_run(tmp_path):
    marker = tmp_path / "made by a pickle"
    for name, save in (("a.npy", np.save), ("b.npz", lambda path, x: np.savez(path, x=x))):
        save(tmp_path / name, np.array([[Touch(marker), 1], [2, 3]], dtype=object))
        error = outcome(data.array_file, tmp_path / name)
        assert isinstance(error, DataError) and "never objects" in str(error) and not marker.exists()
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Touch(marker)))
    assert isinstance(outcome(data.array_file, tmp_path / "c.npy"), DataError) and not marker.exists()


def test_bombs(tmp_path):
    """Small files that would unpack to far more than they may."""
    zeros = struct.pack(">4B3I", 0, 0, 8, 3, 2, 28, 28) + bytes(200 << 20)
    (tmp_path / "idx.gz").write_bytes(gzip.compress(zeros, 1))
    assert "too long" in str(outcome(lambda path: read_idx(path, (None, 28, 28)), tmp_path / "idx.gz"))
    shape = header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 100000000000)}\n")
    (tmp_path / "x.npz").write_bytes(npz(shape + bytes(100 << 20)))
    assert "header announces" in str(outcome(data.array_file, tmp_path / "x.npz"))
    ihdr = b"IHDR" + struct.pack(">2I5B", 10000, 10000, 8, 2, 0, 0, 0)   # beyond where Pillow only warns
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + picture("PNG")[33:]
    (tmp_path / "bomb.png").write_bytes(png)
    assert "decompression bomb" in str(outcome(read_picture, tmp_path / "bomb.png"))


def test_programs_are_no_pictures(tmp_path):
    """Pillow would hand an EPS file to Ghostscript, which runs it."""
    (tmp_path / "program.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(%pipe%touch hacked) (w) file\n")
    assert "not a picture" in str(outcome(read_picture, tmp_path / "program.eps"))


@pytest.mark.parametrize(("text", "fault"), [
    ("", "0 rows"), ("a,b\n", "0 rows"), ("a,b\n1,2\n", "1 rows"), ("a,b\n1,2\n3\n", "line 3: 1 fields where the first line has 2"),
    ("a,a\n" + "1,2\n" * 9, "two columns are called 'a'"), ('a,b\n1,"2\n3,4\n', "line 3: unexpected end"),
    ("a,b\n" + "1,inf\n" * 9, "not finite"),
    ("a,b\n1,1e999\n2,3\n3,4\n4,5\n5,6\n", "not finite"), ("a,b\n1,\n2,\n3,\n4,\n5,\n", "'b' has no value"), ("a,b\n\0,1\n2,3\n", "is NUL"),
    ("a,b\n" + "".join(f"name{i},{i}\n" for i in range(300)), "300 different texts.*skip=a"),
    ("a,b\n1," + "x" * 200_000 + "\n2,3\n", "field larger than field limit")])
def test_tables_that_make_no_sense(text, fault, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=rf"t\.csv: .*{fault}"):
        data.csv_file(tmp_path / "t.csv")


def test_huge_text_files_are_not_read(tmp_path):
    for name, read in (("t.csv", data.csv_file), ("t.txt", data.text_file), ("t.bin", read_cifar)):
        with open(tmp_path / name, "wb") as file:
            file.truncate(1 << 40)                                    # a hole, which takes no room on the disk
        if name == "t.bin":
            assert isinstance(outcome(read, tmp_path / name), DataError)
        else:
            with pytest.raises(DataError, match="more than the limit of"):
                read(tmp_path / name)


def test_hostile_safetensors(tmp_path):
    path = tmp_path / "x.safetensors"
    for entry in ({"shape": [1 << 40], "data_offsets": [0, 1 << 42]}, {"shape": [1 << 40], "data_offsets": [0, 4]},
                  {"shape": [-1], "data_offsets": [0, 4]}, {"shape": [1], "data_offsets": [4, 0]}, {"shape": 1, "data_offsets": 4}):
        text = json.dumps({"a": {"dtype": "F32", **entry}}).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))
        assert isinstance(outcome(checkpoint.load_weights, path), checkpoint.CheckpointError)
    for length in (1 << 63, (1 << 64) - 1, 1 << 31, 0):
        path.write_bytes(struct.pack("<Q", length) + b"{}" + bytes(50))
        assert isinstance(outcome(checkpoint.load_weights, path), checkpoint.CheckpointError)
    nested = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    path.write_bytes(struct.pack("<Q", len(nested)) + nested)
    assert isinstance(outcome(checkpoint.load_weights, path), checkpoint.CheckpointError)


def test_archives_write_nothing_elsewhere(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (tmp_path / "victim").write_text("untouched")
    extra = [(name, tarfile.REGTYPE, "") for name in ("../../victim", str(tmp_path / "victim"), "top/../../victim")]
    extra += [("top/c.bin", kind, "../../victim") for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)]
    (folder / "archive.tar.gz").write_bytes(tar_gz(*extra))
    assert outcome(unpack, folder / "archive.tar.gz") is None
    assert (tmp_path / "victim").read_text() == "untouched" and sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "victim"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith((".safetensors", ".tar.gz"))])
def test_what_is_no_file(name, tmp_path):
    """A pipe that nobody writes to, a device without an end, a folder, a link to itself."""
    path, read = tmp_path / name, CASES[name][2]
    os.mkfifo(path)
    assert "not a regular file" in str(outcome(read, path))
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "not a regular file" in str(outcome(read, path))
    path.unlink()
    path.symlink_to(name)
    assert isinstance(outcome(read, path), OSError)
    path.unlink()
    path.mkdir()
    assert isinstance(outcome(read, path), OSError)


# ---- folders ------------------------------------------------------------------------------------------------------------

def pictures_in(folder, count=5):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i}.png").write_bytes(picture("PNG"))
    return folder


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
def test_folders_with_loops_pipes_and_depth(tmp_path):
    root = tmp_path / "root"
    pictures_in(root / "cats")
    pictures_in(root / "dogs")
    (root / "cats" / "loop").symlink_to(root)
    (root / "dogs" / "itself.png").symlink_to("itself.png")
    (root / "dogs" / "gone.png").symlink_to("/nowhere")
    (root / "dogs" / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(root / "cats" / "pipe.png")
    deep = root / "cats"
    for _ in range(300):
        deep = deep / "deeper"
    deep.mkdir(parents=True)
    with pytest.warns(UserWarning, match="10 pictures read, 6 files skipped") as report:
        found = data.picture_folder(root, size=8)
    assert found.classes == ("cats", "dogs") and len(found.train_x) + len(found.test_x) == 10
    for name in ("loop", "deeper", "itself.png", "gone.png", "zero.png", "pipe.png"):
        assert name in str(report[0].message)


def test_folders_without_pictures(tmp_path):
    with pytest.raises(DataError, match="0 pictures found"):
        data.picture_folder(tmp_path)
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"0 pictures found.*\n.*a\.png: not a picture"):
        data.picture_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data.picture_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="exceed the limit"):
        data.picture_folder(pictures_in(tmp_path / "many", 30), size=4096)
