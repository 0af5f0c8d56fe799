"""Explanations: that they are what their formulas say, and that they point where they should."""

import numpy as np
import pytest

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import explain, nn, optim
from scratchnn.models.classifier import MLP, ConvNet, predict

SIDE, PATCH = 32, 8


def planted(count, seed):
    """Noise with one of four textures in a square of PATCH pixels anywhere: (pictures, which, its first row and column)."""
    rng = np.random.default_rng(seed)
    i, j = np.indices((PATCH, PATCH))
    textures = np.stack([i % 4 < 2, j % 4 < 2, (i + j) % 4 < 2, (i // 2 + j // 2) % 2]).astype(np.float32)
    x, y = 0.8 * rng.random((count, 1, SIDE, SIDE), np.float32), rng.integers(0, 4, count)
    places = rng.integers(0, SIDE - PATCH + 1, (count, 2))
    for picture, label, (r, c) in zip(x, y, places, strict=True):
        picture[0, r:r + PATCH, c:c + PATCH] = textures[label]
    return x, y, places


def hits(heat, places):
    """The share of the maps (N, H, W) whose maximum lies in the square at `places`."""
    peaks = np.stack(np.unravel_index(heat.reshape(len(heat), -1).argmax(1), heat.shape[1:]), 1)
    return ((peaks >= places) & (peaks < places + PATCH)).all(1).mean()


@pytest.fixture(scope="module", params=[0, 1])
def taught(request):
    """A ConvNet that tells the planted textures apart, and pictures that it has not seen."""
    snn.manual_seed(request.param)
    x, y, _ = planted(2000, 10 + request.param)
    model = ConvNet((1, SIDE, SIDE), 4, (16, 32, 64), dropout=0)
    adam = optim.Adam(model.parameters(), 3e-3)
    for step in range(150):
        rows = np.arange(64 * step, 64 * (step + 1)) % len(x)
        loss = F.cross_entropy(model(snn.from_numpy(x[rows])), snn.from_numpy(y[rows]))
        adam.zero_grad()
        loss.backward()
        adam.step()
    return model, *planted(300, 20 + request.param)


def test_explanations_find_the_planted_patch(taught):
    model, x, y, places = taught
    assert (predict(model, x).argmax(1) == y).mean() > 0.97
    shares = {"grad_cam": hits(explain.grad_cam(model, model.blocks(), x, y), places),
              "one layer": hits(explain.grad_cam(model, model.blocks()[1], x, y), places),
              "occlusion": hits(explain.occlusion(model, x[:40], y[:40], PATCH, 2), places[:40])}
    assert shares["grad_cam"] >= 0.9 and shares["one layer"] >= 0.9 and shares["occlusion"] >= 0.7, shares


def test_grad_cam_is_its_formula():
    snn.manual_seed(0)
    model, x, target = ConvNet((3, 8, 8), 5, (4, 6)), np.random.default_rng(0).random((3, 3, 8, 8), np.float32), np.array([1, 4, 0])
    model.eval()
    activations = model.features(snn.from_numpy(x)).detach().requires_grad_()
    logits = model.classifier(activations)
    sum(logits[n, target[n]] for n in range(3)).backward()
    model.zero_grad()
    weights = activations.grad.numpy().mean((2, 3), keepdims=True)
    expected = np.maximum((weights * activations.detach().numpy()).sum(1), 0)
    found = explain.grad_cam(model, model.features, x, target, batch_size=2)
    assert found.shape == (3, 8, 8) and all(p.grad is None for p in model.parameters())
    larger = F.interpolate(snn.from_numpy(expected[:, None]), (8, 8), mode="bilinear", align_corners=False).numpy()[:, 0]
    np.testing.assert_allclose(found, larger, rtol=1e-4, atol=1e-6)
    assert expected.max() > 0
    both = [explain.grad_cam(model, layer, x, target) for layer in model.blocks()]
    mean = np.mean([m / m.max((1, 2), keepdims=True).clip(1e-30) for m in both], 0)
    np.testing.assert_allclose(explain.grad_cam(model, model.blocks(), x, target), mean, rtol=1e-4, atol=1e-6)


def test_saliency_is_the_derivative_and_leaves_the_model_as_it_was():
    snn.manual_seed(0)
    model, target = MLP((2, 3, 4), 3, (16,), activation=nn.Tanh), np.arange(4) % 3
    x = np.random.default_rng(0).random((4, 2, 3, 4), np.float32)
    model.train()
    with snn.no_grad():
        found = explain.saliency(model, x, target, batch_size=3)
    assert model.training and found.shape == (4, 3, 4) and all(p.grad is None for p in model.parameters())
    model.eval()
    step, slopes = 1e-2, np.empty((4, 2, 3, 4))
    for c, i, j in np.ndindex(2, 3, 4):
        up, down = x.copy(), x.copy()
        up[:, c, i, j] += step
        down[:, c, i, j] -= step
        slope = (model(snn.from_numpy(up)) - model(snn.from_numpy(down))).detach().numpy()[np.arange(4), target] / (2 * step)
        slopes[:, c, i, j] = slope
    np.testing.assert_allclose(found, np.abs(slopes).max(1), atol=2e-3)


def test_occlusion_covers_every_pixel():
    class Corner(nn.Module):
        """Sure of class 1 as far as the last pixel is bright."""

        def forward(self, x):
            return snn.stack([x[:, 0, 0, 0] * 0, 20 * (x[:, 0, -1, -1] - 0.5)], 1)

    x = np.zeros((2, 1, 7, 9), np.float32)
    x[:, :, -1, -1] = 1
    heat = explain.occlusion(Corner(), x, np.array([1, 0]), 3, 2)
    assert (heat[0, 4:, 6:] > 0.2).all() and (heat[1, 4:, 6:] < -0.2).all()
    heat[:, 4:, 6:] = 0
    assert not heat.any()
    with pytest.raises(ValueError, match="squares of 8 pixels do not fit into pictures of 7 x 9"):
        explain.occlusion(Corner(), x, np.array([1, 0]), 8)
    with pytest.raises(ValueError, match="the stride is 1 to 3"):
        explain.occlusion(Corner(), x, np.array([1, 0]), 3, 4)


def test_a_layer_that_has_no_map():
    model = MLP((1, 4, 4), 3, (8,))
    with pytest.raises(ValueError, match=r"activations \(N, C, h, w\), got \[\[\(2, 8\)\]\]"):
        explain.grad_cam(model, model.linears()[0], np.zeros((2, 1, 4, 4), np.float32), np.array([0, 1]))
    assert not model.linears()[0]._forward_hooks
