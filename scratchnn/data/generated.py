"""How a set that is drawn at random is made of a function that draws examples of given labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scratchnn.data.dataset import DataSet
from scratchnn.ops.sampling import randperm
from scratchnn.random import Generator


def generated(name: str, classes: tuple[str, ...], draw: Callable, train: int, test: int) -> DataSet:
    """A set of `train` and `test` examples, draw(labels (N,), generator) -> (N, *shape) float32, each part from a seed of its own.

    As many examples of each class as of any other, but for one, in random order. ValueError if a part would be empty.
    """
    if train < 1 or test < 1:
        raise ValueError(f"{name}: both parts need at least one example, got train={train} and test={test}")
    parts: dict[str, np.ndarray] = {}
    for seed, (part, count) in enumerate({"train": train, "test": test}.items()):
        generator = Generator(seed)
        labels = randperm(count, generator).numpy() % len(classes)
        parts |= {f"{part}_x": draw(labels, generator), f"{part}_y": labels}
    return DataSet(name, **parts, classes=classes, shape=parts["train_x"].shape[1:])
