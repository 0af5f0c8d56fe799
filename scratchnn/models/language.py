"""Language models: recurrent networks that say which token of a text comes next, and write by taking their own word for it.

A text's probability is a product, log p(x) = sum_t log p(x_t | x_1 .. x_t-1), and each factor a classification: the network that generates
is trained as one that tells classes apart. T. Mikolov et al. 2010, "Recurrent neural network based language model"; cells of
S. Hochreiter & J. Schmidhuber 1997 (LSTM) and K. Cho et al. 2014 (GRU).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import kernels
import scratchnn as snn
import scratchnn.nn.functional as F
from kernels.shapes import TextModel
from scratchnn import checkpoint, nn
from scratchnn.data.tokens import Vocabulary
from scratchnn.models.beam import beam_search
from scratchnn.models.classifier import evaluating
from scratchnn.models.networks import CELLS, Recurrent
from scratchnn.nn import init
from scratchnn.random import Generator, default_generator
from scratchnn.tensor import Tensor

STEPS = 256          # steps that are taken at once where no gradient is wanted


class LanguageModel(nn.Module):
    """Embedding, recurrent layers, and a linear layer that gives each token's logit.

    tokens        in the vocabulary, V
    embedding     numbers for a token; hidden   units of a layer;  layers   of them
    cell, dropout, weight_drop   as in Recurrent
    tied          the last layer's weights are the embedding (Press & Wolf 2017, "Using the output embedding to improve language models")

    Raises ValueError where these do not fit together.
    """

    def __init__(self, tokens: int, embedding: int = 64, hidden: int = 512, layers: int = 1, cell: str = "LSTM", dropout: float = 0.0,
                 weight_drop: float = 0.0, tied: bool = False):
        super().__init__()
        if cell not in CELLS or (tied and embedding != hidden):
            raise ValueError(f"LanguageModel: cell is one of {', '.join(CELLS)}, and tied weights take as many numbers in the embedding as "
                             f"hidden units; got {cell}, {embedding} and {hidden}")
        self.options = {"tokens": tokens, "embedding": embedding, "hidden": hidden, "layers": layers, "cell": cell, "dropout": dropout,
                        "weight_drop": weight_drop, "tied": tied}
        self.embedding = nn.Embedding(tokens, embedding)
        self.recurrent = Recurrent(embedding, hidden, layers, cell, dropout, weight_drop)
        self.output = nn.Linear(hidden, tokens)
        if tied:
            self.output.weight = self.embedding.weight
        init.uniform_(self.embedding.weight, -0.1, 0.1)
        init.uniform_(self.output.weight, -0.1, 0.1)
        init.zeros_(self.output.bias)

    def forward(self, x: Tensor, state: Sequence | None = None) -> tuple[Tensor, list]:
        """Logits (T, B, V) of the tokens that follow x (T, B), and the state after them: that of each layer. Without one, it is 0."""
        features, after = self.recurrent(self.embedding(x), state)
        return self.output(features), after

    def loss(self, x: Tensor, y: Tensor, state: Sequence | None = None) -> tuple[Tensor, list]:
        """Mean nats of the tokens y (T, B), each of which follows its place in x (T, B), and the state after them."""
        logits, state = self(x, state)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten()), state

    def nats(self, ids: np.ndarray, readers: int = 1) -> float:
        """Mean nats of a text's tokens (N,) but the first, the state carried from beginning to end; with more readers, each of a part of
        the text, whose beginning it meets without a state: quicker, and a little above."""
        part = (len(ids) - 1) // readers
        if part < 1:
            raise ValueError(f"LanguageModel.nats: {len(ids)} tokens are too few for {readers} readers, who take two each")
        x, y = (ids[i:i + part * readers].reshape(readers, part).T for i in (0, 1))
        total, state = 0.0, None
        with evaluating(self), snn.no_grad():
            for t in range(0, part, STEPS):
                now = np.ascontiguousarray(x[t:t + STEPS]), np.ascontiguousarray(y[t:t + STEPS])
                loss, state = self.loss(*map(Tensor, now), state)
                total += loss.item() * now[0].size
        return total / (part * readers)

    def activations(self, ids: np.ndarray) -> np.ndarray:
        """What the last layer's units say after each of a text's tokens (N,): (N, H) in -1..1."""
        with evaluating(self), snn.no_grad():
            features, _ = self.recurrent(self.embedding(Tensor(ids[:, None])))
        return features.numpy()[:, 0]


    def generate(self, prime: np.ndarray, steps: int, *, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0,
                 generator: Generator | None = None, at_once: int = 32) -> Iterator[np.ndarray]:
        """So many tokens that follow the tokens `prime` (P,), P at least 1, drawn one after the other, `at_once` in each array.

        temperature    logits are divided by it: below 1 the likely becomes more likely, 0 takes the most likely token
        top_k, top_p   draw of the k most likely tokens alone; and of the fewest whose probabilities reach top_p (Holtzman et al. 2020,
                       "The curious case of neural text degeneration")
        The same generator gives the same tokens, however many come at once.
        """
        generator = generator or default_generator
        model, ids, states = kernels.pack_text_model(self.arrays()), np.asarray(prime)[None], None
        while steps:
            count = min(at_once, steps)
            drawn, _, states = kernels.generate_text(model, ids, states, count, temperature, top_k, top_p, *generator.take(count))
            yield drawn[0]
            ids, steps = drawn[:, -1:], steps - count

    def most_likely(self, prime: np.ndarray, steps: int, beams: int) -> np.ndarray:
        """The likeliest tokens (steps,) that were found to follow the tokens `prime` (P,), P at least 1, by a search that follows so many
        at a time."""
        zero = snn.zeros(1, 1, self.options["hidden"])
        state = [(zero, zero) if self.options["cell"] == "LSTM" else zero for _ in self.recurrent.layers]

        def step(ids, state):
            logits, after = self(Tensor(ids[None]), state)
            return F.log_softmax(logits[0], 1).numpy(), after

        with evaluating(self), snn.no_grad():
            if len(prime) > 1:
                _, state = self(Tensor(np.asarray(prime)[:-1, None]), state)
            return beam_search(step, state, int(prime[-1]), beams, steps)[0][0]

    def arrays(self) -> TextModel:
        """The weights as `kernels.generate_text` takes them."""
        cell = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}[self.options["cell"]]
        with evaluating(self):
            layers = [[getattr(layer, name).array for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")]
                      for layer in self.recurrent.layers]
        return TextModel(cell, self.embedding.weight.array, layers, self.output.weight.array, self.output.bias.array)


class Memory:
    """A model's state between batches, cut from the graph, which a checkpoint holds."""

    def __init__(self):
        self.state = None

    def keep(self, state: list) -> None:
        self.state = [tuple(part.detach() for part in layer) if isinstance(layer, tuple) else layer.detach() for layer in state]

    def forget(self) -> None:
        self.state = None

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state["state"]


# ---- files ----------------------------------------------------------------------------------------------------------------

class SavedLanguageModel(NamedTuple):
    """What a file of weights holds: the model, and the tokens that it reads and writes."""

    model: LanguageModel
    vocabulary: Vocabulary


def save_language_model(path: str | Path, model: LanguageModel, vocabulary: Vocabulary) -> None:
    """Write weights as checkpoint.save_weights does, with what `load_language_model` needs beside them."""
    checkpoint.save_model(path, "language model", model, {"options": model.options, "vocabulary": vocabulary.options()})


def load_language_model(path: str | Path) -> SavedLanguageModel:
    """What `save_language_model` wrote. Raises CheckpointError, FileNotFoundError."""
    return checkpoint.load_model(path, "language model", lambda about: LanguageModel(**about["options"]),
                                 lambda model, about: SavedLanguageModel(model, Vocabulary(**about["vocabulary"])))
