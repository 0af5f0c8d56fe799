"""Every operation of the registry on the GPU, value and gradients, against the CPU: in the simulator, or on a GPU where there is one."""

import cuda_wing
import numpy as np
import pytest
from test_ops import cases

pytest.importorskip("greenlet", reason="the simulator of the CUDA wing runs on the package greenlet (scratchnn[simulator])")
cuda = cuda_wing.wing()

import kernels  # noqa: E402
import scratchnn as snn  # noqa: E402
from scratchnn.op import registry  # noqa: E402

MISSING = {"lstm_sequence", "gru_sequence", "rnn_sequence", "wavenet_stack"}           # they have no CUDA kernels yet
KERNELS = {"conv": "conv", "conv_relu": "conv", "conv_input_gradient": "conv", "conv_weight_gradient": "conv", "max_pool": "max_pool",
           "max_pool_values": "max_pool", "max_pool_backward": "max_pool", "avg_pool": "avg_pool", "avg_pool_backward": "avg_pool"}


@pytest.fixture(autouse=True)
def _only_here(monkeypatch):
    cuda_wing.use(monkeypatch)
    before = dict(vars(kernels))
    yield
    vars(kernels).update(before)


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


THERE = {name: operation for name, operation in registry.items()
         if operation.rules and name not in MISSING | {"to_device"} and hasattr(cuda, KERNELS.get(name, "add"))}


@pytest.mark.parametrize("operation", [pytest.param(operation, id=name) for name, operation in THERE.items()])
def test_operation(operation):
    for case in cases(operation)[:2]:
        args = given(operation, case)
        for there, here in zip(on("cuda", operation, args), on("cpu", operation, args), strict=True):
            assert there.dtype == here.dtype
            np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-5)
