"""Recurrent layers: RNN, GRU and LSTM, and one step of each as a cell."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from typing import Any

import numpy as np

from scratchnn import ops
from scratchnn.nn import functional as F
from scratchnn.nn import init
from scratchnn.nn.module import Module
from scratchnn.nn.parameter import empty_parameter
from scratchnn.tensor import Tensor

State = Tensor | tuple[Tensor, Tensor]


class RNNBase(Module):
    """What RNN, GRU and LSTM share: parameters, layers, directions, shapes. A subclass gives `gates` and `_run`.

    Parameters of layer k, with PyTorch's names, and once more with the suffix _reverse if bidirectional; G is the number of gates:
    weight_ih_lk (G H, input), weight_hh_lk (G H, H), bias_ih_lk and bias_hh_lk (G H,). All start uniform in +-1/sqrt(H).
    """

    gates: int
    states = 1                                       # tensors that a state is made of

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
                 dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, *, dtype: Any = None):
        super().__init__()
        name = type(self).__name__
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(f"{name}: input_size {input_size}, hidden_size {hidden_size} and num_layers {num_layers} must be at least 1")
        if not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout must be a probability, in 0..1, got {dropout}")
        if proj_size:
            raise NotImplementedError(f"{name}: projections (proj_size={proj_size}) are not there; put a Linear behind the layer")
        if dropout and num_layers == 1:
            warnings.warn(f"{name}: dropout={dropout} acts between layers, and there is only one", stacklevel=3)
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else hidden_size * (1 + bidirectional)
            for suffix in self._suffixes(layer):
                for weight, columns in (("weight_ih", inputs), ("weight_hh", hidden_size)):
                    self.register_parameter(weight + suffix, empty_parameter(self.gates * hidden_size, columns, dtype=dtype))
                for one in ("bias_ih", "bias_hh") if bias else ():
                    self.register_parameter(one + suffix, empty_parameter(self.gates * hidden_size, dtype=dtype))
        self.reset_parameters()

    def _suffixes(self, layer):
        return [f"_l{layer}", f"_l{layer}_reverse"][:1 + self.bidirectional]

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor, hx: State | None = None, lengths: Tensor | np.ndarray | list[int] | None = None):
        """All steps of all layers; see the class for shapes.

        lengths   (B,): where the sequences end. Behind its end a sequence's outputs are 0 and its state stays; the other direction begins
                  at its last step. So the results are those of PyTorch with pack_padded_sequence(..., enforce_sorted=False).
        """
        alone = input.ndim == 2
        x = self._steps_first(input, alone)
        hx = self._states(hx, x, alone)
        lengths = self._lengths(lengths, x, alone)
        finals = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            outputs = []
            for reverse, suffix in enumerate(self._suffixes(layer)):
                output, *final = self._run(x, [s[len(finals)] for s in hx], suffix, lengths, bool(reverse))
                outputs.append(output)
                finals.append(final)
            x = outputs[0] if len(outputs) == 1 else ops.cat(outputs, -1)
        final = [ops.stack(parts)[:, 0] if alone else ops.stack(parts) for parts in zip(*finals, strict=True)]
        output = x[:, 0] if alone else x.transpose(0, 1) if self.batch_first else x
        return output, final[0] if self.states == 1 else tuple(final)

    def _steps_first(self, input, alone):
        """(T, B, input_size)"""
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            order = "(B, T, {0})" if self.batch_first else "(T, B, {0})"
            raise ValueError(f"{type(self).__name__}: input must have shape {order.format(self.input_size)}, or (T, {self.input_size}) "
                             f"for one sequence, got {tuple(input.shape)}")
        x = input.unsqueeze(1) if alone else input.transpose(0, 1) if self.batch_first else input
        if not x.shape[0]:
            raise ValueError(f"{type(self).__name__}: input {tuple(input.shape)} has no step; sequences must have one at least")
        return x

    def _states(self, hx, x, alone):
        """The initial state as a list of tensors (layers * directions, B, H), zeros unless given."""
        name, count = type(self).__name__, self.num_layers * (1 + self.bidirectional)
        shape = (count, self.hidden_size) if alone else (count, x.shape[1], self.hidden_size)
        if hx is None:
            return [ops.zeros(count, x.shape[1], self.hidden_size, dtype=x.dtype)] * self.states
        given = [hx] if isinstance(hx, Tensor) else list(hx)
        if len(given) != self.states or any(s.shape != shape for s in given):
            raise ValueError(f"{name}: the initial state must be {'one tensor' if self.states == 1 else 'a pair (h_0, c_0) of tensors'} "
                             f"of shape {shape}, got {', '.join(str(tuple(s.shape)) for s in given)}")
        return [s.unsqueeze(1) for s in given] if alone else given

    def _lengths(self, lengths, x, alone):
        """The lengths as a Tensor, checked."""
        if lengths is None:
            return None
        found = np.asarray(lengths.array if isinstance(lengths, Tensor) else lengths)
        T, B = x.shape[:2]
        if alone or found.shape != (B,) or found.dtype.kind not in "iu" or found.min() < 1 or found.max() > T:
            raise ValueError(f"{type(self).__name__}: lengths must be whole numbers in 1..{T}, one for each of {B} sequences of a batch, "
                             f"got {found.dtype} {found.shape}" + (f" from {found.min()} to {found.max()}" if found.size else ""))
        return Tensor(found.astype(np.int64))

    def _weights(self, suffix):
        """weight_ih, weight_hh, bias_ih, bias_hh of one layer and direction."""
        biases = [getattr(self, name + suffix) for name in ("bias_ih", "bias_hh")] if self.bias else [None, None]
        return getattr(self, "weight_ih" + suffix), getattr(self, "weight_hh" + suffix), *biases

    @abstractmethod
    def _run(self, x, state, suffix, lengths, reverse):
        """(outputs (T, B, H), final state (B, H), ...) of one layer and direction."""

    def extra_repr(self) -> str:
        settings = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
        changed = [f"{name}={getattr(self, name)}" for name, usual in settings.items() if getattr(self, name) != usual]
        return ", ".join([str(self.input_size), str(self.hidden_size), *changed])


def _added(bias_ih, bias_hh):
    return None if bias_ih is None else bias_ih + bias_hh


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter & Schmidhuber 1997), with forget gates (Gers et al. 2000) and without peepholes:

        i, f, o = sigmoid(W x_t + b + U h_(t-1) + b')     g = tanh(the same with its own weights)
        c_t = f c_(t-1) + i g                             h_t = o tanh(c_t)

    weight_ih_l0 holds W for i, f, g, o, in this order, weight_hh_l0 U.
    Shapes: input (T, B, input_size), (B, T, input_size) with batch_first, or (T, input_size) for one sequence;
    hx = (h_0, c_0), each (num_layers * directions, B, H), zeros by default ->
    outputs of the last layer (T, B, directions * H), likewise, and the state (h_n, c_n) after the last step.
    dropout acts in training between layers. lengths: see `forward`.
    """

    gates, states = 4, 2

    def _run(self, x, state, suffix, lengths, reverse):
        weight_ih, weight_hh, *biases = self._weights(suffix)
        return ops.lstm(F.linear(x, weight_ih, _added(*biases)), *state, weight_hh, lengths, reverse)


