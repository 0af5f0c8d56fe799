"""Every operation that torch has too: values and gradients over broadcasting, sizes 0 and 1, odd layouts, and torch's dtypes."""

import itertools

import numpy as np
import pytest

import scratchnn as snn
from scratchnn.op import registry

torch = pytest.importorskip("torch")
F = torch.nn.functional

UNARY = [
    "abs",
    "ceil",
    "cos",
    "erf",
    "exp",
    "expm1",
    "floor",
    "isfinite",
    "isinf",
    "isnan",
    "log",
    "log1p",
    "logical_not",
    "neg",
    "relu",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sqrt",
    "square",
    "tanh",
]
BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "floor_divide",
    "remainder",
    "maximum",
    "minimum",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "pow",
    "logical_and",
    "logical_or",
    "logical_xor",
]
ACTIVATIONS = [
    ("leaky_relu", {}),
    ("leaky_relu", {"negative_slope": 0.2}),
    ("elu", {}),
    ("elu", {"alpha": 0.7}),
    ("softplus", {}),
    ("softplus", {"beta": 3.0, "threshold": 2.0}),
    ("silu", {}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("hardtanh", {}),
    ("logsigmoid", {}),
]
SHAPES = [(3, 4), (), (1,), (0,), (2, 0, 3), (2, 3, 4), (257,)]
LAYOUTS = {
    "contiguous": lambda a: a,
    "transposed": lambda a: np.asfortranarray(a),
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1] if a.ndim else a,
    "strided": lambda a: np.repeat(a, 2, -1)[..., ::2] if a.ndim else a,
}
PAIRS = [
    ((3, 4), (3, 4)),
    ((3, 4), (4,)),
    ((3, 4), (3, 1)),
    ((3, 1), (1, 4)),
    ((), (3, 4)),
    ((2, 3, 4), (3, 1)),
    ((2, 3, 4), (2, 1, 4)),
    ((1,), (5,)),
    ((0, 3), (1, 3)),
    ((5,), ()),
    ((2, 1, 4, 1), (3, 1, 5)),
    ((4, 3, 2, 2), (3, 1, 1)),
    ((), ()),
]


def numbers(shape, seed=0, dtype=np.float32):
    values = np.random.default_rng(seed).uniform(-2.2, 2.2, shape)
    values.flat[::5] = np.round(values.flat[::5])  # some ties and zeros
    return values.astype(dtype)


def compare(ours, theirs, *arrays, rtol=2e-6, atol=2e-6, **options):
    """Results and gradients of two functions of the same arrays."""
    a = [snn.Tensor(x, x.dtype.kind == "f") for x in arrays]
    b = [torch.tensor(x.copy(), requires_grad=x.dtype.kind == "f") for x in arrays]
    y, z = ours(*a, **options), theirs(*b, **options)
    y, z = (y, z) if isinstance(y, tuple) else ((y,), (z,))
    for u, v in zip(y, z, strict=True):
        assert u.shape == tuple(v.shape) and str(u.dtype) == str(v.dtype).removeprefix("torch.")
        np.testing.assert_allclose(u.array, v.detach().numpy(), rtol, atol)
    if y[0].requires_grad or z[0].requires_grad:
        assert y[0].requires_grad == z[0].requires_grad
        g = numbers(y[0].shape, 9, y[0].dtype)
        y[0].backward(snn.Tensor(g))
        z[0].backward(torch.from_numpy(g))
        for u, v in zip(a, b, strict=True):
            assert (u.grad is None) == (v.grad is None)
            if u.grad is not None:
                np.testing.assert_allclose(u.grad.array, v.grad.numpy(), 10 * rtol, 10 * atol)


def peer(name):
    return getattr(torch, name, None) or getattr(F, name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, layout):
    for shape, dtype in itertools.product(SHAPES, (np.float32, np.float64)):
        x = numbers(shape, dtype=dtype)
        if name in ("log", "log1p", "sqrt", "rsqrt"):
            x = np.abs(x) + dtype(0.1)
        compare(getattr(snn, name), peer(name), LAYOUTS[layout](x))


@pytest.mark.parametrize("name, options", ACTIVATIONS)
def test_activation(name, options):
    for shape, layout in itertools.product(SHAPES, LAYOUTS.values()):
        compare(getattr(snn, name), getattr(F, name), layout(numbers(shape)), atol=1e-5, **options)


