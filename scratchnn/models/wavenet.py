"""WaveNet: a causal convolutional network that hears a sound sample by sample, says which one comes next, and speaks by taking its own
word for it.

A sound's probability is a product, p(x) = prod_t p(x_t | x_1 .. x_t-1), as a text's is; here each factor looks at a fixed stretch of the
past, the receptive field, through layers whose dilations double (A. van den Oord et al. 2016, "WaveNet: a generative model for raw audio").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import kernels
import scratchnn as snn
import scratchnn.nn.functional as F
from kernels.shapes import LEVELS, LOWEST_LOG_SCALE, WaveNetModel
from scratchnn import checkpoint, nn
from scratchnn.data.audio import as_float, mu_law_decode, mu_law_encode
from scratchnn.data.clips import frames_of, stacked, stretches
from scratchnn.models.classifier import evaluating
from scratchnn.nn import init
from scratchnn.nn.parameter import empty_parameter
from scratchnn.ops import wavenet
from scratchnn.random import Generator, default_generator
from scratchnn.tensor import Tensor

HELD = 16            # samples for which frames say the same; said anew for each, it would take 4.6 kB in a network of 18 layers of 32
FIRST_LOG_SCALE = -4.0
POSITIONS = 1 << 15  # that are taken at once where no gradient is wanted


def doubling(blocks: int = 2, layers: int = 9) -> tuple[int, ...]:
    """Dilations 1, 2, 4, ..., 2^(layers - 1), over again in each block (section 2.1)."""
    return tuple(2 ** i for i in range(layers)) * blocks


# ---- what comes in and out ------------------------------------------------------------------------------------------------

class MuLaw(nn.Module):
    """Samples as classes of mu-law, of which the network says one logit each (section 2.2)."""

    def __init__(self, classes: int, residual: int):
        super().__init__()
        self.outputs, self.input = classes, nn.Embedding(classes, residual)

    def encode(self, take: np.ndarray) -> np.ndarray:
        """int16 -> class numbers, int64."""
        return mu_law_encode(as_float(take), self.outputs)

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """The inverse, as near as a class's middle is."""
        return np.rint(LEVELS * mu_law_decode(ids, self.outputs)).clip(-LEVELS, LEVELS - 1).astype(np.int16)

    def nats(self, outputs: Tensor, target: np.ndarray) -> Tensor:
        """-log p (P,) of classes (P,), given outputs (P, classes)."""
        return F.cross_entropy(outputs, Tensor(target), reduction="none")


class Logistics(nn.Module):
    """Samples as numbers in -1..1 in steps of 16 bits, of which the network says logits, means and logarithms of scales of so many logistic
    distributions (T. Salimans, A. Karpathy, X. Chen & D. Kingma 2017, "PixelCNN++", section 2.1)."""

    def __init__(self, mixtures: int, residual: int):
        super().__init__()
        self.outputs, self.input = 3 * mixtures, nn.Linear(1, residual)
        init.normal_(self.input.weight)

    def encode(self, take: np.ndarray) -> np.ndarray:
        """int16 -> numbers in -1..1, float32."""
        return as_float(take)

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        return np.rint(LEVELS * numbers).astype(np.int16)

    def nats(self, outputs: Tensor, target: np.ndarray) -> Tensor:
        """-log p (P,) of the levels (P,), given outputs (P, 3 M): of each logistic, the mass from half a level below to half a level above,
        of the two last levels with all that lies beyond. With a and b the ends in units of the scale,

            log(sigmoid(b) - sigmoid(a)) = log sigmoid(b) + log sigmoid(-a) + log(1 - exp(a - b)),

        whose last term needs the scale alone: nothing cancels, however far the level is from the mean."""
        logits, means, scales = snn.chunk(outputs, 3, -1)
        inverse = snn.exp(-snn.clamp(scales, min=LOWEST_LOG_SCALE))
        x, half = Tensor(target[:, None]), 0.5 / LEVELS
        above, below = F.logsigmoid((x + half - means) * inverse), F.logsigmoid((means - x + half) * inverse)
        within = snn.log(-snn.expm1(inverse * (-2 * half)))
        lowest, highest = Tensor(target[:, None] <= -1), Tensor(target[:, None] >= 1 - 1 / LEVELS)
        mass = snn.where(lowest, above, snn.where(highest, below, above + below + within))
        return -snn.logsumexp(F.log_softmax(logits, -1) + mass, -1)


# ---- the network ----------------------------------------------------------------------------------------------------------

