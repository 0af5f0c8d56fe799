"""The CPU wing: Numba kernels on NumPy arrays."""
