"""Corners in which a plausible result is not torch's: dtypes, views, gradients at kinks, and what is refused."""

import math

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import ops

torch = pytest.importorskip("torch")
F = torch.nn.functional


def same(mine, theirs):
    """Equal in shape, dtype and values."""
    assert str(theirs.dtype).removeprefix("torch.") == mine.dtype.name
    assert mine.shape == tuple(theirs.shape)
    np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=1e-6)


def same_gradients(f, g, *arrays, upstream=None):
    """f of Tensors and g of torch tensors: equal values and gradients (of the sum, or for an upstream gradient)."""
    mine = [snn.tensor(np.array(a, np.float32), requires_grad=True) for a in arrays]
    theirs = [torch.tensor(np.array(a, np.float32), requires_grad=True) for a in arrays]
    y, z = f(*mine), g(*theirs)
    same(y, z)
    upstream = np.ones(y.shape, np.float32) if upstream is None else np.full(y.shape, upstream, np.float32)
    y.backward(snn.tensor(upstream))
    z.backward(torch.tensor(upstream))
    for a, b in zip(mine, theirs, strict=True):
        same(a.grad, b.grad)


def both(f, *arrays):
    """One expression of tensors, for methods that both have."""
    same_gradients(f, f, *arrays)


# ---- indexing -------------------------------------------------------------------------------------------------------

def test_an_inner_tuple_names_elements_twice():
    both(lambda x: x[(0, 0), :], np.ones((2, 3)))
    both(lambda x: x[:, [0, 0]], np.ones((2, 3)))
    assert snn.ones(3)[[]].shape == (0,)


@pytest.mark.parametrize("key", [0, (1, 2), (..., 1), slice(1, 2), None])
def test_basic_keys_give_views(key):
    x, z = snn.zeros(2, 3), torch.zeros(2, 3)
    y, w = x[key], z[key]
    y += 1
    w += 1
    same(x, z)


def test_one_element_and_an_index_without_dimensions_are_views():
    x = snn.zeros(3)
    y, z = x[0], x[snn.tensor(1)]
    y += 1
    z += 2
    assert x.tolist() == [1, 2, 0]


def test_changing_an_index_later_leaves_the_gradient():
    x, index = snn.zeros(3, requires_grad=True), snn.tensor([0, 1])
    y = x[index].sum()
    index.fill_(2)
    y.backward()
    assert x.grad.tolist() == [1, 1, 0]


def test_flip_copies():
    x = snn.zeros(3)
    y = x.flip(0)
    y += 1
    assert x.tolist() == [0, 0, 0]


# ---- gradients at kinks and limits ----------------------------------------------------------------------------------

def test_binary_cross_entropy_at_0_and_1():
    same_gradients(ops.binary_cross_entropy, F.binary_cross_entropy, [0, 1, 0, 1, 0.3], [0, 1, 1, 0, 0.6])
    with pytest.raises(ValueError, match="probabilities"):
        ops.binary_cross_entropy(snn.tensor([1.5]), snn.tensor([1.0]))
    with pytest.raises(ValueError, match="shape"):
        ops.binary_cross_entropy(snn.tensor([0.5]), snn.tensor([[1.0]]))


@pytest.mark.parametrize("f", [
    lambda x: x ** 0.0,
    lambda x: x.std(),
    lambda x: x.norm(3),
    lambda x: x.norm(1.5),
    lambda x: x.norm(-math.inf),
    lambda x: x.norm(3, dim=()),
    lambda x: x.mean(dim=()),
    lambda x: x.amax(dim=()),
])
@pytest.mark.parametrize("values", [[0, 0, 0], [1, 0, -2]])
def test_reductions_and_powers(f, values):
    both(f, values)


def test_norm_0_counts():
    x = snn.tensor([1.0, 0.0, np.nan], requires_grad=True)
    y = x.norm(0)
    y.backward()
    same(y, torch.tensor([1.0, 0.0, np.nan]).norm(0))
    assert x.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize("f", [
    lambda x: x.clamp(-1, 1),
    lambda x: x.clamp(min=0),
    lambda x: x.relu(),
    lambda x: (ops if isinstance(x, snn.Tensor) else F).hardtanh(x),
    lambda x: x.floor(),
])
def test_an_infinite_gradient_is_stopped(f):
    same_gradients(f, f, [-3, 0.5, 3], upstream=np.inf)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_extremes(name):
    same_gradients(getattr(ops, name), getattr(torch, name), [1, 2, 3, np.nan], [1, 3, 2, 1], upstream=np.inf)


