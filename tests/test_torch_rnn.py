"""Recurrent layers against PyTorch: values, states, all gradients, for layers, directions, lengths and awkward sizes."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn

torch = pytest.importorskip("torch")

TOLERANCE = {"float32": {"rtol": 3e-5, "atol": 3e-5}, "float64": {"rtol": 1e-11, "atol": 1e-12}}
CASES = {   # name, sizes (T, B, input, H), options
    "lstm": ("LSTM", (6, 5, 4, 7), {}),
    "lstm, one step, one sequence": ("LSTM", (1, 1, 3, 1), {"bias": False}),
    "lstm, wide": ("LSTM", (3, 37, 5, 70), {}),
    "lstm, layers, both directions": ("LSTM", (5, 3, 4, 9), {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    "gru": ("GRU", (6, 5, 4, 7), {"num_layers": 2, "bidirectional": True}),
    "gru, wide": ("GRU", (3, 37, 5, 70), {"bias": False}),
    "rnn": ("RNN", (6, 5, 4, 7), {"num_layers": 2, "bidirectional": True}),
    "rnn, relu": ("RNN", (3, 37, 5, 70), {"nonlinearity": "relu"}),
}


def numbers(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(a, b, dtype, what):
    a, b = (x.detach().numpy() for x in (a, b))
    assert a.shape == b.shape and a.dtype == b.dtype, (what, a.shape, b.shape)
    np.testing.assert_allclose(a, b, err_msg=what, **TOLERANCE[dtype])


def pair(name, *args, dtype="float32", **options):
    """The same layer here and there."""
    module, reference = getattr(nn, name)(*args, **options).to(getattr(snn, dtype)), getattr(torch.nn, name)(*args, **options)
    reference.to(getattr(torch, dtype)).load_state_dict({k: torch.from_numpy(v.numpy().copy()) for k, v in module.state_dict().items()})
    assert [k for k, _ in module.named_parameters()] == [k for k, _ in reference.named_parameters()]
    assert repr(module).startswith(repr(reference)[:-1])
    return module, reference


def tensors(library, arrays):
    return [library.from_numpy(a.copy()).requires_grad_() for a in arrays]


def flat(result):
    """(output, state) or a state as a list."""
    return [result] if not isinstance(result, tuple) else [t for part in result for t in flat(part)]


def agree(module, reference, arrays, call, peer, dtype):
    """call(module, *tensors) and peer(reference, *tensors) give the same tensors, and the same gradients of everything."""
    mine, other = tensors(snn, arrays), tensors(torch, arrays)
    found, expected = flat(call(module, *mine)), flat(peer(reference, *other))
    for i, (y, z) in enumerate(zip(found, expected, strict=True)):
        close(y, z, dtype, f"result {i}")
    weights = [numbers(*y.shape, seed=9 + i, dtype=dtype) for i, y in enumerate(found)]
    sum((y * snn.from_numpy(w)).sum() for y, w in zip(found, weights, strict=True)).backward()
    sum((z * torch.from_numpy(w)).sum() for z, w in zip(expected, weights, strict=True)).backward()
    named = [(f"input {i}", a, b) for i, (a, b) in enumerate(zip(mine, other, strict=True))]
    named += [(n, p, q) for (n, p), q in zip(module.named_parameters(), reference.parameters(), strict=True)]
    for name, a, b in named:
        close(a.grad, b.grad, dtype, f"gradient of {name}")


def arrays_for(module, sizes, dtype):
    """Input and initial states."""
    T, B, inputs, H = sizes
    shape = (B, T, inputs) if module.batch_first else (T, B, inputs)
    state = (module.num_layers * (1 + module.bidirectional), B, H)
    return [numbers(*shape, dtype=dtype), *(numbers(*state, seed=1 + i, dtype=dtype) for i in range(module.states))]


def run(module, x, *state):
    return module(x, state[0] if len(state) == 1 else state)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case, dtype):
    name, sizes, options = CASES[case]
    module, reference = pair(name, *sizes[2:], dtype=dtype, **options)
    agree(module, reference, arrays_for(module, sizes, dtype), run, run, dtype)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_lengths(name):
    """As packed sequences, with outputs of 0 behind each end."""
    module, reference = pair(name, 4, 7, dtype="float64", num_layers=2, bidirectional=True)
    lengths = [2, 6, 1, 6, 3]

    def peer(reference, x, *state):
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        output, final = reference(packed, state[0] if len(state) == 1 else state)
        return torch.nn.utils.rnn.pad_packed_sequence(output)[0], final

    agree(module, reference, arrays_for(module, (6, 5, 4, 7), "float64"),
          lambda module, x, *state: module(x, state[0] if len(state) == 1 else state, lengths), peer, "float64")


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_one_sequence_without_a_batch_and_a_cell(name):
    module, reference = pair(name, 4, 7, dtype="float64")
    arrays = [a[:, 0] for a in arrays_for(module, (6, 1, 4, 7), "float64")]
    agree(module, reference, arrays, run, run, "float64")
    cell, reference = pair(name + "Cell", 4, 7, dtype="float64")
    for shape in ((5,), ()):
        arrays = [numbers(*shape, 4, dtype="float64"), *(numbers(*shape, 7, seed=i, dtype="float64") for i in range(cell.states))]
        agree(cell, reference, arrays, run, run, "float64")
    x = numbers(3, 4, dtype="float64")
    for a, b in zip(flat(cell(snn.from_numpy(x))), flat(reference(torch.from_numpy(x))), strict=True):
        close(a, b, "float64", "from no state")


def test_a_state_may_be_left_out_or_used_alone():
    module, reference = pair("LSTM", 4, 7, dtype="float64")
    x, y = (tensors(m, [numbers(3, 2, 4, dtype="float64")])[0] for m in (snn, torch))
    module(x)[1][1].sum().backward()                                         # a gradient of the cells alone
    reference(y)[1][1].sum().backward()
    close(x.grad, y.grad, "float64", "gradient of x")
    close(module.weight_hh_l0.grad, reference.weight_hh_l0.grad, "float64", "gradient of weight_hh_l0")
