"""WaveNet (van den Oord et al. 2016), a ladder: ladder.py holds the rungs below, stack.py the stack of residual layers that the library
calls for whole sequences."""

import numpy as np

from kernels import jit
from kernels.cpu.wavenet.stack import BLOCK, PARTS, backward_kernel, forward_kernel
from kernels.cpu.wavenet.tiles import HALF_BYTES
from kernels.reference.wavenet import generate_wavenet, pack_wavenet  # noqa: F401
from kernels.shapes import wavenet_sizes

SMALL = 1 << 18      # multiplications below which one thread is faster


def wavenet(h, weight, bias, residual, residual_bias, dilations, condition=None):
    """(z of all layers (N, T, L R), inputs of all layers (L, N, T, R)) of a stack of residual layers. Layer l of dilation d:

        p = h[t - d] weight[l, :, :, 0]^T + h[t] weight[l, :, :, 1]^T + bias[l] + condition,   h being 0 before the beginning
        z = tanh(p[:R]) sigmoid(p[R:]);   the next layer's h is h + z residual[l]^T + residual_bias[l]

    h (N, T, R), weight (L, 2 R, R, 2), bias (L, 2 R), residual (L - 1, R, R), residual_bias (L - 1, R), L dilations; condition
    (N, F, L 2 R) with F a divisor of T, or None: position t uses row t F // T, layer l the 2 R numbers from l 2 R on.
    FLOPs: 10 N T R^2 L.
    """
    N, T, R, L, F = wavenet_sizes(h, weight, bias, residual, residual_bias, dilations, condition)
    z, inputs = np.empty((N, T, L * R), h.dtype), np.empty((L, N, T, R), h.dtype)
    inputs[0] = h
    if z.size:
        w = pack_stack(weight, bias, residual, residual_bias)
        forward_kernel(inputs.ravel(), z.ravel(), w.ravel(), w.shape[1], np.array(dilations), _flat(condition, h.dtype), N, T, L, R,
                       _whole(R, h.dtype), F, _chunks(N, T), _threads(N * T * R * R))
    return z, inputs


def wavenet_backward(g, inputs, weight, bias, residual, dilations, condition=None):
    """Gradients of h, weight, bias, residual, residual_bias and condition (None if there is none), given that of z, (N, T, L R), and
    the inputs of all layers; gates are computed again. FLOPs: 28 N T R^2 L."""
    (L, N, T, R), dtype = inputs.shape, inputs.dtype
    F, K = 0 if condition is None else condition.shape[1], _whole(R, dtype)
    dh, dcondition = np.zeros((N, T, R), dtype), None if condition is None else np.empty(condition.shape, dtype)
    size, chunks = 5 * K * K + 3 * K, _chunks(N, T)
    totals = np.zeros((L, size), dtype)
    if dh.size:
        w, room = pack_stack_back(weight, bias, residual), (np.empty(N * T * 2 * K, dtype), np.empty(N * T * 2 * K, dtype))
        backward_kernel(_flat(g, dtype), _flat(inputs, dtype), dh.ravel(), room, w.ravel(), w.shape[1], np.array(dilations),
                        _flat(condition, dtype), _aligned((chunks, size), dtype).ravel(), totals.ravel(), _flat(dcondition, dtype), size, N,
                        T, L, R, K, F, chunks, _threads(N * T * R * R))
    dw, dv, db, dc = np.split(totals, np.cumsum([4 * K * K, K * K, 2 * K]), 1)
    dweight = _outputs(dw.reshape(L, 2, K, 2 * K)[:, :, :R], R).transpose(0, 3, 2, 1)
    return (dh, np.ascontiguousarray(dweight), _outputs(db, R), dv.reshape(L, K, K)[:-1, :R, :R].copy(), dc[:-1, :R].copy(), dcondition)


# ---- weights and gradients as the kernels lay them ------------------------------------------------------------------

