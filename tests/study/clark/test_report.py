"""The page: all its sections, in words that follow from the numbers, inert whatever data says."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from regard.data.corpus import Corpus
from regard.data.treebank import read
from regard.page import charts
from regard.study.clark import experiments, published, report, verdicts

HOSTILE = '<script>alert(1)</script>"&\x00 模型'
SECTIONS = [
    "glance", "data", "position", "special", "gradient", "entropy", "parsers", "coreference", "probes", "clusters",
    "differently", "guards", "numbers",
]  # fmt: skip


class Reader(HTMLParser):
    """Tags in order, that each is closed, and text."""

    void = ("meta", "link", "br")

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text, self.ids = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def found(system, corpus_file, treebank_file):
    plan = experiments.Plan(texts=20, length=48, probe=True, seeds=1)
    names = {"model": HOSTILE, "corpus": HOSTILE, "treebank": HOSTILE}
    return experiments.study(system, Corpus(corpus_file), read(treebank_file), plan, names=names)


@pytest.fixture(scope="module")
def page(found):
    return report.render(found)


def test_every_section_is_there_and_the_page_is_whole_and_inert(page, tmp_path):
    reader = Reader(page)
    assert [a["id"] for tag, a in reader.tags if tag == "section"] == SECTIONS
    scripts = [a for tag, a in reader.tags if tag == "script"]
    assert len(scripts) == 1 and "alert(1)</script>" not in page and "\x00" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page)
    assert "default-src 'none'" in page and len(page) < 1_000_000
    text = "".join(reader.text)
    assert "模型" in text and "<script>alert(1)</script>" in text  # shown, not run
    for word in ("swapped", "segment id 0", "chooses the best of 288", "takes the first", "float16", "144 heads"):
        assert word in text
    assert not any("nan" in drawn for drawn in re.findall(r'(?:d|x1|y1|cx|cy|x|y)="[^"]*"', page))


def test_the_page_says_the_numbers(found, page):
    text = "".join(Reader(page).text)
    row = next(r for r in found.relations["rows"] if r["relation"] == "near")
    assert f"{100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]" in text
    accuracy = found.coreference["rows"][0]["accuracy"]
    assert f"{100 * accuracy[0]:.1f} [{100 * accuracy[1]:.1f}, {100 * accuracy[2]:.1f}]" in text
    probe = found.probes[0]
    assert f"{100 * probe['uas']:.1f} [{100 * probe['low']:.1f}, {100 * probe['high']:.1f}]" in text
    assert f"{found.setup['uniform_entropy']:.2f} nats" in text
    means = found.means()
    cells = re.findall(r"<tr><th[^>]*>1\.3</th>(.*?)</tr>", page[page.index('id="numbers"') :])
    told = [f"{means[key][1, 3]:.2f}" for key in report.NUMBERS]
    assert [re.findall(r">([^<]*)</td>", row)[: len(told)] for row in cells] == [told]
    # figure 2 has a mark for each head and token type, and the paper's five points
    marks = page[page.index('id="special"') : page.index('id="gradient"')].count('<path class="mark')
    assert marks == 8 * 5 + 5 + 7  # heads of five series, the paper's points, the legends


def test_without_a_treebank_the_page_says_what_is_missing(system, corpus_file):
    plan = experiments.Plan(texts=20, length=48)
    names = {"model": "m", "corpus": "c", "treebank": ""}
    found = experiments.study(system, Corpus(corpus_file), None, plan, names=names)
    text = "".join(Reader(report.render(found)).text)
    assert text.count("No treebank was given") == 3


def test_too_few_texts_give_neither_intervals_nor_verdicts(system, corpus_file, treebank_file):
    """Two documents of four sentences each: one document scores antecedents, four sentences relations, two probes."""
    bank = read(treebank_file)
    few = [dataclasses.replace(s, document=n // 4) for n, s in enumerate(bank.sentences[:8])]
    plan = experiments.Plan(texts=20, length=48, probe=True, seeds=1)
    names = {"model": "m", "corpus": "c", "treebank": "t"}
    bank = dataclasses.replace(bank, sentences=tuple(few))
    found = experiments.study(system, Corpus(corpus_file), bank, plan, names=names)
    assert found.coreference["rows"][0]["documents"] == 1 and found.coreference["rows"][0]["gain"][1:] == [None, None]
    assert all(row["gain_low"] is None and row["n"] for row in found.relations["rows"])
    assert all(row["low"] is None for row in found.probes)
    told = verdicts.verdicts(found)
    own = [v for name in ("parsers", "coreference", "probes") for v in told[name]]
    assert len(own) == 4 and all(v.same is None and "too few texts for an interval" in v.here for v in own)
    page = report.render(found)
    sections = page[page.index('id="parsers"') : page.index('id="clusters"')]
    assert sections.count("too few texts for an interval.") == 3 and not re.search(r"\[|nan|None", sections)


def like_the_paper(found):
    """The same findings with the numbers of bert-base as the paper has them."""
    shape = (12, 12)

    def full(value=0.05):
        return np.full(shape, value)

    means = {name: full() for name in experiments.STATISTICS}
    for layer in published.PREVIOUS:
        means["offset_-1"][layer, 0] = 0.9
    for place, layer in enumerate(published.NEXT):
        means["offset_+1"][layer, place] = 0.8
    means["to_sep"][5:10], means["sep_to_sep"][5:10], means["other_to_sep"][5:10] = 0.55, 0.95, 0.54
    means["to_cls"][:4], means["to_stop"][10:] = 0.3, 0.55
    means["entropy_share"][0, 0], means["cls_entropy"] = 0.95, np.full(shape, 2.0)
    means["cls_entropy"][11] = 3.89
    rows = [
        {"layer": a, "head": b, "statistic": name, "n": 9, "mean": float(m[a, b]), "low": 0.0, "high": 0.0}
        for name, m in means.items()
        for a, b in np.ndindex(*shape)
    ]
    layers = [
        {"layer": a, "head": 0, "statistic": name, "n": 9, "mean": 0.001 if name == "sep" and a > 3 else 0.1}
        for name in ("cls", "sep", "stop", "other")
        for a in range(12)
    ]
    return dataclasses.replace(
        found, shape={"layers": 12, "heads": 12, "head_width": 64}, heads=rows,
        relations=found.relations | {"rows": []},
        setup=found.setup | {"uniform_entropy": 4.75}, gradients=found.gradients | {"layers": layers}, probes=[],
    )  # fmt: skip


def test_the_paper_agrees_with_itself_and_an_even_model_does_not(found):
    told = verdicts.verdicts(like_the_paper(found))
    own = [v for name in ("position", "special", "gradient", "entropy") for v in told[name]]
    assert len(own) == 10 and [v.finding for v in own if not v.same] == []
    assert told["position"][0].here == "4 heads, 1.0 (0.90), 3.0 (0.90), 6.0 (0.90), 7.0 (0.90)"

    even = like_the_paper(found)
    rows = [row | {"mean": 0.05 if row["statistic"] != "cls_entropy" else 2.0} for row in even.heads]
    layers = [row | {"mean": 0.1} for row in even.gradients["layers"]]
    even = dataclasses.replace(even, heads=rows, gradients=even.gradients | {"layers": layers})
    told = verdicts.verdicts(even)
    own = [v for name in ("position", "special", "gradient", "entropy") for v in told[name]]
    assert [v.finding for v in own if v.same] == ["Little attention to the token itself"]


def test_dots_stand_where_their_numbers_are():
    series = charts.Dots(name="a", x=np.array([0.0, 1.0]), y=np.array([0.0, 1.0]), mark="square", titles=["<", "b"])
    text = charts.dots([series], title="t", across="layer", bounds=(0.0, 1.0))
    places = re.findall(r'<path class="mark main square" d="M([\d.]+) ([\d.]+)v', text)
    wide = charts.WIDTH - charts.LEFT - charts.RIGHT
    assert [float(x) + 3 for x, _ in places] == pytest.approx(
        [charts.LEFT + wide / 4, charts.LEFT + 3 * wide / 4], abs=0.1
    )
    assert [float(y) for _, y in places] == pytest.approx([charts.HEIGHT - charts.BOTTOM, charts.TOP], abs=0.1)
    assert "<title>&lt;</title>" in text
    gap = charts.Dots(name="a", x=np.array([0.0]), y=np.array([np.nan]))
    assert 'd="M' not in charts.dots([gap], title="t", across="x", bounds=(0, 1)).split("legend")[1].split("</ul>")[1]


def test_a_plane_has_one_unit_on_both_axes():
    corners = charts.Dots(name="a", x=np.array([0.0, 4.0, 0.0]), y=np.array([0.0, 0.0, 2.0]), mark="square")
    places = re.findall(r'<path class="mark main square" d="M([\d.]+) ([\d.]+)v', charts.plane([corners], title="t"))
    (ax, ay), (bx, _), (_, cy) = [(float(x), float(y)) for x, y in places[-3:]]
    assert (bx - ax) / (ay - cy) == pytest.approx(2, rel=0.01)


def test_a_browser_opens_it_without_complaint(found, browse, tmp_path):
    path = tmp_path / "clark.html"
    report.write(found, path)
    assert "Which heads are alike" in browse(path)
