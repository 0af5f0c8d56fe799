"""Pictures of data, networks and training, written as PNG files. Matplotlib is imported when the first one is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

Curve = tuple[np.ndarray, np.ndarray]   # steps, values

INK, RED, GREY = "#20304a", "#c8442f", "#8a93a3"
PALETTE = ("#2f6db3", "#c8442f", "#3a9a6b", "#d99a2b", "#7a5aa6", "#5b6472")
HEAT = (0.86, 0.16, 0.06)
LINE, UNKNOWN = (0.84, 0.86, 0.89), (0.98, 0.91, 0.76)      # between pictures; pixels that are not known
STYLE = {"font.family": "sans-serif", "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY,
         "xtick.color": INK, "ytick.color": INK, "axes.titlesize": 10, "axes.titlelocation": "left", "figure.titlesize": 12,
         "figure.titleweight": "bold", "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 150,
         "figure.constrained_layout.w_pad": 0.1}


def confusion_matrix(path: str | Path, matrix: np.ndarray, classes: Sequence[str], title: str = "") -> None:
    """How often each class was taken for which: `matrix` of metrics.confusion_matrix, right answers in blue, mistakes in red."""
    n = len(classes)
    right = np.eye(n, dtype=bool)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    mistakes = np.where(right, 0, matrix)
    with _figure(path, (0.52 * n + 1.6, 0.52 * n + 1.4), title) as figure:
        axes = figure.subplots()
        axes.imshow(np.ma.masked_array(share, ~right), cmap="Blues", vmin=-0.2, vmax=1.6)
        axes.imshow(np.ma.masked_array(mistakes, right | (matrix == 0)), cmap="Reds", vmin=-0.25 * max(mistakes.max(), 1),
                    vmax=2 * max(mistakes.max(), 1))
        for row, column in zip(*np.nonzero(matrix), strict=True):
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", weight="bold" if row == column else "normal")
        for row in range(n):
            axes.text(n - 0.35, row, f"{100 * share[row, row]:.1f} %", va="center", color=GREY)
        axes.set_xticks(range(n), classes)
        axes.set_yticks(range(n), classes)
        axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#e4e7ec", linewidth=0.8)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="taken for", ylabel="class")


def image_grid(path: str | Path, images: np.ndarray, captions: Sequence[str] = (), title: str = "", columns: int = 8) -> None:
    """Pictures (N, C, H, W) in 0..1, C being 1 or 3, in rows of `columns`, each above its caption."""
    columns = min(columns, len(images))
    rows, width = -(-len(images) // columns), max(1.15, _inches(captions))
    with _figure(path, (width * columns + 0.2, (1.42 if captions else 1.15) * rows + 0.5), title) as figure:
        cells = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in cells:
            axes.set_axis_off()
        for axes, image in zip(cells, images, strict=False):
            axes.imshow(_colours(image), interpolation="nearest")
        for axes, caption in zip(cells, captions, strict=False):
            axes.set_title(caption, y=-0.08, loc="center", va="top", fontsize=8, linespacing=1.25).set_in_layout(False)


def side_by_side(path: str | Path, images: Sequence[np.ndarray], captions: Sequence[str] = (), title: str = "") -> None:
    """Photographs (3, H, W) in 0..1 of one size beside each other, each above its lines of text."""
    H, W = images[0].shape[1:]
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    with _figure(path, (5.2 * len(images), 5.1 * H / W + 0.19 * lines + (0.3 if title else 0.1)), title) as figure:
        for axes, image, caption in zip(figure.subplots(1, len(images)), images, captions, strict=True):
            axes.imshow(image.transpose(1, 2, 0).clip(0, 1))
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.set_xlabel(caption, loc="left", fontsize=9)


def image_table(path: str | Path, images: np.ndarray, rows: Sequence[str] = (), columns: Sequence[str] = (), title: str = "") -> None:
    """Pictures (rows, columns, C, H, W) in 0..1, C being 1 or 3, NaN where nothing is known, with names for rows and columns."""
    R, K, _, H, W = images.shape
    size = max(0.26, min(0.62, 9 / K))                                         # inches of a picture's width
    with _figure(path, (size * K + (1.0 if len(rows) else 0.2), size * H / W * R + 0.6), title) as figure:
        axes = figure.subplots()
        axes.imshow(_sheet(images), interpolation="nearest")
        axes.set_xticks(np.arange(K) * (W + 1) + 0.5 * (W + 1), columns or [""] * K)
        axes.set_yticks(np.arange(R) * (H + 1) + 0.5 * (H + 1), rows or [""] * R)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)


def heat_maps(path: str | Path, images: np.ndarray, maps: Mapping[str, np.ndarray], captions: Sequence[str] = (), title: str = "") -> None:
    """Pictures (N, C, H, W) in 0..1 above their captions, and under them a row for each name: its maps (N, H, W) over faint copies of the
    pictures, each map on its own scale from its least, or 0, to its largest value."""
    N, width = len(images), max(1.3, _inches(captions))
    with _figure(path, (width * N + 0.2, 1.3 * len(maps) + 1.75), title) as figure:
        cells = figure.subplots(1 + len(maps), N, squeeze=False, gridspec_kw={"height_ratios": [1] + [1] * len(maps)})
        for axes in cells.ravel():
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for n, image in enumerate(images):
            colours = _colours(image)
            cells[0, n].imshow(colours, interpolation="nearest")
            cells[0, n].set_xlabel(captions[n] if captions else "", fontsize=8)
            faint = 1 - 0.5 * (1 - colours.mean(2, keepdims=True).repeat(3, 2))
            for row, heat in enumerate(maps.values(), 1):
                least, most = max(0, heat[n].min()), heat[n].max()
                strength = ((heat[n] - least) / max(most - least, 1e-12)).clip(0, 1)[:, :, None]
                cells[row, n].imshow((faint * (1 - strength) + np.array(HEAT) * strength).clip(0, 1), interpolation="nearest")
        for row, name in enumerate(maps, 1):
            cells[row, 0].set_ylabel(name)


def animation(path: str | Path, images: np.ndarray, columns: int, milliseconds: int = 80) -> None:
    """A GIF that runs for ever: images (time, N, C, H, W) in 0..1, each moment a table of N pictures in rows of `columns`."""
    from PIL import Image
    N, *shape = images.shape[1:]
    if N % columns:
        raise ValueError(f"{N} pictures do not fill rows of {columns}")
    zoom = max(1, round(480 / (columns * shape[2])))
    sheets = (_sheet(moment.reshape(-1, columns, *shape)).repeat(zoom, 0).repeat(zoom, 1) for moment in images)
    frames = [Image.fromarray(np.rint(255 * sheet).astype(np.uint8)) for sheet in sheets]
    palette = frames[0].quantize(64)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)


def save(path: str | Path, image: np.ndarray) -> None:
    """One picture (3, H, W) in 0..1 as a PNG, pixel by pixel."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    _photograph(image).save(path)


