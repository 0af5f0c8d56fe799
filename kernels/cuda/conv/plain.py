"""Convolutions by the definition, a thread for each number of the result: for float64, and where every channel is a group of its own
(depthwise), which leaves a product one row.

For float32 a depthwise layer is bound by memory: its x read once from there and KH KW times from the first-level cache, y written once.
"""

from kernels.cuda.compiler import cuda, kernel, scalar, typed
from kernels.cuda.indices import divide
from kernels.cuda.rows import WARP, block_sum


@kernel
def conv_plain(x, w, bias, y, count, groups, C, M, H, W, KH, KW, OH, OW, sy, sx, py, px, dy, dx, biased, relu):
    """y (N, groups M, OH, OW) of x (N, groups C, H, W)."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        rest, ox = divide(i, OW)
        rest, oy = divide(rest, OH)
        n, o = divide(rest, groups * M)
        total, row0, column0 = bias[o] if biased else typed(bias, 0), oy * sy - py, ox * sx - px
        for c in range(C):
            plane = (n * groups * C + o // M * C + c) * H
            for ky in range(KH):
                row = row0 + ky * dy
                if row >= 0 and row < H:
                    for kx in range(KW):
                        column = column0 + kx * dx
                        if column >= 0 and column < W:
                            total += w[((o * C + c) * KH + ky) * KW + kx] * x[(plane + row) * W + column]
        y[i] = scalar.relu(total) if relu else total


@kernel
def conv_input_gradient_plain(g, w, bias, out, count, groups, C, M, H, W, KH, KW, OH, OW, sy, sx, py, px, dy, dx, biased):
    """The gradient (N, groups C, H, W) by x, from g (N, groups M, OH, OW)."""
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        rest, column = divide(i, W)
        rest, row = divide(rest, H)
        n, channel = divide(rest, groups * C)
        group, c = divide(channel, C)
        total = bias[channel] if biased else typed(bias, 0)
        for ky in range(KH):
            down = row + py - ky * dy
            oy, off = divide(max(down, 0), sy)
            if down >= 0 and off == 0 and oy < OH:
                for kx in range(KW):
                    right = column + px - kx * dx
                    ox, off = divide(max(right, 0), sx)
                    if right >= 0 and off == 0 and ox < OW:
                        for o in range(group * M, group * M + M):
                            total += w[((o * C + c) * KH + ky) * KW + kx] * g[((n * groups * M + o) * OH + oy) * OW + ox]
        out[i] = total


@kernel
def conv_weight_gradient_plain(g, x, dw, N, groups, C, M, H, W, KH, KW, OH, OW, sy, sx, py, px, dy, dx):
    """The gradient (groups M, C, KH, KW) by the weight: a block for each number, which sums over pictures and pixels (rows.py)."""
    room = cuda.shared.array(WARP, x.dtype)
    rest, kx = divide(cuda.blockIdx.x, KW)
    rest, ky = divide(rest, KH)
    o, c = divide(rest, C)
    total = typed(x, 0)
    for k in range(cuda.threadIdx.x, N * OH * OW, cuda.blockDim.x):
        n, pixel = divide(k, OH * OW)
        oy, ox = divide(pixel, OW)
        row, column = oy * sy - py + ky * dy, ox * sx - px + kx * dx
        if row >= 0 and row < H and column >= 0 and column < W:
            total += g[(n * groups * M + o) * OH * OW + pixel] * x[((n * groups * C + o // M * C + c) * H + row) * W + column]
    total = block_sum(total, room)
    if cuda.threadIdx.x == 0:
        dw[cuda.blockIdx.x] = total
