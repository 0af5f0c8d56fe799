"""Results with everything that makes a number mean something: how it was got, from what, where and in what time."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from kernels import jit

UNITS = {"test_error": "percent", "nll": "nats", "active_units": "latents", "log_p": "nats",
         "log_p_standard_error": "nats", "log_p_raise": "nats", "modes": "modes", "high_quality": "percent",
         "perplexity": "perplexity", "nats": "nats", "bits": "bits", "bits_per_sample": "bits", "bits_per_dim": "bits",
         "reverse_kl": "nats", "longest_copy": "tokens",
         "frechet": "squared features", "frechet_of_train": "squared features",
         "feature_distance": "features", "label_agreement": "percent",
         "score": "classes", "auc": "share", "column_difference": "share",
         "correlation_difference": "correlation", "ratio_to_torch": "ratio",
         "valid": "nats", "valid_bits": "bits", "unigram_bits": "bits", "linear_bits": "bits",
         "recognised": "percent", "recognised_real": "percent", "note_overlap": "share", "note_overlap_real": "share",
         "held": "steps", "silent": "steps", "looped": "steps", "stuck": "pieces",
         "told_error": "percent", "drawn_error": "percent", "strange_auc_told": "share", "strange_auc_drawn": "share",
         "sure_of_strange": "percent",
         "objective": "activations", "times_noise": "ratio", "probability_before": "share", "probability_after": "share"}


def append_results(path: str | Path, metrics: dict[str, float], *, split: str, protocol: str, seed: int, seconds: float) -> None:
    """Add an entry for each metric to the list in a JSON file, which is begun if it is not there.

    split      the part of the data that was measured;  protocol   what a reader must know to compare the number
    Raises ValueError for a metric without a unit, or if the file holds something else.
    """
    path = Path(path)
    unknown = [name for name in metrics if name not in UNITS]
    if unknown:
        raise ValueError(f"no unit is known for {', '.join(unknown)}; metrics are {', '.join(UNITS)}")
    try:
        entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    except ValueError as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(entries, list):
        raise ValueError(f"{path}: holds a {type(entries).__name__} where a list of results is expected")
    common = {"split": split, "seed": seed, "protocol": protocol, "command": command(), "seconds": seconds, "commit": commit(),
              "machine": machine()}
    entries += [{"metric": name, "value": float(value), "unit": UNITS[name], **common} for name, value in metrics.items()]
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def command() -> str:
    """The command line of this program."""
    return shlex.join(["python", *sys.argv])


def commit() -> str:
    """The commit of the sources, with "-dirty" if they were changed since; "unknown" outside a repository."""
    try:
        return subprocess.run(["git", "describe", "--always", "--dirty", "--exclude", "*"], cwd=Path(__file__).parent, check=True,
                              capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> str:
    """The processor and the number of threads that kernels use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0] if models else name
    return f"{name}, {jit.get_num_threads()} threads, {platform.system()}, Python {platform.python_version()}"
