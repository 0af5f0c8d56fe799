"""Convolution and its input gradient by implicit GEMM: the main loop of matmul/tiles.py over a matrix that is nowhere written down.

    rows      output channels of a group
    columns   the pixels of all pictures that come out, row by row (of an input gradient, those of one phase)
    k         entries of the table (plan.py): input channel and tap

Each thread brings numbers of one column, whose place it works out before the loop: neighbouring threads read neighbouring pixels. In
the loop a number costs an entry of the table, which all threads of a warp share, two additions and two comparisons for the borders,
and no division. Of the instructions of the inner loop 84 % are FFMA with LARGE tiles, as in a plain product, 78 % with MEDIUM ones.
"""

from functools import cache

import numpy as np

from kernels.cuda.compiler import cuda, device, kernel, ld4, put, scalar, shifted, st4, typed
from kernels.cuda.conv.plan import OUTSIDE, PHASE
from kernels.cuda.indices import divide, within
from kernels.cuda.matmul.tiles import DEPTH, LARGE, PAD, Loader, finisher, main_loop, matrix_loader, written_out


def picture_loader(width, threads):
    """The Loader of pictures as (x, row, column, H, W, table, first): x points to what this thread's column sees without a tap's shift, at
    (row, column) of its picture; entry k of the table, counted from `first`, says how far from there."""
    each = width * DEPTH // threads
    line = width + PAD

    @device
    def fetch_one(p, operand, k0):
        x, row, column, H, W, table, first = operand
        place, dy, dx, _ = ld4(table, 4 * (first + k0 + cuda.threadIdx.x // width * each + p))
        if within(row + dy, H) & within(column + dx, W):
            return x[place]
        return typed(x, 0)

    @device
    def start_of(start):
        return start + cuda.threadIdx.x // width * each * line + cuda.threadIdx.x % width

    fetches = [f"put(held, {p}, fetch_one({p}, operand, k0))" for p in range(each)]
    stores = ["at = start_of(start)", *[f"put(shared, at + {p * line}, held[{p}])" for p in range(each)]]
    return Loader(written_out("operand, k0, held", fetches, fetch_one=fetch_one, put=put),
                  written_out("held, shared, start", stores, start_of=start_of, put=put), each)


def picture_finisher(tile, vectors, relu):
    """The finisher of pictures, out = (y, base, M, plane, columns, (bias, bias0, biased)), columns = (N, (I, J, oy, ox), image, osy, osx,
    W): row m and column (n, i, j) go to y[base + n image + m plane + (oy + i osy) W + ox + j osx]; four neighbours at once if `vectors`,
    where these are pixels on end."""
    @device
    def place(column, columns):
        """Where a column lies, counted from channel 0 of picture 0; -1 if there is none."""
        N, phase, image, osy, osx, W = columns
        I, J, oy, ox = phase  # noqa: E741
        n, pixel = divide(min(column, N * I * J - 1), I * J)
        i, j = divide(pixel, J)
        return n * image + (oy + i * osy) * W + ox + j * osx if column < N * I * J else -1

    @device
    def locate(column, out):
        if vectors:
            at = place(column, out[4])
            return at, at, at, at
        return place(column, out[4]), place(column + 1, out[4]), place(column + 2, out[4]), place(column + 3, out[4])

    @device
    def finish(total, shift):
        return scalar.relu(total + shift) if relu else total + shift

    @device
    def write(four, place, row, out):
        y, base, M, plane, _, shifts = out
        bias, bias0, biased = shifts
        if row < M:
            shift, at = bias[bias0 + row] if biased else typed(bias, 0), base + row * plane
            if vectors:
                if place[0] >= 0:
                    st4(y, at + place[0], finish(four[0], shift), finish(four[1], shift), finish(four[2], shift), finish(four[3], shift))
            else:
                for q in range(4):
                    if place[q] >= 0:
                        y[at + place[q]] = finish(four[q], shift)
    return finisher(tile, locate, write)


@cache
def pictures_kernel(tile, vectors_w, vectors_y, relu, strided):
    """The kernel for a tile, whether weights and y can be read and written by fours, relu or not, and whether there are phases."""
    threads, tile_rows, tile_columns, count = tile.threads, tile.rows, tile.columns, tile.side ** 2
    loop = main_loop(tile, matrix_loader(tile.rows, threads, True, vectors_w), picture_loader(tile.columns, threads))
    finish = picture_finisher(tile, vectors_y, relu)
    name = (f"conv_{tile.rows}x{tile.columns}_{'vs'[not vectors_w]}{'vs'[not vectors_y]}_{'relu' if relu else 'linear'}"
            f"{'_strided' * strided}")
    two = tile is LARGE and vectors_w and not strided        # blocks at once; a phase's numbers take more registers

    @kernel(name=name, threads=threads, blocks=2 if two else None)
    def conv_tiled(w, x, y, bias, table, phases, N, groups, C, M, H, W, lead, w_group, sy, sx, OH, OW, osy, osx, phase_count, entries,
                   biased):
        """y = act(bias + the sum over the entries of a table) for each group and phase (blockIdx.z): x has groups of C channels, y of M."""
        sums = cuda.local.array(count, np.float32)
        group, phase = divide(cuda.blockIdx.z, phase_count) if strided else (cuda.blockIdx.z, 0)
        I, J, _, _ = ld4(phases, PHASE * phase) if strided else (OH, OW, 0, 0)  # noqa: E741
        row0, column0, plane = cuda.blockIdx.y * tile_rows, cuda.blockIdx.x * tile_columns, OH * OW
        if column0 < N * I * J:
            first, K, _, _ = ld4(phases, PHASE * phase + 4) if strided else (0, entries, 0, 0)
            column = column0 + cuda.threadIdx.x % tile_columns
            n, pixel = divide(min(column, N * I * J - 1), I * J)
            i, j = divide(pixel, J)
            seen = shifted(x, (n * groups + group) * C * H * W + i * sy * W + j * sx)
            row = np.int32(i * sy) if column < N * I * J else np.int32(OUTSIDE)
            loop(sums, (shifted(w, group * w_group + first), 0, row0, M, K, lead), (seen, row, np.int32(j * sx), H, W, table, first), 0, K)
            place = ld4(phases, PHASE * phase) if strided else (OH, OW, 0, 0)        # read again, as registers are short in the loop
            columns = N, place, groups * M * plane, osy, osx, OW
            finish(sums, (y, group * M * plane, M, plane, columns, (bias, group * M, biased)), row0, column0)
    return conv_tiled


@kernel
def pack_kernel(w, packed, table, entries, M, taps, w_group, count):
    """packed[group, m, entry] = the weight of an entry (plan.py) for channel m; 0 for those that fill up a slice."""
    for at in range(cuda.grid(1), count, cuda.gridsize(1)):
        rest, entry = divide(at, entries)
        group, m = divide(rest, M)
        place = table[4 * entry + 3]
        packed[at] = w[group * w_group + place + m * taps] if place >= 0 else typed(w, 0)
