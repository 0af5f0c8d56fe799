"""Layers, losses, activations, initialisers and clipping against PyTorch: values, gradients, names, printing."""

import math

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn

torch = pytest.importorskip("torch")

# float32: torch computes 1 + erf(x) of GELU with an error of 6e-8, which x and a gradient of 3 multiply where the sum is near 0
TOLERANCE = {"float32": {"rtol": 2e-5, "atol": 5e-6}, "float64": {"rtol": 1e-11, "atol": 1e-13}}
DTYPES = list(TOLERANCE)


def numbers(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def ours(array, grad=True):
    t = snn.from_numpy(array.copy())
    return t.requires_grad_() if grad and t.is_floating_point() else t


def theirs(array, grad=True):
    t = torch.from_numpy(array.copy())
    return t.requires_grad_() if grad and t.is_floating_point() else t


def close(a, b, dtype="float32", what="value"):
    a, b = (x.detach().numpy() for x in (a, b))
    assert a.shape == b.shape and a.dtype == b.dtype, (what, a.shape, b.shape, a.dtype, b.dtype)
    np.testing.assert_allclose(a, b, err_msg=what, **TOLERANCE[dtype])


def agree(module, reference, inputs, dtype, differentiable=None):
    """Value, gradients of the inputs and of all parameters are equal for a random gradient that arrives."""
    mine, other = [ours(a) for a in inputs], [theirs(a) for a in inputs]
    y, z = module(*mine), reference(*other)
    close(y, z, dtype)
    g = numbers(*y.shape, seed=99, dtype=dtype)
    y.backward(ours(g, False))
    z.backward(theirs(g, False))
    for i, (a, b) in enumerate(zip(mine, other, strict=True)):
        if b.requires_grad and b.grad is not None:
            close(a.grad, b.grad, dtype, f"gradient of input {i}")
    for (name, p), (same, q) in zip(module.named_parameters(), reference.named_parameters(), strict=True):
        assert name == same
        close(p.grad, q.grad, dtype, f"gradient of {name}")


def pair(name, *args, dtype="float32", **options):
    """The same module here and there, with the values of ours."""
    module = getattr(nn, name)(*args, **options)
    reference = getattr(torch.nn, name)(*args, **options)
    if dtype == "float64":
        module.double()
        reference.double()
    reference.load_state_dict({k: torch.from_numpy(v.numpy().copy()) for k, v in module.state_dict().items()})
    return module, reference


# ---- layers ------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (1, 7), (33, 7), (2, 3, 7), (0, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_torch(shape, bias, dtype):
    agree(*pair("Linear", 7, 5, bias=bias, dtype=dtype), [numbers(*shape, dtype=dtype)], dtype)


@pytest.mark.parametrize("view", [lambda a: a.T, lambda a: a[::-1], lambda a: a[:, ::2], lambda a: np.broadcast_to(a[:1], a.shape)],
                         ids=["transposed", "reversed", "strided", "broadcast"])
def test_linear_of_views_equals_torch(view):
    values = view(numbers(6, 6))
    module, reference = pair("Linear", values.shape[1], 4)
    x, y = snn.from_numpy(values).requires_grad_(), theirs(np.ascontiguousarray(values))
    module(x).sum().backward()
    reference(y).sum().backward()
    close(module(x), reference(y))
    close(x.grad, y.grad)
    close(module.weight.grad, reference.weight.grad)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding_idx", [None, 0, -1])
@pytest.mark.parametrize("shape", [(), (4,), (5, 9), (0,)])
def test_embedding_equals_torch(shape, padding_idx, dtype):
    index = np.random.default_rng(1).integers(0, 6, shape)
    agree(*pair("Embedding", 6, 3, padding_idx=padding_idx, dtype=dtype), [np.asarray(index)], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size, options", [(8, {}), ((4, 8), {}), ([4, 8], {"eps": 0.1}), (8, {"bias": False}),
                                           (8, {"elementwise_affine": False}), (1, {})])
