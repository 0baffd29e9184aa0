"""What the terminal shows: the numbers that were asked for, in any width, with what to know beneath."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from regard.lens.picture import picture


def shown(look, *, width=100, **choice):
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(picture(look, width=width, **choice))
    return out.getvalue()


def line(text, start):
    return next(row for row in text.splitlines() if row.split()[: len(start.split())] == start.split())


@pytest.fixture(scope="module")
def look(system):
    return system.look("a good film abc", "bad film")


@pytest.mark.parametrize("width", [40, 100, 300])
@pytest.mark.parametrize("choice", [{}, {"row": 2}, {"column": 2}, {"row": 2, "column": 3}], ids=str)
@pytest.mark.parametrize("layer", [None, 1])
def test_every_view_has_its_cautions_and_is_written_out_of_the_lens(system, width, choice, layer):
    look = system.look("a good film abc", layer=layer, head=layer)
    text = " ".join(shown(look, width=width, **choice).split())
    assert all(" ".join(guard.text.split()) in text for guard in look.guards)


def test_a_cell_is_shown_for_every_head(look):
    text = shown(look, row=2, column=3)
    assert "how much 2 good looks at 3 film (also at 9), in percent" in text
    for layer in (0, 1):
        cells = [float(cell) for cell in line(text, str(layer)).split()[1:]]
        np.testing.assert_allclose(cells, look.weights[layer, :, 2, 3] * 100, atol=0.051)


def test_a_row_and_a_column_list_their_largest(look):
    row, column = look.weights[:, :, 2].mean((0, 1)), look.weights[..., 2].mean((0, 1))
    for choice, values in (({"row": 2}, row), ({"column": 2}, column)):
        text = shown(look, top=3, **choice)
        listed = [int(part.split()[0]) for part in text.splitlines()[2:5]]
        assert listed == np.argsort(-values)[:3].tolist()
        assert f"{values.max():.3f}" in text.splitlines()[2]


def test_one_head_is_a_matrix_where_it_fits_and_else_a_list(system):
    look = system.look("a good film", layer=1, head=2)
    weights = look.weights[0, 0]
    cells = line(shown(look), "2 good").split()[2:-1]
    assert [int(cell) for cell in cells] == [n for n in np.rint(weights[2] * 100).astype(int).tolist() if n]
    narrow = shown(look, width=40, top=1)
    i, j = np.unravel_index(weights.argmax(), weights.shape)
    assert f"the strongest of {weights.size} weights" in " ".join(narrow.split()) and f"{weights.max():.3f}" in narrow
    assert line(narrow, f"{i} {look.tokens[i]} {j} {look.tokens[j]}")


def test_a_pair_shows_what_crosses_most(look):
    found = look.quadrants.reshape(-1, 4)
    best = int((found[:, 1] + found[:, 2]).argmax())
    text = shown(look, top=2)
    cells = line(text, f"{best // 4} {best % 4} {found[best, 0] * 100:.1f}").split()
    assert cells[2:] == [f"{share * 100:.1f}" for share in found[best]]
    assert "2 of 8 heads" in text


@pytest.mark.parametrize("choice", [{}, {"row": 1}, {"column": 1}, {"row": 1, "column": 2}], ids=str)
@pytest.mark.parametrize("width", [30, 100])
def test_square_brackets_are_no_markup(system, width, choice):
    look = system.look("a b", layer=0, head=0)
    look = replace(look, tokens=("[CLS]", "[bold]", "[/red]", "[SEP]"))
    text = shown(look, width=width, top=16, **choice)
    assert "[bold]" in text and ("[/red]" in text or choice.get("row") is None)