@pytest.mark.parametrize("shapes", PAIRS)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name, shapes):
    for layout in LAYOUTS.values():
        a, b = numbers(shapes[0], 1), numbers(shapes[1], 2)
        if name == "pow":
            a = np.abs(a) + np.float32(0.1)
        if name in ("div", "floor_divide", "remainder"):
            b = np.sign(b + np.float32(0.01)) * (np.abs(b) + np.float32(0.3))
        if name == "floor_divide":
            a, b = snn.Tensor(a), snn.Tensor(b)
            np.testing.assert_array_equal(
                snn.floor_divide(a, b).array, torch.floor_divide(torch.tensor(a.array), torch.tensor(b.array)).numpy()
            )
            continue
        compare(getattr(snn, name), getattr(torch, name), layout(a), layout(b), rtol=1e-5)


OPERANDS = {
    "f32": np.float32([1.5, -2, 3]),
    "f64": np.float64([1.5, -2, 3]),
    "i64": np.int64([1, -2, 3]),
    "i32": np.int32([2, -1, 3]),
    "u8": np.uint8([1, 2, 3]),
    "bool": np.array([True, False, True]),
    "f32-0d": np.float32(2.5).reshape(()),
    "f64-0d": np.float64(2.5).reshape(()),
    "i64-0d": np.int64(2).reshape(()),
    "number": 1.5,
    "whole": 3,
    "yes": True,
}


@pytest.mark.parametrize("left, right", list(itertools.product(OPERANDS, OPERANDS)))
@pytest.mark.parametrize("name", ["add", "mul", "div", "maximum", "eq", "where"])
def test_promotion(name, left, right):
    """The dtype and the value of mixed operands."""
    raw = [OPERANDS[left], OPERANDS[right]]
    tensors = [isinstance(v, np.ndarray) for v in raw]
    if not any(tensors) or (name == "maximum" and not all(tensors)) or (name == "add" and not tensors[0]):
        return
    ours = [snn.tensor(v) if t else v for v, t in zip(raw, tensors, strict=True)]
    theirs = [torch.tensor(v) if t else v for v, t in zip(raw, tensors, strict=True)]
    if name == "where":
        y, z = snn.where(snn.tensor([True, False, True]), *ours), torch.where(torch.tensor([True, False, True]), *theirs)
    elif tensors[0]:
        y, z = getattr(ours[0], name)(ours[1]), getattr(theirs[0], name)(theirs[1])
    else:
        operator = {"mul": lambda a, b: a * b, "div": lambda a, b: a / b, "eq": lambda a, b: a == b}[name]
        y, z = operator(*ours), operator(*theirs)
    assert str(y.dtype) == str(z.dtype).removeprefix("torch.")
    np.testing.assert_allclose(y.array, z.numpy(), 1e-6)


def test_special_values():
    """Infinities, NaN and signed zeros go where torch's go."""
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 100.0, -100.0], np.float32)
    for name in [
        "relu",
        "sigmoid",
        "tanh",
        "exp",
        "expm1",
        "log",
        "log1p",
        "sqrt",
        "abs",
        "sign",
        "erf",
        "isnan",
        "isinf",
        "isfinite",
        "logsigmoid",
        "softplus",
    ]:
        ours, theirs = getattr(snn, name)(snn.tensor(x)).array, peer(name)(torch.tensor(x)).numpy()
        np.testing.assert_allclose(ours, theirs, 1e-6, 1e-30, err_msg=name)
    a, b = np.meshgrid(x, x)
    for name in ["maximum", "minimum", "add", "mul"]:
        np.testing.assert_array_equal(
            getattr(snn, name)(snn.tensor(a), snn.tensor(b)).array, getattr(torch, name)(torch.tensor(a), torch.tensor(b)).numpy()
        )
    np.testing.assert_array_equal(snn.tensor(x).clamp(-1, 2).array, torch.tensor(x).clamp(-1, 2).numpy())


REDUCTIONS = [
    ("sum", (None, 0, -1, (0, 2))),
    ("mean", (None, 0, -1, (0, 2))),
    ("var", (None, 1, (0, 2))),
    ("std", (None, 1, (0, 2))),
    ("amax", ((), 0, (0, 2))),
    ("amin", ((), 0, (0, 2))),
    ("logsumexp", (0, -1, (0, 2))),
    ("argmax", (None, 0, 2)),
    ("argmin", (None, 0, 2)),
    ("max", (0, 1, 2)),
    ("min", (0, 1, 2)),
    ("cumsum", (0, 1, 2)),
    ("norm", (None, 0, (0, 2))),
]


