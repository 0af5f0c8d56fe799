"""The work that is timed, once for each side: a case is a function of nothing that does it one time.

`cases(group, side)` gives {name: (function, FLOPs, bytes)}. Sides are "scratchnn" and its peers, "numpy" or "torch"; each imports
only its own library, so that it can be timed in a process of its own.
"""

from functools import partial

import numpy as np
from systems import DILATIONS, SYSTEMS, wavenet_flops, wavenet_generate_100

# (name, batch, inputs, outputs) of the linear and recurrent layers whose speed is promised.
LAYERS = [("mlp 784-512", 128, 784, 512), ("mlp 512-512", 128, 512, 512), ("mlp 512-10", 128, 512, 10), ("vae 784-500", 100, 784, 500),
          ("vae 500-40", 100, 500, 40), ("vae 20-500", 100, 20, 500), ("rbm 500-784", 100, 500, 784), ("lstm 512-2048", 64, 512, 2048),
          ("lstm 64-2048", 64, 64, 2048), ("lstm 512-65", 4096, 512, 65), ("lstm 200-800", 32, 200, 800),
          ("words 200-10000", 1120, 200, 10000)]
SQUARES = [512, 1024]
SIZES = [10 ** 3, 10 ** 5, 10 ** 7]


def matmul_forms():
    """(name, M, K, N, whether A and B lie transposed) of every product: y = x W^T, and its gradients by x and by W."""
    for name, batch, inputs, outputs in LAYERS:
        yield f"{name} forward", batch, inputs, outputs, False, True
        yield f"{name} input gradient", batch, outputs, inputs, False, False
        yield f"{name} weight gradient", outputs, batch, inputs, True, False
    for n in SQUARES:
        yield f"{n} x {n} x {n}", n, n, n, False, False


def _matmul(side):
    if side == "scratchnn":
        from kernels import matmul as product
    else:
        from numpy import matmul as product
    rng = np.random.default_rng(0)
    for name, M, K, N, ta, tb in matmul_forms():
        a = rng.random((K, M), np.float32).T if ta else rng.random((M, K), np.float32)
        b = rng.random((N, K), np.float32).T if tb else rng.random((K, N), np.float32)
        c = np.empty((M, N), np.float32)
        yield name, partial(product, a, b, out=c), 2 * M * N * K, 4 * (M * K + K * N + M * N)


# (name, N, C, (H, W), O, kernel, stride, padding, dilation): the convolutions whose speed is promised, and SqueezeNet's.
CONVOLUTIONS = [
    ("cnn 1", 64, 1, (28, 28), 32, (3, 3), 1, 1, 1), ("cnn 2", 64, 32, (28, 28), 32, (3, 3), 1, 1, 1),
    ("cnn 3", 64, 32, (14, 14), 64, (3, 3), 1, 1, 1), ("cnn 4", 64, 64, (14, 14), 64, (3, 3), 1, 1, 1),
    ("dream 1", 1, 3, (256, 256), 32, (3, 3), 1, 1, 1), ("dream 2", 1, 32, (256, 256), 32, (3, 3), 1, 1, 1),
    ("dream 3", 1, 32, (128, 128), 64, (3, 3), 1, 1, 1), ("dream 4", 1, 64, (128, 128), 64, (3, 3), 1, 1, 1),
    ("dream 5", 1, 64, (64, 64), 128, (3, 3), 1, 1, 1), ("dream 6", 1, 128, (64, 64), 128, (3, 3), 1, 1, 1),
    ("dcgan 1", 64, 1, (28, 28), 32, (4, 4), 2, 1, 1), ("dcgan 2", 64, 32, (14, 14), 64, (4, 4), 2, 1, 1),
    ("dcgan 3", 64, 64, (7, 7), 1, (7, 7), 1, 0, 1), ("dcgan G 1", 64, 128, (7, 7), 64, (7, 7), 1, 0, 1),
    ("dcgan G 2", 64, 64, (14, 14), 128, (4, 4), 2, 1, 1), ("dcgan G 3", 64, 1, (28, 28), 64, (4, 4), 2, 1, 1),
    ("wavenet dilation 1", 4, 32, (1, 4097), 64, (1, 2), 1, 0, 1), ("wavenet dilation 256", 4, 32, (1, 4352), 64, (1, 2), 1, 0, 256),
    ("wavenet residual", 4, 32, (1, 4096), 32, (1, 1), 1, 0, 1), ("wavenet skip", 4, 32, (1, 4096), 128, (1, 1), 1, 0, 1),
    ("wavenet out", 4, 128, (1, 4096), 256, (1, 1), 1, 0, 1), ("squeezenet first", 1, 3, (227, 227), 96, (7, 7), 2, 0, 1),
    ("squeezenet squeeze", 1, 128, (55, 55), 16, (1, 1), 1, 0, 1), ("squeezenet expand", 1, 16, (55, 55), 64, (3, 3), 1, 1, 1),
    ("squeezenet deep", 1, 64, (13, 13), 256, (3, 3), 1, 1, 1), ("squeezenet last", 1, 512, (13, 13), 1000, (1, 1), 1, 0, 1)]


