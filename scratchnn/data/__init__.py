"""Data sets, ready as arrays, and the loader that cuts them into batches."""

from scratchnn.data.dataset import DataSet
from scratchnn.data.glyphs import glyphs
from scratchnn.data.images import SETS, digits, load, mnist
from scratchnn.data.loader import DataLoader
from scratchnn.data.toys import GRID_SIGMA, RING_SIGMA, grid, grid_centres, moons, ring, ring_centres, swiss_roll

__all__ = ["GRID_SIGMA", "RING_SIGMA", "SETS", "DataLoader", "DataSet", "digits", "glyphs", "grid", "grid_centres", "load", "mnist",
           "moons", "ring", "ring_centres", "swiss_roll"]
