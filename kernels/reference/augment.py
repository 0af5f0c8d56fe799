"""Pictures changed at random, one after the other."""

import numpy as np
from scipy.interpolate import BSpline

from kernels.reference.random import blocks, normal, uniform
from kernels.reference.warp import warp
from kernels.shapes import picture_size, spline_nodes


def augment_blocks(distortion, size):
    """Philox blocks for each picture of a result of size (h, w): three for what is drawn once, then two words for each node."""
    nodes = [spline_nodes(n, distortion.spacing) for n in size]
    return 3 + (blocks(2 * nodes[0] * nodes[1]) if distortion.elastic else 0)


def augment(x, seed, offset, distortion, size=None):
    """Pictures (N, C, H, W) in 0..1, each shifted, turned, scaled, sheared, bent, flipped, cut out and brightened at random
    -> (N, C, h, w), size = (h, w). Picture n uses the augment_blocks(distortion, size) blocks from offset + n * that on."""
    size, source = picture_size("augment", x, size), np.array(x.shape[2:])
    if np.any(size > source) or min(size) < 0:
        raise ValueError(f"augment: a piece of {size} pixels cannot be cut out of pictures of {tuple(source)}")
    d, each = distortion, augment_blocks(distortion, size)
    out = np.empty((*x.shape[:2], *size), x.dtype)
    for n in range(len(x)):
        u = uniform(seed, offset + n * each, (12,), np.float32).astype(np.float64)
        strength = 1.0 if u[9] < d.share else 0.0
        shift, rotation, shear, scale, brightness = strength * np.array([d.shift, d.rotation, d.shear, d.scale, d.brightness])
        shift, (angle, slant, log_size) = shift * (2 * u[:2] - 1), np.array([rotation, shear, scale]) * (2 * u[2:5] - 1)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        mirror = np.diag([1, -1 if u[5] < d.flip else 1])
        matrix = mirror @ np.array([[1, 0], [slant, 1]]) @ turn * np.exp(log_size)
        origin = (source - size) * (u[6:8] - 0.5) - matrix @ shift
        field = _field(seed, offset + n * each + 3, strength * d.elastic, d, size)
        picture = warp(x[n:n + 1], np.column_stack([matrix, origin])[None], field, size)
        out[n] = np.minimum(1, picture * (1 + brightness * (2 * u[8] - 1))) if d.brightness else picture
    return out


def _field(seed, offset, amount, d, size):
    """Displacements (1, 2, h, w) along y and x of standard deviation `amount`, a cubic B-spline with random coefficients; None
    without."""
    if not amount:
        return None
    ky, kx = (spline_nodes(n, d.spacing) for n in size)
    nodes = normal(seed, offset, (ky * kx, 2), np.float32).T.reshape(2, ky, kx)
    down, right = (BSpline.design_matrix(np.arange(n) / d.spacing, np.arange(-3, k + 1.0), 3).toarray()
                   for n, k in zip(size, (ky, kx), strict=True))
    return 2 * amount * (down @ nodes @ right.T)[None]
