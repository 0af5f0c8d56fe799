"""A frozen classifier of digits, whose view of pictures drawn digits are judged by. Its weights come with the library; they were made by

    python examples/classify.py --data mnist --model conv --channels 16 32 64 --epochs 12 --batch-size 128 --out out/digits
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np

import scratchnn as snn
from scratchnn.models.classifier import ConvNet, load_classifier, predict

FILE = "digits.safetensors"


@cache
def digit_classifier() -> ConvNet:
    """The network, in eval mode: pictures (N, 1, 28, 28) as MNIST's, in 0..1 -> logits (N, 10)."""
    with resources.as_file(resources.files("scratchnn.metrics").joinpath(FILE)) as path:
        return load_classifier(path).model.requires_grad_(False).eval()


def digit_probabilities(x: np.ndarray) -> np.ndarray:
    """p(digit | picture) (N, 10) of pictures (N, 1, 28, 28), for `classifier_score` and for the digits that drawn pictures show."""
    return predict(digit_classifier(), _checked(x))


def digit_features(x: np.ndarray, batch_size: int = 1000) -> np.ndarray:
    """What the network's last layer sees of pictures (N, 1, 28, 28): (N, 64), for `frechet_distance`."""
    x, model = _checked(x), digit_classifier()
    with snn.no_grad():
        return np.concatenate([model.embed(snn.from_numpy(x[i:i + batch_size])).numpy() for i in range(0, len(x), batch_size)])


def compare_digits(x: np.ndarray, decoded: np.ndarray) -> dict[str, float]:
    """How near reconstructions are to pictures (N, 1, 28, 28), as the network sees them.

    feature_distance    mean Euclidean distance between the `digit_features` of both
    label_agreement     percent of the reconstructions in which it sees the same digit as in the picture
    """
    distance = np.linalg.norm(digit_features(x) - digit_features(decoded), axis=1)
    same = digit_probabilities(x).argmax(1) == digit_probabilities(decoded).argmax(1)
    return {"feature_distance": float(distance.mean(dtype=np.float64)), "label_agreement": 100 * float(same.mean())}


def _checked(x):
    if x.shape[1:] != (1, 28, 28) or not len(x):
        raise ValueError(f"the classifier of digits takes pictures (N, 1, 28, 28), got {x.shape}")
    return np.ascontiguousarray(x, np.float32)
