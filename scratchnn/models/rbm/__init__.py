"""Restricted Boltzmann machines: units.py says what visible units can be, machine.py what the machine is, train.py how it
learns, classify.py one that classifies."""

from scratchnn.models.rbm.classify import ClassRBM, hybrid_gradient
from scratchnn.models.rbm.machine import RBM, BaseRate
from scratchnn.models.rbm.train import ContrastiveDivergence, ParallelTempering, PersistentCD
from scratchnn.models.rbm.units import Bernoulli, Gaussian, Softmax, Units

__all__ = ["RBM", "BaseRate", "Bernoulli", "ClassRBM", "ContrastiveDivergence", "Gaussian", "ParallelTempering", "PersistentCD", "Softmax",
           "Units", "hybrid_gradient"]
