"""The kernels that move pixels: what their conventions promise, beside the comparison of both wings in test_kernels.py."""

import numpy as np
import pytest

from kernels import cpu, jit, reference

WINGS = [cpu, reference]
SAME = [[1, 0, 0], [0, 1, 0]]


def pictures(N, C, H, W, dtype=np.float32):
    return np.random.default_rng([N, C, H, W]).standard_normal((N, C, H, W)).astype(dtype)


def maps(matrix, N):
    return np.tile(np.array(matrix, np.float32), (N, 1, 1))


@pytest.mark.parametrize("wing", WINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 6, 6), (3, 1, 5, 8), (1, 2, 1, 7), (1, 1, 1, 1)])
@pytest.mark.parametrize(("matrix", "expected"), [
    (SAME, lambda x: x),
    ([[1, 0, 0], [0, -1, 0]], lambda x: x[..., ::-1]),
    ([[-1, 0, 0], [0, 1, 0]], lambda x: x[..., ::-1, :]),
    ([[1, 0, 1], [0, 1, 0]], lambda x: np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0)))[..., 1:, :]),
    ([[1, 0, 0], [0, 1, -2]], lambda x: np.pad(x, ((0, 0), (0, 0), (0, 0), (2, 0)))[..., :-2]),
    ([[0, 0, 0], [0, 0, 1e9]], np.zeros_like), ([[0, 0, np.nan], [0, 1, 0]], np.zeros_like),
    ([[1, 0, np.inf], [0, 1, 0]], np.zeros_like)], ids=["same", "left-right", "up-down", "lower", "from the left", "far", "nan", "inf"])
def test_whole_pixels_are_exact(wing, matrix, expected, shape, dtype):
    x = pictures(*shape, dtype)
    y = wing.warp(x, maps(matrix, shape[0]))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected(x))