@pytest.mark.parametrize("name, dims", REDUCTIONS)
def test_reduction(name, dims):
    for shape, dim, layout in itertools.product([(3, 4, 5), (1, 1, 1), (2, 300, 7), (2, 3, 70)], dims, LAYOUTS.values()):
        x = layout(
            numbers(shape, 3)
            if name in ("max", "min", "argmax", "argmin")
            else np.random.default_rng(0).standard_normal(shape).astype("f4")
        )
        if name == "norm":
            compare(lambda t: t.norm(2, dim), lambda t: t.norm(2, dim), x, rtol=1e-5)
        elif name == "cumsum":
            compare(lambda t: t.cumsum(dim), lambda t: t.cumsum(dim), x, atol=1e-4)
        elif shape != (1, 1, 1) or name not in ("var", "std"):
            for keepdim in (False, True):
                if name in ("max", "min"):  # torch may choose another of equal values: compare values only
                    compare(
                        lambda t: getattr(t, name)(dim, keepdim)[0],
                        lambda t: getattr(t, name)(dim, keepdim)[0],
                        np.random.permutation(x.size).reshape(x.shape).astype("f4"),
                    )
                else:
                    compare(
                        lambda t: getattr(t, name)(dim=dim, keepdim=keepdim),
                        lambda t: getattr(t, name)(dim=dim, keepdim=keepdim),
                        x,
                        rtol=1e-5,
                        atol=1e-5,
                    )


def test_reductions_of_whole_numbers_and_of_nothing():
    for dtype in (np.int64, np.int32, np.uint8, np.bool_):
        x = np.array([[1, 0, 3], [2, 1, 0]]).astype(dtype)
        for name in ("sum", "any", "all") if dtype is np.bool_ else ("sum", "any", "all", "amax", "amin"):
            ours, theirs = getattr(snn.tensor(x), name)(), getattr(torch.tensor(x), name)()
            assert ours.item() == theirs.item() and str(ours.dtype) == str(theirs.dtype).removeprefix("torch."), (name, dtype)
    empty = np.zeros((0, 3), np.float32)
    np.testing.assert_array_equal(snn.tensor(empty).sum(0).array, torch.tensor(empty).sum(0).numpy())
    assert np.isnan(snn.tensor(empty).mean().item())
    with pytest.raises(ValueError, match="nothing to choose from"):
        snn.tensor(empty).amax(0)


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 4), (4, 5)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 3, 4), (4, 5)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((0, 4), (4, 5)),
        ((3, 0), (0, 5)),
        ((1, 1), (1, 1)),
        ((70, 130), (130, 90)),
        ((33, 257), (257, 65)),
        ((2, 3, 4), (2, 4, 5)),
    ],
)
def test_matmul(shapes):
    for layout, dtype in itertools.product(LAYOUTS.values(), (np.float32, np.float64)):
        compare(
            snn.matmul,
            torch.matmul,
            layout(numbers(shapes[0], 1, dtype)),
            layout(numbers(shapes[1], 2, dtype)),
            atol=2e-4,
            rtol=1e-5,
        )


def test_linear_and_embedding():
    x, w, b = numbers((6, 4), 1), numbers((5, 4), 2), numbers((5,), 3)
    compare(snn.linear, F.linear, x, w, b, rtol=1e-5)
    compare(snn.linear, F.linear, x.reshape(2, 3, 4), w, b, rtol=1e-5)
    compare(snn.linear, F.linear, x[0], w, rtol=1e-5)
    index = np.array([[1, 0, 4], [4, 4, 2]])
    compare(snn.embedding, F.embedding, index, w)
    compare(snn.embedding, F.embedding, index, w, padding_idx=4)


SHAPE_OPS = {
    "reshape": lambda t: t.reshape(4, -1),
    "view": lambda t: t.view(2, 12),
    "flatten": lambda t: t.flatten(1),
    "permute": lambda t: t.permute(2, 0, 1),
    "transpose": lambda t: t.transpose(0, -1),
    "mT": lambda t: t.mT,
    "unsqueeze": lambda t: t.unsqueeze(-1),
    "squeeze": lambda t: t.unsqueeze(1).squeeze(1),
    "expand": lambda t: t[:, :1].expand(2, 5, 4),
    "repeat": lambda t: t.repeat(2, 1, 3),
    "flip": lambda t: t.flip(0, 2),
    "narrow": lambda t: t.narrow(1, 1, 2),
    "index": lambda t: t[1],
    "slice": lambda t: t[:, ::2],
    "none": lambda t: t[:, None, 1],
    "ellipsis": lambda t: t[..., 0],
    "list": lambda t: t[[0, 1, 0]],
    "pair": lambda t: t[[0, 1, 0], [2, 2, 2]],
    "mixed": lambda t: t[:, [2, 0, 0], 1:],
    "mask": lambda t: t[t > 0],
}


