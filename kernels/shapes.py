"""Shapes and settings that every wing works out and checks alike."""

from typing import NamedTuple

import numpy as np


def conv_size(name, x_shape, w_shape, stride, padding, dilation, groups):
    """(OH, OW) of a convolution; ValueError with the numbers given and the rule if the shapes do not fit."""
    if len(x_shape) != 4 or len(w_shape) != 4:
        raise ValueError(f"{name}: x must have shape (N, C, H, W) and weight (O, C / groups, KH, KW), got {x_shape} and {w_shape}")
    if x_shape[1] != w_shape[1] * groups or w_shape[0] % groups:
        raise ValueError(f"{name}: weight {w_shape} with groups={groups} takes {w_shape[1] * groups} channels and its {w_shape[0]} outputs "
                         f"must be divisible by groups; x has shape {x_shape}")
    if min(stride) < 1 or min(dilation) < 1 or min(padding) < 0 or groups < 1:
        raise ValueError(f"{name}: stride {stride}, dilation {dilation} and groups {groups} must be at least 1, and padding {padding} "
                         "at least 0")
    size = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1
                 for n, k, s, p, d in zip(x_shape[2:], w_shape[2:], stride, padding, dilation, strict=True))
    if min(size) < 1 or min(w_shape[2:]) < 1:
        padded = tuple(n + 2 * p for n, p in zip(x_shape[2:], padding, strict=True))
        reach = tuple(d * (k - 1) + 1 for k, d in zip(w_shape[2:], dilation, strict=True))
        raise ValueError(f"{name}: the kernel reaches over {reach} pixels (size {tuple(w_shape[2:])}, dilation {dilation}), but the padded "
                         f"input has {padded}; it must not be smaller")
    return size


def picture_size(name, x, size):
    """(h, w) of what becomes of the pictures x, by default as large as they are; ValueError or TypeError if they are none."""
    if x.ndim != 4:
        raise ValueError(f"{name}: pictures must have shape (N, C, H, W), got {x.shape}")
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: pictures must be float32 or float64, got {x.dtype}")
    return x.shape[2:] if size is None else tuple(size)


class Distortion(NamedTuple):
    """How far `augment` may change a picture. What is drawn once for a picture is uniform between the limits."""

    shift: float = 0            # pixels, in both directions
    rotation: float = 0         # radians
    scale: float = 0            # of the logarithm of the size
    shear: float = 0            # tangent of the slant
    flip: float = 0             # probability of left for right
    brightness: float = 0       # the factor lies between 1 - brightness and 1 + brightness
    elastic: float = 0          # standard deviation of the displacements, in pixels
    spacing: float = 8          # pixels from one independent displacement to the next
    share: float = 1            # of the pictures; the others are cut out and flipped alone


def spline_nodes(pixels, spacing):
    """Nodes of the cubic B-spline over so many pixels: four are around every pixel."""
    return int((pixels - 1) // spacing) + 4


def recurrent_shapes(name, gates, x, state, weight, bias, lengths):
    """(T, B, H) of a recurrent network; ValueError with the rule if the shapes do not fit, TypeError if the dtypes differ."""
    H, B = weight.shape[-1], x.shape[1] if x.ndim == 3 else 0
    fits = x.ndim == 3 and x.shape[2] == gates * H and weight.shape == (gates * H, H) and all(s.shape == (B, H) for s in state)
    if not fits or (bias is not None and bias.shape != (gates * H,)) or (lengths is not None and lengths.shape != (B,)):
        more = "".join(f", {label} {a.shape}" for label, a in (("bias", bias), ("lengths", lengths)) if a is not None)
        raise ValueError(f"{name}: input products {x.shape}, state {', '.join(str(s.shape) for s in state)}, weight {weight.shape}{more} "
                         f"do not fit: they must be (T, B, {gates} H), (B, H), ({gates} H, H), bias ({gates} H,) and lengths (B,)")
    dtypes = {a.dtype for a in (x, *state, weight, bias) if a is not None}
    if len(dtypes) > 1 or x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: input products, state, weight and bias must all be float32 or all float64, got "
                        f"{', '.join(sorted(map(str, dtypes)))}")
    return x.shape[0], B, H
