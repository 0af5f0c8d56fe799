"""The variational autoencoder: an encoder q(z | x), a decoder p(x | z), and what they are trained and judged by.

D. Kingma & M. Welling, "Auto-encoding variational Bayes" (2014); Y. Burda, R. Grosse & R. Salakhutdinov, "Importance weighted
autoencoders" (2016), IWAE below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import checkpoint, nn
from scratchnn.data.dataset import DataSet
from scratchnn.models.classifier import beside, evaluating
from scratchnn.models.networks import ConvDecoder, ConvEncoder, mlp
from scratchnn.models.vae.likelihood import KINDS, Likelihood
from scratchnn.random import Generator, default_generator
from scratchnn.tensor import Tensor

ROWS = 2000          # decoded at a time where no gradient is asked for: bounds memory, and stays near the caches
ACTIVE = 0.01        # variance of a latent's posterior mean over the data from which on it counts as active (IWAE)


class VAE(nn.Module):
    """p(z) = N(0, 1), q(z | x) = N(mean, diag(exp(logvar))), and p(x | z) as the likelihood says.

    likelihood   what examples are; it also turns them into rows (N, D)
    latent       L, dimensions of z
    hidden       units of the encoder's layers, from x on; the decoder has them in reverse
    activation   of these layers: a class of nn by its name
    channels     of convolutions between pictures and these layers, each of which halves the picture
    classes      condition both networks on the class: p(x | z, y), with labels y (N,) in 0..classes-1

    Methods take rows as `likelihood.observe` gives them. S samples of z for each example lie beside each other, (N, S, L).
    """

    def __init__(self, likelihood: Likelihood, latent: int, hidden: Sequence[int] = (), channels: Sequence[int] = (), classes: int = 0,
                 activation: str = "Tanh"):
        super().__init__()
        self.likelihood, self.latent, self.classes, layer = likelihood, latent, classes, getattr(nn, activation)
        self.options = {"latent": latent, "hidden": list(hidden), "channels": list(channels), "classes": classes,
                        "activation": activation}
        if channels:
            self.encoder = ConvEncoder(likelihood.shape, channels, hidden, classes, 2 * latent, layer)
            each = likelihood.outputs // likelihood.size
            self.decoder = ConvDecoder(likelihood.shape, channels, hidden[::-1], latent + classes, each, layer)
        else:
            self.encoder = mlp([likelihood.size + classes, *hidden, 2 * latent], layer)
            self.decoder = mlp([latent + classes, *reversed(hidden), likelihood.outputs], layer)

    def begin_at(self, rows: np.ndarray) -> None:
        """Set the decoder's last bias to what fits all of these rows alike, so that training need not find their mean first."""
        bias = list(self.decoder.parameters())[-1]
        bias.array[:] = self.likelihood.marginal(rows).reshape(len(bias), -1).mean(1)
        bias.bump_version()

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of q(z | x), (N, L) each."""
        return self.encoder(self._with_class(x, y)).chunk(2, 1)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The decoder's output (..., P) for latents (..., L) and labels (...)."""
        rows = z.reshape(-1, self.latent)
        output = self.decoder(self._with_class(rows, y if y is None else y.reshape(-1)))
        return output.reshape(*z.shape[:-1], self.likelihood.outputs)

    def _with_class(self, x, y):
        if (y is None) != (not self.classes):
            raise ValueError(f"VAE: on condition of {self.classes} classes, labels are {'needed' if self.classes else 'not taken'}")
        return x if y is None else snn.cat([x, F.one_hot(y, self.classes).to(x.dtype)], 1)

    # ---- what training makes large ----------------------------------------------------------------------------------

    def elbo(self, x: Tensor, y: Tensor | None = None, *, beta: float = 1.0, free_bits: float = 0.0, noise: Tensor | None = None) -> Tensor:
        """Mean over the batch of E_q log p(x | z) - beta KL(q(z | x) || p(z)), in nats; z sampled once, KL in closed form.

        beta        Higgins et al. 2017, "beta-VAE"; growing from 0 in a warm-up (Bowman et al. 2016)
        free_bits   each latent's KL, mean over the batch, counts as at least so many nats (Kingma et al. 2016, "Improving variational
                    inference with inverse autoregressive flow")
        noise       (N, 1, L) standard normal, in place of what is drawn
        """
        mean, logvar = self.encode(x, y)
        z = sample_posterior(mean, logvar, 1, noise)
        fit = self.likelihood.log_prob(self.decode(z, _each(y, 1)), x).sum()
        if free_bits:
            divergence = snn.clamp(F.gaussian_kl(mean, logvar, "none").mean(0), min=free_bits).sum()
            return fit / len(x) - beta * divergence
        return (fit - beta * F.gaussian_kl(mean, logvar)) / len(x)

    def iwae(self, x: Tensor, y: Tensor | None = None, samples: int = 5, *, beta: float = 1.0, noise: Tensor | None = None) -> Tensor:
        """Mean over the batch of log (1/k sum_i w_i), w_i = p(x, z_i) / q(z_i | x), z_1..z_k drawn from q (IWAE).

        Its gradient weights that of each log w_i with w_i / sum_j w_j, which is what differentiating the logarithm of the sum
        does. It is never below the ELBO in expectation, and rises with k toward log p(x). beta, for a warm-up: p(z) / q(z | x) to that
        power, so that 0 leaves the fit alone.
        """
        return (self._log_weights(x, *self.encode(x, y), y, samples, noise, beta).logsumexp(1) - math.log(samples)).mean()

    def log_weights(self, x: Tensor, y: Tensor | None = None, samples: int = 1, noise: Tensor | None = None) -> Tensor:
        """log w (N, S) = log p(x | z) + log p(z) - log q(z | x) for z drawn from q; with e the noise behind z,

        log p(z) - log q(z | x) = sum over L of (e^2 + logvar - z^2) / 2.
        """
        return self._log_weights(x, *self.encode(x, y), y, samples, noise)

    def _log_weights(self, x, mean, logvar, y, samples, noise, beta=1.0):
        noise = snn.randn(len(x), samples, self.latent, dtype=x.dtype, device=x.device) if noise is None else noise
        z = sample_posterior(mean, logvar, samples, noise)
        prior = 0.5 * ((noise.square() - z.square()).sum(2) + logvar.sum(1, keepdim=True))
        return self.likelihood.log_prob(self.decode(z, _each(y, samples)), x) + beta * prior

    # ---- how good it is ---------------------------------------------------------------------------------------------

    def log_likelihood(self, x: np.ndarray, y: np.ndarray | None = None, samples: int = 5000, generator: Generator | None = None,
                       progress: Callable[[Iterable], Iterable] = iter) -> np.ndarray:
        """log p(x) of each row (N,), in nats, by importance sampling: log of the mean of `samples` weights, float64.

        It is too low in expectation, by less the more samples. Memory does not grow with `samples`: ROWS are decoded at a time.
        """
        generator = generator or default_generator
        step, some = max(1, ROWS // samples), min(samples, ROWS)
        found = np.full(len(x), -np.inf)
        with evaluating(self), snn.no_grad():
            for start in progress(range(0, len(x), step)):
                part, label = (rows if rows is None else beside(self, rows[start:start + step]) for rows in (x, y))
                mean, logvar = self.encode(part, label)
                for first in range(0, samples, some):
                    count = min(some, samples - first)
                    noise = snn.randn(len(part), count, self.latent, dtype=part.dtype, generator=generator, device=part.device)
                    log_w = self._log_weights(part, mean, logvar, label, count, noise).cpu().numpy().astype(np.float64)
                    found[start:start + step] = np.logaddexp(found[start:start + step], np.logaddexp.reduce(log_w, 1))
        return found - math.log(samples)

    def posterior(self, x: np.ndarray, y: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and logarithm of the variance of q(z | x), (N, L) each, of any number of rows."""
        parts = []
        with evaluating(self), snn.no_grad():
            for start in range(0, len(x), ROWS):
                label = None if y is None else beside(self, y[start:start + ROWS])
                parts.append([t.cpu().numpy() for t in self.encode(beside(self, x[start:start + ROWS]), label)])
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    def active_units(self, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """Which latents are used, (L,) boolean: the variance over the data of the posterior mean exceeds ACTIVE (IWAE)."""
        return self.posterior(x, y)[0].astype(np.float64).var(0) > ACTIVE

    # ---- examples from latents --------------------------------------------------------------------------------------

    def generate(self, z: np.ndarray, y: np.ndarray | None = None, *, draw: bool = False, generator: Generator | None = None) -> np.ndarray:
        """Examples (N, *shape) for latents (N, L): means of p(x | z), or draws from it."""
        parts = []
        with evaluating(self), snn.no_grad():
            for start in range(0, len(z), ROWS):
                label = None if y is None else beside(self, y[start:start + ROWS])
                output = self.decode(beside(self, np.asarray(z[start:start + ROWS], np.float32)), label).cpu().numpy()
                parts.append(self.likelihood.sample(output, generator) if draw else self.likelihood.mean(output))
        return self.likelihood.decode(np.concatenate(parts))

    def sample(self, count: int, y: np.ndarray | None = None, *, draw: bool = False, generator: Generator | None = None) -> np.ndarray:
        """`count` new examples, of latents drawn from the prior."""
        return self.generate(snn.randn(count, self.latent, generator=generator).array, y, draw=draw, generator=generator)

    def reconstruct(self, x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
        """Examples (N, *shape) from the posterior means of rows (N, D)."""
        return self.generate(self.posterior(x, y)[0], y)


def sample_posterior(mean: Tensor, logvar: Tensor, samples: int, noise: Tensor | None = None) -> Tensor:
    """z (N, S, L) of N(mean, exp(logvar)), through which gradients flow."""
    shape = (len(mean), samples, mean.shape[1])
    noise = snn.randn(shape, dtype=mean.dtype, device=mean.device) if noise is None else noise
    return snn.gaussian_sample_with(mean.unsqueeze(1).expand(shape), logvar.unsqueeze(1).expand(shape), noise)


def _each(y, samples):
    """Labels (N,) once for each sample: (N, S)."""
    return y if y is None else y.unsqueeze(1).expand(len(y), samples)


def interpolate(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Latents (steps, ..., L) from `start` to `end` on a great circle: their length changes evenly too (White 2016, "Sampling generative
    networks": of two draws from a normal distribution in many dimensions, the middle of the straight line is
    unlikely short)."""
    a, b = (np.linalg.norm(v, axis=-1, keepdims=True) for v in (start, end))
    cosine = (start * end).sum(-1, keepdims=True) / np.maximum(a * b, 1e-12)
    angle = np.arccos(cosine.clip(-1, 1)).clip(1e-4, math.pi - 1e-4)
    share = np.linspace(0, 1, steps).reshape(-1, *[1] * start.ndim)
    direction = np.sin((1 - share) * angle) / np.sin(angle) * start / np.maximum(a, 1e-12)
    direction = direction + np.sin(share * angle) / np.sin(angle) * end / np.maximum(b, 1e-12)
    return ((a + share * (b - a)) * direction).astype(np.float32)


def traverse(z: np.ndarray, latents: Sequence[int], values: Sequence[float]) -> np.ndarray:
    """Copies of one z (L,) in which one latent after another takes these values: (latents, values, L)."""
    found = np.tile(np.asarray(z, np.float32), (len(latents), len(values), 1))
    for row, latent in enumerate(latents):
        found[row, :, latent] = values
    return found


# ---- files ----------------------------------------------------------------------------------------------------------------

class SavedVAE(NamedTuple):
    """A model on condition of the class comes with the share of each class in what it learnt from, by name, and with what classes are
    called (DataSet.target)."""

    model: VAE
    classes: dict[str, float]
    target: str


def save_vae(path: str | Path, model: VAE, examples: DataSet) -> None:
    """Write weights as checkpoint.save_weights does, with what `load_vae` needs beside them. examples: what the model learnt from."""
    checkpoint.save_model(path, "vae", model, {"kind": type(model.likelihood).__name__, "likelihood": model.likelihood.options(),
                                               "options": model.options, **examples.about_classes(model.classes)})


def load_vae(path: str | Path) -> SavedVAE:
    """What `save_vae` wrote. Raises CheckpointError, FileNotFoundError."""
    return checkpoint.load_model(path, "vae", lambda about: VAE(KINDS[about["kind"]](**about["likelihood"]), **about["options"]),
                                 lambda model, about: SavedVAE(model, dict(about["classes"]), str(about["target"])))
