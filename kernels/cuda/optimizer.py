"""Steps of the optimisers, the norm of all gradients, and scaling: one launch for all arrays, in place.

A step gets lists of arrays (parameters, gradients, state). Their addresses go into a table on the GPU, which is made once for the
same arrays; a block of threads works on a chunk of CHUNK numbers and finds its array in the table. All arrays at one place of the
lists have one shape. Numbers such as the learning rate come in a small array, so that a CUDA graph can be given others
(graph.py). Formulas are those of torch.optim. Bytes: parameter and state read and written, gradient read; no temporaries.
"""

import math
from functools import lru_cache

import numpy as np

from kernels.cuda import runtime
from kernels.cuda.array import DeviceArray, as_device, contiguous, copy_into, empty, to_device
from kernels.cuda.compiler import at, cuda, device, kernel, like, scalar, typed
from kernels.cuda.graph import optimiser_numbers
from kernels.cuda.rows import WARP, block_sum

CHUNK = 4096
THREADS = 256


@lru_cache(maxsize=256)
def _table(addresses, sizes):
    """(addresses [list, place], the array that each chunk belongs to, the number of that array's first chunk, sizes; all on the GPU;
    number of chunks)."""
    chunks = [-(-size // CHUNK) for size in sizes]
    places = np.repeat(np.arange(len(sizes)), chunks)
    firsts = np.concatenate(([0], np.cumsum(chunks)[:-1])).astype(np.int64)
    table = np.array(addresses, np.uint64)
    return (*map(to_device, (table, places, firsts, np.array(sizes, np.int64))), len(places))


def _prepare(name, lists):
    """(the table, copies) of lists of arrays. A list may be None (no such state): its addresses are 0. Arrays that are not contiguous
    are copied: `copies` are (array, copy)."""
    lengths = {len(arrays) for arrays in lists if arrays is not None}
    if len(lengths) > 1:
        raise ValueError(f"{name}: the lists hold {', '.join(map(str, sorted(lengths)))} arrays; they must be of one length")
    first, copies, addresses = lists[0], [], []
    for row, arrays in enumerate(lists):
        addresses.append([0] * len(first))
        for place, array in enumerate(arrays or ()):
            as_device(name, array)
            if array.shape != first[place].shape or array.dtype != first[0].dtype:
                raise ValueError(f"{name}: array {place} of list {row} is {array.dtype} {array.shape}, but {first[0].dtype} "
                                 f"{first[place].shape} is needed")
            if not array.is_contiguous:
                copies.append((array, contiguous(array)))
                array = copies[-1][1]
            addresses[row][place] = array.address
            if runtime.captured is not None:
                runtime.captured.keep([array])            # a launch sees the table alone
    return _table(tuple(map(tuple, addresses)), tuple(a.size for a in first)), copies


def _step(name, kernel, lists, *numbers):
    """Run an optimiser's kernel over lists of arrays. Numbers take the arrays' dtype; a single one may lie on the GPU."""
    if not lists[0]:
        return
    (table, places, firsts, sizes, chunks), copies = _prepare(name, lists)
    dtype = lists[0][0].dtype
    there = isinstance(numbers[0], DeviceArray)
    numbers = numbers[0].astype(dtype, copy=False) if there else optimiser_numbers(np.array(numbers, dtype))
    kernel[chunks, THREADS](table, places, firsts, sizes, sizes.size, numbers)
    for array, copy in copies:
        copy_into(array, copy)


def _model(dtype):
    """No array, but of this dtype: kernels learn the type of what the table points to from it."""
    return DeviceArray(None, 0, (0,), dtype)


@device
def chunk_range(places, firsts, sizes):
    """(place of the array that this block's chunk belongs to, this thread's first number in it, where the chunk ends)."""
    place = places[cuda.blockIdx.x]
    start = (cuda.blockIdx.x - firsts[place]) * CHUNK
    return place, start + cuda.threadIdx.x, min(start + CHUNK, sizes[place])


# ---- SGD ------------------------------------------------------------------------------------------------------------

@kernel
def sgd_kernel(table, places, firsts, sizes, count, numbers):
    place, start, stop = chunk_range(places, firsts, sizes)
    p, g, b = at(table[place], numbers), at(table[count + place], numbers), at(table[2 * count + place], numbers)
    lr, momentum, fresh, kept, weight_decay, nesterov = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
    for i in range(start, stop, cuda.blockDim.x):
        d = g[i] + weight_decay * p[i]
        if table[2 * count + place] != 0:
            velocity = kept * b[i] + fresh * d
            b[i] = velocity
            d = d + momentum * velocity if nesterov != 0 else velocity
        p[i] -= lr * d


def sgd(params, grads, buffers, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, first=False):
    """d = g + weight_decay p;  b = momentum b + (1 - dampening) d, or d at the first step;  p -= lr b (Sutskever et al. 2013).

    Nesterov: p -= lr (d + momentum b). Without momentum `buffers` is None and p -= lr d.
    """
    fresh, kept = (1.0, 0.0) if first else (1 - dampening, momentum)
    _step("sgd", sgd_kernel, (params, grads, buffers), lr, momentum, fresh, kept, weight_decay, nesterov)


# ---- running means --------------------------------------------------------------------------------------------------

@kernel
def lerp_kernel(table, places, firsts, sizes, count, numbers):
    place, start, stop = chunk_range(places, firsts, sizes)
    p, q, weight = at(table[place], numbers), at(table[count + place], numbers), numbers[0]
    for i in range(start, stop, cuda.blockDim.x):
        p[i] += weight * (q[i] - p[i])


def lerp(arrays, ends, weight):
    """p += weight (q - p): each array a part of the way to its end, in place."""
    _step("lerp", lerp_kernel, (arrays, ends), weight)


# ---- Adam -----------------------------------------------------------------------------------------------------------

@kernel
def adam_kernel(table, places, firsts, sizes, count, numbers):
    place, start, stop = chunk_range(places, firsts, sizes)
    p, g, m = at(table[place], numbers), at(table[count + place], numbers), at(table[2 * count + place], numbers)
    v, highest = at(table[3 * count + place], numbers), at(table[4 * count + place], numbers)
    rate, beta1, fresh1, beta2, fresh2 = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    eps, weight_decay, shrink, unbias = numbers[5], numbers[6], numbers[7], numbers[8]
    for i in range(start, stop, cuda.blockDim.x):
        d = g[i] + weight_decay * p[i]
        mean, square = beta1 * m[i] + fresh1 * d, beta2 * v[i] + fresh2 * d * d
        m[i], v[i] = mean, square
        if table[4 * count + place] != 0:
            square = scalar.maximum(highest[i], square)
            highest[i] = square
        p[i] = shrink * p[i] - rate * mean / (math.sqrt(square) * unbias + eps)


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

@kernel
def rmsprop_kernel(table, places, firsts, sizes, count, numbers):
    place, start, stop = chunk_range(places, firsts, sizes)
    p, g, s = at(table[place], numbers), at(table[count + place], numbers), at(table[2 * count + place], numbers)
    b, a = at(table[3 * count + place], numbers), at(table[4 * count + place], numbers)
    lr, alpha, fresh, eps, weight_decay, momentum = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]
    for i in range(start, stop, cuda.blockDim.x):
        d = g[i] + weight_decay * p[i]
        variance = alpha * s[i] + fresh * d * d
        s[i] = variance
        if table[4 * count + place] != 0:
            average = alpha * a[i] + fresh * d
            a[i] = average
            variance -= average * average
        change = d / (math.sqrt(scalar.maximum(variance, like(variance, 0))) + eps)
        if table[3 * count + place] != 0:
            change += momentum * b[i]
            b[i] = change
        p[i] -= lr * change


def rmsprop(params, grads, square_avgs, buffers, grad_avgs, lr, alpha, eps, weight_decay, momentum):
    """s = alpha s + (1 - alpha) d^2;  p -= lr d / (sqrt(s) + eps), with d = g + weight_decay p (Tieleman & Hinton 2012, lecture 6).

    With grad_avgs (centred, Graves 2013) the mean gradient's square is taken from s; with buffers the change is accumulated,
    b = momentum b + change. Each is None without it.
    """
    _step("rmsprop", rmsprop_kernel, (params, grads, square_avgs, buffers, grad_avgs), lr, alpha, 1 - alpha, eps, weight_decay, momentum)


# ---- Adagrad --------------------------------------------------------------------------------------------------------

@kernel
def adagrad_kernel(table, places, firsts, sizes, count, numbers):
    place, start, stop = chunk_range(places, firsts, sizes)
    p, g, s = at(table[place], numbers), at(table[count + place], numbers), at(table[2 * count + place], numbers)
    rate, eps, weight_decay = numbers[0], numbers[1], numbers[2]
    for i in range(start, stop, cuda.blockDim.x):
        d = g[i] + weight_decay * p[i]
        total = s[i] + d * d
        s[i] = total
        p[i] -= rate * d / (math.sqrt(total) + eps)


def adagrad(params, grads, sums, lr, lr_decay, eps, weight_decay, step):
    """s += d^2;  p -= lr / (1 + (step - 1) lr_decay) d / (sqrt(s) + eps), with d = g + weight_decay p (Duchi et al. 2011)."""
    _step("adagrad", adagrad_kernel, (params, grads, sums), lr / (1 + (step - 1) * lr_decay), eps, weight_decay)


# ---- all gradients --------------------------------------------------------------------------------------------------

@kernel(doubles=True)
def squared_norm_kernel(table, places, firsts, sizes, count, model, sums):
    """sums[chunk] = the sum of squares of a chunk, in float64: one addition for each number read, which no GPU is too slow for."""
    room = cuda.shared.array(WARP, np.float64)
    place, start, stop = chunk_range(places, firsts, sizes)
    x, total = at(table[place], model), 0.0
    for i in range(start, stop, cuda.blockDim.x):
        total += np.float64(x[i]) * np.float64(x[i])
    total = block_sum(np.float64(total), room)
    if cuda.threadIdx.x == 0:
        sums[cuda.blockIdx.x] = total


@kernel(doubles=True)
def add_chunks_kernel(sums, firsts, chunks, count, norms):
    """norms[place] = the sum of its array's chunks: a block for each array."""
    room = cuda.shared.array(WARP, np.float64)
    place = cuda.blockIdx.x
    stop = firsts[place + 1] if place + 1 < count else chunks
    total = typed(sums, 0)
    for i in range(firsts[place] + cuda.threadIdx.x, stop, cuda.blockDim.x):
        total += sums[i]
    total = block_sum(total, room)
    if cuda.threadIdx.x == 0:
        norms[place] = total


def squared_norms(arrays):
    """float64 array with the sum of squares of each array, summed in float64 in an order that only its size decides."""
    norms = empty(len(arrays), np.float64)
    for dtype in dict.fromkeys(a.dtype for a in arrays):
        places = [i for i, a in enumerate(arrays) if a.dtype == dtype]
        (table, where, firsts, sizes, chunks), _copies = _prepare("squared_norms", ([arrays[i] for i in places],))
        sums, found = empty(chunks, np.float64), norms if len(places) == len(arrays) else empty(len(places), np.float64)
        squared_norm_kernel[chunks, THREADS](table, where, firsts, sizes, sizes.size, _model(dtype), sums)
        add_chunks_kernel[len(places), THREADS](sums, firsts, chunks, len(places), found)
        for k, i in enumerate(places if found is not norms else ()):
            copy_into(norms[i], found[k])
    return norms


@kernel
def scale_kernel(table, places, firsts, sizes, count, factor):
    place, start, stop = chunk_range(places, firsts, sizes)
    x = at(table[place], factor)
    for i in range(start, stop, cuda.blockDim.x):
        x[i] *= factor[0]


def scale(arrays, factor):
    """Multiply every array by a number, in place. It may lie on the GPU, so that nothing waits for it."""
    for dtype in dict.fromkeys(a.dtype for a in arrays):
        _step("scale", scale_kernel, ([a for a in arrays if a.dtype == dtype],), factor)
