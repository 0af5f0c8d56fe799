"""The kernels of scratchnn: functions on arrays, under one name in each wing.

    kernels.matmul(a, b)                        what the library calls
    kernels/reference/matmul.py                 plain NumPy: what it means
    kernels/cpu/matmul/                         Numba: how it is fast

SCRATCHNN_KERNELS=reference runs everything on the reference wing, without a JIT, to step through with a debugger.
"""

from kernels import config

MARK = "scratchnn"      # tells this package from another distribution's `kernels`

if config.KERNELS == "reference":
    from kernels.reference import *  # noqa: F403
else:
    from kernels.cpu import *  # noqa: F403
