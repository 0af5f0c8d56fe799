"""Batch, group and instance normalisation and spectral norm against PyTorch: values, gradients, statistics, states, errors."""

import re

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn, optim
from scratchnn.nn import functional as F

torch = pytest.importorskip("torch")

DTYPES = ["float32", "float64"]
TOLERANCE = {"float32": 1e-5, "float64": 1e-11}       # of the largest number: sums of many cancel to small ones


def numbers(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(mine, other, what="value"):
    a, b = mine.detach().numpy(), other.detach().numpy()
    assert a.shape == b.shape and a.dtype == b.dtype, (what, a.shape, b.shape, a.dtype, b.dtype)
    if a.dtype.kind == "f":
        tolerance = TOLERANCE[a.dtype.name]
        np.testing.assert_allclose(a, b, tolerance, tolerance * np.abs(b).max(initial=1), err_msg=what)
    else:
        assert np.array_equal(a, b), what


def pair(name, *args, dtype="float32", **options):
    """The same layer here and there, with random parameters and statistics."""
    mine, other = getattr(nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    if dtype == "float64":
        mine.double()
        other.double()
    state = {k: numbers(*v.shape, seed=i, dtype=v.dtype) for i, (k, v) in enumerate(mine.state_dict().items())}
    state.update({k: v ** 2 + 0.1 for k, v in state.items() if k == "running_var"})
    mine.load_state_dict(state)
    other.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
    return mine, other


def agree(mine, other, x, g):
    """Value, gradients of the input and all parameters, and the whole state afterwards are equal."""
    a, b = snn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = mine(a), other(b)
    close(y, z)
    mine.zero_grad()
    other.zero_grad()
    y.backward(snn.tensor(g))
    z.backward(torch.tensor(g))
    close(a.grad, b.grad, "gradient of the input")
    assert [n for n, _ in mine.named_parameters()] == [n for n, _ in other.named_parameters()]
    for (name, p), q in zip(mine.named_parameters(), other.parameters(), strict=True):
        close(p.grad, q.grad, f"gradient of {name}")
    assert list(mine.state_dict()) == list(other.state_dict())
    for (name, p), q in zip(mine.state_dict().items(), other.state_dict().values(), strict=True):
        close(p, q, name)


def trained_and_used(mine, other, shape, dtype):
    """Two batches in training, one in use."""
    for seed in range(2):
        agree(mine, other, numbers(*shape, seed=10 + seed, dtype=dtype) * 3 + 10, numbers(*shape, seed=20, dtype=dtype))
    agree(mine.eval(), other.eval(), numbers(*shape, seed=12, dtype=dtype) * 3, numbers(*shape, seed=21, dtype=dtype))
    assert repr(mine) == repr(other)


OPTIONS = [{}, {"momentum": 0.3, "eps": 0.1}, {"affine": False}, {"bias": False}, {"track_running_stats": False},
           {"affine": True, "track_running_stats": True}]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [*OPTIONS, {"momentum": None}], ids=str)
@pytest.mark.parametrize("name, shape", [
    ("BatchNorm1d", (8, 5)), ("BatchNorm1d", (2, 1)), ("BatchNorm1d", (130, 201)), ("BatchNorm1d", (3, 5, 1)), ("BatchNorm1d", (4, 3, 7)),
    ("BatchNorm1d", (1, 2, 40)), ("BatchNorm2d", (2, 3, 5, 7)), ("BatchNorm2d", (5, 70, 2, 2)), ("BatchNorm2d", (1, 1, 1, 2)),
], ids=str)
def test_batch_norm_equals_torch(name, shape, options, dtype):
    trained_and_used(*pair(name, shape[1], dtype=dtype, **options), shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name, shape", [
    ("InstanceNorm1d", (4, 3, 7)), ("InstanceNorm1d", (3, 50)), ("InstanceNorm1d", (1, 1, 2)), ("InstanceNorm2d", (2, 3, 5, 7)),
    ("InstanceNorm2d", (3, 4, 9)), ("InstanceNorm2d", (2, 150, 3, 2)),
], ids=str)
def test_instance_norm_equals_torch(name, shape, options, dtype):
    features = shape[-2 if name == "InstanceNorm1d" else -3]
    trained_and_used(*pair(name, features, dtype=dtype, **options), shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"eps": 0.1}, {"affine": False}, {"bias": False}], ids=str)
@pytest.mark.parametrize("groups, shape", [(2, (3, 6)), (6, (2, 6, 9)), (1, (2, 6, 5, 7)), (3, (4, 6, 50)), (6, (2, 6, 3, 3)),
                                           (1, (1, 1, 2))], ids=str)
