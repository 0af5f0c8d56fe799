"""Feed-forward classifiers: networks that say which class an example belongs to."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import scratchnn as snn
from scratchnn import checkpoint, nn
from scratchnn.data import Augment, DataSet
from scratchnn.models.googlenet import GoogLeNet
from scratchnn.models.squeezenet import SqueezeNet
from scratchnn.models.vgg import VGG16
from scratchnn.random import Generator
from scratchnn.tensor import Tensor


class MLP(nn.Module):
    """Multilayer perceptron: linear layers with an activation and dropout after each but the last.

    shape          of one example, (C, H, W) or (D,)
    classes        number of classes
    hidden         units of each hidden layer
    dropout        share of each hidden layer's outputs that is set to 0 in training (Srivastava et al. 2014)
    input_dropout  the same for the inputs
    activation     makes the activation layer; one of nn's, or its name

    forward: (N, *shape) -> logits (N, classes), of which softmax makes probabilities.
    """

    def __init__(self, shape: Sequence[int], classes: int, hidden: Sequence[int] = (512, 512), dropout: float = 0.5,
                 input_dropout: float = 0.2, activation: str | Callable[[], nn.Module] = nn.ReLU):
        super().__init__()
        activation = getattr(nn, activation) if isinstance(activation, str) else activation
        self.options = {"shape": list(shape), "classes": classes, "hidden": list(hidden), "dropout": dropout,
                        "input_dropout": input_dropout, "activation": activation.__name__}
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
        self.options = {"shape": list(shape), "classes": classes, "channels": list(channels), "dropout": dropout}
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

    def embed(self, x):
        """(N, C, H, W) -> (N, channels): each channel's mean over the picture, all that the last layer sees."""
        return self.features(x).mean((2, 3))

    def blocks(self) -> list[nn.Module]:
        """The last layer of each block."""
        return [layer for layer in self.features if isinstance(layer, nn.ReLU)][1::2]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; afterwards in the mode it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def beside(model: nn.Module, x: np.ndarray) -> Tensor:
    """An array of the host as a Tensor on the device where the model's parameters lie, if it has any."""
    first = next(model.parameters(), None)
    return Tensor(x) if first is None else Tensor(x).to(first.device)


def batches(x: np.ndarray, batch_size: int | None = None) -> list[slice]:
    """Slices of `batch_size` examples, by default of so many that a large network's activations of them take a few hundred MB."""
    batch_size = batch_size or max(1, min(1000, (1 << 22) // max(1, math.prod(x.shape[1:]))))
    return [slice(i, i + batch_size) for i in range(0, len(x), batch_size)]


def predict(model: nn.Module, x: np.ndarray, batch_size: int | None = None, *, augment: Augment | None = None,
            copies: int = 0) -> np.ndarray:
    """Probabilities of the classes, (N, classes), for examples (N, *shape). The model works in eval mode and keeps its own.

    augment, copies   test-time averaging: the mean over the examples themselves and so many copies that `augment` changed, the same ones
                      whenever the batches are the same. Raises ValueError for copies without augment
    """
    if copies and augment is None:
        raise ValueError(f"predict: {copies} copies need an augment that changes them")
    generator, parts = Generator(0), []
    with evaluating(model), snn.no_grad():
        for part in batches(x, batch_size):
            seen = [x[part]]
            seen += [augment(seen[0], generator) for _ in range(copies)]
            parts.append(np.mean([snn.softmax(model(beside(model, pictures)), -1).cpu().numpy() for pictures in seen], 0))
    return np.concatenate(parts)


NETWORKS = {"squeezenet": SqueezeNet, "vgg16": VGG16, "googlenet": GoogLeNet}        # whose weights for ImageNet are published


# ---- files ----------------------------------------------------------------------------------------------------------------

KINDS = {"MLP": MLP, "ConvNet": ConvNet, "SqueezeNet": SqueezeNet}


class SavedClassifier(NamedTuple):
    """What a file of weights holds: shape is that of the examples that were learnt from, border the mean brightness of their edges, NaN
    if they were no pictures."""

    model: nn.Module
    classes: Sequence[str]
    shape: tuple[int, ...]
    border: float


def save_classifier(path: str | Path, model: MLP | ConvNet | SqueezeNet, examples: DataSet) -> None:
    """Write weights as checkpoint.save_weights does, with what `load_classifier` needs beside them. Raises ValueError for an MLP whose
    activation is none of nn's, since a file cannot hold it."""
    if not hasattr(nn, model.options.get("activation", "ReLU")):
        raise ValueError(f"an activation {model.options['activation']!r} cannot be saved, only those of nn can")
    about = {"kind": type(model).__name__, "options": model.options, "classes": list(examples.classes), "shape": list(examples.shape),
             "border": float(edges(examples.train_x).mean()) if len(examples.shape) == 3 else math.nan}
    checkpoint.save_model(path, "classifier", model, about)


def load_classifier(path: str | Path) -> SavedClassifier:
    """What `save_classifier` wrote. Raises CheckpointError, FileNotFoundError."""
    return checkpoint.load_model(path, "classifier", lambda about: KINDS[about["kind"]](**about["options"]), lambda model, about:
                                 SavedClassifier(model, [str(name) for name in about["classes"]], tuple(about["shape"]),
                                                 float(about["border"])))


def like_learnt(x: np.ndarray, border: float) -> np.ndarray:
    """Grey pictures (N, 1, H, W) with light and dark exchanged where their edges are far from `border`: dark ink on light paper looks
    like MNIST's bright ink on black. Colour pictures stay as they are."""
    other = (np.abs(edges(x) - border) > 0.5) & (x.shape[1] == 1)
    return np.where(other[:, None, None, None], 1 - x, x)


def edges(x: np.ndarray) -> np.ndarray:
    """The mean brightness (N,) of the edges of pictures (N, C, H, W)."""
    return np.concatenate([x[:, :, (0, -1)].reshape(len(x), -1), x[:, :, :, (0, -1)].reshape(len(x), -1)], 1).mean(1)
