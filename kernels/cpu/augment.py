"""Pictures changed at random, to learn from: shift, rotation, scale, shear, elastic distortion, flip, crop and brightness in one kernel."""

import numpy as np

from kernels import jit
from kernels.cpu.random import _stream, blocks, fill
from kernels.cpu.warp import warp_task
from kernels.jit import inner, like, parallel_for
from kernels.scalar import normal32, uniform32
from kernels.shapes import picture_size, spline_nodes, spline_weights

UNIFORMS = 12        # words for what is drawn once a picture, of which 10 are used: whole blocks


def augment_blocks(distortion, size):
    """Philox blocks that each picture of a result of size (h, w) uses up."""
    nodes = [spline_nodes(n, distortion.spacing) for n in size] if distortion.elastic else (0, 0)
    return blocks(UNIFORMS + 2 * nodes[0] * nodes[1])


@inner
def between(low, high, word):
    """A number from low to high, for a random word."""
    return low + (high - low) * np.float64(uniform32(word))


@inner
def draw_affine(w, d, strength, room, affine):
    """affine (2, 3): from places in the result to places in the source, for the words w. It undoes, in this order, the shift, the
    rotation, the shear and the scaling, and flips and crops at last."""
    shift, rotation, shear, scale = strength * d.shift, strength * d.rotation, strength * d.shear, strength * d.scale
    down, right = between(-shift, shift, w[0]), between(-shift, shift, w[1])
    angle, slant = between(-rotation, rotation, w[2]), between(-shear, shear, w[3])
    shrink, sign = np.exp(between(-scale, scale, w[4])), -1.0 if uniform32(w[5]) < d.flip else 1.0
    cos, sin = np.cos(angle), np.sin(angle)
    affine[0, 0], affine[0, 1] = shrink * cos, -shrink * sin
    affine[1, 0], affine[1, 1] = sign * shrink * (sin + slant * cos), sign * shrink * (cos - slant * sin)
    for axis in range(2):
        crop = between(-0.5 * room[axis], 0.5 * room[axis], w[6 + axis])
        affine[axis, 2] = crop - affine[axis, 0] * down - affine[axis, 1] * right


@inner
def bend(w, amount, down, right, field):
    """field (2, h, w): a cubic B-spline whose coefficients, one for each node, have the standard deviation `amount`. A node has two words.
    down (nodes, h) and right (nodes, w): the weight of each node for each pixel."""
    ky, kx = down.shape[0], right.shape[0]
    nodes = np.empty((2, ky, kx), np.float32)
    for k in range(ky * kx):
        nodes[0, k // kx, k % kx], nodes[1, k // kx, k % kx] = normal32(w[2 * k], w[2 * k + 1])
    for axis in range(2):
        for i in range(down.shape[1]):
            row = field[axis, i]
            row[:] = 0
            for x in range(kx):
                total = like(down[0, 0], 0)
                for y in range(ky):
                    total += down[y, i] * nodes[axis, y, x]
                total *= amount
                for j in range(row.size):
                    row[j] += total * right[x, j]


@inner
def draw_task(n, seed, offset, each, d, room, down, right, affine, displacement, light):
    """What picture n is changed by."""
    w = np.empty(4 * each, np.uint32)
    fill(w, seed, offset + np.uint64(n * each))
    strength = 1.0 if uniform32(w[9]) < d.share else 0.0
    draw_affine(w, d, strength, room, affine[n])
    light[n] = between(1 - strength * d.brightness, 1 + strength * d.brightness, w[8])
    if displacement.size:
        bend(w[UNIFORMS:], 2 * strength * d.elastic, down, right, displacement[n])        # a spline halves what its nodes vary by


@inner
def light_task(n, out, light):
    """Picture n of the pixels (N, P), brighter or darker, but no brighter than 1."""
    for i in range(out.shape[1]):
        out[n, i] = min(like(out[n, i], 1), like(out[n, i], light[n]) * out[n, i])


@jit.jit
def augment_kernel(x, seed, offset, each, d, room, down, right, affine, displacement, light, out, rows, source, threads):
    N, C, h, w = out.shape
    parallel_for(draw_task, N, threads, (seed, offset, each, d, room, down, right, affine, displacement, light))
    parallel_for(warp_task, (N * h + rows - 1) // rows, threads, (x, affine, displacement, out, rows, source))
    if d.brightness:
        parallel_for(light_task, N, threads, (out.reshape(N, C * h * w), light))


def augment(x, seed, offset, distortion, size=None):
    """Pictures x (N, C, H, W) in 0..1, each changed at random by up to what `distortion` (kernels.shapes.Distortion) says
    -> (N, C, h, w), h <= H, w <= W: a piece that lies anywhere in the source is cut out, `size` = (h, w); by default all of it is kept.

    Picture n is a function of the seed and the blocks offset + n * augment_blocks(distortion, size) and those behind it, so it is
    the same in any batch. Sampled bilinearly, zero outside of the source, as `warp` does. Uses N * augment_blocks(...) blocks.

    The elastic part is a B-spline of random displacements on a coarse grid, after Ronneberger, Fischer & Brox 2015 ("U-Net", section
    3.1, who interpolate them bicubically). ValueError, TypeError for pictures and sizes that do not fit. Bytes and FLOPs: as `warp`,
    and for the field 2 a pixel and node of its row.
    """
    h, w = size = picture_size("augment", x, size)
    N, C, H, W = x.shape
    if not (0 <= h <= H and 0 <= w <= W):
        raise ValueError(f"augment: a piece of {h} x {w} pixels cannot be cut out of pictures of {H} x {W}")
    down, right = (spline_weights(n, distortion.spacing) for n in size)
    out, affine, light = np.empty((N, C, h, w), x.dtype), np.empty((N, 2, 3)), np.empty(N)
    displacement = np.empty((N, 2, h, w) if distortion.elastic else (N, 2, 0, 0), x.dtype)
    augment_kernel(np.ascontiguousarray(x).reshape(N, C, H * W), *_stream(seed, offset), augment_blocks(distortion, size), distortion,
                   (H - h, W - w), down, right, affine, displacement, light, out, max(1, jit.CHUNK // max(1, C * w)), (H, W),
                   jit.threads(out.size))
    return out
