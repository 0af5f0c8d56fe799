"""Gradient checks without another framework: what backward() says against what small steps show.

For random directions v of an input and u of the output, u . (f(x + h v) - f(x - h v)) / 2h must equal vjp(u) . v, so every entry
of the Jacobian takes part in each check. To second order, the gradient is checked in the same way (after HIPS autograd).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scratchnn.autograd import grad
from scratchnn.grad_mode import enable_grad
from scratchnn.tensor import Tensor


def check_gradients(f: Callable[..., Tensor], *inputs: Tensor, order: int = 2, seed: int = 0, step: float = 1e-5,
                    rtol: float = 1e-6, atol: float = 1e-7) -> None:
    """Raise AssertionError if a derivative of f at `inputs` (float64; those that require a gradient) is wrong.

    f       inputs -> one Tensor, smooth around the inputs
    order   2 checks the gradient of the gradient too
    step    h above, in units of the inputs
    """
    for x in inputs:
        if x.requires_grad and x.dtype != np.float64:
            raise TypeError(f"gradients are checked in float64; an input of shape {x.shape} is {x.dtype}")
    rng = np.random.default_rng(seed)
    moving = [i for i, x in enumerate(inputs) if x.requires_grad]
    output = f(*inputs)
    u = Tensor(rng.standard_normal(output.shape))
    found = grad(output, [inputs[i] for i in moving], u, create_graph=order > 1, allow_unused=True)
    for i, g in zip(moving, found, strict=True):
        v = rng.standard_normal(inputs[i].shape)
        shown = _directional(f, inputs, i, v, step, u.array)
        said = 0.0 if g is None else float(np.sum(g.array * v))
        scale = max(abs(shown), 0.0 if g is None else float(np.abs(g.array * v).sum()))
        if not abs(shown - said) <= atol + rtol * scale:
            raise AssertionError(f"gradient of {getattr(f, '__name__', f)} with respect to input {i} (shape {inputs[i].shape}): "
                                 f"backward gives {said:.10g}, small steps give {shown:.10g}")
    if order > 1:
        check_gradients(_gradient_of(f, moving, u, rng, inputs), *inputs, order=order - 1, seed=seed + 1, step=step,
                        rtol=10 * rtol, atol=10 * atol)


def _directional(f, inputs, i, v, step, u):
    """u . (df / d input_i) v by a central difference."""
    ends = []
    for sign in (1, -1):
        moved = [Tensor(x.array + sign * step * v, x.requires_grad) if j == i else x for j, x in enumerate(inputs)]
        with enable_grad():                       # f may differentiate inside
            ends.append(f(*moved).array)
    return float(np.sum(u * (ends[0] - ends[1]))) / (2 * step)


def _gradient_of(f, moving, u, rng, inputs):
    """The function inputs -> sum over all inputs of (gradient of u . f) times fixed random weights."""
    weights = [rng.standard_normal(inputs[i].shape) for i in moving]

    def gradient(*points):
        gradients = grad(f(*points), [points[i] for i in moving], u, create_graph=True, allow_unused=True)
        total = Tensor(np.zeros(()))
        for i, g, w in zip(moving, gradients, weights, strict=True):
            total = total + (points[i] * 0).sum()             # keeps a constant gradient attached to its input
            if g is not None:
                total = total + (g * Tensor(w)).sum()
        return total

    gradient.__name__ = f"the gradient of {getattr(f, '__name__', f)}"
    return gradient
