"""Pooling, up-sampling and padding without PyTorch: values known beforehand, second derivatives, errors that name the numbers."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import nn
from scratchnn.nn import functional as F
from scratchnn.testing import check_gradients


def picture(*shape, seed=0):
    return snn.tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


# ---- values ----------------------------------------------------------------------------------------------------------

def test_max_pool_takes_the_first_of_equal_values():
    y, places = F.max_pool2d(snn.zeros(1, 4, 6), 2, return_indices=True)
    assert places.tolist() == [[[0, 2, 4], [12, 14, 16]]]
    x = snn.tensor([[[1.0, 3, 3, 2, 5, 5]]], requires_grad=True)
    y, places = F.max_pool1d(x, 3, 1, return_indices=True)
    assert y.tolist() == [[[3, 3, 5, 5]]] and places.tolist() == [[[1, 1, 4, 4]]]
    y.sum().backward()
    assert x.grad.tolist() == [[[0, 2, 0, 0, 2, 0]]]


def test_padding_never_wins_and_nan_always_does():
    inf, nan = np.inf, np.nan
    y, places = F.max_pool1d(snn.tensor([[-inf, -inf, nan, 7, -inf]]), 3, 1, 1, return_indices=True)
    np.testing.assert_array_equal(y.array, [[-inf, nan, nan, nan, 7]])
    assert places.tolist() == [[0, 2, 2, 2, 3]]
    assert F.max_pool2d(snn.full((1, 1, 2, 2), -5.0), 2, 1, 1).tolist() == [[[[-5] * 3] * 3]]


def test_ceil_mode_adds_a_window_that_begins_inside():
    x = snn.arange(5).float().reshape(1, 5)
    assert F.max_pool1d(x, 2).tolist() == [[1, 3]] and F.max_pool1d(x, 2, ceil_mode=True).tolist() == [[1, 3, 4]]
    assert F.avg_pool1d(x, 2, ceil_mode=True).tolist() == [[0.5, 2.5, 4]]
    assert F.max_pool1d(x, 2, 3, 1, ceil_mode=True).shape == (1, 2)                      # a third would begin in the right padding
    y, places = F.max_pool2d(-snn.arange(9).float().reshape(1, 3, 3), 2, ceil_mode=True, return_indices=True)
    assert y.tolist() == [[[0, -2], [-6, -8]]] and places.tolist() == [[[0, 2], [6, 8]]]


def test_averages_count_padding_or_not():
    x = snn.ones(1, 1, 4, 4)
    assert F.avg_pool2d(x, 2, 2, 1).tolist()[0][0][0] == [0.25, 0.5, 0.25]
    assert F.avg_pool2d(x, 2, 2, 1, count_include_pad=False).tolist()[0][0][0] == [1, 1, 1]
    assert F.avg_pool2d(x, 2, divisor_override=1).tolist() == [[[[4, 4], [4, 4]]]]


def test_adaptive_windows_cover_everything():
    assert F.adaptive_avg_pool1d(snn.arange(5).float().reshape(1, 5), 3).tolist() == [[0.5, 2, 3.5]]
    x = picture(2, 3, 5, 7)
    np.testing.assert_allclose(F.adaptive_avg_pool2d(x, 1).array, x.array.mean((2, 3), keepdims=True))
    assert F.adaptive_avg_pool2d(x, (None, 2)).shape == (2, 3, 5, 2) and F.adaptive_avg_pool2d(x, 0).shape == (2, 3, 0, 0)


def test_interpolate():
    x = snn.tensor([[[1.0, 2, 4]]])
    assert F.interpolate(x, scale_factor=2).tolist() == [[[1, 1, 2, 2, 4, 4]]]
    assert F.interpolate(x, 5, mode="linear", align_corners=True).tolist() == [[[1, 1.5, 2, 3, 4]]]
    assert F.interpolate(x, scale_factor=2, mode="linear").tolist() == [[[1, 1.25, 1.75, 2.5, 3.5, 4]]]
    y = F.interpolate(x.reshape(1, 1, 1, 3), (2, 6), mode="bilinear")
    assert y.tolist() == [[[[1, 1.25, 1.75, 2.5, 3.5, 4]] * 2]]


def test_positions_come_from_the_given_scale_unless_it_is_recomputed():
    x = snn.arange(5).float().reshape(1, 1, 5)
    assert F.interpolate(x, scale_factor=1.7).shape == (1, 1, 8)
    assert F.interpolate(x, scale_factor=1.7).tolist() == [[[0, 0, 1, 1, 2, 2, 3, 4]]]                    # floor(i / 1.7)
    assert F.interpolate(x, scale_factor=1.7, recompute_scale_factor=True).tolist() == [[[0, 0, 1, 1, 2, 3, 3, 4]]]   # floor(5 i / 8)


@pytest.mark.parametrize("mode, widths, expected", [
    ("reflect", (2, 3), [3, 2, 1, 2, 3, 4, 3, 2, 1]), ("replicate", (1, 2), [1, 1, 2, 3, 4, 4, 4]),
    ("circular", (2, 1), [3, 4, 1, 2, 3, 4, 1]), ("constant", (1, 1), [0, 1, 2, 3, 4, 0]),
    ("reflect", (-1, 1), [2, 3, 4, 3]), ("replicate", (2, -3), [1, 1, 1]), ("circular", (-1, 2), [2, 3, 4, 2, 3]),
])
def test_pad(mode, widths, expected):
    assert F.pad(snn.tensor([[1, 2, 3, 4]]), widths, mode).tolist() == [expected]


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_pad_of_two_dimensions_is_one_after_the_other(mode):
    x = picture(2, 3, 4)
    rows = F.pad(x.transpose(1, 2), (1, 2), mode).transpose(1, 2)
    assert F.pad(x, (3, 0, 1, 2), mode).tolist() == F.pad(rows, (3, 0), mode).tolist()


# ---- derivatives -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("f", [
    lambda x: F.max_pool2d(x, 3, 2, 1), lambda x: F.max_pool2d(x, 2, 1, dilation=2, ceil_mode=True), lambda x: F.avg_pool2d(x, 3, 2, 1),
    lambda x: F.avg_pool2d(x, (2, 3), ceil_mode=True, count_include_pad=False), lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
    lambda x: F.adaptive_avg_pool2d(x, 1), lambda x: F.interpolate(x, scale_factor=1.6), lambda x: F.interpolate(x, 9, mode="bilinear"),
    lambda x: F.interpolate(x, (3, 11), mode="bilinear", align_corners=True), lambda x: F.pad(x, (2, 1, 3, 0), "reflect"),
    lambda x: F.pad(x, (2, 1, 0, -2), "replicate"), lambda x: F.pad(x, (1, 0, 2, 3), "circular"),
])
def test_derivatives_to_second_order(f):
    check_gradients(lambda x: f(x).square(), picture(2, 2, 5, 6))


# ---- layers ----------------------------------------------------------------------------------------------------------

def test_layers_in_a_network():
    net = nn.Sequential(nn.ReflectionPad2d(1), nn.MaxPool2d(2), nn.ReLU(), nn.Upsample(scale_factor=2, mode="bilinear"),
                        nn.AvgPool2d(3, 1, 1), nn.ZeroPad2d((0, 1, 1, 0)), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    x = picture(2, 3, 8, 8)
    net(x).sum().backward()
    assert net(x).shape == (2, 12) and x.grad.shape == x.shape and not net.state_dict()
    signal = nn.Sequential(nn.ReplicationPad1d(2), nn.MaxPool1d(3, 1), nn.ConstantPad1d(1, 2.0), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(3))
    assert signal(picture(3, 10)).shape == (3, 3)


# ---- errors ----------------------------------------------------------------------------------------------------------

X = snn.zeros(1, 1, 4, 6)


@pytest.mark.parametrize("message, call", [
    (r"max_pool2d: padding 2 .*half of kernel_size 3; at most 1", lambda: F.max_pool2d(X, 3, padding=2)),
    (r"avg_pool2d: padding 1 .*half of kernel_size 1; at most 0", lambda: F.avg_pool2d(X, (2, 1), padding=1)),
    (r"max_pool2d: a window of 5 \(kernel_size 5\) .*input of 4 with padding 0.*at least 5", lambda: F.max_pool2d(X, 5)),
    (r"avg_pool1d: a window of 9 .*input of 6 with padding 1.*at least 9", lambda: F.avg_pool1d(X[0, 0], 9, padding=1)),
    (r"a window of 7 \(kernel_size 3 and dilation 3\)", lambda: F.max_pool2d(X, 3, dilation=3)),
    (r"padding 1 and dilation 4 .*nothing of an input of 3", lambda: F.max_pool1d(snn.zeros(1, 3), 2, padding=1, dilation=4)),
    (r"max_pool2d: .*\(N, C, H, W\) or \(C, H, W\), not \(4, 6\)", lambda: F.max_pool2d(X[0, 0], 2)),
    (r"avg_pool1d: .*\(N, C, L\) or \(C, L\), not \(1, 1, 4, 6\)", lambda: F.avg_pool1d(X, 2)),
    (r"max_pool2d: .*H, W .*empty, got shape \(1, 0, 6\)", lambda: F.max_pool2d(snn.zeros(1, 0, 6), 2)),
    (r"kernel_size must be .* from 1 on or 2 of them, not \(1, 2, 3\)", lambda: F.max_pool2d(X, (1, 2, 3))),
    (r"stride must be .* from 1 on.*, not 0", lambda: F.max_pool2d(X, 2, 0)),
    (r"padding must be .* from 0 on.*, not -1", lambda: F.avg_pool2d(X, 2, padding=-1)),
    (r"divisor_override", lambda: F.avg_pool2d(X, 2, divisor_override=0)),
    (r"adaptive_avg_pool2d: output_size .*, not \(3, -1\)", lambda: F.adaptive_avg_pool2d(X, (3, -1))),
    (r"interpolate: mode 'cubic'.*'bilinear'", lambda: F.interpolate(X, 3, mode="cubic")),
    (r"mode 'linear': .*\(N, C, L\), not \(1, 1, 4, 6\)", lambda: F.interpolate(X, 3, mode="linear")),
    (r"mode 'bilinear': .*\(N, C, H, W\), not \(1, 4, 6\)", lambda: F.interpolate(X[0], 3, mode="bilinear")),
    (r"\(N, C, L\) or \(N, C, H, W\), not \(4, 6\)", lambda: F.interpolate(X[0, 0], 3)),
    (r"either size or scale_factor, got size=3 and scale_factor=2", lambda: F.interpolate(X, 3, 2)),
    (r"scale_factor 0.2 makes \(0, 1\) of \(4, 6\)", lambda: F.interpolate(X, scale_factor=0.2)),
    (r"size \[3\] has 1 numbers, the input 2", lambda: F.interpolate(X, [3])),
    (r"align_corners", lambda: F.interpolate(X, 3, align_corners=False)),
    (r"recompute_scale_factor", lambda: F.interpolate(X, 3, recompute_scale_factor=True)),
    (r"pad: mode 'mirror' .*'reflect'", lambda: F.pad(X, (1, 1), "mirror")),
    (r"takes 2 numbers .*4 for .*, not 2 for shape \(1, 1, 4, 6\)", lambda: F.pad(X, (1, 1), "reflect")),
    (r"widths 6 and 0 .*size 6; mode 'reflect' takes at most 5", lambda: F.pad(X, (6, 0, 0, 0), "reflect")),
    (r"widths 7 and 0 .*size 6; mode 'circular' takes at most 6", lambda: F.pad(X, (7, 0, 0, 0), "circular")),
    (r"widths -4 and -3 .*size 6; .*cropping at most 6", lambda: F.pad(X, (-4, -3, 0, 0), "replicate")),
    (r"'reflect' takes no value", lambda: F.pad(X, (1, 1, 1, 1), "reflect", 2.0)),
    (r"ReflectionPad2d: .*4 of them, not \(1, 2\)", lambda: nn.ReflectionPad2d((1, 2))),
])
def test_errors_name_the_numbers_and_the_rule(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_sizes_must_be_whole_numbers():
    for call in (lambda: F.max_pool2d(X, 2.0), lambda: F.avg_pool2d(X, 2, (1, 1.5)), lambda: F.interpolate(X, 2.5)):
        with pytest.raises(TypeError, match="float"):
            call()
