"""Language models: what they measure, remember, write and save."""

import numpy as np
import pytest

import scratchnn as snn
from scratchnn import data
from scratchnn.checkpoint import CheckpointError
from scratchnn.models.language import LanguageModel, Memory, load_language_model, save_language_model
from scratchnn.models.networks import CELLS
from scratchnn.random import Generator

IDS = np.random.default_rng(0).integers(0, 9, 700)


@pytest.fixture(params=[("LSTM", False), ("GRU", True), ("RNN", False)], ids=lambda p: p[0])
def model(request):
    cell, tied = request.param
    snn.manual_seed(0)
    return LanguageModel(9, 12 if tied else 5, 12, 2, cell, tied=tied)


def test_nats_are_those_of_the_whole_text_read_at_once(model):
    x, y = (snn.from_numpy(np.ascontiguousarray(part[:, None])) for part in (IDS[:-1], IDS[1:]))
    whole, _ = model.loss(x, y)
    assert model.nats(IDS) == pytest.approx(whole.item(), abs=1e-6)
    assert model.nats(IDS, 7) == pytest.approx(whole.item(), abs=0.05) and model.nats(IDS, 7) != model.nats(IDS)
    with pytest.raises(ValueError, match="3 tokens are too few for 3 readers"):
        model.nats(IDS[:3], 3)


def test_memory_goes_on_where_the_text_does(model):
    x, y = (snn.from_numpy(IDS[i:i + 600].reshape(3, 200).T.copy()) for i in (0, 1))
    whole, _ = model.loss(x, y)
    memory, halves = Memory(), []
    for part in (slice(0, 80), slice(80, 200)):
        loss, state = model.loss(x[part], y[part], memory.state)
        halves.append(loss.item() * (part.stop - part.start))
        memory.keep(state)
    assert sum(halves) / 200 == pytest.approx(whole.item(), abs=1e-6)
    again = Memory()
    again.load_state_dict(memory.state_dict())
    assert again.state is memory.state and not any(part.requires_grad for layer in memory.state for part in
                                                   (layer if isinstance(layer, tuple) else (layer,)))
    memory.forget()
    assert memory.state is None


def test_dropout_takes_the_same_units_in_all_steps():
    snn.manual_seed(3)
    model = LanguageModel(9, 5, 64, 1, dropout=0.5)
    x = snn.from_numpy(IDS[:40].reshape(20, 2).copy())
    seen = {}
    model.output.register_forward_hook(lambda module, args, result: seen.update(features=args[0].detach().numpy().copy()))
    model(x)
    dropped = seen["features"] == 0
    assert (dropped == dropped[0]).all() and 0.3 < dropped.mean() < 0.7 and (dropped[0, 0] != dropped[0, 1]).any()
    model.eval()
    model(x)
    assert not (seen["features"] == 0).any()


def test_what_is_written_is_what_the_model_finds_likely(model):
    """At temperature 0, each token is the most likely one after those before it, as the layers say."""
    drawn = np.concatenate(list(model.generate(IDS[:6], 40, temperature=0, at_once=7)))
    text = np.concatenate([IDS[:6], drawn])
    logits, _ = model(snn.from_numpy(text[:-1, None].copy()))
    assert len(drawn) == 40 and np.array_equal(logits.detach().numpy()[5:, 0].argmax(1), drawn)


def test_the_same_seed_writes_the_same(model):
    one, other = (np.concatenate(list(model.generate(IDS[:3], 50, top_k=5, top_p=0.9, generator=Generator(4), at_once=n))) for n in (1, 32))
    assert np.array_equal(one, other) and one.min() >= 0 and one.max() < 9
    assert not np.array_equal(one, np.concatenate(list(model.generate(IDS[:3], 50, top_k=5, top_p=0.9, generator=Generator(5)))))


def test_the_most_likely_text_is_found(model):
    """Two tokens of nine, of which all 81 are tried."""
    likely = model.most_likely(IDS[:4], 2, 9)
    pairs = np.stack(np.meshgrid(np.arange(9), np.arange(9), indexing="ij"), -1).reshape(-1, 2)
    text = np.concatenate([np.repeat(IDS[None, :4], 81, 0), pairs], 1).T
    logits, _ = model(snn.from_numpy(text[:-1].copy()))
    log_p = np.take_along_axis(snn.nn.functional.log_softmax(logits, -1).detach().numpy()[3:], text[4:, :, None], 2).sum((0, 2))
    assert np.array_equal(likely, pairs[log_p.argmax()])
    assert np.array_equal(model.most_likely(IDS[:1], 5, 1), np.concatenate(list(model.generate(IDS[:1], 5, temperature=0))))


def test_activations_are_what_the_last_layer_says(model):
    said = model.activations(IDS[:30])
    assert said.shape == (30, 12) and np.abs(said).max() <= 1
    logits, _ = model(snn.from_numpy(IDS[:30, None].copy()))
    assert np.allclose(model.output(snn.from_numpy(said)).detach().numpy(), logits.detach().numpy()[:, 0], atol=1e-5)


def test_saved_and_loaded(model, tmp_path):
    words = data.Vocabulary([*"abcdefghi"], "char")
    save_language_model(tmp_path / "weights.safetensors", model, words)
    saved = load_language_model(tmp_path / "weights.safetensors")
    assert saved.model.nats(IDS) == model.nats(IDS) and saved.vocabulary.tokens == words.tokens
    assert (saved.model.output.weight is saved.model.embedding.weight) == model.options["tied"]
    with pytest.raises(CheckpointError, match="truncated"):
        (tmp_path / "half.safetensors").write_bytes((tmp_path / "weights.safetensors").read_bytes()[:900])
        load_language_model(tmp_path / "half.safetensors")


def test_settings_that_do_not_fit():
    with pytest.raises(ValueError, match="tied weights take as many"):
        LanguageModel(9, 5, 12, tied=True)
    with pytest.raises(ValueError, match=f"one of {', '.join(CELLS)}"):
        LanguageModel(9, cell="Elman")
