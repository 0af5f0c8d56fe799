"""Deep belief nets: restricted Boltzmann machines one on another, each of which learns what the hidden units of the one below it do.

The user trains them from the bottom up, one at a time, with whatever gradient is liked:

    dbn = DBN(64, [200, 100])
    for layer, rbm in enumerate(dbn):
        cd = ContrastiveDivergence(rbm); optimizer = optim.SGD(rbm.parameters(), lr=0.05)
        for v in batches:
            cd.gradient(dbn.up(v, layer)); optimizer.step()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

import kernels
from scratchnn import nn
from scratchnn.models.classifier import MLP
from scratchnn.models.rbm import RBM, Units
from scratchnn.random import Generator, default_generator


class DBN(nn.Module):
    """Deep belief net: the top two layers are a restricted Boltzmann machine, from which directed connections lead down to the data.

    visible  number of Bernoulli units, or a list of units as RBM takes it
    hidden   number of hidden units of each layer, from the data up

    Each further layer, learned from draws of the one below, raises a lower bound on log p(data) as long as it begins where it is no
    worse than what it replaces: Hinton, Osindero & Teh 2006, "A fast learning algorithm for deep belief nets", section 4. Fine-tuning as
    in Hinton & Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks".
    """

    def __init__(self, visible: int | Sequence[Units], hidden: Sequence[int], generator: Generator | None = None):
        super().__init__()
        if not hidden:
            raise ValueError("DBN: at least one layer of hidden units is needed, got none")
        self.rbms = nn.ModuleList(RBM(below, above, generator) for below, above in zip([visible, *hidden], hidden, strict=False))

    def __len__(self) -> int:
        return len(self.rbms)

    def __iter__(self) -> Iterator[RBM]:
        return iter(self.rbms)

    def up(self, v: np.ndarray, layer: int | None = None, generator: Generator | None = None) -> np.ndarray:
        """What machine number `layer` learns from: draws of the hidden units of those below it, given the data; at layer 0 the data
        themselves. (N, V) -> (N, visible units of that machine); without a layer, the topmost hidden units."""
        v = self.rbms[0].check(v)
        for rbm in list(self)[:layer]:
            v = rbm.sample_hidden(v, generator)
        return v

    def down(self, h: np.ndarray, generator: Generator | None = None) -> np.ndarray:
        """From the topmost hidden units to means of the data: (N, H_top) -> (N, V). The layers between are drawn."""
        for rbm in list(self)[:0:-1]:
            h = rbm.sample_visible(h, generator)
        return self.rbms[0].visible_mean(h)

    def sample(self, count: int, steps: int = 1000, generator: Generator | None = None) -> np.ndarray:
        """Draws from the net, (count, V): so many steps of Gibbs sampling in the top machine, from hidden units at random, then down. The
        last half step, to the data, gives means."""
        generator, top = generator or default_generator, self.rbms[-1]
        half = np.full((count, len(top.hidden_bias)), 0.5, top.weight.dtype)
        h = kernels.bernoulli(*generator.take(kernels.blocks(half.size)), half)
        v = top.gibbs(top.sample_visible(h, generator), steps, generator)
        return self.down(top.sample_hidden(v, generator), generator)

    def reconstruction(self, v: np.ndarray) -> np.ndarray:
        """What the topmost hidden units keep of the data, (N, V) -> (N, V): up and down with probabilities in place of draws."""
        v = self.rbms[0].check(v)
        for rbm in self.rbms:
            v = rbm.hidden_probabilities(v)
        for rbm in list(self)[::-1]:
            v = rbm.visible_mean(v)
        return v

    def to_mlp(self, classes: int, activation: Callable[[], nn.Module] = nn.Sigmoid) -> MLP:
        """A multilayer perceptron whose hidden layers are copies of this net's, to be fine-tuned with back-propagation; its outputs are
        p(h = 1 | layer below) with sigmoid units. The last layer, to the classes, is new."""
        sizes = [len(rbm.hidden_bias) for rbm in self.rbms]
        mlp = MLP((len(self.rbms[0].visible_bias),), classes, sizes, dropout=0, input_dropout=0, activation=activation)
        mlp.to(dtype=self.rbms[0].weight.dtype)
        for linear, rbm in zip(mlp.linears(), self.rbms, strict=False):
            linear.weight.array[:] = rbm.encode(rbm.weight.array.T)
            linear.bias.array[:] = rbm.hidden_bias.array
        return mlp
