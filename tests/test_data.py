"""Data sets, the reader of IDX files, and the loader."""

import gzip
import json
import struct
import threading
import time
from importlib import resources

import numpy as np
import pytest

from kernels import config
from scratchnn import data
from scratchnn.data.dataset import DataError, DataSet, split
from scratchnn.data.idx import read_idx
from scratchnn.random import Generator

# ---- sets ---------------------------------------------------------------------------------------------------------------


def test_digits():
    digits = data.load("digits")
    assert digits.train_x.shape == (1438, 1, 8, 8) and digits.test_x.shape == (359, 1, 8, 8) and digits.shape == (1, 8, 8)
    assert digits.train_x.dtype == np.float32 and digits.train_y.dtype == np.int64
    assert digits.train_x.min() == 0 and digits.train_x.max() == 1 and digits.classes == tuple("0123456789")
    share = np.bincount(digits.test_y) / (np.bincount(digits.test_y) + np.bincount(digits.train_y))
    assert np.abs(share - 0.2).max() < 0.005                       # stratified
    assert len(resources.files("scratchnn.data").joinpath("digits.npz").read_bytes()) < 80_000


def test_hold_out():
    digits = data.digits()
    part = digits.hold_out(200)
    assert len(part.train_y) == 1238 and np.array_equal(part.test_x, digits.train_x[-200:])
    with pytest.raises(ValueError, match="cannot hold out 1438 of 1438"):
        digits.hold_out(1438)


def idx_bytes(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


OTHER = pytest.mark.filterwarnings("ignore:.*is not the published file")


@pytest.fixture(params=["mnist", "fashion-mnist"])
def idx_folder(request, tmp_path, monkeypatch):
    """A folder of four small files in MNIST's format."""
    monkeypatch.setattr(config, "DATA", tmp_path)
    folder = tmp_path / request.param
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 7)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(rng.integers(0, 10, count, dtype=np.uint8))))
    return folder


@OTHER
def test_idx_sets(idx_folder):
    pictures = data.load(idx_folder.name)
    assert pictures.train_x.shape == (30, 1, 28, 28) and pictures.test_x.shape == (7, 1, 28, 28) and 0.9 < pictures.train_x.max() <= 1
    assert pictures.train_x.dtype == np.float32 and pictures.train_y.dtype == np.int64 and len(pictures.classes) == 10


@OTHER
@pytest.mark.parametrize("idx_folder", ["mnist"], indirect=True)
def test_stacked_digits(idx_folder):
    digits, stacked = data.load("mnist"), data.load("stacked-mnist")
    assert stacked.train_x.shape == (26_000, 3, 28, 28) and stacked.test_x.shape == (10_000, 3, 28, 28) and stacked.classes[42] == "042"
    for x, y, single, labels in ((stacked.train_x, stacked.train_y, digits.train_x, digits.train_y),
                                 (stacked.test_x, stacked.test_y, digits.test_x, digits.test_y)):
        number = {picture.tobytes(): int(label) for picture, label in zip(single, labels, strict=True)}
        assert all(y[i] == int("".join(str(number[channel.tobytes()]) for channel in x[i])) for i in range(500))
    np.testing.assert_array_equal(stacked.test_x, data.load("stacked-mnist").test_x)


@OTHER
@pytest.mark.parametrize(("labels", "fault"), [(np.zeros(29, np.uint8), "29 labels for 30 images"),
                                               (np.full(30, 10, np.uint8), "label 10 found")])
