"""The kernels of scratchnn: functions on arrays, under one name in each wing.

    kernels.matmul(a, b)                        what the library calls
    kernels/reference/matmul.py                 plain NumPy: what it means
    kernels/cpu/matmul/                         Numba: how it is fast
    kernels/cuda/matmul/                        the same on a GPU, for arrays that lie there

SCRATCHNN_KERNELS=reference runs everything on the reference wing, without a JIT, to step through with a debugger.
"""

from kernels import config

MARK = "scratchnn"      # tells this package from another distribution's `kernels`

if config.KERNELS == "reference":
    from kernels import reference as host
    from kernels.reference import *  # noqa: F403
else:
    from kernels import cpu as host
    from kernels.cpu import *  # noqa: F403


def use_cuda():
    """From now on every kernel looks whether its arrays lie on a GPU, and runs there if they do. Called for the first such array; until
    then nothing is paid for the look. RuntimeError that says what is missing if there is no GPU that can be used."""
    from kernels import cuda
    from kernels.cuda import array, runtime
    runtime.device()
    names = [name for name, value in vars(host).items() if callable(value) and not name.startswith("_")]
    globals().update({name: _by_arrays(name, getattr(host, name), getattr(cuda, name, None), array.DeviceArray) for name in names})


def _by_arrays(name, on_host, on_gpu, kind):
    """A kernel that runs where its arrays lie."""
    def kernel(*args, **options):
        for a in args:
            if type(a) is kind or (type(a) in (list, tuple) and a and type(a[0]) is kind):
                if on_gpu is None:
                    raise NotImplementedError(f"{name} has no CUDA kernel yet; bring its inputs to the host with .cpu()")
                return on_gpu(*args, **options)
        return on_host(*args, **options)
    return kernel