def test_layer_norm_equals_torch(size, options, dtype):
    shape = (3, 4, 8) if size != 1 else (5, 1)
    module, reference = pair("LayerNorm", size, dtype=dtype, **options)
    for i, (p, q) in enumerate(zip(module.parameters(), reference.parameters(), strict=True)):
        p.array[...] = numbers(*p.shape, seed=i, dtype=dtype)
        q.data = torch.from_numpy(p.array.copy())
    agree(module, reference, [numbers(*shape, dtype=dtype) * 3 + 1], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, args", [("Flatten", ()), ("Flatten", (0, 1)), ("Flatten", (-2, -1)), ("Unflatten", (1, (2, 2))),
                                        ("Unflatten", (-1, (-1, 3))), ("Identity", ()), ("Dropout", (0.0,))])
def test_shape_layers_equal_torch(name, args, dtype):
    agree(*pair(name, *args), [numbers(3, 4, 6, dtype=dtype)], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, options", [
    ("ReLU", {}), ("LeakyReLU", {}), ("LeakyReLU", {"negative_slope": 0.3}), ("ELU", {}), ("ELU", {"alpha": 0.5}), ("GELU", {}),
    ("GELU", {"approximate": "tanh"}), ("SiLU", {}), ("Sigmoid", {}), ("LogSigmoid", {}), ("Tanh", {}), ("Hardtanh", {}),
    ("Hardtanh", {"min_val": -0.5, "max_val": 2.0}), ("Softplus", {}), ("Softplus", {"beta": 2.0, "threshold": 3.0}),
    ("Softmax", {"dim": 1}), ("Softmax", {"dim": 0}), ("LogSoftmax", {"dim": -1}), ("LogSoftmax", {"dim": 0}),
])
def test_activations_equal_torch(name, options, dtype):
    values = numbers(9, 31, dtype=dtype) * 4
    values[0, :4] = [0, -0.0, 60, -60]
    module, reference = pair(name, **options)
    agree(module, reference, [values], dtype)
    assert repr(module) == repr(reference)


# ---- losses ------------------------------------------------------------------------------------------------------------------

CLASS_SHAPES = [((6,), ()), ((5, 6), (5,)), ((2, 6, 3), (2, 3)), ((2, 6, 3, 4), (2, 3, 4))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shapes", CLASS_SHAPES, ids=str)
def test_cross_entropy_equals_torch(shapes, weighted, reduction, dtype):
    target = np.asarray(np.random.default_rng(2).integers(0, 6, shapes[1]))
    for options in ({}, {"ignore_index": int(target.flat[0])}, {"label_smoothing": 0.2}):
        if reduction == "mean" and target.size == 1 and "ignore_index" in options:
            continue                                                              # 0 / 0: the next test
        weight = np.abs(numbers(6, seed=3, dtype=dtype)) if weighted else None
        module = nn.CrossEntropyLoss(None if weight is None else ours(weight, False), reduction=reduction, **options)
        reference = torch.nn.CrossEntropyLoss(None if weight is None else theirs(weight, False), reduction=reduction, **options)
        agree(module, reference, [numbers(*shapes[0], dtype=dtype) * 3, target], dtype)


def test_cross_entropy_of_nothing_is_not_a_number_as_in_torch():
    x, target = numbers(2, 3), np.array([-100, -100])
    assert math.isnan(nn.CrossEntropyLoss()(ours(x), ours(target)).item())
    assert math.isnan(torch.nn.CrossEntropyLoss()(theirs(x), theirs(target)).item())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}], ids=str)