def test_idx_labels_must_fit(idx_folder, labels, fault):
    (idx_folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    with pytest.raises(DataError, match=f"train-labels.*{fault}"):
        data.load(idx_folder.name)


def cifar_bytes(count, seed=0):
    records = np.random.default_rng(seed).integers(0, 256, (count, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    return records.tobytes()


def test_cifar10(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "DATA", tmp_path)
    folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for i in range(1, 6):
        (folder / f"data_batch_{i}.bin").write_bytes(cifar_bytes(2600 if i == 1 else 3, seed=i))
    (folder / "test_batch.bin").write_bytes(cifar_bytes(510))
    full, subset = data.load("cifar10"), data.load("cifar10-subset")
    assert full.train_x.shape == (2612, 3, 32, 32) and full.test_x.shape == (510, 3, 32, 32) and full.classes[3] == "cat"
    assert np.array_equal(subset.train_x, full.train_x[:2500]) and np.array_equal(subset.test_y, full.test_y[:500])
    record = np.frombuffer(cifar_bytes(3, seed=5)[-3073:], np.uint8)
    assert full.train_y[-1] == record[0] and np.allclose(full.train_x[-1, 2, 31, 31], record[-1] / 255)
    (tmp_path / "cifar10" / "data_batch_1_first2500.bin").write_bytes(cifar_bytes(20))
    (tmp_path / "cifar10" / "test_batch_first500.bin").write_bytes(cifar_bytes(5))
    assert data.load("cifar10-subset").train_x.shape == (20, 3, 32, 32)
    (folder / "data_batch_2.bin").write_bytes(cifar_bytes(3)[:-1])
    with pytest.raises(DataError, match=r"data_batch_2\.bin: 9,218 bytes are not"):
        data.cifar10()
    (folder / "data_batch_2.bin").write_bytes(b"\x0a" + cifar_bytes(3)[1:])
    with pytest.raises(DataError, match=r"data_batch_2\.bin: record 0 has label 10"):
        data.cifar10()


@OTHER
def test_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "DATA", tmp_path)
    for name, text in (("tinyshakespeare/input.txt", "To be, or not to be" * 10), ("ptb/ptb.train.txt", " a b \n"),
                       ("ptb/ptb.valid.txt", " v \n"), ("ptb/ptb.test.txt", " t \n")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    play = data.load("tinyshakespeare")
    assert (len(play.train), play.valid, len(play.test)) == (171, "", 19) and (play.train + play.test).startswith("To be, or not")
    assert data.load("ptb") == data.Text("ptb", " a b \n", " v \n", " t \n", spaced=True)
    docs = data.load("python-docs")
    assert len(docs.train) > 300_000 and "for_stmt" in docs.train and docs.name.startswith("python-docs 3.")
    (tmp_path / "mine.txt").write_bytes("\ufeffGrüße\r\n!!!!".encode())
    mine = data.load(f"text:{tmp_path / 'mine.txt'}")
    assert (mine.name, mine.train, mine.test) == ("mine", "Grüße\n!!!", "!")
    for content, fault in ((b"abc\xff", "byte 3 is 0xff"), (b"", "too short"), (b"abc\0", "NUL")):
        (tmp_path / "mine.txt").write_bytes(content)
        with pytest.raises(DataError, match=fault):
            data.text_file(tmp_path / "mine.txt")


def test_classifiers_need_labels():
    digits = data.digits()
    assert digits.labelled() is digits
    with pytest.raises(DataError, match="at least two classes, and this has 0"):
        DataSet("x", np.zeros((2, 3), np.float32), None, np.zeros((1, 3), np.float32), None, (), (3,)).labelled()
    with pytest.raises(DataError, match="train_y is missing, but there are 2 classes"):
        DataSet("x", np.zeros((2, 3), np.float32), None, np.zeros((1, 3), np.float32), None, ("a", "b"), (3,))
    with pytest.raises(DataError, match=r"train_x has shape \(2, 3\), expected \(2, 4\)"):
        DataSet("x", np.zeros((2, 3), np.float32), None, np.zeros((1, 3), np.float32), None, (), (4,))


def test_splits():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    train, test = split("x", 100, 0.2, labels)
    assert sorted([*train, *test]) == list(range(100)) and np.bincount(labels[test]).tolist() == [10, 6, 4]
    assert np.array_equal(split("x", 100, 0.2, labels)[1], test) and not np.array_equal(np.diff(test), np.full(19, 5))
    assert len(split("x", 7, 0.3)[1]) == 2
    with pytest.raises(DataError, match=r"3 examples are too few to set a share of 0\.2 apart"):
        split("x", 3, 0.2)


# ---- IDX ----------------------------------------------------------------------------------------------------------------

SOUND = idx_bytes(np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28))


@pytest.mark.parametrize(("content", "fault"), [
    (b"", "truncated"),
    (b"plain text", "not a sound gzip file"),
    (gzip.compress(b"", mtime=0), "no header"),
    (gzip.compress(SOUND[:2], mtime=0), "no header"),
    (gzip.compress(SOUND[:9], mtime=0), "header is not complete"),
    (gzip.compress(SOUND[:-1], mtime=0), "truncated: 1,567 bytes"),
    (gzip.compress(SOUND + b"x", mtime=0), "too long"),
    (gzip.compress(SOUND, mtime=0)[:-20], "truncated"),
    (gzip.compress(b"\0\0\x0d" + SOUND[3:], mtime=0), "not an IDX file"),
    (gzip.compress(idx_bytes(np.zeros(5, np.uint8)), mtime=0), "not an IDX file of 3-dimensional"),
    (gzip.compress(idx_bytes(np.zeros((2, 28, 27), np.uint8)), mtime=0), "2 x 28 x 27 where any x 28 x 28"),
    (gzip.compress(idx_bytes(np.zeros((0, 28, 28), np.uint8)), mtime=0), "0 x 28 x 28"),
    (gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 0xFFFFFFFF, 28, 28), mtime=0), "more than the limit"),
])
def test_bad_idx_files(tmp_path, content, fault):
    path = tmp_path / "bad.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.gz: .*{fault}"):
        read_idx(path, (None, 28, 28))


# ---- loader -------------------------------------------------------------------------------------------------------------