class WaveNet(nn.Module):
    """A stack of gated residual layers, and two layers that make outputs of all of them together (figure 4).

    classes     of mu-law, if mixtures is 0;  mixtures   logistics for 16 bits
    residual    channels of the stack;  skip   channels of the layers above it
    dilations   of each layer of the stack
    labels      how many classes there are of each kind that is known of a sound, as (10, 3) for ten digits by three speakers: a global
                condition, which is added before the gates (section 2.5)
    frames      numbers in a frame that says what `hop` samples sound like, 0 for none: a local condition, which a transposed convolution
                spreads over the samples. hop is a multiple of 32

    Raises ValueError where these do not fit together.
    """

    def __init__(self, classes: int = 256, mixtures: int = 0, residual: int = 32, skip: int = 128, dilations: Sequence[int] = doubling(),
                 labels: Sequence[int] = (), frames: int = 0, hop: int = 128):
        super().__init__()
        if min(dilations, default=0) < 1 or min(labels, default=1) < 1 or hop % (2 * HELD) or hop < 1:
            raise ValueError(f"WaveNet: dilations and labels must be at least 1 and hop a multiple of {2 * HELD}, got {dilations}, "
                             f"{labels} and {hop}")
        self.options = {"classes": classes, "mixtures": mixtures, "residual": residual, "skip": skip, "dilations": list(dilations),
                        "labels": list(labels), "frames": frames, "hop": hop}
        self.dilations, layers = tuple(dilations), len(dilations)
        self.samples = Logistics(mixtures, residual) if mixtures else MuLaw(classes, residual)
        self.weight, self.bias = empty_parameter(layers, 2 * residual, residual, 2), empty_parameter(layers, 2 * residual)
        self.residual, self.residual_bias = empty_parameter(layers - 1, residual, residual), empty_parameter(layers - 1, residual)
        self.skip, self.hidden = nn.Linear(layers * residual, skip), nn.Linear(skip, skip)
        self.output = nn.Linear(skip, self.samples.outputs)
        self.labels = nn.ModuleList([nn.Embedding(count, layers * 2 * residual) for count in labels])
        stride = hop // HELD
        self.spread = nn.ConvTranspose1d(frames, frames, 2 * stride, stride, stride // 2) if frames else None
        self.heard = nn.Linear(frames, layers * 2 * residual) if frames else None
        self._initialise(residual)

    def _initialise(self, residual):
        """Weights of the stack as torch has those of convolutions of their size, of what follows a ReLU as He et al. 2015; conditions
        begin small."""
        for parameter, inputs in ((self.weight, 2 * residual), (self.residual, residual)):
            init.uniform_(parameter, -inputs ** -0.5, inputs ** -0.5)
        for bias in (self.bias, self.residual_bias):
            init.zeros_(bias)
        for layer in (self.skip, self.hidden, self.output):
            init.kaiming_normal_(layer.weight, nonlinearity="relu")
            init.zeros_(layer.bias)
        for embedding in self.labels:
            init.normal_(embedding.weight, 0, 0.1)
        if isinstance(self.samples, Logistics):
            self.output.bias.array[2 * len(self.output.bias) // 3:] = FIRST_LOG_SCALE

    @property
    def receptive_field(self) -> int:
        """How many samples a distribution depends on."""
        return 1 + sum(self.dilations)

    @property
    def before(self) -> int:
        """Samples to be heard before the first one of which something is said: the receptive field; with frames, in whole ones, behind
        half a one on which the frame before it has an influence."""
        hop = self.options["hop"] if self.heard else 1
        return -(-(self.receptive_field + hop // 2) // hop) * hop

    def condition(self, labels: Tensor | None = None, frames: Tensor | None = None) -> Tensor | None:
        """What is added before the gates, (N, F, layers * 2 * residual): of labels (N, kinds), of frames (N, F', C), F = F' hop / 16, of
        both or of nothing. Raises ValueError if the model was made for something else."""
        kinds, numbers = len(self.labels), self.options["frames"]
        if (0 if labels is None else labels.shape[1]) != kinds or (0 if frames is None else frames.shape[2]) != numbers:
            raise ValueError(f"WaveNet: made for labels (N, {kinds}) and frames (N, F, {numbers}), got "
                             f"{' and '.join('none' if a is None else str(a.shape) for a in (labels, frames))}")
        found = None
        for kind, embedding in enumerate(self.labels):
            found = embedding(labels[:, kind:kind + 1]) + (0 if found is None else found)
        if numbers:
            heard = self.heard(self.spread(frames.transpose(1, 2)).transpose(1, 2))
            found = heard if found is None else heard + found
        return found

    def forward(self, x: Tensor, labels: Tensor | None = None, frames: Tensor | None = None, first: int = 0) -> Tensor:
        """Outputs (N, T - first, classes or 3 mixtures) for the samples that follow those of x (N, T), as `samples.encode` gives them, from
        the position `first` on; frames are those from the first of x on, ceil(T / hop) of them."""
        T, condition = x.shape[1], self.condition(labels, frames)
        h = self.samples.input(x.unsqueeze(2) if x.is_floating_point() else x)
        if frames is not None:
            h = F.pad(h, (0, 0, 0, condition.shape[1] * HELD - T))
        z = wavenet(h, self.weight, self.bias, self.residual, self.residual_bias, self.dilations, condition)[:, first:T]
        skip = F.linear_relu(z, self.skip.weight, self.skip.bias)
        return self.output(F.linear_relu(skip, self.hidden.weight, self.hidden.bias))

    def loss(self, samples: Tensor, lengths: Tensor, labels: Tensor | None = None, frames: Tensor | None = None) -> tuple[Tensor, int]:
        """Nats of all samples of Clips but the first `before` of each, and how many these are: all of them have a full receptive field."""
        x = self.samples.encode(samples.numpy())
        outputs = self(Tensor(np.ascontiguousarray(x[:, :-1])), labels, frames, self.before - 1)
        kept = np.arange(outputs.shape[1]) < lengths.numpy()[:, None]
        nats = self.samples.nats(outputs.flatten(0, 1), x[:, self.before:].reshape(-1))
        return (nats * Tensor(kept.reshape(-1).astype(np.float32))).sum(), int(kept.sum())

    def bits(self, takes: Sequence[np.ndarray], labels: np.ndarray | None = None,
             frames: Callable[[np.ndarray], np.ndarray] | None = None) -> float:
        """Mean bits of the samples of takes, each (N,) int16, that have a full receptive field within their take; labels (takes, kinds),
        frames makes frames of a take. Raises ValueError if no take has such samples."""
        total, count, hop = 0.0, 0, self.options["hop"]
        step = POSITIONS // hop * hop
        with evaluating(self), snn.no_grad():
            for i, take in enumerate(takes):
                known = frames(take) if frames else None
                for part in stretches(take, range(self.before + step, len(take), step), self.before):
                    if part.stop <= part.start + self.before:
                        continue
                    nats, samples = self.loss(*stacked([take[part]], self.before, None if labels is None else labels[i:i + 1],
                                                       None if known is None else [known[frames_of(part, hop)]]))
                    total, count = total + nats.item(), count + samples
        if not count:
            raise ValueError(f"WaveNet.bits: no take has more than the {self.before:,} samples that are heard before anything is said")
        return total / count / math.log(2)

    # ---- speaking -----------------------------------------------------------------------------------------------------------

    def generate(self, steps: int, labels: np.ndarray | None = None, frames: np.ndarray | None = None, *, start: np.ndarray | None = None,
                 temperature: float = 1.0, top_k: int | None = None, generator: Generator | None = None,
                 at_once: int = 1024) -> Iterator[np.ndarray]:
        """So many samples (N, .) int16 of N sounds, `at_once` in each array; they begin after silence, or go on from `start` (N, P) int16.

        labels         (N, kinds), if the model takes them;  frames   (N, F, C), from the first of `before` samples of silence on
        temperature    logits are divided by it, the scales of logistics multiplied: below 1 the likely becomes more likely
        top_k          draw of the k most likely classes of mu-law alone
        The same generator gives the same samples, however many come at once.
        """
        generator, N = generator or default_generator, next((len(a) for a in (labels, frames, start) if a is not None), 1)
        heard = np.zeros((N, 0), np.int16) if start is None else start
        x = self.samples.encode(np.concatenate([np.zeros((N, self.before), np.int16), heard], 1))
        with evaluating(self), snn.no_grad():
            condition = self.condition(*(None if a is None else Tensor(np.asarray(a)) for a in (labels, frames)))
        model, state, given = kernels.pack_wavenet(self.arrays()), None, {}
        while steps:
            count, now = min(at_once, steps), state.position if state else 0
            if condition is not None:
                rows = slice(now // HELD, (now + x.shape[1] + count) // HELD + 1) if frames is not None else slice(None)
                given = {"condition": np.ascontiguousarray(condition.array[:, rows]), "hop": HELD if frames is not None else None}
            drawn, _, state = kernels.generate_wavenet(model, x, state, count, temperature, top_k, *generator.take(N * count), **given)
            yield self.samples.decode(drawn)
            x, steps = drawn[:, -1:], steps - count

    def arrays(self) -> WaveNetModel:
        """The weights as `kernels.generate_wavenet` takes them."""
        linear = isinstance(self.samples, Logistics)
        weight, bias = self.samples.input.weight.array, self.samples.input.bias.array if linear else None
        layers = [getattr(self, name).array for name in ("weight", "bias", "residual", "residual_bias")]
        above = [array for layer in (self.skip, self.hidden, self.output) for array in (layer.weight.array, layer.bias.array)]
        return WaveNetModel(weight, bias, *layers, self.dilations, *above)


# ---- files ----------------------------------------------------------------------------------------------------------------

class SavedWaveNet(NamedTuple):
    """What a file of weights holds: the model, and what was written about it."""

    model: WaveNet
    about: dict[str, Any]


def save_wavenet(path: str | Path, model: WaveNet, about: dict[str, Any]) -> None:
    """Write weights as checkpoint.save_weights does, with what `load_wavenet` needs beside them, and what else is to be known about the
    model: values that JSON can hold."""
    checkpoint.save_model(path, "WaveNet", model, {"options": model.options, "about": about})


def load_wavenet(path: str | Path) -> SavedWaveNet:
    """What `save_wavenet` wrote. Raises CheckpointError, FileNotFoundError."""
    return checkpoint.load_model(path, "WaveNet", lambda found: WaveNet(**found["options"]),
                                 lambda model, found: SavedWaveNet(model, found["about"]))
