"""Steps of the optimisers, the norm of all gradients, and scaling: one call over lists of arrays, in place.

All arrays of one parameter (gradient and state) have its shape and dtype. Formulas are those of torch.optim.
Bytes: parameter and state read and written, gradient read.
"""

import math

import numpy as np

from kernels import jit
from kernels.jit import inner, like, parallel_for
from kernels.scalar import maximum


def _each(name, kernel, lists, *numbers):
    """Run kernel(*flat arrays, *numbers) for the arrays at each place of the lists; a list may be None (no such state).

    Numbers take the parameter's dtype, booleans stay. All lists but the gradients (the second) are written to.
    """
    lengths = [len(arrays) for arrays in lists if arrays is not None]
    if min(lengths) != max(lengths):
        raise ValueError(f"{name}: the lists hold {', '.join(map(str, lengths))} arrays; they must be of one length")
    for place, param in enumerate(lists[0]):
        arrays = [np.empty(0, param.dtype) if a is None else a[place] for a in lists]
        for a, given in zip(arrays, lists, strict=True):
            if given is not None and (a.shape != param.shape or a.dtype != param.dtype):
                raise ValueError(f"{name}: parameter {place} is {param.dtype} {param.shape}, but its gradient or state is "
                                 f"{a.dtype} {a.shape}")
        flat = [a.ravel() for a in arrays]                                       # a view where contiguous
        typed = [n if isinstance(n, bool) else param.dtype.type(n) for n in numbers]
        kernel(*flat, *typed, *_chunks(param.size))
        for i, (a, f) in enumerate(zip(arrays, flat, strict=True)):
            if i != 1 and not a.flags.c_contiguous:
                a[...] = f.reshape(a.shape)


def _chunks(size):
    return (size + jit.CHUNK - 1) // jit.CHUNK, jit.threads(size)


@inner
def chunk_slice(chunk):
    return slice(chunk * jit.CHUNK, (chunk + 1) * jit.CHUNK)


# ---- SGD ------------------------------------------------------------------------------------------------------------

@inner
def sgd_task(chunk, p, g, b, lr, momentum, dampening, weight_decay, nesterov, first):
    part = chunk_slice(chunk)
    p, g, b = p[part], g[part], b[part]
    if b.size == 0:
        for i in range(p.size):
            p[i] -= lr * (g[i] + weight_decay * p[i])
        return
    fresh = like(lr, 1) if first else like(lr, 1) - dampening
    kept = like(lr, 0) if first else momentum
    for i in range(p.size):
        d = g[i] + weight_decay * p[i]
        velocity = kept * b[i] + fresh * d
        b[i] = velocity
        p[i] -= lr * (d + momentum * velocity if nesterov else velocity)


@jit.jit
def sgd_kernel(p, g, b, lr, momentum, dampening, weight_decay, nesterov, first, chunks, threads):
    parallel_for(sgd_task, chunks, threads, (p, g, b, lr, momentum, dampening, weight_decay, nesterov, first))


def sgd(params, grads, buffers, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, first=False):
    """d = g + weight_decay p;  b = momentum b + (1 - dampening) d, or d at the first step;  p -= lr b (Sutskever et al. 2013).

    Nesterov: p -= lr (d + momentum b). Without momentum `buffers` is None and p -= lr d.
    """
    _each("sgd", sgd_kernel, (params, grads, buffers), lr, momentum, dampening, weight_decay, bool(nesterov), bool(first))


# ---- Adam -----------------------------------------------------------------------------------------------------------

@inner
def adam_task(chunk, p, g, m, v, highest, rate, beta1, beta2, eps, weight_decay, shrink, unbias):
    part = chunk_slice(chunk)
    p, g, m, v, highest = p[part], g[part], m[part], v[part], highest[part]
    fresh1, fresh2 = like(rate, 1) - beta1, like(rate, 1) - beta2
    for i in range(p.size):
        d = g[i] + weight_decay * p[i]
        mean, square = beta1 * m[i] + fresh1 * d, beta2 * v[i] + fresh2 * d * d
        m[i], v[i] = mean, square
        if highest.size > 0:
            square = maximum(highest[i], square)
            highest[i] = square
        p[i] = shrink * p[i] - rate * mean / (math.sqrt(square) * unbias + eps)


@jit.jit
def adam_kernel(p, g, m, v, highest, rate, beta1, beta2, eps, weight_decay, shrink, unbias, chunks, threads):
    parallel_for(adam_task, chunks, threads, (p, g, m, v, highest, rate, beta1, beta2, eps, weight_decay, shrink, unbias))


