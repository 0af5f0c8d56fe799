"""device="cuda" from the user's side, in the simulator: the same losses as on the CPU, and errors that say what is missing."""

import gc
import subprocess
import sys
from pathlib import Path

import cuda_wing
import numpy as np
import pytest

cuda_wing.wing()
from cuda_wing import only_here  # noqa: E402, F401

import kernels  # noqa: E402
import scratchnn as snn  # noqa: E402
from scratchnn import nn, optim  # noqa: E402
from scratchnn.checkpoint import load_weights, save_weights  # noqa: E402
from scratchnn.nn import functional as F  # noqa: E402


def train(device, steps=3):
    """(losses, model) of a small classifier."""
    snn.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.25), nn.LayerNorm(8), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))
    model = model.to(device)
    adam, losses = optim.Adam(model.parameters(), 0.05), []
    for _ in range(steps):
        x, target = snn.randn(7, 6), snn.randint(0, 3, (7,))
        loss = F.cross_entropy(model(x.to(device)), target.to(device)) + 0.01 * (model[0].weight ** 2).mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        losses.append(loss.item())
    return losses, model


def test_a_classifier_learns_the_same_on_either_device():
    (here, own), (there, moved) = train("cpu"), train("cuda")
    np.testing.assert_allclose(there, here, rtol=1e-5)
    assert moved[0].weight.device == "cuda" and own[0].weight.device == "cpu"
    assert "device='cuda'" in repr(moved[0].bias)
    back = moved.to("cpu")
    for a, b in zip(own.parameters(), back.parameters(), strict=True):
        np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), atol=1e-5)


def train_on_pictures(device, steps=2):
    """Losses of a small convolutional classifier, and of a decoder that shares its features."""
    snn.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
                             nn.Conv2d(4, 5, 1), nn.ReLU()).to(device)
    classes = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(5, 3)).to(device)
    decoder = nn.ConvTranspose2d(5, 1, 6, stride=4, padding=1).to(device)
    adam, losses = optim.Adam([*features.parameters(), *classes.parameters(), *decoder.parameters()], 0.05), []
    for _ in range(steps):
        x, target = snn.randn(3, 1, 8, 8).to(device), snn.randint(0, 3, (3,)).to(device)
        h = features(x)
        loss = F.cross_entropy(classes(h), target) + F.binary_cross_entropy_with_logits(decoder(h), snn.sigmoid(x))
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return losses


def test_convolutions_and_pooling_learn_the_same_on_either_device():
    np.testing.assert_allclose(train_on_pictures("cuda"), train_on_pictures("cpu"), rtol=1e-5)


def test_a_variational_bound_and_its_gradients():
    found = []
    for device in ("cpu", "cuda"):
        snn.manual_seed(1)
        mean, logvar = (snn.randn(4, 3).to(device).requires_grad_() for _ in range(2))
        z = snn.gaussian_sample(mean, logvar)
        loss = F.binary_cross_entropy_with_logits(z @ snn.ones(3, 5).to(device), snn.ones(4, 5).to(device), reduction="sum")
        loss = loss + snn.gaussian_kl(mean, logvar).sum()
        loss.backward()
        found.append([t.cpu().detach().numpy() for t in (loss, mean.grad, logvar.grad)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


def learner(wrap, clip=None):
    """(what a training step of a small network with dropout returns when it is called again and again, model) by a graph or without."""
    snn.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.25), nn.Linear(8, 3)).to("cuda")
    adam = optim.AdamW(model.parameters(), 0.05)
    schedule = optim.lr_scheduler.StepLR(adam, 2, 0.5)

    def learn(x, target):
        loss = F.cross_entropy(model(x), target)
        adam.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        adam.step()
        return loss

    learn = wrap(learn)

    def losses(sizes):
        found = []
        for size in sizes:
            x, target = snn.randn(size, 6).to("cuda"), snn.randint(0, 3, (size,)).to("cuda")
            found.append(learn(x, target).item())
            schedule.step()
        return found
    return losses, model, learn


@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_graph_learns_the_same_bit_for_bit(clip):
    sizes = (5, 4, 5, 5, 4, 4, 5)
    (plain, model, _), (found, other, _) = (learner(wrap, clip) for wrap in (lambda f: f, snn.cuda.graphed))
    snn.manual_seed(1)
    expected = plain(sizes)
    snn.manual_seed(1)
    assert found(sizes) == expected and len(set(expected)) == len(expected)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(a.cpu().detach().numpy(), b.cpu().detach().numpy())


def test_a_graph_keeps_its_memory_and_gives_it_back():
    gc.collect()
    held, (losses, _, learn) = snn.cuda.memory_allocated(), learner(snn.cuda.graphed)
    losses([5] * 3)
    others = [snn.randn(6, 8).to("cuda") for _ in range(20)]                  # would lie where the graph writes, if it did not own that
    before = [x.cpu().numpy() for x in others]
    losses([5])
    for x, numbers in zip(others, before, strict=True):
        np.testing.assert_array_equal(x.cpu().numpy(), numbers)
    del losses, learn, _, others, x
    gc.collect()
    assert snn.cuda.memory_allocated() - held <= 8192                         # tables that are kept for the next optimiser