def moving_photograph(path: str | Path, images: np.ndarray, milliseconds: int = 80) -> None:
    """A GIF of photographs (time, 3, H, W) in 0..1 that runs for ever, each with colours of its own."""
    first, *others = [_photograph(image).quantize(256) for image in images]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0)


def _photograph(image):
    from PIL import Image
    return Image.fromarray(np.rint(255 * image.transpose(1, 2, 0).clip(0, 1)).astype(np.uint8))


class Film:
    """What a training makes of the same noise, moment by moment, for a GIF at its end. Part of a Run, it survives an interruption."""

    def __init__(self):
        self.moments = []

    def add(self, images: np.ndarray) -> None:
        """Keep pictures (N, C, H, W) in 0..1, in 8 bits."""
        self.moments.append(np.rint(255 * images.clip(0, 1)).astype(np.uint8))

    def write(self, path: str | Path, columns: int, milliseconds: int = 120) -> None:
        """An animation of all moments, of which the last one stays for a while."""
        moments = [*self.moments, *[self.moments[-1]] * 10]
        animation(path, np.stack(moments) / np.float32(255), columns, milliseconds)

    def state_dict(self) -> dict:
        return {"moments": self.moments}

    def load_state_dict(self, state: dict) -> None:
        self.moments = state["moments"]