def adam(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, lr, beta1, beta2, eps, weight_decay, step, decoupled):
    """Adam (Kingma & Ba 2015, algorithm 1) at step 1, 2, ...; AdamW (Loshchilov & Hutter 2019) if decoupled.

    m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  p -= lr / (1 - beta1^step) m / (sqrt(v / (1 - beta2^step)) + eps).
    Weight decay is added to g, or, decoupled, shrinks p by 1 - lr weight_decay. AMSGrad (Reddi et al. 2018) divides by the largest
    v so far, kept in max_exp_avg_sqs; None without it.
    """
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    _each("adam", adam_kernel, (params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs), lr / (1 - beta1 ** step), beta1, beta2, eps,
          decay, shrink, 1 / math.sqrt(1 - beta2 ** step))


# ---- RMSprop --------------------------------------------------------------------------------------------------------

@inner
def rmsprop_task(chunk, p, g, s, b, a, lr, alpha, eps, weight_decay, momentum):
    part = chunk_slice(chunk)
    p, g, s, b, a = p[part], g[part], s[part], b[part], a[part]
    fresh = like(lr, 1) - alpha
    for i in range(p.size):
        d = g[i] + weight_decay * p[i]
        s[i] = alpha * s[i] + fresh * d * d
        variance = s[i]
        if a.size > 0:
            a[i] = alpha * a[i] + fresh * d
            variance -= a[i] * a[i]
        change = d / (math.sqrt(variance) + eps)
        if b.size > 0:
            change += momentum * b[i]
            b[i] = change
        p[i] -= lr * change


@jit.jit
def rmsprop_kernel(p, g, s, b, a, lr, alpha, eps, weight_decay, momentum, chunks, threads):
    parallel_for(rmsprop_task, chunks, threads, (p, g, s, b, a, lr, alpha, eps, weight_decay, momentum))


def rmsprop(params, grads, square_avgs, buffers, grad_avgs, lr, alpha, eps, weight_decay, momentum):
    """s = alpha s + (1 - alpha) d^2;  p -= lr d / (sqrt(s) + eps), with d = g + weight_decay p (Tieleman & Hinton 2012, lecture 6).

    With grad_avgs (centred, Graves 2013) the mean gradient's square is taken from s; with buffers the change is accumulated,
    b = momentum b + change. Each is None without it.
    """
    _each("rmsprop", rmsprop_kernel, (params, grads, square_avgs, buffers, grad_avgs), lr, alpha, eps, weight_decay, momentum)


# ---- Adagrad --------------------------------------------------------------------------------------------------------

@inner
def adagrad_task(chunk, p, g, s, rate, eps, weight_decay):
    part = chunk_slice(chunk)
    p, g, s = p[part], g[part], s[part]
    for i in range(p.size):
        d = g[i] + weight_decay * p[i]
        s[i] += d * d
        p[i] -= rate * d / (math.sqrt(s[i]) + eps)


@jit.jit
def adagrad_kernel(p, g, s, rate, eps, weight_decay, chunks, threads):
    parallel_for(adagrad_task, chunks, threads, (p, g, s, rate, eps, weight_decay))


def adagrad(params, grads, sums, lr, lr_decay, eps, weight_decay, step):
    """s += d^2;  p -= lr / (1 + (step - 1) lr_decay) d / (sqrt(s) + eps), with d = g + weight_decay p (Duchi et al. 2011)."""
    _each("adagrad", adagrad_kernel, (params, grads, sums), lr / (1 + (step - 1) * lr_decay), eps, weight_decay)


# ---- all gradients --------------------------------------------------------------------------------------------------

@inner(sums=True)
def squared_norm_task(chunk, x, sums):
    part, total = x[chunk_slice(chunk)], 0.0
    for i in range(part.size):
        total += np.float64(part[i]) * np.float64(part[i])
    sums[chunk] = total


@jit.jit
def squared_norm_kernel(x, sums, chunks, threads):
    parallel_for(squared_norm_task, chunks, threads, (x, sums))
    total = 0.0
    for chunk in range(chunks):
        total += sums[chunk]
    return total


def squared_norms(arrays):
    """float64 array with the sum of squares of each array, summed in float64 in an order that only its size decides."""
    norms = np.empty(len(arrays))
    for i, a in enumerate(arrays):
        chunks, threads = _chunks(a.size)
        norms[i] = squared_norm_kernel(a.ravel(), np.empty(chunks), chunks, threads)
    return norms


@inner
def scale_task(chunk, x, factor):
    part = x[chunk_slice(chunk)]
    for i in range(part.size):
        part[i] *= factor


@jit.jit
def scale_kernel(x, factor, chunks, threads):
    parallel_for(scale_task, chunks, threads, (x, factor))


def scale(arrays, factor):
    """Multiply every array by a number, in place."""
    _each("scale", scale_kernel, (arrays,), factor)
