"""What both networks of a GAN play for: losses against their formulas, penalties of the slope against small steps."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn
from scratchnn.models.gan import LOSSES, gradient_penalty, r1_penalty
from scratchnn.models.gan.losses import feature_matching
from scratchnn.models.gan.model import Discriminator
from scratchnn.nn.utils.parametrizations import spectral_norm
from scratchnn.testing import check_gradients


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# ---- losses -----------------------------------------------------------------------------------------------------------

def cross_entropy(real, drawn):
    return -np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(drawn)).mean()


FORMULAS = {
    "minimax": (cross_entropy, lambda drawn: np.log(1 - sigmoid(drawn)).mean()),
    "non-saturating": (cross_entropy, lambda drawn: -np.log(sigmoid(drawn)).mean()),
    "least-squares": (lambda real, drawn: (((real - 1) ** 2).mean() + (drawn ** 2).mean()) / 2,
                      lambda drawn: ((drawn - 1) ** 2).mean() / 2),
    "hinge": (lambda real, drawn: np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + drawn).mean(), lambda drawn: -drawn.mean()),
    "wasserstein": (lambda real, drawn: drawn.mean() - real.mean(), lambda drawn: -drawn.mean())}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_against_their_formulas(name):
    real, drawn = 2 * numbers(7), 2 * numbers(7, seed=1)
    tensors = [snn.tensor(x).requires_grad_() for x in (real, drawn)]
    assert LOSSES[name].discriminator(*tensors).item() == pytest.approx(FORMULAS[name][0](real, drawn))
    assert LOSSES[name].generator(tensors[1]).item() == pytest.approx(FORMULAS[name][1](drawn))
    check_gradients(LOSSES[name].discriminator, *tensors, order=1)
    check_gradients(LOSSES[name].generator, tensors[1], order=1)


@pytest.mark.parametrize("name", ["minimax", "non-saturating"])
def test_logistic_losses_of_a_sure_discriminator_are_finite(name):
    far = snn.tensor([1000.0, -1000.0]).requires_grad_()
    for loss in (LOSSES[name].discriminator(far, far), LOSSES[name].generator(far)):
        assert np.isfinite([loss.item(), *snn.grad(loss, [far])[0].array]).all()


def test_feature_matching():
    real, drawn = numbers(6, 4), numbers(5, 4, seed=1)
    tensors = [snn.tensor(x).requires_grad_() for x in (real, drawn)]
    loss = feature_matching(*tensors)
    assert loss.item() == pytest.approx(((real.mean(0) - drawn.mean(0)) ** 2).sum())
    loss.backward()
    assert tensors[0].grad is None                                                # the generator is to come to the real ones
    np.testing.assert_allclose(tensors[1].grad.array, np.tile(2 / 5 * (drawn.mean(0) - real.mean(0)), (5, 1)))


# ---- penalties --------------------------------------------------------------------------------------------------------

def test_penalties_of_a_plane():
    """Its slope is the same everywhere: w. So R1 is w^2, with the gradient 2 w, and the other (|w| - 1)^2, with 2 (|w| - 1) w / |w|."""
    w, x = numbers(4), snn.tensor(numbers(6, 4, seed=1))
    length = np.sqrt((w ** 2).sum())
    for penalty, value, slope in ((lambda f: r1_penalty(f, x), length ** 2, 2 * w),
                                  (lambda f: gradient_penalty(f, x, -x), (length - 1) ** 2, 2 * (1 - 1 / length) * w)):
        weight = snn.tensor(w).requires_grad_()
        found = penalty(lambda points, weight=weight: points @ weight)
        found.backward()
        assert found.item() == pytest.approx(value)
        np.testing.assert_allclose(weight.grad.array, slope, rtol=1e-9)


def test_points_lie_between_real_and_drawn_ones():
    real, drawn, seen = snn.zeros(2000, 2), snn.tensor([1.0, 3.0]).expand(2000, 2), []

    def critic(x):
        seen.append(x.array.copy())
        return (x ** 2).sum(1)

    snn.manual_seed(0)
    gradient_penalty(critic, real, drawn)
    np.testing.assert_allclose(seen[0][:, 1], 3 * seen[0][:, 0], rtol=1e-6)        # on a line, and anywhere on it
    assert np.histogram(seen[0][:, 0], 10, (0, 1))[0].min() > 150
    gradient_penalty(critic, real, drawn, snn.full((2000, 1), 0.25))
    np.testing.assert_allclose(seen[1], np.tile([0.75, 2.25], (2000, 1)))


def test_a_flat_critic_has_a_penalty_with_a_gradient():
    weight = snn.zeros(3, dtype=np.float64).requires_grad_()
    x = snn.tensor(numbers(4, 3))
    gradient_penalty(lambda points: points @ weight, x, x).backward()
    assert np.isfinite(weight.grad.array).all()


CASES = {"linear layers": ((5,), {"hidden": (8, 6)}), "a label": ((5,), {"hidden": (8,), "conditions": 3}),
         "spectral norm": ((5,), {"hidden": (8,)}), "deviation": ((5,), {"hidden": (8,), "deviation": True}),
         "packs": ((5,), {"hidden": (8,), "packing": 2}), "convolutions": ((2, 7, 6), {"hidden": (5,), "channels": (3, 4)}),
         "convolutions, all of it": ((2, 6, 7), {"channels": (3, 4), "conditions": 3, "deviation": True})}


@pytest.fixture(params=CASES)
def game(request):
    """(a discriminator, real and drawn examples, labels or None) in float64."""
    snn.manual_seed(0)
    shape, options = CASES[request.param]
    network = Discriminator(shape, **options).to(dtype=np.float64)
    if request.param in ("spectral norm", "convolutions, all of it"):
        for layer in list(network.modules()):
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Embedding)):
                spectral_norm(layer)
    y = snn.tensor(np.arange(6) % 3) if "conditions" in options else None
    return network.eval(), snn.tensor(numbers(6, *shape)), snn.tensor(numbers(6, *shape, seed=1)), y      # eval: u and v stay as they are


def penalties(network, real, drawn, y):
    share = snn.tensor(np.linspace(0.1, 0.9, 6).reshape(6, *[1] * (real.ndim - 1)))
    return {"gradient": lambda: gradient_penalty(lambda x: network(x, y), real, drawn, share),
            "r1": lambda: r1_penalty(lambda x: network(x, y), real)}, {"gradient": share * real + (1 - share) * drawn, "r1": real}


@pytest.mark.parametrize("name", ["gradient", "r1"])
def test_penalties_against_small_steps(game, name):
    network, real, _, y = game
    values, points = penalties(*game)
    at, step, slopes = points[name].array.copy(), 1e-6, np.zeros(real.shape)
    for place in np.ndindex(at.shape):
        ends = []
        for sign in (1, -1):
            moved = at.copy()
            moved[place] += sign * step
            ends.append(network(snn.tensor(moved), y).sum().item())
        slopes[place] = (ends[0] - ends[1]) / (2 * step)
    square = (slopes.reshape(6 // network.packing, -1) ** 2).sum(1)
    assert values[name]().item() == pytest.approx(((np.sqrt(square) - 1) ** 2 if name == "gradient" else square).mean(), rel=1e-6)


@pytest.mark.parametrize("name", ["gradient", "r1"])
def test_second_derivatives_against_small_steps(game, name):
    network, value = game[0], penalties(*game)[0][name]
    value().backward()
    rng, step, said, shown = np.random.default_rng(2), 1e-6, 0, []
    directions = [rng.standard_normal(p.shape) for p in network.parameters()]
    for p, d in zip(network.parameters(), directions, strict=True):
        said += 0 if p.grad is None else (p.grad.array * d).sum()                  # the last bias moves nothing
    for sign in (1, -2):
        for p, d in zip(network.parameters(), directions, strict=True):
            p.array[:] += sign * step * d
        shown.append(value().item())
    assert (shown[0] - shown[1]) / (2 * step) == pytest.approx(said, rel=1e-5)
