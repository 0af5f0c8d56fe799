"""Gradient ascent on a picture: one step, and the way through all sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import kernels
import scratchnn.nn.functional as F
from scratchnn import nn
from scratchnn.data.folder import GREY
from scratchnn.models.dream.objective import GRID, LEAST_TILE, Objective, channels, gradient, score
from scratchnn.random import Generator, default_generator
from scratchnn.tensor import Tensor

NORMALISATIONS = ("mean", "laplacian", "frequency")
BANDS = 4            # of the Laplacian pyramid


@dataclass(frozen=True)
class Dreaming:
    """How a picture is changed.

    octaves, scale   the picture is dreamt in so many sizes, each smaller by this factor than the next, from the smallest on
    steps, rate      in each size; a step changes pixels in 0..1 by `rate` in the mean
    jitter           pixels by which the picture is moved at random in each step, round the corner: no pixel lies at a layer's border always
    flip             whether it is mirrored at random
    rotate           degrees by which it is turned at random at most
    normalise        the gradient: "mean", by its mean size; "laplacian", each band of a pyramid by its own deviation (fine and coarse
                     patterns grow alike); "frequency", waves by their length (coarse ones grow more)
    tv               weight of the total variation, which smooths: a share of the step
    keep_colours     grey values alone change
    tile             pixels a side that are looked at at once at most, for bounded memory: a multiple of 32, from 128 on
    """

    octaves: int = 4
    scale: float = 1.4
    steps: int = 10
    rate: float = 1.5 / 255
    jitter: int = 32
    flip: bool = False
    rotate: float = 0.0
    normalise: str = "laplacian"
    tv: float = 0.0
    keep_colours: bool = False
    tile: int = 512

    def __post_init__(self):
        if self.normalise not in NORMALISATIONS:
            raise ValueError(f"Dreaming: normalise is one of {', '.join(NORMALISATIONS)}, not {self.normalise!r}")
        if min(self.octaves, self.steps) < 1 or self.scale <= 1 or self.rate <= 0 or min(self.jitter, self.rotate, self.tv) < 0:
            raise ValueError("Dreaming: octaves and steps are at least 1, scale is above 1, rate above 0, jitter, rotate and tv are not "
                             f"below 0; got {self}")
        if self.tile < LEAST_TILE or self.tile % GRID:
            raise ValueError(f"Dreaming: tile is a multiple of {GRID}, from {LEAST_TILE} on, got {self.tile}")


# ---- one step --------------------------------------------------------------------------------------------------------------

def normalised(g: np.ndarray, how: str) -> np.ndarray:
    """The gradient (1, C, H, W) with 1 as the mean of its absolute values; `how` as in `Dreaming`."""
    if how == "laplacian":
        g = _by_bands(Tensor(g), BANDS)
    elif how == "frequency":
        g = _by_wavelength(g)
    return g / (np.abs(g).mean() + np.finfo(g.dtype).tiny)


def _by_bands(g, bands):
    """The sum of a Laplacian pyramid's bands (Burt & Adelson 1983), each divided by its standard deviation."""
    band, rest = g, None
    if bands > 1 and min(g.shape[2:]) > 2:
        coarse = F.avg_pool2d(g, 2, ceil_mode=True, count_include_pad=False)
        band, rest = g - F.interpolate(coarse, g.shape[2:], mode="bilinear", align_corners=False), _by_bands(coarse, bands - 1)
    band = band.numpy() / (band.numpy().std() + np.finfo(g.dtype).tiny)
    return band if rest is None else band + F.interpolate(Tensor(rest), g.shape[2:], mode="bilinear", align_corners=False).numpy()


def _by_wavelength(g):
    """Each wave of the gradient times its length in pixels, up to that of the picture."""
    H, W = g.shape[2:]
    frequency = np.hypot(np.fft.fftfreq(H)[:, None], np.fft.rfftfreq(W))
    spectrum = np.fft.rfft2(g) / np.maximum(frequency, 1 / max(H, W))
    return np.fft.irfft2(spectrum, s=(H, W)).astype(g.dtype)


def roughness(x: np.ndarray) -> np.ndarray:
    """The gradient of the total variation of a picture (1, C, H, W): for each pixel how many of its four neighbours are darker, less how
    many are brighter. Rudin, Osher & Fatemi 1992, with the absolute values of differences along both axes."""
    g = np.zeros_like(x)
    down, right = np.sign(np.diff(x, axis=2)), np.sign(np.diff(x, axis=3))
    g[:, :, 1:] += down
    g[:, :, :-1] -= down
    g[:, :, :, 1:] += right
    g[:, :, :, :-1] -= right
    return g


