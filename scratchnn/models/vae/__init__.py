"""Variational autoencoders: model.py has the bounds and what is made of them, likelihood.py what examples are."""

from scratchnn.models.vae.likelihood import Bernoulli, Columns, DiscretisedLogistic, Gaussian, Likelihood, likelihood_for
from scratchnn.models.vae.model import VAE, interpolate, load_vae, sample_posterior, save_vae, traverse

__all__ = ["VAE", "Bernoulli", "Columns", "DiscretisedLogistic", "Gaussian", "Likelihood", "interpolate", "likelihood_for", "load_vae",
           "sample_posterior", "save_vae", "traverse"]
