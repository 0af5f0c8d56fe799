"""What in a picture made a network decide as it did: saliency, Grad-CAM, occlusion. All take a classifier, pictures x (N, C, H, W) and
the class (N,) that is asked about, and give maps (N, H, W) in which more means that it mattered more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import autograd, nn
from scratchnn.models.classifier import batches, beside, evaluating, predict


def saliency(model: nn.Module, x: np.ndarray, target: np.ndarray, batch_size: int | None = None) -> np.ndarray:
    """How much the class's logit changes with each pixel: the largest |derivative| of its channels.

    Simonyan, Vedaldi & Zisserman 2014, "Deep inside convolutional networks", section 3.
    """
    def explain(x, target):
        pixels = beside(model, x).requires_grad_()
        return autograd.grad(_score(model, pixels, target), pixels)[0].abs().max(1)[0]

    return _by_batches(model, explain, x, target, batch_size)


def grad_cam(model: nn.Module, layers: nn.Module | Sequence[nn.Module], x: np.ndarray, target: np.ndarray,
             batch_size: int | None = None) -> np.ndarray:
    """Which of a layer's activations speak for the class: max(0, sum over channels of mean gradient times activation), enlarged
    bilinearly to the size of the pictures.

    Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based localization", equations 1 and 2.
    The last convolutional layer knows best what there is, but in a small picture its units see nearly all of it. Of several
    layers (ConvNet.blocks()) the result is the mean of their maps, each with 1 as its largest value: early ones say where.
    Raises ValueError if a layer is not called just once or has other activations than (N, C, h, w).
    """
    layers, seen = [layers] if isinstance(layers, nn.Module) else list(layers), {}

    def explain(x, target):
        seen.clear()
        score = _score(model, beside(model, x).requires_grad_(), target)
        activations = [seen.get(i, []) for i in range(len(layers))]
        if any(len(a) != 1 or a[0].ndim != 4 for a in activations):
            raise ValueError("grad_cam: each layer must be called once and give activations (N, C, h, w), got "
                             f"{[[t.shape for t in a] for a in activations]}")
        activations = [a for a, in activations]
        maps = [_class_map(a, g, x.shape[2:]) for a, g in zip(activations, autograd.grad(score, activations), strict=True)]
        return maps[0] if len(maps) == 1 else sum(m / m.amax((1, 2), keepdim=True).clamp(1e-30) for m in maps) / len(maps)

    hooks = [layer.register_forward_hook(lambda module, args, output, i=i: seen.setdefault(i, []).append(output))
             for i, layer in enumerate(layers)]
    try:
        return _by_batches(model, explain, x, target, batch_size)
    finally:
        for hook in hooks:
            hook.remove()


def _class_map(activations, gradient, size):
    heat = (gradient.mean((2, 3), keepdim=True) * activations).sum(1, keepdim=True).relu()
    return F.interpolate(heat, size, mode="bilinear", align_corners=False)[:, 0]


def occlusion(model: nn.Module, x: np.ndarray, target: np.ndarray, size: int, stride: int | None = None) -> np.ndarray:
    """By how much the class's probability falls when a square of `size` pixels in the picture's mean colour covers a place: of each
    pixel, the mean over the squares that cover it, which lie `stride` (size // 3) pixels apart.

    Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks".
    """
    H, W = x.shape[2:]
    if not 1 <= size <= min(H, W):
        raise ValueError(f"occlusion: squares of {size} pixels do not fit into pictures of {H} x {W}")
    stride = max(1, size // 3) if stride is None else stride
    if not 1 <= stride <= size:
        raise ValueError(f"occlusion: the stride is 1 to {size}, so that every pixel is covered, got {stride}")
    corners = [(i, j) for i in _starts(H, size, stride) for j in _starts(W, size, stride)]
    before, heat = predict(model, x), np.zeros((len(x), H, W), x.dtype)
    covers = np.zeros((H, W), x.dtype)
    for i, j in corners:
        covers[i:i + size, j:j + size] += 1
    for n, picture in enumerate(x):
        covered = np.repeat(picture[None], len(corners), 0)
        for copy, (i, j) in zip(covered, corners, strict=True):
            copy[:, i:i + size, j:j + size] = picture.mean((1, 2), keepdims=True)
        for fall, (i, j) in zip(before[n, target[n]] - predict(model, covered)[:, target[n]], corners, strict=True):
            heat[n, i:i + size, j:j + size] += fall
    return heat / covers


def _starts(length, size, stride):
    """Where squares begin along one side: every `stride` pixels, and at the end."""
    return sorted({*range(0, length - size, stride), length - size})


def _score(model, x, target):
    """The sum of the pictures' logits of their classes; the pictures do not depend on each other."""
    return model(x)[np.arange(len(target)), target].sum()


def _by_batches(model, explain, x, target, batch_size):
    with evaluating(model), snn.enable_grad():
        return np.concatenate([explain(x[part], target[part]).detach().cpu().numpy() for part in batches(x, batch_size)])
