"""Train every system small and write one page that answers: what separates a network that classifies from one that generates?

    python examples/tour.py                         runs/tour/index.html, in a few minutes
    python examples/tour.py --only vae gan          some sections alone; the page keeps what others left there
    python examples/tour.py --again                 train anew what is there already

Each section is a program of this folder, run with the command that its section shows, several at a time on a core each. The data are made
or come with the library. A tour that was interrupted goes on where it was; another seed or device trains anew. The page is one file without
any other, and works offline; what can be moved on it runs in plain JavaScript (examples/tour/page.js) on the weights that were trained.
"""

from __future__ import annotations

import base64
import datetime
import html
import json
import mimetypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
from tqdm import tqdm

import scratchnn as snn
from kernels import config
from scratchnn import checkpoint, data
from scratchnn.data.files import writing
from scratchnn.models.classifier import evaluating, load_classifier, predict
from scratchnn.models.language import load_language_model
from scratchnn.models.rbm import RBM
from scratchnn.models.vae import load_vae
from scratchnn.options import Arguments, device
from scratchnn.random import Generator
from scratchnn.run import start

HERE = Path(__file__).parent
PAGE = HERE / "tour"                     # page.html, page.css, page.js, sections/
ON_CPU = "dream", "text", "music", "wavenet"              # programs that take no --device cuda
PROGRAMS = 4                             # at a time, at most: each takes up to 0.9 GB


@dataclass(frozen=True)
class Section:
    """A system of the tour.

    name      of its text in sections/ and of its folder in --out
    title     of the section;  asks   what it makes large, in a table
    program   of this folder;  about  options of it that a smoke run keeps;  length  those that it does not
    shown     the metric that stands for it in the table, and how
    """

    name: str
    title: str
    asks: str
    program: str
    shown: str
    about: str = ""
    length: str = ""


SECTIONS = (
    Section("two_ways", "The same data, seen in two ways", "log p(y | x) beside a bound of log p(x | y)", "two_ways",
            "$told_error % wrong beside $drawn_error %", "--data moons"),
    Section("two_ways_digits", "Two ways, digits: what is not a digit?", "log p(y | x) beside a bound of log p(x | y)", "two_ways",
            "$told_error % wrong beside $drawn_error %", "--data digits", "--epochs 100"),
    Section("classify", "Feed-forward network: which digit is it?", "log p(y | x)", "classify", "$test_error % wrong"),
    Section("dream", "Deep Dream: a classifier, turned around", "a layer's answer to it", "dream", "$times_noise times noise"),
    Section("rbm", "Restricted Boltzmann machine: units that pull at each other", "log p(x)", "rbm", "$log_p nats"),
    Section("vae", "Variational autoencoder: what may stand behind it?", "a bound of log p(x)", "vae", "-$nll nats", "--latent 2"),
    Section("gan", "Generative adversarial network: a game of two", "the discriminator's mistakes", "gan", "told from real: AUC $auc", "",
            "--steps 2000"),
    Section("vae_gan", "VAE-GAN: judged by what a classifier sees", "the bound, and the game", "vae_gan", "told from real: AUC $auc",
            "", "--epochs 45"),
    Section("text", "LSTM, text: one character after the other", "log p(next | before)", "text", "$nats nats a character",
            "--hidden 256", "--epochs 2"),
    Section("music", "LSTM, music: one chord after the other", "log p(next | before)", "music", "$nats nats a step", "", "--epochs 18"),
    Section("wavenet", "WaveNet: sound, one sample after the other", "log p(next | before, vowel)", "wavenet",
            "$bits_per_sample bits a sample", "", "--blocks 2 --layers 7 --skip 64 --epochs 5 --ema 0.95 --lr 0.01 --temperature 0.8"),
)


def parse():
    parser = Arguments({}, description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[section.name for section in SECTIONS], metavar="NAME", default=[],
                        help=", ".join(section.name for section in SECTIONS))
    parser.add_argument("--again", action="store_true", help="train anew, also what is there already")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all systems (default: 0)")
    parser.add_argument("--device", type=device, default=device("cpu"), metavar="NAME", help="cpu or cuda (default: cpu)")
    parser.add_argument("--out", type=Path, default=Path("runs/tour"), metavar="FOLDER", help="where to write (default: runs/tour)")
    parser.add_argument("--smoke", action="store_true", help="train for seconds, to see that everything works")
    args = parser.parse_args()
    without = [section.name for section in SECTIONS if section.program in ON_CPU and section.name in (args.only or [section.name])]
    if args.device.type != "cpu" and without:
        parser.error(f"argument --device: {', '.join(without)} have no CUDA kernels yet; choose others with --only, or leave out --device")
    return args