@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 6, 3)])
def test_cross_entropy_against_probabilities_equals_torch(shape, options, reduction, dtype):
    target = np.random.default_rng(2).random(shape).astype(dtype)
    target /= target.sum(1 if len(shape) > 1 else 0, keepdims=True)
    weight = np.abs(numbers(6, seed=3, dtype=dtype))
    for w in (None, weight):
        module = nn.CrossEntropyLoss(None if w is None else ours(w, False), reduction=reduction, **options)
        reference = torch.nn.CrossEntropyLoss(None if w is None else theirs(w, False), reduction=reduction, **options)
        agree(module, reference, [numbers(*shape, dtype=dtype), target], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shapes", CLASS_SHAPES, ids=str)
def test_nll_equals_torch(shapes, reduction, dtype):
    target = np.asarray(np.random.default_rng(2).integers(0, 6, shapes[1]))
    weight = np.abs(numbers(6, seed=3, dtype=dtype))
    for w in (None, weight):
        for options in ({}, {"ignore_index": 5}):
            module = nn.NLLLoss(None if w is None else ours(w, False), reduction=reduction, **options)
            reference = torch.nn.NLLLoss(None if w is None else theirs(w, False), reduction=reduction, **options)
            agree(module, reference, [numbers(*shapes[0], dtype=dtype), target], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name, options", [
    ("MSELoss", {}), ("L1Loss", {}), ("SmoothL1Loss", {}), ("SmoothL1Loss", {"beta": 0.3}), ("SmoothL1Loss", {"beta": 0.0}),
    ("HuberLoss", {}), ("HuberLoss", {"delta": 0.4}),
])
def test_distances_equal_torch(name, options, reduction, dtype):
    module, reference = pair(name, reduction=reduction, **options)
    for shape in [(4, 5), (), (3, 0)]:
        if shape != (3, 0) or reduction != "mean":
            agree(module, reference, [numbers(*shape, dtype=dtype), numbers(*shape, seed=1, dtype=dtype)], dtype)
    x = numbers(3, 4, dtype=dtype)
    agree(module, reference, [x, x], dtype)                                      # the kink, where both are 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropies_equal_torch(weighted, reduction, dtype):
    logits, target = numbers(4, 5, dtype=dtype) * 5, np.random.default_rng(1).random((4, 5)).astype(dtype)
    logits[0, :2], target[0] = [90, -90], [0, 1, 0, 1, 0]
    weight = [np.abs(numbers(5, seed=3, dtype=dtype))] if weighted else []
    module = nn.BCEWithLogitsLoss(*[ours(w, False) for w in weight], reduction=reduction)
    reference = torch.nn.BCEWithLogitsLoss(*[theirs(w, False) for w in weight], reduction=reduction)
    agree(module, reference, [logits, target], dtype)
    pos = np.abs(numbers(5, seed=4, dtype=dtype)) + 0.5
    module = nn.BCEWithLogitsLoss(*[ours(w, False) for w in weight], reduction=reduction, pos_weight=ours(pos, False))
    reference = torch.nn.BCEWithLogitsLoss(*[theirs(w, False) for w in weight], reduction=reduction, pos_weight=theirs(pos, False))
    agree(module, reference, [logits, target], dtype)
    module = nn.BCELoss(*[ours(w, False) for w in weight], reduction=reduction)
    reference = torch.nn.BCELoss(*[theirs(w, False) for w in weight], reduction=reduction)
    agree(module, reference, [np.clip(0.5 + 0.1 * logits, 1e-3, 1 - 1e-3), target], dtype)


