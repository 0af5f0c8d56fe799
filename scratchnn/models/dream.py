"""Deep Dream: a classifier turned around. Its weights stay, and the picture is trained as if it were the weights, until a layer, a channel
or a class of the network answers more strongly: what the network has learnt to see then stands in the picture.

A. Mordvintsev, C. Olah & M. Tyka 2015, "Inceptionism: Going deeper into neural networks" (research.google/blog), with the program that they
published; for classes K. Simonyan, A. Vedaldi & A. Zisserman 2014, "Deep inside convolutional networks" (arXiv 1312.6034), section 2.

    net = SqueezeNet.pretrained()
    dreamt = dream(net, read_picture("cat.png")[None] / np.float32(255), [Objective("features.7")])
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import kernels
import scratchnn as snn
import scratchnn.nn.functional as F
from scratchnn import autograd, nn
from scratchnn.models.classifier import evaluating
from scratchnn.random import Generator, default_generator
from scratchnn.tensor import Tensor

NORMALISATIONS = ("mean", "laplacian", "frequency")
GRID = 32            # tiles begin at multiples of it, so that strides of 2 see the same pixels as in the whole picture
BANDS = 4            # of the Laplacian pyramid
GREY = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)          # ITU-R BT.601


class Objective(NamedTuple):
    """What shall grow.

    layer     name of a module as `named_modules()` has it, such as "features.7"; "" is the network's own output, its logits
    channel   of the layer, or the number of a class: the sum of its activations grows. None: half the sum of squares of all of them
    unit      (row, column) of one unit of the channel, counted from the middle of the plane
    weight    of this objective among several; each counts by the mean over its layer's activations
    guide     (C, n) activations of the layer for another picture, as `activations` gives them: each place grows more like the one of
              these that it is most like
    """

    layer: str
    channel: int | None = None
    unit: tuple[int, int] | None = None
    weight: float = 1.0
    guide: np.ndarray | None = None

    def value(self, a: Tensor) -> Tensor:
        """The mean that grows, of activations (1, C, h, w) or (1, C)."""
        self.check(a.shape)
        if self.guide is not None:
            return (Tensor(self.guide.T) @ a.flatten(2)[0]).amax(0).sum() / a.numel()
        if self.channel is None:
            return 0.5 * (a * a).mean()
        chosen = a[:, self.channel]
        if self.unit is not None:
            chosen = chosen[(slice(None), *self._place(a.shape[2:]))]
        return chosen.mean()

    def _place(self, size):
        return tuple(n // 2 + i for n, i in zip(size, self.unit, strict=True))

    def check(self, shape: Sequence[int]) -> None:
        """ValueError, saying what there is, unless activations of this shape have such a channel and unit."""
        name = f"layer {self.layer!r}" if self.layer else "the output"
        if len(shape) not in (2, 4) or (len(shape) == 2 and (self.unit or self.guide is not None)):
            raise ValueError(f"{name} has activations of shape {tuple(shape)}; a dream takes (1, C, h, w), and of (1, C) whole channels")
        if self.channel is not None and not 0 <= self.channel < shape[1]:
            raise ValueError(f"{name} has channels 0 to {shape[1] - 1}, not {self.channel}")
        if self.unit is not None and self.channel is None:
            raise ValueError(f"{name}: a unit is one of a channel; say which")
        if self.unit is not None and any(not 0 <= i < n for i, n in zip(self._place(shape[2:]), shape[2:], strict=True)):
            raise ValueError(f"{name} has {shape[2]} x {shape[3]} units here, counted from the middle; {self.unit} is none of them")
        if self.guide is not None and len(self.guide) != shape[1]:
            raise ValueError(f"{name} has {shape[1]} channels, the guide {len(self.guide)}")


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
    tile             pixels a side that are looked at at once at most, for bounded memory
    """

    octaves: int = 4
    scale: float = 1.4
    steps: int = 10
    rate: float = 1.5 / 255
    jitter: int = 32
    flip: bool = False
    rotate: float = 0.0
    normalise: str = "mean"
    tv: float = 0.0
    keep_colours: bool = False
    tile: int = 512

    def __post_init__(self):
        if self.normalise not in NORMALISATIONS:
            raise ValueError(f"Dreaming: normalise is one of {', '.join(NORMALISATIONS)}, not {self.normalise!r}")
        if min(self.octaves, self.steps) < 1 or self.scale <= 1 or self.rate <= 0 or min(self.jitter, self.rotate, self.tv) < 0:
            raise ValueError("Dreaming: octaves and steps are at least 1, scale is above 1, rate above 0, jitter, rotate and tv are not "
                             f"below 0; got {self}")
        if self.tile < GRID or self.tile % GRID:
            raise ValueError(f"Dreaming: tile is a multiple of {GRID}, got {self.tile}")


# ---- what layers answer --------------------------------------------------------------------------------------------------

class _Seen(Exception):
    """All that was asked for has been seen: the rest of the network is not needed."""


@contextlib.contextmanager
def _as_it_is(model):
    """In eval mode, its weights without gradients; afterwards as before."""
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        with evaluating(model):
            yield
    finally:
        for p in trained:
            p.requires_grad_()


