"""Sequences from a recurrent language model that reads what it has drawn, a ladder: ladder.py holds the rungs from one call a step on,
steps.py with sampling.py the one that the library calls."""

from typing import NamedTuple

import numpy as np

from kernels import jit
from kernels.cpu.generate.steps import generate_kernel
from kernels.cpu.matmul import simd
from kernels.cpu.random import MASK
from kernels.shapes import GATES, raise_not_finite, text_choice, text_sizes, text_start

CELLS = list(GATES)                       # number i is what steps.py calls i
LINE = 64                                 # bytes of a cache line


class PackedText(NamedTuple):
    """A TextModel as `pack_text_model` lays it out: all numbers in one array, rows filled up with zeros to whole vectors."""

    numbers: np.ndarray
    starts: np.ndarray                    # places of each layer's four arrays, and of embedding, weight, bias: see steps.py
    cell: str
    layers: int
    sizes: tuple                          # V, E, H, G


def _aligned(count, dtype):
    """Zeros that begin on a cache line."""
    array = np.zeros(count + LINE // dtype.itemsize, dtype)
    return array[(-array.ctypes.data % LINE) // dtype.itemsize:][:count]


def _whole(count, dtype):
    """`count` filled up to whole vectors."""
    lanes = simd.VECTOR_BYTES // dtype.itemsize
    return -(-count // lanes) * lanes


def pack_text_model(model):
    """A TextModel laid out for generate_text, for one that writes in many calls: what packing costs is then paid once.

    It is a copy: later changes of the model do not reach it. ValueError and TypeError for arrays that do not fit each other.
    """
    V, E, H, G = text_sizes(model)
    dtype, gates = model.embedding.dtype, G * H
    arrays = []
    for i, (weight_ih, weight_hh, bias_ih, bias_hh) in enumerate(model.layers):
        bias, own = _biases(model.cell, bias_ih, bias_hh, H)
        arrays += [(weight_ih, gates, H if i else E), (weight_hh, gates, H), (bias, 1, gates), (own, 1, H)]
    arrays += [(model.embedding, V, E), (model.weight, V, H), (model.bias, 1, V)]
    places = np.cumsum([0] + [rows * _whole(columns, dtype) for _, rows, columns in arrays])
    numbers = _aligned(places[-1], dtype)
    for start, stop, (array, rows, columns) in zip(places, places[1:], arrays, strict=False):
        if array is not None:
            numbers[start:stop].reshape(rows, -1)[:, :columns] = array
    return PackedText(numbers, places[:-1].copy(), model.cell, len(model.layers), (V, E, H, G))


def _biases(cell, bias_ih, bias_hh, H):
    """(the sum of the two biases, None): but a GRU multiplies the new state's bias_hh by its reset gate, so it stands alone."""
    if cell != "gru" or bias_hh is None:
        return bias_ih if bias_hh is None else bias_hh if bias_ih is None else bias_ih + bias_hh, None
    total = np.append(bias_hh[:2 * H], np.zeros(H, bias_hh.dtype))
    return total if bias_ih is None else bias_ih + total, bias_hh[2 * H:]


def generate_text(model, ids, states, steps, temperature=1.0, top_k=None, top_p=1.0, seed=0, offset=0):
    """(ids (N, steps), their log-probabilities (N, steps), states): N sequences go on from ids (N, P), a model reading what it has drawn.

    model        TextModel, or what pack_text_model made of one
    ids          whole numbers (N, P), P at least 1: fed first, whatever the model thinks of them
    states       [h] or, for an LSTM, [h, c], each (layers, N, H), from which the sequences start; None for zeros. Those returned are the
                 states before the last drawn id was read: a call with that id alone as `ids` and offset + steps * N goes on exactly
    temperature  divides the logits; 0 takes the most likely id, the smallest of several
    top_k        draw among so many most likely ids alone (Fan et al. 2018), the smaller id first where two tie; None for all
    top_p        and of these among the fewest whose share reaches top_p, the nucleus (Holtzman et al. 2020); 1 for all

    Sampled id s of sequence n takes the 53-bit uniform of block offset + s * N + n. Uses steps * N blocks. The log-probabilities are
    the model's own, without temperature and choice. Steps may be 0: the ids are fed, and the states returned.
    ValueError for shapes that do not fit, settings out of range, logits that are not finite; IndexError for an id outside the vocabulary.

    A step makes (layers * 2 G H H + V H) N multiply-adds, less the first layer's input product, which comes from a table once an id has
    been read before, and reads all weights but the embedding once.
    """
    packed = model if isinstance(model, PackedText) else pack_text_model(model)
    (V, E, H, G), w, layers, dtype = packed.sizes, packed.numbers, packed.layers, packed.numbers.dtype
    ids, states = text_start(packed.cell, layers, V, H, dtype, np.asarray(ids), states)
    steps, *choice = text_choice(V, steps, temperature, top_k, top_p)
    (N, P), E, K = ids.shape, _whole(E, dtype), _whole(H, dtype)
    h = _aligned(2 * layers * N * K, dtype).reshape(2, layers, N, K)
    h[0, ..., :H] = states[0]
    c = states[-1].ravel()                                          # of an LSTM; others leave it alone
    drawn, log_probs = np.empty((N, steps), np.int64), np.empty((N, steps), dtype)
    sections = min(4, G + 1) if G > 1 else 1
    sizes = (CELLS.index(packed.cell), G, sections, layers, N, P, steps, V, E, K, H)
    table = np.empty(min(V, N * (P + steps)) * G * H + _whole(1, dtype), dtype)             # vectors are read beyond its last number
    slots = np.append(np.full(V, -1), 0)
    few = choice[1] < V or choice[2] < 1
    bad = generate_kernel(w, packed.starts, sizes, ids.ravel(), h.ravel(), c, np.empty(N * sections * H, dtype), np.empty(N * V, dtype),
                          table, slots, _vectors(E, dtype), _vectors(K, dtype), tuple(choice), np.uint64(int(seed) & MASK),
                          np.uint64(int(offset) & MASK), np.empty(N * V), np.empty(N * V if few else 0, np.int64), drawn.ravel(),
                          log_probs.ravel(), jit.threads(jit.SERIAL_BELOW))
    if bad >= 0:
        raise_not_finite(bad, int((drawn[:, bad] < 0).argmax()))
    states[0] = np.ascontiguousarray(h[(P + max(steps - 1, 0)) % 2, ..., :H])
    return drawn, log_probs, states


def _vectors(columns, dtype):
    """Where the vectors of a row begin, and a negative number behind."""
    return np.append(np.arange(0, columns, simd.VECTOR_BYTES // dtype.itemsize), -1)