def _inches(captions):
    """The width of the longest line of small captions."""
    return 0.075 * max((len(line) for caption in captions for line in caption.split("\n")), default=0)


def _sheet(images):
    """(rows, columns, C, H, W) -> one picture (., ., 3) with lines of one pixel around each."""
    R, K, _, H, W = images.shape
    sheet = np.broadcast_to(np.array(LINE), (R * (H + 1) + 1, K * (W + 1) + 1, 3)).copy()
    for row in range(R):
        for column in range(K):
            sheet[row * (H + 1) + 1:(row + 1) * (H + 1), column * (W + 1) + 1:(column + 1) * (W + 1)] = _colours(images[row, column])
    return sheet


def _colours(image):
    """(C, H, W) -> (H, W, 3): of one channel, ink on paper; NaN in a colour that neither has."""
    pixels = image.transpose(1, 2, 0).clip(0, 1)
    pixels = np.repeat(1 - pixels, 3, 2) if len(image) == 1 else pixels
    return np.where(np.isnan(pixels), np.array(UNKNOWN), pixels)


def scatter(path: str | Path, points: Mapping[str, np.ndarray], title: str = "") -> None:
    """Points (N, 2) in panels side by side, one for each name, all on the scale of the first."""
    first, *_ = points.values()
    low, high = first.min(0), first.max(0)
    margin = 0.08 * (high - low).max()
    with _figure(path, (3.6 * len(points), 3.6 * min(1.2, max(0.6, (high - low)[1] / (high - low)[0])) + 0.6), title) as figure:
        for axes, (name, xy) in zip(figure.subplots(1, len(points), squeeze=False)[0], points.items(), strict=True):
            axes.scatter(*xy.T, s=4, color=PALETTE[0], alpha=0.35, linewidths=0)
            axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin), aspect="equal", title=name)


def manifold(path: str | Path, generate: Callable[[np.ndarray], np.ndarray], side: int = 20, title: str = "") -> None:
    """What two standard normal latents make: pictures at side x side points, each of which has as much probability around it (Kingma &
    Welling 2014, figure 4). generate: (side, side, 2) -> (side, side, C, H, W) in 0..1."""
    from scipy.special import ndtri
    at = ndtri((np.arange(side) + 0.5) / side).astype(np.float32)
    images = generate(np.stack(np.meshgrid(at, -at), -1))
    image_table(path, images, title=title)


