"""Pictures sampled at other positions, and fields smoothed. Names and formulas: kernels/cpu/warp.py."""


import numpy as np

from kernels.cuda.array import as_device, blocks, contiguous, empty, full, to_device
from kernels.cuda.compiler import cuda, device, kernel, typed
from kernels.cuda.matmul import matmul
from kernels.shapes import check_blur, gaussian_weights, picture_size


@device
def pixel(x, start, y, column, H, W):
    """The pixel at (y, column) of the plane that starts at x[start], zero outside."""
    return x[start + y * W + column] if 0 <= y < H and 0 <= column < W else typed(x, 0)


@kernel(doubles=True, blocks=4)
def warp_kernel(x, affine, displacement, bent, out, C, H, W, h, w, n):
    """A thread for each place of a picture of the result, all channels of it. Positions are float64, as on the CPU."""
    for at in range(cuda.grid(1), n, cuda.gridsize(1)):
        picture, i, j = at // w // h, at // w % h, at % w
        a, down, right = 6 * picture, i - 0.5 * (h - 1), j - 0.5 * (w - 1)
        y = affine[a] * down + affine[a + 1] * right + affine[a + 2] + 0.5 * (H - 1)
        z = affine[a + 3] * down + affine[a + 4] * right + affine[a + 5] + 0.5 * (W - 1)
        if bent:
            y += displacement[(2 * picture * h + i) * w + j]
            z += displacement[((2 * picture + 1) * h + i) * w + j]
        inside = -1 < y < H and -1 < z < W                                 # not NaN
        top, left = (np.int64(y + 1) - 1, np.int64(z + 1) - 1) if inside else (0, 0)           # the floor of a number above -1
        below, beside = typed(x, y - top), typed(x, z - left)
        for c in range(C):
            plane, value = (picture * C + c) * H * W, typed(x, 0)
            if inside:
                nw, ne = pixel(x, plane, top, left, H, W), pixel(x, plane, top, left + 1, H, W)
                sw, se = pixel(x, plane, top + 1, left, H, W), pixel(x, plane, top + 1, left + 1, H, W)
                north, south = nw + beside * (ne - nw), sw + beside * (se - sw)
                value = north + below * (south - north)
            out[((picture * C + c) * h + i) * w + j] = value


def warp(x, affine, displacement=None, size=None):
    """Pictures x (N, C, H, W) sampled bilinearly at moved positions -> (N, C, h, w), by default of the same size.

    Pixel (i, j) of picture n of the result is the source at (y, x) = affine[n] (i, j, 1) + displacement[n, :, i, j], both counted from
    the centres of their pictures; kernels/cpu/warp.py explains the arguments. Outside the source everything is 0.
    Bytes: a pixel written for four read, mostly from the caches; 8 float64 FLOPs a place and 6 a pixel.
    """
    as_device("warp", x, affine, displacement)
    (h, w), (N, C, H, W) = picture_size("warp", x, size), x.shape
    if affine.shape != (N, 2, 3):
        raise ValueError(f"warp: affine has shape {affine.shape}, {(N, 2, 3)} fits {N} pictures")
    if displacement is not None and displacement.shape != (N, 2, h, w):
        raise ValueError(f"warp: displacement has shape {displacement.shape}, {(N, 2, h, w)} fits a result of {h} x {w} pixels")
    out, bent = empty((N, C, h, w), x.dtype), int(displacement is not None)
    field = contiguous(displacement.astype(x.dtype, copy=False)) if bent else full(1, 0, x.dtype)
    warp_kernel[blocks(N * h * w), 256](contiguous(x), contiguous(affine.astype(np.float64, copy=False)), field, bent, out, C, H, W, h, w,
                                        N * h * w)
    return out


def gaussian_blur(x, sigma):
    """Each plane of x (..., H, W) convolved with a Gaussian of standard deviation `sigma` pixels, cut off at 4 sigma; zero outside.

    Along each axis a product with a matrix: 2 (H + W) FLOPs a pixel. ValueError unless sigma is above 0 and finite, TypeError for other
    planes than float32 and float64.
    """
    as_device("gaussian_blur", x)
    check_blur(x, sigma)
    for size in x.shape[-2:]:
        x = matmul(x.swapaxes(-1, -2), to_device(gaussian_weights(size, sigma).astype(x.dtype)))
    return x