class GRU(RNNBase):
    """Gated recurrent unit (Cho et al. 2014), in the form where the reset gate acts on the product, as in PyTorch:

        r, z = sigmoid(W x_t + b + U h_(t-1) + b')     n = tanh(W_n x_t + b_n + r (U_n h_(t-1) + b'_n))
        h_t = (1 - z) n + z h_(t-1)

    weight_ih_l0 holds W for r, z, n, in this order, weight_hh_l0 U. Shapes as for `LSTM`, but the state is one tensor.
    """

    gates = 3

    def _run(self, x, state, suffix, lengths, reverse):
        weight_ih, weight_hh, bias_ih, bias_hh = self._weights(suffix)
        return ops.gru(F.linear(x, weight_ih, bias_ih), *state, weight_hh, bias_hh, lengths, reverse)


class RNN(RNNBase):
    """h_t = tanh(W x_t + b + U h_(t-1) + b') (Elman 1990), or with nonlinearity="relu" max(0, the same).

    Shapes as for `LSTM`, but the state is one tensor.
    """

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
                 batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *, dtype: Any = None):
        _check_nonlinearity("RNN", nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype=dtype)
        self.nonlinearity = nonlinearity

    def _run(self, x, state, suffix, lengths, reverse):
        weight_ih, weight_hh, *biases = self._weights(suffix)
        return ops.rnn(F.linear(x, weight_ih, _added(*biases)), *state, weight_hh, self.nonlinearity, lengths, reverse)

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity!r}")


