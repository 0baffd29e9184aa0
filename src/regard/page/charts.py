"""Charts as inline SVG: numbers in, one string out; the page's style sheet gives the colours and so the theme."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regard.page.markup import escape

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 14, 42
POINTS = 400  # a line keeps at most this many places; more cannot be told apart at this width
DOTS = 4_000  # a scatter keeps at most this many points, evenly taken


@dataclass(frozen=True, slots=True)
class Scale:
    """A straight map from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Where values fall, in pixels."""
        share = (np.asarray(values, dtype=np.float64) - self.low) / (self.high - self.low)
        return np.asarray(self.start + share * (self.end - self.start))

    def at(self, value: float) -> str:
        """Where one value falls, as SVG writes it."""
        return f"{float(self(np.asarray(value))):.1f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve: `style` is the class that the style sheet colours; `low` and `high` make a band around it."""

    x: np.ndarray
    y: np.ndarray
    style: str = "main"
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    dots: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """One series of a scatter: `style` is the colour's class, `mark` one of `MARKS`, `titles` say what each dot is.

    `shades`, from 0 to 1, colour each dot by itself in place of `style`.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    style: str = "main"
    mark: str = "circle"
    titles: Sequence[str] = ()
    shades: Sequence[float] = ()


MARKS = {
    "circle": "a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0z",
    "square": "v-3h6v6h-6z",
    "triangle": "l3.6-6.4 3.6 6.4z",
    "down": "l3.6 6.4 3.6-6.4z",
    "diamond": "l3.8-4.2 3.8 4.2-3.8 4.2z",
    "cross": "m0-3.4l6.8 6.8m0-6.8l-6.8 6.8",
    "plus": "h7.2m-3.6-3.6v7.2",
}
_STARTS = {"circle": (-3.4, 0), "square": (-3, 0), "triangle": (-3.6, 3.0), "down": (-3.6, -3.0)}
_STARTS |= {"diamond": (-3.8, 0), "cross": (-3.4, 0), "plus": (-3.6, 0)}


def ticks(low: float, high: float, *, count: int = 5) -> list[float]:
    """Round numbers inside [low, high], about `count` of them."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def span(*parts: np.ndarray, zero: bool = False, margin: float = 0.06) -> tuple[float, float]:
    """Bounds that hold all finite values with some air; never empty."""
    values = np.concatenate([np.ravel(np.asarray(p, dtype=np.float64)) for p in parts]) if parts else np.zeros(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    air = (high - low) * margin if high > low else abs(high) * 0.1 or 0.5
    return (min(low, 0.0) if zero and low >= 0 else low - air), high + air


def label(value: float) -> str:
    """A tick's number: short, with thousands separated."""
    if value and abs(value) < 1e-3:
        return re.sub(r"e-0*", "e-", f"{value:.2g}")
    return f"{round(value, 6):,.6g}" if abs(value) < 1e4 else f"{value:,.0f}"


def smooth(values: np.ndarray, *, window: int) -> np.ndarray:
    """The mean of what is finite within half a window before and after each place, so that the curve does not lag."""
    good = np.isfinite(values)
    sums, sizes = (np.concatenate([[0.0], np.cumsum(column)]) for column in (np.where(good, values, 0.0), good))
    place = np.arange(len(values))
    first, last = np.maximum(place - window // 2, 0), np.minimum(place + window // 2 + 1, len(values))
    size = sizes[last] - sizes[first]
    mean: np.ndarray = np.divide(sums[last] - sums[first], size, out=np.full(len(values), np.nan), where=size > 0)
    return mean


def interval(value: float, low: float, high: float, *, bounds: tuple[float, float], style: str = "main") -> str:
    """A dot on a whisker, small enough for a table cell; the cell's neighbours say the same in figures."""
    scale = Scale(*bounds, 8, 252)
    rule = '<line class="rule" x1="4" y1="11" x2="256" y2="11"/>'
    ends = [scale.at(v) for v in (low, high) if math.isfinite(v)]
    whisker = ""
    if len(ends) == 2:
        whisker = f'<path class="whisker {style}" d="M{ends[0]} 6v10M{ends[0]} 11H{ends[1]}M{ends[1]} 6v10"/>'
    dot = f'<circle class="dot {style}" cx="{scale.at(value)}" cy="11" r="4.5"/>' if math.isfinite(value) else ""
    return f'<svg class="interval" viewBox="0 0 260 22" aria-hidden="true">{rule}{whisker}{dot}</svg>'


def curves(lines: Sequence[Line], *, title: str, across: str = "step", zero: bool = False) -> str:
    """Curves over one axis, with bands and dots where a line has them."""
    parts = [p for line in lines for p in (line.y, line.low, line.high) if p is not None]
    x = _across(*(line.x for line in lines))
    y = Scale(*span(*parts, zero=zero), HEIGHT - BOTTOM, TOP)
    body = "".join(_band(line, x, y) for line in lines) + "".join(_curve(line, x, y) for line in lines)
    return _figure(_frame(x, y, across=across) + body, title=title)


def reliability(stated: np.ndarray, observed: np.ndarray, counts: np.ndarray, *, title: str) -> str:
    """Observed share against stated confidence, one dot a bin, above bars that say how many texts stand in each."""
    x, y = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, HEIGHT - BOTTOM, TOP)
    edges = np.linspace(0, 1, len(counts) + 1)
    top = max(float(counts.max(initial=0)), 1.0)
    bars = "".join(
        f'<rect class="count" x="{x.at(a + 0.004)}" y="{y.at(0.3 * c / top)}" width="{float(x(b) - x(a)) - 3:.1f}" '
        f'height="{0.3 * c / top * (HEIGHT - TOP - BOTTOM):.1f}">'
        f"<title>{int(c):,} from {label(a)} to {label(b)}</title></rect>"
        for a, b, c in zip(edges, edges[1:], counts, strict=False)
    )
    ideal = f'<line class="ideal" x1="{x.at(0)}" y1="{y.at(0)}" x2="{x.at(1)}" y2="{y.at(1)}"/>'
    full = counts > 0
    line = _curve(Line(x=stated[full], y=observed[full], dots=True), x, y)
    frame = _frame(x, y, across="stated confidence", up="share that is right")
    return _figure(frame + bars + ideal + line, title=title)


def scatter(true: np.ndarray, predicted: np.ndarray, *, title: str) -> str:
    """Predicted against true on equal axes, with the diagonal that a perfect model would follow."""
    good = np.isfinite(true) & np.isfinite(predicted)
    true, predicted = true[good], predicted[good]
    bounds = span(true, predicted)
    x, y = Scale(*bounds, LEFT, WIDTH - RIGHT), Scale(*bounds, HEIGHT - BOTTOM, TOP)
    some = np.linspace(0, len(true) - 1, min(len(true), DOTS)).astype(int)
    dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x(true[some]), y(predicted[some]), strict=True))
    ideal = f'<line class="ideal" x1="{LEFT}" y1="{HEIGHT - BOTTOM}" x2="{WIDTH - RIGHT}" y2="{TOP}"/>'
    cloud = f'<path class="cloud" d="{dots}"/>'
    return _figure(_frame(x, y, across="true", up="predicted") + ideal + cloud, title=title)