def test_group_norm_equals_torch(groups, shape, options, dtype):
    trained_and_used(*pair("GroupNorm", groups, shape[1], dtype=dtype, **options), shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("shape", [(8, 5), (130, 201), (4, 3, 7), (3, 5, 9, 8), (5, 70, 2, 2)], ids=str)
def test_batch_norm_with_its_activation_equals_torch(shape, activation, training, dtype):
    """Values, all gradients, statistics; in float64 the gradients of a gradient penalty too."""
    def run(tensor, functional, grad, **fused):
        x, weight, bias, mean, var = (tensor(a) for a in arrays)
        for t in (x, weight, bias):
            t.requires_grad_()
        y = functional.batch_norm(x, mean, var, weight, bias, training, 0.3, 0.1, **fused)
        y = y if fused else getattr(functional, activation)(y)
        first = grad((y ** 3).sum(), [x, weight, bias], create_graph=True)
        second = grad((first[0] ** 2).sum(), [x, weight]) if dtype == "float64" else ()
        return [y, mean, var, *first, *second]

    channels = shape[1:2]
    arrays = [numbers(*s, seed=i, dtype=dtype) for i, s in enumerate((shape, channels, channels, channels, channels))]
    arrays[4] = arrays[4] ** 2 + 0.1
    ours = run(snn.tensor, F, snn.grad, activation=activation)
    for mine, other in zip(ours, run(torch.tensor, torch.nn.functional, torch.autograd.grad), strict=True):
        close(mine, other)


def test_functions_equal_torch():
    """Called as functions: statistics are optional, and frozen layers do without gradients of their own."""
    x, mean, var, weight = numbers(6, 4, 3), numbers(4), numbers(4) ** 2 + 0.1, numbers(4, seed=3)
    mine, other = [snn.tensor(a) for a in (x, mean, var, weight)], [torch.tensor(a) for a in (x, mean, var, weight)]
    theirs = torch.nn.functional
    for ours, peer in ((F.batch_norm(*mine), theirs.batch_norm(*other)),
                       (F.batch_norm(mine[0], None, None, training=True), theirs.batch_norm(other[0], None, None, training=True)),
                       (F.instance_norm(mine[0]), theirs.instance_norm(other[0])),
                       (F.instance_norm(*mine, use_input_stats=False), theirs.instance_norm(*other, use_input_stats=False)),
                       (F.group_norm(mine[0], 2, mine[3]), theirs.group_norm(other[0], 2, other[3]))):
        close(ours, peer)


def test_groups_of_one_number_equal_torch():
    """In float64: 1 / sqrt(0 + eps) magnifies what rounding leaves of x - mean."""
    trained_and_used(*pair("GroupNorm", 6, 6, dtype="float64"), (2, 6, 1), "float64")


def test_gradient_penalties_equal_torch():
    """The gradient of a gradient's norm, through statistics of the batch."""
    x, dtype = numbers(6, 4, 5, seed=3, dtype="float64"), "float64"
    for name, args in (("BatchNorm1d", (4,)), ("GroupNorm", (2, 4)), ("InstanceNorm1d", (4, 1e-5, 0.1, True))):
        mine, other = pair(name, *args, dtype=dtype)
        a, b = snn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        first, = snn.grad((mine(a) ** 3).sum(), [a], create_graph=True)
        same, = torch.autograd.grad((other(b) ** 3).sum(), [b], create_graph=True)
        close(first, same)
        (first ** 2).sum().backward()
        (same ** 2).sum().backward()
        for p, q in ((a, b), *zip(mine.parameters(), other.parameters(), strict=True)):
            if q.grad is not None:
                close(p.grad, q.grad)


def test_an_empty_batch_leaves_the_statistics():
    mine, other = pair("BatchNorm1d", 3)
    agree(mine, other, np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32))
    close(nn.GroupNorm(1, 3)(snn.zeros(0, 3, 4)), torch.nn.GroupNorm(1, 3)(torch.zeros(0, 3, 4)))


@pytest.mark.parametrize("make, shape", [
    (lambda lib: lib.BatchNorm1d(3), (1, 3)), (lambda lib: lib.BatchNorm1d(3), (1, 3, 1)), (lambda lib: lib.BatchNorm2d(3), (1, 3, 1, 1)),
    (lambda lib: lib.BatchNorm1d(3), (3,)), (lambda lib: lib.BatchNorm1d(3), (2, 3, 2, 2)), (lambda lib: lib.BatchNorm2d(3), (2, 3, 2)),
    (lambda lib: lib.InstanceNorm1d(3), (2, 3, 1)), (lambda lib: lib.InstanceNorm1d(3), (2, 3, 1, 1)),
    (lambda lib: lib.InstanceNorm2d(3), (3, 2)), (lambda lib: lib.InstanceNorm2d(3, affine=True), (2, 4, 2, 2)),
    (lambda lib: lib.GroupNorm(3, 3), (1, 3, 1)),
])
def test_errors_are_torchs(make, shape):
    """The same type and words; sizes may be printed without torch.Size around them."""
    with pytest.raises(ValueError) as mine:
        make(nn)(snn.ones(*shape))
    with pytest.raises(ValueError) as other:
        make(torch.nn)(torch.ones(*shape))
    assert str(mine.value) == re.sub(r"(torch\.Size\()?\[([\d, ]+)\]\)?", r"(\2)", str(other.value))


