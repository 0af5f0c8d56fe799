"""What single units of a recurrent network see: a page that colours a text by what a unit says at each token, and the units that say
most about things that anyone can see in a text. After A. Karpathy, J. Johnson & L. Fei-Fei 2016, "Visualizing and understanding
recurrent networks"."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from scratchnn.data.files import writing

UNITS = 48          # on a page, at most


def features(tokens: Sequence[str]) -> dict[str, np.ndarray]:
    """Things to be seen at each of a text's tokens (T,), by name, a number for each."""
    line, word, depth, quoted = [], [], [], []
    place = part = inside = quote = 0
    for token in tokens:
        place = 0 if token == "\n" else place + 1
        part = part + 1 if token.isalnum() else 0
        inside = 0 if token == "\n" else max(0, inside + (token in "([{") - (token in ")]}"))
        quote = 0 if token == "\n" else 1 - quote if token == '"' else quote
        for values, value in ((line, place), (word, part), (depth, inside), (quoted, quote)):
            values.append(value)
    seen = {"place in the line": line, "place in the word": word, "inside brackets": depth, "inside quotation marks": quoted,
            "capital letter": [token.isupper() for token in tokens], "digit": [token.isdigit() for token in tokens],
            "end of a line": [token == "\n" for token in tokens], "punctuation": [token in ".,;:!?" for token in tokens]}
    return {name: np.array(values, float) for name, values in seen.items()}


def best_units(activations: np.ndarray, seen: Mapping[str, np.ndarray]) -> dict[str, tuple[int, float]]:
    """For each thing that is seen (T,), the unit of activations (T, H) that is most correlated with it, and their correlation; things that
    do not vary are left out."""
    units = _standardised(activations)
    found = {}
    for name, values in seen.items():
        if values.std():
            correlation = units.T @ _standardised(values) / len(values)
            best = int(np.abs(correlation).argmax())
            found[name] = best, float(correlation[best])
    return found


def _standardised(x):
    deviation = x.std(0)
    return (x - x.mean(0)) / np.where(deviation, deviation, 1)


def write_page(path: str | Path, tokens: Sequence[str], activations: np.ndarray, title: str, joint: str = "") -> None:
    """One HTML file without any other: the text, coloured by the unit that is chosen.

    tokens        (T) of a text;  joint   what stands between them, a space between words
    activations   (T, H) in -1..1
    """
    found = best_units(activations, features(tokens))
    units = list(dict.fromkeys([unit for unit, _ in found.values()] + np.argsort(-activations.std(0), kind="stable").tolist()))[:UNITS]
    follows = {unit: [f"{name} ({r:+.2f})" for name, (best, r) in found.items() if best == unit] for unit in units}
    names = {unit: ": ".join([f"unit {unit}", *filter(None, [", ".join(follows[unit])])]) for unit in units}
    values = np.clip(np.rint(activations[:, units] * 127), -127, 127).astype(np.int8)
    page = PAGE.replace("TITLE", html.escape(title)).replace("OPTIONS", "".join(
        f"<option>{html.escape(names[unit])}</option>" for unit in units)).replace(
        "TOKENS", json.dumps([token + joint for token in tokens]).replace("</", "<\\/")).replace(
        "VALUES", base64.b64encode(values.T.tobytes()).decode())
    with writing(path, "w", encoding="utf-8") as file:
        file.write(page)


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>TITLE</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
select { font: inherit; max-width: 100%; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: 15px/1.7 ui-monospace, monospace; }
.key { display: inline-block; padding: 0 .6em; }
</style>
<h1>TITLE</h1>
<p><label>Colour by <select id="unit">OPTIONS</select></label>
<span class="key" style="background: rgba(230, 97, 1, .75)">+1</span>
<span class="key" style="background: rgba(33, 102, 220, .75)">&minus;1</span></p>
<p>The number beside what a unit follows is its correlation with it in this text. The keys up and down change the unit.</p>
<pre id="text"></pre>
<script>
const tokens = TOKENS;
const values = Int8Array.from(atob("VALUES"), c => c.charCodeAt(0));
const text = document.getElementById("text"), unit = document.getElementById("unit");
const spans = tokens.map(token => {
  const span = document.createElement("span");
  span.textContent = token === "\\n" ? "\\u21b5\\n" : token;
  text.append(span);
  return span;
});
function paint() {
  const start = unit.selectedIndex * tokens.length;
  spans.forEach((span, i) => {
    const value = values[start + i] / 127;
    span.style.background = `rgba(${value > 0 ? "230, 97, 1" : "33, 102, 220"}, ${0.75 * Math.abs(value)})`;
    span.title = value.toFixed(2);
  });
}
unit.addEventListener("input", paint);
paint();
</script>
</html>
"""
