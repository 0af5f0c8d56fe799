"""Data sets, ready as arrays, and the loader that cuts them into batches."""

from scratchnn.data.dataset import DataSet
from scratchnn.data.images import SETS, digits, load, mnist
from scratchnn.data.loader import DataLoader

__all__ = ["SETS", "DataLoader", "DataSet", "digits", "load", "mnist"]
