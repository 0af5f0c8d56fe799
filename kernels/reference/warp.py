"""Pictures sampled at other positions, and fields smoothed, by scipy.ndimage."""

import numpy as np
from scipy import ndimage


def warp(x, affine, displacement=None, size=None):
    """Pictures x (N, C, H, W) sampled bilinearly -> (N, C, h, w), `size` being (h, w), by default (H, W).

    Pixel (i, j) of picture n is the source at affine[n] (i, j, 1) + displacement[n, :, i, j], (2, 3) times (3,) plus (2,): along y,
    then along x, in pixels from the centre, both in the source and in the result. Zero outside the source and at positions that
    are not finite.
    """
    source, size = np.array(x.shape[2:]), tuple(size or x.shape[2:])
    i, j = np.indices(size) - (np.reshape(size, (2, 1, 1)) - 1) / 2
    out = np.empty((*x.shape[:2], *size), x.dtype)
    for n in range(len(x)):
        a = affine[n].astype(np.float64)[:, :, None, None]
        at = a[:, 0] * i + a[:, 1] * j + a[:, 2] + (source - 1).reshape(2, 1, 1) / 2           # (2, h, w)
        if displacement is not None:
            at = at + displacement[n]
        at[:, ~np.isfinite(at).all(0)] = -2                                            # outside
        for c in range(x.shape[1]):
            out[n, c] = ndimage.map_coordinates(x[n, c], at, order=1, mode="grid-constant")
    return out


def gaussian_blur(x, sigma):
    """The last two axes of x (..., H, W) convolved with a Gaussian of standard deviation `sigma`, cut off at 4 sigma; zero outside."""
    if not 0 < sigma < np.inf:
        raise ValueError(f"gaussian_blur: sigma must be above 0 and finite, got {sigma}")
    return ndimage.gaussian_filter(x, sigma, axes=(-2, -1), mode="constant", truncate=4)
