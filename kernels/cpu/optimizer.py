"""Steps of the optimisers, the norm of all gradients, and scaling: one call and one region for all arrays, in place.

A step gets lists of arrays (parameters, gradients, state). Their addresses go into a table; a chunk of the work finds its array in
the table, and then its part of it. All arrays at one place of the lists have one shape. Formulas are those of torch.optim.
Bytes: parameter and state read and written, gradient read; no temporaries.
"""

import math

import numba
import numpy as np

from kernels import jit
from kernels.jit import inner, like, parallel_for
from kernels.scalar import maximum
from kernels.scalar.bits import is_single

CHUNK = jit.CHUNK


@jit.jit
def address(array):
    """Where an array's numbers begin: __array_interface__ takes five times as long to say it, which small networks notice."""
    return array.ctypes.data


def _table(name, lists):
    """(addresses [list, place], sizes, number of the first chunk of each place, chunks, copies) of lists of arrays.

    A list may be None (no such state): its addresses are 0. Arrays that are not contiguous are copied: `copies` are (array, copy).
    """
    lengths = {len(arrays) for arrays in lists if arrays is not None}
    if len(lengths) > 1:
        raise ValueError(f"{name}: the lists hold {', '.join(map(str, sorted(lengths)))} arrays; they must be of one length")
    first, copies, table = lists[0], [], np.zeros((len(lists), len(lists[0])), np.int64)
    for row, arrays in enumerate(lists):
        for place, array in enumerate(arrays or ()):
            if array.shape != first[place].shape or array.dtype != first[0].dtype:
                raise ValueError(f"{name}: array {place} of list {row} is {array.dtype} {array.shape}, but {first[0].dtype} "
                                 f"{first[place].shape} is needed")
            if row != 1 and not array.flags.writeable:
                raise ValueError(f"{name}: array {place} of list {row} is read-only; make a copy of it first")
            if not array.flags.c_contiguous:
                copies.append((array, np.ascontiguousarray(array)))
                array = copies[-1][1]
            table[row, place] = address(array.ravel())
    sizes = np.array([a.size for a in first], np.int64)
    ends = np.cumsum((sizes + CHUNK - 1) // CHUNK)
    return table, sizes, np.concatenate(([0], ends[:-1])), int(ends[-1]), copies


def _step(name, kernel, lists, *numbers):
    """Run an optimiser's kernel over lists of arrays. Numbers take the arrays' dtype, booleans stay."""
    if not lists[0]:
        return
    table, sizes, firsts, chunks, copies = _table(name, lists)
    dtype = lists[0][0].dtype
    typed = [n if isinstance(n, bool) else dtype.type(n) for n in numbers]
    kernel(table, sizes, firsts, np.empty(0, dtype), *typed, chunks, jit.threads(chunks * CHUNK))
    for array, copy in copies:
        array[...] = copy


@inner
def locate(chunk, sizes, firsts):
    """(place of the array that a chunk belongs to, where in it the chunk starts, its size)."""
    low, high = 0, firsts.size - 1
    while low < high:
        middle = (low + high + 1) // 2
        if firsts[middle] <= chunk:
            low = middle
        else:
            high = middle - 1
    start = (chunk - firsts[low]) * CHUNK
    return low, start, min(CHUNK, sizes[low] - start)


@inner
def part(table, row, place, start, size, model):
    """`size` numbers from `start` of the array in a row of the table, of model's dtype; none if there is no such array."""
    address = table[row, place]
    return numba.carray(jit.pointer(address + start * model.itemsize, model), size if address != 0 else 0)


@inner
def settled(average):
    """A decaying average, 0 once it is nearly denormal: denormals are a hundred times slower, and it would stay there (the
    smallest one times 0.9 is itself again). Units that are never active get there after 800 steps of Adam."""
    return average if math.fabs(average) > (1e-37 if is_single(average) else 1e-300) else like(average, 0)


# ---- SGD ------------------------------------------------------------------------------------------------------------

@inner
def sgd_task(chunk, table, sizes, firsts, model, lr, momentum, fresh, kept, weight_decay, nesterov):
    place, start, size = locate(chunk, sizes, firsts)
    p, g = part(table, 0, place, start, size, model), part(table, 1, place, start, size, model)
    b = part(table, 2, place, start, size, model)
    if b.size == 0:
        for i in range(p.size):
            p[i] -= lr * (g[i] + weight_decay * p[i])
        return
    for i in range(p.size):
        d = g[i] + weight_decay * p[i]
        velocity = settled(kept * b[i] + fresh * d)
        b[i] = velocity
        p[i] -= lr * (d + momentum * velocity if nesterov else velocity)


@jit.jit
def sgd_kernel(table, sizes, firsts, model, lr, momentum, fresh, kept, weight_decay, nesterov, chunks, threads):
    parallel_for(sgd_task, chunks, threads, (table, sizes, firsts, model, lr, momentum, fresh, kept, weight_decay, nesterov))


def sgd(params, grads, buffers, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, first=False):
    """d = g + weight_decay p;  b = momentum b + (1 - dampening) d, or d at the first step;  p -= lr b (Sutskever et al. 2013).

    Nesterov: p -= lr (d + momentum b). Without momentum `buffers` is None and p -= lr d.
    """
    fresh, kept = (1.0, 0.0) if first else (1 - dampening, momentum)
    _step("sgd", sgd_kernel, (params, grads, buffers), lr, momentum, fresh, kept, weight_decay, bool(nesterov))


# ---- running means --------------------------------------------------------------------------------------------------

@inner
def lerp_task(chunk, table, sizes, firsts, model, weight):
    place, start, size = locate(chunk, sizes, firsts)
    p, q = part(table, 0, place, start, size, model), part(table, 1, place, start, size, model)
    for i in range(p.size):
        p[i] += weight * (q[i] - p[i])


@jit.jit
def lerp_kernel(table, sizes, firsts, model, weight, chunks, threads):
    parallel_for(lerp_task, chunks, threads, (table, sizes, firsts, model, weight))


def lerp(arrays, ends, weight):
    """p += weight (q - p): each array a part of the way to its end, in place."""
    _step("lerp", lerp_kernel, (arrays, ends), weight)


# ---- Adam -----------------------------------------------------------------------------------------------------------

@inner
def adam_task(chunk, table, sizes, firsts, model, rate, beta1, fresh1, beta2, fresh2, eps, weight_decay, shrink, unbias):
    place, start, size = locate(chunk, sizes, firsts)
    p, g = part(table, 0, place, start, size, model), part(table, 1, place, start, size, model)
    m, v = part(table, 2, place, start, size, model), part(table, 3, place, start, size, model)
    highest = part(table, 4, place, start, size, model)
    for i in range(p.size):
        d = g[i] + weight_decay * p[i]
        mean, square = settled(beta1 * m[i] + fresh1 * d), settled(beta2 * v[i] + fresh2 * d * d)
        m[i], v[i] = mean, square
        if highest.size > 0:
            square = maximum(highest[i], square)
            highest[i] = square
        p[i] = shrink * p[i] - rate * mean / (math.sqrt(square) * unbias + eps)


@jit.jit
def adam_kernel(table, sizes, firsts, model, rate, beta1, fresh1, beta2, fresh2, eps, weight_decay, shrink, unbias, chunks, threads):
    parallel_for(adam_task, chunks, threads,
                 (table, sizes, firsts, model, rate, beta1, fresh1, beta2, fresh2, eps, weight_decay, shrink, unbias))


def adam(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, lr, beta1, beta2, eps, weight_decay, step, decoupled):
    """Adam (Kingma & Ba 2015, algorithm 1) at step 1, 2, ...; AdamW (Loshchilov & Hutter 2019) if decoupled.

    m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  p -= lr / (1 - beta1^step) m / (sqrt(v / (1 - beta2^step)) + eps).
    Weight decay is added to g, or, decoupled, shrinks p by 1 - lr weight_decay. AMSGrad (Reddi et al. 2018) divides by the largest
    v so far, kept in max_exp_avg_sqs; None without it.
    """
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    _step("adam", adam_kernel, (params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs), lr / (1 - beta1 ** step), beta1, 1 - beta1,
          beta2, 1 - beta2, eps, decay, shrink, 1 / math.sqrt(1 - beta2 ** step))


# ---- RMSprop --------------------------------------------------------------------------------------------------------

@inner
def rmsprop_task(chunk, table, sizes, firsts, model, lr, alpha, fresh, eps, weight_decay, momentum):
    place, start, size = locate(chunk, sizes, firsts)
    p, g = part(table, 0, place, start, size, model), part(table, 1, place, start, size, model)
    s, b = part(table, 2, place, start, size, model), part(table, 3, place, start, size, model)
    a = part(table, 4, place, start, size, model)
    for i in range(p.size):
        d = g[i] + weight_decay * p[i]
        s[i] = settled(alpha * s[i] + fresh * d * d)
        variance = s[i]
        if a.size > 0:
            a[i] = settled(alpha * a[i] + fresh * d)
            variance -= a[i] * a[i]
        change = d / (math.sqrt(maximum(variance, like(lr, 0))) + eps)
        if b.size > 0:
            change += momentum * b[i]
            b[i] = change
        p[i] -= lr * change


@jit.jit
def rmsprop_kernel(table, sizes, firsts, model, lr, alpha, fresh, eps, weight_decay, momentum, chunks, threads):
    parallel_for(rmsprop_task, chunks, threads, (table, sizes, firsts, model, lr, alpha, fresh, eps, weight_decay, momentum))


def rmsprop(params, grads, square_avgs, buffers, grad_avgs, lr, alpha, eps, weight_decay, momentum):
    """s = alpha s + (1 - alpha) d^2;  p -= lr d / (sqrt(s) + eps), with d = g + weight_decay p (Tieleman & Hinton 2012, lecture 6).

    With grad_avgs (centred, Graves 2013) the mean gradient's square is taken from s; with buffers the change is accumulated,
    b = momentum b + change. Each is None without it.
    """
    _step("rmsprop", rmsprop_kernel, (params, grads, square_avgs, buffers, grad_avgs), lr, alpha, 1 - alpha, eps, weight_decay, momentum)


# ---- Adagrad --------------------------------------------------------------------------------------------------------

@inner
def adagrad_task(chunk, table, sizes, firsts, model, rate, eps, weight_decay):
    place, start, size = locate(chunk, sizes, firsts)
    p, g = part(table, 0, place, start, size, model), part(table, 1, place, start, size, model)
    s = part(table, 2, place, start, size, model)
    for i in range(p.size):
        d = g[i] + weight_decay * p[i]
        s[i] += d * d
        p[i] -= rate * d / (math.sqrt(s[i]) + eps)


@jit.jit
def adagrad_kernel(table, sizes, firsts, model, rate, eps, weight_decay, chunks, threads):
    parallel_for(adagrad_task, chunks, threads, (table, sizes, firsts, model, rate, eps, weight_decay))


def adagrad(params, grads, sums, lr, lr_decay, eps, weight_decay, step):
    """s += d^2;  p -= lr / (1 + (step - 1) lr_decay) d / (sqrt(s) + eps), with d = g + weight_decay p (Duchi et al. 2011)."""
    _step("adagrad", adagrad_kernel, (params, grads, sums), lr / (1 + (step - 1) * lr_decay), eps, weight_decay)


# ---- all gradients --------------------------------------------------------------------------------------------------

@inner(sums=True)
def squared_norm_task(chunk, table, sizes, firsts, model, sums):
    place, start, size = locate(chunk, sizes, firsts)
    x, total = part(table, 0, place, start, size, model), 0.0
    for i in range(x.size):
        total += np.float64(x[i]) * np.float64(x[i])
    sums[chunk] = total


@jit.jit
def squared_norm_kernel(table, sizes, firsts, model, sums, threads):
    parallel_for(squared_norm_task, sums.size, threads, (table, sizes, firsts, model, sums))


def squared_norms(arrays):
    """float64 array with the sum of squares of each array, summed in float64 in an order that only its size decides."""
    norms = np.zeros(len(arrays))
    for dtype in dict.fromkeys(a.dtype for a in arrays):
        places = [i for i, a in enumerate(arrays) if a.dtype == dtype]
        norms[places] = _squared_norms([arrays[i] for i in places])
    return norms


def _squared_norms(arrays):
    """squared_norms of arrays of one dtype."""
    table, sizes, firsts, chunks, _copies = _table("squared_norms", (arrays,))
    sums = np.empty(chunks)
    squared_norm_kernel(table, sizes, firsts, np.empty(0, arrays[0].dtype), sums, jit.threads(chunks * CHUNK))
    ends = [*firsts[1:], chunks]
    return np.array([math.fsum(sums[a:b]) for a, b in zip(firsts, ends, strict=True)])


@inner
def scale_task(chunk, table, sizes, firsts, model, factor):
    place, start, size = locate(chunk, sizes, firsts)
    x = part(table, 0, place, start, size, model)
    for i in range(x.size):
        x[i] *= factor


@jit.jit
def scale_kernel(table, sizes, firsts, model, factor, chunks, threads):
    parallel_for(scale_task, chunks, threads, (table, sizes, firsts, model, factor))


def scale(arrays, factor):
    """Multiply every array by a number, in place."""
    for dtype in dict.fromkeys(a.dtype for a in arrays):
        _step("scale", scale_kernel, ([a for a in arrays if a.dtype == dtype],), factor)
