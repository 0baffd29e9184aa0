"""The page of a look: inert whatever the text, true to the weights, small, and alive in a real browser."""

import base64
import gzip
import html
import json
import re

import numpy as np
import pytest

import regard
from regard.lens import viewer
from regard.lens.viewer import right_to_left
from regard.page.markup import escape

HOSTILE = (
    "</script><script>document.title='broken'</script> <!-- <script> &quot; \u2028 \u2029 \x00 \u202eabc 😀 演员 مرحبا "
    "' \" ${a} {name} \\u003c <img src=x onerror=\"document.title='broken'\"> ]]> "
)


def embedded(page):
    """The values in a page's first article."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])


def drive(monkeypatch, script):
    """Adds to the viewer's script what a reader would do; its last value goes to the element with id `said`."""
    plain = viewer.script()
    act = "setTimeout(() => { const said = document.createElement('pre'); said.id = 'said'; document.body.append(said);"
    act += f" said.textContent = JSON.stringify((() => {{ {script} }})()); }}, 1500);"
    monkeypatch.setattr(viewer, "script", lambda: plain + act)


def said(dom):
    return json.loads(html.unescape(re.search(r'<pre id="said">(.*?)</pre>', dom, re.DOTALL)[1]))


def test_the_weights_in_the_page_are_the_weights(system, decode):
    look = system.look("a good film abc", "bad film", words="space")
    found = embedded(viewer.render(look, model="tiny"))
    assert [level["unit"] for level in found["levels"]] == ["words", "tokens"]
    for level, expected in zip(found["levels"], (look.weights, look.of_tokens().weights), strict=True):
        size = len(level["names"])
        assert (level["kept"], level["shown"]) == (size, 1.0)
        out, _ = decode(base64.b64decode(level["weights"]), rows=8 * size, kept=size, size=size)
        rows = expected.reshape(-1, size)
        assert (np.abs(out - rows) <= rows.max(1, keepdims=True) / 510 + 2e-5).all()
    np.testing.assert_allclose(found["norms"], look.weighting.reshape(-1, 4), atol=1e-4)
    kinds = [name for row in look.patterns for name, _ in row]
    assert [kind for kind, _ in found["levels"][0]["patterns"]] == kinds


def test_a_page_names_everything_to_know_and_the_quadrants_of_a_pair(system):
    look = system.look("a b c d e f a b c d e f", "good film")
    page = viewer.render(look, model="tiny")
    for guard in look.guards:
        assert escape(guard.text) in page
    assert "Between the two texts" in page and f"{look.quadrants[0, 0, 0, 1] * 100:.1f}" in page
    assert "Between the two texts" not in viewer.render(system.look("a b"), model="tiny")


def test_a_hostile_text_is_data(system):
    page = viewer.render(system.look(HOSTILE, HOSTILE, words="space"), model=HOSTILE)
    assert page.count("<script") == 2 and "<img" not in page and "\x00" not in page
    assert not set("<>&") & set(re.search(r'<script type="application/json">(.*?)</script>', page)[1])


@pytest.mark.parametrize(
    ("text", "left"), [("hello", False), ("مرحبا", True), ("«שלום»", True), ("123", False), ("我", False), ("", False)]
)
def test_the_strip_runs_as_its_text_does(text, left):
    assert right_to_left(text) == left


def test_512_tokens_and_144_heads_fit_in_three_megabytes(checkpoint, shared, decode, tmp_path):
    with gzip.open(shared / "data" / "wikitext2" / "valid.raw.gz", "rt", encoding="utf-8") as file:
        text = file.read(9000)
    look = regard.load(checkpoint("gte-small")).look(text)
    viewer.write(look, tmp_path / "long.html", model="gte-small")
    page = (tmp_path / "long.html").read_text(encoding="utf-8")
    assert 2_000_000 < len(page.encode()) < 3_000_000
    (level,) = embedded(page)["levels"]
    kept = level["kept"]
    assert 10 < kept < 512 and 0.4 < level["shown"] < 0.9
    out, rest = decode(base64.b64decode(level["weights"]), rows=144 * 512, kept=kept, size=512)
    expected = look.part(7)[3]
    start = (7 * 12 + 3) * 512
    least = np.sort(expected, -1)[:, -kept][:, None]
    top = expected.max(1, keepdims=True)
    expected = np.where(expected >= least, expected, 0)
    assert (np.abs(out[start : start + 512] - expected) <= top / 510 + 2e-5).all()
    assert level["shown"] == pytest.approx(1 - rest.mean(), abs=1e-4)