def main():
    args, begun = parse(), time.perf_counter()
    chosen = [section for section in SECTIONS if not args.only or section.name in args.only]
    for name in ("SIGTERM", "SIGHUP"):                                         # like Ctrl-C
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        failed = Tour(args, chosen).run()
        page = write_page(args, failed)
    except KeyboardInterrupt:
        print("the same command goes on from here", file=sys.stderr)
        raise
    print(f"result: sections={len(chosen) - len(failed)} seconds={time.perf_counter() - begun:.1f} file={page}")
    if failed:
        raise SystemExit(1)


# ---- training -------------------------------------------------------------------------------------------------------------

class Tour:
    """Runs the programs of sections, several at a time. What it knows of each is in tour.json in the section's folder."""

    def __init__(self, args, sections):
        self.args, self.sections = args, sections
        self.lanes = min(PROGRAMS, config.NUM_THREADS)
        self.environment = {**os.environ, "SCRATCHNN_NUM_THREADS": str(config.NUM_THREADS // self.lanes), "PYTHONUTF8": "1"}

    def run(self):
        """Train what is not there yet; {name: what it said} of those that failed."""
        for section in self.sections:
            self.clear(section)
        waiting = [section for section in self.sections[::-1] if not finished(self.args, section)]         # long ones first
        for section in self.sections:
            if section not in waiting:
                print(f"{section.name}: is there already (--again trains it anew)")
        running, failed = {}, {}
        with tqdm(total=len(waiting), unit=" programs", disable=None) as bar:
            try:
                while waiting or running:
                    while waiting and len(running) < self.lanes:
                        section = waiting.pop(0)
                        running[section] = self.begin(section)
                    time.sleep(0.2)
                    bar.set_postfix_str(", ".join(f"{section.name} {steps(self.args.out / section.name)}" for section in running))
                    for section, process in list(running.items()):
                        if process.poll() is not None:
                            del running[section]
                            said = self.ended(section, process.returncode)
                            failed |= {section.name: said} if process.returncode else {}
                            bar.update()
                            bar.write(f"{section.name}: {said}")
            finally:
                for process in running.values():                               # after Ctrl-C: they save themselves, and go on another time
                    process.terminate()
                for process in running.values():
                    process.wait()
        return failed

    def clear(self, section):
        """Remove what a run with other options left, or with --again any run. Raises DataError if a folder is not of a tour."""
        folder = self.args.out / section.name
        if folder.exists() and any(folder.iterdir()):
            if not (folder / "tour.json").exists():
                raise data.DataError(f"{folder}: is there, but not of a tour; choose another folder with --out")
            if self.args.again or known(folder).get("options") != options(self.args, section):
                shutil.rmtree(folder)

    def begin(self, section):
        folder = self.args.out / section.name
        folder.mkdir(exist_ok=True)
        self.note(section, done=False)
        (folder / "result.json").unlink(missing_ok=True)
        line = [*command(self.args, section), *(["--resume"] if any(folder.rglob("checkpoint.safetensors")) else [])]
        with open(folder / "said.txt", "w", encoding="utf-8") as said:         # in a session of its own: Ctrl-C is for the tour
            return subprocess.Popen([sys.executable, HERE.parent / line[1], *line[2:]], stdout=said, stderr=subprocess.STDOUT,
                                    stdin=subprocess.DEVNULL, env=self.environment, start_new_session=True)

    def ended(self, section, code):
        """The last line that a program said; of one that failed, with where the others are."""
        path = self.args.out / section.name / "said.txt"
        lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()] or [""]
        if code:
            return f"failed with exit code {code}, see {path}: {lines[-1]}"
        self.note(section, done=True)
        return lines[-1].removeprefix("result: ")

    def note(self, section, done):
        with writing(self.args.out / section.name / "tour.json", "w", encoding="utf-8") as file:
            json.dump({"options": options(self.args, section), "done": done}, file)


def options(args, section):
    """What a section's program is told, but for where to write."""
    return [*shlex.split(f"{section.about} {'--smoke' if args.smoke else section.length}"), "--seed", str(args.seed), "--device",
            str(args.device)]


def command(args, section):
    """The command line of a section's program."""
    folder = args.out / section.name
    return ["python", f"examples/{section.program}.py", *options(args, section), "--out", str(folder),
            "--record", str(folder / "result.json")]


def known(folder):
    """What a tour noted of a section's folder; {} if it was stopped while it did."""
    try:
        return json.loads((folder / "tour.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def finished(args, section):
    """Whether the section's program has run to its end with these options."""
    return known(args.out / section.name) == {"options": options(args, section), "done": True}


def steps(folder):
    """How far a running program is, as its log says."""
    try:
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        return f"{json.loads(lines[-1])['step']:,} steps"
    except (OSError, ValueError, IndexError):
        return ""


# ---- the page -------------------------------------------------------------------------------------------------------------

def write_page(args, failed):
    """index.html of all sections that have a result; its path."""
    texts, rows, models, entries = [], [], {}, []
    for section in SECTIONS:
        title, cells = html.escape(section.title.split(":")[0]), [html.escape(section.asks)]
        if finished(args, section):
            folder = args.out / section.name
            entries.append(json.loads((folder / "result.json").read_text(encoding="utf-8")))
            values = readable(entries[-1]) | (EXTRAS[section.name](folder) if section.name in EXTRAS else {})
            models |= MODELS[section.name](folder) if section.name in MODELS else {}
            values["facts"] = facts(args, section, values)
            text = Template((PAGE / "sections" / f"{section.name}.html").read_text(encoding="utf-8")).substitute(values)
            texts.append(f'<section id="{section.name}">\n<h2>{html.escape(section.title)}</h2>\n{inlined(text, folder)}</section>')
            title = f'<a href="#{section.name}">{title}</a>'
            cells += [html.escape(Template(section.shown).substitute(values)), f"{values['seconds']} s"]
        elif section.name in failed:
            cells += [f'<span class="failed">{html.escape(failed[section.name])}</span>', ""]
        else:
            continue
        rows.append(f"<tr><td>{title}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    seconds = sum(each[-1]["seconds"] for each in entries)
    machines, commits = (", ".join(dict.fromkeys(entry[key] for each in entries for entry in each)) for key in ("machine", "commit"))
    page = Template((PAGE / "page.html").read_text(encoding="utf-8")).substitute(
        style=(PAGE / "page.css").read_text(encoding="utf-8"), script=(PAGE / "page.js").read_text(encoding="utf-8"),
        sections="\n".join(texts), rows="\n".join(rows), models="\n".join(packed(name, model) for name, model in models.items()),
        count=len(entries), minutes=f"{seconds / 60:.1f} minutes", seed=args.seed, machine=html.escape(machines),
        command=html.escape(shlex.join(["python", *sys.argv])), when=f"{datetime.date.today()}, commit {commits}")
    path = args.out / "index.html"
    with writing(path, "w", encoding="utf-8") as file:
        file.write(page)
    return path


def readable(entries):
    """The metrics of a section's program by name, and its seconds, as they are to be read."""
    found = {entry["metric"]: f"{entry['value']:.3g}" if entry["unit"] != "share" else f"{entry['value']:.4f}" for entry in entries}
    return defaultdict(lambda: "(not measured)", found | {"seconds": f"{entries[-1]['seconds']:.0f}"})       # a smoke run leaves some out


def facts(args, section, values):
    """The beginning of a list, to which a section's text adds."""
    line, shown = shlex.join(command(args, section)[:-2]), Template(section.shown).substitute(values)
    return (f'<dl class="facts"><dt>result</dt><dd>{html.escape(shown)}, trained for {values["seconds"]} s</dd>'
            f"<dt>made by</dt><dd><code>{html.escape(line)}</code></dd>")


def inlined(text, folder):
    """HTML whose pictures and sounds, named by their files in a folder, are part of it."""
    def data_uri(match):
        kind, content = mimetypes.guess_type(match[1])[0], (folder / match[1]).read_bytes()
        return f'src="data:{kind};base64,{base64.b64encode(content).decode()}"'
    return re.sub(r'src="([^":]+)"', data_uri, text)


def packed(name, model):
    """A model as page.js reads it."""
    text = json.dumps(model).replace("</", "<\\/")                             # a token of a text may be the end of a script
    return f'<script type="application/json" class="model" data-name="{name}">{text}</script>'


def array(values, dtype=np.float32):
    return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes()).decode()


def weights(module, prefix=""):
    """Those of a module whose names begin like this, and what activation stands between its layers."""
    found = {name: {"shape": t.shape, "data": array(t.numpy())} for name, t in module.state_dict().items() if name.startswith(prefix)}
    return {"weights": found, "activation": getattr(module, "options", {}).get("activation")}


def checked(inputs, outputs):
    """What Python makes of inputs, for the page to compare itself with."""
    return {"check": {"inputs": np.asarray(inputs).tolist(), "outputs": np.asarray(outputs).tolist()}}


# ---- what can be moved: the networks, and what Python computes with them ----------------------------------------------------

NOISES, CHECKED = 64, 20                 # latents that the page draws for a point; inputs on which it compares itself with Python


def plane_models(folder):
    teller, drawer = load_classifier(folder / "teller.safetensors"), load_vae(folder / "drawer.safetensors")
    model, examples, places = drawer.model, data.load("moons"), np.load(folder / "plane.npz")
    noise = snn.randn(NOISES, model.latent, generator=Generator(0)).array
    log_shares, points = np.log(list(drawer.classes.values())), examples.test_x[:300]
    rows = np.concatenate([model.likelihood.encode(points[:CHECKED // 2]), 2 * snn.randn(CHECKED // 2, 2, generator=Generator(1)).array])
    joint = np.stack([log_likelihood(model, rows, y, noise) for y in range(len(log_shares))], 1) + log_shares
    evidence = np.logaddexp.reduce(joint, 1, keepdims=True)
    usual = float(np.median(evidence[:CHECKED // 2]))
    density = np.exp((places["evidence"][..., 0] - places["evidence"].max()) / 2)
    maps = {"told": places["told"][..., 0], "drawn": places["drawn"][..., 0], "density": density}
    about = {"classes": list(drawer.classes), "shares": list(drawer.classes.values()), "noise": noise.tolist(), "points": points.tolist(),
             "mean": model.likelihood.location.tolist(), "std": model.likelihood.spread.tolist(), "usual": usual,
             "low": places["low"].tolist(), "high": places["high"].tolist(), "side": len(density),
             "maps": {name: array(np.rint(255 * values), np.uint8) for name, values in maps.items()}}
    return {"told": {**weights(teller.model), "classes": teller.classes, **checked(rows, predict(teller.model, rows))},
            "drawn": {**weights(model), **about, **checked(rows, np.concatenate([np.exp(joint - evidence), evidence], 1))}}


def log_likelihood(model, rows, y, noise):
    """log p(x | y) (N,) of rows (N, D) with the same noise (S, L) for each."""
    noises = snn.from_numpy(np.ascontiguousarray(np.broadcast_to(noise, (len(rows), *noise.shape))))
    with snn.no_grad():
        log_w = model.log_weights(snn.from_numpy(rows), snn.from_numpy(np.full(len(rows), y)), len(noise), noises).numpy()
    return np.logaddexp.reduce(log_w.astype(np.float64), 1) - np.log(len(noise))


def digit_models(folder):
    saved, x = load_classifier(folder / "weights.safetensors"), data.digits().test_x[:CHECKED]
    return {"digit": {**weights(saved.model), "classes": saved.classes, **checked(x.reshape(len(x), -1), predict(saved.model, x))}}


def chain_models(folder):
    state = checkpoint.load_weights(folder / "weights.safetensors")
    rbm = RBM(*state["weight"].shape)
    rbm.load_state_dict(state)
    v = (data.digits().test_x[:CHECKED].reshape(CHECKED, -1) > 0.5).astype(np.float32)
    h = rbm.hidden_probabilities(v)
    return {"chain": {**weights(rbm), "side": 8, **checked(v, np.concatenate([h, rbm.visible_mean(h)], 1))}}


def latent_models(folder):
    model, z = load_vae(folder / "weights.safetensors").model, snn.randn(CHECKED, 2, generator=Generator(0)).array
    return {"latent": {**weights(model, "decoder."), "side": 8, **checked(z, model.generate(z).reshape(len(z), -1))}}


def write_models(folder):
    model, vocabulary = load_language_model(folder / "weights.safetensors")
    ids = snn.randint(0, len(vocabulary.tokens), (30, CHECKED), generator=Generator(0))
    with evaluating(model), snn.no_grad():
        logits = model(ids)[0].numpy()[-1]
    return {"write": {**weights(model), "tokens": vocabulary.tokens, **checked(ids.numpy().T, logits)}}


MODELS = {"two_ways": plane_models, "classify": digit_models, "rbm": chain_models, "vae": latent_models, "text": write_models}


# ---- what else is on the page -----------------------------------------------------------------------------------------------

def spoken(folder):
    """A sound of each class."""
    files = sorted((folder / "samples").glob("*.wav"))
    return {"sounds": "\n".join(f'<div>{html.escape(file.stem)}<audio controls preload="none" aria-label="{html.escape(file.stem)}" '
                                f'src="samples/{file.name}"></audio></div>' for file in files)}


def written(folder):
    """The beginning of what the network wrote."""
    return {"sample": html.escape((folder / "sample.txt").read_text(encoding="utf-8").strip()[:700])}


EXTRAS = {"classify": lambda folder: {"test_count": len(data.digits().test_x)}, "text": written, "wavenet": spoken}


if __name__ == "__main__":
    start(main)
