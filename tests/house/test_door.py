"""The door is light: asking for help or importing the package loads no library that computes."""

import ast
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import regard

SOURCE = Path(__file__).resolve().parents[2] / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
HEAVY = {"torch", "tokenizers", "huggingface_hub", "transformers"}
HELP = "import sys; sys.argv = ['regard', *sys.argv[1:]]; from regard.cli import main; main()"
PROBE = "import sys, atexit; atexit.register(lambda: print('\\nloaded:', *sys.modules)); "
SECONDS = 0.3


def loaded(code, *arguments):
    """The packages that a fresh interpreter holds after this code."""
    done = subprocess.run([sys.executable, "-c", PROBE + code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.rpartition("loaded:")[2].split()}


def cpu_seconds(folder, code, *arguments):
    """Processor time of a fresh interpreter, which a busy machine lengthens far less than the time on the clock.

    It finds the bytecode of its modules in `folder`, as a user's does, even where the tests run without writing any.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder), "PYTHONDONTWRITEBYTECODE": ""}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def top_level(tree):
    """Names that a module binds by its own statements, imports included."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments):
    assert loaded(HELP, *arguments) & HEAVY == set()


def test_help_is_quick(tmp_path):
    cpu_seconds(tmp_path, HELP, "--help")  # writes the bytecode
    runs = [cpu_seconds(tmp_path, HELP, "--help") for _ in range(5)]
    assert statistics.median(runs) < SECONDS, runs


def test_import_loads_nothing_heavy():
    assert loaded("import regard") & HEAVY == set()


@pytest.mark.parametrize("name", regard.__all__)
def test_public_names_are_there(name):
    assert getattr(regard, name) is not None


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        regard.nothing  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_names_are_imported_from_where_they_are_defined(name):
    """A name has one home: what another module merely imports is not to be had from there."""
    borrowed = []
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            home = MODULES[node.module]
            known = {*top_level(ast.parse(home.read_text(encoding="utf-8")))}
            known |= {other.rpartition(".")[2] for other in MODULES if other.rpartition(".")[0] == node.module}
            borrowed += [f"{alias.name} from {node.module}" for alias in node.names if alias.name not in known]
    assert borrowed == []
