"""Pooling over windows of the last dimension (..., L) or the last two (..., H, W): maxima, averages and their gradients."""

import math

import numpy as np

from kernels import jit
from kernels.cpu.conv.direct import copy_run, inside
from kernels.cpu.matmul.simd import copy_only, lanes
from kernels.cpu.planes import chunks, floating, lifted, planes
from kernels.jit import inner, like, parallel_for

BLOCK = 2048           # outputs of a plane whose maxima are found together: they stay in the first-level cache from tap to tap
NOWHERE = -1 << 30     # the tap of a maximum before one is found

# ---- maxima ---------------------------------------------------------------------------------------------------------
# A plane is padded and split by the stride, so that what one tap of the window reads for neighbouring outputs lies side by side, row
# after row. A tap is then one long loop over all outputs of many rows, without borders, which fills the vectors even if rows are short;
# columns at the ends of rows that belong to no output are computed too and dropped.

@inner
def fill(values, value):
    for i in range(values.size):
        values[i] = value


@inner
def split(x, plane, phases, H, W, extent, stride, padding):
    """phases[a, b, i, j] = x[plane, i s + a - p, j s + b - p], -inf outside. Lines are written one after the other, each with something
    behind it that the next one covers: `phases` has room for a vector more."""
    at, lowest = 0, like(phases[0], -math.inf)
    for a in range(stride[0]):
        for b in range(stride[1]):
            before, after = inside(b - padding[1], stride[1], W, extent[1])
            for i in range(extent[0]):
                row = i * stride[0] + a - padding[0]
                first, stop = (before, after) if 0 <= row < H else (0, 0)
                for j in range(first):
                    phases[np.uint64(at + j)] = lowest
                copy_run(x, (plane * H + row) * W + first * stride[1] + b - padding[1], stride[1], phases, at + first, stop - first)
                for j in range(stop, extent[1]):
                    phases[np.uint64(at + j)] = lowest
                at += extent[1]


@inner
def take_larger(taps, best, shift, tap):
    """Where taps[f] is above best[f] or NaN: it, and this tap as shift, its distance in the plane from the window's first."""
    jit.full_width()
    for f in range(best.size):
        value = taps[f]
        better = (value > best[f]) | (value != value)
        best[f] = value if better else best[f]
        shift[f] = tap if better else shift[f]


@inner
def finish(best, shift, y, place, start, stride):
    """y = best and place[j] = start + j stride + shift[j]; returns the least shift, negative if a window has no maximum."""
    jit.full_width()
    least = shift[0]
    for j in range(y.size):
        y[j] = best[j]
        place[j] = start + j * stride + shift[j]
        least = min(least, shift[j])
    return least


