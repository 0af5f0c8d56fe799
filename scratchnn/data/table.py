"""Tables of the user's in CSV files: columns of numbers and of categories as rows of float32, and back."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scratchnn.data.dataset import LARGEST, DataError, DataSet, split
from scratchnn.data.files import read_bytes, writing

FILE_LIMIT = 1 << 27     # bytes; as text in Python, a table takes ten times the size of its file and more
CATEGORIES = 256         # in a column; one with more different texts is a name or a sentence
MISSING = frozenset(("", "?", "na", "n/a", "nan", "null", "none", "-"))   # in any case
DELIMITERS = ",;\t|"
WORDS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


# ---- columns ------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Numeric:
    """A column of numbers: (value - mean) / std. Where some are missing, they stand at the mean, and a second column is 1.

    whole   all its values are whole numbers, so that those that `inverse` gives are rounded
    """

    name: str
    mean: float
    std: float
    whole: bool
    missing: bool

    @property
    def width(self) -> int:
        return 1 + self.missing

    def encode(self, values: np.ndarray) -> np.ndarray:
        """(N,) float64, NaN where missing -> (N, width) float32."""
        absent = np.isnan(values)
        scaled = np.where(absent, 0, (values - self.mean) / self.std)
        return np.stack([scaled, absent][:self.width], 1).astype(np.float32)

    def decode(self, x: np.ndarray) -> np.ndarray:
        """The inverse of `encode`."""
        values = x[:, 0].astype(np.float64) * self.std + self.mean
        values = np.rint(values) if self.whole else values
        return np.where(x[:, 1] > 0.5, np.nan, values) if self.missing else values


@dataclass(frozen=True)
class Categorical:
    """A column of names: one column of 0 and 1 for each category. A missing value is the category ""."""

    name: str
    categories: tuple[str, ...]

    @property
    def width(self) -> int:
        return len(self.categories)

    def encode(self, values: Sequence[str]) -> np.ndarray:
        """(N,) texts -> (N, width) float32."""
        numbers = {category: i for i, category in enumerate(self.categories)}
        return np.eye(self.width, dtype=np.float32)[[numbers[value] for value in values]]

    def decode(self, x: np.ndarray) -> np.ndarray:
        """The most probable category of each row."""
        return np.array(self.categories)[x.argmax(1)]


@dataclass(frozen=True)
class Table:
    """The columns of a table, of which each takes one or more columns of the encoded rows, side by side."""

    columns: tuple[Numeric | Categorical, ...]

    @property
    def width(self) -> int:
        return sum(column.width for column in self.columns)

    @classmethod
    def from_options(cls, options: Sequence[dict[str, Any]]) -> Table:
        """The inverse of `options`."""
        return cls(tuple(_column_from(**column) for column in options))

    def options(self) -> list[dict[str, Any]]:
        """The columns as JSON can hold them."""
        return [{"kind": type(column).__name__, **vars(column)} for column in self.columns]

    def places(self) -> list[slice]:
        """Where in an encoded row each column lies."""
        ends = np.cumsum([column.width for column in self.columns]).tolist()
        return [slice(end - column.width, end) for column, end in zip(self.columns, ends, strict=True)]

    def encode(self, values: Sequence) -> np.ndarray:
        """Rows (N, width) float32 of what each column holds: (N,) numbers, NaN where missing, or texts, "" where missing."""
        return np.concatenate([column.encode(v) for column, v in zip(self.columns, values, strict=True)], 1)

    def inverse(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """What rows (N, width) mean: for each column by name its (N,) numbers in their units, or the names of its categories.

        Rows may come from a generator: of several categories the largest counts, whole numbers are rounded.
        """
        x = np.asarray(x)
        if x.ndim != 2 or x.shape[1] != self.width:
            raise DataError(f"rows of shape {x.shape} are not of this table, which takes (N, {self.width})")
        return {column.name: column.decode(x[:, place]) for column, place in zip(self.columns, self.places(), strict=True)}


def _column_from(kind, **fields):
    return Numeric(**fields) if kind == "Numeric" else Categorical(fields["name"], tuple(fields["categories"]))


# ---- the file -----------------------------------------------------------------------------------------------------------

def csv_file(path: str | Path, target: str | None = None, skip: str = "", header: bool | None = None, delimiter: str | None = None,
             encoding: str | None = None, test: float = 0.2) -> DataSet:
    """A table from a CSV file: numbers standardised with mean and deviation of the training part, categories one-hot.

    target     name of the column that holds the classes; without one, the examples have no labels
    skip       names of columns to leave out, separated by commas
    header     whether the first line has names of columns. None: it has if its fields are all there and no numbers. Columns
               without a name are called column1, column2, ...
    delimiter  a character or one of comma, semicolon, tab, pipe, space. None: the one that cuts the first lines into equally many
    encoding   as Python names it. None: what a byte order mark says, otherwise UTF-8, or Windows-1252 for what is not UTF-8
    test       share of the rows that is set apart for the test, of each class as much

    Raises DataError naming file, line and fault, OSError.
    """
    path = Path(path)
    names, rows = read_csv(path, header, delimiter, encoding)
    for name in [target] * (target is not None) + [name for name in skip.split(",") if name]:
        if name not in names:
            raise DataError(f"{path}: has no column {name!r}; its columns are {', '.join(names)}")
    labels, classes = None, ()
    if target is not None:
        classes, labels = _classes(path, target, [row[names.index(target)] for row in rows])
    train, held = split(str(path), len(rows), test, labels)
    kept = [i for i, name in enumerate(names) if name != target and name not in skip.split(",")]
    if not kept:
        raise DataError(f"{path}: no column is left besides {target or 'those to skip'}")
    columns, values = zip(*(_column(path, names[i], [row[i] for row in rows], train) for i in kept), strict=True)
    table = Table(columns)
    if 4 * len(rows) * table.width > LARGEST:
        raise DataError(f"{path}: {len(rows):,} rows of {table.width:,} float32 exceed the limit of {LARGEST:,} bytes")
    x, y = table.encode(values), (None, None) if labels is None else (labels[train], labels[held])
    return DataSet(path.stem, x[train], y[0], x[held], y[1], classes, x.shape[1:], table, target or "class")


def read_csv(path: str | Path, header: bool | None = None, delimiter: str | None = None,
             encoding: str | None = None) -> tuple[list[str], list[list[str]]]:
    """(names of the columns, rows of texts) of a CSV file; options as in `csv_file`. Fields lose the spaces around them."""
    text = _text(path, encoding)
    delimiter = _delimiter(text) if delimiter is None else WORDS.get(delimiter, delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise DataError(f"{path}: delimiter {delimiter!r} is neither one character nor one of {', '.join(WORDS)}")
    reader, rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True), []
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():             # not an empty line
                rows.append([field.strip() for field in row])
            if rows and len(rows[-1]) != len(rows[0]):
                raise DataError(f"{path}: line {reader.line_num}: {len(row)} fields where the first line has {len(rows[0])}, "
                                f"with {delimiter!r} as delimiter")
    except csv.Error as fault:
        raise DataError(f"{path}: line {reader.line_num}: {fault}") from None
    if header is None:
        header = bool(rows) and _is_header(rows[0])
    names = rows.pop(0) if header and rows else [""] * len(rows[0] if rows else [])
    names = [name or f"column{i}" for i, name in enumerate(names, 1)]
    if len(rows) < 2:
        raise DataError(f"{path}: {len(rows)} rows of data, at least 2 are needed")
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two columns are called {next(name for name in names if names.count(name) > 1)!r}; if the first "
                        "line has no names, say header=no")
    return names, rows


def write_csv(path: str | Path, columns: Mapping[str, Sequence]) -> None:
    """A CSV file, in UTF-8, of columns of one length by their names: as `Table.inverse` gives them; NaN, which is missing, as nothing."""
    values = [[_text_of(value) for value in np.asarray(column).tolist()] for column in columns.values()]
    with writing(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*values, strict=True)])


def _text_of(value):
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.0f}" if value.is_integer() else f"{value:.7g}"


def _text(path, encoding):
    content = read_bytes(path, FILE_LIMIT)
    encodings = [encoding] if encoding else [name for mark, name in MARKS.items() if content.startswith(mark)] or ["utf-8", "cp1252"]
    for name in encodings:
        try:
            text = content.decode(name)
        except (UnicodeError, LookupError) as error:
            fault = error
            continue
        if "\0" in text:
            raise DataError(f"{path}: not a text: character {text.index(chr(0)):,} is NUL")
        return text
    raise DataError(f"{path}: not a text in {' or '.join(encodings)}: {fault}")


def _delimiter(text):
    """The delimiter that cuts the first twenty lines into equally many fields, the most; a comma if there is none."""
    start = text[:1 << 16].splitlines()[:20]
    best = (1, ",")
    for candidate in DELIMITERS:
        try:
            rows = [row for row in csv.reader(start, delimiter=candidate) if row]
        except csv.Error:
            continue
        counts = {len(row) for row in rows[:-1] or rows}         # the last one may go on in line 21
        if len(counts) == 1:
            best = max(best, (counts.pop(), candidate), key=lambda pair: pair[0])
    return best[1]


def _is_header(fields):
    return all(not _is_missing(field) and _number(field) is None for field in fields)


def _is_missing(field):
    return field.lower() in MISSING


def _number(field):
    """The number that a field says, NaN where it is missing, None for anything else."""
    if _is_missing(field):
        return math.nan
    try:
        return None if "_" in field else float(field)            # Python takes 1_000 for a number, other programs don't
    except ValueError:
        return None


def _column(path, name, fields, train):
    """(the description of a column, its values), from its fields; mean and deviation are of the rows `train`."""
    numbers = [_number(field) for field in fields]
    if None in numbers:
        values = ["" if _is_missing(field) else field for field in fields]
        categories = tuple(sorted(set(values)))
        if len(categories) > CATEGORIES:
            raise DataError(f"{path}: column {name!r} has {len(categories):,} different texts, more than {CATEGORIES} categories; "
                            f"leave it out with skip={name}")
        return Categorical(name, categories), values
    values = np.array(numbers)
    known = values[~np.isnan(values)]
    if not np.isfinite(known).all() or np.abs(known).max(initial=0) > 1e100:
        raise DataError(f"{path}: column {name!r} holds a number that is not finite, or beyond 1e100")
    learned = values[train][~np.isnan(values[train])]
    if not len(learned):
        raise DataError(f"{path}: column {name!r} has no value in the training part; leave it out with skip={name}")
    std = float(learned.std())
    whole = bool((known == np.rint(known)).all())
    return Numeric(name, float(learned.mean()), std if std > 0 else 1.0, whole, len(known) < len(values)), values


def _classes(path, name, fields):
    """(names of the classes in order, labels (N,) int64) of the target column."""
    if any(_is_missing(field) for field in fields):
        raise DataError(f"{path}: the target {name!r} is missing in row {[_is_missing(f) for f in fields].index(True) + 1} of the data")
    numbers = {field: _number(field) for field in set(fields)}
    numeric = None not in numbers.values()
    classes = sorted(numbers, key=lambda field: (numbers[field] if numeric else 0, field))
    if len(classes) > max(2, len(fields) // 2):
        raise DataError(f"{path}: the target {name!r} has {len(classes):,} different values in {len(fields):,} rows, too many for classes")
    labels = {field: i for i, field in enumerate(classes)}
    return tuple(classes), np.array([labels[field] for field in fields])
