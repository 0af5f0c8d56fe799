"""Deep Dream: objectives and their gradients, tiles, normalisation, whole dreams and what is said when something does not exist."""

import math

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn
from scratchnn.models.classifier import MLP
from scratchnn.models.dream import (
    NORMALISATIONS,
    Dream,
    Dreaming,
    Objective,
    activations,
    answers,
    channels,
    dream,
    gradient,
    layers,
    normalised,
    roughness,
    score,
    step,
)
from scratchnn.random import Generator
from scratchnn.tensor import Tensor

OBJECTIVES = {
    "layer": [Objective("2")],
    "channel": [Objective("2", 3)],
    "unit": [Objective("2", 1, (0, -1))],
    "class": [Objective("", 2)],
    "guide": [Objective("0", guide=np.random.default_rng(1).standard_normal((4, 9)))],
    "several": [Objective("0", weight=0.5), Objective("2", 1, weight=-2.0), Objective("5", 4)],
}


def net(colours=3, double=False):
    """Two convolutions, the second with stride 2, and five classes; smooth, so that differences tell the gradient."""
    snn.manual_seed(0)
    found = nn.Sequential(nn.Conv2d(colours, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 5, 3, 2, 1), nn.Softplus(), nn.AdaptiveAvgPool2d(1),
                          nn.Flatten(), nn.Linear(5, 5)).eval()
    return found.to(snn.float64) if double else found


def picture(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).random((1, *shape)).astype(dtype)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_differences(name):
    model, x, objectives = net(double=True), picture(3, 9, 12, dtype=np.float64), OBJECTIVES[name]
    g, value = gradient(model, x, objectives)
    assert value == pytest.approx(score(model, x, objectives), rel=1e-12)
    direction = np.random.default_rng(2).standard_normal(x.shape)
    ahead, behind = (score(model, x + sign * 1e-5 * direction, objectives) for sign in (1, -1))
    assert (g * direction).sum() == pytest.approx((ahead - behind) / 2e-5, rel=1e-7)


def test_objectives_are_what_they_say():
    model, x = net(), picture(3, 8, 8)
    a = answers(model, Tensor(x), ["2"])["2"].detach().numpy()
    assert a.shape == (1, 5, 4, 4)
    assert score(model, x, [Objective("2")]) == pytest.approx(0.5 * (a ** 2).mean(), rel=1e-6)
    assert score(model, x, [Objective("2", 3, weight=2.0)]) == pytest.approx(2 * a[:, 3].mean(), rel=1e-5)
    assert score(model, x, [Objective("2", 3, (1, -2))]) == pytest.approx(a[0, 3, 3, 0], rel=1e-6)
    assert score(model, x, [Objective("", 2)]) == pytest.approx(model(Tensor(x))[0, 2].item(), rel=1e-6)
    guide = activations(model, picture(3, 6, 6, seed=1), "2")
    likest = (guide.T @ a.reshape(5, -1)).max(0)                                      # the guide's best place for each place
    assert score(model, x, [Objective("2", guide=guide)]) == pytest.approx(likest.sum() / a.size, rel=1e-5)


def test_the_rest_of_the_network_is_not_run_and_its_weights_are_left_alone():
    model, x = net(), picture(3, 8, 8)
    model[6].forward = None                                                           # would fail
    before = {name: p.numpy().copy() for name, p in model.state_dict().items()}
    model.train()
    gradient(model, x, [Objective("2"), Objective("0")])
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not model[2]._forward_hooks
    assert all(np.array_equal(before[name], p.numpy()) for name, p in model.state_dict().items())


def test_tiles_and_the_whole_agree():
    model, x = net(), picture(3, 200, 300)
    for objectives in (OBJECTIVES["layer"], OBJECTIVES["channel"], OBJECTIVES["several"][:2]):
        whole, tiled = gradient(model, x, objectives, 320)[0], gradient(model, x, objectives, 128)[0]
        np.testing.assert_allclose(tiled, whole, rtol=1e-4, atol=1e-6 * np.abs(whole).max())


@pytest.mark.parametrize("how", NORMALISATIONS)
def test_normalised_gradients_have_mean_size_one(how):
    g = np.random.default_rng(0).standard_normal((1, 3, 40, 31)).astype(np.float32)
    found = normalised(g, how)
    assert found.shape == g.shape and found.dtype == g.dtype and np.abs(found).mean() == pytest.approx(1, rel=1e-5)
    assert np.array_equal(normalised(np.zeros_like(g), how), np.zeros_like(g))


def test_normalisation_by_frequency_favours_long_waves_and_bands_make_them_alike():
    i = np.arange(64, dtype=np.float32)
    fine, coarse = np.cos(math.pi * i), 0.01 * np.cos(2 * math.pi * i / 32)
    g = np.broadcast_to(fine + coarse, (1, 1, 64, 64)).copy()

    def share(found):
        spectrum = np.abs(np.fft.rfft(found[0, 0].mean(0)))
        return spectrum[2] / spectrum[32]
    assert share(normalised(g, "mean")) == pytest.approx(0.005, rel=1e-3)              # half as large, at both ends of the spectrum
    assert share(normalised(g, "frequency")) == pytest.approx(0.005 * 16, rel=1e-3)
    assert share(normalised(g, "laplacian")) > 0.2