@pytest.mark.parametrize("wing", WINGS)
def test_sizes_and_turns_keep_the_centre(wing):
    x = pictures(2, 3, 6, 10)
    np.testing.assert_array_equal(wing.warp(x, maps(SAME, 2), size=(4, 6)), x[:, :, 1:5, 2:8])
    np.testing.assert_array_equal(wing.warp(x, maps(SAME, 2), size=(8, 12)), np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))))
    turned = wing.warp(x, maps([[0, -1, 0], [1, 0, 0]], 2), size=(10, 6))
    np.testing.assert_array_equal(turned, np.rot90(x, -1, (2, 3)))                     # clockwise
    halved = wing.warp(x, maps([[2, 0, 0], [0, 2, 0]], 2), size=(3, 5))
    np.testing.assert_allclose(halved, x.reshape(2, 3, 3, 2, 5, 2).mean((3, 5)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wing", WINGS)
def test_between_pixels_and_across_the_border(wing):
    x = np.array([[[[1, 2], [3, 5]]]], np.float32)
    assert wing.warp(x, maps(SAME, 1), size=(1, 1)).item() == 2.75                     # the middle: all four
    for (down, right), value in {(-0.5, -0.5): 1, (-1, -0.5): 0.5, (0, 0.5): 3.5, (0.5, 1): 2.5, (1, 1): 1.25, (-1.5, -0.5): 0,
                                 (0, -1.25): 0.5}.items():
        assert wing.warp(x, maps([[0, 0, down], [0, 0, right]], 1), size=(1, 1)).item() == value


@pytest.mark.parametrize("wing", WINGS)
def test_displacements_add_to_the_map(wing):
    x = pictures(2, 2, 5, 4)
    shift = np.zeros((2, 2, 5, 4), np.float32)
    shift[0, 0], shift[1, 1] = 1, -1                                                   # one picture down, the other to the left
    lower = np.pad(x[0], ((0, 0), (0, 1), (0, 0)))[:, 1:]
    further_left = np.pad(x[1], ((0, 0), (0, 0), (1, 0)))[:, :, :-1]
    np.testing.assert_array_equal(wing.warp(x, maps(SAME, 2), shift), [lower, further_left])
    flipped = wing.warp(x, maps([[1, 0, 0], [0, -1, 0]], 2), shift)                    # displacements are steps in the source
    np.testing.assert_array_equal(flipped, [lower[..., ::-1], further_left[..., ::-1]])


@pytest.mark.parametrize("shape, size", [((0, 2, 3, 3), None), ((2, 0, 3, 3), None), ((2, 1, 3, 3), (0, 4)), ((2, 1, 0, 3), (2, 2)),
                                         ((1, 1, 3, 0), (2, 5))])
def test_empty_pictures(shape, size):
    y = cpu.warp(pictures(*shape), maps(SAME, shape[0]), size=size)
    assert y.shape == (*shape[:2], *(size or shape[2:])) and not y.any()
    assert cpu.gaussian_blur(pictures(*shape), 1).shape == shape


def test_smoothing_keeps_its_promises():
    point = np.zeros((9, 9))
    point[4, 4] = 1
    blurred = cpu.gaussian_blur(point, 1)
    assert blurred.sum() == pytest.approx(1) and blurred.argmax() == 40 and blurred[4, 5] / blurred[4, 4] == pytest.approx(np.exp(-0.5))
    np.testing.assert_allclose(blurred, blurred.T)
    point = np.pad(point, 20)
    assert np.linalg.norm(cpu.gaussian_blur(point, 4)) == pytest.approx(1 / (2 * np.sqrt(np.pi) * 4), rel=1e-3)  # what noise is left with
    np.testing.assert_array_equal(cpu.gaussian_blur(point, 0.01), point)
    x = pictures(1, 1, 3, 500)
    np.testing.assert_allclose(cpu.gaussian_blur(x, 2), reference.gaussian_blur(x, 2), rtol=1e-5, atol=1e-6)


def test_messages_name_the_shapes():
    x, affine = pictures(2, 1, 4, 5), maps(SAME, 2)
    for message, call in {
        r"\(N, C, H, W\), got \(4, 5\)": lambda: cpu.warp(x[0, 0], affine),
        r"affine has shape \(3, 2, 3\), \(2, 2, 3\) fits 2 pictures": lambda: cpu.warp(x, maps(SAME, 3)),
        r"affine has shape \(2, 3\)": lambda: cpu.warp(x, affine[0]),
        r"displacement has shape \(2, 2, 4, 5\), \(2, 2, 3, 3\) fits a result of 3 x 3":
            lambda: cpu.warp(x, affine, np.zeros((2, 2, 4, 5)), (3, 3)),
        r"sigma must be above 0 and finite, got 0": lambda: cpu.gaussian_blur(x, 0),
        r"sigma must be above 0 and finite, got inf": lambda: cpu.gaussian_blur(x, float("inf")),
        r"sigma must be above 0 and finite, got nan": lambda: reference.gaussian_blur(x, float("nan")),
        r"\(\.\.\., H, W\), got \(3,\)": lambda: cpu.gaussian_blur(np.zeros(3), 1),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="float32 or float64, got uint8"):
        cpu.warp(x.astype(np.uint8), affine)
    with pytest.raises(TypeError, match="float32 or float64, got int64"):
        cpu.gaussian_blur(np.zeros((3, 3), int), 1)


@pytest.mark.parametrize("shape", [(70, 1, 28, 28), (1, 3, 150, 170)])
def test_the_same_bits_on_any_number_of_threads(shape):
    x, shift = pictures(*shape), pictures(shape[0], 2, *shape[2:])
    affine, before, found = maps(SAME, shape[0]) + 0.1 * pictures(shape[0], 1, 2, 3)[:, 0], jit.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            jit.set_num_threads(n)
            found.append(cpu.warp(x, affine, cpu.gaussian_blur(shift, 2)).tobytes())
    finally:
        jit.set_num_threads(before)
    assert found[0] == found[1] == found[2]
