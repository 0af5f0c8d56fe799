"""Limits on gradients and weights, all parameters as one vector, parametrizations: the parts of torch.nn.utils that training needs."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

import kernels
from scratchnn import ops
from scratchnn.nn.utils import parametrizations
from scratchnn.tensor import Tensor


def _gradients(parameters):
    """The gradients that are there."""
    return [p.grad for p in ([parameters] if isinstance(parameters, Tensor) else parameters) if p.grad is not None]


def clip_grad_norm_(parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False) -> Tensor:
    """Scale all gradients by one factor so that together, as one vector, their norm is at most max_norm. Call after backward().

    norm_type: 2, or math.inf for the largest absolute value. Returns the norm before. A norm that is not finite makes gradients 0
    or NaN, or with error_if_nonfinite raises RuntimeError and changes nothing. Pascanu et al. 2013, "On the difficulty of
    training recurrent neural networks", algorithm 1.
    """
    if norm_type not in (2, math.inf):
        raise ValueError(f"clip_grad_norm_: norm_type must be 2 or math.inf, got {norm_type}")
    gradients = _gradients(parameters)
    if gradients and gradients[0].device.type == "cuda" and not error_if_nonfinite:
        return _clip_without_waiting(gradients, max_norm, norm_type)
    if norm_type == 2:
        norm = math.sqrt(math.fsum(kernels.squared_norms([g.array for g in gradients]).tolist()))
    else:
        norm = float(np.max([ops.abs(g).max().item() for g in gradients if g.numel()], initial=0))
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(f"The total norm of order {norm_type} for gradients from `parameters` is {norm}, so it cannot be "
                           "clipped; error_if_nonfinite=False scales the gradients anyway")
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:                           # NaN too
        kernels.scale([g.array for g in gradients], factor)
        for g in gradients:
            g.bump_version()
    return Tensor(np.array(norm, gradients[0].dtype if gradients else np.float32))


def _clip_without_waiting(gradients, max_norm, norm_type):
    """clip_grad_norm_ where norm and factor stay on the GPU."""
    arrays = [g.array for g in gradients]
    if norm_type == 2:
        norm = kernels.sqrt(kernels.sum(kernels.squared_norms(arrays)))
    else:
        norm = kernels.max(ops.stack([ops.abs(g).max() for g in gradients if g.numel()]).array).astype(np.float64)
    limit, small, one = (np.array(value, np.float64) for value in (max_norm, 1e-6, 1))
    kernels.scale(arrays, kernels.minimum(kernels.div(limit, kernels.add(norm, small)), one))
    for g in gradients:
        g.bump_version()
    return Tensor(norm.astype(gradients[0].dtype))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of the gradients to [-clip_value, clip_value]."""
    for g in _gradients(parameters):
        np.clip(g.array, -clip_value, clip_value, out=g.array)
        g.bump_version()


def max_norm_(weight: Tensor, max_norm: float, dim: int = 0) -> Tensor:
    """Shrink each slice of `weight` along dimension `dim` whose 2-norm is above max_norm to that norm. Call after step().

    With dim = 0, each row of a Linear's weight: all that enters one unit. Srivastava et al. 2014, "Dropout: a simple way to prevent
    neural networks from overfitting", section 5.1. Changes the weight in place, without history, and returns it.
    """
    slices = np.moveaxis(weight.array, dim, 0)
    norms = np.sqrt(kernels.sum(kernels.mul(slices, slices), tuple(range(1, slices.ndim))))
    above = norms > max_norm
    if not isinstance(above, np.ndarray):         # the GPU has multiplied by ones before it could say that there is nothing else
        factors = np.where(above, max_norm, 1.0) / np.where(above, norms, 1.0)
        slices *= factors.astype(weight.dtype).reshape(-1, *[1] * (slices.ndim - 1))
        weight.bump_version()
    elif above.any():
        factors = (max_norm / norms[above]).astype(weight.dtype)
        slices[above] *= factors.reshape(-1, *[1] * (slices.ndim - 1))
        weight.bump_version()
    return weight


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, flattened and joined: (sum of their sizes,)."""
    return ops.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy the parts of such a vector back into the parameters. ValueError if the sizes do not add up to its length."""
    parameters = list(parameters)
    total = sum(p.numel() for p in parameters)
    if vec.shape != (total,):
        raise ValueError(f"vector_to_parameters: the parameters have {total} elements, but the vector has shape {vec.shape}")
    start = 0
    for p in parameters:
        p.array[...] = vec.array[start:start + p.numel()].reshape(p.shape)
        p.bump_version()
        start += p.numel()
