"""SqueezeNet 1.0: 1,000 kinds of things told apart with 1.25 million weights, small enough to be looked into and turned around.

Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and < 0.5 MB model size" (arXiv 1602.07360). Layers and
names of parameters are those of torchvision's squeezenet1_0, so that its weights fit.
"""

from __future__ import annotations

from pathlib import Path

import scratchnn as snn
from scratchnn import nn
from scratchnn.models.imagenet import CLASSES, ImageNetwork, draw_weights
from scratchnn.nn.fusion import run_fused


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


class SqueezeNet(ImageNetwork):
    """A convolution, eight Fire modules with max pooling between them, a 1x1 convolution for the classes, the mean of each over the plane.

    num_classes  number of classes
    dropout      share of the last features that is set to 0 in training
    last_relu    logits below 0 become 0, as in the published network. A class whose logits fall below 0 everywhere learns no more

    forward: pictures (N, 3, H, W) in 0..1 -> logits (N, num_classes). A forward hook on get_submodule("features.5") sees what that layer
    gives.
    """

    size, least, published = 227, 21, "squeezenet1_0"

    def __init__(self, num_classes: int = CLASSES, dropout: float = 0.5, last_relu: bool = True):
        super().__init__()
        self.options = {"num_classes": num_classes, "dropout": dropout, "last_relu": last_relu}
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 7, stride=2), nn.ReLU(),
            _pool(), Fire(96, 16, 64, 64), Fire(128, 16, 64, 64), Fire(128, 32, 128, 128),
            _pool(), Fire(256, 32, 128, 128), Fire(256, 48, 192, 192), Fire(384, 48, 192, 192), Fire(384, 64, 256, 256),
            _pool(), Fire(512, 64, 256, 256))
        draw_weights(self.features)
        self.classifier = nn.Sequential(nn.Dropout(dropout), _last(num_classes), nn.ReLU() if last_relu else nn.Identity(),
                                        nn.AdaptiveAvgPool2d(1))

    def forward(self, x):
        return self.classifier(self.features(self.normalised(x))).flatten(1)

    def blocks(self) -> list[nn.Module]:
        """The last layers of the two smallest sizes, of 1/8 and 1/16 of the picture: for Grad-CAM."""
        return [self.features[10], self.features[12]]

    @classmethod
    def pretrained(cls, path: str | Path | None = None, classes: int | None = None, dropout: float = 0.5) -> SqueezeNet:
        """As ImageNetwork.pretrained, by default with the weights in $SCRATCHNN_DATA/squeezenet.

        classes    a new last layer without ReLU for so many classes of your own; then all the others are frozen, for fine-tuning
        Raises CheckpointError if the file is not sound or holds something else, FileNotFoundError.
        """
        net = super().pretrained(path, dropout=dropout, last_relu=classes is None)
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
