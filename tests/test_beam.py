"""Beam search against all sequences there are."""

import itertools

import numpy as np
import pytest

from scratchnn.models.beam import beam_search

V, LENGTH = 4, 5
TABLE = np.log(np.random.default_rng(3).dirichlet(np.ones(V) * 0.4, (V, V)))


def step(ids, state):
    """The next id depends on the last two: the state (1, N, 1) is the one before."""
    before = state[0, :, 0]
    return TABLE[before, ids], ids[None, :, None]


def brute_force(start):
    scores = {}
    for sequence in itertools.product(range(V), repeat=LENGTH):
        before, last, total = 0, start, 0.0
        for number in sequence:
            total, before, last = total + TABLE[before, last, number], last, number
        scores[sequence] = total
    return sorted(scores.items(), key=lambda item: -item[1])


ZERO = np.zeros((1, 1, 1), int)


def test_with_all_beams_it_finds_the_most_likely_of_all_sequences():
    """Many sequences make the same steps in another order, so that only their rounding tells them apart."""
    expected = brute_force(2)
    scores = dict(expected)
    for beams in (V ** (LENGTH - 1), V ** LENGTH):
        sequences, totals = beam_search(step, ZERO, 2, beams, LENGTH)
        assert len({tuple(s) for s in sequences}) == beams and tuple(sequences[0]) == expected[0][0]
        np.testing.assert_allclose(totals, [t for _, t in expected][:beams], atol=1e-12)
        np.testing.assert_allclose(totals, [scores[tuple(s)] for s in sequences], atol=1e-12)


def test_few_beams():
    """One beam is the greedy choice; all that is found is scored as it should be, and here more beams find nothing worse."""
    scores, best = dict(brute_force(1)), -np.inf
    for beams in (1, 2, 4, 16):
        sequences, totals = beam_search(step, ZERO, 1, beams, LENGTH)
        assert len({tuple(s) for s in sequences}) == beams and (np.diff(totals) <= 0).all()
        np.testing.assert_allclose(totals, [scores[tuple(s)] for s in sequences], atol=1e-12)
        assert totals[0] >= best
        best = totals[0]
    greedy, before, last = [], 0, 1
    for _ in range(LENGTH):
        before, last = last, int(TABLE[before, last].argmax())
        greedy.append(last)
    np.testing.assert_array_equal(beam_search(step, ZERO, 1, 1, LENGTH)[0], [greedy])


def test_states_in_lists_follow_their_sequences():
    """A second state holds all ids read so far: it must belong to the sequence whose ids follow."""
    def counted(ids, states):
        log_probs, first = step(ids, states[0])
        seen.append(states[1] * V + ids[:, None])
        return log_probs, [first, seen[-1]]

    seen = []
    sequences, _ = beam_search(counted, [ZERO, np.zeros((1, 1), int)], 2, 6, LENGTH)
    read = seen[-1].ravel()
    assert {int("".join(map(str, [2, *s[:-1]])), V) for s in sequences} <= set(read) and len(set(read)) == len(read) == 6


def test_impossible_sequences_are_left_out():
    sequences, totals = beam_search(lambda ids, state: (np.tile([0, -np.inf], (len(ids), 1)), state), ZERO, 0, 3, 4)
    np.testing.assert_array_equal(sequences, [[0, 0, 0, 0]])
    np.testing.assert_array_equal(totals, [0])


def test_errors():
    for beams, length in ((0, 3), (2, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            beam_search(step, ZERO, 0, beams, length)
    with pytest.raises(ValueError, match=r"\(1, V\).*\(4,\)"):
        beam_search(lambda ids, state: (np.zeros(V), state), ZERO, 0, 2, 2)
    with pytest.raises(ValueError, match="NaN"):
        beam_search(lambda ids, state: (np.full((1, V), np.nan), state), ZERO, 0, 2, 2)