def dots(
    series: Sequence[Dots],
    *,
    title: str,
    across: str,
    lines: Sequence[Line] = (),
    bounds: tuple[float, float] | None = None,
    level: tuple[float, str] | None = None,
    exact: Sequence[Dots] = (),
) -> str:
    """Series of dots over whole numbers, such as a dot for each head over its layer, with lines through them.

    Series stand beside each other within a step, so that they hide each other less, but for those that are `exact`;
    `level` is a dashed line with its name.
    """
    steps = np.concatenate([s.x for s in (*series, *exact)])
    x = Scale(float(steps.min()) - 0.5, float(steps.max()) + 0.5, LEFT, WIDTH - RIGHT)
    values = [
        *(s.y for s in (*series, *exact)),
        *(line.y for line in lines),
        *([np.array([level[0]])] if level else []),
    ]
    y = Scale(*(bounds or span(*values, zero=True)), HEIGHT - BOTTOM, TOP)
    step = max(1, math.ceil((x.high - x.low) / 13))
    places = [float(n) for n in range(math.ceil(x.low), math.floor(x.high) + 1, step)]
    body = "".join(_curve(line, x, y) for line in lines)
    for place, one in enumerate(series):
        aside = (place - (len(series) - 1) / 2) * min(0.22, 0.66 / len(series))
        body += _marks(one, x(one.x + aside), y(one.y))
    body += "".join(_marks(one, x(one.x), y(one.y)) for one in exact)
    if level and math.isfinite(level[0]):
        at = y.at(level[0])
        body += f'<line class="ideal" x1="{LEFT}" y1="{at}" x2="{WIDTH - RIGHT}" y2="{at}"/>'
        body += f'<text class="tick" x="{LEFT + 4}" y="{float(at) - 5:.1f}">{escape(level[1])}</text>'
    return _figure(_frame(x, y, across=across, at=places) + body, title=title, legend=_legend([*series, *exact]))


