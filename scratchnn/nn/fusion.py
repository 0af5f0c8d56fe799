"""Neighbours in an nn.Sequential that are computed as one, so that numbers are not written, read and kept once more in between.

    Linear, Conv1d, Conv2d and ReLU                      the product cuts off what is below 0 before it is written
    Linear and Sigmoid or Tanh                           the product applies it before its numbers leave the cache
    BatchNorm1d, BatchNorm2d and ReLU or LeakyReLU       the normalisation does; what lies between is not kept for the gradient either
    ReLU and MaxPool1d or MaxPool2d                      the other way round: max(max(a, b), 0) = max(max(a, 0), max(b, 0)), of which fewer
                                                         are cut off, and what came before the ReLU is not kept for the gradient

The results are those of the modules one by one, bit for bit, in training and evaluation; parameters, buffers and names stay where they
are. A subclass is left alone, since it may compute something else, and so is a neighbour with hooks, which would see other numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scratchnn.nn.activation import LeakyReLU, ReLU, Sigmoid, Tanh
from scratchnn.nn.conv import Conv1d, Conv2d
from scratchnn.nn.linear import Linear
from scratchnn.nn.module import Module
from scratchnn.nn.normalization import BatchNorm1d, BatchNorm2d
from scratchnn.nn.pooling import MaxPool1d, MaxPool2d

PRODUCTS, NORMS, POOLS = (Linear, Conv1d, Conv2d), (BatchNorm1d, BatchNorm2d), (MaxPool1d, MaxPool2d)


def run_fused(modules: Sequence[Module], input: Any) -> Any:
    """`input` through the modules one after another, with the neighbours of the table above as one."""
    i = 0
    while i < len(modules):
        module, following, i = modules[i], modules[i + 1:i + 3], i + 1
        if following and _swaps(module, following[0]):
            input, i = module(following[0](input)), i + 1
        elif following and (options := _taken_along(module, *following)):
            input, i = module(input, **options), i + 1
        else:
            input = module(input)
    return input


def _taken_along(module, activation, after=None):
    """What makes a module compute the activation behind it, as options of its forward; None if it cannot, or a pooling behind that can
    do it with less."""
    kind = type(module)
    if module._forward_hooks or kind not in PRODUCTS + NORMS:
        return None
    if _is_bare(activation, ReLU):
        return None if kind in PRODUCTS and after is not None and _swaps(activation, after) else {"activation": "relu"}
    if kind is Linear and (_is_bare(activation, Sigmoid) or _is_bare(activation, Tanh)):
        return {"activation": "tanh" if type(activation) is Tanh else "sigmoid"}
    if kind in NORMS and _is_bare(activation, LeakyReLU):
        return {"activation": "leaky_relu", "negative_slope": activation.negative_slope}
    return None


def _swaps(relu, pool):
    """Whether a ReLU and what follows it can change places."""
    return _is_bare(relu, ReLU) and type(pool) in POOLS and _is_bare(pool, type(pool)) and not pool.return_indices


def _is_bare(module, kind):
    """Whether a module is of just this kind, and nobody looks at what goes in or comes out."""
    return type(module) is kind and not module._forward_hooks and not module._forward_pre_hooks
