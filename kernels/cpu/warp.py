"""Pictures sampled at other positions, and fields smoothed: what shift, rotation, scale, shear, flip, crop and elastic distortion
are made of."""


import numpy as np

from kernels import jit
from kernels.cpu.matmul import matmul
from kernels.jit import inner, like, parallel_for
from kernels.shapes import check_blur, gaussian_weights, picture_size

# ---- warp -----------------------------------------------------------------------------------------------------------

@inner
def positions(start, step, moved, at):
    """at[j] = start + j step + moved[j]: where a row of the result lies along one axis of the source."""
    jit.full_width()
    for j in range(at.size):
        at[j] = start + j * step + moved[j]


@inner
def pixel(plane, y, x, H, W):
    """The pixel at (y, x) of a plane (H * W,), zero outside."""
    return plane[np.uint64(y * W + x)] if 0 <= y < H and 0 <= x < W else like(plane[0], 0)


@inner
def mix(nw, ne, sw, se, down, right):
    """Four pixels weighted by nearness to a point so far below and to the right of the first."""
    north, south = nw + right * (ne - nw), sw + right * (se - sw)
    return north + down * (south - north)


@inner
def sample_row(plane, ys, xs, H, W, row):
    """row[j] = the plane (H * W,) at (ys[j], xs[j]). Most points lie between four pixels and need only one test."""
    zero, right, below = like(plane[0], 0), np.uint64(1), np.uint64(W)
    bottom, edge = np.float64(H - 1), np.float64(W - 1)
    for j in range(row.size):
        y, x = ys[j], xs[j]
        if 0 <= y < bottom and 0 <= x < edge:
            i, k = np.int64(y), np.int64(x)
            p = np.uint64(i * W + k)
            row[j] = mix(plane[p], plane[p + right], plane[p + below], plane[p + below + right], like(zero, y - i), like(zero, x - k))
        elif -1 < y < H and -1 < x < W:
            i, k = np.int64(y + 1) - 1, np.int64(x + 1) - 1                # the floor of a number above -1
            row[j] = mix(pixel(plane, i, k, H, W), pixel(plane, i, k + 1, H, W), pixel(plane, i + 1, k, H, W),
                         pixel(plane, i + 1, k + 1, H, W), like(zero, y - i), like(zero, x - k))
        else:                                                              # NaN too
            row[j] = zero


@inner
def warp_task(chunk, x, affine, displacement, out, rows, source):
    N, C, h, w = out.shape
    H, W = source
    at, unmoved = np.empty((2, w)), np.zeros(w, out.dtype)
    v, u = 0.5 * (h - 1), 0.5 * (w - 1)
    for r in range(chunk * rows, min((chunk + 1) * rows, N * h)):
        n, i = r // h, r % h
        for axis in range(2):
            a = affine[n, axis]
            start = a[0] * (i - v) - a[1] * u + a[2] + 0.5 * (source[axis] - 1)
            positions(start, a[1], displacement[n, axis, i] if displacement.size else unmoved, at[axis])
        for c in range(C):
            sample_row(x[n, c], at[0], at[1], H, W, out[n, c, i])


@jit.jit
def warp_kernel(x, affine, displacement, out, rows, source, chunks, threads):
    parallel_for(warp_task, chunks, threads, (x, affine, displacement, out, rows, source))


def warp(x, affine, displacement=None, size=None):
    """Pictures x (N, C, H, W) sampled bilinearly at moved positions -> (N, C, h, w), by default of the same size.

    Pixel (i, j) of picture n of the result is the source at (y, x) = affine[n] (i, j, 1) + displacement[n, :, i, j]. Both (i, j)
    and (y, x) are counted in pixels from the centre of their picture, ((h - 1) / 2, (w - 1) / 2) and ((H - 1) / 2, (W - 1) / 2),
    down and to the right, y first. Outside the source everything is 0, and so is what lies at no finite position.

    affine         (N, 2, 3): a row for y, a row for x. [[1, 0, 0], [0, 1, 0]] changes nothing, or cuts out or frames the middle
                   if the size changes; [[1, 0, 0], [0, -1, 0]] flips left and right; [[0, -1, 0], [1, 0, 0]] turns clockwise by
                   90 degrees; [[2, 0, 0], [0, 2, 0]] halves a picture, without the smoothing that a large reduction needs;
                   a last column of (1, 0) shows what lies a pixel further down
    displacement   (N, 2, h, w) pixels of the source along y and x, or None
    size           (h, w) of the result

    ValueError for other shapes, TypeError for pictures that are not float32 or float64. Positions are kept in float64.
    Bytes: a pixel written for four read, mostly from cache; 6 FLOPs a pixel and 6 a position.
    """
    h, w = _check(x, affine, displacement, size)
    (N, C, H, W), out = x.shape, np.empty((*x.shape[:2], h, w), x.dtype)
    rows = max(1, jit.CHUNK // max(1, C * w))
    field = np.empty((N, 2, 0, 0), x.dtype) if displacement is None else np.ascontiguousarray(displacement, x.dtype)
    warp_kernel(np.ascontiguousarray(x).reshape(N, C, H * W), np.ascontiguousarray(affine, np.float64), field, out, rows, (H, W),
                (N * h + rows - 1) // rows, jit.threads(out.size))
    return out


def _check(x, affine, displacement, size):
    """(h, w) of the result; ValueError or TypeError if the arguments do not fit."""
    h, w = picture_size("warp", x, size)
    if affine.shape != (len(x), 2, 3):
        raise ValueError(f"warp: affine has shape {affine.shape}, {(len(x), 2, 3)} fits {len(x)} pictures")
    if displacement is not None and displacement.shape != (len(x), 2, h, w):
        raise ValueError(f"warp: displacement has shape {displacement.shape}, {(len(x), 2, h, w)} fits a result of {h} x {w} pixels")
    return h, w


# ---- smoothing ------------------------------------------------------------------------------------------------------

def gaussian_blur(x, sigma):
    """Each plane of x (..., H, W) convolved with a Gaussian of standard deviation `sigma` pixels, cut off at 4 sigma; zero outside.

    Of independent standard normals it makes a smooth random field, whose standard deviation is about 1 / (2 sqrt(pi) sigma):
    times a strength, the displacement of an elastic distortion (Simard, Steinkraus & Platt 2003, section 2).

    Along each axis a product with a matrix: more FLOPs, 2 (H + W) a pixel, than a sum over neighbours needs, but a matrix product
    runs near the machine's limit. ValueError unless sigma is above 0 and finite, TypeError for other planes than float32 and float64.
    """
    check_blur(x, sigma)
    for size in x.shape[-2:]:
        x = matmul(x.swapaxes(-1, -2), gaussian_weights(size, sigma).astype(x.dtype))        # swapped twice: first along H, then along W
    return x