def _check_nonlinearity(name, nonlinearity):
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"{name}: nonlinearity must be 'tanh' or 'relu', not {nonlinearity!r}")


# ---- cells ----------------------------------------------------------------------------------------------------------

class RNNCellBase(Module):
    """What the cells share: parameters weight_ih (G H, input_size), weight_hh (G H, H), bias_ih and bias_hh (G H,), uniform in
    +-1/sqrt(H), and shapes."""

    gates: int
    states = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: Any = None):
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = self.gates * hidden_size
        self.weight_ih, self.weight_hh = (empty_parameter(rows, columns, dtype=dtype) for columns in (input_size, hidden_size))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, empty_parameter(rows, dtype=dtype) if bias else None)
        self.reset_parameters()

    reset_parameters = RNNBase.reset_parameters

    def forward(self, input: Tensor, hx: State | None = None) -> State:
        name, H = type(self).__name__, self.hidden_size
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            raise ValueError(f"{name}: input must have shape (B, {self.input_size}) or ({self.input_size},), got {tuple(input.shape)}")
        x = input.reshape(1, -1, self.input_size)                                        # one step
        given = [ops.zeros(*input.shape[:-1], H, dtype=x.dtype)] * self.states if hx is None else [hx] if self.states == 1 else list(hx)
        if len(given) != self.states or any(s.shape != (*input.shape[:-1], H) for s in given):
            raise ValueError(f"{name}: the state must be {'one tensor' if self.states == 1 else 'a pair (h, c) of tensors'} of shape "
                             f"{(*input.shape[:-1], H)}, got {', '.join(str(tuple(s.shape)) for s in given)}")
        _, *final = self._run(x, [s.reshape(-1, H) for s in given])
        final = [s.reshape(*input.shape[:-1], H) for s in final]
        return final[0] if self.states == 1 else tuple(final)

    @abstractmethod
    def _run(self, x, state):
        """(outputs, final state, ...) of one step."""

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class LSTMCell(RNNCellBase):
    """One step of `LSTM`. Shapes: input (B, input_size), (h, c) each (B, H), zeros by default -> (h, c); all without B for one example."""

    gates, states = 4, 2

    def _run(self, x, state):
        return ops.lstm(F.linear(x, self.weight_ih, _added(self.bias_ih, self.bias_hh)), *state, self.weight_hh)


class GRUCell(RNNCellBase):
    """One step of `GRU`. Shapes: input (B, input_size), h (B, H), zeros by default -> h; all without B for one example."""

    gates = 3

    def _run(self, x, state):
        return ops.gru(F.linear(x, self.weight_ih, self.bias_ih), *state, self.weight_hh, self.bias_hh)


class RNNCell(RNNCellBase):
    """One step of `RNN`. Shapes: input (B, input_size), h (B, H), zeros by default -> h; all without B for one example."""

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", *, dtype: Any = None):
        _check_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, dtype=dtype)
        self.nonlinearity = nonlinearity

    def _run(self, x, state):
        return ops.rnn(F.linear(x, self.weight_ih, _added(self.bias_ih, self.bias_hh)), *state, self.weight_hh, self.nonlinearity)
