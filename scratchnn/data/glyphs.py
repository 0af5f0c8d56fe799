"""`glyphs`: digits of many typefaces, each drawn a little otherwise: as large as MNIST and in its conventions, but without a download."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

import kernels
from scratchnn.data.dataset import DataSet
from scratchnn.data.generated import generated
from scratchnn.ops.sampling import rand, randint, randn

# The fonts that come with matplotlib and have digits, each with the code of its 0. STIXGeneral holds several sets of digits; cmex10,
# cmsy10 and LastResortHE have other signs in their place.
FONTS = [*((name, ord("0")) for name in (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
    "cmb10", "cmmi10", "cmr10", "cmss10", "cmti10", "cmtt10")),
    ("STIXGeneral", 0x1D7E2), ("STIXGeneral", 0x1D7EC), ("STIXGeneral", 0x1D7F6)]       # sans-serif, sans-serif bold, monospaced

SIDE, BOX = 28, 20             # pixels: a picture, and the square that a digit fills in one direction, both as in MNIST
FINE, REDUCED = 6, 3           # glyphs are drawn FINE times as large, and their distances reduced REDUCED times
ZOOM = FINE / REDUCED          # pixels of a map of distances for one of a picture
MARGIN = 7                     # pixels of a picture around the digit's square in a map: the mass of a 7 lies 4 above its middle
REACH = 2                      # pixels of a picture from a digit's edge up to which distances are known
ELASTIC, SMOOTH = 13, 4        # Simard's strength and standard deviation, in pixels: points move by 0.9 pixels, root mean square
BATCH = 500                    # pictures drawn at a time, so that the maps, noise and fields in between take little memory


def glyphs(train: int = 60_000, test: int = 10_000) -> DataSet:
    """Digits 0-9 of the 25 typefaces that come with matplotlib, 28x28 pixels, 60,000 to learn from and 10,000 to test. No download.

    A drop-in for MNIST in its conventions: bright on black, in 20x20 pixels, centred by mass. Each picture is shifted, turned, scaled,
    sheared, distorted elastically (Simard, Steinkraus & Platt 2003) and has strokes of its own thickness. Both parts use the same
    typefaces; their distortions are drawn independently. Labels are balanced and in random order. Every call returns the same
    pictures; another version of matplotlib or Pillow may change them. Other counts than the usual ones are for quick trials.

    Raises FileNotFoundError if matplotlib was installed without its fonts.
    """
    return generated("glyphs", tuple("0123456789"), _pictures, train, test)


# ---- typefaces ------------------------------------------------------------------------------------------------------

@cache
def _distance_maps():
    """(fonts, 10, 1, S, S) float32: how far each point lies inside its digit's edge, in pixels of a picture, plus REACH, limited to
    0..2 REACH. The digit's centre of mass is in the middle, and 0 lies outside, so that `warp` extends a map as it should.

    The level REACH of such a map is the digit's outline; other levels are outlines of thinner or thicker strokes, sharp at any size.
    """
    import matplotlib
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    missing = {f"{name}.ttf" for name, _ in FONTS if not (folder / f"{name}.ttf").is_file()}
    if missing:
        raise FileNotFoundError(f"glyphs: matplotlib's fonts {', '.join(sorted(missing))} are not in {folder}; install matplotlib by pip, "
                                "which brings them, or use another set, such as digits")
    return np.stack([[[_distance_map(folder / f"{name}.ttf", chr(zero + digit))] for digit in range(10)] for name, zero in FONTS])


def _distance_map(path, character):
    """The map (S, S) of one character."""
    from scipy import ndimage
    ink = _drawn(path, character)
    inside = ndimage.distance_transform_edt(ink) - ndimage.distance_transform_edt(~ink)
    inside -= 0.5 * np.sign(inside)                                        # the edge lies half-way between two pixels
    fine = np.clip(inside / FINE, -REACH, REACH) + REACH
    side = len(fine) // REDUCED
    return fine.reshape(side, REDUCED, side, REDUCED).mean((1, 3), dtype=np.float32)


def _drawn(path, character):
    """The character's ink, (S, S) bool, S = FINE (BOX + 2 MARGIN): FINE BOX pixels high or wide, centred by mass."""
    from PIL import Image, ImageDraw, ImageFont
    side, box = FINE * (BOX + 2 * MARGIN), FINE * BOX
    basic = ImageFont.Layout.BASIC                                         # of the two ways to place text the one that is always there
    left, top, right, bottom = ImageFont.truetype(path, 100, layout_engine=basic).getbbox(character)
    font = ImageFont.truetype(path, 100 * box / max(right - left, bottom - top), layout_engine=basic)
    image = Image.new("L", (side, side))
    left, top, right, bottom = font.getbbox(character)
    ImageDraw.Draw(image).text(((side - right - left) // 2, (side - bottom - top) // 2), character, fill=255, font=font)
    ink = np.asarray(image) > 127
    return np.roll(ink, np.round((side - 1) / 2 - np.argwhere(ink).mean(0)).astype(int), (0, 1))


# ---- pictures -------------------------------------------------------------------------------------------------------

def _pictures(labels, generator):
    """Pictures (N, 1, 28, 28) of the digits `labels` (N,), each in a typeface drawn at random."""
    maps = _distance_maps()
    fonts = randint(0, len(maps), labels.shape, generator).numpy()
    out = np.empty((len(labels), 1, SIDE, SIDE), np.float32)
    for start in range(0, len(labels), BATCH):
        part = slice(start, start + BATCH)
        out[part] = _distorted(maps[fonts[part], labels[part]], generator)
    return out


def _distorted(maps, generator):
    """A picture (N, 1, 28, 28) of each map (N, 1, S, S). What is drawn: lengths in pixels of a picture, angles in radians."""
    def uniform(low, high, *shape):
        return low + (high - low) * rand(len(maps), *shape, generator=generator).numpy()

    scale, width = np.exp(uniform(-0.3, 0.05)), np.exp(uniform(-0.25, 0.15))
    angle, slant, shift = uniform(-0.35, 0.35), uniform(-0.35, 0.35), uniform(-1.5, 1.5, 2)
    thicker, sharpness = uniform(-0.1, 0.7), uniform(0.6, 1)
    bend = ELASTIC * kernels.gaussian_blur(randn(len(maps), 2, SIDE, SIDE, generator=generator).numpy(), SMOOTH)

    inside = kernels.warp(maps, _affine(scale, width, angle, slant, shift), ZOOM * bend, (SIDE, SIDE)) - REACH
    inside += thicker[:, None, None, None]
    return np.clip(inside * (scale * sharpness)[:, None, None, None] + 0.5, 0, 1)


def _affine(scale, width, angle, slant, shift):
    """(N, 2, 3): from places in a picture to those in a map. Undoes, in this order, a shift, a rotation, a slant and the scaling of
    both axes and of x alone."""
    cos, sin = np.cos(angle), np.sin(angle)
    y, x = np.stack([cos, -sin], 1), np.stack([sin, cos], 1)                           # (N, 2) rows of a rotation
    turn = np.stack([y, (x + slant[:, None] * y) / width[:, None]], 1)                 # (N, 2, 2)
    origin = -(turn * shift[:, None]).sum(2, keepdims=True)                            # (N, 2, 1): minus turn times shift
    return np.concatenate([turn, origin], 2) * (ZOOM / scale)[:, None, None]
