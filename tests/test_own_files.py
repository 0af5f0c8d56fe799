"""The user's own files: tables, arrays, pictures, and how `--data` names them."""

import sys

import numpy as np
import pytest
from PIL import Image

from scratchnn import data
from scratchnn.data.dataset import DataError
from scratchnn.data.folder import read_picture
from scratchnn.data.table import read_csv


def test_a_table_and_back(tmp_path):
    text = 'age,income,"city, or ""town""",class\n' + "".join(
        f'{20 + i},{"" if i == 3 else 1000.5 * i},{("Köln", "NA", "New York")[i % 3]},{"yes" if i % 2 else "no"}\n' for i in range(30))
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    table = data.load(f"csv:{tmp_path / 't.csv'}?target=class")
    assert table.train_x.shape == (24, 1 + 2 + 3) and table.test_x.shape == (6, 6) and table.train_x.dtype == np.float32
    assert table.classes == ("no", "yes") and sorted(np.bincount(table.test_y)) == [3, 3] and table.shape == (6,)
    assert abs(table.train_x[:, 0].mean()) < 1e-6 and abs(table.train_x[:, 0].std() - 1) < 1e-6
    back = table.table.inverse(np.concatenate([table.train_x, table.test_x]))
    order = np.argsort(back["age"])
    assert list(back) == ["age", "income", 'city, or "town"'] and back["age"][order].tolist() == list(range(20, 50))
    income = np.where(np.arange(30) == 3, np.nan, 1000.5 * np.arange(30))
    assert np.allclose(back["income"][order], income, atol=0.01, equal_nan=True)
    assert back['city, or "town"'][order][:3].tolist() == ["Köln", "", "New York"]
    again = table.table.encode([back["age"], back["income"], back['city, or "town"'].tolist()])
    assert np.allclose(again, np.concatenate([table.train_x, table.test_x]), atol=1e-5)
    with pytest.raises(DataError, match=r"rows of shape \(2, 5\) are not of this table, which takes \(N, 6\)"):
        table.table.inverse(np.zeros((2, 5)))


@pytest.mark.parametrize(("content", "options", "names", "first"), [
    (b"a;b\n1;2,5\n3;4\n", {}, ["a", "b"], ["1", "2,5"]),
    (b"a\tb\n1\tx y\n3\t4\n", {}, ["a", "b"], ["1", "x y"]),
    (b"1|2\n3|4\n", {}, ["column1", "column2"], ["1", "2"]),
    (b"1,2\n3,4\n5,6\n", {"header": True}, ["1", "2"], ["3", "4"]),
    (b"x,y\nz,w\n", {"header": False}, ["column1", "column2"], ["x", "y"]),
    (b"a,,b\n1,2,3\n4,5,6\n", {"header": True}, ["a", "column2", "b"], ["1", "2", "3"]),
    (b"\n\na , b\n\n1 , 2\n\n3, 4\n", {}, ["a", "b"], ["1", "2"]),
    (b"a b\n1 2\n3 4\n", {"delimiter": "space"}, ["a", "b"], ["1", "2"]),
    (b'a,b\r\n"1\r\n2","say ""so"""\r\n3,4\r\n', {}, ["a", "b"], ["1\r\n2", 'say "so"']),
    (b"a;b\n" + b"1;2\n" * 18 + b'3;"4,\n5;"\n6;7\n', {}, ["a", "b"], ["1", "2"]),
    ("\ufeffä,b\n1,ü\n3,4\n".encode(), {}, ["ä", "b"], ["1", "ü"]),
    ("ä,b\n1,ü\n3,4\n".encode("utf-16"), {}, ["ä", "b"], ["1", "ü"]),
    ("ä,b\n1,€\n3,4\n".encode("cp1252"), {}, ["ä", "b"], ["1", "€"]),
])
def test_csv_dialects(tmp_path, content, options, names, first):
    (tmp_path / "t.csv").write_bytes(content)
    found, rows = read_csv(tmp_path / "t.csv", **options)
    assert found == names and rows[0] == first


