"""The example of language models: characters and words, left alone and killed, and what it writes."""

import random

import programs
import pytest
from programs import figures, flat, killed, run

from scratchnn import checkpoint, data
from scratchnn.metrics.novelty import longest_copy

PAGES = ("cells.html", "curves.png", "sample.txt")


def example(out, *options):
    return programs.smoke("text", out, *options)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A text of sentences that are easily learnt."""
    draw, path = random.Random(0), tmp_path_factory.mktemp("own") / "own.txt"
    who, what, where = ("the cat", "a dog", "my aunt"), ("sleeps", "sings", "waits"), ("at home", "in Rome", "by the sea")
    path.write_text("\n".join(f"{draw.choice(who)} {draw.choice(what)} {draw.choice(where)}." for _ in range(2500)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("smoke")
    return out, figures(run(example(out)))


def test_smoke(smoke):
    out, found = smoke
    assert 2 < found["nats"] < 3.4                                              # letters drawn by their frequency: 3.2
    assert found["perplexity"] == pytest.approx(2 ** found["bits"], rel=1e-2)
    assert all((out / name).stat().st_size > 1500 for name in PAGES)
    assert '"valid"' in (out / "log.jsonl").read_text()
    text = data.load("python-docs")
    ids = [data.Vocabulary.of(text.train + text.test, "char").encode(part) for part in
           ((out / "sample.txt").read_text(encoding="utf-8"), text.train[:round(0.95 * len(text.train))])]
    assert longest_copy(*ids)[1] == found["longest_copy"]


def test_killed_at_any_moment_and_resumed(smoke, tmp_path):
    command = example(tmp_path, "--save-every", "0", "--resume")
    assert killed(command, tmp_path) > 0
    run(command)
    for name in ("weights.safetensors", *PAGES):
        assert (tmp_path / name).read_bytes() == (smoke[0] / name).read_bytes(), name
    whole, continued = (flat(checkpoint.load(folder / "checkpoint.safetensors")["parts"]) for folder in (smoke[0], tmp_path))
    assert {name.split(".")[0] for name in whole} == {"model", "loader", "memory", "optimizer", "schedule"} and whole == continued


def test_words_are_learnt_and_written(own, tmp_path):
    options = ("--data", f"text:{own}", "--level", "word", "--cell", "GRU", "--layers", "2", "--tied", "--dropout", "0.1", "--weight-drop",
               "0.1", "--epochs", "25", "--batch-size", "8", "--length", "16", "--decay", "plateau", "--ema", "0.5")
    found = figures(run(example(tmp_path / "out", *options)))
    assert found["perplexity"] < 1.9                                            # 27 sentences of 6 to 8 tokens
    sentences = set(own.read_text().split("\n"))
    for how in ((), ("--beam", "4"), ("--temperature", "0"), ("--top-k", "2", "--top-p", "0.9")):
        run([*example(tmp_path / "more"), "--sample", "60", "--from", str(tmp_path / "out"), "--prime", "\n", *how])
        written = (tmp_path / "more" / "sample.txt").read_text().strip("\n").split("\n")[:-1]
        assert len(written) >= 7 and sum(line in sentences for line in written) >= 0.7 * len(written), how


def test_the_same_seed_writes_the_same_text(smoke, tmp_path):
    texts = []
    for seed in ("1", "1", "2"):
        line = run([*example(tmp_path), "--sample", "100", "--from", str(smoke[0]), "--prime", "The ", "--seed", seed])
        texts.append((tmp_path / "sample.txt").read_text(encoding="utf-8"))
        assert texts[-1].endswith(line) and texts[-1].startswith("The ") and len(texts[-1]) == 104
    assert texts[0] == texts[1] != texts[2]


def test_mistakes_of_users_take_a_line(smoke, own, tmp_path):
    def refused(*options):
        return run(example(tmp_path / "out", *options), code=2)

    (tmp_path / "bad.txt").write_bytes(b"good until here \xff")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "line.txt").write_text("only one line of text")
    assert "not a text in UTF-8: byte 16 is 0xff" in refused("--data", f"text:{tmp_path}/bad.txt")
    assert "too short to be divided" in refused("--data", f"text:{tmp_path}/empty.txt")
    assert "take a longer text" in refused("--data", f"text:{tmp_path}/line.txt")
    assert "too short for a batch of 4000 times 128, which takes 512,128; take a longer text, or smaller batches" in refused(
        "--data", f"text:{own}", "--batch-size", "4000")
    assert "the character '\N{SNOWMAN}' does not occur" in refused("--sample", "5", "--from", str(smoke[0]), "--prime", "\N{SNOWMAN}")
    assert "No such file" in refused("--sample", "5", "--from", str(tmp_path / "nothing"))
    assert "plateau takes a validation text" in refused("--decay", "plateau", "--validate", "0")
    assert "it takes a validation text" in refused("--no-test", "--validate", "0")
    assert "they are for --sample" in refused("--beam", "3")