def plane(series: Sequence[Dots], *, title: str) -> str:
    """Dots in a plane whose axes mean nothing and have one unit, such as a map by multidimensional scaling."""
    left, right = span(*(s.x for s in series))
    low, high = span(*(s.y for s in series))
    unit = min((WIDTH - 2 * TOP) / (right - left), (HEIGHT + 60 - 2 * TOP) / (high - low))
    height = unit * (high - low) + 2 * TOP
    x = Scale(left, right, (WIDTH - unit * (right - left)) / 2, (WIDTH + unit * (right - left)) / 2)
    y = Scale(low, high, height - TOP, TOP)
    body = "".join(_marks(one, x(one.x), y(one.y)) for one in series)
    return _figure(body, title=title, legend=_legend(series), height=round(height))


def _marks(one: Dots, x: np.ndarray, y: np.ndarray) -> str:
    left, down = _STARTS[one.mark]
    out = []
    for place, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        if math.isfinite(b):
            said = f"<title>{escape(one.titles[place])}</title>" if one.titles else ""
            shade = f' style="--s:{one.shades[place]:.2f}"' if one.shades else ""
            path = f"M{a + left:.1f} {b + down:.1f}{MARKS[one.mark]}"
            out.append(f'<path class="mark {one.style} {one.mark}"{shade} d="{path}">{said}</path>')
    return "".join(out)


def _legend(series: Sequence[Dots]) -> str:
    items = "".join(
        f'<li><svg viewBox="-6 -6 12 12" aria-hidden="true"><path class="mark {s.style} {s.mark}"'
        f'{" style=--s:.4" if s.shades else ""} d="M{_STARTS[s.mark][0]} {_STARTS[s.mark][1]}{MARKS[s.mark]}"/></svg>'
        f"{escape(s.name)}</li>"
        for s in series
    )
    return f'<ul class="legend">{items}</ul>'


def histogram(values: np.ndarray, *, title: str, across: str, bins: int = 30) -> str:
    """How often values fall where, with a line at zero."""
    values = values[np.isfinite(values)]
    counts, edges = np.histogram(values, bins=bins)
    x = Scale(float(edges[0]), float(edges[-1]), LEFT, WIDTH - RIGHT)
    y = Scale(0, max(float(counts.max(initial=0)), 1.0) * 1.06, HEIGHT - BOTTOM, TOP)
    bars = "".join(
        f'<rect class="bar" x="{float(x(a)) + 0.5:.1f}" y="{y.at(c)}" width="{max(float(x(b) - x(a)) - 1, 0.5):.1f}" '
        f'height="{HEIGHT - BOTTOM - float(y(c)):.1f}"/>'
        for a, b, c in zip(edges, edges[1:], counts, strict=False)
        if c
    )
    inside = edges[0] <= 0 <= edges[-1]
    zero = f'<line class="ideal" x1="{x.at(0)}" y1="{HEIGHT - BOTTOM}" x2="{x.at(0)}" y2="{TOP}"/>' if inside else ""
    return _figure(_frame(x, y, across=across, up="texts") + bars + zero, title=title)