def pack_stack(weight, bias, residual, residual_bias):
    """For each layer, in a line: weights (panels, 2 K inputs, panel), bias, residual weights (half panels, K inputs, half panel) and
    bias. Inputs are the earlier position's K and then this one's, of which R are used; K is made of whole half panels."""
    (L, _, R, _), K, dtype = weight.shape, _whole(weight.shape[2], weight.dtype), weight.dtype
    lines, half = _aligned((L, 5 * K * K + 3 * K), dtype), HALF_BYTES // dtype.itemsize
    w, b, v, c = np.split(lines, np.cumsum([4 * K * K, 2 * K, K * K]), 1)
    _pack_taps(weight, w)
    b[...] = _panels(bias, K)
    square = np.zeros((L - 1, K, K), dtype)
    square[:, :R, :R] = residual.transpose(0, 2, 1)
    v[:-1].reshape(L - 1, K // half, K, half)[...] = square.reshape(L - 1, K, K // half, half).swapaxes(1, 2)
    c[:-1, :R] = residual_bias
    return lines


def pack_stack_back(weight, bias, residual):
    """Likewise: weights and bias as above; the weights of each tap (half panels, 2 K outputs, half panel) and the residual ones (half
    panels, K outputs, half panel)."""
    (L, _, R, _), K, dtype = weight.shape, _whole(weight.shape[2], weight.dtype), weight.dtype
    lines, half = _aligned((L, 9 * K * K + 2 * K), dtype), HALF_BYTES // dtype.itemsize
    w, b, taps, v = np.split(lines, np.cumsum([4 * K * K, 2 * K, 4 * K * K]), 1)
    _pack_taps(weight, w)
    b[...] = _panels(bias, K)
    square = np.zeros((2, L, 2 * K, K), dtype)
    square[..., :R] = _panels(weight.transpose(3, 0, 2, 1), K).swapaxes(2, 3)
    taps.reshape(L, 2, K // half, 2 * K, half)[...] = square.reshape(2, L, 2 * K, -1, half).transpose(1, 0, 3, 2, 4)
    square = np.zeros((L - 1, K, K), dtype)
    square[:, :R, :R] = residual
    v[:-1].reshape(L - 1, K // half, K, half)[...] = square.reshape(L - 1, K, K // half, half).swapaxes(1, 2)
    return lines


def _pack_taps(weight, to):
    """weight (L, 2 R, R, 2) as panels, in `to` (L, 4 K K)."""
    (L, _, R, _), K = weight.shape, _whole(weight.shape[2], weight.dtype)
    wide, rows = 2 * HALF_BYTES // weight.itemsize, np.zeros((L, 2, K, 2 * K), weight.dtype)
    rows[:, :, :R] = _panels(weight.transpose(0, 3, 2, 1), K)
    to.reshape(L, 2 * K // wide, 2 * K, wide)[...] = rows.reshape(L, 2 * K, -1, wide).swapaxes(1, 2)


def _panels(x, K):
    """x (..., 2 R), tanh's numbers and the sigmoid's, as panels (..., 2 K): half of each by turns."""
    R, half = x.shape[-1] // 2, HALF_BYTES // x.itemsize
    both = np.zeros((*x.shape[:-1], 2, K), x.dtype)
    both[..., :R] = x.reshape(*x.shape[:-1], 2, R)
    return both.reshape(*x.shape[:-1], 2, K // half, half).swapaxes(-2, -3).reshape(*x.shape[:-1], 2 * K)


def _outputs(x, R):
    """The other way round: panels (..., 2 K) as (..., 2 R)."""
    half = HALF_BYTES // x.itemsize
    both = x.reshape(*x.shape[:-1], -1, 2, half).swapaxes(-2, -3).reshape(*x.shape[:-1], 2, -1)
    return both[..., :R].reshape(*x.shape[:-1], 2 * R)


def _whole(R, dtype):
    """R filled up to whole half panels."""
    half = HALF_BYTES // dtype.itemsize
    return -(-R // half) * half


def _aligned(shape, dtype):
    """Zeros that begin on a cache line."""
    count, line = int(np.prod(shape)), 64 // dtype.itemsize
    room = np.zeros(count + line, dtype)
    return room[(-room.ctypes.data % 64) // dtype.itemsize:][:count].reshape(shape)


def _flat(x, dtype):
    return np.empty(0, dtype) if x is None else np.ascontiguousarray(x).ravel()


def _chunks(N, T):
    return min(PARTS, N * -(-T // BLOCK))


def _threads(work):
    return jit.threads(jit.SERIAL_BELOW if work > SMALL else 0)
