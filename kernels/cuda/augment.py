"""Pictures changed at random, to learn from. Names and formulas: kernels/cpu/augment.py; what is drawn is the same."""

import numpy as np

from kernels.cuda.array import as_device, empty, to_device
from kernels.cuda.array import blocks as grid_blocks
from kernels.cuda.compiler import cuda, device, kernel, scalar, typed
from kernels.cuda.elementwise import minimum, mul
from kernels.cuda.matmul import matmul
from kernels.cuda.random import block_words, blocks, stream
from kernels.cuda.warp import warp
from kernels.shapes import picture_size, spline_nodes, spline_weights

UNIFORM_BLOCKS = 3       # Philox blocks for what is drawn once a picture


def augment_blocks(distortion, size):
    """Philox blocks that each picture of a result of size (h, w) uses up."""
    nodes = [spline_nodes(n, distortion.spacing) for n in size] if distortion.elastic else (0, 0)
    return UNIFORM_BLOCKS + blocks(2 * nodes[0] * nodes[1])


@device
def between(low, high, word):
    """A number from low to high, for a random word."""
    return low + (high - low) * np.float64(scalar.uniform32(word))


@kernel(doubles=True, threads=64, blocks=16)
def draw_changes(affine, light, bend, seed, offset, later, each, shift, rotation, scale, shear, flip, brightness, elastic, share, room_y,
                 room_x, pictures):
    """A thread for each picture: affine (2, 3), from places in the result to places in the source; its brightness; how far it bends."""
    for n in range(cuda.grid(1), pictures, cuda.gridsize(1)):
        start = offset + later[0] + np.uint64(n * each)
        w0, w1, w2, w3 = block_words(seed, start)
        w4, w5, w6, w7 = block_words(seed, start + np.uint64(1))
        w8, w9, _, _ = block_words(seed, start + np.uint64(2))
        strength = 1.0 if scalar.uniform32(w9) < share else 0.0
        down, right = between(-shift * strength, shift * strength, w0), between(-shift * strength, shift * strength, w1)
        angle, slant = between(-rotation * strength, rotation * strength, w2), between(-shear * strength, shear * strength, w3)
        shrink, sign = scalar.exp(between(-scale * strength, scale * strength, w4)), -1.0 if scalar.uniform32(w5) < flip else 1.0
        cos, sin = shrink * scalar.cos(angle), shrink * scalar.sin(angle)
        c, d = sign * (sin + slant * cos), sign * (cos - slant * sin)
        affine[6 * n], affine[6 * n + 1] = cos, -sin
        affine[6 * n + 2] = between(-0.5 * room_y, 0.5 * room_y, w6) - cos * down + sin * right
        affine[6 * n + 3], affine[6 * n + 4] = c, d
        affine[6 * n + 5] = between(-0.5 * room_x, 0.5 * room_x, w7) - c * down - d * right
        light[n] = typed(light, between(1.0 - strength * brightness, 1.0 + strength * brightness, w8))
        bend[n] = typed(bend, 2.0 * strength * elastic)                    # a spline halves what its nodes vary by


@kernel(doubles=True)
def draw_nodes(nodes, seed, offset, later, each, count, halves, n):
    """nodes (N, 2, count): standard normal numbers along y and x. A thread for each Philox block, of which a picture has `halves`."""
    for at in range(cuda.grid(1), n, cuda.gridsize(1)):
        picture, b = at // halves, at % halves
        w = block_words(seed, offset + later[0] + np.uint64(picture * each + UNIFORM_BLOCKS + b))
        for k in range(2):
            if 2 * b + k < count:
                down, right = scalar.normal32(w[2 * k], w[2 * k + 1])
                nodes[2 * picture * count + 2 * b + k] = typed(nodes, down)
                nodes[(2 * picture + 1) * count + 2 * b + k] = typed(nodes, right)


def augment(x, seed, offset, distortion, size=None):
    """Pictures x (N, C, H, W) in 0..1, each changed at random by up to what `distortion` (kernels.shapes.Distortion) says
    -> (N, C, h, w), h <= H, w <= W: a piece that lies anywhere in the source is cut out, `size` = (h, w); by default all of it is kept.

    Uses N * augment_blocks(distortion, size) blocks; picture n is the same in any batch. Bytes and FLOPs: as `warp`; the displacements of
    the elastic part are products of the nodes with spline weights, along y and along x.
    """
    as_device("augment", x)
    (h, w), (N, _, H, W) = picture_size("augment", x, size), x.shape
    if not (0 <= h <= H and 0 <= w <= W):
        raise ValueError(f"augment: a piece of {h} x {w} pixels cannot be cut out of pictures of {H} x {W}")
    d, each, start = distortion, augment_blocks(distortion, (h, w)), stream(seed, offset)
    affine, light, bend = empty((N, 2, 3), np.float64), empty((N, 1, 1, 1), x.dtype), empty((N, 1, 1, 1), x.dtype)
    amounts = map(np.float64, (d.shift, d.rotation, d.scale, d.shear, d.flip, d.brightness, d.elastic, d.share, H - h, W - w))
    draw_changes[grid_blocks(N, 64), 64](affine, light, bend, *start, each, *amounts, N)
    field = None
    if d.elastic:
        down, right = (spline_weights(n, d.spacing).astype(x.dtype) for n in (h, w))
        nodes, halves = empty((N, 2, len(down), len(right)), x.dtype), each - UNIFORM_BLOCKS
        draw_nodes[grid_blocks(N * halves), 256](nodes, *start, each, len(down) * len(right), halves, N * halves)
        field = mul(matmul(matmul(to_device(down).T, nodes), to_device(right)), bend)
    out = warp(x, affine, field, (h, w))
    return minimum(mul(out, light), np.asarray(1, x.dtype)) if d.brightness else out