def _across(*parts: np.ndarray) -> Scale:
    low, high = span(*parts, margin=0.0)
    return Scale(low, high, LEFT, WIDTH - RIGHT)


def _figure(body: str, *, title: str, legend: str = "", height: int = HEIGHT) -> str:
    name = escape(title)
    return (
        f'<figure class="chart"><figcaption>{name}</figcaption>{legend}'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{name}">{body}</svg></figure>'
    )


def _frame(x: Scale, y: Scale, *, across: str, up: str = "", at: Sequence[float] | None = None) -> str:
    rows = "".join(
        f'<line class="grid" x1="{LEFT}" y1="{y.at(t)}" x2="{WIDTH - RIGHT}" y2="{y.at(t)}"/>'
        f'<text class="tick" text-anchor="end" x="{LEFT - 8}" y="{float(y(np.asarray(t))) + 4:.1f}">{label(t)}</text>'
        for t in ticks(y.low, y.high, count=5)
    )
    columns = "".join(
        f'<text class="tick" text-anchor="middle" x="{x.at(t)}" y="{HEIGHT - BOTTOM + 17}">{label(t)}</text>'
        for t in (ticks(x.low, x.high, count=5) if at is None else at)
    )
    base = f'<line class="base" x1="{LEFT}" y1="{HEIGHT - BOTTOM}" x2="{WIDTH - RIGHT}" y2="{HEIGHT - BOTTOM}"/>'
    below = f'<text class="axis" text-anchor="end" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}">{escape(across)} →</text>'
    beside = f'<text class="axis" x="{LEFT}" y="{HEIGHT - 6}">↑ {escape(up)}</text>' if up else ""
    return rows + columns + base + below + beside


def _curve(line: Line, x: Scale, y: Scale) -> str:
    across, up = _thin(np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64))
    path = f'<path class="curve {line.style}" d="{_path(x(across), y(up))}"/>'
    if not line.dots:
        return path
    places = zip(x(across), y(up), across, up, strict=True)
    return path + "".join(
        f'<circle class="dot {line.style}" cx="{a:.1f}" cy="{b:.1f}" r="3.5">'
        f"<title>{v:.4g} at {label(s)}</title></circle>"
        for a, b, s, v in places
        if math.isfinite(b)
    )


def _band(line: Line, x: Scale, y: Scale) -> str:
    if line.low is None or line.high is None:
        return ""
    good = np.isfinite(line.low) & np.isfinite(line.high)
    if good.sum() < 2:  # one interval has no width across: it is drawn as a whisker
        return "".join(
            f'<path class="whisker {line.style}" d="M{x.at(a)} {y.at(b)}V{y.at(c)}"/>'
            for a, b, c in zip(line.x[good], line.low[good], line.high[good], strict=True)
        )
    across = np.concatenate([line.x[good], line.x[good][::-1]])
    up = np.concatenate([line.high[good], line.low[good][::-1]])
    return f'<path class="band {line.style}" d="{_path(x(across), y(up))}Z"/>'


def _path(x: np.ndarray, y: np.ndarray) -> str:
    pen, out = "M", []
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if math.isfinite(b):
            out.append(f"{pen}{a:.1f} {b:.1f}")
        pen = "L" if math.isfinite(b) else "M"  # a gap in the numbers is a gap in the line
    return "".join(out)


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest point of every stretch, so that no spike is lost."""
    if len(x) <= POINTS:
        return x, y
    keep = []
    for part in np.array_split(np.arange(len(x)), POINTS // 2):
        good = part[np.isfinite(y[part])]
        keep += sorted({int(good[y[good].argmin()]), int(good[y[good].argmax()])}) if len(good) else [int(part[0])]
    return x[keep], y[keep]
