"""The tour: sections that run, a page of what they left, and its parts in a real browser."""

import argparse
import dataclasses
import html
import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from string import Template

import numpy as np
import pytest
from programs import ENVIRONMENT, ROOT

import scratchnn as snn
from scratchnn import checkpoint, data, nn
from scratchnn.metrics.record import UNITS
from scratchnn.models.classifier import MLP, save_classifier
from scratchnn.models.language import LanguageModel, save_language_model
from scratchnn.models.rbm import RBM
from scratchnn.models.vae import VAE, likelihood_for, save_vae
from scratchnn.random import Generator

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def tour():
    spec = importlib.util.spec_from_file_location("tour", ROOT / "examples" / "tour.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["tour"] = module                       # where its dataclass looks
    spec.loader.exec_module(module)
    yield module
    del sys.modules["tour"]


def start(out, *options):
    return subprocess.Popen([sys.executable, str(ROOT / "examples" / "tour.py"), "--smoke", "--out", str(out), *options],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def ended(process, code=0):
    said, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    return said


def test_a_stopped_tour_goes_on_and_writes_a_page_of_its_own(tmp_path):
    first = start(tmp_path, "--only", "classify", "two_ways_digits")
    note = tmp_path / "classify" / "tour.json"
    while first.poll() is None and not (note.exists() and "true" in note.read_text()):
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    assert "goes on from here" in first.communicate(timeout=300)[1] or first.returncode == 0
    before = (tmp_path / "classify" / "result.json").read_bytes()
    said = ended(start(tmp_path, "--only", "classify", "two_ways_digits"))
    assert "classify: is there already" in said and "result: sections=2" in said
    assert (tmp_path / "classify" / "result.json").read_bytes() == before
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("<section ") == 3 and page.count("<tr><td>") == 2           # and the answer
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", page)         # one file, without any other
    assert "(not measured)" not in page and not re.findall(r"\$[a-z_]+", page.partition("<script")[0])
    error = json.loads((tmp_path / "classify" / "result.json").read_text())[0]["value"]
    assert f"it takes {error:.3g}&nbsp;%" in page


def test_a_section_that_fails_is_told_of(tour, tmp_path):
    args = argparse.Namespace(out=tmp_path, smoke=True, seed=0, device="cpu", again=False)
    section = dataclasses.replace(tour.SECTIONS[0], program="no_such_program")
    failed = tour.Tour(args, [section]).run()
    assert "failed with exit code 2" in failed["two_ways"] and "said.txt" in failed["two_ways"]
    assert '<span class="failed">failed' in tour.write_page(args, failed).read_text(encoding="utf-8")


def test_folders_of_others_are_left_alone_and_half_written_ones_are_made_anew(tour, tmp_path):
    args = argparse.Namespace(out=tmp_path, smoke=True, seed=0, device="cpu", again=False)
    section, folder = tour.SECTIONS[0], tmp_path / "two_ways"
    folder.mkdir()
    (folder / "song.mp3").write_text("mine")
    with pytest.raises(data.DataError, match="not of a tour"):
        tour.Tour(args, [section]).run()
    assert (folder / "song.mp3").exists()
    (folder / "tour.json").write_text('{"opt')
    assert not tour.finished(args, section)
    tour.Tour(args, [section]).clear(section)
    assert not folder.exists()


def test_texts_name_what_is_there(tour):
    assert {path.stem for path in (tour.PAGE / "sections").iterdir()} == {section.name for section in tour.SECTIONS}
    known = {*UNITS, "facts", "seconds", "test_count", "sounds", "sample"}
    for section in tour.SECTIONS:
        text = (tour.PAGE / "sections" / f"{section.name}.html").read_text(encoding="utf-8")
        assert set(Template(text + section.shown).get_identifiers()) <= known, section.name
        for name in re.findall(r"<code>([\w./]+)</code>", text):
            assert not re.search(r"[/.]", name) or name == "ladder.py" or (ROOT / name).exists(), f"{section.name}: {name}"


# ---- in a browser ---------------------------------------------------------------------------------------------------------

PROBE = """<script>
const errors = [], done = {};
window.addEventListener("error", event => errors.push(event.message));
const part = name => document.querySelector(`[data-part="${name}"]`), is = (name, what) => $(part(name), what);
const press = (element, key) => element.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const text = (name, what) => is(name, what).textContent;
// a stroke down the middle, by keyboard
is("digit", "clear").click();
is("digit", "field").focus();
for (let i = 0; i < 8; i++) press(is("digit", "field"), "ArrowUp");
press(is("digit", "field"), " ");
for (let i = 0; i < 16; i++) press(is("digit", "field"), "ArrowDown");
press(is("digit", "field"), " ");
done.said = text("digit", "said");
is("digit", "example").click(); press(is("digit", "field"), "ArrowUp");
for (const type of ["pointermove", "pointerdown", "pointermove", "pointerup"])
  is("digit", "field").dispatchEvent(new PointerEvent(type, {pointerId: 7, isPrimary: true, clientX: 90, clientY: 90}));
is("digit", "clear").click();
done.nothing = text("digit", "said");
is("digit", "field").focus();
for (let i = 0; i < 8; i++) press(is("digit", "field"), "ArrowUp");
press(is("digit", "field"), " ");
for (let i = 0; i < 16; i++) press(is("digit", "field"), "ArrowDown");
done.pixels = Array.from(is("digit", "seen").getContext("2d").getImageData(0, 0, 8, 8).data).filter((_, i) => i % 4 === 0);
done.answers = part("digit").querySelectorAll(".bar").length;
is("latent", "z1").value = 1; is("latent", "z1").dispatchEvent(new Event("input"));
press(is("latent", "map"), "ArrowUp");
done.z = text("latent", "z");
done.began = text("chain", "steps"); is("chain", "digits").click(); is("chain", "step").click(); is("chain", "step").click();
done.steps = text("chain", "steps");
const before = text("plane", "evidence");
for (let i = 0; i < 80; i++) press(is("plane", "told"), "ArrowLeft");
done.plane = [before, text("plane", "evidence"), text("plane", "told-says"), text("plane", "drawn-says")];
is("write", "prime").value = "The \u00e9";
is("write", "write").click();
done.unknown = text("write", "unknown");
done.differences = Array.from(document.querySelectorAll(".part"), root => +root.dataset.difference);
setTimeout(() => {
  done.written = text("write", "text");
  done.errors = errors;
  document.body.innerHTML = "<pre id=done></pre>";
  document.getElementById("done").textContent = JSON.stringify(done);
}, 500);
</script>"""


def networks(folder):
    """Small ones with random weights, as the sections leave them."""
    snn.manual_seed(0)
    moons, digits, (low, high) = data.load("moons"), data.digits(), (np.float64([-2, -1]), np.float64([3, 2]))
    for name in ("two_ways", "classify", "rbm", "vae", "text"):
        (folder / name).mkdir()
    save_classifier(folder / "two_ways" / "teller.safetensors", MLP((2,), 2, (8, 8), 0, 0, nn.SiLU), moons)
    save_vae(folder / "two_ways" / "drawer.safetensors", VAE(likelihood_for(moons), 2, (8, 8), classes=2, activation="SiLU"), moons)
    maps = {name: snn.rand(120, 120, 2, generator=Generator(0)).array for name in ("told", "drawn")}
    np.savez(folder / "two_ways" / "plane.npz", low=low, high=high, evidence=-9 * maps["told"][..., :1], **maps)
    save_classifier(folder / "classify" / "weights.safetensors", MLP((1, 8, 8), 10, (12, 12)), digits)
    checkpoint.save_weights(folder / "rbm" / "weights.safetensors", RBM(64, 100).state_dict())
    save_vae(folder / "vae" / "weights.safetensors", VAE(likelihood_for(digits), 2, (12, 10)), digits)
    vocabulary = data.tokens.Vocabulary.of("The quick </script> brown fox\n", "char")
    save_language_model(folder / "text" / "weights.safetensors", LanguageModel(len(vocabulary.tokens), 6, 12), vocabulary)


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_the_page_computes_what_python_does(tour, tmp_path):
    networks(tmp_path)
    made = [tour.MODELS[name](tmp_path / name) for name in tour.MODELS]
    models = {name: model for found in made for name, model in found.items()}
    texts = [(tour.PAGE / "sections" / f"{name}.html").read_text(encoding="utf-8") for name in tour.MODELS]
    parts = [re.search(r'<div class="part".*?agrees.*?</div>', text, re.S)[0] for text in texts]
    page = tmp_path / "page.html"
    page.write_text('<!doctype html><meta charset="utf-8">' + "\n".join(parts + [tour.packed(*item) for item in models.items()])
                    + f"<script>{(tour.PAGE / 'page.js').read_text(encoding='utf-8')}</script>" + PROBE, encoding="utf-8")
    browser = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
                              "--enable-logging=stderr", "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in browser.stderr, browser.stderr
    done = json.loads(html.unescape(re.search(r'<pre id="done">(.*?)</pre>', browser.stdout, re.S)[1]))
    assert done["errors"] == [] and len(done["differences"]) == 5 and max(done["differences"]) < 1e-4
    assert done["answers"] == 10 and np.reshape(done["pixels"], (8, 8)).min(0).tolist()[::7] == [255, 255]
    assert np.reshape(done["pixels"], (8, 8))[1:7, 3:5].max() < 200              # ink in the middle alone
    assert done["z"] == "z = (1.00, -1.40)" and (done["began"], done["steps"]) == ("50 steps", "2 steps")
    assert done["plane"][0] != done["plane"][1]
    assert done["said"].endswith("% sure") and done["nothing"] == "" and "It never met \u00e9" in done["unknown"]
    assert len(done["written"]) > 4
