"""The stack of residual layers over whole sequences, forward and backward.

Positions are taken in blocks of BLOCK, which stay in the nearest cache from a layer's inputs to its outputs:
    1. each position's input and the one `dilation` before it are laid side by side, (BLOCK, 2 R);
    2. their product with both taps' weights at once (2 R, 2 R), to which bias and condition were laid beforehand;
    3. gates; z goes to memory;  4. the product with the residual weights, and the next layer's input goes to memory.
A core that has whole sequences takes a block through all layers before the next, so that what a layer looks back to is still in the
second cache, and the z of a position, which lie side by side, are written soon after each other.
Backward, layer by layer, with dp the gradient of what entered the gates, and D that of the layer's h':
    1. D is completed: D += dp of the layer above, `dilation` later, times its first tap;
    2. dz = g + D residual;
    3. dp, from z and the sigmoids' values, which were kept: to make them again would take 4 R^2 more than the 10 R^2 multiply-adds of the
    rest, and took 65 ms instead of 53 in all (at the shapes of ladder.py);
    4. gradients of weights, summed in a matrix that stays in the cache;
    5. D += dp times the second tap: the gradient of the layer's input, but for step 1 of the layer below.
A core takes a chunk of all blocks, and sums its own gradients of weights: PARTS chunks, by the sizes alone, whose sums are added in order.

FLOPs: 10 N T R^2 L forward, 20 N T R^2 L backward. Bytes: 3 N T R L numbers written forward, and backward read with as many of g.
"""

import numpy as np

from kernels.cpu.wavenet.gates import gates
from kernels.cpu.wavenet.tiles import HALF_BYTES, TALL_ROWS, add_tall, add_wide, aligned, clear, give, one_half_line, one_line, take
from kernels.jit import full_width, inner, jit, like, parallel_for, uncounted

BLOCK = 48           # positions, a multiple of the tiles' heights
PARTS = 32           # chunks of positions at most
PIECE = 1024         # numbers of a chunk of summed gradients


@inner
def half_panel(x):
    """Channels of a half panel."""
    return HALF_BYTES // x.itemsize


@inner
def block_place(block, T):
    """(sequence, first position) of a block."""
    blocks = (T + BLOCK - 1) // BLOCK
    return block // blocks, block % blocks * BLOCK


@inner
def gather(inputs, at, t, d, rows, R, K, pairs):
    """pairs[r] = (h[t + r - d], h[t + r]), each K numbers long; h[0] is at inputs[at], and 0 what lies before; zeros beyond `rows`."""
    for r in range(BLOCK):
        to = r * 2 * K
        if r < rows and t + r >= d:
            take(inputs, at + (t + r - d) * R, R, pairs[0], pairs[1] + to, K)
        else:
            clear(pairs[0], pairs[1] + to, K)
        if r < rows:
            take(inputs, at + (t + r) * R, R, pairs[0], pairs[1] + to + K, K)
        else:
            clear(pairs[0], pairs[1] + to + K, K)


@inner
def lay_sums(w, bias, condition, n, t, rows, layer, L, R, K, F, T, p, to):
    """Rows of p (BLOCK, 2 K) before any product: bias + condition, which changes where a new frame begins."""
    half, before = half_panel(p), -1
    for r in range(BLOCK):
        frame, row = min(t + r, t + rows - 1) * F // T, to + r * 2 * K
        if frame == before:
            take(p, row - 2 * K, 2 * K, p, row, 2 * K)
            continue
        before = frame
        take(w, bias, 2 * K, p, row, 2 * K)
        if F > 0:
            at = ((n * F + frame) * L + layer) * 2 * R
            for k in range(R):
                place = row + k // half * 2 * half + k % half
                p[np.uint64(place)] += condition[np.uint64(at + k)]
                p[np.uint64(place + half)] += condition[np.uint64(at + R + k)]


