"""The report: one file, complete, inert, and true to its numbers."""

import base64
import dataclasses
import hashlib
import json
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest

from regard.eval import maps
from regard.eval.findings import AttentionExample, Findings
from regard.eval.report import render, write
from regard.lens.guards import Guard
from regard.measure.scores import Score, scores
from regard.page import charts
from regard.page.markup import escape, number, passage, writable

HOSTILE = (
    "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"
    "<!--<script></script x</style></title></details>'\"&\x00\ud800"
)
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, and whether each closes the one that is open."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack, self.elements, self.words, self.scripts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        names = [key for key, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):  # only SVG elements are closed in this way
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack and self.stack.pop() == tag, (tag, self.stack[-3:], self.getpos())
        if tag in {"th", "td", "h1", "h2", "p", "div", "figcaption", "caption"}:
            self.words.append(" ")

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "script":
            self.scripts.append(data)
        elif self.stack and self.stack[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    def ids(self):
        return [attrs["id"] for tag, attrs in self.elements if tag == "section"]

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def example(tokens, *, layers=2, heads=3, seed=0, **changes):
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(tokens)), size=(layers, heads, len(tokens)))
    fields = {"text": " ".join(tokens[1:-1]), "truth": "good", "predicted": "bad", "confidence": 0.75} | changes
    return AttentionExample(tokens=list(tokens), weights=weights, **fields)


def history(steps=60):
    rows = []
    for step in range(1, steps + 1):
        row = {"step": step, "epoch": step / 20, "loss": 1 / step, "learning_rate": 5e-5, "tokens_per_second": 1234.0}
        rows.append({"kind": "step", **row})
        if step % 20 == 0:
            value = 0.5 + step / 200
            rows.append(
                {"kind": "evaluation", "step": step, "accuracy": value, "low": value - 0.1, "high": value + 0.1}
            )
    return rows


def findings(*, rows=200, labels=("bad", "good", "mixed"), seed=0, **changes):
    random = np.random.default_rng(seed)
    truth = random.integers(0, max(len(labels), 1), rows)
    logits = random.normal(size=(rows, max(len(labels), 1)))
    logits[np.arange(rows), truth] += 2
    output = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    fields = {
        "title": "Films",
        "task": "classify",
        "recipe": '[train]\nepochs = 3.0\nmetric = "auto" # <b>',
        "history": history(),
        "scores": [Score("accuracy", 0.912, 0.897, 0.926, 1061), Score("calibration error", 0.031, 0.02, 0.05, 1061)],
        "baselines": {
            "majority": [Score("accuracy", 0.402, 0.38, 0.42, 1061)],
            "bag of words": [Score("accuracy", 0.771, 0.75, 0.79, 1061)],
        },
        "labels": tuple(labels),
        "truth": truth,
        "output": output,
        "texts": [f"text number {i}" for i in range(rows)],
        "attention": [example(["[CLS]", "a", "fine", "film", "[SEP]"])],
        "notes": ["12 rows were skipped."],
        "cautions": ["The test split is small."],
    }
    return Findings(**(fields | changes))


def multilabel(*, rows=150, labels=("toxic", "threat", "insult"), **changes):
    random = np.random.default_rng(1)
    truth = (random.random((rows, len(labels))) < 0.3).astype(np.int64)
    output = np.clip(0.6 * truth + random.random((rows, len(labels))) * 0.6, 0, 1)
    return findings(rows=rows, task="multilabel", labels=labels, truth=truth, output=output, **changes)


def regress(*, rows=150, **changes):
    truth = np.random.default_rng(2).normal(size=rows)
    noise = np.random.default_rng(3).normal(size=rows) * 0.3
    return findings(rows=rows, task="regress", labels=(), truth=truth, output=truth + noise, **changes)


def test_all_sections_stand_and_the_numbers_are_those_given():
    page = Page(render(findings()))
    sections = ["headline", "curves", "confusion", "calibration", "mistakes", "classes", "attention", "data", "recipe"]
    assert page.ids() == sections
    assert [a["href"] for a in page.all("a")][1:] == [f"#{key}" for key in sections]
    assert "accuracy 0.912 [0.897, 0.926] on 1,061 texts; bag of words reaches 0.771." in page.text
    assert "0.031" in page.text and "[0.020, 0.050]" in page.text and "no clear gain" not in page.text
    for words in ("12 rows were skipped.", "The test split is small.", 'epochs = 3.0 metric = "auto" # <b>'):
        assert words in page.text
    assert maps.CAUTION in page.text


