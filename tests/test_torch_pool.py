"""Pooling, up-sampling and padding against PyTorch: a random sweep of values, indices and gradients, and what layers print."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn
from scratchnn.nn import functional

torch = pytest.importorskip("torch")
F = torch.nn.functional

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": {"rtol": 1e-5, "atol": 2e-6}, "float64": {"rtol": 1e-12, "atol": 1e-13}}


def agree(name, x, *args, **options):
    """Results of a function of ours and torch's, their dtypes, and the gradients of x for a random gradient that arrives."""
    dtype = str(x.dtype)
    mine, other = snn.Tensor(x.copy(), True), torch.tensor(x, requires_grad=True)
    y, z = getattr(functional, name)(mine, *args, **options), getattr(F, name)(other, *args, **options)
    ys, zs = (r if isinstance(r, tuple) else (r,) for r in (y, z))
    for a, b in zip(ys, zs, strict=True):
        assert a.shape == tuple(b.shape) and str(a.dtype) == str(b.dtype).removeprefix("torch.")
        np.testing.assert_allclose(a.array, b.detach().numpy(), **TOLERANCE[dtype])
    g = np.random.default_rng(1).standard_normal(ys[0].shape).astype(dtype)
    ys[0].backward(snn.Tensor(g))
    zs[0].backward(torch.from_numpy(g))
    np.testing.assert_allclose(mine.grad.array, other.grad.numpy(), **TOLERANCE[dtype])


def draw(rng, dims, low, high):
    """A number, or one for each dimension."""
    several = tuple(int(v) for v in rng.integers(low, high, dims))
    return several if rng.random() < 0.5 else several[0]


def each(value, dims):
    return value if isinstance(value, tuple) else (value,) * dims


def window(rng, dims, dilated):
    """kernel_size, stride, padding and dilation that go together, and the least sizes of an input for them."""
    kernel, dilation = draw(rng, dims, 1, 5), draw(rng, dims, 1, 4 if dilated else 2)
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in each(kernel, dims))
    stride = None if rng.random() < 0.25 else draw(rng, dims, 1, 5)
    least = [max(1, d * (k - 1) + 1 - p) for k, d, p in zip(each(kernel, dims), each(dilation, dims), padding, strict=True)]
    return kernel, stride, padding, dilation, least


def numbers(rng, dims, least, dtype):
    """An example or a batch of one to three, with some equal values."""
    shape = [int(n) for n in rng.integers(1, 4, 2 - (rng.random() < 0.3))] + [n + int(rng.integers(0, 9)) for n in least]
    return np.round(rng.standard_normal(shape), 1).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(60))
def test_max_pool(seed, dtype):
    rng = np.random.default_rng(seed)
    dims = 1 + seed % 2
    kernel, stride, padding, dilation, least = window(rng, dims, True)
    x = numbers(rng, dims, least, dtype)
    if seed % 5 == 0:
        x[rng.random(x.shape) < 0.3] = -np.inf
        x[rng.random(x.shape) < 0.05] = np.nan
    agree(f"max_pool{dims}d", x, kernel, stride, padding, dilation, ceil_mode=bool(rng.integers(2)), return_indices=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(60))
def test_avg_pool(seed, dtype):
    rng = np.random.default_rng(seed)
    dims = 1 + seed % 2
    kernel, stride, padding, _, least = window(rng, dims, False)
    divisor = {"divisor_override": int(rng.integers(-3, 0)) + 4 * int(rng.integers(2))} if dims == 2 and rng.random() < 0.4 else {}
    agree(f"avg_pool{dims}d", numbers(rng, dims, least, dtype), kernel, stride, padding, bool(rng.integers(2)), bool(rng.integers(2)),
          **divisor)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(30))
def test_adaptive_avg_pool(seed, dtype):
    rng = np.random.default_rng(seed)
    dims = 1 + seed % 2
    size = draw(rng, dims, 1, 12) if seed % 3 else 1
    if dims == 2 and seed % 5 == 0:
        size = (None, 3)
    agree(f"adaptive_avg_pool{dims}d", numbers(rng, dims, [1] * dims, dtype), size)


