"""How much of a text was copied from another one."""

from __future__ import annotations

import numpy as np

BASE = np.uint64(1_000_003)       # of the polynomial that stands for a run of numbers, modulo 2^64


def longest_copy(ids: np.ndarray, source: np.ndarray) -> tuple[int, int]:
    """(start, length) in `ids` (N,) of its longest run that occurs in `source` (M,) too; whole numbers, of tokens for instance.

    A run that occurs has shorter ones that occur, so its length is found by halving. Runs are compared by a polynomial of their numbers
    (R. Karp & M. Rabin 1987), and what is found is looked up, so that no accident counts. Time (N + M) log N log M.
    """
    ids, source = np.asarray(ids, np.int64), np.asarray(source, np.int64)
    best, low, high = (0, 0), 0, min(len(ids), len(source))
    while low < high:
        length = (low + high + 1) // 2
        start = _occurring(ids, source, length)
        if start is None:
            high = length - 1
        else:
            best, low = (start, length), length
    return best


def _occurring(ids, source, length):
    """Where in `ids` a run of `length` numbers starts that occurs in `source`; None if there is none."""
    there, order = _hashes(source, length), None
    for start in np.flatnonzero(np.isin(_hashes(ids, length), there)):
        order = np.argsort(there, kind="stable") if order is None else order
        run = ids[start:start + length]
        wanted = _hashes(run, length)[0]
        first, last = (np.searchsorted(there, wanted, side, sorter=order) for side in ("left", "right"))
        if any(np.array_equal(source[i:i + length], run) for i in order[first:last]):
            return int(start)
    return None


def _hashes(ids, length):
    """A number for each run of `length` of the numbers (N,): (N - length + 1,)."""
    with np.errstate(over="ignore"):
        values, result, width = ids.astype(np.uint64) + np.uint64(1), np.zeros(len(ids) - length + 1, np.uint64), 1
        done, power = 0, BASE                   # `values` stand for runs of `width` numbers, which double
        while done < length:
            if length & width:
                result = result * power + values[done:done + len(result)]
                done += width
            values = values[:-width] * power + values[width:] if 2 * width <= length else values
            power, width = power * power, 2 * width
    return result
