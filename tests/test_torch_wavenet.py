"""WaveNet's stack against the same made of torch's convolutions: values and all gradients."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn.ops import wavenet

torch = pytest.importorskip("torch")
F = torch.nn.functional


def stack(h, weight, bias, residual, residual_bias, dilations, condition=None):
    """As torch's users write it: channels before positions, padded on the left, two halves of a convolution's channels as gates."""
    h, found = h.mT, []
    for i, d in enumerate(dilations):
        p = F.conv1d(F.pad(h, (d, 0)), weight[i], bias[i], dilation=d)
        if condition is not None:
            frames = condition[:, :, i * len(bias[i]):][:, :, :len(bias[i])].mT
            p = p + frames.repeat_interleave(h.shape[2] // frames.shape[2], 2)
        a, b = p.chunk(2, 1)
        found.append(torch.tanh(a) * torch.sigmoid(b))
        if i < len(residual):
            h = h + F.conv1d(found[i], residual[i][:, :, None], residual_bias[i])
    return torch.cat(found, 1).mT


@pytest.mark.parametrize("frames", [0, 1, 12, 120])
@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-5), (np.float64, 1e-11)])
def test_stack(dtype, tolerance, frames):
    rng, (N, T, R), dilations = np.random.default_rng(frames), (3, 120, 20), (1, 2, 200, 16, 1)
    L = len(dilations)

    def floats(*shape):
        return (rng.standard_normal(shape) / np.sqrt(shape[-2])).astype(dtype)

    shapes = [(N, T, R), (L, 2 * R, R, 2), (L, 2 * R), (L - 1, R, R), (L - 1, R), *([(N, frames, 2 * L * R)] if frames else [])]
    arrays, g = [floats(*shape) for shape in shapes], floats(N, T, L * R)
    ours, theirs = ([make(a) for a in arrays] for make in (snn.tensor, torch.from_numpy))
    results = [function(*[t.requires_grad_() for t in tensors[:5]], dilations, *[t.requires_grad_() for t in tensors[5:]])
               for function, tensors in ((wavenet, ours), (stack, theirs))]
    results[0].backward(snn.tensor(g))
    results[1].backward(torch.from_numpy(g))
    for a, b in zip((results[0].detach(), *(t.grad for t in ours)), (results[1].detach(), *(t.grad for t in theirs)), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=tolerance * float(b.abs().max()))
