"""Convolutions in NumPy: a sum over the taps of the kernel, each a product over the channels. Summed in float64, rounded once.

x (N, C, H, W), weight (O, C / groups, KH, KW), result (N, O, OH, OW). `g` is the gradient of the result.
"""

import numpy as np

from kernels.shapes import conv_size


def conv(x, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, activation=None):
    """The correlation of x with each of the O kernels, then + bias, then the activation (None or "relu")."""
    size = conv_size("conv", x.shape, weight.shape, stride, padding, dilation, groups)
    if activation not in (None, "relu"):
        raise ValueError(f"conv: activation must be None or 'relu', not {activation!r}")
    kernel, y = _grouped(weight, groups), np.zeros((len(x), groups, len(weight) // groups, *size))
    for ky, kx, seen in _taps(weight.shape[2:], size, stride, dilation):
        y += np.einsum("ngchw,gmc->ngmhw", _grouped(_padded(x, padding), groups, 1)[seen], kernel[..., ky, kx])
    y = y.reshape(len(x), len(weight), *size) + (0 if bias is None else bias[:, None, None])
    return np.asarray(np.maximum(y, 0) if activation else y, x.dtype)


def conv_input_gradient(g, weight, size, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Gradient (N, C, *size) by x: every tap gives back what it saw, times g. With a bias (C,), a transposed convolution of g."""
    shape = (len(g), weight.shape[1] * groups, *size)
    out_size = conv_size("conv_input_gradient", shape, weight.shape, stride, padding, dilation, groups)
    if g.shape != (len(g), len(weight), *out_size):
        raise ValueError(f"conv_input_gradient: g has shape {g.shape}, {(len(g), len(weight), *out_size)} fits")
    kernel, wide = _grouped(weight, groups), _grouped(_padded(np.zeros(shape), padding), groups, 1)
    for ky, kx, seen in _taps(weight.shape[2:], out_size, stride, dilation):
        wide[seen] += np.einsum("ngmhw,gmc->ngchw", _grouped(g, groups, 1), kernel[..., ky, kx])
    wide = wide.reshape(*shape[:2], *wide.shape[3:])
    inside = wide[:, :, padding[0]:padding[0] + size[0], padding[1]:padding[1] + size[1]]
    return np.asarray(inside + (0 if bias is None else bias[:, None, None]), g.dtype)


def conv_weight_gradient(g, x, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Gradient (O, C / groups, *kernel) by the weight: for every tap, what it saw times g, summed over pictures and positions."""
    shape = (g.shape[1], x.shape[1] // groups, *kernel)
    size = conv_size("conv_weight_gradient", x.shape, shape, stride, padding, dilation, groups)
    if g.shape != (len(x), g.shape[1], *size):
        raise ValueError(f"conv_weight_gradient: g has shape {g.shape}, {(len(x), g.shape[1], *size)} fits")
    dw = np.zeros((groups, shape[0] // groups, *shape[1:]))
    for ky, kx, seen in _taps(kernel, size, stride, dilation):
        dw[..., ky, kx] = np.einsum("ngmhw,ngchw->gmc", _grouped(g, groups, 1), _grouped(_padded(x, padding), groups, 1)[seen])
    return np.asarray(dw.reshape(shape), x.dtype)


def _grouped(array, groups, dim=0):
    """Dimension `dim` divided into (groups, rest), in float64."""
    shape = array.shape
    return array.astype(np.float64).reshape(*shape[:dim], groups, shape[dim] // groups, *shape[dim + 1:])


def _padded(x, padding):
    return np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))


def _taps(kernel, size, stride, dilation):
    """(ky, kx, what of a padded and grouped picture this tap sees)."""
    for ky, kx in np.ndindex(*kernel):
        y, x = ky * dilation[0], kx * dilation[1]
        yield ky, kx, (..., slice(y, y + stride[0] * (size[0] - 1) + 1, stride[0]), slice(x, x + stride[1] * (size[1] - 1) + 1, stride[1]))
