"""Whether operations are being recorded for backward()."""

import threading
from contextlib import ContextDecorator


class _GradMode(threading.local):
    enabled = True


grad_mode = _GradMode()


class no_grad(ContextDecorator):
    """`with no_grad():` or `@no_grad()`: operations leave no history. Each thread has its own setting."""

    mode = False

    def __init__(self):
        self.before = []

    def _recreate_cm(self):
        """A decorated function gets a fresh one for each call, so that threads do not share what was before."""
        return type(self)()

    def __enter__(self):
        self.before.append(grad_mode.enabled)
        grad_mode.enabled = self.mode

    def __exit__(self, *exception):
        grad_mode.enabled = self.before.pop()


class enable_grad(no_grad):
    """`with enable_grad():` records again inside no_grad()."""

    mode = True


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return grad_mode.enabled
