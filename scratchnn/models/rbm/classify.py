"""A restricted Boltzmann machine that classifies: the class is a group of visible units beside those of the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import scratchnn.nn.functional as F
from scratchnn import ops
from scratchnn.models.rbm.machine import RBM
from scratchnn.models.rbm.train import ContrastiveDivergence
from scratchnn.models.rbm.units import Bernoulli, Softmax, Units
from scratchnn.random import Generator, default_generator
from scratchnn.tensor import Tensor


class ClassRBM(RBM):
    """RBM of the units of data x and one Softmax group for their class y: p(x, y) is modelled, p(y | x) is exact.

    visible  number of Bernoulli units of x, or a list of units
    classes  their number; the last columns of the visible units

    Larochelle & Bengio 2008, "Classification using discriminative restricted Boltzmann machines". forward: (N, D) -> logits (N, classes),
    differentiable, so that `predict` of models.classifier takes the machine, and cross entropy trains it discriminatively.
    """

    def __init__(self, visible: int | Sequence[Units], classes: int, hidden: int, generator: Generator | None = None):
        units = [Bernoulli(visible)] if isinstance(visible, int | np.integer) else visible
        super().__init__([*units, Softmax(classes)], hidden, generator)
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        """log p(x, y) of all classes y but for a constant of x, (N, D) -> (N, classes): d_y + the sum over j of softplus(c_j +
        U_jy + W_j x). There is one product with x for all classes: N (D + classes) H operations, and N classes H softplus."""
        D = len(self.visible_bias) - self.classes
        if x.ndim != 2 or x.shape[1] != D:
            raise ValueError(f"{self} classifies arrays (N, {D}), without columns of the class; got shape {x.shape}")
        if hasattr(self, "log_variance"):
            gaussian = np.concatenate([np.full(kind.size, kind.has_variance) for kind in self.units])[:D]
            x = x * ops.exp(self.log_variance[:D] * -gaussian.astype(x.dtype))                   # other units' have no meaning
        inputs = x @ self.weight[:D] + self.hidden_bias                                          # (N, H)
        hidden = F.softplus(inputs.unsqueeze(1) + self.weight[D:].unsqueeze(0))                  # (N, classes, H)
        return hidden.sum(2) + self.visible_bias[D:]

    def join(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Visible units for examples x (N, D) of the classes y (N,): (N, D + classes). ValueError if there is no such class."""
        y = np.asarray(y)
        if y.ndim != 1 or y.dtype.kind not in "iu" or len(x) != len(y) or (len(y) and (y.min() < 0 or y.max() >= self.classes)):
            raise ValueError(f"{self} takes a class from 0 to {self.classes - 1} for each example, as whole numbers; got shapes "
                             f"{np.shape(x)} and {y.shape}, {y.dtype} from {y.min(initial=0)} to {y.max(initial=0)}")
        return self.check(np.concatenate([x, np.eye(self.classes)[y]], 1))

    def generate(self, y: np.ndarray, steps: int = 1000, generator: Generator | None = None) -> np.ndarray:
        """Means of x in examples of the classes y, (N,) -> (N, D): Gibbs sampling with the class clamped, from hidden units given it
        alone."""
        generator, D = generator or default_generator, len(self.visible_bias) - self.classes
        even = np.concatenate([np.full(kind.size, 1 / kind.size if isinstance(kind, Softmax) else 0) for kind in self.units[:-1]])
        v = self.join(np.tile(even, (len(y), 1)), y)
        clamp = np.arange(v.shape[1]) >= D
        return self.visible_mean(self.sample_hidden(self.gibbs(v, steps, generator, clamp), generator))[:, :D]


def hybrid_gradient(learner: ContrastiveDivergence, x: np.ndarray, y: np.ndarray, generative: float) -> float:
    """Put the gradient of the mean of -log p(y | x) - generative * log p(x, y) into `grad` of the parameters of a ClassRBM; the mean of
    the first term. The second comes from `learner`, contrastive divergence or another (Larochelle & Bengio 2008, section 4)."""
    rbm = learner.rbm
    v = rbm.join(x, y)
    learner.gradient(v)
    for p in rbm.parameters():
        p.grad = p.grad * generative
    loss = F.cross_entropy(rbm(Tensor(v[:, :-rbm.classes])), Tensor(np.asarray(y)))
    loss.backward()
    return loss.item()
