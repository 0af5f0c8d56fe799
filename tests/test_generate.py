"""Text that a recurrent model writes by itself: every rung and wing the same, frequencies those of the softmax, cuts and threads unseen."""

import numpy as np
import pytest
from scipy import stats

import kernels
from kernels import cpu, jit, reference
from kernels.cpu.generate import ladder
from kernels.shapes import GATES, TextModel

WINGS = [reference, cpu]


def make(cell="lstm", V=13, E=6, H=19, layers=1, dtype=np.float64, bias=True, tied=False):
    """A model with random weights that keep it lively."""
    rng, G = np.random.default_rng(0), GATES[cell]

    def floats(*shape):
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(dtype)

    def some(*shape):
        return floats(*shape) * 2 if bias else None

    E = H if tied else E
    embedding = floats(V, E) * 8
    arrays = [[floats(G * H, H if i else E), floats(G * H, H), some(G * H), some(G * H)] for i in range(layers)]
    return TextModel(cell, embedding, arrays, embedding if tied else floats(V, H) * 8, some(V))


def fixed(probabilities):
    """A model that always gives these probabilities: its units are 0 and its output's bias the logarithms."""
    table, unit = np.zeros((len(probabilities), 1)), np.zeros((1, 1))
    return TextModel("rnn_relu", table, [[unit, unit, None, None]], table, np.log(probabilities))


def start(n=1, ids=(0,)):
    return np.tile(ids, (n, 1))


@pytest.mark.parametrize("layers, bias, tied", [(1, False, True), (3, True, False)])
@pytest.mark.parametrize("cell", GATES)
def test_the_fast_kernel_writes_what_the_reference_writes(cell, layers, bias, tied):
    model = make(cell, layers=layers, bias=bias, tied=tied)
    for choice in ((0.7, None, 1.0), (1.5, 5, 0.8), (0, None, 1.0)):
        args = (model, start(3, (1, 2)), None, 30, *choice, 5, 7)
        (ids, log_probs, states), expected = cpu.generate_text(*args), reference.generate_text(*args)
        np.testing.assert_array_equal(ids, expected[0])
        np.testing.assert_allclose(log_probs, expected[1], atol=1e-9)
        for ours, theirs in zip(states, expected[2], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-11)


def test_all_rungs_write_the_same():
    for dtype in (np.float32, np.float64):
        model = make(V=65, E=8, H=33, dtype=dtype)
        expected, _, _ = reference.generate_text(model, start(), None, 40, 0.8, seed=3, offset=9)
        for rung in (ladder.call_by_call, ladder.one_kernel):
            np.testing.assert_array_equal(rung(model, 0, 40, 0.8, 3, 9), expected[0])
        np.testing.assert_array_equal(cpu.generate_text(model, start(), None, 40, 0.8, seed=3, offset=9)[0], expected)


