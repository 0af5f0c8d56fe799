"""Padding: a tensor surrounded by a constant, or by what its own borders say."""

from __future__ import annotations

import numpy as np

from scratchnn.ops.resize import take_grid
from scratchnn.ops.shape import pad_constant
from scratchnn.tensor import Tensor

MODES = ("constant", "reflect", "replicate", "circular")


def pad(input: Tensor, pad, mode: str = "constant", value: float | None = None) -> Tensor:
    """Surrounded on both sides of its last dimensions. `pad` = (left, right, top, bottom, ...): pairs from the last one on, negative to
    crop.

    constant    by `value`, 0 by default; any number of dimensions
    reflect     by its mirror image, the border itself not repeated: 3 2 [1 2 3 4] 3 2; a width must be less than the size
    replicate   by its border: 1 1 [1 2 3 4] 4 4
    circular    by itself again: 3 4 [1 2 3 4] 1 2; a width must be at most the size

    The last three take one pair for (N, C, L) or (C, L), and two for (N, C, H, W) or (C, H, W).
    """
    if mode not in MODES:
        raise ValueError(f"pad: mode {mode!r} is not known; {', '.join(map(repr, MODES))} are")
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ValueError(f"pad: {tuple(pad)} must be pairs, at most one for each of the {input.ndim} dimensions")
    pairs = [tuple(pad[i:i + 2]) for i in range(0, len(pad), 2)][::-1]
    if mode == "constant":
        return pad_constant(input, ((0, 0),) * (input.ndim - len(pairs)) + tuple(pairs), 0.0 if value is None else value)
    if value is not None:
        raise ValueError(f"pad: mode {mode!r} takes no value, got {value}")
    if len(pairs) not in (1, 2) or input.ndim - len(pairs) not in (1, 2):
        raise ValueError(f"pad: mode {mode!r} takes 2 numbers for (N, C, L) or (C, L) and 4 for (N, C, H, W) or (C, H, W), not {len(pad)} "
                         f"for shape {input.shape}")
    return take_grid(input, tuple(_around(mode, n, *pair) for n, pair in zip(input.shape[-len(pairs):], pairs, strict=True)))


def _around(mode, size, before, after):
    """Which element lies at each place of a dimension with so many more before and after."""
    kept = size + min(before, 0) + min(after, 0)
    most = {"reflect": size - 1, "replicate": max(before, after) if size else 0, "circular": kept}[mode]
    if max(before, after) > most or kept < 0:
        raise ValueError(f"pad: widths {before} and {after} do not fit a dimension of size {size}; mode {mode!r} takes at most {most}, "
                         f"and cropping at most {size} in all")
    if mode == "circular":                                             # of what is left after cropping, as in torch
        return max(-before, 0) + np.arange(-max(before, 0), kept + max(after, 0)) % max(kept, 1)
    place = np.arange(-before, size + after)
    return size - 1 - np.abs(size - 1 - np.abs(place)) if mode == "reflect" else np.clip(place, 0, size - 1)
