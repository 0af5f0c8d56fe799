"""Cross-entropy between logits and class numbers, or rows of 0 and 1, and its gradient. Rows go to the threads in chunks, as in
softmax.py."""

import math

import numpy as np

from kernels import jit
from kernels.cpu.rows import exp_all, row_chunks, row_max, row_sum
from kernels.jit import inner, like, parallel_for
from kernels.scalar import binary_cross_entropy_with_logits_backward, exp, log, maximum

PRODUCT = 112      # factors of 1 to 2 whose product stays below float32's largest number, 2^128; seven vectors of AVX-512
BLOCKS = 32        # of PRODUCT elements in a chunk of a sum over everything


@inner
def first_outside(target, classes, ignore_index):
    """Place of the first target that is no class and not ignored; -1 if there is none."""
    for n in range(target.size):
        if target[n] != ignore_index and (target[n] < 0 or target[n] >= classes):
            return n
    return -1


@inner
def log_sum_exp_rows(x, lse, columns):
    """lse = log sum exp of each row of x."""
    shifted = np.empty_like(x)
    for n in range(lse.size):
        part = slice(n * columns, (n + 1) * columns)
        row, out = x[part], shifted[part]
        highest = row_max(row)
        for c in range(out.size):
            out[c] = row[c] - highest
        lse[n] = highest
    exp_all(shifted)
    for n in range(lse.size):
        lse[n] += log(row_sum(shifted[n * columns:(n + 1) * columns]))


@inner(sums=True)
def weighted_distance(row, weight, lse):
    """sum_c weight_c (lse - row_c)"""
    total = like(lse, 0)
    for c in range(row.size):
        total += weight[c] * (lse - row[c])
    return total


@inner
def cross_entropy_task(chunk, x, target, weight, losses, lse, ignore_index, smoothing, rows):
    columns, part = weight.size, slice(chunk * rows, (chunk + 1) * rows)
    target, losses, lse = target[part], losses[part], lse[part]
    x = x[chunk * rows * columns:(chunk + 1) * rows * columns]
    log_sum_exp_rows(x, lse, columns)
    for n in range(losses.size):
        row, t = x[n * columns:(n + 1) * columns], target[n]
        if t == ignore_index:
            losses[n] = 0
            continue
        losses[n] = (like(smoothing, 1) - smoothing) * weight[t] * (lse[n] - row[t])
        if smoothing > 0:
            losses[n] += smoothing / like(smoothing, columns) * weighted_distance(row, weight, lse[n])


@jit.jit
def cross_entropy_kernel(x, target, weight, losses, lse, ignore_index, smoothing, rows, chunks, threads):
    outside = first_outside(target, weight.size, ignore_index)
    if outside < 0:
        parallel_for(cross_entropy_task, chunks, threads, (x, target, weight, losses, lse, ignore_index, smoothing, rows))
    return outside


