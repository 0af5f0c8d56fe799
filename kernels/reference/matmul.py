"""Matrix products in NumPy."""

import numpy as np


def matmul(a, b):
    """Product of matrices with the rules of NumPy and PyTorch: (..., M, K), (..., K, N) -> (..., M, N).

    Leading dimensions broadcast; a 1-D operand is a row on the left and a column on the right, and its dimension is dropped from
    the result. Floating products are summed in float64 and rounded once. ValueError if the shapes do not fit.
    """
    if a.dtype.kind != "f":
        return np.asarray(np.matmul(a, b))
    return np.asarray(np.matmul(a, b, dtype=np.float64), a.dtype)
