"""Handles of hooks on Tensors and Modules."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count


class RemovableHandle:
    """What registering a hook returns: remove() takes the hook away, and so does the end of a `with` block."""

    _ids = count()

    def __init__(self, hooks: dict[int, Callable]):
        self._hooks, self.id = hooks, next(self._ids)

    def remove(self) -> None:
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception) -> None:
        self.remove()