@inner
def bend(p, po, z, zo, count):
    """z = tanh(first half panel) sigmoid(second), for so many panels; the sigmoid's values take the place of the second."""
    full_width()
    half = np.uint64(half_panel(p))
    for panel in range(np.uint64(count)):
        a, to = np.uint64(po) + panel * (half + half), np.uint64(zo) + panel * half
        for c in range(half):
            tangent, gate = gates(p[a + c], p[a + half + c])
            p[a + half + c] = gate
            z[to + c] = tangent * gate


@inner
def bend_back(z, zo, gate, so, dz, do, p, po, count):
    """p = gradients of what entered tanh and sigmoid, panel by panel, from z, the sigmoid's values and the gradient of z. tanh's are
    z / gate, or 0 where both are."""
    full_width()
    half, one, least = np.uint64(half_panel(p)), like(p[0], 1), like(p[0], 1e-37)
    for panel in range(np.uint64(count)):
        a, row = np.uint64(po) + panel * (half + half), panel * half
        for c in range(half):
            found, s, g = z[np.uint64(zo) + row + c], gate[np.uint64(so) + row + c], dz[np.uint64(do) + row + c]
            p[a + c] = g * (s - found * (found / (s + least)))
            p[a + half + c] = g * found * (one - s)


@inner
def forward_block(room, block, layer, d, inputs, gate, z, w, wo, condition, N, T, L, R, K, F):
    """One layer of a block. w holds the packed weights of the layer from wo on: see pack_stack in packing.py."""
    half, pairs = half_panel(w), aligned(room)
    p, zs, hs = pairs + 2 * BLOCK * K, pairs + 4 * BLOCK * K, pairs + 5 * BLOCK * K
    bias, residual = wo + 4 * K * K, wo + 4 * K * K + 2 * K
    n, t = block_place(block, T)
    rows, at = min(BLOCK, T - t), (layer * N + n) * T * R
    tiles = (rows + TALL_ROWS - 1) // TALL_ROWS * TALL_ROWS
    gather(inputs, at, t, d, rows, R, K, (room, pairs))
    lay_sums(w, bias, condition, n, t, rows, layer, L, R, K, F, T, room, p)
    add_wide(room, pairs, 2 * K, 1, w, wo, 2 * half, 4 * K * half, room, p, 2 * K, 2 * K, tiles, 2 * K)
    bend(room, p, room, zs, tiles * K // half)
    for r in range(rows):
        give(room, zs + r * K, z, ((n * T + t + r) * L + layer) * R, R, K)
        for k in range(0, K, half):
            give(room, p + r * 2 * K + 2 * k + half, gate, at + (t + r) * R + k, R - k, half)
    if layer == L - 1:
        return
    for r in range(tiles):
        for k in range(np.uint64(K)):
            room[np.uint64(hs + r * K) + k] = room[np.uint64(pairs + r * 2 * K + K) + k] + w[np.uint64(residual + K * K) + k]
    add_tall(room, zs, K, 1, w, residual, half, K * half, room, hs, K, K, tiles, K)
    for r in range(rows):
        give(room, hs + r * K, inputs, at + (N * T + t + r) * R, R, K)


@inner
def forward_task(chunk, chunks, first, stop, dilations, inputs, gate, z, w, step, condition, N, T, L, R, K, F):
    """Layers first .. stop - 1 of some blocks, block by block."""
    inputs, gate, z, w, condition = uncounted(inputs), uncounted(gate), uncounted(z), uncounted(w), uncounted(condition)
    blocks, room = N * ((T + BLOCK - 1) // BLOCK), np.empty(6 * BLOCK * K + 64, w.dtype)
    for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
        for layer in range(first, stop):
            forward_block(room, block, layer, dilations[layer], inputs, gate, z, w, layer * step, condition, N, T, L, R, K, F)


@jit
def forward_kernel(inputs, gate, z, w, step, dilations, condition, N, T, L, R, K, F, chunks, layers, threads):
    """Fill z (N, T, L R), the sigmoids' values `gate` (L, N, T, R) and all but the first of inputs (L, N, T, R).

    So many layers are taken at a time: all of them where chunks are sequences.
    """
    for layer in range(0, L, layers):
        parallel_for(forward_task, chunks, threads,
                     (chunks, layer, layer + layers, dilations, inputs, gate, z, w, step, condition, N, T, L, R, K, F))


@inner
def complete(dh, later, n, t, d, rows, T, R, K, w, first, room, ds, qs):
    """D (BLOCK, K) = dh + the gradients `later` (N, T, 2 K), taken d positions later, times a first tap's weights; d = 0: D = dh."""
    half = half_panel(w)
    for r in range(BLOCK):
        if r < rows:
            take(dh, (n * T + t + r) * R, R, room, ds + r * K, K)
        else:
            clear(room, ds + r * K, K)
        if r < rows and t + r + d < T:
            take(later, (n * T + t + r + d) * 2 * K, 2 * K, room, qs + r * 2 * K, 2 * K)
        else:
            clear(room, qs + r * 2 * K, 2 * K)
    if d > 0:
        add_tall(room, qs, 2 * K, 1, w, first, half, 2 * K * half, room, ds, K, 2 * K, BLOCK, K)


@inner
def add_sums(room, at, rows, width, sums, to):
    """sums[to:] += the sum of so many rows."""
    for r in range(rows):
        for k in range(np.uint64(width)):
            sums[np.uint64(to) + k] += room[np.uint64(at + r * width) + k]


@inner
def backward_task(chunk, chunks, layer, d, above, g, z, gate, inputs, dh, later, dp, w, wo, step, sums, size, N, T, L, R, K):
    """Some blocks of one layer: dh becomes the gradient of its inputs but for the first tap's part, which is made of dp (N, T, 2 K).

    `later` is the dp of the layer above, whose dilation is `above`. Each chunk has its own `size` numbers of `sums`: the gradients of
    weights (2 K inputs, 2 K), of the residual ones (K, K), and of both biases.
    """
    g, z, gate, inputs, dh = uncounted(g), uncounted(z), uncounted(gate), uncounted(inputs), uncounted(dh)
    later, dp, w, sums = uncounted(later), uncounted(dp), uncounted(w), uncounted(sums)
    blocks = N * ((T + BLOCK - 1) // BLOCK)
    room, half, dw = np.empty(9 * BLOCK * K + BLOCK + 64, w.dtype), half_panel(w), chunk * size
    pairs, dv, db = aligned(room), dw + 4 * K * K, dw + 5 * K * K
    p, qs, zs = pairs + 2 * BLOCK * K, pairs + 4 * BLOCK * K, pairs + 6 * BLOCK * K
    ds, dz, ones = zs + BLOCK * K, zs + 2 * BLOCK * K, zs + 3 * BLOCK * K
    seconds, residual = wo + 2 * K * K, wo + 4 * K * K
    clear(sums, dw, size)
    for r in range(BLOCK):
        room[np.uint64(ones + r)] = 1
    for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
        n, t = block_place(block, T)
        rows, at = min(BLOCK, T - t), (layer * N + n) * T * R
        complete(dh, later, n, t, above, rows, T, R, K, w, wo + step, room, ds, qs)
        for r in range(rows):
            take(g, ((n * T + t + r) * L + layer) * R, R, room, dz + r * K, K)
            take(z, ((n * T + t + r) * L + layer) * R, R, room, zs + r * K, K)
            take(gate, at + (t + r) * R, R, room, qs + r * K, K)
        clear(room, dz + rows * K, (BLOCK - rows) * K)
        clear(room, zs + rows * K, (BLOCK - rows) * K)
        clear(room, qs + rows * K, (BLOCK - rows) * K)
        if above > 0:
            add_tall(room, ds, K, 1, w, residual, half, K * half, room, dz, K, K, BLOCK, K)
        gather(inputs, at, t, d, rows, R, K, (room, pairs))
        bend_back(room, zs, room, qs, room, dz, room, p, BLOCK * K // half)
        add_wide(room, pairs, 1, 2 * K, room, p, 2 * K, 2 * half, sums, dw, 2 * K, BLOCK, 2 * K, 2 * K)
        for k in range(0, 2 * K, 2 * half):
            one_line(room, ones, 0, room, p + k, 2 * K, sums, db + k, 0, BLOCK)
        if above > 0:
            add_tall(room, ds, 1, K, room, zs, K, half, sums, dv, K, BLOCK, K, K)
            for k in range(0, K, half):
                one_half_line(room, ones, 0, room, ds + k, K, sums, db + 2 * K + k, 0, BLOCK)
        add_tall(room, p, 2 * K, 1, w, seconds, half, 2 * K * half, room, ds, K, 2 * K, BLOCK, K)
        for r in range(rows):
            give(room, ds + r * K, dh, (n * T + t + r) * R, R, K)
            take(room, p + r * 2 * K, 2 * K, dp, (n * T + t + r) * 2 * K, 2 * K)


@inner
def finish_task(chunk, chunks, d, dh, later, w, wo, N, T, R, K):
    """The first layer's first tap's part of dh."""
    dh, later, w, blocks = uncounted(dh), uncounted(later), uncounted(w), N * ((T + BLOCK - 1) // BLOCK)
    room = np.empty(3 * BLOCK * K + 64, w.dtype)
    ds = aligned(room)
    for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
        n, t = block_place(block, T)
        rows = min(BLOCK, T - t)
        complete(dh, later, n, t, d, rows, T, R, K, w, wo, room, ds, ds + BLOCK * K)
        for r in range(rows):
            give(room, ds + r * K, dh, (n * T + t + r) * R, R, K)


@inner
def sum_task(chunk, sums, size, chunks, total, to):
    """A piece of the sum of all chunks' gradients."""
    sums, total, first = uncounted(sums), uncounted(total), chunk * PIECE
    for k in range(first, min(size, first + PIECE)):
        total[np.uint64(to + k)] = sums[np.uint64(k)]
    for part in range(1, chunks):
        for k in range(first, min(size, first + PIECE)):
            total[np.uint64(to + k)] += sums[np.uint64(part * size + k)]


@inner
def condition_task(chunk, dp, dcondition, layer, N, T, L, R, K, F):
    """The gradient of one frame's condition: the sum of dp over its positions."""
    dp, dcondition, half = uncounted(dp), uncounted(dcondition), half_panel(dp)
    n, frame = chunk // F, chunk % F
    room, first = np.zeros(2 * K, dp.dtype), n * T + frame * (T // F)
    add_sums(dp, first * 2 * K, T // F, 2 * K, room, 0)
    at = ((n * F + frame) * L + layer) * 2 * R
    for k in range(R):
        place = k // half * 2 * half + k % half
        dcondition[np.uint64(at + k)], dcondition[np.uint64(at + R + k)] = room[np.uint64(place)], room[np.uint64(place + half)]


@jit
def backward_kernel(g, z, gate, inputs, dh, dps, w, step, dilations, sums, totals, dcondition, size, N, T, L, R, K, F, chunks, threads):
    """Fill dh (N, T, R), which comes as zeros, totals (L, size), and dcondition if F > 0. dps is room for two layers' dp (N, T, 2 K)."""
    for layer in range(L - 1, -1, -1):
        later, dp = dps[(layer + 1) % 2], dps[layer % 2]
        above = dilations[layer + 1] if layer < L - 1 else 0
        parallel_for(backward_task, chunks, threads,
                     (chunks, layer, dilations[layer], above, g, z, gate, inputs, dh, later, dp, w, layer * step, step, sums, size, N, T, L,
                      R, K))
        parallel_for(sum_task, (size + PIECE - 1) // PIECE, threads, (sums, size, chunks, totals, layer * size))
        parallel_for(condition_task, N * F, threads, (dp, dcondition, layer, N, T, L, R, K, F))
    parallel_for(finish_task, chunks, threads, (chunks, dilations[0], dh, dps[0], w, 0, N, T, R, K))
