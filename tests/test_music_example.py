"""The example of music: each output, left alone and killed, and what it writes."""

import numpy as np
import programs
import pytest
from programs import figures, flat, killed, run

from scratchnn import checkpoint
from scratchnn.data.composer import compose
from scratchnn.data.midi import read_midi, write_midi
from scratchnn.metrics.music import melody

WRITTEN = (*(f"piece-{i}.{kind}" for i in (1, 2, 3) for kind in ("mid", "wav")), "pieces.png", "histograms.png", "curves.png")


def example(out, *options):
    return programs.smoke("music", out, *options)


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """A folder of MIDI files."""
    folder = tmp_path_factory.mktemp("songs")
    for i in range(9):
        write_midi(folder / f"{i}.mid", compose(2, i))
    return folder


@pytest.fixture(scope="module")
def smoke(tmp_path_factory, songs):
    out = tmp_path_factory.mktemp("smoke")
    return out, figures(run(example(out, "--data", f"midi:{songs}?steps=2", "--batch-size", "2", "--epochs", "8")))


def test_smoke(smoke):
    out, found = smoke
    assert 5 < found["nats"] < 25 and found["valid"] < 25                       # 88 keys that sound or not with even odds: 61
    assert all((out / name).stat().st_size > 60 for name in WRITTEN)
    assert '"stuck"' in (out / "log.jsonl").read_text()
    assert all(read_midi(out / f"piece-{i}.mid", 2).steps == 32 for i in (1, 2, 3))


def test_killed_at_any_moment_and_resumed(smoke, songs, tmp_path):
    command = example(tmp_path, "--data", f"midi:{songs}?steps=2", "--batch-size", "2", "--epochs", "8", "--save-every", "0", "--resume")
    assert killed(command, tmp_path) > 0
    run(command)
    for name in ("weights.safetensors", *WRITTEN):
        assert (tmp_path / name).read_bytes() == (smoke[0] / name).read_bytes(), name
    whole, continued = (flat(checkpoint.load(folder / "checkpoint.safetensors")["parts"]) for folder in (smoke[0], tmp_path))
    assert {name.split(".")[0] for name in whole} == {"model", "loader", "optimizer", "schedule", "average", "stopping"}
    assert whole == continued


def test_other_outputs(songs, tmp_path):
    for output, cell in (("bernoulli", "GRU"), ("events", "LSTM")):
        found = figures(run(example(tmp_path / output, "--data", f"midi:{songs}?steps=2", "--output", output, "--cell", cell)))
        assert 5 < found["nats"] < 61 and (tmp_path / output / "piece-3.wav").exists()


def test_more_by_the_same_seed(smoke, songs, tmp_path):
    pieces = []
    for seed in ("1", "1", "2"):
        run([*example(tmp_path), "--sample", "40", "--from", str(smoke[0]), "--seed", seed, "--primer", str(songs / "0.mid")])
        pieces.append(read_midi(tmp_path / "piece-1.mid", 2).roll())
        assert pieces[-1].shape == (56, 88) and np.array_equal(pieces[-1][:15], compose(2, 0).roll()[:15])
    assert np.array_equal(pieces[0], pieces[1]) and not np.array_equal(pieces[0], pieces[2])


def test_a_harmony_keeps_the_melody(smoke, songs, tmp_path):
    run([*example(tmp_path), "--harmonise", str(songs / "3.mid"), "--from", str(smoke[0])])
    tune = melody(compose(2, 3).roll())
    for i in (1, 2, 3):
        found = read_midi(tmp_path / f"harmony-{i}.mid", 2).roll()
        assert np.array_equal(melody(found), tune) and found.sum() > len(tune)
    assert (tmp_path / "harmonies.png").exists()


def test_mistakes_of_users_take_a_line(smoke, songs, tmp_path):
    def refused(*options):
        return run(example(tmp_path / "out", *options), code=2)

    (tmp_path / "bad.mid").write_bytes(b"MThd")
    assert "bad.mid: not a sound MIDI file: EOFError" in refused("--data", f"midi:{tmp_path}")
    assert "bad.mid: not a sound MIDI file" in refused("--harmonise", str(tmp_path / "bad.mid"), "--from", str(smoke[0]))
    assert "No such file" in refused("--sample", "5", "--from", str(tmp_path / "nothing"))
    assert "--primer: it is for --sample" in refused("--primer", str(songs / "0.mid"))
    assert "leave out --sample" in refused("--harmonise", str(songs / "0.mid"), "--sample", "5")
    assert "steps of a quarter must lie in 1..96" in refused("--data", f"midi:{songs}?steps=0")
