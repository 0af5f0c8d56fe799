"""Every operation, taken from the registry: gradients to second order, and the same on every wing, layout and thread count."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn.op import registry
from scratchnn.testing import check_gradients

PAIRS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), (3, 4)), ((2, 3, 4), (3, 1)), ((1,), (5,)), ((0, 3), (1, 3))]


def cases(operation):
    """Argument tuples of an operation: its own, or, for operands alone, shapes that broadcast."""
    if operation.cases is not None:
        return operation.cases
    ruled = sum(name in operation.rules for name in operation.names)
    return (
        [pair[:2] for pair in PAIRS] if ruled == 2 and operation.promote else [((3, 4),) * ruled, ((),) * ruled, ((0, 2),) * ruled]
    )


def fill(operation, case, rng):
    """The case with a float64 tensor for each shape that belongs to a differentiable parameter."""

    def value(i, spec):
        if operation.name_of(i) in operation.rules and spec is not None:
            return snn.tensor(rng.uniform(*operation.domain, spec), requires_grad=True)
        return snn.tensor(spec) if isinstance(spec, np.ndarray) and operation.name != "getitem" else spec

    return [value(i, spec) for i, spec in enumerate(case)]


EVERY_CASE = [
    pytest.param(operation, case, id=f"{name}-{i}")
    for name, operation in registry.items()
    if operation.rules
    for i, case in enumerate(cases(operation))
]


@pytest.mark.parametrize("operation, case", EVERY_CASE)
def test_gradients(operation, case):
    args = fill(operation, case, np.random.default_rng(0))
    places = [i for i, a in enumerate(args) if isinstance(a, snn.Tensor) and a.requires_grad]

    def f(*inputs):
        result = operation(*[inputs[places.index(i)] if i in places else a for i, a in enumerate(args)])
        return result[0] if isinstance(result, tuple) else result

    f.__name__ = operation.name
    check_gradients(f, *[args[i] for i in places])


@pytest.mark.parametrize("operation, case", EVERY_CASE)
def test_other_layouts_give_the_same(operation, case):
    rng = np.random.default_rng(1)
    args = fill(operation, case, rng)
    expected = run(operation, args)
    for rearrange in (
        lambda a: np.asfortranarray(a),
        lambda a: a[..., ::-1].copy()[..., ::-1],
        lambda a: np.repeat(a, 2, -1)[..., ::2],
    ):
        moved = [
            snn.Tensor(rearrange(a.array) if a.ndim else a.array, a.requires_grad)
            if isinstance(a, snn.Tensor) and a.requires_grad
            else a
            for a in args
        ]
        for x, y in zip(run(operation, moved), expected, strict=True):
            np.testing.assert_allclose(x, y, 1e-13, 1e-13)      # the layout may decide the order of a sum


def run(operation, args):
    """Results and gradients as arrays."""
    result = operation(*args)
    first = result[0] if isinstance(result, tuple) else result
    inputs = [a for a in args if isinstance(a, snn.Tensor) and a.requires_grad]
    g = snn.tensor(np.cos(np.arange(first.numel(), dtype=float)).reshape(first.shape))
    return [first.array, *(g.array for g in snn.grad(first, inputs, g))]


def test_every_operation_is_documented_and_named_after_its_function():
    for name, operation in registry.items():
        assert operation.__doc__, name
        assert operation.forward.__name__ == name
