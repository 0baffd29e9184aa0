"""The compiled kernel is made once, kept, and done without where it cannot be had; its numbers are tested elsewhere."""

import logging

import pytest
import torch

from regard.lens import compiled

SMALL = "int regard_small() { return 7; }\n"  # compiled in no time


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """No library is loaded or kept yet."""
    if not compiled.serves(torch.zeros(1)):
        pytest.skip("no C++ compiler, or a processor without AVX-512")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compiled._loaded.cache_clear()
    yield tmp_path
    compiled._loaded.cache_clear()


@pytest.fixture
def small(fresh, monkeypatch):
    """A source that is quickly compiled."""
    source = fresh / "small.cpp"
    source.write_text(SMALL)
    monkeypatch.setattr(compiled, "SOURCE", source)
    return source


def test_a_library_is_compiled_once_and_nothing_else_is_left(small, caplog):
    path = compiled._built(["c++"])
    assert path.stat().st_size > 0
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    made = path.stat().st_mtime_ns
    assert compiled._built(["c++"]) == path and path.stat().st_mtime_ns == made
    assert caplog.text.count("Compiling the kernel") == 1
    small.write_text(SMALL.replace("7", "8"))
    assert compiled._built(["c++"]) != path  # another source, another library


def test_where_nothing_can_be_kept_it_is_compiled_for_this_process(small, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(small))  # a file is no folder
    assert compiled._built(["c++"]).stat().st_size > 0


@pytest.mark.parametrize("broken", ["compiler", "source", "library"])
def test_a_kernel_that_cannot_be_had_is_done_without_and_said(fresh, monkeypatch, caplog, broken):
    if broken == "compiler":
        monkeypatch.setenv("CXX", "/no/such/compiler")
    else:
        source = fresh / "broken.cpp"
        source.write_text("here is no C++\n" if broken == "source" else SMALL)
        monkeypatch.setattr(compiled, "SOURCE", source)
    if broken == "library":  # one that says it attends and does not
        monkeypatch.setattr(torch.ops.regard, "attend", lambda *_: [torch.zeros(75, 2, 40)] * 10)
    with caplog.at_level(logging.WARNING, "regard"):
        assert not compiled.serves(torch.zeros(1))
    assert "A slower one is used instead." in caplog.text
    assert not [left for left in fresh.glob("cache/regard/*") if left.is_dir()]


def test_what_is_elsewhere_or_of_another_type_is_not_served():
    assert not compiled.serves(torch.zeros(1, dtype=torch.float64))
    assert not compiled.serves(torch.zeros(1, device="meta"))
