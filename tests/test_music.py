"""Music: notes, MIDI, events, batches, the composer, models and their measures."""

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchnn as snn
from scratchnn import data
from scratchnn.data import events
from scratchnn.data.composer import compose
from scratchnn.data.dataset import DataError
from scratchnn.data.midi import read_midi, write_midi
from scratchnn.data.music import padded, transposed
from scratchnn.data.score import KEYS, Score, tidied
from scratchnn.data.synth import PEAK, RATE, synthesise
from scratchnn.data.wav import write_wav
from scratchnn.metrics.music import Faults, faults, histograms, melody, usual
from scratchnn.models.music import EventModel, RollModel, load_music_model, save_music_model
from scratchnn.random import Generator

RNG = np.random.default_rng(0)


def rolls(count, keys=KEYS, longest=12):
    return [(RNG.random((RNG.integers(2, longest), keys)) < 0.3).astype(np.uint8) for _ in range(count)]


# ---- notes and files ----------------------------------------------------------------------------------------------------

notes = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60), st.integers(0, 127), st.integers(1, 127)), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(notes, st.integers(0, 40), st.sampled_from([1, 4, 7, 24, 96]))
def test_midi_in_midi_out(tmp_path_factory, found, rest, quarter):
    path = tmp_path_factory.getbasetemp() / "round.mid"
    found = tidied(np.array(found))
    score = Score(found, int((found[:, 0] + found[:, 1]).max()) + rest, quarter, 97.0)
    write_midi(path, score)
    again = read_midi(path, quarter)
    assert np.array_equal(again.notes, score.notes) and again.steps == score.steps and again.tempo == pytest.approx(97, rel=1e-5)
    write_midi(path, Score.of_roll(score.roll(), quarter))
    assert not score.roll().any() or np.array_equal(read_midi(path, quarter).roll(), score.roll())


@settings(max_examples=60, deadline=None)
@given(notes, st.integers(0, 400), st.integers(-12, 12))
def test_events_in_events_out(found, rest, semitones):
    found = tidied(np.array(found))
    found[:, 3] = found[:, 3] // 4 * 4 + 2                                      # a velocity of each level
    score = Score(found, int((found[:, 0] + found[:, 1]).max()) + rest, 4)
    ids = events.encode(score)
    again = events.decode(ids, 4)
    assert np.array_equal(again.notes, score.notes) and again.steps == score.steps == events.steps(ids)
    assert ids.min() >= 0 and ids.max() < events.EVENTS and ids[-1] == events.END
    if found[:, 2].min() >= 12 and found[:, 2].max() < 116:
        higher = found.copy()
        higher[:, 2] += semitones
        assert np.array_equal(events.decode(events.transposed(ids, semitones), 4).notes, higher)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, events.EVENTS - 1), max_size=200))
def test_any_events_make_a_score(ids):
    score = events.decode(ids, 4)
    assert np.array_equal(tidied(score.notes.copy()), score.notes) and (score.notes[:, :2].sum(1) <= score.steps).all()


def midi(*tracks, kind=1, ticks=480):
    return struct.pack(">4sIHHH", b"MThd", 6, kind, len(tracks), ticks) + b"".join(
        struct.pack(">4sI", b"MTrk", len(track)) + track for track in map(bytes.fromhex, tracks))


@pytest.mark.parametrize(("content", "expected"), [
    (midi("00 90 3c 40 83 60 3c 00 00 3e 50 83 60 3e 00 00 ff 2f 00"), [[0, 4, 60, 64], [4, 4, 62, 80]]),        # running status, no tempo
    (midi("00 90 3c 40 00 99 28 40 83 60 80 3c 00 00 ff 2f 00"), [[0, 4, 60, 64]]),                              # a drum
    (midi("00 90 3c 40 83 60 ff 2f 00"), [[0, 4, 60, 64]]),                                                      # never ended
    (midi("00 90 3c 40 0a 3c 00 00 ff 2f 00"), [[0, 1, 60, 64]]),                                                # shorter than a step
    (midi(), "no notes in 0 tracks"), (midi("00 ff 2f 00"), "no notes in 1 tracks"), (b"RIFF" + bytes(40), "not a sound MIDI file"),
    (midi("ff ff ff 7f 90 3c 40 ff ff ff 7f 80 3c 00 00 ff 2f 00"), "more than the limit of 32,768"),
    (midi("00 90 3c 40 0a 3c 00 00 ff 2f 00", kind=2), "type 2"), (midi("00 90 3c 40 0a 3c 00 00 ff 2f 00", ticks=0), "0 ticks"),
    (midi("00 90 3c 40 0a 3c 00 00 ff 2f 00", ticks=0xE728), "ticks in a quarter"), (midi("00 90 3c"), "not a sound MIDI file")])
def test_midi_files(content, expected, tmp_path):
    (tmp_path / "x.mid").write_bytes(content)
    if isinstance(expected, list):
        assert read_midi(tmp_path / "x.mid").notes.tolist() == expected
    else:
        with pytest.raises(DataError, match=rf"x\.mid: .*{expected}"):
            read_midi(tmp_path / "x.mid")


