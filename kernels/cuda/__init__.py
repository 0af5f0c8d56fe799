"""The CUDA wing: kernels on DeviceArrays (kernels/cuda/array.py), under the names of the other wings."""

from kernels.cuda.elementwise import *
