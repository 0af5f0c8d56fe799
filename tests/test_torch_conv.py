"""Convolutions against PyTorch: a random sweep over options, values and all gradients, layers, second derivatives, errors."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn
from scratchnn.nn import functional as F
from scratchnn.testing import check_gradients

torch = pytest.importorskip("torch")

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def close(a, b, dtype):
    """Equal up to the rounding of long sums: a share of the largest number."""
    np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype] * max(1, np.abs(b).max()))


def compare(name, dtype, shapes, options):
    """Value and gradients of F.name in both libraries, for random numbers of the given shapes."""
    rng = np.random.default_rng(0)
    arrays = [None if s is None else rng.standard_normal(s).astype(dtype) for s in shapes]
    ours = [None if a is None else snn.from_numpy(a).requires_grad_() for a in arrays]
    theirs = [None if a is None else torch.from_numpy(a).requires_grad_() for a in arrays]
    y, z = getattr(F, name)(*ours, **options), getattr(torch.nn.functional, name)(*theirs, **options)
    assert y.shape == tuple(z.shape)
    close(y.detach().numpy(), z.detach().numpy(), dtype)
    g = rng.standard_normal(y.shape).astype(dtype)
    y.backward(snn.from_numpy(g))
    z.backward(torch.from_numpy(g))
    for a, b in zip(ours, theirs, strict=True):
        if a is not None:
            close(a.grad.numpy(), b.grad.numpy(), dtype)


def draw(rng, dims, transposed):
    """(shapes of input, weight and bias, options) of a random convolution that exists."""
    while True:
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        C, outputs = groups * rng.integers(1, 20, 2)
        kernel, stride, dilation = (rng.integers(1, high, dims) for high in (6, 4, 3))
        padding, size = rng.integers(0, 4, dims), rng.integers(3, 25, dims)
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        if transposed:
            options["output_padding"] = rng.integers(0, np.maximum(stride, dilation))
            fits = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + options["output_padding"] + 1 > 0
        else:
            fits = size + 2 * padding > dilation * (kernel - 1)
        if fits.all():
            break
    outer, inner = (C, outputs) if transposed else (outputs, C)
    x_shape = (int(rng.integers(1, 4)), C, *size)[int(rng.random() < 0.1):]                 # now and then without a batch
    shapes = [x_shape, (outer, inner // groups, *kernel), (outputs,) if rng.random() < 0.7 else None]
    options = {k: tuple(v.tolist()) if dims == 2 else int(v[0]) for k, v in options.items()}
    return [None if s is None else tuple(int(n) for n in s) for s in shapes], {**options, "groups": groups}


@pytest.mark.parametrize("seed", range(65))
@pytest.mark.parametrize("name", ["conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"])
def test_any_options(name, seed):
    rng = np.random.default_rng([seed, len(name)])
    compare(name, "float32" if seed % 3 else "float64", *draw(rng, 1 if "1d" in name else 2, "transpose" in name))


@pytest.mark.parametrize("shapes", [[(5, 3, 32, 30), (40, 3, 5, 5), (40,)], [(2, 64, 14, 14), (64, 64, 3, 3), None],
                                    [(1, 20, 70, 66), (33, 20, 3, 3), None], [(3, 1, 28, 28), (32, 1, 3, 3), (32,)],
                                    [(4, 40, 9, 9), (70, 40, 1, 1), None], [(2, 30, 7, 7), (5, 30, 7, 7), None]], ids=str)
@pytest.mark.parametrize("padding", [0, "same"])
def test_shapes_of_networks(shapes, padding):
    compare("conv2d", "float32", shapes, {"padding": padding})


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": (0, 3)}, {"stride": (3, 2)}], ids=str)
@pytest.mark.parametrize("shapes", [[(2, 6, 17, 20), (6, 1, 3, 3), (6,)], [(1, 5, 7, 7), (15, 1, 3, 2), None],
                                    [(3, 20, 9, 40), (20, 1, 1, 5), None]], ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_depthwise(shapes, options, dtype):
    compare("conv2d", dtype, shapes, {**options, "groups": shapes[0][1]})
    x, w, _ = shapes
    compare("conv_transpose2d", dtype, [(x[0], w[0], *x[2:]), w, x[1:2]], {**options, "groups": x[1]})


@pytest.mark.parametrize("name, shapes, options", [
    ("conv2d", [(2, 4, 9, 8), (6, 2, 3, 3), (6,)], {"groups": 2, "stride": 2, "padding": "valid"}),
    ("conv2d", [(2, 6, 9, 8), (6, 1, 3, 3), (6,)], {"groups": 6, "padding": "same"}),
    ("conv2d", [(3, 5, 7, 7), (4, 5, 7, 7), (4,)], {}), ("conv1d", [(2, 5, 30), (7, 5, 2), None], {"dilation": 4}),
    ("linear", [(5, 7), (3, 7), (3,)], {}), ("linear", [(2, 5, 7), (3, 7), None], {})])
def test_products_with_their_relu(name, shapes, options):
    """Values, all gradients and those of a gradient penalty, in float64."""
    def run(tensor, functional, grad, fused):
        arrays = [None if s is None else np.random.default_rng(i).standard_normal(s) for i, s in enumerate(shapes)]
        x, w, b = (None if a is None else tensor(a).requires_grad_() for a in arrays)
        if fused and name == "linear":
            y = functional.linear_relu(x, w, b)
        else:
            y = getattr(functional, name)(x, w, b, **options, **({"activation": "relu"} if fused else {}))
            y = y if fused else functional.relu(y)
        inputs = [t for t in (x, w, b) if t is not None]
        first = grad((y ** 3).sum(), inputs, create_graph=True)
        return [y, *first, *grad((first[0] ** 2).sum(), inputs)]

    ours, theirs = run(snn.tensor, F, snn.grad, True), run(torch.tensor, torch.nn.functional, torch.autograd.grad, False)
    for a, b in zip(ours, theirs, strict=True):
        close(a.detach().numpy(), b.detach().numpy(), "float64")


@pytest.mark.parametrize("dilation", [1, 64, 512])
def test_long_signals(dilation):
    compare("conv1d", "float32", [(2, 32, 3000), (64, 32, 2), (64,)], {"dilation": dilation})


@pytest.mark.parametrize("name, arguments", [
    ("Conv1d", (4, 6, 3)), ("Conv2d", (4, 6, (3, 2), 2, 1)), ("Conv2d", (4, 6, 2, 1, "same", 2, 2, False)),
    ("ConvTranspose1d", (4, 6, 3, 2, 1, 1)), ("ConvTranspose2d", (4, 6, 4, 2, 1, 0, 2, False)), ("Conv2d", (4, 8, 3, 1, "valid"))])
def test_layers(name, arguments):
    ours, theirs = getattr(nn, name)(*arguments), getattr(torch.nn, name)(*arguments)
    assert repr(ours) == repr(theirs)
    theirs.load_state_dict({k: torch.from_numpy(v.detach().numpy()) for k, v in ours.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((2, 4, 9, 8)[:3 + ("2d" in name)]).astype(np.float32)
    np.testing.assert_allclose(ours(snn.from_numpy(x)).detach().numpy(), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-5)
    bound = 1 / np.sqrt(np.prod(ours.weight.shape[1:]))
    assert np.abs(ours.weight.detach().numpy()).max() <= bound and ours.weight.detach().numpy().std() > bound / 2


def test_second_derivatives_of_a_gradient_penalty():
    """The penalty of WGAN-GP through a convolution, leaky ReLU and a transposed convolution, in float64 by small steps."""
    rng = np.random.default_rng(0)
    x, w, v = (snn.tensor(rng.standard_normal(s), requires_grad=True) for s in ((2, 2, 6, 5), (3, 2, 3, 3), (3, 2, 2, 2)))

    def penalty(x, w, v):
        y = F.conv_transpose2d(F.leaky_relu(F.conv2d(x, w, stride=2, padding=1), 0.2), v, stride=2).square().sum()
        g, = snn.grad(y, [x], create_graph=True)
        return g.square().sum((1, 2, 3)).sqrt().sum()

    check_gradients(penalty, x, w, v)


@pytest.mark.parametrize("call, message", [
    (lambda: F.conv2d(snn.zeros(1, 3, 4, 4), snn.zeros(2, 3, 5, 5)), r"reaches over \(5, 5\).*padded input has \(4, 4\)"),
    (lambda: F.conv2d(snn.zeros(1, 3, 4, 4), snn.zeros(2, 4, 3, 3)), r"takes 4 channels.*x has shape \(1, 3, 4, 4\)"),
    (lambda: F.conv2d(snn.zeros(1, 4, 4, 4), snn.zeros(3, 2, 3, 3), groups=2), r"its 3 outputs must be divisible by groups"),
    (lambda: F.conv2d(snn.zeros(1, 3, 4, 4), snn.zeros(2, 3, 3, 3), snn.zeros(3)), r"bias has shape \(3,\), \(2,\) fits"),
    (lambda: F.conv2d(snn.zeros(3, 4), snn.zeros(2, 3, 3, 3)), r"3 or 4 dimensions"),
    (lambda: F.conv2d(snn.zeros(1, 3, 4, 4), snn.zeros(2, 3, 3, 3), stride=0), r"stride \(0, 0\).*at least 1"),
    (lambda: F.conv2d(snn.zeros(1, 3, 4, 4), snn.zeros(2, 3, 3, 3), padding="full"), r"'valid' or 'same'"),
    (lambda: F.conv2d(snn.zeros(1, 3, 4, 4), snn.zeros(2, 3, 3, 3), stride=2, padding="same"), r"stride other than 1"),
    (lambda: F.conv_transpose2d(snn.zeros(1, 3, 4, 4), snn.zeros(3, 2, 3, 3), stride=2, output_padding=2), r"smaller than stride"),
    (lambda: F.conv_transpose1d(snn.zeros(1, 3, 4), snn.zeros(2, 2, 3)), r"has 3 channels.*takes 2"),
    (lambda: nn.Conv2d(4, 6, 3, groups=4), r"groups=4 must divide in_channels=4 and out_channels=6")])
def test_errors_name_the_numbers_and_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_dtypes_must_agree():
    with pytest.raises(TypeError, match="one floating-point dtype, got float32, float64"):
        F.conv2d(snn.zeros(1, 3, 4, 4), snn.zeros(2, 3, 3, 3, dtype=np.float64))
