"""LayerNorm, GroupNorm, and BatchNorm and InstanceNorm of features, sequences (1d) and images (2d)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratchnn.nn import functional as F
from scratchnn.nn import init
from scratchnn.nn.module import Module
from scratchnn.nn.parameter import empty_parameter
from scratchnn.tensor import Tensor


class _Affine(Module):
    """What the normalisations share: a weight that starts at 1 and a bias that starts at 0, or None in their place."""

    def _register_affine(self, shape, weight, bias, dtype):
        for name, present in (("weight", weight), ("bias", weight and bias)):
            self.register_parameter(name, empty_parameter(*shape, dtype=dtype) if present else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class LayerNorm(_Affine):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias over the last dimensions, which have shape normalized_shape.

    Ba et al. 2016, "Layer normalization". The variance is the biased one. weight (ones) and bias (zeros), of shape
    normalized_shape, are there if elementwise_affine; bias=False leaves out the bias. Shape: (*, normalized_shape) -> the same.
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
                 *, dtype: Any = None):
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self._register_affine(self.normalized_shape, elementwise_affine, bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")


class GroupNorm(_Affine):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias for num_groups groups of neighbouring channels in each example.

    Wu and He 2018, "Group normalization". The variance is the biased one. weight (ones) and bias (zeros), of shape (num_channels,),
    are there if affine; bias=False leaves out the bias. Shape: (N, num_channels, *) -> the same. ValueError if num_groups does not
    divide num_channels.
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, *, bias: bool = True,
                 dtype: Any = None):
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self._register_affine((num_channels,), affine, bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"


class _RunningNorm(_Affine):
    """What batch and instance normalisation share: settings, running statistics, and which dimensions an input may have."""

    dimensions: tuple[int, ...]

    def __init__(self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool, bias: bool,
                 dtype: Any):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._register_affine((num_features,), affine, bias, dtype)
        statistics = [np.empty(num_features, np.float32 if dtype is None else dtype) for _ in range(2)] + [np.empty((), np.int64)]
        for name, values in zip(("running_mean", "running_var", "num_batches_tracked"), statistics, strict=True):
            self.register_buffer(name, Tensor(values) if track_running_stats else None)
        self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Set running means and the count of batches to 0, running variances to 1."""
        if self.track_running_stats:
            for buffer, value in ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)):
                buffer.array[...] = value
                buffer.bump_version()

    def _check_dimensions(self, input):
        if input.ndim not in self.dimensions:
            raise ValueError(f"expected {' or '.join(f'{d}D' for d in self.dimensions)} input (got {input.ndim}D input)")

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, bias={self.bias is not None}, "
                f"track_running_stats={self.track_running_stats}")


class _BatchNorm(_RunningNorm):
    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, *, bias: bool = True, dtype: Any = None):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias, dtype)

    def forward(self, input: Tensor, activation: str | None = None, negative_slope: float = 0.01) -> Tensor:
        self._check_dimensions(input)
        momentum = self.momentum
        if self.training and self.track_running_stats:
            self.num_batches_tracked.array += 1
            self.num_batches_tracked.bump_version()
            if momentum is None:
                momentum = 1 / self.num_batches_tracked.item()
        training = self.training or not self.track_running_stats
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, training, momentum, self.eps,
                            activation=activation, negative_slope=negative_slope)


class BatchNorm1d(_BatchNorm):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias for each feature, with the mean and biased variance of the batch.

    Ioffe and Szegedy 2015, "Batch normalization". In training running_mean and running_var (unbiased) move towards the batch's by
    `momentum` of the way; momentum=None keeps the mean over all batches. In evaluation they are used instead, unless
    track_running_stats is False: then they are None, and the batch's are used always. weight (ones) and bias (zeros) are there if
    affine; bias=False leaves out the bias. forward(input, activation, negative_slope) takes an activation along, as F.batch_norm does.
    Shape: (N, num_features) or (N, num_features, L) -> the same. ValueError for other shapes and, in training, for one value per feature.
    """

    dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    """As BatchNorm1d, for images: (N, num_features, H, W) -> the same."""

    dimensions = (4,)


class _InstanceNorm(_RunningNorm):
    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
                 track_running_stats: bool = False, *, bias: bool = True, dtype: Any = None):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        self._check_dimensions(input)
        if input.ndim < max(self.dimensions):
            return self.forward(input.unsqueeze(0)).squeeze(0)
        if input.shape[1] != self.num_features:
            raise ValueError(f"expected input's size at dim=1 to match num_features ({self.num_features}), but got: {input.shape[1]}.")
        own = self.training or not self.track_running_stats
        return F.instance_norm(input, self.running_mean, self.running_var, self.weight, self.bias, own, self.momentum, self.eps)


class InstanceNorm1d(_InstanceNorm):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias for each channel of each example, with its own mean and biased variance.

    Ulyanov et al. 2016, "Instance normalization". weight (ones) and bias (zeros) are there if affine; bias=False leaves out the bias.
    With track_running_stats, running_mean and running_var (unbiased) move in training towards the mean of the examples' by `momentum`
    of the way, and are used in evaluation. Shape: (N, num_features, L) or (num_features, L) -> the same. ValueError for other shapes
    and channels of one number.
    """

    dimensions = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """As InstanceNorm1d, for images: (N, num_features, H, W) or (num_features, H, W) -> the same."""

    dimensions = (3, 4)
