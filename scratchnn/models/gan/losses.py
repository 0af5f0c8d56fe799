"""What the discriminator and the generator play for: functions of the logits that the discriminator gives to real and drawn examples.

A logit is the discriminator's log odds that an example is real; of a critic (Wasserstein), just a height. Both losses are made small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn.tensor import Tensor


class Loss(NamedTuple):
    """discriminator: of the logits (N,) of real and of drawn examples; generator: of those of drawn ones. Means, scalars."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def logistic(real: Tensor, drawn: Tensor) -> Tensor:
    """-log D(real) - log(1 - D(drawn)), D = sigmoid(logit): cross entropy of "real or drawn"."""
    return F.softplus(-real).mean() + F.softplus(drawn).mean()


def hinge(real: Tensor, drawn: Tensor) -> Tensor:
    """Logits beyond 1 and -1 are right enough."""
    return F.relu(1 - real).mean() + F.relu(1 + drawn).mean()


LOSSES = {
    # I. Goodfellow et al. 2014, "Generative adversarial nets": the game of one value, and the generator's loss that they used instead of
    # log(1 - D), which is flat where the discriminator is sure.
    "minimax": Loss(logistic, lambda drawn: -F.softplus(drawn).mean()),
    "non-saturating": Loss(logistic, lambda drawn: F.softplus(-drawn).mean()),
    # X. Mao et al. 2017, "Least squares generative adversarial networks", with targets 1 and 0
    "least-squares": Loss(lambda real, drawn: 0.5 * ((real - 1).square().mean() + drawn.square().mean()),
                          lambda drawn: 0.5 * (drawn - 1).square().mean()),
    # J. Lim & J. Ye 2017, "Geometric GAN"; T. Miyato et al. 2018, "Spectral normalization for generative adversarial networks"
    "hinge": Loss(hinge, lambda drawn: -drawn.mean()),
    # M. Arjovsky, S. Chintala & L. Bottou 2017, "Wasserstein GAN": a critic of bounded slope, by clipping its weights or a penalty
    "wasserstein": Loss(lambda real, drawn: drawn.mean() - real.mean(), lambda drawn: -drawn.mean()),
}


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, drawn: Tensor, share: Tensor | None = None) -> Tensor:
    """Mean of (|gradient of the critic| - 1)^2, at points on straight lines between real and drawn examples (N, *shape).

    share   (N, 1, ...) in 0..1, how near to the real one; drawn uniformly if not given
    I. Gulrajani et al. 2017, "Improved training of Wasserstein GANs". Can be differentiated: its gradient is a second derivative.
    """
    share = snn.rand(len(real), *[1] * (real.ndim - 1), dtype=real.dtype, device=real.device) if share is None else share
    between = (share * real.detach() + (1 - share) * drawn.detach()).requires_grad_()
    return (_slope(critic, between) - 1).square().mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Mean of |gradient of the discriminator|^2 at real examples: L. Mescheder, A. Geiger & S. Nowozin 2018, "Which training methods for
    GANs do actually converge?". Can be differentiated."""
    real = real.detach().requires_grad_()
    return _gradient(discriminator, real).square().sum(1).mean()


def _slope(critic, x):
    # The root of a sum that may be 0 has no finite derivative there.
    return snn.sqrt(_gradient(critic, x).square().sum(1) + 1e-12)


def _gradient(critic, x):
    """(M, D): the gradient of each of the M logits with respect to its example, or its pack of them."""
    logits = critic(x)
    return snn.grad(logits.sum(), [x], create_graph=True)[0].reshape(len(logits), -1)


def feature_matching(real: Tensor, drawn: Tensor) -> Tensor:
    """|mean of features of real examples - mean of those of drawn ones|^2, features (N, F) of a discriminator's layer, in place of the
    generator's own loss: T. Salimans et al. 2016, "Improved techniques for training GANs"."""
    return (real.detach().mean(0) - drawn.mean(0)).square().sum()