def factor(f, size, mode):
    """A scale factor that leaves at least one element, and on which torch agrees with itself: where the rounded size is once or twice the
    old one, its nearest backward (and forward for small pictures) goes by that and not by the factor."""
    times = int(size * f) / size
    return 1.01 / size if times == 0 else times if mode == "nearest" and times in (1, 2) else f


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(90))
def test_interpolate(seed, dtype):
    rng = np.random.default_rng(seed)
    dims = 1 + seed % 2
    mode = ("nearest", ("linear", "bilinear")[dims - 1])[seed // 2 % 2]
    options = {} if mode == "nearest" else {"align_corners": [None, False, True][seed % 3]}
    shape = (*rng.integers(1, 3, 2), *rng.integers(2, 14, dims))
    if rng.random() < 0.4:
        options["size"] = draw(rng, dims, 1, 20)
    else:
        factors = [2, 0.5, 1, 3, 1.5, 0.7, 2.3, 1.0 / 3, 1.1]
        factors = [float(f) for f in rng.choice(factors, dims)]
        options["scale_factor"] = [factor(f, int(n), mode) for f, n in zip(factors, shape[2:], strict=True)]
        options["recompute_scale_factor"] = [None, False, True][int(rng.integers(3))]
    agree("interpolate", rng.standard_normal(shape).astype(dtype), mode=mode, **options)


@pytest.mark.parametrize("options", [{"size": (9, 4)}, {"scale_factor": 1.7}, {"scale_factor": (0.7, 2)}])
def test_interpolate_bytes(options):
    x = np.random.default_rng(0).integers(0, 255, (2, 3, 7, 5)).astype(np.uint8)
    np.testing.assert_array_equal(functional.interpolate(snn.Tensor(x), **options).array, F.interpolate(torch.tensor(x), **options))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(40))
def test_pad(seed, dtype):
    rng = np.random.default_rng(seed)
    dims, mode = 1 + seed % 2, ("reflect", "replicate", "circular", "constant")[seed // 2 % 4]
    x = numbers(rng, dims, [6] * dims, dtype)
    agree("pad", x, [int(n) for n in rng.integers(-2, 4, 2 * dims)], mode, **({"value": 0.5} if mode == "constant" and seed % 3 else {}))


def test_large_pictures_go_through_blocks_of_rows():
    x = np.random.default_rng(0).standard_normal((1, 2, 150, 131)).astype(np.float32)
    agree("max_pool2d", x, 3, 1, 1, return_indices=True)
    agree("max_pool2d", x, (5, 4), (2, 3), (2, 0), (2, 3), return_indices=True)
    agree("avg_pool2d", x, 3, 2, 1)
    agree("interpolate", x, scale_factor=1.4, mode="bilinear")


def test_an_empty_batch():
    x = np.zeros((0, 2, 6, 6), np.float32)
    agree("max_pool2d", x, 2)
    agree("avg_pool2d", x, 2)
    agree("adaptive_avg_pool2d", x, 3)
    agree("interpolate", x, scale_factor=2.0, mode="bilinear")
    agree("pad", x, (1, 1, 1, 1), "reflect")


@pytest.mark.parametrize("name, args, options", [
    ("MaxPool1d", (3,), {}), ("MaxPool1d", (2, 1, 1), {"ceil_mode": True}), ("MaxPool2d", ((3, 2),), {"stride": (2, 1), "dilation": 2}),
    ("MaxPool2d", (2,), {"return_indices": True}), ("AvgPool1d", (3, 2, 1), {}), ("AvgPool2d", ((2, 3), None, 1, True, False), {}),
    ("AvgPool2d", (2,), {"divisor_override": 3}), ("AdaptiveAvgPool1d", (4,), {}), ("AdaptiveAvgPool2d", ((None, 3),), {}),
    ("AdaptiveAvgPool2d", (2,), {}), ("Upsample", (), {"scale_factor": 2}), ("Upsample", ((9, 5), None, "bilinear", True), {}),
    ("Upsample", (), {"scale_factor": (2, 1.5), "mode": "nearest"}), ("ZeroPad1d", (2,), {}), ("ZeroPad2d", ((1, 2, 0, -1),), {}),
    ("ConstantPad1d", (1, 0.5), {}), ("ConstantPad2d", ((1, 0, 2, 1), 3.5), {}), ("ReflectionPad1d", ((2, 1),), {}),
    ("ReflectionPad2d", (2,), {}), ("ReplicationPad1d", (3,), {}), ("ReplicationPad2d", ((3, 1, 0, 2),), {}),
])
def test_layers(name, args, options):
    module, other = getattr(nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    assert repr(module) == repr(other)
    x = np.random.default_rng(0).standard_normal((2, 3, 8) if "1d" in name else (2, 3, 8, 7)).astype(np.float32)
    y, z = module(snn.Tensor(x)), other(torch.from_numpy(x))
    for a, b in zip(y if isinstance(y, tuple) else (y,), z if isinstance(z, tuple) else (z,), strict=True):
        np.testing.assert_allclose(a.array, b.numpy(), rtol=1e-5, atol=1e-6)
