"""Generative adversarial networks: losses.py has what both networks play for, model.py the networks, examples.py what examples are."""

from scratchnn.models.gan.examples import Columns, Pictures, Points, examples_for
from scratchnn.models.gan.losses import LOSSES, gradient_penalty, r1_penalty
from scratchnn.models.gan.model import GAN, PENALTIES, load_gan, save_gan
from scratchnn.models.gan.watch import Watch

__all__ = ["GAN", "LOSSES", "PENALTIES", "Columns", "Pictures", "Points", "Watch", "examples_for", "gradient_penalty", "load_gan",
           "r1_penalty", "save_gan"]
