"""The pages for readers are true: what they name is there, commands parse, and what was generated is what would be generated now."""

import ast
import functools
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "kernels/README.md", "examples/README.md", "scratchnn/README.md", "benchmarks/results/README.md")
GUIDES = ("kernels/README.md", "examples/README.md")
FOLDERS = ("kernels/", "scratchnn/", "examples/", "benchmarks/", "tests/")


def quoted(page):
    """What stands in backticks in a page, but for its blocks of code."""
    text = re.sub(r"^```.*?^```|^    .*?$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S | re.M)
    return [" ".join(part.split()) for part in re.findall(r"`([^`]+)`", text)]


def commands(page):
    """The command lines of examples in a page, without what is said behind two blanks: (example, options)."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"python examples/(\w+)\.py([^`\n]*)", text)
    return [(name, re.split(r"\s{2,}", options)[0]) for name, options in found]


@functools.cache
def parser_of(example):
    return runpy.run_path(str(ROOT / "examples" / f"{example}.py")).get("parse")


@functools.cache
def names_in(path):
    """The functions, classes, attributes, constants and named arguments of a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.keyword):                       # a figure: run.result(test_error=...)
            found.add(node.arg)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_name_is_there(page):
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    text, missing = (ROOT / page).read_text(encoding="utf-8"), []
    for found in quoted(page):
        path, _, name = found.partition(": ")
        if path.startswith(FOLDERS) and " " not in path:
            there = list(ROOT.glob(path))
            missing += [] if there and (not name or name in names_in(there[0])) else [found]
        elif re.fullmatch(r"\w+\.py", path):
            missing += [] if path in {file.name for file in files} else [found]
        elif page in GUIDES and re.fullmatch(r"\w{2,}", path):
            missing += [] if any(path in names_in(file) for file in files) else [found]
    missing += [path for path in re.findall(rf"(?<![\w/])(?:{'|'.join(FOLDERS)})[\w/]+\.py", text) if not (ROOT / path).exists()]
    links = [link for link in re.findall(r"\]\(([^)#]*)[^)]*\)", text) if link and "://" not in link]
    missing += [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert not missing, f"{page} names what is not there: {missing}"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_parses(page, monkeypatch, capsys):
    for name, options in commands(page):
        parse = parser_of(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *shlex.split(options)])
        if parse and "cuda" not in options:
            try:
                parse()
            except SystemExit:
                pytest.fail(f"{page}: python examples/{name}.py {options}: {capsys.readouterr().err}")


def test_generated_pages_are_current(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import api
    import report

    guide = (ROOT / "kernels" / "README.md").read_text(encoding="utf-8")
    assert guide == report.guide(guide), "the ladders' docstrings have changed: python benchmarks/report.py"
    assert (ROOT / "scratchnn" / "README.md").read_text(encoding="utf-8") == api.page(), "docstrings have changed: python benchmarks/api.py"