@pytest.mark.parametrize("cell, torch_cell", [("lstm", "LSTM"), ("gru", "GRU"), ("rnn_tanh", "RNN")])
def test_log_probabilities_are_those_of_torch(cell, torch_cell):
    torch = pytest.importorskip("torch")
    model = make(cell, layers=2)
    rnn = getattr(torch.nn, torch_cell)(6, 19, 2, batch_first=True).double()
    with torch.no_grad():
        for parameter, array in zip(rnn.parameters(), [a for layer in model.layers for a in layer], strict=True):
            parameter.copy_(torch.from_numpy(array))
        ids, log_probs, states = kernels.generate_text(model, start(2, (3, 1)), None, 9, seed=1)
        whole = np.concatenate([start(2, (3, 1)), ids], 1)
        out, last = rnn(torch.from_numpy(model.embedding[whole[:, :-1]]))
        logits = out @ torch.from_numpy(model.weight).T + torch.from_numpy(model.bias)
        expected = torch.log_softmax(logits, -1).numpy()[:, 1:]
    np.testing.assert_allclose(log_probs, np.take_along_axis(expected, ids[..., None], 2)[..., 0], atol=1e-10)
    for ours, theirs in zip(states, last if cell == "lstm" else [last], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("cell", GATES)
def test_cuts_threads_packing_and_company_change_no_bit(cell):
    model = make(cell, V=70, E=20, H=250, layers=2, dtype=np.float32)
    before, found = jit.get_num_threads(), []
    try:
        for threads in (1, 2):
            jit.set_num_threads(threads)
            found.append(cpu.generate_text(model, start(2, (4, 5)), None, 40, 0.9, 20, 0.95, 3))
    finally:
        jit.set_num_threads(before)
    packed, ids, states, pieces = cpu.pack_text_model(model), start(2, (4, 5)), None, []
    for s in range(0, 40, 8):
        more, log_probs, states = cpu.generate_text(packed, ids, states, 8, 0.9, 20, 0.95, 3, 2 * s)
        pieces.append((more, log_probs))
        ids = more[:, -1:]
    alone = cpu.generate_text(model, start(1, (4, 5)), None, 1, 0.9, 20, 0.95, 3)
    assert found[0][0][0, 0] == alone[0][0, 0] and found[0][1][0, 0] == alone[1][0, 0]
    found.append((*(np.concatenate(p, 1) for p in zip(*pieces, strict=True)), states))
    for ids, log_probs, states in found[1:]:
        for ours, theirs in zip((ids, log_probs, *states), (*found[0][:2], *found[0][2]), strict=True):
            assert ours.tobytes() == theirs.tobytes()


def test_ids_may_be_fed_without_a_draw():
    """Cut anywhere, fed ids lead to the same states; those that were handed in stay as they are."""
    model, ids = make(layers=2), start(2, (3, 1, 4, 1, 5))
    _, _, whole = kernels.generate_text(model, ids, None, 0)
    none, _, part = kernels.generate_text(model, ids[:, :2], None, 0)
    kept = [s.copy() for s in part]
    _, _, rest = kernels.generate_text(model, ids[:, 2:], part, 0)
    assert none.shape == (2, 0)
    np.testing.assert_array_equal(rest, whole)
    np.testing.assert_array_equal(part, kept)


# ---- what is drawn --------------------------------------------------------------------------------------------------

P = np.array([0.05, 0.3, 0.1, 0.02, 0.25, 0.03, 0.25])


def expected_shares(temperature, top_k, top_p):
    """Written down from the definitions, by sorting."""
    p = P ** (1 / temperature)
    order = sorted(range(len(p)), key=lambda i: (-p[i], i))[:top_k]
    share, kept = 0, []
    for i in order:
        if share < top_p * sum(p[order]) - 1e-12:
            kept.append(i)
            share += p[i]
    found = np.zeros(len(p))
    found[kept] = p[kept] / p[kept].sum()
    return found


@pytest.mark.parametrize("choice", [(1.0, None, 1.0), (0.5, None, 1.0), (2.0, 4, 1.0), (1.0, None, 0.7), (1.5, 5, 0.6), (0.8, 2, 0.9)],
                         ids=str)
def test_frequencies_are_those_of_the_softmax(choice):
    """20,000 draws in one sequence, and 20,000 sequences of one draw each."""
    expected = expected_shares(*choice)
    for n, steps in ((1, 20000), (20000, 1)):
        ids, log_probs, _ = kernels.generate_text(fixed(P), start(n), None, steps, *choice, seed=11)
        counts = np.bincount(ids.ravel(), minlength=len(P))
        assert not counts[expected == 0].any()
        assert stats.chisquare(counts[expected > 0], 20000 * expected[expected > 0]).pvalue > 1e-3
        np.testing.assert_allclose(log_probs, np.log(P)[ids], atol=1e-12)


@pytest.mark.parametrize("wing", WINGS)
def test_the_most_likely(wing):
    tie = fixed(np.array([0.1, 0.3, 0.3, 0.3]))
    for choice in ((0,), (1.0, 1), (1.0, None, 1e-9), (1e-300,)):
        ids, _, _ = wing.generate_text(tie, start(2), None, 50, *choice, seed=2)
        assert set(ids.ravel()) == ({1, 2, 3} if choice == (1e-300,) else {1}), choice
    ids, _, _ = wing.generate_text(tie, start(), None, 200, 1.0, 2, seed=2)
    assert set(ids[0]) == {1, 2}                                                  # exactly two, the smaller of those that tie
    everything = wing.generate_text(make(), start(), None, 50, seed=4)[0]
    np.testing.assert_array_equal(wing.generate_text(make(), start(), None, 50, 1.0, 99, 1.0, 4)[0], everything)


@pytest.mark.parametrize("seed", range(3))
def test_many_ids_are_cut_as_by_sorting(seed):
    logits = np.random.default_rng(seed).standard_normal(1000).round(1)                         # many ties
    model = fixed(np.exp(logits))
    for choice in ((1.0, 50), (0.5, None, 0.4), (1.0, 300, 0.5)):
        ours, theirs = (wing.generate_text(model, start(), None, 300, *choice, seed=seed)[0] for wing in WINGS)
        np.testing.assert_array_equal(ours, theirs)


# ---- errors ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("wing", WINGS)
def test_errors(wing):
    model = make()
    _, _, (h, c) = wing.generate_text(model, start(), None, 1)
    for error, message, change in (
            (IndexError, "id 13 at place 1 of sequence 0 is outside 0..12", {"ids": start(1, (0, 13))}),
            (IndexError, "id -1 at place 0 of sequence 1", {"ids": np.array([[0], [-1]])}),
            (ValueError, "whole numbers", {"ids": np.zeros((1, 1))}), (ValueError, r"\(N, P\).*\(1,\)", {"ids": np.zeros(1, int)}),
            (ValueError, r"\(1, 0\)", {"ids": np.zeros((1, 0), int)}), (ValueError, "h and c.*got.*19", {"states": [h]}),
            (ValueError, r"\(1, 2, 19\)", {"ids": start(2), "states": [h, c]}), (ValueError, "temperature", {"temperature": -1}),
            (ValueError, "temperature", {"temperature": np.inf}), (ValueError, "temperature", {"temperature": np.nan}),
            (ValueError, "top_k", {"top_k": 0}), (ValueError, "top_p", {"top_p": 0}), (ValueError, "top_p", {"top_p": 1.1}),
            (ValueError, "top_p", {"top_p": np.nan}), (ValueError, "steps", {"steps": -1}),
            (ValueError, "choose from lstm", {"model": model._replace(cell="LSTM")}),
            (ValueError, r"output weight.*\(13, 19\).*\(13, 18\)", {"model": model._replace(weight=model.weight[:, :-1])}),
            (ValueError, r"weight_ih of layer 0.*\(57, 6\)", {"model": model._replace(cell="gru")}),
            (ValueError, "at least one layer", {"model": model._replace(layers=[])}),
            (TypeError, "float32", {"model": model._replace(bias=model.bias.astype(np.float32))}),
            (ValueError, "not finite", {"model": model._replace(bias=model.bias * np.nan)})):
        with pytest.raises(error, match=message):
            wing.generate_text(**{"model": model, "ids": start(), "states": None, "steps": 3, **change})
    forbidden = model._replace(bias=np.where(np.arange(13) == 4, -np.inf, model.bias))
    assert 4 not in wing.generate_text(forbidden, start(), None, 200)[0]
