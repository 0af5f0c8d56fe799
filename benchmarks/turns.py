"""Time the same work in two libraries, in turns, each in processes of its own, and give the ratio of the medians.

    python benchmarks/turns.py matmul memory adam systems --record

A shared machine may run at half speed a minute later, and thread pools of two libraries in one process fight; so a turn is one process
that times every case of a group for one side, the sides take turns, and only the ratio of their medians counts. Below 1 is faster
than the peer. With --record the figures go to benchmarks/results/speed-GROUP.json.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from cases import GROUPS, cases  # noqa: E402

SECONDS = 0.15      # for each case in each turn, after two calls that warm up


def measure(group, side):
    """{case: median seconds} in this process."""
    if side == "torch":
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    found = {}
    for name, (function, _, _) in cases(group, side).items():
        function()
        function()
        times, start = [], time.perf_counter()
        while time.perf_counter() - start < SECONDS * (8 if group == "systems" else 1) or len(times) < 5:
            before = time.perf_counter()
            function()
            times.append(time.perf_counter() - before)
        found[name] = statistics.median(times)
    return found


def in_turns(group, turns):
    """{case: {side: median over the turns}}; the first side is ours."""
    sides = ("scratchnn", GROUPS[group][1])
    found = {side: [] for side in sides}
    for _ in range(turns):
        for side in sides:
            command = [sys.executable, __file__, group, "--side", side]
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            found[side].append(json.loads(output.splitlines()[-1]))
    return {name: {side: statistics.median(turn[name] for turn in found[side]) for side in sides} for name in found[sides[0]][0]}


def report(group, medians, peak):
    """Print a table, and return the entries of a results file."""
    peer, rows = GROUPS[group][1], []
    work = cases(group, "scratchnn")
    print(f"{group:34s}{'scratchnn us':>14s}{peer + ' us':>14s}{'ratio':>8s}{'share':>8s}")
    for name, seconds in medians.items():
        _, flops, size = work[name]
        share = flops / seconds["scratchnn"] / peak["flops"] if flops else size / seconds["scratchnn"] / peak["bytes"]
        ratio = seconds["scratchnn"] / seconds[peer]
        rows.append({"case": name, "ratio": round(ratio, 3), "microseconds": round(1e6 * seconds["scratchnn"], 1), "peer": peer,
                     "peer_microseconds": round(1e6 * seconds[peer], 1), "share": round(share, 3),
                     "of": "FMA peak" if flops else "copy bandwidth", "flops": flops, "intensity": flops / size if size else None})
        print(f"{name:34s}{1e6 * seconds['scratchnn']:14.1f}{1e6 * seconds[peer]:14.1f}{ratio:8.2f}{share:8.0%}")
    mean = math.exp(statistics.fmean(math.log(row["ratio"]) for row in rows))
    print(f"geometric mean {mean:.3f}, worst {max(row['ratio'] for row in rows):.2f}\n")
    return {"group": group, "peer": peer, "geometric_mean": round(mean, 3), "worst": max(row["ratio"] for row in rows), "rows": rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="+", choices=GROUPS)
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="processes for each side (default: 5)")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/speed-GROUP.json")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(measure(args.groups[0], args.side)))
        return
    from peak import measured_peak

    from scratchnn.metrics.record import machine

    peak = measured_peak()
    print(f"FMA peak {peak['flops'] / 1e9:.0f} GFLOP/s on {peak['threads']} threads, copy {peak['bytes'] / 1e9:.1f} GB/s\n")
    for group in args.groups:
        result = report(group, in_turns(group, args.turns), peak)
        if args.record:
            result |= {"command": f"python benchmarks/turns.py {group} --turns {args.turns} --record", "peak": peak, "machine": machine()}
            (HERE / "results" / f"speed-{group}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