def test_csv_options(tmp_path):
    rows = b"".join(f"{i};id{i};{i % 3}\n".encode() for i in range(600))
    (tmp_path / "t.csv").write_bytes("я;n;t\n".encode("koi8-r") + rows)
    spec = f"csv:{tmp_path}/t.csv?encoding=koi8-r&delimiter=semicolon&header=yes&skip=n&test=0.5&target=t"
    table = data.load(spec)
    assert [c.name for c in table.table.columns] == ["я"] and len(table.test_x) == 300 and table.classes == ("0", "1", "2")
    for change, fault in (("&skip=", "600 different texts.*leave it out with skip=n"), ("&skip=n,t,я", "no column is left"),
                          ("&target=x", "no column 'x'; its columns are я, n, t"), ("&target=n", "600 different values in 600 rows"),
                          ("&test=2", "above 0 and below 1, got 2.0"), ("&delimiter=ab", "delimiter 'ab' is neither"),
                          ("&encoding=utf-9", "unknown encoding: utf-9"), ("&encoding=ascii", "not a text in ascii"),
                          ("&header=maybe", "option 'header' cannot be 'maybe'"),
                          ("&colour=red", "option 'colour' is not known; csv: has target")):
        with pytest.raises(DataError, match=fault):
            data.load(spec + change)


def test_missing_targets_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "1,x\n" * 6 + "2,?\n")
    with pytest.raises(DataError, match=r"t\.csv: the target 'b' is missing in row 7 of the data"):
        data.csv_file(tmp_path / "t.csv", target="b")


def test_numbers_that_are_the_same_everywhere(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "5,x\n" * 6)
    table = data.csv_file(tmp_path / "t.csv")
    assert table.train_y is None and (table.train_x == [0, 1]).all() and table.table.inverse(table.train_x)["a"].tolist() == [5] * 5


@pytest.mark.parametrize(("x", "shape"), [
    (np.arange(60.0).reshape(20, 3), (3,)), (np.zeros((10, 5, 4), np.uint8), (1, 5, 4)), (np.zeros((10, 5, 4, 3), np.uint8), (3, 5, 4)),
    (np.zeros((10, 3, 5, 4), ">f4"), (3, 5, 4)), (np.asfortranarray(np.arange(60).reshape(20, 3)), (3,)), (np.ones((10, 2), bool), (2,))])
