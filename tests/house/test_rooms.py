"""How a file looks: its length, its words, and that both READMEs show where it is."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSE = ROOT / "src" / "regard"
SOURCES = sorted(HOUSE.rglob("*.py"))
LONGEST = 400  # lines of a file
SPEAKERS = {"demo.py"}  # who may print
# Words of the workshop. Some are put together here, so that this file does not hold them.
FORBIDDEN = {
    "an issue's number": r"\bissue #|\bissues/\d",
    "a note to oneself": r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b",
    "a path of one machine": r"(?<![\w.~-])/(?:work|root)/",
    "who worked when": r"\b(?:this|last|next|previous|earlier|work(?:ing)?|agent|coding) sess" + r"ions?\b",
}


def place(path):
    return str(path.relative_to(ROOT))


def texts():
    """Files of the repository, tracked or about to be, that hold text."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:  # an unpacked archive has no index
        yield from (path for path in SOURCES)
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in path.read_bytes()[:8192]:
            yield path


def documented(tree):
    """The module, its public classes and functions, and the public methods of those classes, each with its name."""
    yield "the module", tree
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name, node
            for part in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                    yield f"{node.name}.{part.name}", part


def tree_block(text):
    """The lines of the first fenced block that shows src/regard."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return next((block.splitlines() for block in blocks if "src/regard" in block), [])


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", SOURCES, ids=place)
def test_first_line_of_a_docstring_is_a_sentence(path):
    bad = []
    for name, node in documented(ast.parse(path.read_text(encoding="utf-8"))):
        first = (ast.get_docstring(node) or "").partition("\n")[0]
        if not first.endswith((".", ".)")) or re.search(r"[.!?] [A-Z]", first):
            bad.append(f"{name}: {first!r}")
    assert bad == []


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name not in SPEAKERS], ids=place)
def test_only_the_doors_print(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"] == []


def test_no_words_of_the_workshop():
    found = []
    for path in texts():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            found += [f"{place(path)}:{number}: {what}" for what, sign in FORBIDDEN.items() if re.search(sign, line)]
    assert found == []


@pytest.mark.parametrize(
    ("line", "is_bad"),
    [
        ("see issue " + "#12", True),
        ("TO" + "DO: later", True),
        ('open("' + "/work" + '/shared")', True),
        ("as found in an earlier " + "session", True),
        ('@pytest.fixture(scope="session")', False),
        ("an onnxruntime session", False),
        ("https://example.org/work/here", False),
        ("issues of the day", False),
    ],
)
def test_the_words_are_told_from_their_like(line, is_bad):
    assert any(re.search(sign, line) for sign in FORBIDDEN.values()) == is_bad


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_readme_shows_every_file_with_a_caption(name):
    """In the fenced block with src/regard, each file stands on a line of its own with some words after it."""
    path = ROOT / name
    lines = tree_block(path.read_text(encoding="utf-8")) if path.exists() else []
    files = [file for file in HOUSE.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    wanted = {file.relative_to(HOUSE).as_posix() for file in files if file.name not in ("__init__.py", "py.typed")}
    folders, shown = [], set()
    for line in lines:
        # A name may be written with its folders or be indented under them; strokes of a drawn tree are space.
        found = re.match(r"[\s│├└─|`+-]*", line)
        name_there, _, caption = line[found.end() :].partition(" ")
        folders = [(depth, folder) for depth, folder in folders if depth < found.end()]
        if name_there.endswith("/"):
            folders.append((found.end(), name_there))
        elif caption.strip(" #·—-"):
            whole = "".join(folder for _, folder in folders) + name_there
            shown.add(whole.rpartition("src/regard/")[2])
    assert wanted - shown == set()
    assert {file for file in shown if file.endswith(".py")} - {
        file.relative_to(HOUSE).as_posix() for file in files
    } == set()
