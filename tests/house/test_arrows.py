"""Which rooms know of which: the contracts of pyproject.toml, and what may be imported from outside."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "regard").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE = {"torch", "tokenizers", "safetensors", "numpy", "huggingface-hub", "typer", "rich"}


def distribution(requirement):
    """The name alone, as package indexes compare it: small letters, dashes."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def imported(tree):
    """Names of the top-level packages that a module imports anywhere in it, and the line of each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0], node.lineno


def test_contracts_hold():
    linter = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(linter, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_core_dependencies_are_few():
    assert {distribution(wanted) for wanted in PROJECT["dependencies"]} == CORE


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_every_import_is_declared(path):
    """In the core or in an extra for users; what developers alone install may not be needed at run time."""
    extras = [wanted for name, extra in PROJECT["optional-dependencies"].items() if name != "dev" for wanted in extra]
    declared = {distribution(wanted) for wanted in [*PROJECT["dependencies"], *extras]}
    own = {"regard", *sys.stdlib_module_names}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    strangers = [f"{name}, line {line}" for name, line in imported(tree) if name not in own]
    assert [name for name in strangers if distribution(name.partition(",")[0]) not in declared] == []


def test_constraints_pin_all_that_is_named():
    pins = {
        distribution(line): line.partition("==")[2]
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    assert pins["torch"] == "2.13.0"
    extras = [wanted for extra in PROJECT["optional-dependencies"].values() for wanted in extra]
    named = {distribution(wanted) for wanted in [*PROJECT["dependencies"], *extras]}
    assert {name for name in named if not pins.get(name)} == set()