def test_the_file_needs_no_network_and_is_marked_up_for_all_readers(tmp_path):
    write(findings(), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<link|<iframe", text)
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == 1
    assert all("scope" in attrs for attrs in page.all("th"))
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for attrs in page.all("svg"))
    assert len(page.all("caption")) == len(page.all("table"))
    ids = {attrs["id"] for _, attrs in page.elements if "id" in attrs}
    assert {attrs["aria-labelledby"] for attrs in page.all("section")} <= ids


def test_equal_findings_give_equal_pages():
    assert render(findings()) == render(findings())


def test_hostile_words_are_inert_wherever_they_stand():
    hostile = findings(
        title=HOSTILE,
        recipe=HOSTILE,
        labels=(HOSTILE, "b", "c"),
        texts=[HOSTILE] * 200,
        pairs=[HOSTILE] * 200,
        notes=[HOSTILE],
        cautions=[HOSTILE],
        baselines={HOSTILE: [Score(HOSTILE, 1, 1, 1, 5)]},
        scores=[Score(HOSTILE, 0.5, 0.4, 0.6, 5)],
        history=[*history(), {"kind": "evaluation", "step": 70, HOSTILE: 0.5}],
        attention=[example(["[CLS]", HOSTILE, "[SEP]"], text=HOSTILE, pair=HOSTILE, truth=HOSTILE, predicted=HOSTILE)],
    )
    for found in (hostile, dataclasses.replace(multilabel(), labels=(HOSTILE, "b", "c"))):
        text = render(found)
        text.encode("utf-8")  # no lone surrogate is left
        page = Page(text)
        assert len(page.all("script")) == len(found.attention) + 1 and not page.all("img")
        assert not [a for _, attrs in page.elements for a in attrs if a.startswith("on")]
        assert "\x00" not in text
    source = next(script for script in Page(render(hostile)).scripts if script.startswith("{"))
    assert json.loads(source)["levels"][0]["names"][1] == writable(HOSTILE) and not set("<>&") & set(source)
    assert escape('<a href="x">\'&\x07') == "&lt;a href=&quot;x&quot;&gt;&#x27;&amp;\ufffd"


