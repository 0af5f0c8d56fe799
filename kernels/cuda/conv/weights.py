"""The weight gradient of a convolution by implicit GEMM: the main loop of matmul/tiles.py over two matrices that are nowhere written down.

    rows      output channels of a group
    columns   input channel and tap: entries of the table (plan.py)
    k         the output pixels of all pictures

k is long where the result is small: it is cut into parts, by the shapes alone, whose sums are added in order. Neighbouring threads
bring neighbouring pixels of either operand. A thread works out once for each slice, by a multiplication, which picture and pixel its
k is. Of the instructions of the inner loop 81 % are FFMA with LARGE tiles, 74 % with MEDIUM ones.
"""

from functools import cache

import numpy as np

from kernels.cuda.compiler import cuda, device, kernel, ld4, put, shifted, typed
from kernels.cuda.conv.plan import OUTSIDE
from kernels.cuda.indices import within
from kernels.cuda.matmul.products import matrix_finisher
from kernels.cuda.matmul.tiles import DEPTH, PAD, Loader, main_loop, written_out


@device
def pixel_of(k, pixels):
    """(where the picture begins that number k of all pixels belongs to, pixel in it, whether there is one), for pixels = (how many there
    are, in one picture, numbers from one picture to the next, factor, shift); the last two are plan.divider's."""
    K, each, image, factor, shift = pixels
    n = k * factor >> shift
    return n * image, k - n * each, k < K


def pixel_loader(width, threads, start_of, fetch_one):
    """A Loader whose neighbouring threads bring neighbouring k: start_of(operand, k) finds what belongs to k, and fetch_one(operand, found,
    column) the number of a column of the slice."""
    step, line = threads // DEPTH, width + PAD

    @device
    def found(operand, k0):
        return start_of(operand, k0 + cuda.threadIdx.x % DEPTH)

    @device
    def place(start):
        return start + cuda.threadIdx.x % DEPTH * line + cuda.threadIdx.x // DEPTH

    each = width // step
    fetches = [f"here, column = found(operand, k0), cuda.threadIdx.x // {DEPTH}",
               *[f"put(held, {p}, fetch_one(operand, here, column + {p * step}))" for p in range(each)]]
    stores = ["at = place(start)", *[f"put(shared, at + {p * step}, held[{p}])" for p in range(each)]]
    return Loader(written_out("operand, k0, held", fetches, found=found, fetch_one=fetch_one, put=put, cuda=cuda),
                  written_out("held, shared, start", stores, place=place, put=put), each)


@device
def gradient_start(operand, k):
    """(pointer to pixel k in the first channel of the tile, how many channels of it there are)."""
    g, base, left, pixels = operand
    image, pixel, inside = pixel_of(k, pixels)
    return shifted(g, base + image + pixel), np.int32(left) if inside else np.int32(0)


@device
def gradient_number(operand, start, row):
    """g of a row of the tile."""
    pixels = operand[3]
    if np.int32(row) < start[1]:
        return start[0][np.int32(row * pixels[1])]
    return typed(operand[0], 0)


@device
def picture_start(operand, k):
    """(pointer to, row and column of) what tap 0 without padding sees for pixel k."""
    pictures, base, pixels, table, _ = operand
    image, pixel, inside = pixel_of(k, pixels)
    y, x, at, _ = ld4(table, 4 * pixel)
    return shifted(pictures, base + image + at), y if inside else np.int32(OUTSIDE), x


@device
def picture_number(operand, start, column):
    """x where the tap of this column of the tile sees it."""
    taps, first, H, W = operand[4]
    place, dy, dx, _ = ld4(taps, 4 * (first + column))
    if within(start[1] + dy, H) & within(start[2] + dx, W):
        return start[0][place]
    return typed(operand[0], 0)


@cache
def weights_kernel(tile, vectors, cut):
    """The kernel for a tile, whether the result can be written by fours, and whether k is cut into parts."""
    threads, tile_rows, tile_columns, count = tile.threads, tile.rows, tile.columns, tile.side ** 2
    loop = main_loop(tile, pixel_loader(tile.rows, threads, gradient_start, gradient_number),
                     pixel_loader(tile.columns, threads, picture_start, picture_number))
    finish = matrix_finisher(tile, vectors)

    @kernel(name=f"conv_weights_{tile.rows}x{tile.columns}_{'vs'[not vectors]}{'_cut' * cut}", threads=threads)
    def conv_weights(g, x, dw, table, taps, N, groups, C, M, H, W, columns, pixels, factor, shift, length):
        """dw[part or group (blockIdx.z), o, (c, ky, kx)] = the sum of g x over the pixels, or those of a part."""
        sums = cuda.local.array(count, np.float32)
        row0, column0, K, z = cuda.blockIdx.x * tile_rows, cuda.blockIdx.y * tile_columns, N * pixels, cuda.blockIdx.z
        group, begin, end = (0, z * length, min(z * length + length, K)) if cut else (z, 0, K)
        loop(sums, (g, (group * M + row0) * pixels, M - row0, (K, pixels, groups * M * pixels, factor, shift)),
             (x, group * C * H * W, (K, pixels, groups * C * H * W, factor, shift), table, (taps, column0, H, W)), begin, end)
        finish(sums, (dw, z * M * columns, M, columns, dw, 0, 0), row0, column0)
    return conv_weights
