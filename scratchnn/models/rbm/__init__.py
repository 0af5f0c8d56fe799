"""Restricted Boltzmann machines: units.py says what visible units can be, machine.py what the machine is, train.py how it learns;
visible.py makes visible units of the examples of a data set."""

from scratchnn.models.rbm.machine import RBM, BaseRate
from scratchnn.models.rbm.train import ContrastiveDivergence, ParallelTempering, PersistentCD
from scratchnn.models.rbm.units import Bernoulli, Gaussian, Softmax, Units
from scratchnn.models.rbm.visible import Binary, Columns, Numbers, Visible, visible_for

__all__ = [
    "RBM", "BaseRate", "Bernoulli", "Binary", "Columns", "ContrastiveDivergence", "Gaussian", "Numbers", "ParallelTempering",
    "PersistentCD", "Softmax", "Units", "Visible", "visible_for",
]
