"""Restricted Boltzmann machines: units.py says what visible units can be, machine.py what the machine is, train.py how it learns,
classify.py one that classifies; visible.py makes visible units of the examples of a data set."""

from scratchnn.models.rbm.classify import ClassRBM, hybrid_gradient
from scratchnn.models.rbm.machine import RBM, BaseRate
from scratchnn.models.rbm.train import ContrastiveDivergence, ParallelTempering, PersistentCD
from scratchnn.models.rbm.units import Bernoulli, Gaussian, Softmax, Units
from scratchnn.models.rbm.visible import Binary, Columns, Numbers, Visible, visible_for

__all__ = ["RBM", "BaseRate", "Bernoulli", "Binary", "ClassRBM", "Columns", "ContrastiveDivergence", "Gaussian", "Numbers",
           "ParallelTempering", "PersistentCD", "Softmax", "Units", "Visible", "hybrid_gradient", "visible_for"]
