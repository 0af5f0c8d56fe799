"""Models of music: recurrent networks that say which keys sound in the next step, and compose by drawing one step after the other.

    p(roll) = prod_t p(x_t | x_1 .. x_t-1),   x_t the 88 keys of a step

Two outputs give the probability of a step, of what the network remembers. `Bernoulli` has one for each key by itself, so that a chord's
notes, once drawn, know nothing of each other. `Autoregressive` draws the keys from the highest to the lowest, each given those above it:
a NADE in each step (H. Larochelle & I. Murray 2011, "The neural autoregressive distribution estimator"; with a recurrent network the
RNN-NADE of N. Boulanger-Lewandowski, Y. Bengio & P. Vincent 2012, "Modeling temporal dependencies in high-dimensional sequences").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import checkpoint, nn
from scratchnn.data import events
from scratchnn.data.music import padded
from scratchnn.data.score import KEYS
from scratchnn.models.classifier import evaluating
from scratchnn.models.language import LanguageModel
from scratchnn.models.networks import CELLS, Recurrent
from scratchnn.random import Generator, default_generator
from scratchnn.tensor import Tensor

STEPS = 8192         # steps that are taken at once where no gradient is wanted


class Bernoulli(nn.Module):
    """Keys that do not depend on each other: logits (N, keys), linear in the features (N, H)."""

    def __init__(self, hidden: int, keys: int):
        super().__init__()
        self.linear = nn.Linear(hidden, keys)

    def forward(self, features: Tensor, steps: np.ndarray) -> Tensor:
        """Nats of steps (N, keys) of 0 and 1, all together."""
        return F.binary_cross_entropy_with_logits(self.linear(features), Tensor(steps), reduction="sum")

    def draw(self, features: Tensor, u: np.ndarray, temperature: float, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Autoregressive.draw`."""
        logits = self.linear(features).numpy() / temperature
        fixed = given >= 0
        x = np.where(fixed, given, u < _sigmoid(logits)).astype(np.float32)
        return x, (_log_p(logits, x) * fixed).sum(1)


class Autoregressive(nn.Module):
    """Each key given those above it. For the key k of a step x, counted from the highest:

        p(x_k | x_<k, features) = sigmoid(b_k + V_k a_k),   a_k = tanh(c + sum_(j < k) W_j x_j),   b, c linear in the features

    units   in a

    Larochelle & Murray 2011, with tanh in place of the sigmoid. a changes only where a key sounds, so that a step with n notes takes n + 1
    rows instead of 88: row r holds the r highest notes, and says the probabilities of the keys down to the next one.
    """

    def __init__(self, hidden: int, keys: int, units: int):
        super().__init__()
        self.bias, self.context = nn.Linear(hidden, keys), nn.Linear(hidden, units)
        self.above, self.output = nn.Linear(keys, units, bias=False), nn.Linear(units, keys, bias=False)

    def logits(self, features: Tensor, above: np.ndarray, rows: np.ndarray | slice = slice(None)) -> Tensor:
        """Logits (R, keys) of keys under notes (R, keys); row r is of the features with the number rows[r]."""
        b, c = self.bias(features), self.context(features)
        if not isinstance(rows, slice):
            b, c = (part.index_select(0, Tensor(rows)) for part in (b, c))
        return b + self.output((c + self.above(Tensor(above))).tanh())

    def forward(self, features: Tensor, steps: np.ndarray) -> Tensor:
        """Nats of steps (N, keys) of 0 and 1, all together."""
        rows, above, asked = unfolded(steps)
        logits = self.logits(features, above, rows)
        return F.binary_cross_entropy_with_logits(logits, Tensor(steps[rows]), Tensor(asked), reduction="sum")

    def draw(self, features: Tensor, u: np.ndarray, temperature: float, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Steps (N, keys) that follow features (N, H), and the log-probabilities (N,) of what was given, each key's given those above it.

        u       (N, keys) uniform in 0..1: a key sounds where its own is below its probability
        given   (N, keys): 1 for keys that sound, 0 for those that do not, -1 for those to be drawn
        """
        x, log_p, top = np.zeros(u.shape, np.float32), np.zeros(len(u), np.float32), np.full(len(u), u.shape[1])
        keys = np.arange(u.shape[1])
        while (top > 0).any():                                                 # from one note of a step to the next below it
            logits = self.logits(features, x).numpy() / temperature
            sounds = np.where(given >= 0, given, u < _sigmoid(logits)) * (keys < top[:, None])
            note = np.where(sounds.any(1), u.shape[1] - 1 - sounds[:, ::-1].argmax(1), -1)
            decided = (keys < top[:, None]) & (keys >= note[:, None])
            found = np.flatnonzero(note >= 0)
            x[found, note[found]] = 1
            log_p += (_log_p(logits, x) * decided * (given >= 0)).sum(1)
            top = note
        return x, log_p


def unfolded(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `Autoregressive` is asked about steps (N, keys): for each of R rows the number of its step (R,), the notes that are known
    (R, keys), from the highest down, and the keys whose probability it says (R, keys), 1 for those below the lowest known note down to
    the next one."""
    keys = steps.shape[1]
    counts = steps.sum(1).astype(np.int64) + 1
    rows = np.repeat(np.arange(len(steps)), counts)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)          # of the row in its step
    order = np.cumsum(steps[:, ::-1], 1)[:, ::-1]                                        # notes from the highest down to here
    order, x = order[rows], steps[rows]
    above = x * (order <= rank[:, None])
    asked = (order - x == rank[:, None])
    return rows, above.astype(np.float32), asked.astype(np.float32).reshape(-1, keys)


