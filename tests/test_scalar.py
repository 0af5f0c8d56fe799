"""Accuracy of the scalar functions over the whole range of their arguments, in units in the last place of the exact result."""

import math

import numpy as np
import pytest
from scipy import special

import kernels

WIDE = np.longdouble  # 64 bits of mantissa on x86; elsewhere it may be float64, and the bounds allow for that
EXACT = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
}
BOUNDS = {
    "exp": 1.0,
    "expm1": 3.0,
    "log": 1.0,
    "log1p": 3.0,
    "sqrt": 0.5,
    "tanh": 3.0,
    "erf": 3.0,
    "sin": 2.0,
    "cos": 2.0,
    "sigmoid": 3.0,
}


def exact(name, x):
    """The result in more digits than x's type has."""
    if name == "erf":
        return special.erf(x.astype(np.float64)).astype(WIDE)
    if name == "sigmoid":
        x = x.astype(WIDE)
        return np.where(x < 0, np.exp(x), 1) / (1 + np.exp(-np.abs(x)))
    return EXACT[name](x.astype(WIDE))


def arguments(name, dtype, count=400_000):
    """Floats of every size and sign: random bit patterns, small and usual numbers, and the edges of each function's range."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2 ** (8 * dtype.itemsize), count, dtype=f"u{dtype.itemsize}", endpoint=False).view(dtype)
    usual = (rng.standard_normal(count) * 10.0 ** rng.uniform(-4, 2, count)).astype(dtype)
    tiny, huge = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    edges = np.array(
        [
            0.0,
            -0.0,
            1,
            -1,
            tiny,
            -tiny,
            np.finfo(dtype).tiny,
            huge,
            -huge,
            88.7,
            88.73,
            -87.4,
            -103.9,
            -104.5,
            709.7,
            709.8,
            -745,
            -746,
            0.5,
            2,
            math.sqrt(0.5),
            math.pi,
        ],
        dtype,
    )
    x = np.concatenate([bits, usual, edges, np.linspace(-20, 20, 10001).astype(dtype)])
    x = x[np.isfinite(x)]
    if name in ("sin", "cos"):
        x = x[np.abs(x) < 1e9 if dtype == np.float32 else np.abs(x) < 1e5]  # float64: as far as the wide result can be trusted
    return np.abs(x) if name in ("log", "sqrt") else x[x > -1] if name == "log1p" else x


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)
@pytest.mark.parametrize("name", BOUNDS)
def test_error_in_units_in_the_last_place(name, dtype):
    x = arguments(name, dtype)
    with np.errstate(all="ignore"):
        want = exact(name, x)
        rounded = want.astype(dtype)
        got = getattr(kernels, name)(x)
        finite = np.isfinite(rounded)
        np.testing.assert_array_equal(got[~finite], rounded[~finite])
        unit = np.spacing(np.maximum(np.abs(rounded[finite]), np.finfo(dtype).smallest_subnormal)).astype(WIDE)
        error = np.abs(got[finite].astype(WIDE) - want[finite]) / unit
    worst = int(np.argmax(error))
    slack = 0 if np.finfo(WIDE).nmant > 60 and not (name == "erf" and dtype == np.float64) else 1.5
    assert error[worst] <= BOUNDS[name] + slack, (
        f"{name}({x[finite][worst]!r}) = {got[finite][worst]!r}, {float(error[worst]):.2f} ulp"
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinities_and_nan(dtype):
    x = np.array([np.inf, -np.inf, np.nan, 0.0], dtype)
    want = {
        "exp": [np.inf, 0, np.nan, 1],
        "expm1": [np.inf, -1, np.nan, 0],
        "log": [np.inf, np.nan, np.nan, -np.inf],
        "log1p": [np.inf, np.nan, np.nan, 0],
        "sqrt": [np.inf, np.nan, np.nan, 0],
        "tanh": [1, -1, np.nan, 0],
        "erf": [1, -1, np.nan, 0],
        "sigmoid": [1, 0, np.nan, 0.5],
        "sin": [np.nan, np.nan, np.nan, 0],
        "cos": [np.nan, np.nan, np.nan, 1],
    }
    for name, values in want.items():
        np.testing.assert_array_equal(getattr(kernels, name)(x), np.array(values, dtype), err_msg=name)
    np.testing.assert_array_equal(kernels.log(np.array([-1.0, -1e-40], dtype)), [np.nan, np.nan])
    np.testing.assert_array_equal(kernels.log1p(np.array([-1.0, -1.5], dtype)), [-np.inf, np.nan])
    for name in ("expm1", "log1p", "tanh", "erf", "sin", "sqrt"):
        assert np.signbit(getattr(kernels, name)(np.array([-0.0], dtype)))[0] or name not in ("tanh", "erf"), name


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid", "erf", "gelu", "sin"])
def test_every_length_gives_the_same_numbers(name):
    """Whether a number falls into a full vector or into the rest of a loop does not change its bits."""
    x = np.abs(np.random.default_rng(1).standard_normal(200).astype(np.float32)) + np.float32(0.01)
    whole = getattr(kernels, name)(x)
    for start, stop in ((0, 1), (0, 7), (3, 40), (5, 200), (64, 131)):
        np.testing.assert_array_equal(getattr(kernels, name)(x[start:stop]), whole[start:stop])
