"""GoogLeNet: kernels of several sizes side by side in nine modules, each behind a few 1x1 kernels that keep it cheap; 6.6 million weights.

Szegedy et al. 2015, "Going deeper with convolutions" (arXiv 1409.4842). Layers and names of parameters are those of torchvision's
googlenet, so that its weights fit: with batch norm after each convolution, and with 3x3 kernels where the paper has 5x5, a mistake that
the published weights were trained with (https://github.com/pytorch/vision/issues/906). The two auxiliary classifiers, which only help
training, are left out.
"""

from __future__ import annotations

from typing import Any

import scratchnn as snn
from scratchnn import nn
from scratchnn.models.imagenet import CLASSES, ImageNetwork
from scratchnn.nn.fusion import run_fused


class BasicConv2d(nn.Module):
    """A convolution without bias, batch norm and ReLU. (N, inputs, H, W) -> (N, outputs, OH, OW); `options` are Conv2d's."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, **options: Any):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, bias=False, **options)
        self.bn, self.relu = nn.BatchNorm2d(outputs, eps=0.001), nn.ReLU()

    def forward(self, x):
        return run_fused([self.conv, self.bn, self.relu], x)


class Inception(nn.Module):
    """1x1 kernels, 3x3 kernels twice, and max pooling before 1x1 kernels, side by side.

    (N, inputs, H, W) -> (N, ones + threes + fives + pooled, H, W). The numbers of kernels are those of the paper's table 1; reduce3 and
    reduce5 are of the 1x1 kernels before `threes` and before `fives`, which are of 3x3 pixels too, as in the published network.
    """

    def __init__(self, inputs: int, ones: int, reduce3: int, threes: int, reduce5: int, fives: int, pooled: int):
        super().__init__()
        self.branch1 = BasicConv2d(inputs, ones, 1)
        self.branch2 = nn.Sequential(BasicConv2d(inputs, reduce3, 1), BasicConv2d(reduce3, threes, 3, padding=1))
        self.branch3 = nn.Sequential(BasicConv2d(inputs, reduce5, 1), BasicConv2d(reduce5, fives, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), BasicConv2d(inputs, pooled, 1))

    def forward(self, x):
        return snn.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(ImageNetwork):
    """Three convolutions, nine Inception modules with max pooling between them, the mean of each channel, a linear layer for the classes.

    num_classes  number of classes
    dropout      share of the means that is set to 0 in training

    forward: pictures (N, 3, H, W) in 0..1 -> logits (N, num_classes). They are normalised to -1..1, as the published weights want it. A
    forward hook on get_submodule("inception4c") sees what that module gives, on "inception4c.branch2" one of its branches.
    """

    size, least, published, left_out = 224, 15, "googlenet", ("aux1.", "aux2.")

    def __init__(self, num_classes: int = CLASSES, dropout: float = 0.2):
        super().__init__(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        self.conv1, self.maxpool1 = BasicConv2d(3, 64, 7, stride=2, padding=3), nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2, self.conv3 = BasicConv2d(64, 64, 1), BasicConv2d(64, 192, 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.avgpool, self.flatten, self.dropout = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x):
        return run_fused(list(self.children()), self.normalised(x))

    def blocks(self) -> list[nn.Module]:
        """The last modules of the two smallest sizes, of 1/16 and 1/32 of the picture: for Grad-CAM."""
        return [self.inception4e, self.inception5b]
