"""The networks of generative models: rows to rows by linear layers, rows that are pictures by convolutions, and sequences by recurrent
layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import scratchnn as snn
from scratchnn import nn
from scratchnn.nn import init
from scratchnn.nn.utils.parametrizations import weight_drop as dropped
from scratchnn.tensor import Tensor

SLOPE = 0.2          # of leaky ReLU for negative numbers, in discriminators (Radford, Metz & Chintala 2016, DCGAN)
CELLS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


def leaky_relu() -> nn.Module:
    """The activation of discriminators, with the slope of Radford, Metz & Chintala 2016."""
    return nn.LeakyReLU(SLOPE)


def mlp(sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.Tanh, batch_norm: bool = False) -> nn.Sequential:
    """Linear layers of so many units from input to output, with `activation` between them, and batch norm before it if asked for.
    Weights as Glorot & Bengio 2010 before tanh and at the end, otherwise as He et al. 2015."""
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 2):
        linear = nn.Linear(inputs, outputs)
        glorot = activation is nn.Tanh or i == len(sizes)
        init.xavier_uniform_(linear.weight) if glorot else init.kaiming_normal_(linear.weight, nonlinearity="relu")
        init.zeros_(linear.bias)
        layers += [linear] if i == len(sizes) else [linear, *([nn.BatchNorm1d(outputs)] if batch_norm else []), activation()]
    return nn.Sequential(*layers)


def halved(size: Sequence[int], times: int) -> list[tuple[int, ...]]:
    """Sizes of a picture that is halved so often, rounded up, the first one included."""
    sizes = [tuple(size)]
    for _ in range(times):
        sizes.append(tuple(-(-n // 2) for n in sizes[-1]))
    return sizes


def _kernel(size):
    """What halves a side of `size`, and doubles it again: 4 for even ones, 3 for odd ones, with stride 2 and padding 1."""
    return tuple(4 - n % 2 for n in size)


def conv_features(shape: Sequence[int], channels: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU,
                  batch_norm: bool = False) -> tuple[nn.Sequential, int]:
    """Convolutions, each of which halves the picture, and the number F of what they find: (N, C, H, W) -> (N, F).

    Batch norm, if asked for, comes after all but the first of them (DCGAN).
    """
    sizes, layers, inputs = halved(shape[1:], len(channels)), [], shape[0]
    for size, count in zip(sizes, channels, strict=False):
        layers += [nn.Conv2d(inputs, count, _kernel(size), 2, 1, bias=not (batch_norm and layers))]
        init.kaiming_normal_(layers[-1].weight, nonlinearity="relu")
        layers += [nn.BatchNorm2d(count)] if batch_norm and len(layers) > 1 else []
        layers += [activation()]
        inputs = count
    return nn.Sequential(*layers, nn.Flatten()), inputs * math.prod(sizes[-1])


class ConvEncoder(nn.Module):
    """Pictures as rows, and after them one-hot classes, (N, C*H*W + classes) -> (N, outputs): `conv_features`, and an `mlp` of them and
    the classes."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int], hidden: Sequence[int], classes: int, outputs: int,
                 activation: Callable[[], nn.Module] = nn.ReLU):
        super().__init__()
        self.shape, self.pixels = tuple(shape), math.prod(shape)
        self.features, found = conv_features(shape, channels)
        self.output = mlp([found + classes, *hidden, outputs], activation)

    def forward(self, x):
        features = self.features(x[:, :self.pixels].reshape(len(x), *self.shape))
        return self.output(snn.cat([features, x[:, self.pixels:]], 1) if x.shape[1] > self.pixels else features)


class ConvDecoder(nn.Module):
    """(N, inputs) -> (N, each * C*H*W): an `mlp` with ReLU at its end, and transposed convolutions that double the picture, the last one
    without an activation. Its `each` numbers for a pixel's channel lie C*H*W apart. Batch norm, if asked for, before each activation."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int], hidden: Sequence[int], inputs: int, each: int = 1,
                 activation: Callable[[], nn.Module] = nn.ReLU, batch_norm: bool = False):
        super().__init__()
        sizes, channels = halved(shape[1:], len(channels))[::-1], [*reversed(channels), each * shape[0]]
        self.start, layers = (channels[0], *sizes[0]), []
        self.input = mlp([inputs, *hidden, math.prod(self.start)], activation, batch_norm)
        for size, count, following in zip(sizes[1:], channels, channels[1:], strict=False):
            layers += [nn.BatchNorm2d(count)] if batch_norm else []
            layers += [nn.ReLU(), nn.ConvTranspose2d(count, following, _kernel(size), 2, 1)]
            init.normal_(layers[-1].weight, std=math.sqrt(2 / (4 * count)))      # with stride 2, a pixel is reached by 4 of a kernel's taps
        self.pictures = nn.Sequential(*layers)

    def forward(self, z):
        return self.pictures(self.input(z).reshape(len(z), *self.start)).flatten(1)


class Recurrent(nn.Module):
    """Recurrent layers one upon the other: sequences (T, B, inputs) -> (T, B, hidden).

    cell          of CELLS
    dropout       of what layers say; the same units in all steps (Gal & Ghahramani 2016, "A theoretically grounded application of
                  dropout in recurrent neural networks")
    weight_drop   of the weights between steps (Merity, Keskar & Socher 2018, "Regularizing and optimizing LSTM language models")
    """

    def __init__(self, inputs: int, hidden: int, layers: int = 1, cell: str = "LSTM", dropout: float = 0.0, weight_drop: float = 0.0):
        super().__init__()
        self.layers = nn.ModuleList([CELLS[cell](size, hidden) for size in [inputs, *[hidden] * (layers - 1)]])
        for layer in self.layers if weight_drop else ():
            dropped(layer, p=weight_drop)
        self.dropout = nn.LockedDropout(dropout)

    def forward(self, x: Tensor, state: Sequence | None = None, lengths: Tensor | None = None) -> tuple[Tensor, list]:
        """What the last layer says in each step, and the state after the last: that of each layer. Without a state it is 0; sequences end
        at their lengths (B,), if these are given."""
        after = []
        for layer, before in zip(self.layers, state or [None] * len(self.layers), strict=True):
            x, end = layer(x, before, lengths)
            x = self.dropout(x)
            after.append(end)
        return x, after