def filters(path: str | Path, weight: np.ndarray, shape: Sequence[int], title: str = "", columns: int = 12,
            count: int = 96) -> None:
    """What the units of a first layer look for: rows of `weight` (units, C*H*W) as pictures of `shape` (C, H, W), averaged over C.

    The `count` units with the largest weights, each on its own scale: blue asks for bright pixels, of drawings ink, red for dark ones.
    """
    strongest = np.argsort(-np.linalg.norm(weight, axis=1), kind="stable")[:count]
    pictures = weight[strongest].reshape(-1, *shape).mean(1)
    pictures = pictures / np.abs(pictures).max((1, 2), keepdims=True).clip(1e-12)
    columns = min(columns, len(pictures))
    height, width = shape[1] + 1, shape[2] + 1                                 # one pixel of gap
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * height - 1, columns * width - 1), np.nan)
    for i, picture in enumerate(pictures):
        y, x = i // columns * height, i % columns * width
        sheet[y:y + shape[1], x:x + shape[2]] = picture
    with _figure(path, (0.75 * columns, 0.75 * rows + 0.5), title) as figure:
        axes = figure.subplots()
        axes.imshow(sheet, cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_axis_off()


def curves(path: str | Path, panels: Mapping[str, Mapping[str, Curve]], title: str = "", log: bool = True) -> None:
    """Learning curves: a panel for each name (its y label), in it a curve of (steps, values) for each label.

    Of a noisy curve of many points, its running mean is drawn strong and the points themselves faint. `log`: logarithmic y axes
    where all values are positive.
    """
    from matplotlib.ticker import LogLocator, NullFormatter
    with _figure(path, (4.6 * len(panels), 3.4), title) as figure:
        for axes, (name, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            for colour, (label, (steps, values)) in zip(PALETTE, lines.items(), strict=False):
                window = len(values) // 50
                if window > 2:
                    axes.plot(steps, values, color=colour, alpha=0.18, linewidth=0.8)
                    steps, values = steps[window - 1:], np.convolve(values, np.full(window, 1 / window), "valid")
                axes.plot(steps, values, color=colour, linewidth=1.8, label=label)
            if log and all((values > 0).all() for _, values in lines.values()):
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.yaxis.set_major_formatter("{x:g}")
                axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set(xlabel="step", title=name)
            axes.grid(color="#e4e7ec", linewidth=0.8)
            if len(lines) > 1:
                axes.legend(frameon=False)


def piano_rolls(path: str | Path, rolls: Mapping[str, np.ndarray], quarter: int, title: str = "") -> None:
    """Piano rolls (T, 88), column = MIDI note - 21, one above the other under their names: time in quarters to the right, keys upwards,
    all on the same keys; the highest sounding key of each step in red."""
    keys = np.flatnonzero(np.any([roll.any(0) for roll in rolls.values()], 0))
    low, high = (max(keys[0] - 3, 0), min(keys[-1] + 4, 88)) if len(keys) else (27, 64)
    with _figure(path, (11, (0.4 + 0.026 * (high - low)) * len(rolls) + 0.9), title) as figure:
        for axes, (name, roll) in zip(figure.subplots(len(rolls), 1, squeeze=False)[:, 0], rolls.items(), strict=True):
            for key in range(low, high):
                if (key + 21) % 12 in (1, 3, 6, 8, 10):
                    axes.axhspan(key + 20.5, key + 21.5, color="#f1f3f6", linewidth=0)
                ends = np.flatnonzero(np.diff(roll[:, key].astype(int), prepend=0, append=0))
                top = np.array([not roll[start, key + 1:].any() for start in ends[::2]], bool)
                for chosen, colour in ((top, RED), (~top, PALETTE[0])):
                    bars = [(start / quarter, (end - start) / quarter - 0.06) for start, end in zip(ends[::2][chosen], ends[1::2][chosen],
                                                                                                    strict=True)]
                    axes.broken_barh(bars, (key + 20.6, 0.8), color=colour, linewidth=0)
            octaves = [note for note in range(24, 109, 12) if low <= note - 21 < high]
            axes.set_axisbelow(True)
            axes.set(xlim=(0, len(roll) / quarter), ylim=(low + 20.5, high + 20.5), title=name)
            axes.set_yticks(octaves, [f"C{note // 12 - 1}" for note in octaves])
            axes.grid(axis="y", color="#d5d9e0", linewidth=0.8)
        axes.set_xlabel("quarters")


def histograms(path: str | Path, found: Mapping[str, Mapping[str, tuple[Sequence[str], np.ndarray]]], title: str = "") -> None:
    """Shares as bars side by side: a panel for each quantity, in it bars of a colour for each source; found[source][quantity] = (labels,
    shares)."""
    quantities = list(next(iter(found.values())))
    with _figure(path, (4.6 * len(quantities), 3.2), title) as figure:
        for axes, quantity in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
            for i, (source, panels) in enumerate(found.items()):
                labels, shares = panels[quantity]
                width = 0.8 / len(found)
                axes.bar(np.arange(len(labels)) + (i + 0.5) * width - 0.4, 100 * shares, width, color=PALETTE[i], label=source)
            shown = range(0, len(labels), 1 + len(labels) // 17)
            axes.set_xticks(shown, [labels[i] for i in shown])
            axes.set(title=f"{quantity} (percent)")
        axes.legend(frameon=False)


def sounds(path: str | Path, rows: Mapping[str, Sequence[np.ndarray]], rate: int, columns: Sequence[str], title: str = "") -> None:
    """Waveforms and spectrograms of sounds (N,) in -1..1: a row for each name, in it a pair for each of the columns, at most two seconds of
    each. Frequencies up to half the rate, 70 dB from the loudest to paper; waveforms of a column on one scale."""
    from scratchnn.data.spectrum import spectrogram
    size = 1 << int(np.log2(0.04 * rate))
    with _figure(path, (5.6 * len(columns), 1.15 * len(rows) + 0.7), title) as figure:
        cells = figure.subplots(len(rows), 2 * len(columns), squeeze=False)
        for k, column in enumerate(columns):
            shown = [sounds[k][:2 * rate] for sounds in rows.values()]
            peak = max(max(abs(sound).max(initial=0) for sound in shown), 1e-6)
            for row, sound in enumerate(shown):
                wave, picture, seconds = cells[row, 2 * k], cells[row, 2 * k + 1], len(sound) / rate
                wave.plot(np.arange(len(sound)) / rate, sound, color=PALETTE[k], linewidth=0.4)
                wave.set(ylim=(-1.05 * peak, 1.05 * peak), xlim=(0, seconds or 1), yticks=[])
                level = 20 * np.log10(spectrogram(sound, size, size // 8).T + 1e-9) if len(sound) else np.zeros((1, 1))
                picture.imshow(level, origin="lower", aspect="auto", cmap="magma_r", vmax=level.max(), vmin=level.max() - 70,
                               extent=(0, seconds or 1, 0, rate / 2000))
            cells[0, 2 * k].set_title(column)
            cells[0, 2 * k + 1].set_title("kHz")
        for row, name in enumerate(rows):
            cells[row, 0].set_ylabel(name)
        for axes in cells[-1]:
            axes.set_xlabel("seconds")


class _figure:
    """A figure (size in inches) that is written to `path` at the end of the with block. No global state, no window."""

    def __init__(self, path, size, title):
        self.path, self.size, self.title = Path(path), size, title

    def __enter__(self):
        import matplotlib
        from matplotlib.figure import Figure
        self.context = matplotlib.rc_context(STYLE)
        self.context.__enter__()
        self.figure = Figure(figsize=self.size, layout="constrained")
        if self.title:
            self.figure.suptitle(self.title, x=0.01, ha="left")
        return self.figure

    def __exit__(self, kind, *details):
        try:
            if kind is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.figure.savefig(self.path)
        finally:
            self.context.__exit__(None, None, None)


def plane(path: str | Path, ends: tuple[np.ndarray, np.ndarray], panels: Mapping[str, tuple]) -> None:
    """Maps of the plane side by side, with points on them.

    ends     its corners (2,), (2,)
    panels   by name: (p, log_p, points, y), each of which may be None: probabilities p (H, W, classes) from the lowest row on, or the
             logarithm of a density (H, W); points (N, 2) and their classes y (N,)
    """
    from matplotlib.colors import to_rgb
    colours, (left, bottom), (right, top) = np.array([to_rgb(colour) for colour in PALETTE]), *ends
    height = 3.4 * min(1.4, max(0.5, (top - bottom) / (right - left)))
    with _figure(path, (3.4 * len(panels), height + 0.35), "") as figure:
        for axes, (name, (p, log_p, points, y)) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            where = {"extent": (left, right, bottom, top), "origin": "lower", "aspect": "auto"}
            if p is not None:
                pale = 1 - 0.55 * (1 - colours[np.arange(p.shape[-1]) % len(colours)])
                axes.imshow((p[..., None] * pale).sum(-2).clip(0, 1), **where)
            if log_p is not None:
                axes.imshow(np.exp((log_p - log_p.max()) / 2), cmap="Greys", **where)
            if points is not None:
                axes.scatter(*points.T, s=3, c=colours[y % len(colours)], alpha=0.5, linewidths=0)
            axes.set(xlim=(left, right), ylim=(bottom, top), title=name, xticks=(), yticks=())
            axes.spines[:].set_visible(True)
