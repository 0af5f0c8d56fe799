"""What a network is asked for in a dream: the answers of its layers, and how these change with each pixel."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import scratchnn as snn
from scratchnn import autograd, nn
from scratchnn.models.classifier import evaluating
from scratchnn.tensor import Tensor

GRID = 32                       # tiles begin at multiples of it, so that strides of 2 see the same pixels as in the whole picture
LEAST_TILE = 4 * GRID           # a border on both sides, and twice as much between them


class Objective(NamedTuple):
    """What shall grow.

    layer     name of a module as `named_modules()` has it, such as "features.7"; "" is the network's own output, its logits
    channel   of the layer, or the number of a class: the mean of its activations grows. None: half the mean square of all of them
    unit      (row, column) of one unit of the channel, counted from the middle of the plane
    weight    of this objective among several; each counts by the mean over its layer's activations
    guide     (C, n) activations of the layer for another picture, as `activations` gives them: each place grows more like the one of
              these that it is most like; of all channels
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
        if self.guide is not None and self.channel is not None:
            raise ValueError(f"{name}: a guide is for all channels; leave out channel {self.channel}")
        if self.guide is not None and len(self.guide) != shape[1]:
            raise ValueError(f"{name} has {shape[1]} channels, the guide {len(self.guide)}")


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


def channels(model: nn.Module) -> int:
    """Of the pictures that a network takes: what its first convolution or, for an MLP, its shape says."""
    shape = getattr(model, "options", {}).get("shape")
    if shape:
        return shape[0]
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.weight.shape[1] * module.groups
    raise ValueError(f"{type(model).__name__} has no convolution; a dream takes a network of pictures of any size")


# ---- by how much they change --------------------------------------------------------------------------------------------

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
    border = tile // 4 // GRID * GRID if max(H, W) > tile else 0
    core = tile - 2 * border
    for i in range(0, H, core):
        for j in range(0, W, core):
            top, left = max(0, i - border), max(0, j - border)
            part = np.ascontiguousarray(x[:, :, top:i + core + border, left:j + core + border])
            inside = (..., slice(i - top, i - top + core), slice(j - left, j - left + core))
            yield part, inside, (..., slice(i, i + core), slice(j, j + core))
