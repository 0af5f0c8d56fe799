"""Augment: pictures changed at random each time they are seen, so that a network learns what does not matter for the class."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

import kernels
from kernels.shapes import Distortion


@dataclass(frozen=True)
class Augment:
    """What may be changed of a picture (C, H, W), pixels in 0..1, and how far; each picture is changed in its own way.

    shift        to any side, as a share of the picture's shorter side; what comes into view is `fill`
    rotate       degrees, clockwise or against
    scale        share: sizes from 1 / (1 + scale) to 1 + scale
    shear        degrees by which vertical lines slant
    elastic      share of the shorter side: standard deviation of the displacement of each point, which its neighbours share: a cubic
                 B-spline whose coefficients are random, after Ronneberger, Fischer & Brox 2015 (section 3.1, bicubic there), and for
                 handwriting Simard, Steinkraus & Platt 2003
    spacing      from one node to the next, as a share of the shorter side
    flip         probability of left for right
    brightness   share: pixels times 1 - brightness to 1 + brightness, but no brighter than 1
    share        of the pictures that are changed; the others are flipped and cut out alone, so that their pixels stay as sharp as those
                 which the network is used on
    fill         the brightness around a picture, for those on light paper
    crop         (h, w) pixels of a piece that is cut out anywhere, or None

    Called as the `transform` of a DataLoader, it changes the first array of a batch and leaves the others alone. Picture number n of a
    call depends on the generator's state and n alone. Raises ValueError for values outside of their range.
    """

    shift: float = 0
    rotate: float = 0
    scale: float = 0
    shear: float = 0
    elastic: float = 0
    spacing: float = 0.3
    flip: float = 0
    brightness: float = 0
    share: float = 1
    fill: float = 0
    crop: tuple[int, int] | None = None

    def __post_init__(self):
        limits = {"shear": 89, "flip": 1, "brightness": 1, "share": 1, "fill": 1}
        for name, value in asdict(self).items():
            low = 0.01 if name == "spacing" else 0
            if name != "crop" and not (low <= value <= limits.get(name, math.inf) and math.isfinite(value)):
                raise ValueError(f"Augment: {name} is {low} to {limits.get(name, 'any finite number')}, got {value}")
        if self.crop is not None and (not isinstance(self.crop, tuple) or len(self.crop) != 2 or min(self.crop) < 1):
            raise ValueError(f"Augment: crop is (height, width) in pixels, got {self.crop}")
        if self.fill and self.brightness:
            raise ValueError("Augment: with brightness, what comes into view is black; leave out fill")

    def __call__(self, x: np.ndarray, *others):
        """(changed pictures, other arrays): the last argument is the generator that is drawn from."""
        *others, generator = others
        size = self.crop or x.shape[-2:]
        side = min(x.shape[-2:])
        distortion = Distortion(side * self.shift, math.radians(self.rotate), math.log1p(self.scale), math.tan(math.radians(self.shear)),
                                self.flip, self.brightness, side * self.elastic, side * self.spacing, self.share)
        start = generator.take(len(x) * kernels.augment_blocks(distortion, size))
        fill = x.dtype.type(self.fill)
        changed = kernels.augment(x - fill, *start, distortion, size) + fill                 # the kernel's outside is 0
        return (changed, *others) if others else changed


DRAWINGS = Augment(shift=0.08, rotate=14, scale=0.15, shear=10, elastic=0.035, share=0.75)    # grey: digits, glyphs, clothes
PHOTOGRAPHS = Augment(shift=0.1, rotate=8, scale=0.15, flip=0.5, brightness=0.2)
NAMED = {"none": None, "drawings": DRAWINGS, "photographs": PHOTOGRAPHS}


def augmentation(text: str) -> Augment | None:
    """What an option says: a name of NAMED, or settings as in "shift=0.1,rotate=10,crop=24x24". Raises ValueError."""
    if text in NAMED:
        return NAMED[text]
    settings = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if name not in Augment.__dataclass_fields__:
            raise ValueError(f"augmentation {name!r} is not known; choose {', '.join(NAMED)}, or settings as in shift=0.1,rotate=10, of "
                             f"{', '.join(Augment.__dataclass_fields__)}")
        try:
            settings[name] = tuple(int(n) for n in value.split("x")) if name == "crop" else float(value)
        except ValueError:
            raise ValueError(f"augmentation {name} cannot be {value!r}") from None
    return Augment(**settings)
