"""Write scratchnn/README.md: every public name, its arguments and the first sentence of its docstring.

    python benchmarks/api.py
"""

import inspect
import pkgutil
import re
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from types import FunctionType

from kernels import cpu, reference, scalar

ROOT = Path(__file__).parent.parent
AROUND = "Around a training"
LEAD = "Tools to train with, and to look inside; [scratchnn/sklearn.py](../scratchnn/sklearn.py) has an estimator for scikit-learn."
SECTIONS = (*(f"scratchnn{name}" for name in (
    "", ".cuda", ".nn", ".nn.functional", ".nn.init", ".nn.utils", ".nn.utils.parametrizations", ".optim", ".optim.lr_scheduler",
    ".optim.swa_utils", ".data", ".metrics", ".models")), AROUND, "kernels")
TOOLS = [f"scratchnn.{name}" for name in ("run", "checkpoint", "options", "pictures", "explain", "debug", "testing")]
USUAL = {"forward", "function", "extra_repr", "state_dict", "load_state_dict", "reset_parameters"}      # methods of many classes
INTRODUCTION = f"""# The names of scratchnn

Every public name, its arguments and the first sentence of its docstring, by the file that defines it; `help(name)` has the rest: shapes,
units, errors, sources. Names that PyTorch has mean what they mean there. How to read the files is in [examples](../examples/README.md) and
[kernels](../kernels/README.md). `python benchmarks/api.py` writes this page.

{", ".join(f"[{name}](#{name.lower().replace('.', '').replace(' ', '-')})" for name in SECTIONS)}"""


def sentence(text):
    """The first sentence of a docstring, as Markdown; empty if there is none."""
    paragraph = " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())
    end = re.match(r".*?(?<!\bal)(?<!\beq)(?<!\b[A-Z])(?<!\.\.)\.(?=\s|$)", paragraph)      # not of "et al.", "eq.", initials and dots
    found = re.split("(`[^`]*`)", end[0] if end else re.sub(":$", ".", paragraph))
    return "".join(part if part[:1] == "`" else re.sub(r"(?<=\w)\*(?=\w)|<(?=\w)", r"\\\g<0>", part) for part in found)


def shown(default):
    """A default value: functions and classes by name, numbers of many digits rounded, what is long left out."""
    text = f"{default:.4g}" if isinstance(default, float) and len(repr(default)) > 9 else getattr(default, "__name__", repr(default))
    return "..." if "<" in text or len(text) > 60 else text


def signature(value):
    """(a, b=1, *, c=None): arguments without types."""
    if inspect.isclass(value) and issubclass(value, Exception):
        return "(message)"
    star, parts = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}, []
    for p in inspect.signature(value).parameters.values():
        parts += ["*"] if p.kind is p.KEYWORD_ONLY and not any(part[0] == "*" for part in parts) else []
        parts.append(star.get(p.kind, "") + p.name + ("" if p.default is p.empty else f"={shown(p.default)}"))
    return f"({', '.join(parts)})"


def line(name, value):
    """A name as an item of a list; of a class also the members that no class before it has."""
    says = "" if (value.__doc__ or "").startswith(f"{value.__name__}(") else sentence(value.__doc__)       # a dataclass makes its own
    if inspect.isclass(value):
        members = [f"`{key}`" for key, member in vars(value).items() if key[0] != "_" and key not in USUAL
                   and isinstance(member, FunctionType | property | classmethod | staticmethod)
                   and not any(key in vars(base) for base in value.__mro__[1:])]
        says += f" Members: {', '.join(members)}." if members else ""
    takes = signature(value)
    if takes == "(*args, out=None)":                                # a kernel that was made of a scalar function
        takes = signature(getattr(scalar, name))[:-1] + ", out=None)"
    return f"- `{name.split('.')[-1]}{takes}`" + (f": {says}" if says else "")


def names_of(section):
    """{name: value} of a section: what __all__ says, or what was made there; of metrics, models and tools all that their files have."""
    if section == "kernels":
        return {name: value for name, value in vars(cpu).items() if callable(value) and hasattr(reference, name)}
    below = pkgutil.walk_packages(import_module(section).__path__, f"{section}.") if section.endswith(("metrics", "models")) else ()
    if files := TOOLS if section == AROUND else [info.name for info in below]:
        return {f"{file}.{name}": value for file in files for name, value in vars(import_module(file)).items()
                if name[0] != "_" and isinstance(value, type | FunctionType) and value.__module__ == file}
    module, own = import_module(section), ("scratchnn", "kernels") if section == "scratchnn" else section
    return {name: value for name, value in vars(module).items() if not inspect.ismodule(value) and
            (name in module.__all__ if hasattr(module, "__all__") else name[0] != "_" and
             (value.__module__.startswith(own) if hasattr(value, "__name__") else section == "scratchnn"))}


def heading(module):
    """The file that defines what follows, and the first sentence of its docstring; of a kernel the file in both wings."""
    if module.startswith("kernels.cpu."):
        file = module.split(".")[2]
        fast = f"kernels/cpu/{file}" + ("/" if (ROOT / "kernels" / "cpu" / file).is_dir() else ".py")
        return f"**[kernels/reference/{file}.py](../kernels/reference/{file}.py)**, fast in [{fast}](../{fast})"
    file = Path(import_module(module).__file__).relative_to(ROOT).as_posix()
    return f"**[{file}](../{file})**: {sentence(import_module(module).__doc__)}"


def part(section, known):
    """Markdown of a section, by files; values that an earlier one had are only named, and so are derivatives and constants."""
    files, named = defaultdict(list), defaultdict(list)
    says = LEAD if section == AROUND else sentence(import_module(section).__doc__)
    for name, value in sorted(names_of(section).items()):
        if not hasattr(value, "__name__"):
            named["Constants"].append(f"`{name}`")
        elif id(value) in known or (name.endswith("_backward") and section != "kernels"):
            named["As above" if id(value) in known else "Derivatives, which are operations too"].append(f"`{name}`")
        else:
            known.add(id(value))
            files[heading(value.__module__)].append(line(name, value))
    parts = [f"{head}\n\n" + "\n".join(lines) for head, lines in sorted(files.items())]
    parts += [f"{what}: {', '.join(names)}." for what, names in named.items()]
    return "\n\n".join([f"## {section}", *([] if any(says in text for text in parts) else [says]), *parts])


def page():
    """scratchnn/README.md."""
    known = set()
    return "\n\n".join([INTRODUCTION, *(part(section, known) for section in SECTIONS)]) + "\n"


if __name__ == "__main__":
    (ROOT / "scratchnn" / "README.md").write_text(page(), encoding="utf-8")
