"""Texts as tokens, batches that follow the text, what was copied, and what units see."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scratchnn import cells, data
from scratchnn.data.tokens import join, split
from scratchnn.metrics.novelty import longest_copy
from scratchnn.random import Generator


@given(st.text(st.characters(blacklist_categories=["Cs"])))
def test_characters_come_back(text):
    assert join(split(text, "char"), "char") == text


@given(st.lists(st.sampled_from(["it", "n't", "<unk>", "$", "N", "\n", "."]), min_size=1))
def test_words_between_spaces_come_back(tokens):
    assert list(split(join(tokens, "word", True), "word", True)) == tokens


def test_words_and_signs_apart():
    text = 'He said: "don\'t (ever) pay $3.50",\nand left.'
    assert split(text, "word") == ["He", "said", ":", '"', "don't", "(", "ever", ")", "pay", "$", "3.50", '"', ",", "\n",
                                   "and", "left", "."]
    assert join(split("To be, or not (to be)?\nThat.", "word"), "word") == "To be, or not (to be)?\nThat."


def test_rare_and_unseen_tokens_are_one():
    words = data.Vocabulary.of("a a a b b c", "word", min_count=2)
    assert words.tokens == ["<unk>", "a", "b"] and words.encode("a c b d").tolist() == [1, 0, 2, 0]
    characters = data.Vocabulary.of("abc", "char", others=["ab", "d"])
    assert characters.decode(characters.encode("bad")) == "ba\N{REPLACEMENT CHARACTER}"
    corpus = data.Vocabulary.of("a <unk> b", "word", spaced=True, others=["c"])
    assert corpus.tokens.count("<unk>") == 1 and corpus.decode(corpus.encode("a c")) == "a <unk>"
    assert data.Vocabulary(**words.options()).index == words.index


def test_a_token_that_is_not_known_is_named():
    with pytest.raises(data.DataError, match="the character 'z' does not occur in the text that was learnt; known are 'abc'"):
        data.Vocabulary.of("cab", "char").encode("az")
    with pytest.raises(ValueError, match="level must be one of char, word"):
        data.Vocabulary(["a", "a"], "char")


@pytest.mark.parametrize(("batch_size", "length"), [(1, 5), (3, 4), (7, 1)])
def test_batches_follow_the_text(batch_size, length):
    batches = data.TextBatches(np.arange(100), batch_size, length, generator=Generator(3))
    beginnings = []
    for _ in range(2):
        pairs = list(batches)
        x, y = (np.concatenate([pair[i].numpy() for pair in pairs]) for i in (0, 1))
        assert len(pairs) == len(batches) and x.shape == (len(batches) * length, batch_size)
        assert (np.diff(x, axis=0) == 1).all() and (y == x + 1).all()
        beginnings.append(x[0, 0])
    assert max(beginnings) < length


def test_batches_go_on_where_they_were():
    ids = np.arange(500) % 7
    one, other = (data.TextBatches(ids, 4, 6, generator=Generator(1)) for _ in range(2))
    seen = [(x.numpy().copy(), y.numpy().copy()) for _ in range(3) for x, y in one]
    steps = iter(other)
    for _ in range(5):
        next(steps)
    fresh = data.TextBatches(ids, 4, 6, generator=Generator(9))
    fresh.load_state_dict(other.state_dict())
    rest = [(x.numpy().copy(), y.numpy().copy()) for _ in range(3) for x, y in fresh][:len(seen) - 5]
    assert all(np.array_equal(a, b) for pair, like in zip(seen[5:], rest, strict=True) for a, b in zip(pair, like, strict=True))
    with pytest.raises(ValueError, match="TextBatches: the state is of other data"):
        data.TextBatches(ids + 1, 4, 6).load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="length=6, this one has 5"):
        data.TextBatches(ids, 4, 5).load_state_dict(other.state_dict())


def test_a_text_too_short_for_a_batch():
    assert len(list(data.TextBatches(np.arange(36), 5, 6))) == 1
    with pytest.raises(data.DataError, match="35 tokens is too short for a batch of 5 times 6, which takes 36"):
        data.TextBatches(np.arange(35), 5, 6)


@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), max_size=30))
def test_the_longest_copy_is_the_longest(ids, source):
    start, length = longest_copy(ids, source)
    runs = {tuple(source[i:i + n]) for n in range(len(source) + 1) for i in range(len(source) - n + 1)}
    longest = max(n for n in range(len(ids) + 1) if any(tuple(ids[i:i + n]) in runs for i in range(len(ids) - n + 1)))
    assert length == longest and (not length or tuple(ids[start:start + length]) in runs)


def test_units_that_see_something(tmp_path):
    tokens = list('say "hello (world)"\nand 12 MORE, then </script> no more.\n') * 3
    seen = cells.features(tokens)
    assert seen["inside quotation marks"][:20].tolist() == [0] * 4 + [1] * 14 + [0] * 2
    assert seen["place in the word"][:4].tolist() == [1, 2, 3, 0]
    rng = np.random.default_rng(0)
    units = rng.normal(0, 0.1, (len(tokens), 60))
    units[:, 17] -= 0.5 * seen["inside brackets"]
    assert cells.best_units(units, seen)["inside brackets"][0] == 17
    assert cells.best_units(units, seen)["inside brackets"][1] < -0.8
    cells.write_page(tmp_path / "cells.html", tokens, np.clip(units, -1, 1), "units & <text>")
    page = (tmp_path / "cells.html").read_text(encoding="utf-8")
    assert "units &amp; &lt;text&gt;" in page and re.search(r"<option>unit 17: [^<]*inside brackets \(-0", page)
    assert page.count("<option>") == cells.UNITS and page.count("</script>") == 1