def test_a_folder_of_midi_files(tmp_path):
    for i in range(12):
        write_midi(tmp_path / f"{i:02}.mid", compose(1, i))
    (tmp_path / "a.mid").write_bytes(b"nothing")
    (tmp_path / "b.txt").write_text("no music")
    with pytest.warns(UserWarning, match=r"12 pieces read, 1 files skipped:\n  .*a\.mid: not a sound MIDI file"):
        music = data.load(f"midi:{tmp_path}?steps=2")
    assert [len(part) for part in (music.train, music.valid, music.test)] == [9, 2, 1] and music.quarter == 2
    assert np.array_equal(music.valid[0], compose(1, 1).roll()) and music.notes("valid")[0].notes.tolist() == compose(1, 1).notes.tolist()
    for path in tmp_path.glob("*.mid"):
        path.unlink()
    with pytest.raises(DataError, match="0 pieces in 0 MIDI files, 3 are needed"):
        data.load(f"midi:{tmp_path}")


def test_tunes():
    music = data.load("tunes")
    pieces = [*music.train, *music.valid, *music.test]
    assert len(pieces) == 600 and len({piece.tobytes() for piece in pieces}) == 600
    assert all(piece.any(1).all() and len(piece) in (96, 128) for piece in pieces)                    # something sounds in each step
    assert {int(piece.sum(1).max()) for piece in pieces} <= {2, 3, 4, 5}
    pitches = histograms(music.train)["pitch class"][1]
    assert pitches.min() > 0.05                                                                        # all keys
    closing = [(melody(piece)[-1] - np.flatnonzero(piece[-len(piece) // 16])[0]) % 12 for piece in pieces]
    assert np.mean(np.array(closing) == 0) > 0.85                                                      # on the tonic, over its bass


def test_sound(tmp_path):
    score = compose(0, 3)
    sound = synthesise(score)
    assert len(sound) / 22_050 == pytest.approx(score.steps * 60 / score.tempo / score.quarter, abs=0.2)
    assert abs(sound).max() == pytest.approx(PEAK) and abs(sound[:3]).max() < 1e-3 and abs(sound[-3:]).max() < 1e-3
    alone = synthesise(Score(np.array([[0, 4, 48, 90]]), 8, 4))                   # any jump would be a click
    assert abs(np.diff(alone)).max() < 0.12 and not synthesise(Score(np.zeros((0, 4), np.int64), 8, 4)).any()
    write_wav(tmp_path / "x.wav", sound, RATE)
    assert (tmp_path / "x.wav").stat().st_size == 44 + 2 * len(sound)


# ---- measures -----------------------------------------------------------------------------------------------------------

def test_faults():
    roll = np.zeros((64, KEYS), np.uint8)
    roll[np.arange(64), RNG.permutation(64)] = 1
    assert faults(roll) == Faults(held=1, silent=0, looped=0)
    stuck, mute, loop = roll.copy(), roll.copy(), roll.copy()
    stuck[10:50, 70], mute[20:40], loop[16:] = 1, 0, np.tile(roll[:4], (12, 1))
    assert faults(stuck).held == 40 and faults(mute).silent == 20 and faults(loop).looped == 40
    limits = usual([roll] * 5)
    assert not faults(roll).beyond(limits) and faults(stuck).beyond(limits) == ["held"] and faults(mute).beyond(limits)[0] == "silent"
    assert "looped" in faults(loop).beyond(limits) and faults(np.zeros((9, KEYS), np.uint8)) == Faults(0, 9, 7)


# ---- batches ------------------------------------------------------------------------------------------------------------

def test_batches():
    pieces = rolls(21, longest=40)
    loader = data.PieceBatches(pieces, 4, 16, 3, generator=Generator(1))
    first = [(x.numpy(), lengths.numpy()) for x, lengths in loader]
    assert len(first) == len(loader) and all(x.shape[1] == len(lengths) <= 4 and x.shape[0] == lengths.max() <= 16 for x, lengths in first)
    assert sum(lengths.sum() for _, lengths in first) == sum(map(len, pieces))
    assert sum(x.sum() for x, _ in first) == sum(p.sum() for p in pieces)
    second = iter(loader)
    next(second)
    other = data.PieceBatches(pieces, 4, 16, 3, generator=Generator(2))
    other.load_state_dict(loader.state_dict())
    for (a, b), (c, d) in zip(second, other, strict=True):
        assert np.array_equal(a.numpy(), c.numpy()) and np.array_equal(b.numpy(), d.numpy())
    with pytest.raises(ValueError, match="PieceBatches: the state is of other data"):
        data.PieceBatches(rolls(3), 4, 16, 3).load_state_dict(loader.state_dict())


def test_transposition_stays_on_the_piano():
    roll = np.zeros((3, KEYS), np.uint8)
    roll[0, 2], roll[2, 60] = 1, 1
    assert np.flatnonzero(transposed(roll, 5).any(0)).tolist() == [7, 65]
    assert np.flatnonzero(transposed(roll, -5).any(0)).tolist() == [9, 67]
    roll[1, 87] = 1
    assert np.array_equal(transposed(roll, 5), roll)                           # no place to go


# ---- models -------------------------------------------------------------------------------------------------------------

def tiny(output, keys=5):
    snn.manual_seed(0)
    return RollModel(output, 6, 2, "GRU", units=4, keys=keys)


def key_by_key(model, features, step):
    """Nats of one step (keys,), each key asked by itself."""
    total, above = 0.0, np.zeros((1, len(step)), np.float32)
    for key in reversed(range(len(step))):
        logits = model.output.linear(features) if model.options["output"] == "bernoulli" else model.output.logits(features, above)
        logit = logits.numpy()[0, key]
        total += np.log1p(np.exp(-logit if step[key] else logit))
        above[0, key] = step[key]
    return total


@pytest.mark.parametrize("output", ["bernoulli", "autoregressive"])
def test_nats_are_those_of_the_protocol(output):
    model, pieces, total = tiny(output), rolls(7, 5), 0.0
    with snn.no_grad():
        for piece in pieces:
            for t in range(1, len(piece)):                                     # a prediction from nothing but the steps before
                before = np.concatenate([np.zeros((1, 5)), piece[:t]]).astype(np.float32)
                features, _ = model(snn.tensor(before[:, None]))
                total += key_by_key(model, features[-1], piece[t])
    expected = total / sum(len(piece) - 1 for piece in pieces)
    assert model.nats(pieces) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("output", ["bernoulli", "autoregressive"])
def test_probabilities_of_all_chords_add_up_to_one_and_are_those_drawn(output):
    model, features = tiny(output, 4), snn.tensor(RNG.normal(size=(1, 6)).astype(np.float32))
    chords = np.array(list(itertools.product((0, 1), repeat=4)), np.float32)
    with snn.no_grad():
        p = np.array([np.exp(-model.output(features, chord[None]).item()) for chord in chords])
        assert p.sum() == pytest.approx(1, abs=1e-5)
        many = snn.tensor(np.repeat(features.numpy(), 20_000, 0))
        free, u = np.full((20_000, 4), -1), RNG.random((20_000, 4)).astype(np.float32)
        drawn, log_p = model.output.draw(many, u, 1.0, free)
        share = np.bincount((drawn @ [8, 4, 2, 1]).astype(int), minlength=16) / 20_000
        assert abs(share - p).max() < 0.015 and not log_p.any()
        given = np.broadcast_to([-1, 1, -1, 0], free.shape)                    # some keys are known: the others are drawn given those above
        drawn, log_p = model.output.draw(many, u, 1.0, given)
        assert (drawn[:, 1] == 1).all() and not drawn[:, 3].any()
        known = np.exp(p[(chords[:, 1] == 1) & (chords[:, 3] == 0)].sum())
        assert np.exp(np.exp(log_p).mean()) == pytest.approx(known, rel=0.02)  # the weights of a particle filter are unbiased


@pytest.mark.parametrize("output", ["bernoulli", "autoregressive"])
def test_composing_and_harmonising(output):
    model, primer, tune = tiny(output, KEYS), rolls(1)[0], [50, 52, -1, 52, 40]
    pieces = [model.compose(primer, 3, 9, generator=Generator(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(pieces[0], pieces[1]) and not np.array_equal(pieces[0], pieces[2])
    assert pieces[0].shape == (3, len(primer) + 9, KEYS) and all(np.array_equal(piece[:len(primer)], primer) for piece in pieces[0])
    assert model.compose(primer[:0], 1, 4, generator=Generator(0)).shape == (1, 4, KEYS)
    harmony = model.harmonise(tune, candidates=8, generator=Generator(0))
    assert melody(harmony).tolist() == tune and not harmony[2].any() and harmony.sum() > 5
    assert np.array_equal(harmony, model.harmonise(tune, candidates=8, generator=Generator(0)))


def test_gradients_reach_every_weight():
    for output in ("bernoulli", "autoregressive"):
        model = tiny(output)
        nats, count = model.loss(*map(snn.tensor, padded(rolls(3, 5))))
        (nats / count).backward()
        assert all(np.abs(p.grad.numpy()).max() > 0 for name, p in model.named_parameters() if "bias_hh" not in name)


def test_events_are_learnt_by_a_language_model(tmp_path):
    snn.manual_seed(0)
    model, pieces = EventModel(8, 16), [events.encode(compose(0, i)) for i in range(3)]
    with snn.no_grad():
        total = sum(model.language.nats(np.r_[events.END, piece]) * len(piece) for piece in pieces)
    assert model.nats(pieces) == pytest.approx(total / sum(compose(0, i).steps for i in range(3)), rel=1e-5)
    written = [model.compose(pieces[0][:10], 2, 20, generator=Generator(seed)) for seed in (0, 0)]
    assert all(np.array_equal(a, b) for a, b in zip(*written, strict=True)) and np.array_equal(written[0][0][:10], pieces[0][:10])
    save_music_model(tmp_path / "w.safetensors", model, {"quarter": 2})
    again, about = load_music_model(tmp_path / "w.safetensors")
    assert type(again) is EventModel and about == {"quarter": 2} and again.nats(pieces) == model.nats(pieces)