def step(model: nn.Module, x: np.ndarray, objectives: Sequence[Objective], how: Dreaming,
         generator: Generator) -> tuple[np.ndarray, float]:
    """(a picture (1, C, H, W) after one step of gradient ascent, how strongly the objectives were met before it)."""
    tiled = max(x.shape[2:]) > how.tile
    reach = max(how.jitter, how.tile) if tiled else how.jitter                  # of tiles the borders move over the whole picture
    down, right, turn, mirrored = kernels.uniform(*generator.take(1), (4,), np.dtype(np.float32)).tolist()
    shift = [round(reach * (2 * u - 1)) for u in (down, right)]
    angle = math.radians(how.rotate) * (2 * turn - 1)
    seen = _turned(np.roll(x, shift, (2, 3)), angle)
    flip = how.flip and mirrored < 0.5
    g, value = gradient(model, np.ascontiguousarray(seen[..., ::-1]) if flip else seen, objectives, how.tile)
    g = np.roll(_turned(g[..., ::-1] if flip else g, -angle), [-n for n in shift], (2, 3))
    change = normalised(g, how.normalise) - how.tv * roughness(x) if how.tv else normalised(g, how.normalise)
    return np.clip(x + x.dtype.type(how.rate) * change, 0, 1), value


def _turned(x, angle):
    """Pictures turned clockwise about their middle."""
    if not angle:
        return x
    c, s = math.cos(angle), math.sin(angle)
    return kernels.warp(x, np.array([[[c, -s, 0], [s, c, 0]]] * len(x)))


# ---- whole dreams ----------------------------------------------------------------------------------------------------------

class Dream:
    """A picture (1, 3, H, W) in 0..1 on its way to what the network would rather have: a training whose weights are pixels.

        dream = Dream(net, picture, [Objective("features.7")])
        for _ in range(dream.steps):
            dream.step()
        dream.picture                                          (1, 3, H, W), of the same size

    model      takes pictures (N, C, H, W) in 0..1. Where C is 1 grey values are shown to it, and the picture keeps its colours
    frames     of a flight into the dream: each but the first is dreamt from the middle of the one before, enlarged by `factor`; `film`
               holds them, (1, 3, H, W) each
    The same generator gives the same dream. Raises ValueError, saying what there is, for objectives that the network does not have.
    """

    def __init__(self, model: nn.Module, picture: np.ndarray, objectives: Sequence[Objective], how: Dreaming | None = None,
                 generator: Generator | None = None, frames: int = 1, factor: float = 1.05):
        self.model, self.objectives, self.how, self.generator = model, objectives, how or Dreaming(), generator or default_generator
        self.frames, self.factor, self.grey = frames, factor, channels(model) == 1
        self.sizes = _sizes(picture.shape[2:], self.how)
        self.steps = frames * len(self.sizes) * self.how.steps
        self.done, self.film = 0, []
        self._begin(picture)
        self.score(resized(picture, self.sizes[0]))                                  # what does not fit is said now

    def _begin(self, picture):
        """A frame: what is dreamt from, and what was dreamt, which is carried from size to size."""
        self.start = picture
        self.base = self._shown(picture)
        self.change = np.zeros((1, self.base.shape[1], *self.sizes[0]), picture.dtype)

    def _shown(self, picture):
        """What of a picture the network sees."""
        return _grey(picture) if self.grey else picture

    def score(self, picture: np.ndarray) -> float:
        """How strongly a picture (1, 3, H, W) meets the objectives."""
        return score(self.model, self._shown(picture), self.objectives, self.how.tile)

    def step(self) -> float:
        """One step of gradient ascent; how strongly the objectives were met before it."""
        size = self.sizes[self.done // self.how.steps % len(self.sizes)]
        base = resized(self.base, size)
        now, value = step(self.model, np.clip(base + resized(self.change, size), 0, 1), self.objectives, self.how, self.generator)
        self.change, self.done = now - base, self.done + 1
        if self.done % (len(self.sizes) * self.how.steps) == 0:
            self.film.append(self.picture)
            if len(self.film) < self.frames:
                self._begin(kernels.warp(self.picture, np.array([[[1 / self.factor, 0, 0], [0, 1 / self.factor, 0]]])))
        return value

    @property
    def picture(self) -> np.ndarray:
        """The picture as it is."""
        change = resized(self.change, self.start.shape[2:])
        if self.how.keep_colours and not self.grey:
            change = _grey(change)
        return np.clip(self.start + change, 0, 1)

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done, "start": self.start, "change": self.change, "film": self.film}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._begin(np.asarray(state["start"]))
        self.done, self.change, self.film = int(state["done"]), np.asarray(state["change"]), list(state["film"])


def dream(model: nn.Module, picture: np.ndarray, objectives: Sequence[Objective], how: Dreaming | None = None,
          generator: Generator | None = None) -> np.ndarray:
    """A `Dream` from its beginning to its end."""
    dreamt = Dream(model, picture, objectives, how, generator)
    for _ in range(dreamt.steps):
        dreamt.step()
    return dreamt.picture


def resized(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pictures (N, C, H, W) in another size, linear between pixels."""
    if x.shape[2:] == tuple(size):
        return x
    return F.interpolate(Tensor(np.ascontiguousarray(x)), tuple(size), mode="bilinear", align_corners=False).numpy()


def _grey(pictures):
    """(1, 3, H, W) -> (1, 1, H, W)"""
    return np.tensordot(pictures, GREY, (1, 0))[:, None]


def _sizes(size, how):
    """The sizes of the octaves, the smallest first; those beyond what is left of a picture are dropped."""
    sizes = [tuple(max(1, round(n / how.scale ** k)) for n in size) for k in reversed(range(how.octaves))]
    return [s for s in sizes if min(s) >= GRID] or [tuple(size)]