def answers(model: nn.Module, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """The activations of layers by name, "" being the output, for pictures x. Layers behind the last one that is asked for are not run.

    Raises ValueError that lists the layers if there is none of a name, or if one is not used, or gives something else than a Tensor.
    """
    modules, seen = dict(model.named_modules()), {}
    for name in names:
        if name not in modules:
            raise ValueError(f"there is no layer {name!r}; there are {', '.join(filter(None, modules))}")
    wanted = set(names) - {""}

    def see(name, output):
        seen[name] = output
        if "" not in names and wanted <= seen.keys():
            raise _Seen

    hooks = [modules[name].register_forward_hook(lambda module, args, output, name=name: see(name, output)) for name in wanted]
    try:
        seen[""] = model(x)
    except _Seen:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    for name in names:
        if not isinstance(seen.get(name), Tensor):
            raise ValueError(f"layer {name!r} gives no tensor here; choose another one")
    return {name: seen[name] for name in names}


def layers(model: nn.Module, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The shapes of what all layers give for a picture (C, H, W), by name in the order in which they are run, those that give no single
    tensor left out."""
    found, hooks = {}, []

    def see(name, output):
        if isinstance(output, Tensor):
            found[name] = output.shape

    for name, module in model.named_modules():
        if name:
            hooks.append(module.register_forward_hook(lambda module, args, output, name=name: see(name, output)))
    try:
        with _as_it_is(model), snn.no_grad():
            model(snn.zeros(1, *shape))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def activations(model: nn.Module, x: np.ndarray, layer: str) -> np.ndarray:
    """What a layer gives for a picture (1, C, H, W), place by place: (channels, places), a guide for an `Objective`."""
    with _as_it_is(model), snn.no_grad():
        found = answers(model, Tensor(x), [layer])[layer]
    if found.ndim != 4:
        raise ValueError(f"layer {layer!r} gives activations of shape {tuple(found.shape)}; a guide takes (1, C, h, w)")
    return np.ascontiguousarray(found.numpy()[0].reshape(found.shape[1], -1))


def score(model: nn.Module, x: np.ndarray, objectives: Sequence[Objective], tile: int = 512) -> float:
    """The weighted sum of objectives for a picture (1, C, H, W); of one beyond tile x tile pixels, the mean over its parts."""
    with _as_it_is(model), snn.no_grad():
        return float(np.mean([_total(model, Tensor(part), objectives).item() for part, *_ in _parts(x, tile)]))


def _total(model, x, objectives):
    found = answers(model, x, list(dict.fromkeys(o.layer for o in objectives)))
    return sum(o.weight * o.value(found[o.layer]) for o in objectives)


# ---- one step --------------------------------------------------------------------------------------------------------------

def gradient(model: nn.Module, x: np.ndarray, objectives: Sequence[Objective], tile: int = 512) -> tuple[np.ndarray, float]:
    """(by how much the objectives grow with each pixel of a picture (1, C, H, W), up to a factor; the objectives' weighted sum).

    A picture beyond tile x tile pixels is taken in parts, each with a border that is looked at and thrown away, a quarter of a tile wide:
    more than most units see. The sum is then the mean over the parts.
    """
    g, values = np.empty_like(x), []
    with _as_it_is(model), snn.enable_grad():
        for part, inside, core in _parts(x, tile):
            pixels = Tensor(part).requires_grad_()
            total = _total(model, pixels, objectives)
            found = autograd.grad(total, pixels)[0].numpy()
            g[core] = found[inside] * (part.size / x.size)                # objectives are means: those of larger parts count for more
            values.append(total.item())
    return g, float(np.mean(values))


def _parts(x, tile):
    """(a part of a picture with its border, what of it is inside of the border, where in the picture that lies)."""
    H, W = x.shape[2:]
    border = max(GRID, tile // 4 // GRID * GRID) if max(H, W) > tile else 0
    core = max(GRID, tile - 2 * border)
    for i in range(0, H, core):
        for j in range(0, W, core):
            top, left = max(0, i - border), max(0, j - border)
            part = np.ascontiguousarray(x[:, :, top:i + core + border, left:j + core + border])
            inside = (..., slice(i - top, i - top + core), slice(j - left, j - left + core))
            yield part, inside, (..., slice(i, i + core), slice(j, j + core))


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
        return (picture * GREY).sum(1, keepdims=True) if self.grey else picture

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
            change = (change * GREY).sum(1, keepdims=True)
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


def _sizes(size, how):
    """The sizes of the octaves, the smallest first; those beyond what is left of a picture are dropped."""
    sizes = [tuple(max(1, round(n / how.scale ** k)) for n in size) for k in reversed(range(how.octaves))]
    return [s for s in sizes if min(s) >= GRID] or [tuple(size)]


def channels(model: nn.Module) -> int:
    """Of the pictures that a network takes: what its first convolution or, for an MLP, its shape says."""
    shape = getattr(model, "options", {}).get("shape")
    if shape:
        return shape[0]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.weight.shape[1] * module.groups
    raise ValueError(f"{type(model).__name__} has no convolution; a dream takes a network of pictures of any size")
