"""The model of sounds: what it depends on, what its loss is, what it says one sample at a time, and its file."""

import numpy as np
import pytest

import kernels
import scratchnn as snn
from scratchnn import checkpoint
from scratchnn.data.clips import stacked
from scratchnn.models.wavenet import Logistics, WaveNet, doubling, load_wavenet, save_wavenet
from scratchnn.random import Generator
from scratchnn.tensor import Tensor

RNG = np.random.default_rng(1)
KINDS = {"mu-law": {}, "logistics": {"mixtures": 3}, "labels": {"labels": (4, 2)}, "frames": {"frames": 3, "hop": 64, "mixtures": 2},
         "both": {"labels": (3,), "frames": 2, "hop": 32}}


def net(kind, **options):
    snn.manual_seed(4)
    return WaveNet(residual=6, skip=10, dilations=doubling(2, 3), **KINDS[kind], **options)


def told(model, count, size):
    """Labels and frames that a model takes, of sounds of so many samples."""
    kinds, numbers, hop = model.options["labels"], model.options["frames"], model.options["hop"]
    labels = np.stack([RNG.integers(0, n, count) for n in kinds], 1) if kinds else None
    return labels, RNG.normal(size=(count, -(-size // hop), numbers)).astype(np.float32) if numbers else None


def takes(count, size):
    return RNG.integers(-9000, 9000, (count, size)).astype(np.int16)


def outputs(model, clips, labels, frames=None):
    """What the whole network says of sounds (N, T) int16."""
    given = (None if a is None else Tensor(a) for a in (labels, frames))
    with snn.no_grad():
        return model(Tensor(model.samples.encode(clips)), *given).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_depends_on_its_receptive_field_alone(kind):
    model, field = net(kind), 15
    assert model.receptive_field == field
    clips, given = takes(1, 60), told(net(kind), 1, 60)
    before = outputs(model, clips, *given)
    for place in (0, 20, 59):
        other = clips.copy()
        other[0, place] = 32_000
        reached = np.flatnonzero((outputs(model, other, *given) != before).any(2)[0])
        assert reached[0] == place and reached[-1] == min(place + field - 1, 59)


def test_loss_by_hand():
    model = net("labels")
    clips, labels = takes(2, 60), told(model, 2, 60)[0]
    total, count = model.loss(*stacked([clips[0], clips[1][:40]], model.before, labels))
    assert count == 2 * 60 - 20 - 2 * 15 and model.before == 15
    expected = 0.0
    for take, label in ((clips[0], labels[:1]), (clips[1][:40], labels[1:])):
        ids = model.samples.encode(take)
        logits = outputs(model, take[None], label)[0].astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        expected -= sum(log_p[t - 1, ids[t]] for t in range(15, len(take)))
    assert total.item() == pytest.approx(expected, rel=1e-5)
    bits = model.bits([clips[0], clips[1][:40], clips[1][:15]], np.r_[labels, labels[:1]])
    assert bits == pytest.approx(expected / count / np.log(2), rel=1e-5)
    with pytest.raises(ValueError, match="no take has more than the 15"):
        model.bits([clips[0][:15]], labels)


@pytest.mark.parametrize("scale", [-14.0, -9.0, -2.0])
def test_the_mass_of_all_levels_is_one(scale):
    head = Logistics(2, 4)
    levels = (np.arange(-32768, 32768) / 32768).astype(np.float32)
    said = Tensor(np.repeat(np.array([[0.3, -0.2, -0.999, 0.4, scale, -1.0]], np.float32), len(levels), 0), requires_grad=True)
    nats = head.nats(said, levels)
    nats.sum().backward()
    assert np.exp(-nats.detach().numpy().astype(np.float64)).sum() == pytest.approx(1, abs=2e-3)
    assert np.isfinite(nats.detach().numpy()).all() and np.isfinite(said.grad.numpy()).all()


def test_long_takes_are_judged_in_parts(monkeypatch):
    model, take = net("both"), takes(1, 500)[0]
    frames = RNG.normal(size=(16, 2)).astype(np.float32)
    known = np.array([[1]]), lambda _: frames
    whole = model.bits([take], *known)
    monkeypatch.setattr("scratchnn.models.wavenet.POSITIONS", 100)
    assert model.bits([take], *known) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_of_the_network_however_they_are_cut(kind):
    model, count, steps = net(kind).eval(), 2, 50
    start = takes(count, 20)
    labels, frames = told(model, count, model.before + 20 + steps)

    def made(at_once):
        parts = model.generate(steps, labels, frames, start=start, temperature=0.9, generator=Generator(7), at_once=at_once)
        return np.concatenate(list(parts), 1)

    found = made(50)
    assert found.shape == (count, steps) and found.dtype == np.int16 and np.array_equal(found, made(7))
    if kind != "both":
        return
    likeliest = np.concatenate(list(model.generate(steps, labels, frames, start=start, temperature=0)), 1)
    clips = np.concatenate([np.zeros((count, model.before), np.int16), start, likeliest], 1)
    said = outputs(model, clips, labels, frames)[:, -steps - 1:-1]             # by the whole network, run anew
    assert np.array_equal(said.argmax(2), model.samples.encode(likeliest))


@pytest.mark.parametrize("kind", ["mu-law", "logistics"])
def test_what_is_drawn_has_the_probability_that_training_counts(kind):
    model, start = net(kind), takes(2, 20)
    x = model.samples.encode(start)
    drawn, log_p, _ = kernels.generate_wavenet(kernels.pack_wavenet(model.arrays()), x, None, 40)
    clips = np.concatenate([x, drawn], 1)
    with snn.no_grad():
        said = model(Tensor(np.ascontiguousarray(clips[:, :-1])), first=19)
        nats = model.samples.nats(said.flatten(0, 1), drawn.reshape(-1)).numpy()
    assert np.abs(nats + log_p.reshape(-1)).max() < 2e-3


def test_files(tmp_path):
    model = net("both")
    save_wavenet(tmp_path / "x.safetensors", model, {"rate": 8000})
    found, about = load_wavenet(tmp_path / "x.safetensors")
    labels, frames = told(model, 1, 32)
    clips = takes(1, 32)
    assert about == {"rate": 8000} and found.dilations == (1, 2, 4, 1, 2, 4)
    assert np.array_equal(outputs(found, clips, labels, frames), outputs(model, clips, labels, frames))
    checkpoint.save_weights(tmp_path / "y.safetensors", model.state_dict())
    with pytest.raises(checkpoint.CheckpointError, match="without the description of a WaveNet"):
        load_wavenet(tmp_path / "y.safetensors")


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="hop a multiple of 32"):
        WaveNet(frames=3, hop=100)
    with pytest.raises(ValueError, match=r"made for labels \(N, 2\).*got none and none"):
        net("labels")(Tensor(np.zeros((1, 20), np.int64)))
