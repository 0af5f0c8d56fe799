"""The example of sounds: left alone and killed, what it writes, and what more it makes by the weights of a run."""

import numpy as np
import programs
import pytest
from programs import figures, flat, killed, run

from scratchnn import checkpoint
from scratchnn.data.wav import read_wav, write_wav

RATE = 4000


def example(out, *options):
    return programs.smoke("wavenet", out, *options)


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """Recordings of two kinds: high and low, with a little noise."""
    folder, rng = tmp_path_factory.mktemp("takes"), np.random.default_rng(0)
    for name, hertz in (("high", 700), ("low", 200)):
        for i in range(8):
            t = np.arange(900 + 40 * i) / RATE
            write_wav(folder / name / f"{i}.wav", 0.5 * np.sin(2 * np.pi * (hertz + 10 * i) * t) + 0.02 * rng.normal(size=len(t)), RATE)
    return f"wav:{folder}?rate={RATE}"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory, takes):
    out = tmp_path_factory.mktemp("smoke")
    return out, figures(run(example(out, "--data", takes, "--epochs", "8", "--batch-size", "1", "--layers", "5")))


def test_smoke(smoke):
    out, found = smoke
    assert found["bits_per_sample"] < found["unigram_bits"] < 8 and found["linear_bits"] < found["unigram_bits"]
    assert 0 <= found["recognised"] <= 100 and 0 <= found["recognised_real"] <= 100
    assert all((out / name).stat().st_size > 1000 for name in ("sounds.png", "curves.png", "weights.safetensors"))
    for name in ("high", "low"):
        sound, rate = read_wav(out / "samples" / f"{name}.wav")
        assert rate == RATE and len(sound) > 100


def test_killed_at_any_moment_and_resumed(smoke, takes, tmp_path):
    command = example(tmp_path, "--data", takes, "--epochs", "8", "--batch-size", "1", "--layers", "5", "--save-every", "0", "--resume")
    assert killed(command, tmp_path) > 0
    run(command)
    for name in ("weights.safetensors", "samples/high.wav", "samples/low.wav", "sounds.png"):
        assert (tmp_path / name).read_bytes() == (smoke[0] / name).read_bytes(), name
    whole, continued = (flat(checkpoint.load(folder / "checkpoint.safetensors")["parts"]) for folder in (smoke[0], tmp_path))
    assert {name.split(".")[0] for name in whole} == {"model", "loader", "optimizer", "schedule", "average", "stopping"}
    assert whole == continued


def test_more_by_the_same_seed(smoke, tmp_path):
    sounds = []
    for seed in ("1", "1", "2"):
        run([*example(tmp_path), "--sample", "0.5", "--from", str(smoke[0]), "--seed", seed, "--label", "low", "--top-k", "60",
             "--seed-audio", str(smoke[0] / "samples" / "low.wav")])
        sounds.append(read_wav(tmp_path / "sample.wav")[0])
        assert len(sounds[-1]) == 2000
    assert np.array_equal(sounds[0], sounds[1]) and not np.array_equal(sounds[0], sounds[2])


def test_frames_of_a_mixture_are_followed(takes, tmp_path):
    found = figures(run(example(tmp_path, "--data", takes, "--output", "logistics", "--frames", "pitch", "--hop", "64", "--layers", "5",
                                "--batch-size", "1", "--epochs", "4")))
    assert 5 < found["bits_per_sample"] < 16
    like = takes.partition(":")[2].partition("?")[0] + "/low/3.wav"
    run([*example(tmp_path), "--sample", "1", "--like", like])
    assert len(read_wav(tmp_path / "sample.wav")[0]) == len(read_wav(like)[0])
    assert "follows pitch frames; give --like" in run([*example(tmp_path), "--sample", "1"], code=2)
    assert "no classes; leave out --top-k" in run([*example(tmp_path), "--sample", "1", "--like", like, "--top-k", "9"], code=2)


def test_mistakes_of_users_take_a_line(smoke, takes, tmp_path):
    def refused(*options):
        return run(example(tmp_path / "out", *options), code=2)

    write_wav(tmp_path / "short.wav", 0.5 * np.sin(np.arange(20)), RATE)
    write_wav(tmp_path / "slow.wav", 0.5 * np.sin(np.arange(2000)), 2000)
    more = "--sample", "1", "--from", str(smoke[0])
    assert "fewer than the 32 that the network hears at once" in refused(*more, "--seed-audio", str(tmp_path / "short.wav"))
    assert "2,000 samples a second, 4,000 are wanted" in refused(*more, "--seed-audio", str(tmp_path / "slow.wav"))
    assert "--label: loud is not known; class: high, low" in refused(*more, "--label", "loud")
    assert "--label: high, low are of one kind, class; name one" in refused(*more, "--label", "low", "high")
    assert "they are for --sample" in refused("--label", "low")
    assert "nothing is left of" in refused("--data", takes, "--layers", "12")
