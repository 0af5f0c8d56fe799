"""The VAE-GAN: an encoder and a decoder whose reconstructions are judged by what a discriminator sees of them, not by their pixels.

A. Larsen, S. Sonderby, H. Larochelle & O. Winther 2016, "Autoencoding beyond pixels using a learned similarity metric". The decoder is a
GAN's generator; networks, examples and the game are those of models/gan/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import checkpoint, nn
from scratchnn.data.dataset import DataSet
from scratchnn.data.table import Categorical
from scratchnn.models.classifier import beside, evaluating
from scratchnn.models.gan.examples import KINDS, Examples
from scratchnn.models.gan.model import GAN, ROWS
from scratchnn.models.networks import ConvEncoder, mlp
from scratchnn.models.vae.model import sample_posterior
from scratchnn.random import Generator
from scratchnn.tensor import Tensor

# What each published choice is replaced with, to see what it is worth.
ABLATIONS = {
    "pixels": "reconstructions are compared by their pixels",
    "no-reconstructions": "the discriminator is shown examples drawn from the prior alone",
    "gan-into-encoder": "the encoder learns to get by the discriminator too",
    "joint": "one sum of all losses for all networks: the discriminator learns to see no difference too, and the encoder to get by it",
}
GAMES = ("non-saturating", "minimax")


class Losses(NamedTuple):
    """Means over the batch: prior, KL(q(z | x) || p(z)) in nats; similarity, -log p(features of x | z) but for a constant, in nats; game,
    the discriminator's loss. on_real, on_drawn: logits (N,) of examples, and of those drawn from the prior."""

    prior: Tensor
    similarity: Tensor
    game: Tensor
    on_real: Tensor
    on_drawn: Tensor


class VAEGAN(GAN):
    """p(z) = N(0, 1), q(z | x) = N(mean, diag(exp(logvar))), and features(x) ~ N(features(generator(z)), 1) in a discriminator's layer.

    examples, latent   as in GAN
    hidden, channels   of the generator, as in GAN; encoder and discriminator have them in reverse
    layer              whose features are compared: which of the discriminator's activations, counted from 1; None: the last
    game               "minimax": the generator makes the discriminator's loss large, as published; "non-saturating": see LOSSES
    gamma              weight of the similarity beside the game in what the generator learns
    beta               weight of the prior beside the similarity in what the encoder learns; the paper has 1
    ablations          of ABLATIONS

    Examples are (N, *shape) as `examples.encode` gives them. Raises ValueError where these do not fit together.
    """

    def __init__(self, examples: Examples, latent: int, hidden: Sequence[int] = (), channels: Sequence[int] = (), *,
                 layer: int | None = None, game: str = "non-saturating", gamma: float = 1.0, beta: float = 1.0,
                 ablations: Sequence[str] = ()):
        # Without batch norm, an example's logit depends on this example alone: see `backward`.
        super().__init__(examples, latent, hidden, channels, batch_norm=False)
        depths = [i for i, module in enumerate(self.discriminator.features, 1) if isinstance(module, nn.LeakyReLU)]
        layer = len(depths) if layer is None else layer
        if not 1 <= layer <= len(depths) or game not in GAMES or not set(ablations) <= set(ABLATIONS):
            raise ValueError(f"VAEGAN: layer is 1 to {len(depths)}, game one of {', '.join(GAMES)}, ablations of {', '.join(ABLATIONS)}; "
                             f"got {layer}, {game!r} and {', '.join(ablations)}")
        self.options = {"latent": latent, "hidden": list(hidden), "channels": list(channels), "layer": layer, "game": game,
                        "gamma": gamma, "beta": beta, "ablations": list(ablations)}
        self.depth, self.game, self.gamma, self.beta, self.ablations = depths[layer - 1], game, gamma, beta, frozenset(ablations)
        self.encoder = (ConvEncoder(examples.shape, channels, hidden[::-1], 0, 2 * latent) if channels else
                        mlp([examples.size, *reversed(hidden), 2 * latent], nn.ReLU))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of q(z | x), (N, L) each."""
        return self.encoder(x.flatten(1)).chunk(2, 1)

    # ---- what the three networks learn from -------------------------------------------------------------------------

    def backward(self, x: Tensor, noise: Tensor | None = None, drawn_from: Tensor | None = None) -> Losses:
        """Set each parameter's gradient, and only that of its own network's loss (algorithm 1 of the paper):

            encoder         prior + similarity
            generator       gamma * similarity - game
            discriminator   game

        noise        (N, L) behind z of q(z | x);  drawn_from   (N, L) of the prior; both standard normal, drawn if not given

        Every network goes forward once for each kind of example. Back, the game passes the discriminator once for its weights and both
        kinds of drawn examples, the similarity only from its layer to the reconstructions and on to z, and their sum the generator once,
        for its weights.
        """
        mean, logvar = self.encode(x)
        z = sample_posterior(mean, logvar, 1, noise if noise is None else noise.unsqueeze(1)).squeeze(1)
        place = _cut(z)
        drawn_from = snn.randn(len(x), self.latent, dtype=x.dtype, device=x.device) if drawn_from is None else drawn_from
        decoded, fresh = self.make(place), self.make(drawn_from)
        shown, other = _cut(decoded), _cut(fresh)
        losses, on_shown = self._losses(x, shown, other, mean, logvar)

        joint, weights = "joint" in self.ablations, list(self.discriminator.parameters())
        to_match, *of_similarity = snn.grad(losses.similarity, [shown, *(weights if joint else ())], retain_graph=True, allow_unused=True)
        *of_game, from_shown, from_other = snn.grad(losses.game, [*weights, shown, other], allow_unused=True)
        for i, parameter in enumerate(weights):
            parameter.grad = of_game[i]
            if joint and of_similarity[i] is not None:
                parameter.grad = of_game[i] + self.gamma * of_similarity[i]
        wished = self.gamma * to_match + (0 if from_shown is None else self._to_win(from_shown, on_shown))
        to_encoder = wished if self.ablations & {"gan-into-encoder", "joint"} else to_match
        (to_z,) = snn.grad(decoded, [place], [to_encoder], retain_graph=True)
        _learn(self.generator, [decoded, fresh], [wished, self._to_win(from_other, losses.on_drawn)])
        _learn(self.encoder, [losses.prior * self.beta, z], [None, to_z])
        return losses

    def _losses(self, x, shown, other, mean, logvar):
        """(Losses, logits of the reconstructions)."""
        features = self.discriminator.features
        trunk, rest = features[:self.depth], features[self.depth:]
        known, seen, found = (trunk(kind) for kind in (x, shown, other))
        on_real, on_shown, on_drawn = (self.discriminator.logits(rest(kind)) for kind in (known, seen, found))
        game = self.loss.discriminator(on_real, on_drawn)
        if "no-reconstructions" not in self.ablations:
            game = game + F.softplus(on_shown).mean()
        difference = x - shown if "pixels" in self.ablations else known - seen
        similarity = 0.5 * difference.square().sum() / len(x)
        return Losses(F.gaussian_kl(mean, logvar) / len(x), similarity, game, on_real, on_drawn), on_shown

    def _to_win(self, g, logits):
        """The gradient of the generator's loss with respect to drawn examples, given that of the discriminator's.

        An example's share in the latter is softplus(logit) / N, in the former minus that, or non-saturating softplus(-logit) / N. An
        example moves its own logit alone, so both gradients are multiples of that logit's gradient, by sigmoid(logit) / N and
        -sigmoid(-logit) / N, of which exp(-logit) is the ratio. That saves a pass through the discriminator.
        """
        if self.game == "minimax":
            return -g
        return g * -snn.exp(-logits.detach()).reshape(-1, *[1] * (g.ndim - 1))

    # ---- examples ---------------------------------------------------------------------------------------------------

    def posterior(self, x: np.ndarray) -> np.ndarray:
        """Mean of q(z | x) (N, L) of examples (N, *shape) of the data set."""
        with evaluating(self), snn.no_grad():
            parts = [self.encode(beside(self, self.examples.encode(x[i:i + ROWS])))[0].cpu().numpy() for i in range(0, len(x), ROWS)]
        return np.concatenate(parts)

    def reconstruct(self, x: np.ndarray, generator: Generator | None = None) -> np.ndarray:
        """Examples (N, *shape) of the data set from the posterior means of others; `generator` is for categories, which are drawn."""
        return self.generate(self.posterior(x), generator=generator)


def _cut(x):
    """x as a leaf, where what goes back stops, to be looked at before it goes on."""
    return x.detach().requires_grad_()


def _learn(network, outputs, gradients):
    """Set the gradients of the network's parameters, given what arrives at its outputs."""
    parameters = list(network.parameters())
    for parameter, g in zip(parameters, snn.grad(outputs, parameters, gradients), strict=True):
        parameter.grad = g