def _conv(side):
    """Forward pass and both gradients of each: our kernels, and the functions that torch's autograd calls."""
    rng = np.random.default_rng(0)
    for name, N, C, size, outputs, kernel, *numbers in CONVOLUTIONS:
        stride, padding, dilation = ((n, n) for n in numbers)
        grid = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(size, padding, dilation, kernel, stride, strict=True))
        x, w, g = (rng.standard_normal(shape).astype(np.float32) for shape in ((N, C, *size), (outputs, C, *kernel), (N, outputs, *grid)))
        flops, numbers = 2 * g.size * C * kernel[0] * kernel[1], 4 * (x.size + w.size + g.size)
        if side == "scratchnn":
            import kernels
            options = (stride, padding, dilation)
            calls = (partial(kernels.conv, x, w, None, *options), partial(kernels.conv_input_gradient, g, w, size, None, *options),
                     partial(kernels.conv_weight_gradient, g, x, kernel, *options))
        else:
            import torch
            x, w, g = (torch.from_numpy(a) for a in (x, w, g))
            options = (None, stride, padding, dilation)
            backward = partial(torch.ops.aten.convolution_backward, g, x, w, *options, False, (0, 0), 1)
            calls = (partial(torch.nn.functional.conv2d, x, w, *options), partial(backward, (True, False, False)),
                     partial(backward, (False, True, False)))
        for form, call in zip(("forward", "input gradient", "weight gradient"), calls, strict=True):
            yield f"{name} {form}", call, flops, numbers


UNARY = ["exp", "tanh", "sigmoid", "relu", "gelu"]
BINARY = ["add", "mul"]


def _library(side):
    """(the library, its functions on Tensors, its nn, its optim): the same words make the same things in both."""
    if side == "scratchnn":
        import scratchnn
        from scratchnn import nn, optim

        return scratchnn, scratchnn, nn, optim
    import torch
    from torch import nn, optim

    return torch, nn.functional, nn, optim


