"""DataSet: labelled examples, divided into those to learn from and those to be judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class DataSet:
    """Labelled examples in two parts.

    name      what `data.load` knows it by
    train_x   (N, *shape) float32 in 0..1;  train_y (N,) int64 in 0..len(classes)-1
    test_x    (M, *shape) float32 in 0..1;  test_y  (M,) int64
    classes   the name of each class
    shape     of one example: (C, H, W) for pictures
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: tuple[str, ...]
    shape: tuple[int, ...]

    def __post_init__(self):
        for part, x, y in (("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            if x.shape != (len(y), *self.shape):
                raise ValueError(f"{self.name}: {part}_x has shape {x.shape}, expected {(len(y), *self.shape)} for {len(y)} labels")

    def hold_out(self, count: int) -> DataSet:
        """The same set with the last `count` training examples in place of the test part.

        Settings are chosen on such a part; the test part is for the one final number.
        """
        x, y = self.train_x, self.train_y
        if not 0 < count < len(y):
            raise ValueError(f"{self.name}: cannot hold out {count} of {len(y)} training examples; choose 1 to {len(y) - 1}")
        return replace(self, train_x=x[:-count], train_y=y[:-count], test_x=x[-count:], test_y=y[-count:])