ROWS = np.arange(23)


def loader(seed=5, **options):
    options = {"batch_size": 4, "shuffle": True, **options}
    return data.DataLoader((ROWS, (ROWS[:, None] * np.ones(3)).astype(np.float32)), generator=Generator(seed), **options)


def epoch_of(batches):
    return [tuple(part.tolist() for part in batch) for batch in batches]


def test_an_epoch_has_every_row_once_in_an_order_of_its_own():
    batches = loader()
    first, second = ([row for x, _ in epoch_of(batches) for row in x] for _ in range(2))
    assert sorted(first) == sorted(second) == list(ROWS) and first != second and len(batches) == 6
    assert first == [row for x, _ in epoch_of(loader()) for row in x] != [row for x, _ in epoch_of(loader(seed=6)) for row in x]


def test_rows_of_all_arrays_stay_together():
    for x, y in loader():
        assert y.dtype == np.float32 and np.array_equal(y.numpy(), x.numpy()[:, None] * np.ones(3))


def test_without_shuffling():
    assert [row for x, _ in loader(shuffle=False) for row in x.tolist()] == list(ROWS)


def test_drop_last_and_single_arrays():
    assert len(loader(drop_last=True)) == 5 == len(epoch_of(loader(drop_last=True)))
    assert [x.tolist() for x in data.DataLoader(ROWS[:5], 2)] == [[0, 1], [2, 3], [4]]


def noisy(x, y, generator):
    """A transform that draws random numbers, and takes longer for some batches than for others."""
    time.sleep(0.002 * (x[0] % 3))
    return x, y + np.float32(generator.take(1)[0] % 1000)


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_workers_change_nothing(num_workers):
    alone, helped = loader(transform=noisy), loader(transform=noisy, num_workers=num_workers)
    for _ in range(2):
        expected = epoch_of(alone)
        assert epoch_of(helped) == expected and len({y[0][0] for _, y in expected}) == 6


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("position", range(7))
def test_a_restored_loader_goes_on_in_the_middle_of_an_epoch(position, num_workers):
    whole = loader(transform=noisy, num_workers=num_workers)
    expected = [epoch_of(whole) for _ in range(3)]
    stopped = loader(transform=noisy, num_workers=num_workers)
    epoch_of(stopped)
    batches = iter(stopped)
    seen = epoch_of(next(batches) for _ in range(position))
    state = json.loads(json.dumps(stopped.state_dict()))
    other = loader(seed=9, transform=noisy, num_workers=num_workers)
    other.load_state_dict(state)
    assert state["position"] == position and seen + epoch_of(other) == expected[1] and epoch_of(other) == expected[2]


def test_a_state_of_other_data_is_refused():
    with pytest.raises(ValueError, match="rows=23, this one has 22"):
        data.DataLoader(ROWS[:22], 4).load_state_dict(loader().state_dict())
    with pytest.raises(ValueError, match="batch_size=4, this one has 3"):
        loader(batch_size=3).load_state_dict(loader().state_dict())
    for other in (ROWS[::-1], ROWS.astype(np.int32), np.where(ROWS == 7, 8, ROWS)):
        with pytest.raises(ValueError, match="of other data: the same rows=23, batch_size=4, but other numbers"):
            data.DataLoader(other, 4).load_state_dict(data.DataLoader(ROWS, 4).state_dict())
    data.DataLoader(ROWS[::-1][::-1], 4).load_state_dict(data.DataLoader(ROWS, 4).state_dict())


def test_a_pass_that_is_left_is_over():
    batches, expected = loader(), loader()
    next(iter(batches))
    epoch_of(expected)
    assert epoch_of(batches) == epoch_of(expected)


def failing(x, y, generator):
    raise OSError("no such picture")


def test_errors_of_workers_reach_the_consumer_and_no_thread_stays():
    before = threading.active_count()
    with pytest.raises(OSError, match="no such picture"):
        epoch_of(loader(transform=failing, num_workers=3))
    for _ in loader(transform=noisy, num_workers=3):
        assert threading.active_count() > before
        break
    assert threading.active_count() == before
    with pytest.raises(KeyError):
        for _ in loader(num_workers=3):
            raise KeyError
    assert threading.active_count() == before


@pytest.mark.parametrize(("arrays", "options", "fault"), [
    ((), {}, "one length above 0"), ((ROWS, ROWS[:3]), {}, r"lengths \[23, 3\]"), (ROWS[:0], {}, "one length above 0"),
    (ROWS, {"batch_size": 0}, "batch_size >= 1"), (ROWS, {"num_workers": -1}, "num_workers >= 0"),
    (ROWS, {"batch_size": 24, "drop_last": True}, "exceeds the 23 rows")])
def test_what_the_loader_refuses(arrays, options, fault):
    with pytest.raises(ValueError, match=fault):
        data.DataLoader(arrays, **options)