def test_binary_cross_entropy_at_certainty_equals_torch():
    p, target = np.array([0.0, 1.0, 0.0, 1.0], np.float32), np.array([1.0, 0.0, 0.0, 1.0], np.float32)
    module, reference = pair("BCELoss", reduction="none")
    close(module(ours(p), ours(target, False)), reference(theirs(p), theirs(target, False)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum", "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.filterwarnings("ignore:reduction")
def test_kl_div_equals_torch(log_target, reduction, dtype):
    logs = np.log(np.random.default_rng(0).dirichlet(np.ones(5), 4)).astype(dtype)
    target = np.random.default_rng(1).dirichlet(np.ones(5), 4).astype(dtype)
    target = np.log(target) if log_target else target
    module, reference = pair("KLDivLoss", reduction=reduction, log_target=log_target)
    agree(module, reference, [logs, target], dtype)
    if not log_target:
        target[0, 0] = 0
        close(module(ours(logs), ours(target, False)), reference(theirs(logs), theirs(target, False)), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("options", [{}, {"full": True}, {"eps": 0.5}], ids=str)
def test_gaussian_nll_equals_torch(options, reduction, dtype):
    module, reference = pair("GaussianNLLLoss", reduction=reduction, **options)
    var = np.random.default_rng(3).random((4, 5)).astype(dtype) + 0.01
    agree(module, reference, [numbers(4, 5, dtype=dtype), numbers(4, 5, seed=1, dtype=dtype), var], dtype)


# ---- whole networks ------------------------------------------------------------------------------------------------------------

def network(lib):
    return lib.Sequential(lib.Embedding(11, 6, padding_idx=0), lib.Flatten(), lib.Linear(24, 16), lib.LayerNorm(16), lib.GELU(),
                          lib.ModuleDict({"a": lib.Linear(16, 16)})["a"], lib.Sequential(lib.LeakyReLU(0.2), lib.Linear(16, 5)))


def test_state_dicts_fit_torch_both_ways():
    snn.manual_seed(0)
    mine, other = network(nn), network(torch.nn)
    assert list(mine.state_dict()) == list(other.state_dict()) and repr(mine) == repr(other)
    mine.load_state_dict(other.state_dict())
    tokens = np.random.default_rng(0).integers(0, 11, (3, 4))
    close(mine(ours(tokens)), other(theirs(tokens)))
    fresh = network(nn)
    other.load_state_dict({k: torch.from_numpy(v.numpy()) for k, v in fresh.state_dict().items()})
    close(fresh(ours(tokens)), other(theirs(tokens)))


def test_walks_have_torchs_order_and_names():
    def make(lib):
        net = network(lib)
        net.tied = net[2]
        net.register_buffer("count", (snn if lib is nn else torch).zeros(2))
        net.many = lib.ModuleList([lib.ReLU(), lib.ReLU(), lib.Linear(1, 1), lib.ModuleDict({"x": lib.Tanh()})])
        net.more = lib.ParameterList([lib.Parameter((snn if lib is nn else torch).ones(1))])
        return net

    mine, other = make(nn), make(torch.nn)
    for walk in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        assert [n for n, _ in getattr(mine, walk)()] == [n for n, _ in getattr(other, walk)()], walk
    assert list(mine.state_dict()) == list(other.state_dict())
    assert [type(m).__name__ for m in mine.modules()] == [type(m).__name__ for m in other.modules()]


@pytest.mark.parametrize("make", [
    lambda lib: lib.ModuleList([lib.Linear(2, 3), lib.Linear(2, 3), lib.Sequential(lib.ReLU()), lib.Tanh()]),
    lambda lib: lib.ModuleDict({"a": lib.Embedding(3, 2, padding_idx=1), "b": lib.LayerNorm((2, 3))}),
    lambda lib: lib.Sequential(), lambda lib: lib.ModuleList(), lambda lib: lib.Flatten(), lambda lib: lib.Unflatten(1, (2, 3)),
    lambda lib: lib.Linear(1, 2, bias=False), lambda lib: lib.CrossEntropyLoss(), lambda lib: lib.Identity(),
    lambda lib: lib.LayerNorm(3, bias=False), lambda lib: lib.LayerNorm(3, elementwise_affine=False, eps=0.1),
])
def test_printing_equals_torch(make):
    assert repr(make(nn)) == repr(make(torch.nn)).replace(", inplace=False", "")


# ---- initialisers and clipping ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, options", [
    ("uniform_", {"a": -1.0, "b": 2.0}), ("normal_", {"mean": 1.0, "std": 0.5}), ("trunc_normal_", {}),
    ("trunc_normal_", {"mean": 0.5, "std": 2.0, "a": -1.0, "b": 3.0}), ("xavier_uniform_", {"gain": 1.5}), ("xavier_normal_", {}),
    ("kaiming_uniform_", {"a": math.sqrt(5)}), ("kaiming_uniform_", {"mode": "fan_out", "nonlinearity": "relu"}),
    ("kaiming_normal_", {"nonlinearity": "tanh"}), ("kaiming_normal_", {"mode": "fan_out", "a": 0.2}),
    ("orthogonal_", {"gain": 2.0}),
])
@pytest.mark.parametrize("shape", [(160, 240), (64, 20, 5, 6)])
def test_initialisers_have_torchs_distribution(name, options, shape):
    snn.manual_seed(0)
    torch.manual_seed(0)
    a = getattr(nn.init, name)(snn.empty(*shape), **options).numpy().ravel()
    b = getattr(torch.nn.init, name)(torch.empty(*shape), **options).numpy().ravel()
    assert abs(a.mean() - b.mean()) < 6 * b.std() / math.sqrt(a.size)
    assert a.std() == pytest.approx(b.std(), rel=0.02)
    probes = np.linspace(0.02, 0.98, 25)
    assert np.abs(np.quantile(a, probes) - np.quantile(b, probes)).max() < 0.06 * b.std()


@pytest.mark.parametrize("name", ["linear", "conv1d", "conv_transpose2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gains_equal_torch(name):
    assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)


@pytest.mark.parametrize("layer, args", [("Linear", (40, 300)), ("Embedding", (300, 40)), ("LayerNorm", (300,))])
def test_layers_start_like_torch(layer, args):
    snn.manual_seed(1)
    torch.manual_seed(1)
    for p, q in zip(getattr(nn, layer)(*args).parameters(), getattr(torch.nn, layer)(*args).parameters(), strict=True):
        q = q.detach().numpy()
        assert p.array.std() == pytest.approx(q.std(), rel=0.1)
        assert abs(p.array.mean() - q.mean()) <= 6 * q.std() / math.sqrt(q.size)
        assert np.abs(p.array).max() == pytest.approx(np.abs(q).max(), rel=0.2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm_type", [2.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.1, 1.0, 1000.0])
def test_clip_grad_norm_equals_torch(max_norm, norm_type, dtype):
    shapes = [(40, 30), (), (7,)] + [(0, 3)] * (norm_type == 2)          # torch has no infinity norm of nothing
    mine = [nn.Parameter(snn.zeros(s, dtype=dtype)) for s in shapes]
    other = [torch.zeros(s, dtype=getattr(torch, dtype)) for s in shapes]
    for i, (p, q) in enumerate(zip(mine, other, strict=True)):
        g = np.asarray(numbers(*p.shape, seed=i, dtype=dtype))
        p.grad, q.grad = ours(g, False), theirs(g, False)
    close(nn.utils.clip_grad_norm_(mine, max_norm, norm_type), torch.nn.utils.clip_grad_norm_(other, max_norm, norm_type), dtype)
    for p, q in zip(mine, other, strict=True):
        close(p.grad, q.grad, dtype)
    nn.utils.clip_grad_value_(mine, 0.05)
    torch.nn.utils.clip_grad_value_(other, 0.05)
    for p, q in zip(mine, other, strict=True):
        close(p.grad, q.grad, dtype)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_max_norm_equals_torchs_renorm(dim):
    x = numbers(4, 5, 6)
    close(nn.utils.max_norm_(ours(x, False), 4.5, dim=dim), torch.renorm(theirs(x, False), 2, dim, 4.5))


def test_parameters_to_vector_equals_torch():
    mine, other = pair("Linear", 4, 3)
    close(nn.utils.parameters_to_vector(mine.parameters()), torch.nn.utils.parameters_to_vector(other.parameters()))
