"""Parameter: a Tensor that belongs to a Module and is trained."""

from __future__ import annotations

import numpy as np

from scratchnn.device import is_on_gpu
from scratchnn.tensor import Tensor


class Parameter(Tensor):
    """A Tensor that a Module lists among its parameters when it is assigned to one of its attributes.

    data            Tensor or NumPy array of floating-point numbers, whose memory is used, not copied; None for an empty one
    requires_grad   False for a parameter that is saved and moved with its module, but not trained
    """

    __slots__ = ()

    def __init__(self, data: Tensor | np.ndarray | None = None, requires_grad: bool = True):
        if data is None:
            data = np.empty(0, np.float32)
        if not isinstance(data, (Tensor, np.ndarray)) and not is_on_gpu(data):
            raise TypeError(f"Parameter takes a Tensor or a NumPy array, not {type(data).__name__}; use Parameter(snn.tensor(...))")
        super().__init__(data.array if isinstance(data, Tensor) else data, requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def empty_parameter(*shape: int, dtype=None) -> Parameter:
    """A Parameter of this shape, float32 unless asked otherwise, whose values are still to be set by an initialiser."""
    return Parameter(np.empty(shape, np.float32 if dtype is None else dtype))
