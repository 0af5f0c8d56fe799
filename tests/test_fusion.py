"""What nn.Sequential computes as one: the same bits as the modules one by one, and only where nobody can tell."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn
from scratchnn.op import watchers


def numbers(shape, dtype):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def one_by_one(net, x):
    for module in net:
        x = module(x)
    return x


def operations(call):
    """Names of the operations that a call runs."""
    names = []

    def watch(operation, args, run):
        names.append(operation.name)
        return run()

    watchers.append(watch)
    try:
        call()
    finally:
        watchers.remove(watch)
    return names


def classifier():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, padding_mode="reflect", padding=1), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 5), nn.ReLU(), nn.Linear(5, 2), nn.ReLU())


def curved():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 40), nn.Tanh(), nn.Linear(40, 5), nn.Sigmoid(), nn.Linear(5, 3))


def normalised():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(8, 6, 3),
                         nn.BatchNorm2d(6), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(150, 5), nn.BatchNorm1d(5, affine=False), nn.ReLU())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [classifier, curved, normalised])
def test_the_same_bits_as_one_by_one(make, training, dtype):
    """Values, gradients of everything, second derivatives and buffers."""
    snn.manual_seed(0)
    net = make().to(getattr(snn, dtype)).train(training)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    found = []
    for forward in (net, lambda x: one_by_one(net, x)):
        net.load_state_dict(state)
        x = snn.tensor(numbers((4, 3, 8, 8), dtype), requires_grad=True)
        inputs = [x, *net.parameters()]
        plain = snn.grad((forward(x) ** 2).sum(), inputs)
        y = forward(x)
        first = snn.grad((y ** 2).sum(), inputs, create_graph=True)
        second = snn.grad((first[0] ** 2).sum(), inputs, allow_unused=True)
        found.append([t.detach().numpy() for t in (y, *plain, *first, *second, *net.state_dict().values()) if t is not None])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, 1e-5 if dtype == "float32" else 1e-12, 1e-5 if dtype == "float32" else 1e-12)
    count = 1 + len(inputs)                                                 # second derivatives may be summed in another order
    assert all(a.tobytes() == b.tobytes() for a, b in zip(found[0][:count], found[1][:count], strict=True))


def test_what_becomes_one():
    x = snn.tensor(numbers((4, 3, 8, 8), "float32"))
    for net, expected in ((curved(), ["linear_tanh", "linear_sigmoid", "linear"]),
                          (classifier(), ["conv_relu", "conv", "max_pool", "relu", "linear_relu", "linear_relu"]),
                          (normalised(), ["conv", "batch_norm_training", "max_pool", "conv", "batch_norm_training", "linear",
                                          "batch_norm_training"]),
                          (nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, return_indices=True)), ["relu", "max_pool"])):
        names = operations(lambda net=net: net(x))
        assert [n for n in names if n in {*expected, "relu", "leaky_relu"}] == expected


@pytest.mark.parametrize("looked_at", [0, 1, 2])
def test_hooks_see_what_they_would(looked_at):
    """A hook behind any of the three gets the module's own output."""
    snn.manual_seed(0)
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), snn.tensor(numbers((2, 3, 6, 6), "float32"))
    expected, seen = list(net)[:looked_at + 1], []
    handle = net[looked_at].register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    net(x)
    handle.remove()
    before = one_by_one(expected[:-1], x)
    assert np.array_equal(seen[0][0].array, before.array) and np.array_equal(seen[0][1].array, expected[-1](before).array)


def test_a_subclass_is_left_alone():
    class Doubled(nn.ReLU):
        def forward(self, input):
            return 2 * super().forward(input)

    x = snn.tensor(numbers((5, 3), "float32"))
    net = nn.Sequential(nn.Linear(3, 4), Doubled())
    assert np.array_equal(net(x).array, 2 * net[0](x).relu().array)
    snn.manual_seed(0)
    bounded = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4)), nn.ReLU()).eval()
    assert np.array_equal(bounded(x).array, bounded[0](x).relu().array)


def test_layers_name_what_they_can_take_along():
    with pytest.raises(ValueError, match="activation must be one of None, 'relu', 'sigmoid', 'tanh', not 'gelu'"):
        nn.Linear(2, 3)(snn.ones(1, 2), activation="gelu")
    with pytest.raises(ValueError, match="activation must be None or 'relu', not 'tanh'"):
        nn.Conv1d(2, 3, 1)(snn.ones(1, 2, 4), activation="tanh")