def cross_entropy(x, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """(losses (N,), lse (N,)) of logits x (N, C) and classes target (N,), whole numbers in 0..C-1 or ignore_index.

    losses_n = (1 - e) w_t (lse_n - x_nt) + e / C sum_c w_c (lse_n - x_nc), in nats, with t = target_n, e = label_smoothing
    (Szegedy et al. 2016, section 7), w = weight (C,) or 1, and lse_n = log sum_c exp(x_nc); 0 where t is ignore_index.
    IndexError names a target that is no class. Bytes: x read once.
    """
    target, weight = _checked("cross_entropy", x, target, weight)
    losses, lse = np.empty(len(x), x.dtype), np.empty(len(x), x.dtype)
    outside = cross_entropy_kernel(x.ravel(), target, weight, losses, lse, ignore_index, x.dtype.type(label_smoothing),
                                   *row_chunks(*x.shape))
    if outside >= 0:
        raise IndexError(f"cross_entropy: target {target[outside]} at place {outside} is outside 0..{x.shape[1] - 1} "
                         f"and not ignore_index ({ignore_index})")
    return losses, lse


@inner
def cross_entropy_backward_task(chunk, g, x, lse, target, weight, dx, ignore_index, smoothing, total_weight, rows):
    columns = weight.size
    first, last = chunk * rows, min((chunk + 1) * rows, target.size)
    for n in range(first, last):
        part = slice(n * columns, (n + 1) * columns)
        row, out, log_sum = x[part], dx[part], lse[n]
        for c in range(out.size):
            out[c] = row[c] - log_sum
    here = dx[first * columns:last * columns]
    exp_all(here)
    for n in range(first, last):
        out, t = dx[n * columns:(n + 1) * columns], target[n]
        if t == ignore_index:
            out[:] = 0
            continue
        hit = g[n] * (like(smoothing, 1) - smoothing) * weight[t]
        spread = g[n] * smoothing / like(smoothing, columns)
        scale = hit + spread * total_weight
        for c in range(out.size):
            out[c] = scale * out[c] - spread * weight[c]
        out[t] -= hit


@jit.jit
def cross_entropy_backward_kernel(g, x, lse, target, weight, dx, ignore_index, smoothing, rows, chunks, threads):
    parallel_for(cross_entropy_backward_task, chunks, threads,
                 (g, x, lse, target, weight, dx, ignore_index, smoothing, row_sum(weight), rows))


def cross_entropy_backward(g, x, lse, target, weight=None, ignore_index=-100, label_smoothing=0.0):
    """Gradient (N, C) of cross_entropy's losses for g (N,), the gradient of each.

    g_n ((1 - e) w_t (p_nc - [c = t]) + e / C (W p_nc - w_c)) with p = exp(x - lse) and W = sum_c w_c; 0 where t is ignore_index.
    Bytes: x read, the result written.
    """
    target, weight = _checked("cross_entropy_backward", x, target, weight)
    for name, a in (("g", g), ("lse", lse)):
        if a.shape != target.shape:
            raise ValueError(f"cross_entropy_backward: {name} has shape {a.shape}, {target.shape} fits x of shape {x.shape}")
    dx = np.empty(x.shape, x.dtype)
    cross_entropy_backward_kernel(g.ravel(), x.ravel(), lse.ravel(), target, weight, dx.reshape(-1), ignore_index,
                                  x.dtype.type(label_smoothing), *row_chunks(*x.shape))
    return dx


# ---- rows of 0 and 1 ------------------------------------------------------------------------------------------------

@inner(sums=True)
def binary_loss(x, t):
    """(sum of max(x, 0) - x t, product of 1 + exp(-|x|)) over at most PRODUCT elements: the loss is the sum and the product's log."""
    jit.full_width()
    total, product = like(x[0], 0), like(x[0], 1)
    for i in range(x.size):
        total += maximum(x[i], like(x[i], 0)) - x[i] * t[i]
        product *= like(x[i], 1) + exp(-math.fabs(x[i]))
    return total, product


@inner
def binary_total_task(chunk, x, target, partial):
    products, blocks, total = np.empty(BLOCKS, x.dtype), 0, 0.0
    for start in range(chunk * BLOCKS * PRODUCT, min((chunk + 1) * BLOCKS * PRODUCT, x.size), PRODUCT):
        stop = min(start + PRODUCT, x.size)
        part, products[blocks] = binary_loss(x[start:stop], target[start:stop])
        total += part
        blocks += 1
    products[blocks:] = 1
    for i in range(products.size):
        products[i] = log(products[i])
    partial[chunk] = total + row_sum(products)


@jit.jit
def binary_total_kernel(x, target, threads):
    partial = np.empty((x.size + BLOCKS * PRODUCT - 1) // (BLOCKS * PRODUCT))
    parallel_for(binary_total_task, partial.size, threads, (x, target, partial))
    return partial.sum()


def binary_cross_entropy_with_logits_total(x, target):
    """Sum over all elements of max(x, 0) - x t + log(1 + exp(-|x|)) of logits x and targets t of one shape, as an array of no dimension.

    As sum log(1 + e) = log prod (1 + e), and a factor is at most 2, a logarithm is taken once in PRODUCT elements, not in each.
    Bytes: both arrays once.
    """
    if x.shape != target.shape or x.dtype != target.dtype:
        raise ValueError("binary_cross_entropy_with_logits_total: both arrays must have one shape and dtype, got "
                         f"{x.shape} {x.dtype} and {target.shape} {target.dtype}")
    return np.asarray(binary_total_kernel(x.ravel(), target.ravel(), jit.threads(x.size)), x.dtype)


@inner
def binary_rows_task(chunk, x, target, losses, columns, samples, rows):
    blocks = (columns + PRODUCT - 1) // PRODUCT
    first, last = chunk * rows, min((chunk + 1) * rows, losses.size)
    products = np.empty((last - first) * blocks, x.dtype)
    for n in range(first, last):
        at, t, total = n * columns, n // samples * columns, like(losses[n], 0)
        for b in range(blocks):
            start, stop = b * PRODUCT, min((b + 1) * PRODUCT, columns)
            part, product = binary_loss(x[at + start:at + stop], target[t + start:t + stop])
            total += part
            products[(n - first) * blocks + b] = product
        losses[n] = total
    for i in range(products.size):
        products[i] = log(products[i])
    for n in range(first, last):
        losses[n] += row_sum(products[(n - first) * blocks:(n - first + 1) * blocks])


@jit.jit
def binary_rows_kernel(x, target, losses, columns, samples, rows, chunks, threads):
    parallel_for(binary_rows_task, chunks, threads, (x, target, losses, columns, samples, rows))


def binary_cross_entropy_with_logits_rows(x, target):
    """Sums (N, S) over D of the losses max(x, 0) - x t + log(1 + exp(-|x|)) of logits x (N, S, D), S rows for each of target (N, D).

    Logarithms as in binary_cross_entropy_with_logits_total. Bytes: x once.
    """
    _check_binary("binary_cross_entropy_with_logits_rows", x, target)
    losses, (N, S, D) = np.empty(x.shape[:2], x.dtype), x.shape
    binary_rows_kernel(x.ravel(), target.ravel(), losses.reshape(-1), D, max(1, S), *row_chunks(N * S, D))
    return losses


@inner
def binary_rows_backward_task(chunk, g, x, target, dx, columns, samples, rows):
    jit.full_width()
    for n in range(chunk * rows, min((chunk + 1) * rows, g.size)):
        at, t, arrived = n * columns, n // samples * columns, g[n]
        row, wanted, out = x[at:at + columns], target[t:t + columns], dx[at:at + columns]
        for i in range(out.size):
            out[i] = binary_cross_entropy_with_logits_backward(arrived, row[i], wanted[i])


@jit.jit
def binary_rows_backward_kernel(g, x, target, dx, columns, samples, rows, chunks, threads):
    parallel_for(binary_rows_backward_task, chunks, threads, (g, x, target, dx, columns, samples, rows))


def binary_cross_entropy_with_logits_rows_backward(g, x, target):
    """Gradient (N, S, D) of the sums by x, for g (N, S), the gradient of each: g (sigmoid(x) - t). Bytes: x read, the result written."""
    _check_binary("binary_cross_entropy_with_logits_rows_backward", x, target)
    if g.shape != x.shape[:2]:
        raise ValueError(f"binary_cross_entropy_with_logits_rows_backward: g has shape {g.shape}, {x.shape[:2]} fits x of shape {x.shape}")
    dx, (N, S, D) = np.empty(x.shape, x.dtype), x.shape
    binary_rows_backward_kernel(g.ravel(), x.ravel(), target.ravel(), dx.reshape(-1), D, max(1, S), *row_chunks(N * S, D))
    return dx


def _check_binary(name, x, target):
    if x.ndim != 3 or target.shape != (x.shape[0], x.shape[2]) or target.dtype != x.dtype:
        raise ValueError(f"{name}: x must have shape (N, S, D) and target (N, D) of the same dtype, got {x.shape} {x.dtype} and "
                         f"{target.shape} {target.dtype}")


def _checked(name, x, target, weight):
    """(target as contiguous int64, weight as contiguous array of x's dtype) after a check of all shapes."""
    if x.ndim != 2 or target.shape != x.shape[:1]:
        raise ValueError(f"{name}: x must have shape (N, C) and target (N,), got {x.shape} and {target.shape}")
    if target.dtype.kind not in "iu":
        raise TypeError(f"{name}: target must hold whole numbers (class numbers), got {target.dtype}")
    if weight is None:
        weight = np.ones(x.shape[1], x.dtype)
    elif weight.shape != x.shape[1:]:
        raise ValueError(f"{name}: weight has shape {weight.shape}, {x.shape[1:]} fits x of shape {x.shape}")
    return np.ascontiguousarray(target, np.int64), np.ascontiguousarray(weight, x.dtype)