def test_only_the_page_s_own_script_may_run():
    page = Page(render(findings()))
    policy = next(attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none';") and f"script-src 'sha256-{digest}'" in policy


def test_the_confusion_matrix_and_the_classes_count_right():
    truth = np.array([0, 0, 1, 1, 1, 2])
    output = np.eye(3)[[0, 1, 1, 1, 0, 0]] * 0.8 + 0.0667  # class 2 is never predicted
    found = findings(rows=6, truth=truth, output=output)
    text = render(found)
    matrix = text[text.index('<table class="matrix') : text.index("</table>", text.index('<table class="matrix'))]
    assert [int(n) for n in re.findall(r">(\d+)</td>", matrix)] == [1, 1, 0, 1, 2, 0, 1, 0, 0]
    classes = Page(text[text.index('<section id="classes"') : text.index('<section id="attention"')]).text
    assert "mixed – 0.000 0.000 0 1" in classes
    assert "bad 0.333 0.500 0.400 3 2" in classes and "good 0.667 0.667 0.667 3 3" in classes


def test_mistakes_are_the_most_confident_ones_with_their_lines():
    found = findings(lines=list(range(1000, 1200)))
    wrong = found.output.argmax(1) != found.truth
    first = int(np.where(wrong, found.output.max(1), 0).argmax())
    text = render(found)
    section = Page(text[text.index('<section id="mistakes"') : text.index('<section id="classes"')]).text
    truth, predicted = found.labels[found.truth[first]], found.labels[found.output[first].argmax()]
    confidence = number(found.output[first].max())
    assert (
        f"line text true predicted confidence {1000 + first} text number {first} {truth} {predicted} {confidence}"
        in section
    )


def test_calibration_is_that_of_measure():
    found = findings()
    error = next(s for s in scores("classify", found.truth, found.output) if s.name == "calibration error")
    assert f"Expected calibration error {number(error.value)} over" in Page(render(found)).text


def test_a_gain_inside_the_interval_is_called_none():
    near = {"bag of words": [Score("accuracy", 0.9, 0.88, 0.92, 1061)]}
    assert "This is no clear gain over bag of words" in Page(render(findings(baselines=near))).text
    lower = [Score("mean absolute error", 0.3, 0.2, 0.4, 9)]
    far, close = ({"mean": [Score("mean absolute error", v, v, v, 9)]} for v in (0.9, 0.35))
    assert "no clear gain" not in Page(render(regress(scores=lower, baselines=far))).text
    assert "no clear gain" in Page(render(regress(scores=lower, baselines=close))).text


def test_labels_are_judged_at_their_threshold():
    found = multilabel(threshold=0.7)
    page = Page(render(found))
    assert page.ids() == ["headline", "curves", "calibration", "mistakes", "classes", "attention", "data", "recipe"]
    given = found.output >= 0.7
    hits = (given & (found.truth == 1)).sum(0)
    for k, label in enumerate(found.labels):
        precision, recall = number(hits[k] / given[:, k].sum()), number(hits[k] / found.truth[:, k].sum())
        assert f"{label} {precision} {recall}" in page.text
    assert "missed at" in page.text


def test_regression_shows_errors():
    found = regress()
    page = Page(render(found))
    assert page.ids() == ["headline", "curves", "calibration", "mistakes", "attention", "data", "recipe"]
    off = found.output - found.truth
    worst = int(np.abs(off).argmax())
    assert f"{number(float(np.abs(off).mean()))} on average" in page.text
    assert f"{worst + 1} text number {worst} {number(found.truth[worst])} {number(found.output[worst])}" in page.text
    column = dataclasses.replace(found, output=found.output[:, None])
    assert render(column) == render(found)


@pytest.mark.parametrize("make", [findings, multilabel, regress])
def test_little_is_enough(make):
    for rows in (1, 2):
        Page(render(make(rows=rows, history=[], baselines={}, attention=[], notes=[], cautions=[], scores=[])))
    empty = dataclasses.replace(make(), truth=np.zeros(0, np.int64), output=np.zeros((0, 3)), texts=[])
    assert "There were no texts to predict." in Page(render(empty)).text


def test_no_mistake_and_constant_numbers():
    found = findings(rows=9)
    right = dataclasses.replace(found, output=np.eye(3)[found.truth])
    assert "There is no mistake to show." in Page(render(right)).text
    same = np.full(9, 2.0)
    Page(render(dataclasses.replace(regress(rows=9), truth=same, output=same)))


def test_history_with_holes_and_what_is_not_a_number():
    step = {"kind": "step", "step": 1, "loss": float("nan"), "learning_rate": 0.0}
    rows = [
        step,
        step | {"step": 2, "loss": 0.5},
        {"kind": "evaluation", "step": 2, "F1": 0.4, "low": None, "high": None},
    ]
    for part in ([step], rows, rows[:2], rows[2:], [{"kind": "end", "reason": "steps"}], history(5000)):
        text = render(findings(history=part))
        Page(text)
        assert "nan" not in text[text.index('<section id="curves"') : text.index('<section id="confusion"')]
    undefined = [Score("Pearson", float("nan"), float("nan"), float("nan"), 3)]
    assert "Pearson – on 3 texts" in Page(render(regress(scores=undefined))).text


def test_the_interval_stands_around_the_metric_that_it_holds():
    rows = [{"kind": "evaluation", "step": s, "loss": 3.0, "F1": 0.5, "low": 0.4, "high": 0.6} for s in (10, 20)]
    text = render(findings(history=rows))
    assert "Evaluation: loss; 3.000 at the end" in text
    assert "Evaluation: F1, with its 95 % interval; 0.500 at the end" in text
    assert text.count('<path class="band') == 1


def test_a_hundred_classes_show_pairs_instead_of_a_matrix():
    found = findings(rows=2000, labels=[f"intent {i}" for i in range(100)])
    text = render(found)
    page = Page(text)
    assert '<table class="matrix' not in text and "The other 70 classes" in page.text
    assert "most confused pairs of 100 classes" in page.text
    assert all(f"intent {i}" in page.text for i in range(100))


def test_chinese_is_marked_as_such():
    found = findings(labels=("财经", "体育", "科技"), texts=["这部电影很好看。"] * 200, title="中文新闻")
    text = render(found)
    assert '<h1 dir="auto" lang="zh">中文新闻</h1>' in text
    assert '<div class="text" dir="auto" lang="zh">这部电影很好看。</div>' in text
    assert 'lang="zh">财经</span>' in text
    Page(text)


def test_a_huge_text_is_cut_and_the_whole_is_in_a_fold():
    huge = "word " * 50_000
    page = Page(passage(huge, pair="short"))
    assert [tag for tag, _ in page.elements][:2] == ["details", "summary"]
    assert "(250,000 characters)" in page.text and page.text.count("word") > 50_000


def test_the_strip_reads_the_last_layer_and_the_weights_are_in_the_page():
    shown = example(["[CLS]", "a", "b", "[SEP]"], layers=2, heads=3)
    text = render(findings(attention=[shown]))
    data = json.loads(next(script for script in Page(text).scripts if script.startswith("{")))
    assert (data["layers"], data["heads"], data["levels"][0]["names"]) == ([0, 1], [0, 1, 2], shown.tokens)
    assert (data["levels"][0]["kept"], data["levels"][0]["shown"]) == (4, 1.0)
    row = shown.weights[-1, :, 0].mean(0)
    strip = re.findall(r'style="--w:([\d.]+)" title="([\d.]+)"', text[text.index('<ol class="strip"') :])
    assert [float(title) for _, title in strip] == pytest.approx(row, abs=5e-4)
    assert [float(shade) for shade, _ in strip] == pytest.approx(row / row.max(), abs=5e-4)


def test_many_long_texts_share_what_a_report_may_spend_and_say_what_is_left_out():
    many = [example(["[CLS]", *"b" * 100, "[SEP]"], layers=12, heads=12) for _ in range(4)]
    text = render(findings(attention=many))
    sources = [json.loads(s)["levels"][0] for s in Page(text).scripts if s.startswith("{")]
    assert len(sources) == 4 and maps.BYTES / 2 < sum(len(s["weights"]) for s in sources) <= maps.BYTES
    assert all(1 < s["kept"] < 102 and 0.2 < s["shown"] < 0.9 for s in sources)


def test_what_to_know_of_an_example_stands_beside_it():
    guard = Guard("length", True, {"dropped": 7, "tokens": 5})
    text = Page(render(findings(attention=[example(["[CLS]", "a", "[SEP]"], guards=(guard,))]))).text
    assert "The text was cut: 7 tokens were not read, 5 were." in text


@pytest.mark.parametrize("make", [findings, multilabel, regress])
def test_ten_thousand_rows_take_less_than_a_second(make):
    found = make(rows=10_000)
    start = time.perf_counter()
    assert len(render(found)) < 1_000_000
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.7, 12), (1e-9, 5e-5), (0.91, 0.913), (0, 123456)])
def test_ticks_are_few_round_and_inside(low, high):
    found = charts.ticks(low, high)
    assert 2 <= len(found) <= 7
    assert low - 1e-9 * (high - low) <= found[0] and found[-1] <= high + 1e-9 * (high - low)
    assert len({charts.label(t) for t in found}) == len(found)


