"""Write what was measured into README.md and kernels/README.md, between their marks, and draw the roofline picture.

    python benchmarks/report.py

Reads benchmarks/results/: speed-*.json (benchmarks/turns.py --record) and SYSTEM-DATA.json (an example's --record); of the kernels the
docstrings of the ladders and of kernels/config.py.
"""

import ast
import json
import re
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

HERE = Path(__file__).parent
RESULTS, README, KERNELS = HERE / "results", HERE.parent / "README.md", HERE.parent / "kernels"
LADDERS = "matmul", "conv", "rbm", "lstm", "generate", "wavenet"

# System, its file in results/, the metric that papers report, what they say, and where that is nothing, a figure of ours to see beside it.
HEADLINES = (
    ("perceptron, MNIST", "mlp-mnist", "test_error", "1.25, with max-norm 1.06 (Srivastava et al. 2014, table 2)"),
    ("convolutions, MNIST", "conv-mnist", "test_error", "0.8, LeNet-5 with distortions (LeCun et al. 1998)"),
    ("RBM, MNIST", "rbm-mnist", "log_p", "-86.34 (Salakhutdinov & Murray 2008)"),
    ("VAE, MNIST", "vae-mnist", "nll", "86.76 (Burda et al. 2016)"),
    ("GAN, 25 Gaussians", "gan-grid", "modes", "24.8 (Lin et al. 2018, PacGAN4)"),
    ("GAN, 8 Gaussians", "gan-ring", "modes", "7.8 (Lin et al. 2018, PacGAN4)"),
    ("VAE-GAN, MNIST", "vaegan-mnist", "feature_distance", "none; a VAE like it {}", "vae-mnist-conv", "feature_distance"),
    ("LSTM, tiny Shakespeare", "text-shakespeare", "nats", "1.4697, a transformer of 10.7 million weights (nanoGPT)"),
    ("LSTM, Penn Treebank", "text-ptb", "perplexity", "115 (Zaremba et al. 2014, 2 x 200)"),
    ("LSTM, JSB chorales", "music-jsb", "nats", "8.45, TCN 8.10 (Bai et al. 2018)"),
    ("LSTM, Nottingham", "music-nottingham", "nats", "3.29, TCN 3.07 (Bai et al. 2018)"),
    ("WaveNet, spoken digits", "wavenet-fsdd", "bits_per_sample", "none; a linear predictor {}", "wavenet-fsdd", "linear_bits"),
)
ALL = """# Results

All figures of the recorded runs, by `python benchmarks/report.py` from the files beside this one, where each stands with its protocol,
seed, time and machine."""


def speed_table(groups):
    """Markdown: one line for each group, and one for each system of the group `systems`."""
    lines = ["| work | against | time over its time: geometric mean | worst | share of the limit, median |", "|---|---|---:|---:|---:|"]
    for group in groups:
        shares = sorted(row["share"] for row in group["rows"])
        lines.append(f"| {group['group']} ({len(group['rows'])} cases) | {group['peer']} | {group['geometric_mean']:.2f} "
                     f"| {group['worst']:.2f} | {shares[len(shares) // 2]:.0%} of {group['rows'][0]['of']} |")
    for row in (row for group in groups if group["group"] == "systems" for row in group["rows"]):
        lines.append(f"| {row['case']} | {row['peer']} | {row['ratio']:.2f} | | {row['share']:.0%} of {row['of']} |")
    command = groups[0]["command"].replace(f" {groups[0]['group']} ", " " + " ".join(g["group"] for g in groups) + " ") if groups else ""
    return "\n".join([*lines, "", f"`{command}` on {groups[0]['machine']}." if groups else ""])


def headline_table(results):
    """Markdown: what each system reached beside what its paper did."""
    lines = ["| system | here | published | minutes of training | command |", "|---|---|---|---:|---|"]
    for system, name, metric, published, *beside in HEADLINES:
        entries = [entry for entry in results.get(name, []) if entry["metric"] == metric]
        if entries:
            minutes = sum(entry["seconds"] for entry in entries) / len(entries) / 60
            other = [entry["value"] for entry in results[beside[0]] if entry["metric"] == beside[1]] if beside else []
            published = published.format(*[f"{sum(other) / len(other):.4g}"] if other else [])
            lines.append(f"| {system} | {_figure(entries, metric)} | {published} | {minutes:.0f} | `{_short(entries[0]['command'])}` |")
    return "\n".join(lines)


def result_table(results):
    """Markdown: all figures of every system, the mean and the range where there are several seeds."""
    lines = ["| result | figures | seeds | command |", "|---|---|---|---|"]
    for name, entries in results.items():
        figures = "<br>".join(_figure(entries, metric) for metric in dict.fromkeys(e["metric"] for e in entries))
        seeds = ", ".join(str(seed) for seed in dict.fromkeys(e["seed"] for e in entries))
        lines.append(f"| {name} | {figures} | {seeds} | `{_short(entries[0]['command'])}` |")
    return "\n".join(lines)


def _figure(entries, metric):
    """A metric of all seeds: "modes 8.00", or "nll 86.6 nats (86.1 to 87.0)"."""
    values = [e["value"] for e in entries if e["metric"] == metric]
    unit = next(e["unit"] for e in entries if e["metric"] == metric)
    spread = f" ({min(values):.4g} to {max(values):.4g})" if len(values) > 1 else ""
    return f"{metric.replace('_', ' ')} **{sum(values) / len(values):.4g}** {'' if unit in metric else unit}".rstrip() + spread


def _short(command):
    """A command without where it writes to."""
    return re.sub(r" --(out|record|resume|save-every)(?!\S)( [^- ]\S*)?", "", command)


