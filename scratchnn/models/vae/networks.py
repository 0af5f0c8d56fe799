"""The networks of a variational autoencoder: rows to rows, by linear layers or by convolutions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import scratchnn as snn
from scratchnn import nn
from scratchnn.nn import init


def mlp(sizes: Sequence[int], activation: str = "Tanh") -> nn.Sequential:
    """Linear layers of so many units from input to output, with an activation of nn between them; weights as Glorot & Bengio 2010 before
    Tanh and at the end, otherwise as He et al. 2015."""
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 2):
        linear = nn.Linear(inputs, outputs)
        glorot = activation == "Tanh" or i == len(sizes)
        init.xavier_uniform_(linear.weight) if glorot else init.kaiming_normal_(linear.weight, nonlinearity="relu")
        init.zeros_(linear.bias)
        layers += [linear, getattr(nn, activation)()]
    return nn.Sequential(*layers[:-1])


def halved(size: Sequence[int], times: int) -> list[tuple[int, ...]]:
    """Sizes of a picture that is halved so often, rounded up, the first one included."""
    sizes = [tuple(size)]
    for _ in range(times):
        sizes.append(tuple(-(-n // 2) for n in sizes[-1]))
    return sizes


def _kernel(size):
    """What halves a side of `size`, and doubles it again: 4 for even ones, 3 for odd ones, with stride 2 and padding 1."""
    return tuple(4 - n % 2 for n in size)


class ConvEncoder(nn.Module):
    """Pictures as rows, and after them one-hot classes, (N, C*H*W + classes) -> (N, outputs): convolutions with ReLU, each of which
    halves the picture; then an `mlp` of their result and the classes."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int], hidden: Sequence[int], classes: int, outputs: int, activation: str):
        super().__init__()
        self.shape, self.pixels = tuple(shape), math.prod(shape)
        sizes, layers, inputs = halved(shape[1:], len(channels)), [], shape[0]
        for size, count in zip(sizes, channels, strict=False):
            layers += [nn.Conv2d(inputs, count, _kernel(size), 2, 1), nn.ReLU()]
            init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")
            inputs = count
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.output = mlp([inputs * math.prod(sizes[-1]) + classes, *hidden, outputs], activation)

    def forward(self, x):
        features = self.features(x[:, :self.pixels].reshape(len(x), *self.shape))
        return self.output(snn.cat([features, x[:, self.pixels:]], 1) if x.shape[1] > self.pixels else features)


class ConvDecoder(nn.Module):
    """(N, inputs) -> (N, each * C*H*W): an `mlp` with ReLU at its end, and transposed convolutions that double the picture, the last one
    without an activation. Its `each` numbers for a pixel's channel lie C*H*W apart."""

    def __init__(self, shape: Sequence[int], channels: Sequence[int], hidden: Sequence[int], inputs: int, each: int, activation: str):
        super().__init__()
        sizes, channels = halved(shape[1:], len(channels))[::-1], [*reversed(channels), each * shape[0]]
        self.start = (channels[0], *sizes[0])
        self.input, layers = mlp([inputs, *hidden, math.prod(self.start)], activation), [nn.ReLU()]
        for size, count, following in zip(sizes[1:], channels, channels[1:], strict=False):
            layers += [nn.ConvTranspose2d(count, following, _kernel(size), 2, 1), nn.ReLU()]
            init.normal_(layers[-2].weight, std=math.sqrt(2 / (4 * count)))      # with stride 2, a pixel is reached by 4 of a kernel's taps
        self.pictures = nn.Sequential(*layers[:-1])

    def forward(self, z):
        return self.pictures(self.input(z).reshape(len(z), *self.start)).flatten(1)