def _memory_bound(side):
    m, functional, _, _ = _library(side)
    rng = np.random.default_rng(0)
    for n in SIZES:
        x, y, table = (m.from_numpy(rng.standard_normal(shape).astype(np.float32)) for shape in (n, n, (n // 100, 100)))
        weight, bias = m.ones(100), m.zeros(100)
        for name in UNARY:
            yield f"{name} {n}", partial(getattr(m, name, None) or getattr(functional, name), x), 0, 8 * n
        for name in BINARY:
            yield f"{name} {n}", partial(getattr(m, name), x, y), 0, 12 * n
        yield f"softmax {n}", partial(functional.softmax, table, 1), 0, 8 * n
        yield f"layer_norm {n}", partial(functional.layer_norm, table, (100,), weight, bias), 0, 8 * n


def _reductions(side):
    m, _, _, _ = _library(side)
    for n in SIZES:
        x = m.from_numpy(np.random.default_rng(0).standard_normal((n // 100, 100)).astype(np.float32))
        yield f"sum of all {n}", x.sum, 0, 4 * n
        yield f"sum of columns {n}", partial(x.sum, 0), 0, 4 * n
        yield f"logsumexp of rows {n}", partial(x.logsumexp, 1), 0, 4 * n


def _adam(side):
    m, _, nn, optim = _library(side)
    for n in (*SIZES, 10 ** 6):
        values = np.random.default_rng(0).standard_normal(n).astype(np.float32)
        p = nn.Parameter(m.tensor(values))
        p.grad = m.tensor(values)
        yield f"Adam {n}", optim.Adam([p], 1e-3).step, 0, 28 * n


def _wavenet(side, N=4, T=4096, R=32):
    """The residual layers of a WaveNet by themselves, without skip connections, forward and backward, and 100 samples from a whole one."""
    m, functional, nn, _ = _library(side)
    L, rng = len(DILATIONS), np.random.default_rng(0)
    shapes = (N, T, R), (L, 2 * R, R, 2), (L, 2 * R), (L - 1, R, R), (L - 1, R), (N, T, L * R)
    h, *weights, g = ((rng.random(shape, np.float32) * 2 - 1) / 8 for shape in shapes)
    if side == "scratchnn":
        import kernels
        forward = partial(kernels.wavenet, h, *weights, DILATIONS)
        backward = partial(kernels.wavenet_backward, g, *forward(), weights[0], weights[2], DILATIONS)
    else:
        leaves = [m.from_numpy(a).requires_grad_() for a in (h.swapaxes(1, 2).copy(), *weights)]
        forward = partial(_torch_stack, m, functional, *leaves)
        backward = partial(m.autograd.grad, forward(), leaves, m.from_numpy(g.swapaxes(1, 2).copy()), retain_graph=True)
    work, size = 2 * N * T * R * R * (5 * L - 1), 4 * N * T * R
    yield "stack forward", forward, work, size * (1 + 3 * L)
    yield "stack backward", backward, 2 * work, size * (2 + 4 * L)
    yield "generate 100", wavenet_generate_100(m, nn, None), wavenet_flops(100), 0


def _torch_stack(m, functional, h, weight, bias, residual, residual_bias):
    """What kernels.wavenet does, in PyTorch's operations: z of all layers (N, L R, T)."""
    found = []
    for i, d in enumerate(DILATIONS):
        a, b = functional.conv1d(functional.pad(h, (d, 0)), weight[i], bias[i], dilation=d).chunk(2, 1)
        found.append(m.tanh(a) * m.sigmoid(b))
        if i < len(DILATIONS) - 1:
            h = h + functional.conv1d(found[-1], residual[i][:, :, None], residual_bias[i])
    return m.cat(found, 1)


def _systems(side):
    m, _, nn, optim = _library(side)
    for name, make, flops in SYSTEMS:
        yield name, make(m, nn, optim), flops, 0


def _estimator(side):
    """Two passes over 10,000 x 784 binary numbers with scikit-learn's interface, 500 hidden units, batches of 100; its FLOPs as if all
    products were made."""
    if side == "scratchnn":
        from scratchnn.sklearn import BernoulliRBM
    else:
        from sklearn.neural_network import BernoulliRBM
    for dtype in (np.float32, np.float64):
        x = (np.random.default_rng(0).random((10_000, 784)) < 0.5).astype(dtype)
        machine = BernoulliRBM(n_components=500, batch_size=100, n_iter=2, random_state=0)
        yield f"fit {np.dtype(dtype).name}", partial(machine.fit, x), 2 * 100 * 5 * 2 * 100 * 784 * 500, 0


GROUPS = {"matmul": (_matmul, "numpy"), "conv": (_conv, "torch"), "memory": (_memory_bound, "torch"),
          "reductions": (_reductions, "torch"), "adam": (_adam, "torch"), "wavenet": (_wavenet, "torch"), "systems": (_systems, "torch"),
          "estimator": (_estimator, "sklearn")}


def cases(group, side):
    return {name: (function, flops, size) for name, function, flops, size in GROUPS[group][0](side)}
