"""Restricted Boltzmann machines: units.py says what visible units can be, machine.py what the machine is, train.py how it learns."""

from scratchnn.models.rbm.machine import RBM, BaseRate
from scratchnn.models.rbm.train import ContrastiveDivergence, ParallelTempering, PersistentCD
from scratchnn.models.rbm.units import Bernoulli, Gaussian, Softmax, Units

__all__ = ["RBM", "BaseRate", "Bernoulli", "ContrastiveDivergence", "Gaussian", "ParallelTempering", "PersistentCD", "Softmax", "Units"]
