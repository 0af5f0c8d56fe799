"""Texts for language models: tiny Shakespeare, the Penn Treebank, Python's own documentation, a file of the user's."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from scratchnn.data.dataset import DataError
from scratchnn.data.download import fetch
from scratchnn.data.files import read_bytes

LARGEST = 1 << 28   # bytes; a text is held in memory several times over on its way to a model


@dataclass(frozen=True)
class Text:
    """A text in parts, in reading order: to learn from, to choose settings by (may be empty), to be judged by.

    spaced   whether spaces stand between all its words, punctuation included
    """

    name: str
    train: str
    valid: str
    test: str
    spaced: bool = False

    def __post_init__(self):
        if not self.train or not self.test:
            raise DataError(f"{self.name}: a text of {len(self.train) + len(self.test)} characters is too short to be divided")


def tinyshakespeare() -> Text:
    """1,115,394 characters of Shakespeare's plays (A. Karpathy, char-rnn, 2015); the last 10 % are the test."""
    return _divided("tinyshakespeare", read_text(fetch("tinyshakespeare") / "input.txt"))


def ptb() -> Text:
    """The Penn Treebank in T. Mikolov's preparation (2010): 10,000 words with <unk> for the others, a sentence a line."""
    folder = fetch("ptb")
    return Text("ptb", *(read_text(folder / f"ptb.{part}.txt") for part in ("train", "valid", "test")), spaced=True)


def python_docs() -> Text:
    """What `help("topics")` shows, from Python's standard library: about 460,000 characters of English and code; no download.

    It varies a little from version to version, so its name has the version. The last 10 % are the test.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DataError("python-docs: this Python comes without pydoc_data, the documentation of the language; "
                        "use text:FILE with a text of your own") from None
    return _divided(f"python-docs {platform.python_version()}", "\n\n".join(topics[name] for name in sorted(topics)))


def text_file(path: str | Path) -> Text:
    """A file of the user's in UTF-8; the last 10 % are the test. Raises DataError naming file and fault."""
    return _divided(Path(path).stem, read_text(path))


def read_text(path: str | Path) -> str:
    """The content of a UTF-8 file, with or without a byte order mark, its line ends as "\\n". Raises DataError, OSError."""
    content = read_bytes(path, LARGEST)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8: byte {error.start:,} is {content[error.start]:#04x}") from None
    if "\0" in text:
        raise DataError(f"{path}: not a text: character {text.index(chr(0)):,} is NUL")
    return text.replace("\r\n", "\n")


def _divided(name, text):
    end = int(0.9 * len(text))
    return Text(name, text[:end], "", text[end:])
