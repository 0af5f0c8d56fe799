"""The generative adversarial network: a generator that makes examples of noise, and a discriminator that tells them from real ones.

I. Goodfellow et al. 2014, "Generative adversarial nets"; with convolutions, A. Radford, L. Metz & S. Chintala 2016, "Unsupervised
representation learning with deep convolutional generative adversarial networks", DCGAN below.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import checkpoint, nn
from scratchnn.data.dataset import DataSet
from scratchnn.models.classifier import beside, evaluating
from scratchnn.models.gan.examples import KINDS, Examples
from scratchnn.models.gan.losses import LOSSES, feature_matching, gradient_penalty, r1_penalty
from scratchnn.models.networks import ConvDecoder, conv_features, leaky_relu, mlp
from scratchnn.nn.utils.parametrizations import spectral_norm
from scratchnn.random import Generator
from scratchnn.tensor import Tensor

ROWS = 1000          # examples that are generated at a time: bounds memory
PENALTIES = ("none", "gradient", "r1")


class GAN(nn.Module):
    """Both networks, and what each of them learns from.

    examples      how examples look to the networks
    latent        L, normal numbers that an example is made of
    hidden        units of the generator's linear layers; the discriminator has them in reverse
    channels      of the discriminator's convolutions between pictures and these layers, each of which halves the picture; the generator
                  has them in reverse
    classes       examples of chosen classes: the generator takes labels, and so does the discriminator, by projection (T. Miyato &
                  M. Koyama 2018, "cGANs with projection discriminator")
    auxiliary     in place of that, the discriminator says the class of an example (A. Odena, C. Olah & J. Shlens 2017, "Conditional
                  image synthesis with auxiliary classifier GANs")
    loss          one of LOSSES, or "feature-matching", whose discriminator has the loss of "non-saturating"
    batch_norm    of the generator, and of a discriminator with convolutions; that of a penalty goes without, since there each
                  example must have a gradient of its own
    penalty       "gradient" or "r1", of the discriminator's slope, or "none"
    packing       examples that the discriminator judges at once (Z. Lin et al. 2018, "PacGAN")
    spectral      divide the discriminator's weights by their largest singular value (T. Miyato et al. 2018)
    deviation     show the discriminator how much a batch varies (T. Karras et al. 2018, "Progressive growing of GANs", section 3)

    Examples are (N, *shape) as `examples.encode` gives them, labels (N,). Raises ValueError where these do not fit together.
    """

    def __init__(self, examples: Examples, latent: int, hidden: Sequence[int] = (), channels: Sequence[int] = (), *, classes: int = 0,
                 auxiliary: bool = False, loss: str = "non-saturating", batch_norm: bool = True, penalty: str = "none", packing: int = 1,
                 spectral: bool = False, deviation: bool = False):
        super().__init__()
        if loss not in (*LOSSES, "feature-matching") or penalty not in PENALTIES:
            raise ValueError(f"GAN: loss is one of {', '.join(LOSSES)}, feature-matching, penalty one of {', '.join(PENALTIES)}; got "
                             f"{loss!r} and {penalty!r}")
        if (packing > 1 and classes) or (auxiliary and not classes):
            raise ValueError("GAN: packs have no class, so leave out packing or classes" if classes else "GAN: auxiliary needs classes")
        self.options = {"latent": latent, "hidden": list(hidden), "channels": list(channels), "classes": classes, "auxiliary": auxiliary,
                        "loss": loss, "batch_norm": batch_norm, "penalty": penalty, "packing": packing, "spectral": spectral,
                        "deviation": deviation}
        self.examples, self.latent, self.classes, self.auxiliary, self.penalty = examples, latent, classes, auxiliary, penalty
        self.matching = loss == "feature-matching"
        self.loss = LOSSES["non-saturating" if self.matching else loss]
        self.generator = (ConvDecoder(examples.shape, channels, hidden, latent + classes, batch_norm=batch_norm) if channels else
                          mlp([latent + classes, *hidden, examples.size], nn.ReLU, batch_norm))
        self.discriminator = Discriminator(examples.shape, list(reversed(hidden)), channels, 0 if auxiliary else classes,
                                           classes if auxiliary else 0, batch_norm and penalty == "none" and not spectral, packing,
                                           deviation)
        if spectral:
            for layer in list(self.discriminator.modules()):
                if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Embedding)):
                    spectral_norm(layer)

    def draw(self, count: int, y: Tensor | None = None) -> Tensor:
        """Examples (count, *shape) of new noise, of the classes y (count,)."""
        return self.make(snn.randn(count, self.latent, device=next(self.parameters()).device), y)

    def make(self, z: Tensor, y: Tensor | None = None, generator: Generator | None = None) -> Tensor:
        """Examples (N, *shape) of noise (N, L); `generator` is for categories, which are drawn."""
        if (y is None) != (not self.classes):
            raise ValueError(f"GAN: on condition of {self.classes} classes, labels are {'needed' if self.classes else 'not taken'}")
        z = z if y is None else snn.cat([z, F.one_hot(y, self.classes).to(z.dtype)], 1)
        return self.examples.finish(self.generator(z), generator)

    # ---- what both learn from ---------------------------------------------------------------------------------------

    def discriminator_loss(self, real: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the discriminator makes small, given real examples and as many drawn ones: (loss, logits of the real examples, logits of
        the drawn ones, the drawn ones). Without the penalty."""
        with snn.no_grad():
            drawn = self.draw(len(real), y)
        seen, made = self.discriminator.embed(real), self.discriminator.embed(drawn)
        on_real, on_drawn = self.discriminator.logits(seen, y), self.discriminator.logits(made, y)
        loss = self.loss.discriminator(on_real, on_drawn)
        if self.auxiliary:
            loss = loss + sum(F.cross_entropy(self.discriminator.class_logits(features), y) for features in (seen, made))
        return loss, on_real, on_drawn, drawn

    def slope_penalty(self, real: Tensor, drawn: Tensor, y: Tensor | None = None) -> Tensor:
        """The penalty of the discriminator's slope, without its weight."""
        discriminator = partial(self.discriminator, y=y)
        return gradient_penalty(discriminator, real, drawn) if self.penalty == "gradient" else r1_penalty(discriminator, real)

    def generator_loss(self, real: Tensor, y: Tensor | None = None) -> Tensor:
        """What the generator makes small with as many examples as there are real ones. The discriminator's weights get no gradient."""
        with frozen(self.discriminator):
            features = self.discriminator.embed(self.draw(len(real), y))
            if self.matching:
                loss = feature_matching(self.discriminator.embed(real), features)
            else:
                loss = self.loss.generator(self.discriminator.logits(features, y))
            return loss + F.cross_entropy(self.discriminator.class_logits(features), y) if self.auxiliary else loss

    def with_generator(self, generator: nn.Module) -> GAN:
        """This model with another generator, for instance the average of its own; the discriminator is shared."""
        other = copy.copy(self)
        other._modules = {**self._modules, "generator": generator}
        return other

    # ---- examples ---------------------------------------------------------------------------------------------------

    def generate(self, z: np.ndarray, y: np.ndarray | None = None, generator: Generator | None = None) -> np.ndarray:
        """Examples (N, *shape) of the data set for noise (N, L)."""
        parts = []
        with evaluating(self), snn.no_grad():
            for start in range(0, len(z), ROWS):
                label = None if y is None else beside(self, y[start:start + ROWS])
                parts.append(self.make(beside(self, np.asarray(z[start:start + ROWS], np.float32)), label, generator).cpu().numpy())
        return self.examples.decode(np.concatenate(parts))

    def sample(self, count: int, y: np.ndarray | None = None, generator: Generator | None = None) -> np.ndarray:
        """`count` new examples of the data set."""
        return self.generate(snn.randn(count, self.latent, generator=generator).array, y, generator)


class Discriminator(nn.Module):
    """Packs of examples (N, *shape) to logits (N / packing,): linear layers or convolutions with leaky ReLU, and one linear layer.

    hidden, channels     units of linear layers, or channels of convolutions
    conditions           classes that the logit depends on
    classes              classes that `class_logits` tells apart
    """

    def __init__(self, shape: Sequence[int], hidden: Sequence[int] = (), channels: Sequence[int] = (), conditions: int = 0,
                 classes: int = 0, batch_norm: bool = False, packing: int = 1, deviation: bool = False):
        super().__init__()
        self.packing, shape = packing, (packing * shape[0], *shape[1:])
        trunk, found = conv_features(shape, channels, leaky_relu, batch_norm) if channels else ([nn.Flatten()], math.prod(shape))
        units = [found, *hidden]
        trunk = [*trunk, *mlp([*units, 1], leaky_relu)[:-1]]
        if deviation:                     # before a layer of its own, so that the logit need not grow with it
            units.append((found, *channels, *hidden)[-1])
            trunk += [MinibatchDeviation(), *mlp([units[-2] + 1, units[-1], 1], leaky_relu)[:-1]]
        self.features, found = nn.Sequential(*trunk), units[-1]
        self.output = nn.Linear(found, 1)
        self.condition = nn.Embedding(conditions, found) if conditions else None
        self.classifier = nn.Linear(found, classes) if classes else None

    def forward(self, x, y=None):
        return self.logits(self.embed(x), y)

    def embed(self, x):
        """Features (N / packing, F) of examples (N, *shape)."""
        if len(x) % self.packing:
            raise ValueError(f"Discriminator: {len(x)} examples do not make packs of {self.packing}")
        return self.features(x.reshape(len(x) // self.packing, self.packing * x.shape[1], *x.shape[2:]))

    def logits(self, features, y=None):
        logits = self.output(features).squeeze(1)
        return logits if self.condition is None else logits + (self.condition(y) * features).sum(1)

    def class_logits(self, features):
        return self.classifier(features)

    def clip_weights(self, limit: float) -> None:
        """Bring each parameter into -limit..limit, which bounds the slope: Arjovsky, Chintala & Bottou 2017, "Wasserstein GAN"."""
        for parameter in self.parameters():
            np.clip(parameter.array, -limit, limit, out=parameter.array)
            parameter.bump_version()


class MinibatchDeviation(nn.Module):
    """(N, F) -> (N, F + 1): the mean over F of the standard deviation over the batch, for each example the same."""

    def forward(self, x):
        deviation = snn.sqrt(x.var(0, correction=0) + 1e-8).mean()
        return snn.cat([x, deviation.expand(len(x), 1)], 1)


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Gradients flow through the module, and not into its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


# ---- files ----------------------------------------------------------------------------------------------------------------

class SavedGAN(NamedTuple):
    """A model that draws of chosen classes comes with the share of each in what it learnt from, by name, and with what classes are called
    (DataSet.target)."""

    model: GAN
    classes: dict[str, float]
    target: str


def save_gan(path: str | Path, model: GAN, examples: DataSet) -> None:
    """Write weights as checkpoint.save_weights does, with what `load_gan` needs beside them. examples: what the model learnt from."""
    checkpoint.save_model(path, "gan", model, {"kind": type(model.examples).__name__, "examples": model.examples.options(),
                                               "options": model.options, **examples.about_classes(model.classes)})


def load_gan(path: str | Path) -> SavedGAN:
    """What `save_gan` wrote. Raises CheckpointError, FileNotFoundError."""
    return checkpoint.load_model(path, "gan", lambda about: GAN(KINDS[about["kind"]](**about["examples"]), **about["options"]),
                                 lambda model, about: SavedGAN(model, dict(about["classes"]), str(about["target"])))