def attribute_vectors(z: np.ndarray, attributes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """For each attribute, given which of the N examples have it (N,), the mean of the latents z (N, L) of those minus that of the others
    (section 4.2): z plus the vector is the example with the attribute, z minus it the example without. One that all or none have is
    left out."""
    return {name: z[has].mean(0) - z[~has].mean(0) for name, has in attributes.items() if has.any() and not has.all()}


def attributes_of(examples: DataSet, x: np.ndarray, y: np.ndarray | None) -> dict[str, np.ndarray]:
    """What the examples x (N, *shape) with labels y (N,) can have or not, by name, (N,) boolean each: each class; each category of a
    table's columns; of a number, that it lies above the median of those in the training part."""
    found = {name: y == i for i, name in enumerate(examples.classes)}
    if examples.table:
        cells, usual = examples.table.inverse(x), examples.table.inverse(examples.train_x)
        for column in examples.table.columns:
            values = cells[column.name]
            if isinstance(column, Categorical):
                found |= {f"{column.name}={category}": values == category for category in column.categories}
            else:
                found[f"{column.name} high"] = values > np.nanmedian(usual[column.name])
    return found


# ---- files ----------------------------------------------------------------------------------------------------------------

def save_vaegan(path: str | Path, model: VAEGAN) -> None:
    """Write weights as checkpoint.save_weights does, with what `load_vaegan` needs beside them."""
    checkpoint.save_model(path, "vaegan", model, {"kind": type(model.examples).__name__, "examples": model.examples.options(),
                                                  "options": model.options})


def load_vaegan(path: str | Path) -> VAEGAN:
    """What `save_vaegan` wrote. Raises CheckpointError, FileNotFoundError."""
    return checkpoint.load_model(path, "vaegan", lambda about: VAEGAN(KINDS[about["kind"]](**about["examples"]), **about["options"]),
                                 lambda model, about: model)
