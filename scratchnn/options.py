"""The options that mean the same in every example, and checks of the values of others.

    parser = arguments(__doc__, data=("digits", "mnist", "csv:"), epochs=40, out="out/classify")
    parser.add_argument("--lr", type=number(0), default=0.01)
    args = parser.parse_args()
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scratchnn.device import Device


class Arguments(argparse.ArgumentParser):
    """A parser whose --smoke replaces the defaults of other options; what is given explicitly still holds. Errors take one line."""

    def __init__(self, smoke: dict[str, Any], **options):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.smoke = smoke

    def parse_known_args(self, args=None, namespace=None):
        if "--smoke" in (sys.argv[1:] if args is None else args):
            self.set_defaults(**self.smoke)
        return super().parse_known_args(args, namespace)

    def error(self, message):
        self.exit(2, f"error: {message} (--help lists the options)\n")


def arguments(description: str, *, out: str, data: Sequence[str] = (), epochs: int | None = None, steps: int | None = None,
              smoke: dict[str, Any] | None = None, cuda: bool = True) -> Arguments:
    """A parser with the options that mean the same in every example; add the example's own to it.

    description   the example's docstring, shown by --help
    out           default folder of everything that is written
    data          what it can use of data.SETS, the default first, and of data.FILES, with a colon: "csv:" for the user's tables
    epochs/steps  default length, of which an example has one or the other
    smoke         what --smoke sets, by option: a run of seconds, to see that everything works
    cuda          whether there are CUDA kernels for all that it does; if not, --device cuda is an error that says so
    """
    parser = Arguments(smoke or {}, description=description)
    if data:
        parser.add_argument("--data", type=_one_of(data), default=data[0], metavar="NAME", help=f"{_choices(data)} (default: {data[0]}); "
                            "README.md describes them, and options as in 'csv:people.csv?target=income&skip=name'")
    for name, default in (("epochs", epochs), ("steps", steps)):
        if default is not None:
            parser.add_argument(f"--{name}", type=whole(), default=default, metavar="N", help=f"how long to train (default: {default})")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed gives the same result (default: 0)")
    parser.add_argument("--device", type=device if cuda else only_cpu, default="cpu", metavar="NAME",
                        help=f"cpu{' or cuda' * cuda} (default: cpu)")
    parser.add_argument("--out", type=Path, default=Path(out), metavar="FOLDER", help=f"where to write (default: {out})")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out")
    parser.add_argument("--smoke", action="store_true", help="a run of a few seconds that shows that everything works")
    parser.add_argument("--save-every", type=number(0), default=30, metavar="SECONDS", help="time between checkpoints (default: 30)")
    parser.add_argument("--find-nan", action="store_true", help="stop at the first operation whose result is not finite (slower)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="append the result to a JSON file of benchmarks/results")
    return parser


def _choices(data):
    return ", ".join(name + "PATH" if name.endswith(":") else name for name in data)


def _one_of(data):
    """A check of --data against what an example can use; it returns what it is given."""
    def check(spec):
        kind, colon, _ = spec.partition(":")
        if spec not in data and (not colon or kind + colon not in data):
            raise argparse.ArgumentTypeError(f"{spec!r} is not known here; choose one of {_choices(data)}")
        return spec
    return check


def device(name):
    """A type for add_argument: a device by its name, if it is there."""
    try:
        return Device(name)
    except (ValueError, RuntimeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def only_cpu(name):
    """A type for add_argument: a device, of a system that has no CUDA kernels yet."""
    if name.partition(":")[0] == "cuda":
        raise argparse.ArgumentTypeError("this system has no CUDA kernels yet; leave it out, and it runs on the CPU")
    return device(name)


def whole(lowest: int = 1, highest: float = math.inf) -> Callable[[str], int]:
    """A type for add_argument: whole numbers from `lowest` to `highest`."""
    return _within(int, "a whole number", lowest, highest)


def number(lowest: float = -math.inf, highest: float = math.inf) -> Callable[[str], float]:
    """A type for add_argument: numbers from `lowest` to `highest`."""
    return _within(float, "a number", lowest, highest)


def _within(kind, what, lowest, highest):
    def check(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {what}, got {text!r}") from None
        if not lowest <= value <= highest:                                         # NaN neither
            where = f"must be {lowest} or more" if math.isinf(highest) else f"must lie in {lowest}..{highest}"
            raise argparse.ArgumentTypeError(f"{where}, got {text}")
        return value
    return check