def _sigmoid(logits):
    return 0.5 + 0.5 * np.tanh(0.5 * logits)


def _log_p(logits, x):
    return -np.logaddexp(0, np.where(x > 0, -logits, logits))


class RollModel(nn.Module):
    """Recurrent layers that read the steps of a piano roll, and an output that says which keys sound in the next one.

    output    "bernoulli" or "autoregressive"
    hidden    units of a layer; layers   of them; cell   of CELLS
    units     of the autoregressive output
    dropout   of what layers say; input_dropout   of the keys of a step: the same in all steps (see Recurrent)
    keys      in a step

    A piece begins after a step of silence. Raises ValueError where these are unknown.
    """

    def __init__(self, output: str = "bernoulli", hidden: int = 256, layers: int = 1, cell: str = "LSTM", units: int = 128,
                 dropout: float = 0.0, input_dropout: float = 0.0, keys: int = KEYS):
        super().__init__()
        if cell not in CELLS or output not in ("bernoulli", "autoregressive"):
            raise ValueError(f"RollModel: output is bernoulli or autoregressive, cell one of {', '.join(CELLS)}; got {output!r}, {cell!r}")
        self.options = {"output": output, "hidden": hidden, "layers": layers, "cell": cell, "units": units, "dropout": dropout,
                        "input_dropout": input_dropout, "keys": keys}
        self.recurrent, self.input_dropout = Recurrent(keys, hidden, layers, cell, dropout), nn.LockedDropout(input_dropout)
        self.output = Bernoulli(hidden, keys) if output == "bernoulli" else Autoregressive(hidden, keys, units)

    def forward(self, x: Tensor, state: Sequence | None = None, lengths: Tensor | None = None) -> tuple[Tensor, list]:
        """Features (T, B, H) after each step of x (T, B, keys), and the state after the last."""
        return self.recurrent(self.input_dropout(x), state, lengths)

    def loss(self, x: Tensor, lengths: Tensor, first: int = 0) -> tuple[Tensor, int]:
        """Nats of all steps of the pieces x (T, B, keys) from step number `first` on, and how many these are."""
        silence = snn.zeros(1, *x.shape[1:])
        features, _ = self(snn.cat([silence, x[:-1]]), lengths=lengths)
        known = np.arange(len(x))[:, None] < lengths.numpy()
        known[:first] = False
        rows = np.flatnonzero(known)
        steps = x.numpy().reshape(-1, x.shape[2])[rows]
        return self.output(features.flatten(0, 1).index_select(0, Tensor(rows)), steps), len(rows)

    def nats(self, rolls: Sequence[np.ndarray]) -> float:
        """Nats of a step, of steps 2 to T of every piece (T, keys), each given all before it: the sum over keys, total over total (as
        S. Bai, J. Z. Kolter & V. Koltun 2018 measure)."""
        total, count = _total(self, rolls, {"first": 1}, STEPS)
        return total / count

    # ---- composing --------------------------------------------------------------------------------------------------------

    def compose(self, primer: np.ndarray, pieces: int, steps: int, *, temperature: float = 1.0,
                generator: Generator | None = None) -> np.ndarray:
        """Pieces (pieces, P + steps, keys) uint8 that begin with the primer (P, keys), P at least 0. Logits are divided by the temperature,
        above 0. The same generator gives the same pieces."""
        keys, generator = self.options["keys"], generator or default_generator
        rolls = np.zeros((pieces, 1 + len(primer) + steps, keys), np.float32)
        rolls[:, 1:1 + len(primer)] = primer
        free, state = np.full((pieces, keys), -1), None
        with evaluating(self), snn.no_grad():
            known = Tensor(np.ascontiguousarray(rolls[:, :1 + len(primer)].swapaxes(0, 1)))
            for t in range(1 + len(primer), rolls.shape[1]):
                features, state = self(known, state)
                rolls[:, t], _ = self.output.draw(features[-1], snn.rand(pieces, keys, generator=generator).numpy(), temperature, free)
                known = Tensor(rolls[None, :, t])
        return rolls[:, 1:].astype(np.uint8)

    def harmonise(self, melody: Sequence[int], *, candidates: int = 64, temperature: float = 1.0,
                  generator: Generator | None = None) -> np.ndarray:
        """A roll (T, keys) uint8 whose highest key is the melody's (T,) in each step; where the melody has -1, all are silent.

        Keys below are drawn given the melody's. Since a step knows nothing of what the melody does next, so many candidates are followed at
        once, and in each step those that expected the melody's key take the place of others: a particle filter (N. Gordon, D. Salmond &
        A. Smith 1993), whose draws are those of the model given the whole melody, the closer the more candidates there are.
        """
        keys, generator = self.options["keys"], generator or default_generator
        rolls, state = np.zeros((len(melody) + 1, candidates, keys), np.float32), None
        weights = np.zeros(candidates)                                         # log-probabilities
        with evaluating(self), snn.no_grad():
            for t, key in enumerate(melody):
                features, state = self(Tensor(rolls[t:t + 1]), state)
                given = np.where(np.arange(keys) < key, -1, np.arange(keys) == key).astype(np.int64)
                u = snn.rand(candidates, keys, generator=generator).numpy()
                rolls[t + 1], log_p = self.output.draw(features[-1], u, temperature, np.broadcast_to(given, u.shape))
                weights += log_p
                p = np.exp(weights - weights.max())
                p /= p.sum()
                if 1 / (p * p).sum() < candidates / 2 or t == len(melody) - 1:           # too few carry the weight
                    places = (np.arange(candidates) + snn.rand(1, generator=generator).item()) / candidates
                    chosen = np.searchsorted(np.cumsum(p), places).clip(0, candidates - 1)
                    rolls, weights = np.ascontiguousarray(rolls[:, chosen]), np.zeros(candidates)
                    state = [tuple(s[:, chosen] for s in layer) if isinstance(layer, tuple) else layer[:, chosen] for layer in state]
        return rolls[1:, 0].astype(np.uint8)


