"""Cross-entropy between logits and class numbers, or rows of 0 and 1, and its gradient: one block of threads for each row (rows.py)."""

import numpy as np

from kernels.cuda.array import as_device, blocks, contiguous, empty, full
from kernels.cuda.checks import require_inside
from kernels.cuda.compiler import cuda, kernel, scalar, typed
from kernels.cuda.reduce import sum, total
from kernels.cuda.rows import WARP, block_sum, floating, row_max, row_sum_exp, row_threads


@kernel
def cross_entropy_kernel(x, target, weight, losses, lse, ignore_index, smoothing, columns):
    room = cuda.shared.array(WARP, x.dtype)
    row, start, t = cuda.blockIdx.x, cuda.blockIdx.x * columns, target[cuda.blockIdx.x]
    highest = row_max(x, start, columns, room)
    log_sum = highest + scalar.log(row_sum_exp(x, start, columns, highest, room))
    distance = typed(x, 0)
    if smoothing > 0:
        for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
            distance += weight[i] * (log_sum - x[start + i])
        distance = block_sum(distance, room)
    if cuda.threadIdx.x == 0:
        lse[row] = log_sum
        if t == ignore_index or t < 0 or t >= columns:
            losses[row] = 0
        else:
            losses[row] = ((typed(x, 1) - smoothing) * weight[t] * (log_sum - x[start + t])
                           + smoothing / typed(x, columns) * distance)


