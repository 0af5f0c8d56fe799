"""DataSet: examples with or without labels, divided into those to learn from and those to be judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import kernels

if TYPE_CHECKING:
    from scratchnn.data.table import Table

LARGEST = 1 << 32   # bytes of one array; more than any set here, and a bound on what a hostile header can make us allocate


class DataError(ValueError):
    """Data that cannot be used. The message names the file or the set and what is wrong with it."""


@dataclass(frozen=True)
class DataSet:
    """Examples in two parts.

    name      what `data.load` knows it by
    train_x   (N, *shape) float32: pixels in 0..1; columns of a table standardised; points as they lie
    train_y   (N,) int64 in 0..len(classes)-1
    test_x    (M, *shape), test_y (M,)  the same
    classes   the name of each class. Examples without labels have none, and their train_y and test_y are None
    shape     of one example: (C, H, W) for pictures, (D,) for rows of numbers
    table     of a CSV file: its columns; table.inverse(x) turns rows back into their units and categories
    target    what labels are called: of a CSV file, the column that they stand in
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray | None
    test_x: np.ndarray
    test_y: np.ndarray | None
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    table: Table | None = None
    target: str = "class"

    def __post_init__(self):
        for part, x, y in (("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            count = len(x if y is None else y)
            if x.shape != (count, *self.shape):
                raise DataError(f"{self.name}: {part}_x has shape {x.shape}, expected {(count, *self.shape)} for {count} examples")
            if (y is None) != (not self.classes):
                raise DataError(f"{self.name}: {part}_y is {'missing' if y is None else 'there'}, but there are "
                                f"{len(self.classes)} classes")

    def hold_out(self, count: int) -> DataSet:
        """The same set with the last `count` training examples in place of the test part.

        Settings are chosen on such a part; the test part is for the one final number.
        """
        x, y = self.train_x, self.train_y
        if not 0 < count < len(x):
            raise DataError(f"{self.name}: cannot hold out {count} of {len(x)} training examples; choose 1 to {len(x) - 1}")
        first, last = (None, None) if y is None else (y[:-count], y[-count:])
        return replace(self, train_x=x[:-count], train_y=first, test_x=x[-count:], test_y=last)

    def set_apart(self, share: float) -> DataSet:
        """The same set with a random share of the training examples, of each class as much, in place of the test part; always the same."""
        train, held = split(self.name, len(self.train_x), share, self.train_y)
        y = (None, None) if self.train_y is None else (self.train_y[train], self.train_y[held])
        return replace(self, train_x=self.train_x[train], train_y=y[0], test_x=self.train_x[held], test_y=y[1])

    def about_classes(self, classes: int) -> dict[str, Any]:
        """What the file of a model that draws examples of so many classes says of them: the share of each in the training part by name,
        and what labels are called."""
        shares = np.bincount(self.train_y, minlength=classes) / len(self.train_y) if classes else ()
        return {"classes": dict(zip(self.classes, map(float, shares), strict=False)), "target": self.target}

    def labelled(self) -> DataSet:
        """The set itself. Raises DataError if it has fewer than two classes, so that there is nothing to tell apart."""
        if len(self.classes) < 2:
            raise DataError(f"{self.name}: a classifier needs labels of at least two classes, and this has {len(self.classes)}. Labels "
                            "are: the column that csv:FILE?target=COLUMN names, y in an .npz, the subfolders of folder:DIR")
        return self


def split(name: str, count: int, share: float, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (train, test) of `count` rows, a random `share` of them for the test, of each class as much; always the same.

    Those to learn from are in random order, so that their last ones, which `hold_out` takes, are of every class.
    """
    if not 0 < share < 1:
        raise DataError(f"{name}: the share of the test part is above 0 and below 1, got {share}")
    order = shuffled = kernels.permutation(0, 0, count)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    steps = np.floor(np.arange(count + 1) * share)
    chosen = steps[1:] > steps[:-1]                         # evenly along the classes, so that each gives its share
    if not chosen.any():
        raise DataError(f"{name}: {count} examples are too few to set a share of {share} apart for the test")
    held = np.sort(order[chosen])
    return shuffled[~np.isin(shuffled, held)], held
