"""Tools to look inside: a timer of operations, a finder of the first number that is not finite, a picture of the graph."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager

import numpy as np

from scratchnn.device import is_on_gpu
from scratchnn.op import Node, watchers
from scratchnn.tensor import Tensor


@contextmanager
def _watching(watcher):
    watchers.append(watcher)
    try:
        yield
    finally:
        watchers.remove(watcher)


# ---- time -----------------------------------------------------------------------------------------------------------

class Times:
    """Seconds and calls by operation, forward and backward alike; printing it gives a table, the slowest first."""

    def __init__(self):
        self.seconds, self.calls = defaultdict(float), defaultdict(int)

    def __str__(self):
        total = sum(self.seconds.values())
        rows = [f"{'operation':28s}{'calls':>8s}{'ms':>10s}{'share':>8s}"]
        for name in sorted(self.seconds, key=self.seconds.get, reverse=True):
            rows.append(f"{name:28s}{self.calls[name]:8d}{1e3 * self.seconds[name]:10.2f}{self.seconds[name] / total:8.1%}")
        return "\n".join(rows)


@contextmanager
def timer():
    """`with debug.timer() as times: ...; print(times)`: how long each operation took, those inside others not counted twice."""
    times, inside = Times(), []

    def watch(operation, args, call):
        inside.append(0.0)
        start = time.perf_counter()
        try:
            return call()
        finally:
            spent = time.perf_counter() - start
            times.seconds[operation.name] += spent - inside.pop()
            times.calls[operation.name] += 1
            if inside:
                inside[-1] += spent

    with _watching(watch):
        yield times


# ---- the first number that is not finite ----------------------------------------------------------------------------

class NonFiniteError(ArithmeticError):
    """An operation made a NaN or an infinity from finite numbers."""


@contextmanager
def find_nonfinite():
    """`with debug.find_nonfinite(): ...`: raise NonFiniteError at the first operation, forward or backward, whose result holds a
    NaN or an infinity although its inputs held none. Run the step that failed in it to see where the trouble starts."""
    def watch(operation, args, call):
        result = call()
        bad = next((t for t in (result if isinstance(result, tuple) else (result,)) if not _is_finite(t)), None)
        if bad is not None and all(_is_finite(a) for a in args):
            shapes = ", ".join(f"{name} {a.shape}" for name, a in zip(operation.names, args, strict=False) if isinstance(a, Tensor))
            kind = "NaN" if np.isnan(bad.array).any() else "infinite"
            count = int((~np.isfinite(bad.array)).sum())
            raise NonFiniteError(f"{operation.name}({shapes}) made {count} {kind} of {bad.numel()} values from finite inputs")
        return result

    with _watching(watch):
        yield


def _is_finite(value) -> bool:
    array = value.array if isinstance(value, Tensor) else value
    if not isinstance(array, (np.ndarray, float)) and not is_on_gpu(array):
        return True
    return getattr(array, "dtype", np.dtype(float)).kind != "f" or bool(np.isfinite(array).all())


# ---- the graph ------------------------------------------------------------------------------------------------------

def graph(output: Tensor, names: dict[str, Tensor] | None = None) -> str:
    """The operations from which `output` was computed, as text in the DOT language of Graphviz.

    names   labels of leaves, for example dict(model.named_parameters())
    """
    labels = {id(t): name for name, t in (names or {}).items()}
    lines = ["digraph {", "    rankdir=LR; node [fontname=Helvetica, shape=box, style=rounded]"]
    for node in _nodes(output):
        lines.append(f'    n{node.id} [label="{node.op.name}"]')
        for target, _, shape, _, name, _ in node.edges:
            if isinstance(target, Node):
                lines.append(f'    n{target.id} -> n{node.id} [label="{_size(shape)}"]')
            else:
                label = labels.get(id(target), name) + "\\n" + _size(shape)
                lines.append(f'    t{id(target)} [label="{label}", shape=box, style=filled, fillcolor="#dce9f5"]')
                lines.append(f"    t{id(target)} -> n{node.id}")
    return "\n".join([*lines, "}"])


def _size(shape):
    return " x ".join(map(str, shape)) or "1"


def _nodes(output: Tensor) -> list[Node]:
    """All nodes behind a Tensor, in the order in which they were made."""
    found, stack = {}, [output.grad_fn] if output.grad_fn else []
    while stack:
        node = stack.pop()
        if node.id not in found:
            found[node.id] = node
            stack.extend(target for target, *_ in node.edges if isinstance(target, Node))
    return [found[i] for i in sorted(found)]


def draw_graph(output: Tensor, path, names: dict[str, Tensor] | None = None) -> None:
    """The graph as a picture (PNG, SVG or PDF, by the ending of `path`): operations from left to right, leaves below their users."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    nodes, labels = _nodes(output), {id(t): name for name, t in (names or {}).items()}
    place = _places(nodes)
    columns, rows = [x for x, _ in place.values()] or [0], [y for _, y in place.values()] or [0]
    figure = Figure(figsize=(1.7 * (max(columns) - min(columns)) + 2, 0.8 * (max(rows) - min(rows)) + 1))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(min(columns) - 0.6, max(columns) + 0.6), ylim=(min(rows) - 0.6, max(rows) + 0.6))
    axes.axis("off")
    box = {"boxstyle": "round", "fc": "white", "ec": "#555"}
    style = {"ha": "center", "va": "center", "fontsize": 8}
    arrow = {"arrowstyle": "->", "color": "#999", "shrinkA": 16, "shrinkB": 16, "zorder": 0}
    for node in nodes:
        axes.text(*place[id(node)], node.op.name, bbox=box, **style)
        for target, _, shape, _, name, _ in node.edges:
            axes.annotate("", place[id(node)], place[id(target)], zorder=0, arrowprops=arrow)
            if not isinstance(target, Node):
                label = f"{labels.get(id(target), name)}\n{_size(shape)}"
                axes.text(*place[id(target)], label, bbox={**box, "fc": "#dce9f5", "ec": "#9bb8d3"}, **style)
    figure.savefig(path, dpi=130)


def _places(nodes):
    """(column, row) of each node and leaf by id: a node one column after the last of its inputs, leaves below."""
    place, filled = {}, defaultdict(int)
    for node in nodes:
        column = 1 + max((place[id(target)][0] for target, *_ in node.edges if isinstance(target, Node)), default=0)
        place[id(node)] = column, -filled[column]
        filled[column] += 1
    depth = max(filled.values(), default=0)
    for node in nodes:
        for target, *_ in node.edges:
            if id(target) not in place:
                column = place[id(node)][0] - 0.4
                place[id(target)] = column, -depth - filled[column]
                filled[column] += 1
    return place
