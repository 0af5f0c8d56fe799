"""What the networks that learnt from ImageNet's 1,000 kinds of things share: how they take pictures, read weights and name what they see.

    net = SqueezeNet.pretrained()                                       # or pretrained("squeezenet1_0.safetensors"), VGG16, GoogLeNet
    probabilities = predict(net, picture("cat.png", net.size)[None])    # of models/classifier.py
    likeliest(probabilities[0], class_names())                          # [("Egyptian Mau", 0.63), ...]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

import scratchnn as snn
from kernels import config
from scratchnn import nn
from scratchnn.checkpoint import CheckpointError, load_weights
from scratchnn.data.dataset import DataError
from scratchnn.data.download import fetch
from scratchnn.data.files import read_bytes
from scratchnn.data.folder import read_picture
from scratchnn.tensor import Tensor

CLASSES, NAMES = 1000, "imagenet-simple-labels.json"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)         # of the red, green and blue of ImageNet's pictures


class ImageNetwork(nn.Module):
    """A network for colour pictures that has the layers of one of torchvision's, under the same names, so that its weights fit.

    mean, std   of red, green and blue, by which pictures in 0..1 are normalised on the way; so a gradient is that of the picture itself
    size        pixels a side of the pictures that the published weights were trained with; others work too
    least       pixels a side that leave one for the last pooling
    published   torchvision's name
    left_out    beginnings of names in a file of weights that this network has no use for
    """

    size: int
    least: int
    published: str
    left_out: tuple[str, ...] = ()

    def __init__(self, mean: Sequence[float] = MEAN, std: Sequence[float] = STD):
        super().__init__()
        self.register_buffer("mean", snn.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", snn.tensor(std).reshape(1, 3, 1, 1), persistent=False)

    def normalised(self, x: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) as the layers take them. Raises ValueError for another shape."""
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < self.least:
            raise ValueError(f"{type(self).__name__} takes pictures (N, 3, H, W) of at least {self.least} pixels a side, got {x.shape}")
        return (x - self.mean) / self.std

    @classmethod
    def pretrained(cls, path: str | Path | None = None, **options: Any) -> Self:
        """The network trained on ImageNet, with weights from a .safetensors file, by default the one in $SCRATCHNN_DATA, in a folder with
        the network's name in small letters. `options` are the constructor's.

        Raises CheckpointError if the file is not sound or holds something else, FileNotFoundError.
        """
        path = config.DATA / cls.__name__.lower() / f"{cls.published}.safetensors" if path is None else Path(path)
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there. PyTorch's weights make it: safetensors.torch.save_file("
                                    f"torchvision.models.{cls.published}(weights='DEFAULT').state_dict(), '{cls.published}.safetensors')")
        weights, net = load_weights(path), cls(**options)
        try:
            net.load_state_dict({name: value for name, value in weights.items() if not name.startswith(cls.left_out)})
        except RuntimeError as fault:
            raise CheckpointError(f"{path}: not the weights of {cls.__name__}, torchvision's {cls.published}: {fault}") from None
        return net


def draw_weights(module: nn.Module) -> None:
    """First values for layers that ReLU follow: weights by He et al. 2015, so that what passes keeps its size, biases 0."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def picture(path: str | Path, size: int) -> np.ndarray:
    """The centre of a picture's file as (3, size, size) float32 in 0..1: cut to a square of whole pixels, then resized bilinearly.

    The weights mind how it is cut, to half a pixel: `read_picture` scales otherwise. Raises DataError naming file and fault.
    """
    from PIL import Image
    pixels = read_picture(path)
    side = min(pixels.shape[1:])
    top, left = ((n - side) // 2 for n in pixels.shape[1:])
    square = Image.fromarray(np.ascontiguousarray(pixels[:, top:top + side, left:left + side].transpose(1, 2, 0)))
    resized = np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(resized.transpose(2, 0, 1), np.float32) / np.float32(255)


def class_names(path: str | Path | None = None, weights: str | Path | None = None) -> tuple[str, ...]:
    """Names of ImageNet's 1,000 classes by number, from a JSON list: `path`, or imagenet-simple-labels.json beside a file of weights, if it
    is there, or the one in $SCRATCHNN_DATA/squeezenet.

    Raises DataError if the file holds something else, DownloadError if it is neither there nor to be had.
    """
    if path is None:
        path = Path(weights).with_name(NAMES) if weights else Path()
        path = path if path.is_file() else fetch("imagenet-names") / NAMES
    try:
        names = json.loads(read_bytes(path, 1 << 20))
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{path}: not a JSON file: {fault}") from None
    if not isinstance(names, list) or len(names) != CLASSES or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: not a list of {CLASSES} names")
    return tuple(names)


def likeliest(probabilities: np.ndarray, names: Sequence[str], count: int = 5) -> list[tuple[str, float]]:
    """The classes with the largest of (classes,) probabilities, largest first: [(name, probability)]."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(names[i], float(probabilities[i])) for i in order]
