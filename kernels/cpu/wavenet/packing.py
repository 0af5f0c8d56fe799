"""Weights and gradients as WaveNet's kernels lay them: in panels (tiles.py), filled up with zeros.

R channels become K, whole half panels. Panels hold, of the 2 R numbers that enter the gates, half a panel of tanh's and half a panel
of the sigmoid's by turns.
"""

import numpy as np

from kernels.cpu.wavenet.tiles import HALF_BYTES, TALL_ROWS


def whole(R, dtype, halves=1):
    """R filled up to whole half panels, or to a multiple of so many, and to whole tall tiles: gradients have as many rows."""
    size = max(halves * HALF_BYTES // dtype.itemsize, TALL_ROWS)
    return -(-R // size) * size


def aligned_zeros(shape, dtype):
    """Zeros that begin on a cache line."""
    count, line = int(np.prod(shape)), 64 // dtype.itemsize
    room = np.zeros(count + line, dtype)
    return room[(-room.ctypes.data % 64) // dtype.itemsize:][:count].reshape(shape)


def pack_stack(weight, bias, residual, residual_bias):
    """For each layer, in a line: weights (panels, 2 K inputs, panel), bias, residual weights (half panels, K inputs, half panel) and
    bias. Inputs are the earlier position's K and then this one's, of which R are used; K is made of whole half panels."""
    (L, _, R, _), K, dtype = weight.shape, whole(weight.shape[2], weight.dtype), weight.dtype
    lines, half = aligned_zeros((L, 5 * K * K + 3 * K), dtype), HALF_BYTES // dtype.itemsize
    w, b, v, c = np.split(lines, np.cumsum([4 * K * K, 2 * K, K * K]), 1)
    wide, rows = 2 * half, np.zeros((L, 2, K, 2 * K), dtype)
    rows[:, :, :R] = panelled(weight.transpose(0, 3, 2, 1), K)
    w.reshape(L, 2 * K // wide, 2 * K, wide)[...] = rows.reshape(L, 2 * K, -1, wide).swapaxes(1, 2)
    b[...] = panelled(bias, K)
    square = np.zeros((L - 1, K, K), dtype)
    square[:, :R, :R] = residual.transpose(0, 2, 1)
    v[:-1].reshape(L - 1, K // half, K, half)[...] = square.reshape(L - 1, K, K // half, half).swapaxes(1, 2)
    c[:-1, :R] = residual_bias
    return lines


def pack_stack_back(weight, residual):
    """Likewise: the weights of each tap (half panels, 2 K outputs, half panel) and the residual ones (half
    panels, K outputs, half panel)."""
    (L, _, R, _), K, dtype = weight.shape, whole(weight.shape[2], weight.dtype), weight.dtype
    lines, half = aligned_zeros((L, 5 * K * K), dtype), HALF_BYTES // dtype.itemsize
    taps, v = np.split(lines, [4 * K * K], 1)
    square = np.zeros((2, L, 2 * K, K), dtype)
    square[..., :R] = panelled(weight.transpose(3, 0, 2, 1), K).swapaxes(2, 3)
    taps.reshape(L, 2, K // half, 2 * K, half)[...] = square.reshape(2, L, 2 * K, -1, half).transpose(1, 0, 3, 2, 4)
    square = np.zeros((L - 1, K, K), dtype)
    square[:, :R, :R] = residual
    v[:-1].reshape(L - 1, K // half, K, half)[...] = square.reshape(L - 1, K, K // half, half).swapaxes(1, 2)
    return lines


def panelled(x, K):
    """x (..., 2 R), tanh's numbers and the sigmoid's, as panels (..., 2 K): half of each by turns."""
    R, half = x.shape[-1] // 2, HALF_BYTES // x.itemsize
    both = np.zeros((*x.shape[:-1], 2, K), x.dtype)
    both[..., :R] = x.reshape(*x.shape[:-1], 2, R)
    return both.reshape(*x.shape[:-1], 2, K // half, half).swapaxes(-2, -3).reshape(*x.shape[:-1], 2 * K)


def unpanelled(x, R):
    """The other way round: panels (..., 2 K) as (..., 2 R)."""
    half = HALF_BYTES // x.itemsize
    both = x.reshape(*x.shape[:-1], -1, 2, half).swapaxes(-2, -3).reshape(*x.shape[:-1], 2, -1)
    return both[..., :R].reshape(*x.shape[:-1], 2 * R)


def pack_dense(weight, bias, inputs, outputs):
    """weight (outputs, inputs) filled up to so many of each, as panels (panels, inputs, panel), and then the bias."""
    wide, square, line = 2 * HALF_BYTES // weight.itemsize, np.zeros((inputs, outputs), weight.dtype), np.zeros(outputs, weight.dtype)
    square[:weight.shape[1], :len(weight)], line[:len(bias)] = weight.T, bias
    return np.append(square.reshape(inputs, -1, wide).swapaxes(0, 1), line)


def pack_skip(weight, R, K):
    """weight (S, L R) with each layer's R inputs filled up to K."""
    lines = np.zeros((len(weight), weight.shape[1] // R, K), weight.dtype)
    lines[:, :, :R] = weight.reshape(len(weight), -1, R)
    return lines.reshape(len(weight), -1)
