"""Matrix products in NumPy."""

import numpy as np

FUNCTIONS = {None: lambda x: x, "relu": lambda x: np.maximum(x, 0), "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh}


def matmul(a, b, bias=None, activation=None, out=None, accumulate=False):
    """a @ b, then + bias, then the activation, with the rules of NumPy and PyTorch: (..., M, K), (..., K, N) -> (..., M, N).

    Leading dimensions broadcast; a 1-D operand is a row on the left and a column on the right, and its dimension is dropped from
    the result. Floating products are summed in float64 and rounded once. ValueError if the shapes do not fit.
    """
    dtype = np.result_type(a, b)
    result = np.matmul(a, b, dtype=np.float64 if dtype.kind == "f" else None)
    if accumulate:
        result = result + out
    result = np.asarray(FUNCTIONS[activation](result if bias is None else result + bias), dtype)
    if out is None:
        return result
    out[...] = result
    return out


def pack(b):
    """A copy of a floating-point matrix (K, N), for matmul: here as it is, in the compiled wings as they read it fastest."""
    if b.ndim != 2 or b.dtype.kind != "f":
        raise ValueError(f"pack: a floating-point matrix (K, N) can be packed, not {b.dtype} {b.shape}")
    return np.array(b)
