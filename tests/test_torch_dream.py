"""A step of Deep Dream against the same in PyTorch's words, on the same weights: gradient, normalisation, ascent."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn
from scratchnn.models.dream import Dreaming, Objective, activations, gradient, step
from scratchnn.random import Generator

torch = pytest.importorskip("torch")

LAYERS = lambda m: (m.Conv2d(3, 8, 3, padding=1), m.ReLU(), m.MaxPool2d(2), m.Conv2d(8, 16, 3, padding=1), m.ReLU())  # noqa: E731
OBJECTIVES = {"layer": Objective("3"), "after ReLU": Objective("4"), "channel": Objective("3", 7), "unit": Objective("3", 2, (1, -3))}


def pair():
    snn.manual_seed(1)
    model, peer = nn.Sequential(*LAYERS(nn)).eval(), torch.nn.Sequential(*LAYERS(torch.nn)).eval()
    peer.load_state_dict({name: torch.from_numpy(p.numpy().copy()) for name, p in model.state_dict().items()})
    return model, peer


def value(peer, x, objective):
    a = x
    for name, layer in peer.named_children():
        a = layer(a)
        if name == objective.layer:
            break
    if objective.guide is not None:
        guide = torch.from_numpy(objective.guide)
        places = a.flatten(2)[0]                                                       # (C, places)
        return (guide[:, (guide.T @ places).argmax(0)].detach() * places).sum() / a.numel()
    if objective.channel is None:
        return a.pow(2).mean() / 2
    a = a[:, objective.channel]
    return a.mean() if objective.unit is None else a[0, a.shape[1] // 2 + objective.unit[0], a.shape[2] // 2 + objective.unit[1]]


@pytest.mark.parametrize("name", [*OBJECTIVES, "guide"])
def test_a_step_is_torchs(name):
    model, peer = pair()
    x = np.random.default_rng(0).random((1, 3, 33, 40), np.float32)
    objective = OBJECTIVES.get(name) or Objective("4", guide=activations(model, x[..., :24, :30].copy(), "4"))
    pixels = torch.from_numpy(x.copy()).requires_grad_()
    expected, = torch.autograd.grad(value(peer, pixels, objective), pixels)
    found, _ = gradient(model, x, [objective])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    moved = torch.clamp(pixels + 0.01 * expected / expected.abs().mean(), 0, 1).detach().numpy()
    mine, _ = step(model, x, [objective], Dreaming(jitter=0, rate=0.01, normalise="mean"), Generator(0))
    np.testing.assert_allclose(mine, moved, rtol=1e-4, atol=1e-5)
