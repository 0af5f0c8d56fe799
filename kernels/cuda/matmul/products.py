"""The fast product of float32 matrices: the main loop of tiles.py between loaders of matrices and a finisher that adds the bias and
applies the activation, so that C is written once.

Where there are few tiles and k is long, several blocks share a tile, each with a part of k; add_parts adds what they found, in order.
"""

from functools import cache

import numpy as np

from kernels.cuda.compiler import cuda, device, kernel, ld4, st4, typed
from kernels.cuda.matmul.plain import FUNCTIONS
from kernels.cuda.matmul.tiles import LARGE, finisher, main_loop, matrix_loader


@device
def itself(column, out):
    return column


def matrix_finisher(tile, vectors, activation=None):
    """The finisher of a matrix, out = (c, base, M, N, bias, biased, add): C starts at c[base], N numbers to a row."""
    activated = FUNCTIONS[activation]

    @device
    def finish(total, column, bias, biased):
        return activated(total + bias[column] if biased else total)

    @device
    def write(four, column, row, out):
        c, base, M, N, bias, biased, add = out
        at = base + row * N + column
        if row < M and column < N:
            if vectors:
                before = ld4(c, at) if add else (typed(c, 0), typed(c, 0), typed(c, 0), typed(c, 0))
                st4(c, at, finish(before[0] + four[0], column, bias, biased), finish(before[1] + four[1], column + 1, bias, biased),
                    finish(before[2] + four[2], column + 2, bias, biased), finish(before[3] + four[3], column + 3, bias, biased))
            else:
                for q in range(4):
                    if column + q < N:
                        value = four[q] + c[at + q] if add else four[q]
                        c[at + q] = finish(value, column + q, bias, biased)
    return finisher(tile, itself, write)


def form_name(tile, a_along_k, b_along_k, *vectors):
    """What kernels of one tile differ in: n or t for each operand, as it is or transposed; v or s for what is moved by fours or singly."""
    return (f"{tile.rows}x{tile.columns}_{'nt'[not a_along_k]}{'nt'[b_along_k]}_" + "".join("sv"[v] for v in vectors))


@cache
def tiled_kernel(tile, a_along_k, b_along_k, vectors_a, vectors_b, vectors_c, activation, cut=False):
    """The kernel for a tile, the way either operand lies, whether they and C can be read and written by fours, an activation, and
    whether k is cut into parts."""
    threads, tile_rows, tile_columns, count = tile.threads, tile.rows, tile.columns, tile.side ** 2
    loop = main_loop(tile, matrix_loader(tile.rows, threads, a_along_k, vectors_a),
                     matrix_loader(tile.columns, threads, b_along_k, vectors_b))
    finish = matrix_finisher(tile, vectors_c, activation)
    name = f"matmul_{form_name(tile, a_along_k, b_along_k, vectors_a, vectors_b, vectors_c)}_{activation or 'linear'}{'_cut' * cut}"

    two = tile is LARGE and vectors_a and vectors_b and vectors_c and not cut        # blocks at once; single numbers take more registers

    @kernel(name=name, threads=threads, blocks=2 if two else None)
    def matmul_tiled(a, b, c, bias, M, N, K, lead_a, lead_b, step_a, step_b, length, biased, add):
        """C = act(A B + bias), or with `add` act(C + A B + bias), for each matrix of a batch, or each part of k (blockIdx.z)."""
        sums = cuda.local.array(count, np.float32)
        row0, column0 = cuda.blockIdx.x * tile_rows, cuda.blockIdx.y * tile_columns
        begin, end = (cuda.blockIdx.z * length, min(cuda.blockIdx.z * length + length, K)) if cut else (0, K)
        loop(sums, (a, cuda.blockIdx.z * step_a, row0, M, K, lead_a), (b, cuda.blockIdx.z * step_b, column0, N, K, lead_b), begin, end)
        finish(sums, (c, cuda.blockIdx.z * M * N, M, N, bias, biased, add), row0, column0)

    return matmul_tiled


@cache
def add_parts(activation):
    """The kernel that finishes products of which `found` has the parts: act(sum of the parts + bias), or with `add` also + C."""
    activated = FUNCTIONS[activation]

    @kernel(name=f"matmul_parts_{activation or 'linear'}")
    def matmul_parts(found, c, bias, size, N, parts, biased, add):
        for i in range(cuda.grid(1), size, cuda.gridsize(1)):
            total = found[i]
            for part in range(1, parts):
                total += found[part * size + i]
            total = total + c[i] if add else total
            c[i] = activated(total + bias[i % N] if biased else total)
    return matmul_parts