def test_a_thinned_line_keeps_its_spikes_and_a_smooth_one_its_mean():
    y = np.zeros(20_000)
    y[12_345] = 9.0
    text = charts.curves([charts.Line(x=np.arange(20_000.0), y=y)], title="spike")
    top = min(float(b) for b in re.findall(r"[ML][\d.]+ ([\d.]+)", text))
    assert top == pytest.approx(charts.TOP + (charts.HEIGHT - charts.TOP - charts.BOTTOM) * 0.06 / 1.12, abs=0.1)
    assert len(text) < 20_000
    values = np.array([1.0, np.nan, 3.0, 5.0])
    assert charts.smooth(values, window=3) == pytest.approx([1.0, 2.0, 4.0, 4.0])


@pytest.mark.slow
def test_a_browser_shows_the_page_without_complaint(tmp_path, browse):
    tokens = ["[CLS]", HOSTILE, "演员", "[SEP]"]
    write(findings(title=HOSTILE, texts=[HOSTILE] * 200, attention=[example(tokens)]), tmp_path / "report.html")
    shown = browse(tmp_path / "report.html")
    assert "<title>broken" not in shown and "<img" not in shown
    assert shown.count('class="attention live"') == 1
    assert "layer 1, mean of 3 heads: where it looks. Most, " in shown