def cross_entropy(x, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """(losses (N,), lse (N,)) of logits x (N, C) and classes target (N,), whole numbers in 0..C-1 or ignore_index.

    losses_n = (1 - e) w_t (lse_n - x_nt) + e / C sum_c w_c (lse_n - x_nc), in nats, with t = target_n, e = label_smoothing
    (Szegedy et al. 2016, section 7), w = weight (C,) or 1, and lse_n = log sum_c exp(x_nc); 0 where t is ignore_index.
    IndexError names a target that is no class. Bytes: x read once.
    """
    target, weight = _checked("cross_entropy", x, target, weight)
    N, C = x.shape
    require_inside(target, C, lambda place, value: IndexError(
        f"cross_entropy: target {value} at place {place} is outside 0..{C - 1} and not ignore_index ({ignore_index})"), ignore_index)
    losses, lse = empty(N, x.dtype), empty(N, x.dtype)
    cross_entropy_kernel[N, row_threads(C)](contiguous(x), target, weight, losses, lse, ignore_index, x.dtype.type(label_smoothing), C)
    return losses, lse


@kernel
def cross_entropy_backward_kernel(g, x, lse, target, weight, total_weight, dx, ignore_index, smoothing, columns, n):
    """One thread for each number: nothing is summed."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        row = i // columns
        column, t = i - row * columns, target[row]
        if t == ignore_index or t < 0 or t >= columns:
            dx[i] = 0
        else:
            hit = g[row] * (typed(x, 1) - smoothing) * weight[t]
            spread = g[row] * smoothing / typed(x, columns)
            gradient = (hit + spread * total_weight[0]) * scalar.exp(x[i] - lse[row]) - spread * weight[column]
            dx[i] = gradient - hit if column == t else gradient


def cross_entropy_backward(g, x, lse, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """Gradient (N, C) of cross_entropy's losses for g (N,), the gradient of each: with p = exp(x - lse) and W = sum_c w_c

    g_n ((1 - e) w_t (p_nc - [c = t]) + e / C (W p_nc - w_c)); 0 where t is ignore_index. Bytes: x read, the result written.
    """
    target, weight = _checked("cross_entropy_backward", x, target, weight)
    as_device("cross_entropy_backward", g, lse)
    for name, a in (("g", g), ("lse", lse)):
        if a.shape != target.shape:
            raise ValueError(f"cross_entropy_backward: {name} has shape {a.shape}, {target.shape} fits x of shape {x.shape}")
    dx = empty(x.shape, x.dtype)
    cross_entropy_backward_kernel[blocks(x.size), 256](contiguous(g), contiguous(x), contiguous(lse), target, weight, sum(weight), dx,
                                                       ignore_index, x.dtype.type(label_smoothing), x.shape[1], x.size)
    return dx


def _checked(name, x, target, weight):
    """(target as contiguous int64, weight as contiguous array of x's dtype) after a check of all shapes."""
    as_device(name, x, target, weight)
    dtype = floating(name, x, weight)
    if x.ndim != 2 or target.shape != x.shape[:1]:
        raise ValueError(f"{name}: x must have shape (N, C) and target (N,), got {x.shape} and {target.shape}")
    if target.dtype.kind not in "iu":
        raise TypeError(f"{name}: target must hold whole numbers (class numbers), got {target.dtype}")
    if weight is None:
        weight = full(x.shape[1], 1, dtype)
    elif weight.shape != x.shape[1:]:
        raise ValueError(f"{name}: weight has shape {weight.shape}, {x.shape[1:]} fits x of shape {x.shape}")
    return contiguous(target.astype(np.int64, copy=False)), contiguous(weight)


# ---- rows of 0 and 1 ------------------------------------------------------------------------------------------------

_binary_total = total(scalar.binary_cross_entropy_with_logits)


def binary_cross_entropy_with_logits_total(x, target):
    """Sum over all elements of max(x, 0) - x t + log(1 + exp(-|x|)) of logits x and targets t of one shape, as an array of no dimension.

    Bytes: both arrays once.
    """
    return _binary_total(x, target)


@kernel
def binary_rows_kernel(x, target, losses, columns, samples):
    room = cuda.shared.array(WARP, x.dtype)
    start, at = cuda.blockIdx.x * columns, cuda.blockIdx.x // samples * columns
    loss = typed(x, 0)
    for i in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
        loss += scalar.binary_cross_entropy_with_logits(x[start + i], target[at + i])
    loss = block_sum(loss, room)
    if cuda.threadIdx.x == 0:
        losses[cuda.blockIdx.x] = loss


def binary_cross_entropy_with_logits_rows(x, target):
    """Sums (N, S) over D of the losses max(x, 0) - x t + log(1 + exp(-|x|)) of logits x (N, S, D), S rows for each of target (N, D).

    Bytes: x once.
    """
    _check_binary("binary_cross_entropy_with_logits_rows", x, target)
    N, S, D = x.shape
    losses = empty((N, S), x.dtype)
    binary_rows_kernel[N * S, row_threads(D)](contiguous(x), contiguous(target), losses, D, S)
    return losses


@kernel
def binary_rows_backward_kernel(g, x, target, dx, columns, samples, n):
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        row = i // columns
        t = target[row // samples * columns + i - row * columns]
        dx[i] = scalar.binary_cross_entropy_with_logits_backward(g[row], x[i], t)


def binary_cross_entropy_with_logits_rows_backward(g, x, target):
    """Gradient (N, S, D) of the sums by x, for g (N, S), the gradient of each: g (sigmoid(x) - t). Bytes: x read, the result written."""
    _check_binary("binary_cross_entropy_with_logits_rows_backward", x, target)
    as_device("binary_cross_entropy_with_logits_rows_backward", g)
    if g.shape != x.shape[:2]:
        raise ValueError(f"binary_cross_entropy_with_logits_rows_backward: g has shape {g.shape}, {x.shape[:2]} fits x of shape {x.shape}")
    dx = empty(x.shape, x.dtype)
    binary_rows_backward_kernel[blocks(x.size), 256](contiguous(g), contiguous(x), contiguous(target), dx, x.shape[2], x.shape[1], x.size)
    return dx


def _check_binary(name, x, target):
    as_device(name, x, target)
    floating(name, x)
    if x.ndim != 3 or target.shape != (x.shape[0], x.shape[2]) or target.dtype != x.dtype:
        raise ValueError(f"{name}: x must have shape (N, S, D) and target (N, D) of the same dtype, got {x.shape} {x.dtype} and "
                         f"{target.shape} {target.dtype}")
