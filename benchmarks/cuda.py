"""What the CUDA wing reaches on this machine's GPU: `python benchmarks/cuda.py` checks it, measures, and prints a table.

Each line gives ours, the limit or the peer it is measured against, and the share of it that is reached. Memory-bound kernels are
measured against a copy on the device, matrix products against the peak of multiply-adds and, where PyTorch is installed, its (cuBLAS),
convolutions and pooling against its (cuDNN), training steps against its eager ones (less is better there); TF32 is off for both, but for
its own line. CuPy stands in for PyTorch where only it is there. Times are medians of repeats, after a warm-up that compiles; --quick takes
smaller sizes, --no-check skips the tests.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import systems

import kernels
import scratchnn as snn
from kernels import config
from scratchnn import nn, optim

HERE, ROOT = Path(__file__).resolve().parent, Path(__file__).resolve().parent.parent
sys.path[:] = [p for p in sys.path if Path(p).resolve() != HERE]         # this file has the name of cuda-bindings' package


def seconds(call, synchronize, repeats=9):
    """Median time of a call, from batches long enough to hide the clock and the launch of the last kernel."""
    call()
    synchronize()
    start = time.perf_counter()
    call()
    synchronize()
    inner = max(1, min(200, int(0.02 / max(1e-6, time.perf_counter() - start))))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(inner):
            call()
        synchronize()
        times.append((time.perf_counter() - start) / inner)
    return statistics.median(times)


def line(name, value, unit, against, limit):
    share = f"{value / limit:6.2f} of {limit:9.1f} {unit} ({against})" if limit else ""
    print(f"{name:42} {value:9.1f} {unit:8} {share}")


def peer():
    """(name, module) of PyTorch or CuPy with a GPU, or (None, None)."""
    if find_spec("torch"):
        import torch
        if torch.cuda.is_available():
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            return "PyTorch", torch
    if find_spec("cupy"):
        import cupy
        return "CuPy", cupy
    return None, None


def given(module, name, array):
    return module.from_numpy(array).cuda() if name == "PyTorch" else module.asarray(array)


def agree(found, expected, tolerance):
    """AssertionError unless an array on the GPU is, but for this share of its largest number, the one of the host."""
    error = np.abs(found.numpy() - expected).max() / np.abs(expected).max()
    assert error < tolerance, f"the result is wrong by {error:.2g} of its largest number"


def memory_bound(wing, array, runtime, n):
    """GB/s of kernels that read and write, against a copy of as many bytes."""
    rng = np.random.default_rng(0)
    x, g = (array.to_device(rng.standard_normal(n, np.float32).reshape(-1, 1024)) for _ in range(2))
    out, squares = (array.full(x.shape, 1, np.float32) for _ in range(2))
    bias = array.full((1024,), 1, np.float32)
    target = array.to_device(rng.integers(0, 1024, len(x)))
    copy = 2 * x.nbytes / seconds(lambda: wing.neg(x, out=out), runtime.synchronize) / 1e9
    line("copy (neg)", copy, "GB/s", "", None)
    _, lse = wing.cross_entropy(x, target)
    weight = array.full((len(x),), 1, np.float32)
    for name, moved, call in (
        ("add", 3, lambda: wing.add(x, g, out=out)), ("sigmoid", 2, lambda: wing.sigmoid(x, out=out)),
        ("bias over columns", 2, lambda: wing.add(x, bias, out=out)), ("sum of all", 1, lambda: wing.sum(x)),
        ("sum of rows", 1, lambda: wing.sum(x, (1,))), ("sum of columns", 1, lambda: wing.sum(x, (0,))),
        ("softmax", 2, lambda: wing.softmax(x)),
        ("cross_entropy_backward", 2, lambda: wing.cross_entropy_backward(weight, x, lse, target)),
        ("layer_norm", 2, lambda: wing.layer_norm(x, None, None, 1e-5)), ("normal", 1, lambda: wing.normal(0, 0, x.shape, np.float32)),
        ("dropout", 2, lambda: wing.dropout(x, 0.5, 0, 0)), ("transposed copy", 2, lambda: x.T.copy()),
        ("adam", 7, lambda: wing.adam([x], [g], [out], [squares], None, 1e-3, 0.9, 0.99, 1e-8, 0.0, 1, False)),
    ):
        line(name, moved * x.nbytes / seconds(call, runtime.synchronize) / 1e9, "GB/s", "copy", copy)


def products(array, runtime, sizes):
    """TFLOP/s of the matrix product in its forms, and of the ladder's rungs, against the peer's."""
    from kernels.cuda.matmul import ladder
    name, module = peer()
    rng = np.random.default_rng(0)
    for M, N, K in sizes:
        a, b = rng.standard_normal((M, K), np.float32), rng.standard_normal((K, N), np.float32)
        x, y, flops = array.to_device(a), array.to_device(b), 2e-12 * M * N * K
        limit = None
        if module:
            p, q = given(module, name, a), given(module, name, b)
            wait = module.cuda.synchronize if name == "PyTorch" else module.cuda.Stream.null.synchronize
            limit = flops / seconds(lambda p=p, q=q: p @ q, wait)
        xt, yt = array.to_device(a.T.copy()).T, array.to_device(b.T.copy()).T
        for form, left, right in (("A B", x, y), ("A' B", xt, y), ("A B'", x, yt)):
            call = lambda left=left, right=right: kernels.cuda.matmul(left, right)  # noqa: E731
            line(f"matmul {M} x {N} x {K}, {form}", flops / seconds(call, runtime.synchronize), "TFLOP/s", name, limit)
            agree(call()[:8], a[:8].astype(np.float64) @ b, 1e-5)
        config.TF32 = True
        call = lambda x=x, y=y: kernels.cuda.matmul(x, y)  # noqa: E731
        line("  on tensor cores (TF32)", flops / seconds(call, runtime.synchronize), "TFLOP/s", name, limit)
        agree(call()[:8], a[:8].astype(np.float64) @ b, 1e-3)
        config.TF32 = False
        if M == N == K:
            c = array.empty((M, N), np.float32)
            for rung in (ladder.naive, ladder.shared_tiles, ladder.register_tiles):
                call = lambda rung=rung, x=x, y=y, c=c: rung(x, y, c)  # noqa: E731
                line(f"  {rung.__name__}", flops / seconds(call, runtime.synchronize, 3), "TFLOP/s", name, limit)


CONVOLUTIONS = (           # name, x, output channels, kernel, stride, padding: sizes of LeNet, of a network for CIFAR, of DCGAN, of ResNet
    ("LeNet, second", (128, 6, 14, 14), 16, 5, 1, 0), ("CIFAR, first", (128, 3, 32, 32), 64, 3, 1, 1),
    ("CIFAR, third", (128, 64, 32, 32), 128, 3, 1, 1), ("DCGAN, second", (128, 64, 32, 32), 128, 4, 2, 1),
    ("ResNet, 1 x 1", (64, 256, 28, 28), 256, 1, 1, 0), ("depthwise", (64, 256, 28, 28), 256, 3, 1, 1))


def convolution(wing, array, runtime, label, shape, outputs, kernel, stride, padding):
    """TFLOP/s of a convolution and its gradients, against PyTorch's (cuDNN)."""
    name, torch = peer()
    groups, rng = shape[1] if label == "depthwise" else 1, np.random.default_rng(0)
    x, w = rng.standard_normal(shape, np.float32), rng.standard_normal((outputs, shape[1] // groups, kernel, kernel), np.float32)
    a, b, options = array.to_device(x), array.to_device(w), ((stride, stride), (padding, padding), (1, 1))
    y = wing.conv(a, b, None, *options, groups)
    g, flops = array.full(y.shape, 1, np.float32), 2e-12 * y.size * w[0].size
    theirs = [None] * 3
    if name == "PyTorch":
        p, q, r = (given(torch, name, n) for n in (x, w, g.numpy()))

        def backward(*wanted):
            return torch.ops.aten.convolution_backward(r, p, q, None, *options, False, (0, 0), groups, wanted)
        calls = (lambda: torch.nn.functional.conv2d(p, q, None, *options, groups), lambda: backward(True, False, False),
                 lambda: backward(False, True, False))
        theirs = [flops / seconds(call, torch.cuda.synchronize) for call in calls]
    ours = (lambda: wing.conv(a, b, None, *options, groups), lambda: wing.conv_input_gradient(g, b, shape[2:], None, *options, groups),
            lambda: wing.conv_weight_gradient(g, a, (kernel, kernel), *options, groups))
    h, host = g.numpy(), kernels.host
    expected = (host.conv(x, w, None, *options, groups), host.conv_input_gradient(h, w, shape[2:], None, *options, groups),
                host.conv_weight_gradient(h, x, (kernel, kernel), *options, groups))
    titles = f"conv {label}", "  input gradient", "  weight gradient"
    for title, call, limit, right in zip(titles, ours, theirs, expected, strict=True):
        line(title, flops / seconds(call, runtime.synchronize), "TFLOP/s", name, limit)
        agree(call(), right, 1e-4)


def pooling(wing, array, runtime, shape):
    """GB/s of pooling 2 x 2 pixels to one, by the bytes that must be moved, against PyTorch's."""
    name, torch = peer()
    x, (N, C, H, W) = np.random.default_rng(0).standard_normal(shape, np.float32), shape
    size, options = (H // 2, W // 2), ((2, 2), (2, 2), (0, 0), (1, 1))
    windows = tuple(np.array([2 * np.arange(n), 2 * np.arange(n) + 2, np.full(n, 2)]) for n in size)
    a, count = array.to_device(x), N * C * H * W
    g, places = wing.max_pool(a, size, *options)
    theirs = [None] * 4
    if name == "PyTorch":
        p, aten = given(torch, name, x), torch.ops.aten
        q, at = torch.nn.functional.max_pool2d(p, 2, return_indices=True)
        calls = (lambda: torch.nn.functional.max_pool2d(p, 2),
                 lambda: aten.max_pool2d_with_indices_backward(q, p, (2, 2), (2, 2), (0, 0), (1, 1), False, at),
                 lambda: torch.nn.functional.avg_pool2d(p, 2),
                 lambda: aten.avg_pool2d_backward(q, p, (2, 2), (2, 2), (0, 0), False, True, None))
        theirs = [seconds(call, torch.cuda.synchronize) for call in calls]
    ours = (("max_pool", 7, lambda: wing.max_pool(a, size, *options)), ("max_pool_backward", 7, lambda: wing.max_pool_backward(
        g, places, (H, W))), ("avg_pool", 5, lambda: wing.avg_pool(a, windows)), ("avg_pool_backward", 5, lambda: wing.avg_pool_backward(
            g, windows, (H, W))))
    for (title, moved, call), limit in zip(ours, theirs, strict=True):        # bytes for each number of x
        rate = 1e-9 * moved * count
        line(f"{title} of 2 x 2", rate / seconds(call, runtime.synchronize), "GB/s", name, limit and rate / limit)


class OnGpu:
    """A library, or its `nn`, whose new tensors and networks lie on the GPU: what benchmarks/systems.py makes its systems of."""

    def __init__(self, module):
        self.module, self.__name__ = module, module.__name__

    def __getattr__(self, name):
        value = getattr(self.module, name)
        is_moved = name in ("rand", "randint", "zeros", "ones", "Sequential")
        return (lambda *args, **options: value(*args, **options).to("cuda")) if is_moved else value

    def randn(self, *shape):
        """Made there, and not moved: steps draw from it."""
        return self.module.randn(*shape, device="cuda")


def training_steps(runtime):
    """Milliseconds of the training steps of benchmarks/systems.py, as Python launches them and as a CUDA graph, against PyTorch's eager
    ones."""
    name, torch = peer()
    for maker in (systems.mlp_step, systems.cnn_step, systems.vae_step, systems.dcgan_step, systems.rbm_cd1_step, systems.rbm_gibbs_100):
        theirs = None
        if name == "PyTorch":
            theirs = 1000 * seconds(maker(OnGpu(torch), OnGpu(torch.nn), torch.optim), torch.cuda.synchronize)
        step = maker(OnGpu(snn), OnGpu(nn), optim)
        line(maker.__name__, 1000 * seconds(step, runtime.synchronize), "ms", name, theirs)
        if maker not in (systems.rbm_cd1_step, systems.rbm_gibbs_100):        # of these Python keeps the state
            graph = snn.cuda.CUDAGraph()
            with snn.cuda.graph(graph):
                step()
            line("  as a CUDA graph", 1000 * seconds(graph.replay, runtime.synchronize), "ms", name, theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    parser.add_argument("--no-check", action="store_true", help="measure without running the tests first")
    options = parser.parse_args()
    kernels.use_cuda()
    from kernels.cuda import array, runtime
    device = runtime.device()
    print(f"{device.name}, sm_{device.architecture[0]}{device.architecture[1]}, {device.processors} multiprocessors")
    if not options.no_check:
        subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/test_cuda_kernels.py", "tests/test_cuda_ops.py",
                        "tests/test_cuda_training.py", "tests/test_cuda_examples.py"], check=True,
                       cwd=ROOT, env={**os.environ, "SCRATCHNN_CUDA": "device"})
    memory_bound(kernels.cuda, array, runtime, 1 << (20 if options.quick else 26))
    products(array, runtime, [(512,) * 3, (60, 512, 784)] if options.quick else [(4096,) * 3, (1024,) * 3, (128, 512, 784), (8192,) * 3])
    for case in CONVOLUTIONS[:2] if options.quick else CONVOLUTIONS:
        convolution(kernels.cuda, array, runtime, *case)
    pooling(kernels.cuda, array, runtime, (16 if options.quick else 256, 64, 32, 32))
    training_steps(runtime)


if __name__ == "__main__":
    main()