@pytest.mark.parametrize("name", SHAPE_OPS)
def test_shape_operation(name):
    compare(SHAPE_OPS[name], SHAPE_OPS[name], numbers((2, 3, 4)))
    compare(lambda t: SHAPE_OPS[name](t * 2), lambda t: SHAPE_OPS[name](t * 2), numbers((2, 3, 4)))


def test_join_and_cut():
    a, b = numbers((2, 3), 1), numbers((2, 3), 2)
    for f in (
        lambda m, x, y: m.cat([x, y, x], 1),
        lambda m, x, y: m.stack([x, y], 1),
        lambda m, x, y: m.cat([x, y]),
        lambda m, x, y: x.split(2, 1)[1],
        lambda m, x, y: x.split([1, 2], 1)[1],
        lambda m, x, y: x.chunk(2, 1)[0],
        lambda m, x, y: x.chunk(1, 1)[0],
        lambda m, x, y: x.unbind(1)[2] * y.unbind(0)[0][0],
    ):
        x, y = f(snn, snn.tensor(a), snn.tensor(b)), f(torch, torch.tensor(a), torch.tensor(b))
        np.testing.assert_array_equal(x.array, y.numpy())
    compare(lambda x, y: snn.cat([x, y * 2, x], 1), lambda x, y: torch.cat([x, y * 2, x], 1), a, b)
    for widths in ((1, 2), (1, 0, 2, 1), (-1, 1)):
        compare(lambda x: snn.pad(x, widths, value=0.5), lambda x: F.pad(x, widths, value=0.5), a)


def test_gather_and_select():
    x, index = numbers((3, 4)), np.array([[0, 0], [3, 1], [2, 2]])
    compare(lambda t, i: t.gather(1, i), lambda t, i: t.gather(1, i), x, index)
    compare(lambda t, i: t.index_select(1, i), lambda t, i: t.index_select(1, i), x, np.array([3, 0, 3]))
    compare(lambda t: snn.where(t > 0, t, 0.5), lambda t: torch.where(t > 0, t, 0.5), x)
    compare(lambda t: t.masked_fill(t > 0, 2.0), lambda t: t.masked_fill(t > 0, 2.0), x)
    compare(lambda t: t.clamp(min=-1), lambda t: t.clamp(min=-1), x)
    compare(
        lambda t: t**3 + t**2 + (t * t + 1) ** 0.5 + (t * t + 1) ** -1 + 2**t,
        lambda t: t**3 + t**2 + (t * t + 1) ** 0.5 + (t * t + 1) ** -1 + 2**t,
        x,
        rtol=1e-5,
    )


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name, dim):
    for layout in LAYOUTS.values():
        compare(lambda t: getattr(t, name)(dim), lambda t: getattr(t, name)(dim), layout(10 * numbers((5, 7))), rtol=1e-5)


def test_second_derivatives():
    """Through activations, products and softmax, against torch's double backward."""
    a, b = numbers((4, 3), 1, np.float64), numbers((3, 5), 2, np.float64)
    for f in (
        lambda x, w, m: m.tanh(x @ w).pow(2).sum(),
        lambda x, w, m: (x @ w).softmax(1).pow(3).sum(),
        lambda x, w, m: m.sigmoid(x @ w).log().sum(),
    ):
        seconds = []
        for m, make in ((snn, snn.tensor), (torch, torch.tensor)):
            autograd = snn.grad if m is snn else torch.autograd.grad
            x, w = make(a), make(b)
            x.requires_grad_(), w.requires_grad_()
            g = autograd(f(x, w, m), x, create_graph=True)[0]
            seconds.append([t.numpy() for t in autograd((g * g).sum(), [x, w])])
        for u, v in zip(*seconds, strict=True):
            np.testing.assert_allclose(u, v, 1e-9, 1e-12)


def test_nothing_with_a_peer_is_left_out():
    """Each registered operation of torch's is compared above, by its own name or a general form."""
    seen = {
        *UNARY,
        *BINARY,
        *(name for name, _ in ACTIVATIONS),
        *(name for name, _ in REDUCTIONS),
        *SHAPE_OPS,
        "softmax",
        "log_softmax",
        "matmul",
        "linear",
        "narrow",
        "clone",
        "gather",
        "scatter_add",
        "clip",
        "select",
        "cast",
    }
    own = {name for name in registry if not hasattr(torch, name) and not hasattr(F, name)}
    assert set(registry) - seen - own == set()