def test_what_a_graph_cannot_do_is_said_and_faults_in_it_are_found():
    w, g = snn.ones(3).to("cuda"), snn.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match=r"is being captured.*\.item\(\)"), snn.cuda.graph(g):
        (w * 2).sum().item()
    with pytest.raises(RuntimeError, match="default generator alone"), snn.cuda.graph(snn.cuda.CUDAGraph()):
        snn.rand_like(w, generator=snn.Generator(3))
    x, target, g = snn.randn(2, 3).to("cuda"), snn.tensor([0, 1]).to("cuda"), snn.cuda.CUDAGraph()
    with snn.cuda.graph(g):
        loss = F.cross_entropy(x, target)
    g.replay()
    assert loss.item() == F.cross_entropy(x, target).item()
    target.copy_(snn.tensor([0, 7]).to("cuda"))
    for _ in range(2):
        g.replay()
        with pytest.raises(IndexError, match=r"target 7 at place 1 .*0\.\.2"):
            loss.item()
    with pytest.raises(RuntimeError, match="another graph"), snn.cuda.graph(snn.cuda.CUDAGraph()):
        g.replay()
    snn.manual_seed(5)
    with pytest.raises(RuntimeError, match="capture it anew"):
        g.replay()


def test_a_checkpoint_moves_between_devices(tmp_path):
    model, other = nn.Linear(3, 2).to("cuda"), nn.Linear(3, 2)
    save_weights(tmp_path / "w.safetensors", model.state_dict())
    other.load_state_dict(load_weights(tmp_path / "w.safetensors"))
    np.testing.assert_array_equal(other.weight.detach().numpy(), model.weight.cpu().detach().numpy())
    with snn.no_grad():
        other.weight[...] = 3
    model.load_state_dict(other.state_dict())
    assert model.weight.device == "cuda" and (model.weight == 3).cpu().all()


def test_moving_keeps_history_and_what_is_missing_is_named():
    x = snn.ones(2, 2, requires_grad=True)
    (x.to("cuda") * 3).cpu().sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 2), 3))
    there = snn.ones(2, 1, 4).cuda()
    with pytest.raises(NotImplementedError, match=r"lstm has no CUDA kernel yet.*\.cpu\(\)"):
        nn.LSTM(4, 3).to("cuda")(there)
    with pytest.raises(TypeError, match=r"\.cpu\(\)\.numpy\(\)"):
        there.numpy()
    with pytest.raises(TypeError, match=r"must lie on the GPU.*\.to\('cuda'\)"):
        there + snn.ones(4)


def test_a_machine_without_cuda_is_told_what_is_missing():
    code = "import scratchnn as snn, sys; assert not {'cuda', 'kernels.cuda'} & set(sys.modules); snn.ones(2).to('cuda')"
    result = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(Path(__file__).parent.parent), "CUDA_VISIBLE_DEVICES": ""},
                            capture_output=True, text=True)
    assert "RuntimeError: device 'cuda' was asked for, but " in result.stderr
    assert "pip install 'scratchnn[cuda]'" in result.stderr or "nvidia-smi" in result.stderr


def test_the_device_says_what_it_is_and_how_products_are_computed():
    assert snn.cuda.is_available() and snn.cuda.get_device_name() and snn.cuda.memory_reserved() >= snn.cuda.memory_allocated()
    x = snn.ones(1000, device="cuda")
    del x
    snn.cuda.empty_cache()
    snn.cuda.synchronize()
    assert snn.get_float32_matmul_precision() == "highest"
    snn.set_float32_matmul_precision("high")
    assert kernels.config.TF32 and snn.get_float32_matmul_precision() == "high"
    snn.set_float32_matmul_precision("highest")
    with pytest.raises(ValueError, match="'highest' or 'high', not 'medium'"):
        snn.set_float32_matmul_precision("medium")
    assert not kernels.config.TF32


def test_new_tensors_on_the_gpu():
    for make in (lambda **o: snn.zeros(2, 3, **o), lambda **o: snn.ones((2,), **o), lambda **o: snn.full((2, 2), -0.0, **o),
                 lambda **o: snn.tensor([[1, 2], [3, 4]], **o), lambda **o: snn.rand(5, generator=snn.Generator(1), **o)):
        there, here = make(device="cuda"), make()
        assert there.device == "cuda" and there.dtype == here.dtype
        np.testing.assert_array_equal(there.cpu().numpy(), here.numpy())
    assert snn.empty(3, device="cuda:0").shape == (3,)
    with pytest.raises(ValueError, match="choose cpu, cuda or cuda:0"):
        snn.zeros(2, device="gpu")
