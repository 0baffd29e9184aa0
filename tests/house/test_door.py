"""The door is light: asking for help or importing the package loads no library that computes."""

import ast
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
HEAVY = {"torch", "numpy", "tokenizers", "huggingface_hub", "transformers"}
MOST = 500
COMPILER = {"torch._dynamo", "torch._inductor", "sympy"}  # half of the time that a verb takes to start
HELP = "import sys; sys.argv = ['regard', *sys.argv[1:]]; from regard.cli import main; main()"
PROBE = "import sys, atexit; atexit.register(lambda: print('\\nloaded:', *sys.modules)); "


def loaded(code, *arguments):
    """The modules that a fresh interpreter holds after this code."""
    done = subprocess.run([sys.executable, "-c", PROBE + code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


def top_level(tree):
    """Names that a module binds by its own statements, imports included."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments):
    modules = loaded(HELP, *arguments)
    assert modules & HEAVY == set()
    assert len(modules) < MOST  # what is loaded is what it takes: some 340, and 440 where typer finds pydantic


def test_import_loads_nothing_heavy():
    assert loaded("import regard") & HEAVY == set()


def test_no_room_loads_a_compiler():
    rooms = [name for name in MODULES if not name.endswith("__main__")]
    code = "import importlib; [importlib.import_module(name) for name in sys.argv[1:]]"
    assert loaded(code, *rooms) & COMPILER == set()


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
