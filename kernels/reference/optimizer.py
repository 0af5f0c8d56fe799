"""Steps of the optimisers in NumPy: lists of arrays, changed in place. A list is None where there is no such state."""

import numpy as np


def sgd(params, grads, buffers, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, first=False):
    """d = g + weight_decay p;  b = momentum b + (1 - dampening) d, or d at the first step;  p -= lr b.

    Nesterov: p -= lr (d + momentum b). Without buffers p -= lr d.
    """
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        d = g + weight_decay * p
        if buffers is not None:
            b = buffers[i]
            b[...] = d if first else momentum * b + (1 - dampening) * d
            d = d + momentum * b if nesterov else b
        p -= lr * d


def lerp(arrays, ends, weight):
    """p += weight (q - p)."""
    for p, q in zip(arrays, ends, strict=True):
        p += weight * (q - p)


def adam(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, lr, beta1, beta2, eps, weight_decay, step, decoupled):
    """Adam (Kingma & Ba 2015) at step 1, 2, ...; AdamW (Loshchilov & Hutter 2019) if decoupled; AMSGrad with max_exp_avg_sqs."""
    for i, (p, g, m, v) in enumerate(zip(params, grads, exp_avgs, exp_avg_sqs, strict=True)):
        if decoupled:
            p *= 1 - lr * weight_decay
        else:
            g = g + weight_decay * p
        m[...] = beta1 * m + (1 - beta1) * g
        v[...] = beta2 * v + (1 - beta2) * g * g
        if max_exp_avg_sqs is not None:
            v = max_exp_avg_sqs[i]
            v[...] = np.maximum(v, exp_avg_sqs[i])
        p -= lr * (m / (1 - beta1 ** step)) / (np.sqrt(v / (1 - beta2 ** step)) + eps)


def rmsprop(params, grads, square_avgs, buffers, grad_avgs, lr, alpha, eps, weight_decay, momentum):
    """s = alpha s + (1 - alpha) d^2;  p -= lr d / (sqrt(s) + eps), with d = g + weight_decay p.

    With grad_avgs the mean gradient's square is taken from s; with buffers the change is accumulated.
    """
    for i, (p, g, s) in enumerate(zip(params, grads, square_avgs, strict=True)):
        d = g + weight_decay * p
        s[...] = alpha * s + (1 - alpha) * d * d
        variance = s
        if grad_avgs is not None:
            a = grad_avgs[i]
            a[...] = alpha * a + (1 - alpha) * d
            variance = s - a * a
        change = d / (np.sqrt(variance) + eps)
        if buffers is not None:
            buffers[i][...] = momentum * buffers[i] + change
            change = buffers[i]
        p -= lr * change


def adagrad(params, grads, sums, lr, lr_decay, eps, weight_decay, step):
    """s += d^2;  p -= lr / (1 + (step - 1) lr_decay) d / (sqrt(s) + eps), with d = g + weight_decay p (Duchi et al. 2011)."""
    for p, g, s in zip(params, grads, sums, strict=True):
        d = g + weight_decay * p
        s += d * d
        p -= lr / (1 + (step - 1) * lr_decay) * d / (np.sqrt(s) + eps)


def squared_norms(arrays):
    """float64 array with the sum of squares of each array."""
    return np.array([np.sum(a.astype(np.float64) ** 2) for a in arrays])


def scale(arrays, factor):
    """Multiply every array by a number, in place."""
    with np.errstate(invalid="ignore"):                # infinity times 0 is NaN, as everywhere
        for a in arrays:
            a *= factor