def test_arrays(tmp_path, x, shape):
    np.save(tmp_path / "a.npy", x)
    np.savez_compressed(tmp_path / "a.npz", x=x, y=np.array(["b", "a"] * (len(x) // 2)))
    alone, labelled = data.load(f"npy:{tmp_path / 'a.npy'}"), data.load(f"npy:{tmp_path / 'a.npz'}?test=0.5")
    assert alone.shape == labelled.shape == shape and alone.train_x.dtype == np.float32 and alone.train_y is None and alone.classes == ()
    assert labelled.classes == ("a", "b") and len(labelled.test_y) == len(x) // 2
    if x.ndim == 2:
        rows = np.concatenate([alone.train_x, alone.test_x])
        assert sorted(map(tuple, rows)) == sorted(map(tuple, x.astype(np.float32)))


@pytest.mark.parametrize("names", [("train_x", "train_y", "test_x", "test_y"), ("x_train", "y_train", "x_test", "y_test")])
def test_arrays_in_parts(tmp_path, names):
    parts = (np.full((6, 4, 4), 255, np.uint8), np.arange(6) % 2 + 7, np.zeros((3, 4, 4), np.uint8), np.array([8, 7, 8]))
    path = tmp_path / "a.npz"
    np.savez(path, **dict(zip(names, parts, strict=True)))
    found = data.array_file(path)
    assert (found.train_x == 1).all() and (found.test_x == 0).all() and found.train_x.shape == (6, 1, 4, 4)
    assert found.classes == ("7", "8") and found.test_y.tolist() == [1, 0, 1]
    np.savez(path, **dict(zip(names[:3], parts[:3], strict=True)))
    with pytest.raises(DataError, match=r"has one of train_y and test_y"):
        data.array_file(path)
    np.savez(path, pictures=parts[0])
    with pytest.raises(DataError, match=r"holds pictures; expected x \(and y\)"):
        data.array_file(path)
    np.savez(path, x=parts[0], y=parts[3])
    with pytest.raises(DataError, match=r"y has shape \(3,\) of int64, expected \(6,\)"):
        data.array_file(path)


def save_picture(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def test_folders_of_pictures(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(10):
        save_picture(tmp_path / "cats" / f"{i}.png", rng.integers(0, 256, (20 + i, 30), dtype=np.uint8))
        save_picture(tmp_path / "dogs" / f"{i}.jpg", rng.integers(0, 256, (40, 20 + i), dtype=np.uint8))
    (tmp_path / ".hidden").write_text("passed over")
    found = data.load(f"folder:{tmp_path}?size=16")
    assert found.classes == ("cats", "dogs") and found.shape == (1, 16, 16) and np.bincount(found.test_y).tolist() == [2, 2]
    assert found.train_x.min() >= 0 and 0.5 < found.train_x.max() <= 1
    save_picture(tmp_path / "dogs" / "red.png", np.full((9, 9, 3), (255, 0, 0), np.uint8))
    colour = data.load(f"folder:{tmp_path}?size=8")
    assert colour.shape == (3, 8, 8) and data.load(f"folder:{tmp_path}?size=8&channels=1").shape == (1, 8, 8)
    alone = data.load(f"folder:{tmp_path / 'cats'}?size=8")
    assert alone.classes == () and alone.train_y is None and len(alone.train_x) + len(alone.test_x) == 10
    (tmp_path / "dogs" / "broken.png").write_bytes((tmp_path / "cats" / "0.png").read_bytes()[:200])
    (tmp_path / "notes.txt").write_text("beside")
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match=r"21 pictures read, 3 files skipped:(.|\n)*notes.txt: lies beside(.|\n)*empty: no file"
                                         r"(.|\n)*broken.png: not a sound picture"):
        assert data.picture_folder(tmp_path, size=8).classes == ("cats", "dogs")


def test_pictures_as_they_are_meant(tmp_path):
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    save_picture(tmp_path / "deep.png", deep)
    assert np.array_equal(read_picture(tmp_path / "deep.png")[0], deep >> 8)                      # 16 bits are not cut off at 255
    save_picture(tmp_path / "glass.png", np.zeros((4, 4, 4), np.uint8))
    assert (read_picture(tmp_path / "glass.png") == 255).all()                                    # transparent: white paper
    lying = np.zeros((4, 6, 3), np.uint8)
    lying[0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6                                                                              # the camera was turned
    save_picture(tmp_path / "photo.png", lying, exif=exif)
    assert read_picture(tmp_path / "photo.png").shape == (3, 6, 4) and (read_picture(tmp_path / "photo.png")[:, :, -1] == 200).all()
    stripes = np.zeros((10, 30), np.uint8)
    stripes[:, 10:20] = 255
    save_picture(tmp_path / "wide.png", stripes)
    assert (read_picture(tmp_path / "wide.png", 10)[:, :, 1:-1] == 255).all()                     # the middle is kept


def test_specs():
    with pytest.raises(DataError, match=r"'nist' is not known; choose one of digits, glyphs, .*, or csv:PATH, npy:PATH, folder:PATH"):
        data.load("nist")
    with pytest.raises(DataError, match="'sound:x' is not known"):
        data.load("sound:x")
    with pytest.raises(FileNotFoundError, match=r"nothing here\.csv"):
        data.load("csv:nothing here.csv?target=x")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_names_of_files_with_question_marks(tmp_path):
    (tmp_path / "what?target=a.csv").write_text("a,b\n" + "1,2\n" * 9)
    assert data.load(f"csv:{tmp_path}/what?target=a.csv").shape == (2,)