@inner
def max_pool_task(chunk, x, y, place, least, H, W, w, kernel, stride, padding, dilation, extent, each):
    width = extent[1]
    phases = np.empty(stride[0] * stride[1] * extent[0] * width + lanes(x), x.dtype)
    h, block = y.shape[1] // w, max(1, BLOCK // width)
    best, shift = np.empty(block * width, x.dtype), np.empty(block * width, np.int32)
    for p in range(chunk * each, min((chunk + 1) * each, len(y))):
        split(x, p, phases, H, W, extent, stride, padding)
        for top in range(0, h, block):
            rows = min(block, h - top)
            outputs, shifts = best[:(rows - 1) * width + w], shift[:(rows - 1) * width + w]
            fill(outputs, -math.inf)
            fill(shifts, NOWHERE)
            for a in range(0, kernel[0] * dilation[0], dilation[0]):
                for b in range(0, kernel[1] * dilation[1], dilation[1]):
                    phase, row = a % stride[0] * stride[1] + b % stride[1], top + a // stride[0]
                    taps = phases[(phase * extent[0] + row) * width + b // stride[1]:]
                    take_larger(taps, outputs, shifts, np.int32(a * W + b))
            for i in range(top, top + rows):
                part, line = slice((i - top) * width, (i - top) * width + w), slice(i * w, (i + 1) * w)
                start = (i * stride[0] - padding[0]) * W - padding[1]
                found = finish(outputs[part], shifts[part], y[p, line], place[p, line], start, stride[1])
                least[chunk] = min(least[chunk], found)


@jit.jit
def max_pool_kernel(x, y, place, least, H, W, w, kernel, stride, padding, dilation, extent, each, threads):
    parallel_for(max_pool_task, len(least), threads, (x, y, place, least, H, W, w, kernel, stride, padding, dilation, extent, each))


@inner
def keep_larger(values, at, best, to, count):
    """best[to + f] = values[at + f] where that is above it or NaN, f < count."""
    jit.full_width()
    for f in range(np.uint64(count)):
        value, old = values[np.uint64(at) + f], best[np.uint64(to) + f]
        best[np.uint64(to) + f] = value if (value > old) | (value != value) else old


@inner
def max_values_task(chunk, x, y, H, W, h, w, kernel, stride, padding, dilation, extent, each):
    """Without places the maxima of each row come first, and then those of columns of them: a + b taps instead of a b."""
    high, width = extent
    phases, rows = np.empty(stride[0] * stride[1] * high * width + lanes(x), x.dtype), np.empty(stride[0] * high * width, x.dtype)
    best = np.empty(h * width + lanes(x), x.dtype)
    for p in range(chunk * each, min((chunk + 1) * each, y.size // (h * w))):
        split(x, p, phases, H, W, extent, stride, padding)
        fill(rows, -math.inf)
        fill(best, -math.inf)
        for a in range(stride[0]):
            for b in range(0, kernel[1] * dilation[1], dilation[1]):
                shift, first = b // stride[1], (a * stride[1] + b % stride[1]) * high * width
                keep_larger(phases, first + shift, rows, a * high * width, high * width - shift)
        for a in range(0, kernel[0] * dilation[0], dilation[0]):
            keep_larger(rows, (a % stride[0] * high + a // stride[0]) * width, best, 0, (h - 1) * width + w)
        for i in range(h):
            for j in range(0, w, lanes(x)):
                copy_only(best, i * width + j, w - j, y, (p * h + i) * w + j)


@jit.jit
def max_values_kernel(x, y, H, W, h, w, kernel, stride, padding, dilation, extent, each, chunks, threads):
    parallel_for(max_values_task, chunks, threads, (x, y, H, W, h, w, kernel, stride, padding, dilation, extent, each))


@inner
def larger(x, p, here, best, at):
    """(best, at), or the number of plane p at `here` and `here` if it is larger or NaN."""
    value = x[np.uint64(p), np.uint64(here)]
    better = (value > best) | (value != value)
    return value if better else best, here if better else at


@inner
def max_of_four_task(chunk, x, y, place, W, w, each):
    """Windows of 2 x 2 side by side, the usual ones: four numbers each, which are looked at once."""
    h = y.shape[1] // w
    for p in range(chunk * each, min((chunk + 1) * each, len(x))):
        for i in range(h):
            for j in range(w):
                first = 2 * (i * W + j)
                best, at = x[np.uint64(p), np.uint64(first)], first
                best, at = larger(x, p, first + 1, best, at)
                best, at = larger(x, p, first + W, best, at)
                best, at = larger(x, p, first + W + 1, best, at)
                y[np.uint64(p), np.uint64(i * w + j)] = best
                place[np.uint64(p), np.uint64(i * w + j)] = at


@jit.jit
def max_of_four_kernel(x, y, place, W, w, each, chunks, threads):
    parallel_for(max_of_four_task, chunks, threads, (x, y, place, W, w, each))


def max_pool(x, size, kernel_size, stride, padding, dilation):
    """Largest value in each window, and where it lies: x (..., H, W) -> (y, places), both (..., h, w); or (..., L) -> (..., l).

    y[i, j] = max over a, b of x[i s + a d - p, j s + b d - p]: `size` is (h, w), and stride s, padding p, dilation d and the kernel_size,
    the number of a and b, are tuples of the same length. What lies outside of x does not count; each window must hold something of x.
    Places (int64) are counted row by row within H x W. Of equal values the first is taken; of NaN, which is above all, the last.

    Bytes: x read, y and places written; a comparison for each tap of each window. TypeError unless x is float32 or float64.
    """
    x, shape, geometry, extent = _windows("max_pool", x, size, kernel_size, stride, padding, dilation)
    y, place = np.empty(shape, x.dtype), np.empty(shape, np.int64)
    if y.size:
        flat = [a.reshape(len(x), -1) for a in (y, place)]
        (H, W), w = x.shape[1:], shape[-1]
        each, count, threads = chunks(len(x), x[0].size, x.size)
        if geometry == [(2, 2), (2, 2), (0, 0), (1, 1)] and 2 * shape[-2] <= H and 2 * w <= W:       # no window hangs over the edge
            max_of_four_kernel(x.reshape(len(x), -1), *flat, W, w, each, count, threads)
            return y, place
        least = np.zeros(count, np.int32)
        max_pool_kernel(x.ravel(), *flat, least, H, W, w, *geometry, extent, each, threads)
        if least.min() < 0:
            _place_lowest(place.reshape(len(x), -1, w), W, *geometry[1:])
    return y, place


def max_pool_values(x, size, kernel_size, stride, padding, dilation):
    """y of `max_pool` alone, the same bits. Bytes: x read, y written; a comparison for each tap of a column and each of a row."""
    x, shape, geometry, extent = _windows("max_pool_values", x, size, kernel_size, stride, padding, dilation)
    y = np.empty(shape, x.dtype)
    if y.size:
        max_values_kernel(x.ravel(), y.ravel(), *x.shape[1:], *lifted(size, 1), *geometry, extent, *chunks(len(x), x[0].size, x.size))
    return y


def _windows(name, x, size, *geometry):
    """(x as planes, shape of the result, geometry in two dimensions, rows and columns of a phase)."""
    floating(name, x)
    shape = (*x.shape[:-len(size)], *size)
    x, size = planes(name, x, len(size)), lifted(size, 1)
    geometry = [lifted(pair, filler) for pair, filler in zip(geometry, (1, 1, 0, 1), strict=True)]
    extent = tuple(-(-max(n + p, (m - 1) * s + (k - 1) * d + 1) // s)
                   for n, m, k, s, p, d in zip(x.shape[1:], size, *geometry, strict=True))
    return x, shape, geometry, extent


def _place_lowest(place, W, stride, padding, dilation):
    """Windows that hold nothing above -inf take the first place that lies inside, as in torch."""
    first = []
    for count, s, p, d in zip(place.shape[1:], stride, padding, dilation, strict=True):
        start = np.arange(count) * s - p
        first.append(np.where(start < 0, start % d, start))
    np.copyto(place, first[0][:, None] * W + first[1], where=place < 0)


@inner
def max_pool_backward_task(chunk, g, place, dx, each):
    for p in range(chunk * each, min((chunk + 1) * each, len(dx))):
        grad, at, plane = g[p], place[p], dx[p]
        for i in range(grad.size):
            plane[np.uint64(at[i])] += grad[i]


@jit.jit
def max_pool_backward_kernel(g, place, dx, each, chunks, threads):
    parallel_for(max_pool_backward_task, chunks, threads, (g, place, dx, each))


def max_pool_backward(g, places, size):
    """dx (..., H, W) for g (..., h, w), the gradient of y = max_pool(x): the sum of those g whose maximum lay there; (..., L) alike.

    `size` is (H, W). IndexError names a place outside. Bytes: g and places read, dx written twice. Each plane belongs to one thread.
    """
    if g.shape != places.shape:
        raise ValueError(f"max_pool_backward: g has shape {g.shape}, places {places.shape}; they must be equal")
    shape, cells = (*g.shape[:g.ndim - len(size)], *size), math.prod(size)
    if places.size and not 0 <= places.min() <= places.max() < cells:
        bad = places[(places < 0) | (places >= cells)].flat[0]
        raise IndexError(f"max_pool_backward: place {bad} is outside 0..{cells - 1}, the places of size {tuple(size)}")
    g, places = planes("max_pool_backward", g, len(size)), planes("max_pool_backward", places, len(size))
    dx = np.zeros((len(g), cells), g.dtype)
    if g.size:
        max_pool_backward_kernel(g.reshape(len(g), -1), places.reshape(len(g), -1), dx, *chunks(len(g), cells, dx.size))
    return dx.reshape(shape)


# ---- averages -------------------------------------------------------------------------------------------------------
# The windows of each dimension are a table (3, n) of whole numbers: start, end and divisor of window i. So one kernel serves strides,
# padding that counts or does not, and windows of unequal sizes.

@inner
def add(line, row):
    for i in range(line.size):
        line[i] += row[i]


@inner
def avg_pool_task(chunk, x, y, rows, columns, each):
    h, w = y.shape[1:]
    line = np.empty(x.shape[2], x.dtype)
    for r in range(chunk * each, min((chunk + 1) * each, len(y) * h)):
        plane, out, i = x[r // h], y[r // h, r % h], r % h
        fill(line, 0)
        for k in range(rows[0, i], rows[1, i]):
            add(line, plane[k])
        for j in range(w):
            total = like(line[0], 0)
            for k in range(columns[0, j], columns[1, j]):
                total += line[np.uint64(k)]
            out[j] = total / like(total, rows[2, i] * columns[2, j])


@jit.jit
def avg_pool_kernel(x, y, rows, columns, each, chunks, threads):
    parallel_for(avg_pool_task, chunks, threads, (x, y, rows, columns, each))


def avg_pool(x, windows):
    """Sums over windows, each divided by a number of its own: x (..., H, W) -> (..., h, w), or (..., L) -> (..., l).

    `windows` has a table (3, n) of whole numbers for each pooled dimension: window i holds start[i] .. end[i] - 1 and, in two dimensions,
    the sum over the window (i, j) is divided by divisor[i] times divisor[j].

    Bytes: the rows of each window read, y written; each row of windows is summed along the columns first. IndexError for a window that
    leaves the input, TypeError unless x is float32 or float64.
    """
    floating("avg_pool", x)
    rows, columns = _tables("avg_pool", windows, x.shape[-len(windows):])
    shape = (*x.shape[:-len(windows)], *(table.shape[1] for table in windows))
    x = planes("avg_pool", x, len(windows))
    y = np.empty((len(x), rows.shape[1], columns.shape[1]), x.dtype)
    if y.size:
        work = x[0].size // y.shape[1] + y.shape[2]
        avg_pool_kernel(x, y, rows, columns, *chunks(len(x) * y.shape[1], work, x.size))
    return y.reshape(shape)


@inner
def avg_pool_backward_task(chunk, g, dx, rows, columns, each):
    h, w = g.shape[1:]
    line = np.empty(dx.shape[2], g.dtype)
    for p in range(chunk * each, min((chunk + 1) * each, len(dx))):
        for i in range(h):
            grad = g[p, i]
            fill(line, 0)
            for j in range(w):
                share = grad[j] / like(grad[j], rows[2, i] * columns[2, j])
                for k in range(columns[0, j], columns[1, j]):
                    line[np.uint64(k)] += share
            for k in range(rows[0, i], rows[1, i]):
                add(dx[p, k], line)


@jit.jit
def avg_pool_backward_kernel(g, dx, rows, columns, each, chunks, threads):
    parallel_for(avg_pool_backward_task, chunks, threads, (g, dx, rows, columns, each))


def avg_pool_backward(g, windows, size):
    """dx (..., H, W) for g (..., h, w), the gradient of avg_pool(x, windows): the sum of g / divisor over the windows that hold a place.

    `size` is (H, W), or (L,) with one table. Bytes: g read, the rows of each window read and written. Each plane belongs to one thread.
    """
    rows, columns = _tables("avg_pool_backward", windows, size)
    if g.shape[g.ndim - len(size):] != tuple(table.shape[1] for table in windows):
        raise ValueError(f"avg_pool_backward: g of shape {g.shape} does not end with {tuple(table.shape[1] for table in windows)}, the "
                         "numbers of windows")
    shape = (*g.shape[:g.ndim - len(size)], *size)
    g = planes("avg_pool_backward", g, len(size))
    dx = np.zeros((len(g), *lifted(size, 1)), g.dtype)
    if g.size:
        avg_pool_backward_kernel(g, dx, rows, columns, *chunks(len(g), dx[0].size, dx.size))
    return dx.reshape(shape)


def _tables(name, windows, size):
    """The tables of rows and columns, after a check against the sizes of the pooled dimensions."""
    if len(windows) != len(size):
        raise ValueError(f"{name}: {len(windows)} tables of windows do not fit {len(size)} dimensions of sizes {tuple(size)}")
    for (start, end, _), n in zip(windows, size, strict=True):
        if start.size and not 0 <= start.min() <= end.max() <= n:
            raise IndexError(f"{name}: windows from {start.min()} to {end.max()} do not lie in 0..{n}")
    return lifted(windows, np.array([[0], [1], [1]]))