def test_roughness_is_the_gradient_of_total_variation():
    x = Tensor(picture(3, 6, 7)).requires_grad_()
    ((x[:, :, 1:] - x[:, :, :-1]).abs().sum() + (x[:, :, :, 1:] - x[:, :, :, :-1]).abs().sum()).backward()
    np.testing.assert_allclose(roughness(x.detach().numpy()), x.grad.numpy())


def test_a_step_grows_the_objective_and_stays_in_range():
    model, x = net(), picture(3, 40, 150)
    for how in (Dreaming(), Dreaming(flip=True, rotate=5, tv=0.1, normalise="laplacian"), Dreaming(tile=128)):
        now = x
        for _ in range(4):
            now, _ = step(model, now, [Objective("2")], how, Generator(0))
        assert now.shape == x.shape and now.dtype == x.dtype and now.min() >= 0 and now.max() <= 1
        assert score(model, now, [Objective("2")]) > score(model, x, [Objective("2")])


def test_the_same_seed_dreams_the_same_and_a_dream_goes_on_where_it_was():
    model, x, how = net(), picture(3, 70, 50), Dreaming(octaves=3, steps=2)
    whole = dream(model, x, [Objective("2")], how, Generator(3))
    assert whole.shape == x.shape and np.array_equal(whole, dream(model, x, [Objective("2")], how, Generator(3)))
    assert not np.array_equal(whole, dream(model, x, [Objective("2")], how, Generator(4)))
    generator = Generator(3)
    first = Dream(model, x, [Objective("2")], how, generator)
    assert first.steps == 2 * 2                                                        # a third size would be below 32 pixels
    for _ in range(3):
        first.step()
    other = Dream(model, x, [Objective("2")], how, generator)
    other.load_state_dict(first.state_dict())
    other.step()
    assert np.array_equal(other.picture, whole) and np.array_equal(other.film[0], whole)


def test_colours_stay_where_they_should():
    x = picture(3, 40, 40) * 0.6 + 0.2
    for model, how in ((net(), Dreaming(octaves=1, keep_colours=True)), (net(1), Dreaming(octaves=1))):
        change = dream(model, x, [Objective("2")], how, Generator(0)) - x
        np.testing.assert_allclose(change, np.broadcast_to(change[:, :1], change.shape), atol=1e-6)
        assert np.abs(change).max() > 0.02


def test_a_flight_begins_each_frame_in_the_middle_of_the_one_before():
    model, x = net(), picture(3, 40, 48)
    flight = Dream(model, x, [Objective("2")], Dreaming(octaves=1, steps=1, rate=1e-6), Generator(0), frames=3, factor=2)
    for _ in range(flight.steps):
        flight.step()
    assert len(flight.film) == 3 and flight.done == 3
    np.testing.assert_allclose(flight.film[1][0, :, 19:21, 23:25].mean((1, 2)), x[0, :, 19:21, 23:25].mean((1, 2)), atol=1e-4)


def test_layers_are_listed_with_their_shapes():
    assert layers(net(), (3, 8, 8)) == {"0": (1, 4, 8, 8), "1": (1, 4, 8, 8), "2": (1, 5, 4, 4), "3": (1, 5, 4, 4), "4": (1, 5, 1, 1),
                                        "5": (1, 5), "6": (1, 5)}
    assert channels(net(1)) == 1 and channels(MLP((1, 8, 8), 3, [4])) == 1
    with pytest.raises(ValueError, match="has no convolution"):
        channels(nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.parametrize(("objective", "message"), [
    (Objective("features"), r"no layer 'features'; there are 0, 1, 2, 3, 4, 5, 6$"),
    (Objective("2", 5), r"layer '2' has channels 0 to 4, not 5"),
    (Objective("2", 0, (2, 0)), r"has 4 x 4 units here, counted from the middle; \(2, 0\) is none of them"),
    (Objective("2", unit=(0, 0)), "a unit is one of a channel"),
    (Objective("5", 1, (0, 0)), r"activations of shape \(1, 5\)"),
    (Objective("2", guide=np.zeros((3, 2), np.float32)), "has 5 channels, the guide 3"),
    (Objective("2", 1, guide=np.zeros((5, 2), np.float32)), "a guide is for all channels; leave out channel 1"),
])
def test_what_does_not_exist_is_said_with_what_does(objective, message):
    with pytest.raises(ValueError, match=message):
        score(net(), picture(3, 8, 8), [objective])


@pytest.mark.parametrize("options", [{"normalise": "no"}, {"steps": 0}, {"scale": 1}, {"tv": -1}, {"tile": 100}, {"tile": 96}, {"rate": 0}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="Dreaming: "):
        Dreaming(**options)