def test_clamp_with_tensors():
    both(lambda x, a: x.clamp(min=a), [1, 0, 2], [1, 1, 1])
    both(lambda x, a: x.clamp(max=a), [1, 0, 2], [1, 1, 1])
    both(lambda x, a, b: x.clamp(a, b), [1, 0, 5, 2], [1, 1, 1, 3], [3, 3, 3, 1])


# ---- dtypes ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("f", [
    lambda x: x ** 2.0,
    lambda x: x ** 1.0,
    lambda x: x ** 3.0,
    lambda x: x ** 2,
    lambda x: x.clamp(min=0.5),
    lambda x: x.clamp(max=2),
    lambda x: x.isfinite(),
    lambda x: x.isnan(),
    lambda x: x.isinf(),
    lambda x: x.cumsum(0),
])
@pytest.mark.parametrize("values", [np.array([True, False]), np.array([3, -1], np.int32), np.array([2 ** 62 + 5, 1]),
                                    np.array([3, 1], np.uint8), np.array(True)])
def test_whole_numbers(f, values):
    same(f(snn.tensor(values)), f(torch.tensor(values)))


@pytest.mark.parametrize("types", [("int64", "float32"), ("bool", "int32"), ("float32", "float64"), ("uint8", "int8")])
def test_joining_mixed_dtypes(types):
    arrays = [np.ones(2, t) for t in types]
    for name in ("cat", "stack"):
        same(getattr(ops, name)([snn.tensor(a) for a in arrays]), getattr(torch, name)([torch.tensor(a) for a in arrays]))


@pytest.mark.parametrize("args", [(0, 1, 0.1), (1.5,), (0, 30, 0.3), (np.int64(4),), (5, 0, -2)])
def test_arange(args):
    same(ops.arange(*args), torch.arange(*args))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64"])
def test_supported_dtypes(dtype):
    x = np.array([1, 0], dtype)
    same(snn.tensor(x) + snn.tensor(x), torch.tensor(x) + torch.tensor(x))
    same(snn.tensor(x).sum(), torch.tensor(x).sum())


@pytest.mark.parametrize("target", [np.uint8, np.int32])
def test_nll_loss_takes_any_class_numbers(target):
    x, t = np.log(np.full((2, 3), 1 / 3, np.float32)), np.array([2, 0], target)
    same(ops.nll_loss(snn.tensor(x), snn.tensor(t)), F.nll_loss(torch.tensor(x), torch.tensor(t).long()))


def test_logits_with_targets_of_another_floating_dtype():
    y = ops.binary_cross_entropy_with_logits(snn.tensor([0.5]), snn.tensor(np.array([1.0])))
    same(y, F.binary_cross_entropy_with_logits(torch.tensor([0.5]), torch.tensor([1.0])))


# ---- what is refused ------------------------------------------------------------------------------------------------

WHOLE = snn.tensor([1, 0])
TRUTH = snn.tensor([True, False])


@pytest.mark.parametrize(("f", "error"), [
    (lambda: WHOLE ** -1, RuntimeError),
    (lambda: WHOLE // 0, RuntimeError),
    (lambda: WHOLE % WHOLE, RuntimeError),
    (lambda: -TRUTH, TypeError),
    (lambda: TRUTH - TRUTH, TypeError),
    (lambda: TRUTH.clamp(min=TRUTH), TypeError),
    *[(lambda name=name: getattr(ops, name)(WHOLE), TypeError) for name in ("leaky_relu", "elu", "silu", "gelu", "softplus")],
    (lambda: ops.binary_cross_entropy_with_logits(snn.ones(2), WHOLE), TypeError),
    (lambda: ops.binary_cross_entropy_with_logits(snn.ones(2), TRUTH), TypeError),
    (lambda: ops.nll_loss(snn.ones(3, 2), WHOLE), ValueError),
    (lambda: snn.ones(3).var(False), TypeError),
    (lambda: snn.ones(3).std(0, False), TypeError),
    (lambda: snn.tensor(np.ones(2, np.float16)), TypeError),
    (lambda: snn.tensor([1.0], dtype=np.float16), TypeError),
    (lambda: snn.tensor(np.ones(2, np.dtype(np.float32).newbyteorder())), TypeError),
])
def test_refused(f, error):
    with pytest.raises(error):
        f()
