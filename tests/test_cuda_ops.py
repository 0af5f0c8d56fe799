"""Every operation of the registry on the GPU, value and gradients, against the CPU: in the simulator, or on a GPU where there is one."""

import cuda_wing
import numpy as np
import pytest
from test_ops import cases

cuda_wing.wing()
from cuda_wing import only_here  # noqa: E402, F401

import scratchnn as snn  # noqa: E402
from scratchnn.debug import NonFiniteError, find_nonfinite  # noqa: E402
from scratchnn.nn import functional as F  # noqa: E402
from scratchnn.op import registry  # noqa: E402

MISSING = {"lstm_sequence", "gru_sequence", "rnn_sequence", "wavenet_stack"}           # they have no CUDA kernels yet


def given(operation, case):
    """Float32 tensors for the shapes of a case, its arrays as tensors, except those of keys and tables, which lie on the host."""
    rng = np.random.default_rng(0)

    def value(i, spec):
        if operation.name_of(i) in operation.rules and spec is not None:
            return snn.tensor(rng.uniform(*operation.domain, spec).astype(np.float32), requires_grad=True)
        if isinstance(spec, np.ndarray) and operation.name not in ("getitem", "scatter_key"):
            return snn.tensor(spec.astype(np.float32) if spec.dtype.kind == "f" else spec)
        return spec
    return [value(i, spec) for i, spec in enumerate(case)]


def on(device, operation, args):
    """Results and gradients of an operation on a device, as arrays."""
    args = [a.detach().to(device).requires_grad_(a.requires_grad) if isinstance(a, snn.Tensor) else a for a in args]
    results = operation(*args)
    results = results if isinstance(results, tuple) else (results,)
    inputs, found = [a for a in args if isinstance(a, snn.Tensor) and a.requires_grad], [r.detach().cpu().numpy() for r in results]
    assert all(r.device == device for r in results)
    if not results[0].requires_grad:
        return found
    g = snn.tensor(np.cos(np.arange(results[0].numel(), dtype=np.float32)).reshape(results[0].shape)).to(device)
    gradients = snn.grad(results[0], inputs, g)
    assert all(g.device == device for g in gradients)
    return found + [g.cpu().numpy() for g in gradients]


THERE = {name: operation for name, operation in registry.items() if operation.rules and name not in MISSING | {"to_device"}}


@pytest.mark.parametrize("operation", [pytest.param(operation, id=name) for name, operation in THERE.items()])
def test_operation(operation):
    for case in cases(operation)[:2]:
        args = given(operation, case)
        for there, here in zip(on("cuda", operation, args), on("cpu", operation, args), strict=True):
            assert there.dtype == here.dtype
            np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5)


COMPOSED = {
    "any, all": lambda x, i: (x.any(), (x > 0).all(1), (x > 2).any(0), x.isfinite().all()),
    "extremes": lambda x, i: (*x.max(1), *x.min(0, True), x.amax(), x.argmin(0)),
    "statistics": lambda x, i: (x.std(0), x.var((0, 1)), x.norm(3), x.norm(1, 0), F.cosine_similarity(x, x.flip(0))),
    "keys": lambda x, i: (x[i], x[:, i[:2]], x[x > 0], x[1, i[0]], x[i, i[:, None]], x.index_select(1, i[1:])),
    "classes": lambda x, i: (F.one_hot(i, 4), F.nll_loss(x.log_softmax(1), i, x[0].exp()), F.embedding(i, x, padding_idx=1)),
    "cross entropy": lambda x, i: (F.cross_entropy(x, i, x[0].detach().exp(), 1), F.cross_entropy(x, i, label_smoothing=0.1),
                                   F.cross_entropy(x, x.softmax(1))),
    "probabilities": lambda x, i: (F.binary_cross_entropy(x.sigmoid(), x.cos().square()), F.kl_div(x.log_softmax(1), x.softmax(1)),
                                   F.gaussian_nll_loss(x, x * 2, x.exp())),
    "draws": lambda x, i: (snn.multinomial(x.exp(), 2), snn.multinomial(x.exp(), 3, True), snn.bernoulli(x.sigmoid()),
                           F.dropout(x, 0.5), snn.rand_like(x), snn.randn(3, 2, device=x.device)),
    "shapes": lambda x, i: (F.pad(x[None], (1, 2), "reflect"), F.pad(x, (1, -1), value=2.0), x.repeat(2, 1), snn.stack([x, x], 1),
                            F.interpolate(x[None], 7, mode="linear")),
    "limits": lambda x, i: (x.clamp(x.mean()), x.masked_fill(x > 0, 2), snn.where(x > 0, x, 0.0), x.maximum(0.5), x.floor() % 2, x // 2),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_composed(name):
    """What is made of several operations, draws among it."""
    found = []
    for device in ("cpu", "cuda"):
        snn.manual_seed(0)
        x, i = snn.randn(3, 4).to(device).requires_grad_(), snn.tensor([2, 0, 1]).to(device)
        results = COMPOSED[name](x, i)
        assert all(r.device == device for r in results)
        total = sum((r.sum() for r in results if r.requires_grad), snn.zeros((), device=device))
        gradients = snn.grad(total, [x]) if total.requires_grad else ()
        found.append([r.detach().cpu().numpy() for r in (*results, *gradients)])
    for here, there in zip(*found, strict=True):
        assert there.dtype == here.dtype
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5)


def test_changes_in_place_and_the_finder_of_numbers_that_are_not_finite():
    x = snn.zeros(2, 3, device="cuda")
    x[0] = 1
    x[:, np.array([1, 2])] += 2
    x[x > 2] = -1
    x.add_(1).clamp_(max=2).fill_(float(x.max()))
    assert x.tolist() == [[2] * 3] * 2 and 2 in x and int(x[0, 0]) == 2
    with find_nonfinite(), pytest.raises(NonFiniteError, match=r"log.* made 6 infinite of 6 values"):
        (x - 2).log()