def test_what_does_not_fit_is_named():
    x = snn.ones(2, 4, 3)
    for words, call in {
        r"weight has shape \(3,\), \(4,\) fits input \(2, 4, 3\)": lambda: nn.BatchNorm1d(3)(x),
        r"running_mean has shape \(3,\), \(4,\) fits input \(2, 4, 3\)": lambda: nn.BatchNorm1d(3, affine=False)(x),
        r"weight has shape \(6,\), \(4,\) fits input \(2, 4, 3\)": lambda: nn.GroupNorm(2, 6)(x),
        r"num_channels \(4\) must be divisible by num_groups \(3\)": lambda: nn.GroupNorm(3, 4),
        r"num_groups=3 must divide the 4 channels of input \(2, 4, 3\)": lambda: F.group_norm(x, 3),
        r"\(N, C, ...\), got \(2,\)": lambda: F.batch_norm(snn.ones(2), None, None, training=True),
        "running_mean and running_var must be given": lambda: F.batch_norm(x, None, None),
        "activation must be None, 'relu' or 'leaky_relu', not 'tanh'": lambda: F.batch_norm(x, None, None, activation="tanh"),
    }.items():
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match=r"input is float64, but weight float32; .*\.to"):
        nn.BatchNorm1d(4)(x.double())


# ---- spectral norm -----------------------------------------------------------------------------------------------------------

def spectral_pair(dtype, **options):
    """A linear layer with spectral norm here and there, with the same numbers."""
    snn.manual_seed(0)
    mine = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 7, dtype=dtype), **options)
    other = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(5, 7, dtype=getattr(torch, dtype)), **options)
    other.load_state_dict({k: torch.from_numpy(v.numpy().copy()) for k, v in mine.state_dict().items()})
    return mine, other


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"n_power_iterations": 3, "eps": 1e-6}, {"dim": 1}, {"dim": -1}, {"name": "bias"}], ids=str)
def test_spectral_norm_equals_torch_over_training(options, dtype):
    mine, other = spectral_pair(dtype, **options)
    x, g = numbers(4, 5, dtype=dtype), numbers(4, 7, seed=1, dtype=dtype)
    ours, theirs = optim.SGD(mine.parameters(), 0.1), torch.optim.SGD(other.parameters(), 0.1)
    for _ in range(4):
        agree(mine, other, x, g)
        ours.step()
        theirs.step()
    agree(mine.eval(), other.eval(), x, g)
    assert repr(mine) == repr(other)


def test_spectral_norm_of_a_kernel_of_weights():
    """Any number of dimensions, as convolutions have; those that are transposed have their outputs in dimension 1."""
    class Kernel(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(snn.randn(4, 6, 3, 3))

    class ConvTransposeOfSomeKind(Kernel):
        pass

    snn.manual_seed(0)
    for kind, dim in ((Kernel, 0), (ConvTransposeOfSomeKind, 1)):
        module = nn.utils.parametrizations.spectral_norm(kind(), n_power_iterations=500)
        weight = module.weight.detach().numpy()
        assert np.linalg.svd(np.moveaxis(weight, dim, 0).reshape(weight.shape[dim], -1))[1][0] == pytest.approx(1, abs=1e-5)


def test_two_passes_before_one_backward_equal_torch():
    """As in a discriminator's loss: the second pass moves u and v, which the gradient of the first still needs as they were."""
    mine, other = spectral_pair("float64")
    x, y = numbers(4, 5, dtype="float64"), numbers(4, 5, seed=1, dtype="float64")
    (mine(snn.tensor(x)) ** 2).sum().sub((mine(snn.tensor(y)) ** 2).sum()).backward()
    (other(torch.tensor(x)) ** 2).sum().sub((other(torch.tensor(y)) ** 2).sum()).backward()
    for p, q in zip(mine.parameters(), other.parameters(), strict=True):
        close(p.grad, q.grad)


def test_spectral_norm_refuses_what_does_not_fit():
    make = nn.utils.parametrizations.spectral_norm
    with pytest.raises(ValueError, match="has no parameter with name 'kernel', only"):
        make(nn.Linear(2, 3), "kernel")
    with pytest.raises(ValueError, match="Expected n_power_iterations to be positive, but got n_power_iterations=0"):
        make(nn.Linear(2, 3), n_power_iterations=0)
    with pytest.raises(IndexError, match=r"\[-2, 1\] but got 2"):
        make(nn.Linear(2, 3), dim=2)
    with pytest.raises(AttributeError, match=r"parametrizations\.weight\.original"):
        make(nn.Linear(2, 3)).weight = nn.Parameter(snn.ones(3, 2))
