"""Penalties of a discriminator's slope against PyTorch's double backward on the same weights: value and second derivatives."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn
from scratchnn.models.gan import gradient_penalty, r1_penalty
from scratchnn.models.gan.model import Discriminator
from scratchnn.models.networks import SLOPE
from scratchnn.nn.utils.parametrizations import spectral_norm

torch = pytest.importorskip("torch")

N = 8
CASES = {
    "linear layers": ((6,), {"hidden": (32, 16)}), "DCGAN": ((1, 28, 28), {"channels": (16, 32)}),
    "DCGAN, odd sizes and colours": ((3, 9, 14), {"channels": (8, 16), "hidden": (12,)}),
    "linear layers, a label": ((6,), {"hidden": (32, 16), "conditions": 3}),
    "DCGAN, a label": ((1, 12, 12), {"channels": (8, 16), "conditions": 3}),
    "linear layers, spectral norm": ((6,), {"hidden": (32, 16)}),
    "DCGAN, spectral norm, a label": ((1, 12, 12), {"channels": (8,), "conditions": 3}),
    "linear layers, deviation": ((6,), {"hidden": (32, 16), "deviation": True}),
    "DCGAN, deviation": ((1, 12, 12), {"channels": (8,), "deviation": True}),
    "linear layers, packs": ((6,), {"hidden": (32, 16), "packing": 2}), "DCGAN, packs": ((1, 12, 12), {"channels": (8, 16), "packing": 4})}


class Deviation(torch.nn.Module):
    def forward(self, x):
        return torch.cat([x, torch.sqrt(x.var(0, unbiased=False) + 1e-8).mean().expand(len(x), 1)], 1)


class Peer(torch.nn.Module):
    """The same discriminator of PyTorch's layers, with the same names of weights."""

    def __init__(self, ours, spectral):
        super().__init__()
        self.packing = ours.packing
        self.features = torch.nn.Sequential(*map(peer_of, ours.features))
        self.output = peer_of(ours.output)
        self.condition = torch.nn.Embedding(*ours.condition.weight.shape) if ours.condition else None
        if spectral:
            for layer in [layer for layer in self.modules() if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Embedding))]:
                torch.nn.utils.parametrizations.spectral_norm(layer)

    def forward(self, x, y):
        features = self.features(x.reshape(len(x) // self.packing, -1, *x.shape[2:]))
        logits = self.output(features)[:, 0]
        return logits if self.condition is None else logits + (self.condition(y) * features).sum(1)


def peer_of(layer):
    if isinstance(layer, nn.Sequential):
        return torch.nn.Sequential(*map(peer_of, layer))
    if isinstance(layer, nn.Linear):
        return torch.nn.Linear(layer.in_features, layer.out_features)
    if isinstance(layer, nn.Conv2d):
        return torch.nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
    kinds = {"LeakyReLU": lambda: torch.nn.LeakyReLU(SLOPE), "Flatten": torch.nn.Flatten, "MinibatchDeviation": Deviation}
    return kinds[type(layer).__name__]()


@pytest.fixture(params=CASES)
def game(request):
    """(our discriminator, PyTorch's, real and drawn examples, labels or None, shares)."""
    snn.manual_seed(0)
    shape, options = CASES[request.param]
    ours, spectral = Discriminator(shape, **options), "spectral" in request.param
    if spectral:
        for layer in [layer for layer in ours.modules() if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Embedding))]:
            spectral_norm(layer)
    theirs = Peer(ours, spectral)
    theirs.load_state_dict({name: torch.tensor(t.detach().numpy()) for name, t in ours.state_dict().items()})
    rng = np.random.default_rng(0)
    real, drawn = rng.standard_normal((2, N, *shape)).astype(np.float32)
    share = rng.random((N, *[1] * len(shape)), np.float32)
    return ours, theirs, real, drawn, rng.integers(0, 3, N) if "conditions" in options else None, share


def torch_slope(network, x, y):
    x = torch.tensor(x, requires_grad=True)
    logits = network(x, y)
    g, = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return g.reshape(len(logits), -1)


@pytest.mark.parametrize("name", ["gradient", "r1"])
def test_penalties_equal_those_of_torch(game, name):
    ours, theirs, real, drawn, y, share = game
    label, their_label = (None, None) if y is None else (snn.tensor(y), torch.tensor(y))
    if name == "gradient":
        mine = gradient_penalty(lambda x: ours(x, label), snn.tensor(real), snn.tensor(drawn), snn.tensor(share))
        other = ((torch_slope(theirs, share * real + (1 - share) * drawn, their_label).norm(dim=1) - 1) ** 2).mean()
    else:
        mine = r1_penalty(lambda x: ours(x, label), snn.tensor(real))
        other = (torch_slope(theirs, real, their_label) ** 2).sum(1).mean()
    mine.backward()
    other.backward()
    assert mine.item() == pytest.approx(other.item(), rel=1e-4)
    reached = 0
    for (key, p), (same, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert key == same
        expected = np.zeros(p.shape) if q.grad is None else q.grad.numpy()         # a bias after the last bend moves no slope
        found = np.zeros(p.shape) if p.grad is None else p.grad.numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * max(np.abs(expected).max(), 1e-3), err_msg=key)
        reached += expected.any()
    assert reached >= len(list(ours.features.parameters())) // 2
