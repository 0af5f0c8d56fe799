"""Beam search: the most likely continuations of a sequence, of which the best few are followed at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

State = np.ndarray | list["State"]          # (..., N, H), or lists of such arrays


def beam_search(step: Callable[[np.ndarray, State], tuple[np.ndarray, State]], state: State, start: int, beams: int,
                length: int) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest sequences of `length` ids after the id `start` that were found, and their log-probabilities, the best one first.

    step    (ids (N,), state) -> (log-probabilities of the ids that follow (N, V), the states after), for N sequences at once
    state   that of one sequence before `start` is read: an array whose last dimension but one counts sequences, as (layers, N, H) of
            recurrent cells, or a list of such arrays
    beams   sequences kept after each id; with V ** (length - 1) of them the search is complete

    -> (N, length) ids, int64, and (N,) float64, N at most `beams`: no sequence twice, none of probability 0. Of two that tie the one
    comes first whose beginning did, then the one with the smaller id. ValueError for beams or length below 1, or for NaN.
    """
    if beams < 1 or length < 1:
        raise ValueError(f"beam_search: beams and length must be at least 1, got {beams} and {length}")
    sequences, totals, ids = np.zeros((1, 0), np.int64), np.zeros(1), np.array([start])
    for t in range(length):
        log_probs, state = step(ids, state)
        if log_probs.ndim != 2 or len(log_probs) != len(ids) or np.isnan(log_probs).any():
            raise ValueError(f"beam_search: step must return log-probabilities ({len(ids)}, V) without NaN; for id {t} it gave shape "
                             f"{log_probs.shape}")
        following = totals[:, None] + log_probs                                     # (N, V)
        best = np.argsort(-following, axis=None, kind="stable")[:beams]
        best = best[following.reshape(-1)[best] > -np.inf]
        parents, ids = np.divmod(best, log_probs.shape[1])
        sequences = np.concatenate([sequences[parents], ids[:, None]], axis=1)
        totals, state = following.reshape(-1)[best], _take(state, parents)
    return sequences, totals


def _take(state, which):
    if isinstance(state, list | tuple):
        return [_take(s, which) for s in state]
    return state[..., which, :]
