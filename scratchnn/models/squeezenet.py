"""SqueezeNet 1.0: 1,000 kinds of things told apart with 1.25 million weights, small enough to be looked into and turned around.

Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and < 0.5 MB model size" (arXiv 1602.07360). Layers and
names of parameters are those of torchvision's squeezenet1_0, so that its weights fit.

    net = SqueezeNet.pretrained()                             # or pretrained("squeezenet1_0.safetensors")
    probabilities = predict(net, picture("cat.png")[None])    # of models/classifier.py
    likeliest(probabilities[0], class_names())                # [("Egyptian Mau", 0.63), ...]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import scratchnn as snn
from kernels import config
from scratchnn import nn
from scratchnn.checkpoint import CheckpointError, load_weights
from scratchnn.data.dataset import DataError
from scratchnn.data.download import fetch
from scratchnn.data.files import read_bytes
from scratchnn.data.folder import read_picture
from scratchnn.nn.fusion import run_fused

SIZE = 227                                       # pixels a side that the published network takes; larger pictures work too
LEAST = 21                                       # pixels a side that leave one for the last pooling
CLASSES = 1000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)         # of the red, green and blue of ImageNet's pictures


class Fire(nn.Module):
    """A squeeze layer of few 1x1 kernels, whose outputs go to 1x1 and 3x3 kernels side by side.

    (N, inputs, H, W) -> (N, expand1x1 + expand3x3, H, W); `squeeze`, `expand1x1` and `expand3x3` are numbers of kernels.
    """

    def __init__(self, inputs: int, squeeze: int, expand1x1: int, expand3x3: int):
        super().__init__()
        self.squeeze, self.squeeze_activation = nn.Conv2d(inputs, squeeze, 1), nn.ReLU()
        self.expand1x1, self.expand1x1_activation = nn.Conv2d(squeeze, expand1x1, 1), nn.ReLU()
        self.expand3x3, self.expand3x3_activation = nn.Conv2d(squeeze, expand3x3, 3, padding=1), nn.ReLU()

    def forward(self, x):
        x = run_fused([self.squeeze, self.squeeze_activation], x)
        return snn.cat([run_fused([self.expand1x1, self.expand1x1_activation], x),
                        run_fused([self.expand3x3, self.expand3x3_activation], x)], 1)


class SqueezeNet(nn.Module):
    """A convolution, eight Fire modules with max pooling between them, a 1x1 convolution for the classes, the mean of each over the plane.

    num_classes  number of classes
    dropout      share of the last features that is set to 0 in training
    last_relu    logits below 0 become 0, as in the published network. A class whose logits fall below 0 everywhere learns no more

    forward: pictures (N, 3, H, W) in 0..1 -> logits (N, num_classes). They are normalised by ImageNet's mean and standard deviation on
    the way, so that a gradient is that of the picture itself. A forward hook on get_submodule("features.5") sees what that layer gives.
    """

    def __init__(self, num_classes: int = CLASSES, dropout: float = 0.5, last_relu: bool = True):
        super().__init__()
        self.options = {"num_classes": num_classes, "dropout": dropout, "last_relu": last_relu}
        self.register_buffer("mean", snn.tensor(MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", snn.tensor(STD).reshape(1, 3, 1, 1), persistent=False)
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 7, stride=2), nn.ReLU(),
            _pool(), Fire(96, 16, 64, 64), Fire(128, 16, 64, 64), Fire(128, 32, 128, 128),
            _pool(), Fire(256, 32, 128, 128), Fire(256, 48, 192, 192), Fire(384, 48, 192, 192), Fire(384, 64, 256, 256),
            _pool(), Fire(512, 64, 256, 256))
        for layer in self.features.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.classifier = nn.Sequential(nn.Dropout(dropout), _last(num_classes), nn.ReLU() if last_relu else nn.Identity(),
                                        nn.AdaptiveAvgPool2d(1))

    def forward(self, x):
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < LEAST:
            raise ValueError(f"SqueezeNet takes pictures (N, 3, H, W) of at least {LEAST} pixels a side, got {x.shape}")
        return self.classifier(self.features((x - self.mean) / self.std)).flatten(1)

    def blocks(self) -> list[nn.Module]:
        """The last layers of the two smallest sizes, of 1/8 and 1/16 of the picture: for Grad-CAM."""
        return [self.features[10], self.features[12]]

    @classmethod
    def pretrained(cls, path: str | Path | None = None, classes: int | None = None, dropout: float = 0.5) -> SqueezeNet:
        """The network trained on ImageNet, with weights from a .safetensors file, by default the one in $SCRATCHNN_DATA/squeezenet.

        classes    a new last layer without ReLU for so many classes of your own; then all the others are frozen, for fine-tuning
        Raises CheckpointError if the file is not sound or holds something else, FileNotFoundError.
        """
        path = config.DATA / "squeezenet" / "squeezenet1_0.safetensors" if path is None else Path(path)
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there, and has no public address. PyTorch's weights do: safetensors.torch.save_file("
                                    "torchvision.models.squeezenet1_0(weights='DEFAULT').state_dict(), 'squeezenet1_0.safetensors')")
        net, weights = cls(dropout=dropout, last_relu=classes is None), load_weights(path)
        try:
            net.load_state_dict(weights)
        except RuntimeError as fault:
            raise CheckpointError(f"{path}: not the weights of SqueezeNet 1.0: {fault}") from None
        if classes is not None:
            net.requires_grad_(False).classifier[1] = _last(classes)
            net.options["num_classes"] = classes
        return net


def _last(classes):
    layer = nn.Conv2d(512, classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


def _pool():
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def picture(path: str | Path, size: int = SIZE) -> np.ndarray:
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


def class_names(path: str | Path | None = None) -> tuple[str, ...]:
    """Names of ImageNet's 1,000 classes by number, from a JSON list, by default the one in $SCRATCHNN_DATA/squeezenet.

    Raises DataError if the file holds something else, DownloadError if it is neither there nor to be had.
    """
    path = fetch("imagenet-names") / "imagenet-simple-labels.json" if path is None else path
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
