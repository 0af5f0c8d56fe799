"""Texts as numbers: characters or words, a vocabulary of them, and batches that follow the text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from scratchnn.data.dataset import DataError
from scratchnn.data.loader import Position, draw_seed
from scratchnn.random import Generator
from scratchnn.tensor import Tensor

LEVELS = ("char", "word")
UNKNOWN = {"char": "\N{REPLACEMENT CHARACTER}", "word": "<unk>"}
# A word holds letters, digits, and what stands inside it; everything else that is no space is a word of its own, a line's end too.
WORD = re.compile(r"\n|<\w+>|\w+(?:['\u2019.-]\w+)*|[^\w\s]")
NO_SPACE_BEFORE, NO_SPACE_AFTER = set(".,;:!?)]}%\n"), set("([{$\n")


def split(text: str, level: str, spaced: bool = False) -> Sequence[str]:
    """A text's tokens. Of words, those between spaces if it is `spaced` (as corpora are), otherwise words and signs apart."""
    if level == "char":
        return text
    return re.findall(r"\n|[^\s]+", text) if spaced else WORD.findall(text)


def join(tokens: Iterable[str], level: str, spaced: bool = False) -> str:
    """The text of tokens. Of words, with spaces where print has them."""
    if level == "char":
        return "".join(tokens)
    text = ""
    for token in tokens:
        tight = not text or text[-1] in NO_SPACE_AFTER or token in NO_SPACE_BEFORE
        if spaced:
            tight = not text or "\n" in (text[-1], token)
        text += token if tight else " " + token
    return text


class Vocabulary:
    """Tokens by number.

    tokens    the tokens, all different
    level     "char" or "word"
    spaced    of words, whether the text has spaces between all tokens, punctuation included
    """

    def __init__(self, tokens: Sequence[str], level: str, spaced: bool = False):
        if level not in LEVELS or not tokens or len(set(tokens)) < len(tokens):
            raise ValueError(f"Vocabulary: level must be one of {', '.join(LEVELS)}, tokens must be there and differ; got {level!r} and "
                             f"{len(tokens)} tokens")
        self.tokens, self.level, self.spaced = list(tokens), level, spaced
        self.index = {token: i for i, token in enumerate(tokens)}
        self.unknown = self.index.get(UNKNOWN[level])

    @classmethod
    def of(cls, text: str, level: str, min_count: int = 1, spaced: bool = False,
           others: Sequence[str] = ()) -> Vocabulary:
        """That of a text to learn from: tokens that occur at least `min_count` times, the most frequent first; characters in their own
        order. If some are left, or `others`, texts to be read by it, have more, one token stands for all of these."""
        counts = Counter(split(text, level, spaced))
        kept = [token for token, count in counts.most_common() if count >= min_count]
        if level == "char":
            kept.sort()
        more = len(kept) < len(counts) or any(not set(split(other, level, spaced)) <= counts.keys() for other in others)
        if more and UNKNOWN[level] not in kept:
            kept.insert(0, UNKNOWN[level])
        return cls(kept, level, spaced)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> np.ndarray:
        """Numbers (N,) int64 of a text's tokens. Raises DataError for one that is not known, if none stands for the others."""
        tokens = split(text, self.level, self.spaced)
        if self.unknown is not None:
            return np.array([self.index.get(token, self.unknown) for token in tokens], np.int64)
        try:
            return np.array([self.index[token] for token in tokens], np.int64)
        except KeyError as error:
            what = {"char": "character", "word": "word"}[self.level]
            known = "".join(self.tokens) if self.level == "char" else " ".join(self.tokens[:50])
            raise DataError(f"the {what} {error.args[0]!r} does not occur in the text that was learnt; known are {known!r}"
                            f"{'' if self.level == 'char' else ' and others'}") from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens by number."""
        return join((self.tokens[i] for i in ids), self.level, self.spaced)

    def options(self) -> dict:
        """What makes the same vocabulary anew: Vocabulary(**options)."""
        return {"tokens": self.tokens, "level": self.level, "spaced": self.spaced}


class TextBatches(Position):
    """A text read by `batch_size` readers at once, each of whom reads a part of it from beginning to end, `length` tokens in a batch.

    ids        numbers (N,) of the text's tokens
    generator  each epoch begins up to `length` tokens later, as it says, so that batches don't part at the same places; drawn from once

    A pass is an epoch: pairs x (T, B), y (T, B) of int64 Tensors, y being the tokens that come after those of x; a batch goes on where
    the one before ended, so that a model can carry its state. Raises DataError for a text that is too short for a batch.
    """

    settings = ("batch_size", "length")

    def __init__(self, ids: np.ndarray, batch_size: int, length: int, *, generator: Generator | None = None):
        self.ids, self.batch_size, self.length = np.asarray(ids, np.int64), batch_size, length
        self.part = (len(self.ids) - length) // batch_size               # tokens of a reader; the last `length` are for later beginnings
        if self.part < length:
            raise DataError(f"a text of {len(self.ids):,} tokens is too short for a batch of {batch_size} times {length}, which takes "
                            f"{batch_size * length + length:,}; take a longer text, or smaller batches")
        super().__init__([self.ids], generator)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.part // self.length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first = draw_seed(self.seed, self.epoch) % self.length
        x, y = (self.ids[first + i:][:self.part * self.batch_size].reshape(self.batch_size, self.part).T for i in (0, 1))
        try:
            while self.position < len(self):
                now = slice(self.position * self.length, (self.position + 1) * self.length)
                self.position += 1
                yield Tensor(np.ascontiguousarray(x[now])), Tensor(np.ascontiguousarray(y[now]))
        finally:
            self.epoch, self.position = self.epoch + 1, 0