# ---- events ---------------------------------------------------------------------------------------------------------------

class EventModel(nn.Module):
    """A language model (see there for the options) of the events of scratchnn.data.events; each piece begins after an END."""

    def __init__(self, embedding: int = 64, hidden: int = 256, layers: int = 1, cell: str = "LSTM", dropout: float = 0.0):
        super().__init__()
        self.options = {"embedding": embedding, "hidden": hidden, "layers": layers, "cell": cell, "dropout": dropout}
        self.language = LanguageModel(events.EVENTS, **self.options)

    def loss(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, int]:
        """Nats of all events of the pieces x (T, B), and how many these are."""
        ids = x.numpy()
        logits, _ = self.language(Tensor(np.concatenate([np.full_like(ids[:1], events.END), ids[:-1]])))
        rows = np.flatnonzero(np.arange(len(ids))[:, None] < lengths.numpy())
        chosen = logits.flatten(0, 1).index_select(0, Tensor(rows))
        return F.cross_entropy(chosen, Tensor(ids.reshape(-1)[rows]), reduction="sum"), len(rows)

    def nats(self, pieces: Sequence[np.ndarray]) -> float:
        """Nats of a step: those of all events of the pieces (N,), over the steps that pass in them. Different events may stand for the same
        roll, so that this is an upper bound of the roll's."""
        return _total(self, pieces, {}, STEPS // 8)[0] / sum(events.steps(piece) for piece in pieces)

    def compose(self, primer: np.ndarray, pieces: int, steps: int, *, temperature: float = 1.0,
                generator: Generator | None = None) -> list[np.ndarray]:
        """Events of so many pieces, which go on from the events `primer` (P,), P at least 0, for so many steps or until they end."""
        prime, written = np.r_[events.END, primer].astype(np.int64), []
        for _ in range(pieces):
            ids, passed = [], 0
            for part in self.language.generate(prime, 64 * steps, temperature=temperature, generator=generator):
                ids, passed = [*ids, *part], passed + events.steps(part)
                if events.END in part or passed >= steps:
                    break
            written.append(np.array([*primer, *ids], np.int64))
        return written


def _total(model, pieces, options, at_once):
    """The nats of pieces by a model's `loss`, and what they are the nats of."""
    total, count = 0.0, 0
    order = sorted(pieces, key=len)
    with evaluating(model), snn.no_grad():
        while order:
            batch = order[-max(1, at_once // len(order[-1])):]
            del order[-len(batch):]
            nats, known = model.loss(*map(Tensor, padded(batch)), **options)
            total, count = total + nats.item(), count + known
    return total, count


# ---- files ----------------------------------------------------------------------------------------------------------------

KINDS = {"rolls": RollModel, "events": EventModel}


class SavedMusicModel(NamedTuple):
    """What a file of weights holds: the model, and what was written about it."""

    model: RollModel | EventModel
    about: dict[str, Any]


def save_music_model(path: str | Path, model: RollModel | EventModel, about: dict[str, Any]) -> None:
    """Write weights as checkpoint.save_weights does, with what `load_music_model` needs beside them, and what else is to be known about
    the model: values that JSON can hold."""
    kind = next(name for name, made in KINDS.items() if type(model) is made)
    checkpoint.save_model(path, "music model", model, {"kind": kind, "options": model.options, "about": about})


def load_music_model(path: str | Path) -> SavedMusicModel:
    """What `save_music_model` wrote. Raises CheckpointError, FileNotFoundError."""
    return checkpoint.load_model(path, "music model", lambda found: KINDS[found["kind"]](**found["options"]),
                                 lambda model, found: SavedMusicModel(model, found["about"]))
