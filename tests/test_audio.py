"""Sounds: files, mu-law, embedded sets, folders of the user's, batches, spectra and pitch, and what models are measured beside."""

import shutil
import struct
import wave

import numpy as np
import pytest
from scipy.stats import norm

from kernels import config
from scratchnn import data
from scratchnn.data.audio import Audio, as_int16, mu_law_edges, trimmed
from scratchnn.data.clips import TakeBatches, features
from scratchnn.data.dataset import DataError
from scratchnn.data.spectrum import log_mel, pitch, spectrogram
from scratchnn.data.voices import VOWELS, melody, pluck, vowel
from scratchnn.data.wav import KINDS, WavWriter, read_wav, resample, write_wav
from scratchnn.metrics.audio import LinearPredictor, companded_levels, mu_law_levels, pcm_levels, pitch_histograms, unigram_bits
from scratchnn.random import Generator

RNG = np.random.default_rng(3)


def tone(hertz, seconds=0.5, rate=8000, loud=0.5):
    return (loud * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


# ---- files --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", KINDS)
def test_files_of_every_kind(kind, tmp_path):
    sound = tone(440)
    write_wav(tmp_path / "x.wav", np.stack([sound, 0 * sound], 1), 8000, kind)
    found, rate = read_wav(tmp_path / "x.wav")
    assert rate == 8000 and found.dtype == np.float32 and np.abs(found - sound / 2).max() < (1e-2 if kind == "uint8" else 1e-4)


def test_24_bits_and_resampling(tmp_path):
    sound = tone(440, rate=44_100)
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(3), file.setframerate(44_100)
        file.writeframes(np.rint(sound * 8_388_607).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
    assert np.abs(read_wav(tmp_path / "x.wav")[0] - sound).max() < 1e-6
    found, rate = read_wav(tmp_path / "x.wav", 8000)
    assert rate == 8000 and len(found) == 4000 and np.abs(found - tone(440))[100:-100].max() < 2e-3
    assert abs(resample(tone(6000, rate=44_100), 44_100, 8000)[100:-100]).max() < 0.02     # what would come back as 2,000 Hz


def test_files_that_cannot_be_used(tmp_path):
    write_wav(tmp_path / "x.wav", tone(440), 8000)
    content = (tmp_path / "x.wav").read_bytes()
    write_wav(tmp_path / "silent.wav", np.zeros(800), 8000)
    (tmp_path / "cut.wav").write_bytes(content[:-100])
    (tmp_path / "none.wav").write_bytes(b"")
    with WavWriter(tmp_path / "empty.wav", 8000):
        pass
    (tmp_path / "fast.wav").write_bytes(content[:24] + struct.pack("<II", 1_000_000, 2_000_000) + content[32:])
    for name, fault in (("silent", "is silent.*record it again"), ("cut", "not a sound WAV.*export it anew"), ("none", "not a sound WAV"),
                        ("empty", "no samples.*leave it out"), ("fast", "names 1,000,000 samples a second.*write it anew")):
        with pytest.raises(DataError, match=rf"{name}\.wav: .*{fault}"):
            read_wav(tmp_path / f"{name}.wav", 8000)
    with pytest.raises(DataError, match=r"8,000 samples a second, 16,000 are wanted.*take a rate of 8,000"):
        read_wav(tmp_path / "x.wav", 16_000)


def test_a_growing_file_is_sound_at_every_moment(tmp_path):
    path, takes, written = tmp_path / "x.wav", [as_int16(tone(300 + i)) for i in range(3)], []
    with WavWriter(path, 8000) as file:
        for take in takes:
            file.write(take)
            written.append(path.read_bytes())
    for i, content in enumerate(written):
        for left in (content, content + as_int16(tone(99)).tobytes()):         # killed between the samples and the header
            path.write_bytes(left)
            assert np.array_equal(as_int16(read_wav(path)[0]), np.concatenate(takes[:i + 1]))


# ---- samples ------------------------------------------------------------------------------------------------------------

def test_mu_law():
    x = np.linspace(-1, 1, 4001)
    ids, edges = data.mu_law_encode(x), mu_law_edges()
    assert ids.min() == 0 and ids.max() == 255 and (np.diff(ids) >= 0).all() and data.mu_law_encode(0.0) == 128
    assert data.mu_law_encode(0.1) == int((np.log(1 + 25.5) / np.log(256) + 1) / 2 * 255 + 0.5)
    assert np.array_equal(data.mu_law_encode(data.mu_law_decode(np.arange(256))), np.arange(256))
    assert np.array_equal(np.searchsorted(edges, x[1:-1], "right"), ids[1:-1]) and np.abs(data.mu_law_decode(ids) - x).max() < 0.022


def test_quiet_ends_are_cut_off():
    sound = np.concatenate([1e-4 * RNG.normal(size=4000), tone(300), np.zeros(3000)])
    assert len(trimmed(sound, 8000)) == pytest.approx(4000 + 2 * 240, abs=80)


# ---- sets ---------------------------------------------------------------------------------------------------------------

def test_vowels_have_their_formants_and_melodies_their_notes():
    for name, low, high in (("i", 150, 400), ("a", 600, 1000)):
        level = spectrogram(vowel(name, 0, 3), 256, 64).mean(0)
        assert low < 8000 / 256 * level[:40].argmax() < high                   # the strongest harmonic is near the first formant
    for hertz in (131, 523.25):
        assert np.median(pitch(pluck(hertz, 1600, 0, 1), 8000)[2:10]) == pytest.approx(hertz, rel=0.003)
    labels, shares = pitch_histograms([as_int16(melody(0, 1))], 8000)["pitch class"]
    assert {labels[i] for i in np.flatnonzero(shares > 0.02)} <= set("CDEGA") and shares[[labels.index(n) for n in "CDEGA"]].sum() > 0.95


def test_embedded_sets_are_always_the_same():
    audio = data.load("vowels")
    assert [len(getattr(audio, part)) for part in ("train", "valid", "test")] == [200, 25, 25] and audio.classes == {"vowel": VOWELS}
    assert np.array_equal(audio.train[7], as_int16(vowel(VOWELS[2], 0, 7))) and audio.labels["train"][7] == 2
    assert min(len(take) for take in audio.train) > 2400 and len(data.load("melodies").train) == 48


@pytest.mark.skipif(not (config.DATA / "free-spoken-digit-dataset").exists(), reason="needs the spoken digits")
def test_spoken_digits():
    audio = data.load("fsdd")
    assert [len(getattr(audio, part)) for part in ("train", "valid", "test")] == [1200, 150, 150] and audio.rate == 8000
    assert sum(map(len, (*audio.train, *audio.valid, *audio.test))) == 5_388_159 and audio.labels["test"][149].tolist() == [9, 2]


def folder(path, classes=("high", "low"), count=6, seconds=0.3):
    for name in classes:
        for i in range(count):
            sound = tone({"high": 900, "low": 200}[name] * (1 + 0.1 * RNG.random()), seconds) + 0.05 * RNG.normal(size=int(8000 * seconds))
            write_wav(path / name / f"{i}.wav", sound, 8000)
    return path


def test_folders(tmp_path):
    folder(tmp_path / "takes")
    (tmp_path / "takes" / "low" / "bad.wav").write_bytes(b"RIFF")
    with pytest.warns(UserWarning, match=r"12 takes read, 1 files skipped:\n.*bad\.wav: not a sound WAV"):
        audio = data.load(f"wav:{tmp_path / 'takes'}?rate=4000&trim=no")
    assert audio.classes == {"class": ("high", "low")} and audio.rate == 4000
    parts = [sorted(audio.labels[part][:, 0].tolist()) for part in ("train", "valid", "test")]
    assert sum(map(len, parts)) == 12 and min(map(len, parts)) >= 1 and all(len(take) == 1200 for take in audio.train)
    with pytest.raises(DataError, match=r"12 takes are shorter than 1,300 samples \(0.33 s\), so; nothing is left of train, valid, test"):
        audio.lasting(1300, "so")
    assert audio.lasting(1200, "so") is audio
    shutil.rmtree(tmp_path / "takes" / "high")
    for i in range(1, 6):
        (tmp_path / "takes" / "low" / f"{i}.wav").unlink()
    with pytest.raises(DataError, match="1 takes, 3 are needed"):
        data.load(f"wav:{tmp_path / 'takes'}")
    with pytest.raises(DataError, match="rate is 1,000 to 48,000"):
        data.load(f"wav:{tmp_path / 'takes'}?rate=0")


def test_short_takes_are_left_out_or_learnt_with_a_word():
    takes = [as_int16(tone(300, s)) for s in (0.1, 0.3)]
    audio = Audio("x", 8000, takes, takes, takes)
    with pytest.warns(UserWarning, match="3 takes are shorter than 1,000 samples"):
        assert [len(take) for take in audio.lasting(1000, "too short").train] == [2400]
    named = Audio("x", 8000, takes, takes, takes, {"kind": ("a", "b")}, {part: np.array([[0], [1]]) for part in ("train", "valid", "test")})
    with pytest.warns(UserWarning, match="too short; they are learnt from, but none of their samples is judged"):
        assert named.lasting(1000, "too short") is named
    with pytest.raises(DataError, match="nothing is left of train, valid, test"):
        named.lasting(3000, "too short")


# ---- batches ------------------------------------------------------------------------------------------------------------

def test_batches_hold_every_sample_once_and_go_on_where_they_were():
    takes = [RNG.integers(1, 30_000, n).astype(np.int16) for n in (100, 700, 250, 40, 1000)]     # one is shorter than what is heard before
    labels = np.arange(5)[:, None]

    def batches():
        return TakeBatches(takes, labels, 2, 300, 64, 10, lambda take: features("pitch", take, 8000, 32), 32, generator=Generator(5))

    loader, seen = batches(), []
    for clips in loader:
        for row, length, label, frames in zip(*(a.numpy() for a in clips), strict=True):
            assert len(frames) >= -(-len(row) // 32) - 1 and length <= 300 + 32
            seen.append((label[0], row[64:64 + length].tolist()))
    assert len(loader) == len(seen) // 2 or len(loader) == -(-len(seen) // 2)
    for i, take in enumerate(takes):
        parts = [part for label, part in seen if label == i]
        assert sorted(value for part in parts for value in part) == sorted([*take.tolist(), *[0] * 10])
    second = [clips.samples.numpy() for clips in loader]
    again = batches()
    again.load_state_dict({**loader.state_dict(), "epoch": 1, "position": 1})
    assert all(np.array_equal(a, clips.samples.numpy()) for a, clips in zip(second[1:], again, strict=True))


# ---- measures -----------------------------------------------------------------------------------------------------------

def test_spectra_and_pitch():
    assert spectrogram(tone(1000, loud=1), 256, 128)[20].argmax() == 32 and spectrogram(tone(1000, loud=1), 256, 128)[20].max() > 0.99
    assert log_mel(tone(1000), 8000).shape == (32, 40) and log_mel(np.zeros(10), 8000).shape == (1, 40)
    for hertz in (80, 220, 700):
        harmonics = tone(hertz) + tone(2 * hertz) / 2 + tone(3 * hertz) / 3
        assert pitch(harmonics, 8000)[4:-4] == pytest.approx(hertz, rel=0.01)
    assert (pitch(RNG.normal(size=4000).astype(np.float32), 8000) == 0).mean() > 0.9 and not pitch(np.zeros(400), 8000).any()


def test_bits_of_simple_predictors():
    noise = [as_int16((0.1 * RNG.normal(size=5000)).clip(-1, 1)) for _ in range(4)]
    levels = mu_law_levels()
    ids = np.concatenate([levels.encode(take) for take in noise[:3]])
    counts = np.bincount(ids, minlength=256) + 1.0
    expected = -np.log2(counts / counts.sum())[levels.encode(noise[3][100:])].mean()
    assert unigram_bits(noise[:3], noise[3:], levels, 100) == pytest.approx(expected)
    predictor = LinearPredictor(noise[:3], levels)
    edges, means = np.r_[-np.inf, levels.edges, np.inf], predictor._windows(noise[3])[:, :-1] @ predictor.weights
    target = levels.encode(noise[3][16:])
    mass = norm.cdf(edges[target + 1], means, predictor.deviation) - norm.cdf(edges[target], means, predictor.deviation)
    assert predictor.bits(noise[3:], 16) == pytest.approx(-np.log2(mass).mean(), rel=1e-6)
    assert predictor.deviation == pytest.approx(0.1, rel=0.05)
    assert pcm_levels().encode(np.array([-32768, 32767], np.int16)).tolist() == [0, 65535]


def test_a_linear_predictor_knows_a_tone():
    takes = [as_int16(tone(hertz)) for hertz in (440, 440, 440)]
    for levels in (mu_law_levels(), companded_levels()):
        assert LinearPredictor(takes[:2], levels).bits(takes[2:], 100) < unigram_bits(takes[:2], takes[2:], levels, 100) - 1
