"""WaveNet: the stack of residual layers, its gradient, and generation. For now that of the reference."""

from kernels.reference.wavenet import generate_wavenet, pack_wavenet, wavenet, wavenet_backward  # noqa: F401