def auc_table(results):
    """Markdown: how well a classifier tells drawn rows from real ones, of the models VAE, GAN and VAE-GAN on the same data."""
    models = {"vae": "VAE", "gan": "GAN", "vaegan": "VAE-GAN"}
    found = {tuple(name.split("-", 1)): [e["value"] for e in entries if e["metric"] == "auc"] for name, entries in results.items()}
    found = {key: values for key, values in found.items() if key[0] in models and values}
    lines = [f"| data | {' | '.join(models.values())} |", "|---|" + "---:|" * len(models)]
    for data in dict.fromkeys(data for _, data in found):
        cells = [found.get((model, data)) for model in models]
        lines.append(f"| {data} | " + " | ".join(f"{sum(v) / len(v):.3f}" if v else "" for v in cells) + " |")
    return "\n".join(lines)


def dream_table(entries):
    """Markdown: for each photograph, how much more strongly than to noise each layer answers, and the probability of each class."""
    found = {}
    for entry in entries:
        option, what = re.search(r"--(layer|class) (\S+)", entry["command"]).groups()
        photo = re.search(r"dream.py \S*?([^/ ]+) ", entry["command"])[1]
        found.setdefault((photo, f"{option} {what}"), {})[entry["metric"]] = entry["value"]
    columns = sorted({column for _, column in found}, key=lambda column: (column.startswith("class"), len(column), column))
    lines = [f"| photograph | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for photo in dict.fromkeys(photo for photo, _ in found):
        cells = [found.get((photo, column), {}) for column in columns]
        lines.append(f"| {photo} | " + " | ".join(f"{c['times_noise']:.0f} times noise" if "times_noise" in c else
                                                  f"{c['probability_before']:.0e} to {c['probability_after']:.3f}" if c else ""
                                                  for c in cells) + " |")
    return "\n".join([*lines, "", f"`{_short(entries[0]['command'])}` and likewise; `{_short(entries[-1]['command'])}` and likewise."])


def ladder_table(name):
    """Markdown: the rungs of a ladder, in order, and what their docstrings say."""
    tree = ast.parse((KERNELS / "cpu" / name / "ladder.py").read_text(encoding="utf-8"))
    rungs = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    return "\n".join(["| rung | what it changes |", "|---|---|",
                      *(f"| `{rung.name}` | {' '.join(ast.get_docstring(rung).split())} |" for rung in rungs)])


def guide(text):
    """kernels/README.md with the settings and the ladders as they are."""
    settings = ast.get_docstring(ast.parse((KERNELS / "config.py").read_text(encoding="utf-8")))
    text = fill(text, "settings", "\n".join(line for line in settings.splitlines() if line.startswith("|")))
    for name in LADDERS:
        text = fill(text, f"ladder {name}", ladder_table(name))
    return text


def share(group):
    """The share of the limit that a kernel reached in benchmarks/turns.py, in a sentence."""
    shares = sorted(row["share"] for row in group["rows"])
    return (f"In `{group['command'].removesuffix(' --record')}` the library reached {shares[len(shares) // 2]:.0%} of the "
            f"{group['rows'][0]['of']}, the median of {len(shares)} cases ({shares[0]:.0%} to {shares[-1]:.0%}), on {group['machine']}.")


def roofline(matmul, path):
    """Each product as a point: numbers worked on for each byte of the operands, and what it reached of the machine's limits."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="floating-point operations for each byte of the operands",
                              ylabel="GFLOP/s", title=f"Matrix products on {matmul['peak']['threads']} threads")
    peak, bandwidth = matmul["peak"]["flops"] / 1e9, matmul["peak"]["bytes"] / 1e9
    edges = [0.3, peak / bandwidth, 400]
    axes.plot(edges, [min(peak, bandwidth * x) for x in edges], color="#444", lw=1.5)
    axes.annotate(f"FMA peak {peak:.0f} GFLOP/s", (400, peak), ha="right", va="bottom", fontsize=9)
    axes.annotate(f"memory {bandwidth:.0f} GB/s", (0.4, bandwidth * 0.4), ha="left", va="top", fontsize=9)
    for side, colour, label in (("microseconds", "#1f77b4", "scratchnn"), ("peer_microseconds", "#ff7f0e", matmul["peer"])):
        points = [(row["intensity"], row["flops"] / row[side] / 1e3) for row in matmul["rows"]]
        axes.scatter(*zip(*points, strict=True), s=22, color=colour, alpha=0.8, label=label)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)


def fill(text, mark, content):
    """The text with the content between <!-- mark --> and <!-- /mark -->."""
    return re.sub(f"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", lambda m: m[1] + content + "\n" + m[2], text, flags=re.S)


def main():
    files = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    groups = [content for name, content in files.items() if name.startswith("speed-")]
    text = fill(README.read_text(), "speed", speed_table(groups))
    results = {name: content for name, content in files.items() if not name.startswith("speed-")}
    told = {name: content for name, content in results.items() if any(entry["metric"] == "auc" for entry in content)}
    dreams = results.get("dream-squeezenet", [])
    text = fill(text, "headlines", headline_table(results))
    judged = {name: content for name, content in results.items() if content is not dreams}
    (RESULTS / "README.md").write_text(f"{ALL}\n\n{result_table(judged)}\n")
    text = fill(text, "told-apart", auc_table(told))
    text = fill(text, "dreams", dream_table(dreams)) if dreams else text
    README.write_text(text)
    text = guide((KERNELS / "README.md").read_text(encoding="utf-8"))
    for group in groups:
        text = fill(text, f"share {group['group']}", share(group))
    (KERNELS / "README.md").write_text(text, encoding="utf-8")
    if "speed-matmul" in files:
        roofline(files["speed-matmul"], RESULTS / "roofline.png")


if __name__ == "__main__":
    main()