def test_a_weight_that_is_left_out_is_bounded_and_no_zero(checkpoint, shared, decode, tmp_path, browse, monkeypatch):
    monkeypatch.setattr(viewer, "BUDGET", 300_000)
    drive(
        monkeypatch,
        """
        document.querySelectorAll(".heads button:not(.edge)")[0].click();
        const canvas = document.querySelector(".frame canvas");
        return [...Array(60)].map(() => {
          canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
          return document.querySelector("output").textContent;
        });
        """,
    )
    with gzip.open(shared / "data" / "wikitext2" / "valid.raw.gz", "rt", encoding="utf-8") as file:
        look = regard.load(checkpoint("minilm-l6")).look(file.read(1500))
    size = len(look.tokens)
    viewer.write(look, tmp_path / "page.html", model="minilm-l6")
    readings = said(browse(tmp_path / "page.html"))
    (level,) = embedded((tmp_path / "page.html").read_text(encoding="utf-8"))["levels"]
    kept = level["kept"]
    out, _ = decode(base64.b64decode(level["weights"]), rows=72 * size, kept=kept, size=size)
    row, true = out[0], look.part(0)[0, 0]
    assert kept < size - 1
    for place, reading in enumerate(readings, 1):
        bound = re.search(r"gives less than ([\d.e-]+), which is left out", reading)
        if row[place]:
            assert not bound and f"gives {row[place]:.3f} to" in reading
        else:
            assert bound and true[place] <= float(bound[1]) * 1.06 + 1e-5
    assert 0 < np.count_nonzero(row[1:61]) < 60


READ = """
    const heads = document.querySelectorAll(".heads button:not(.edge)");
    const canvas = document.querySelector(".frame canvas");
    heads[6].click();
    const read = () => document.querySelector("output").textContent;
    const press = (key) => canvas.dispatchEvent(new KeyboardEvent("keydown", { key }));
    press("ArrowDown"); press("ArrowDown"); press("ArrowRight");
    const out = { one: read(), from: document.querySelector(".strip .from").textContent };
    heads[7].dispatchEvent(new MouseEvent("click", { shiftKey: true }));
    out.two = read();
    out.pressed = [...heads].map((head) => head.getAttribute("aria-pressed") === "true");
    document.querySelectorAll(".choice button")[3].click();
    out.incoming = [...document.querySelectorAll(".strip li")].map((item) => item.title);
    document.querySelectorAll(".choice button")[0].click();
    out.words = [...document.querySelectorAll(".strip li")].map((item) => item.textContent);
    out.wide = document.documentElement.scrollWidth <= window.innerWidth;
    out.title = document.title;
    return out;
"""


def test_a_reader_clicks_and_presses_through_the_page(system, tmp_path, browse, monkeypatch):
    drive(monkeypatch, READ)
    look = system.look("a good film abc", "bad film", words="space")
    viewer.write(look, tmp_path / "page.html", model="tiny")
    found = said(browse(tmp_path / "page.html"))
    weights = look.weights[1]
    assert (
        found["one"] == f"“\u2068good\u2069” (2) gives {weights[2, 2, 1]:.3f} to “\u2068a\u2069” (1)"
        and found["from"] == "good"
    )
    assert found["two"] == f"“\u2068good\u2069” (2) gives {weights[2:4, 2, 1].mean():.3f} to “\u2068a\u2069” (1)"
    assert [i for i, on in enumerate(found["pressed"]) if on] == [6, 7]
    shown = [float(title.partition(": ")[2]) for title in found["incoming"]]
    np.testing.assert_allclose(shown, weights[2:4, :, 2].mean(0), atol=2e-3)
    assert found["words"] == list(look.names) and found["wide"]


@pytest.mark.parametrize("size", ["1200,900", "390,800"])
def test_a_hostile_text_does_nothing_in_a_browser(size, system, tmp_path, browse, monkeypatch):
    drive(monkeypatch, READ)
    viewer.write(system.look(HOSTILE, "b", words="space"), tmp_path / "page.html", model=HOSTILE)
    dom = browse(tmp_path / "page.html", f"--window-size={size}")
    found = said(dom)
    assert "broken" not in found["title"][:6] and "<img" not in dom and found["wide"]
    assert re.fullmatch(r"“.*” \(2\) gives 0\.\d{3} to “.*” \(1\)", found["one"], re.DOTALL)
