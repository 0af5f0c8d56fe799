"""scratchnn: neural networks from scratch, in Python that can be read and kernels that are fast.

    import scratchnn as snn
    from scratchnn import nn, optim

The words are PyTorch's; `nn`, `optim`, `data`, `models` and `metrics` are subpackages.
"""

import kernels

if getattr(kernels, "MARK", None) != "scratchnn":
    raise ImportError(f"scratchnn needs its own package `kernels`, but {kernels.__file__} belongs to another distribution that installs "
                      "the same name; install scratchnn in a fresh virtual environment")

import numpy as _np

from kernels.jit import get_num_threads, set_num_threads
from scratchnn import cuda
from scratchnn.autograd import grad
from scratchnn.cuda import get_float32_matmul_precision, set_float32_matmul_precision
from scratchnn.device import Device as device
from scratchnn.grad_mode import enable_grad, is_grad_enabled, no_grad
from scratchnn.ops import *  # noqa: F403
from scratchnn.random import Generator, get_rng_state, manual_seed, set_rng_state
from scratchnn.tensor import Tensor

__version__ = "0.1.0"

float32, float64 = _np.dtype(_np.float32), _np.dtype(_np.float64)
uint8, int32, int64, bool = (_np.dtype(t) for t in (_np.uint8, _np.int32, _np.int64, _np.bool_))
