"""VGG-16: what depth alone does, thirteen convolutions of 3x3 kernels and three linear layers, 138 million weights in all.

Simonyan & Zisserman 2015, "Very deep convolutional networks for large-scale image recognition" (arXiv 1409.1556), configuration D. Layers
and names of parameters are those of torchvision's vgg16, so that its weights fit.
"""

from __future__ import annotations

from scratchnn import nn
from scratchnn.models.imagenet import CLASSES, ImageNetwork, draw_weights

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))       # kernels of each convolution, convolutions up to the next pooling
PLANE = 7                                                        # pixels a side that the linear layers see, whatever the picture's size


class VGG16(ImageNetwork):
    """Five blocks of convolutions, each halved by max pooling, then two hidden linear layers and one for the classes.

    num_classes  number of classes
    dropout      share of each hidden layer's outputs that is set to 0 in training
    hidden       units of each hidden layer, which has most of the weights: 4,096 in the published network

    forward: pictures (N, 3, H, W) in 0..1 -> logits (N, num_classes). A forward hook on get_submodule("features.28") sees what that layer
    gives.
    """

    size, least, published = 224, 32, "vgg16"

    def __init__(self, num_classes: int = CLASSES, dropout: float = 0.5, hidden: int = 4096):
        super().__init__()
        layers, inputs = [], 3
        for outputs, count in BLOCKS:
            for _ in range(count):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features, self.avgpool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(PLANE)
        self.classifier = nn.Sequential(nn.Linear(inputs * PLANE * PLANE, hidden), nn.ReLU(), nn.Dropout(dropout),
                                        nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, num_classes))
        draw_weights(self)

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(self.normalised(x))).flatten(1))

    def blocks(self) -> list[nn.Module]:
        """The last layers of the two smallest sizes before the last pooling, of 1/8 and 1/16 of the picture: for Grad-CAM."""
        return [self.features[22], self.features[29]]
