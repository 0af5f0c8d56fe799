"""Feed-forward classifiers: networks that say which class an example belongs to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

import scratchnn as snn
from scratchnn import nn


class MLP(nn.Module):
    """Multilayer perceptron: linear layers with an activation and dropout after each but the last.

    shape          of one example, (C, H, W) or (D,)
    classes        number of classes
    hidden         units of each hidden layer
    dropout        share of each hidden layer's outputs that is set to 0 in training (Srivastava et al. 2014)
    input_dropout  the same for the inputs
    activation     makes the activation layer

    forward: (N, *shape) -> logits (N, classes), of which softmax makes probabilities.
    """

    def __init__(self, shape: Sequence[int], classes: int, hidden: Sequence[int] = (512, 512), dropout: float = 0.5,
                 input_dropout: float = 0.2, activation: Callable[[], nn.Module] = nn.ReLU):
        super().__init__()
        sizes = [math.prod(shape), *hidden]
        layers = [nn.Flatten(), nn.Dropout(input_dropout)]
        for inputs, outputs in zip(sizes, hidden, strict=False):
            layers += [nn.Linear(inputs, outputs), activation(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], classes))

    def forward(self, x):
        return self.layers(x)

    def linears(self) -> list[nn.Linear]:
        """The linear layers, from the input to the output."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]


class ConvNet(nn.Module):
    """Convolutional network: blocks of two 3x3 convolutions, each with batch norm and ReLU, halved by max pooling after each block.

    shape      of one picture, (C, H, W)
    classes    number of classes
    channels   of each block's convolutions; after the last block each channel's mean over the picture goes on
    dropout    share of these means that is set to 0 in training

    Simonyan & Zisserman 2015 (pairs of 3x3 kernels), Ioffe & Szegedy 2015 (batch norm), Lin, Chen & Yan 2014 (the mean of each channel
    in place of large linear layers). forward: (N, C, H, W) -> logits (N, classes).
    """

    def __init__(self, shape: Sequence[int], classes: int, channels: Sequence[int] = (32, 64, 128), dropout: float = 0.5):
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < 2 ** (len(channels) - 1):
            raise ValueError(f"ConvNet takes pictures (C, H, W) of at least {2 ** (len(channels) - 1)} pixels a side, to be halved "
                             f"{len(channels) - 1} times; got shape {tuple(shape)}")
        layers, inputs = [], shape[0]
        for i, outputs in enumerate(channels):
            layers += [nn.MaxPool2d(2)] if i else []
            for _ in range(2):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(inputs, classes))

    def forward(self, x):
        return self.classifier(self.features(x))


def predict(model: nn.Module, x: np.ndarray, batch_size: int = 1000) -> np.ndarray:
    """Probabilities of the classes, (N, classes), for examples (N, *shape). The model works in eval mode and keeps its own."""
    training = model.training
    model.eval()
    with snn.no_grad():
        parts = [snn.softmax(model(snn.from_numpy(x[i:i + batch_size])), -1).numpy() for i in range(0, len(x), batch_size)]
    model.train(training)
    return np.concatenate(parts)
