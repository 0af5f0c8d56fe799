"""The rungs below the fast convolution, to read and to time: stride 1, zeros around, odd square kernels, one core.

y[n, o, i, j] = sum over c, ky, kx of  weight[o, c, ky, kx] x[n, c, i + ky - p, j + kx - p], p = KH // 2: y has the height and width of x.
`pytest benchmarks/test_kernels.py` times them beside the fast one, direct.py.
"""

import numpy as np

from kernels.cpu.matmul import matmul
from kernels.jit import jit


@jit
def naive(x, weight, y):
    """The definition: one sum for each output, each tap tested for the border."""
    N, C, H, W = x.shape
    K = weight.shape[2]
    p = K // 2
    for n in range(N):
        for o in range(len(weight)):
            for i in range(H):
                for j in range(W):
                    total = x[0, 0, 0, 0] * 0
                    for c in range(C):
                        for ky in range(max(0, p - i), min(K, H + p - i)):
                            for kx in range(max(0, p - j), min(K, W + p - j)):
                                total += weight[o, c, ky, kx] * x[n, c, i + ky - p, j + kx - p]
                    y[n, o, i, j] = total


@jit
def by_rows(x, weight, y):
    """The loop along a row made the innermost: a weight times a run of pixels is added to a run of outputs, in vector instructions.

    Each output is still loaded and stored once for every tap.
    """
    N, C, H, W = x.shape
    K = weight.shape[2]
    p = K // 2
    y[:] = 0
    for n in range(N):
        for o in range(len(weight)):
            for c in range(C):
                for ky in range(K):
                    for kx in range(K):
                        factor, left = weight[o, c, ky, kx], max(0, p - kx)
                        for i in range(max(0, p - ky), min(H, H + p - ky)):
                            row = y[n, o, i, left:min(W, W + p - kx)]
                            source = x[n, c, i + ky - p, left + kx - p:]
                            for j in range(row.size):
                                row[j] += factor * source[j]


@jit
def patches(x, n, K, columns):
    """columns[(c, ky, kx), (i, j)] = x[n, c, i + ky - p, j + kx - p], zero outside: every pixel K * K times over ("im2col")."""
    _, C, H, W = x.shape
    p = K // 2
    columns[:] = 0
    for k in range(C * K * K):
        c, ky, kx = k // (K * K), k // K % K, k % K
        left, right = max(0, p - kx), min(W, W + p - kx)
        for i in range(max(0, p - ky), min(H, H + p - ky)):
            columns[k, i * W + left:i * W + right] = x[n, c, i + ky - p, left + kx - p:right + kx - p]


def im2col(x, weight, y):
    """A matrix of patches for each picture and one fast product with it: the usual way. It writes and reads K * K times the input.

    From here on the product reads its right operand where the padded picture lies: direct.py.
    """
    N, C, H, W = x.shape
    K = weight.shape[2]
    columns, rows = np.empty((C * K * K, H * W), x.dtype), weight.reshape(len(weight), -1)
    for n in range(N):
        patches(x, n, K, columns)
        matmul(rows, columns, out=y[n].reshape(len(weight), H * W))
