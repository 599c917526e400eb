"""A market over time: how many instruments have bars, and below it what breaks each rule when.

Lengths are user units of the SVG, y pointing down.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import ClassVar

from app.pages.charts import Mark, scale_of
from storage.coverage import Month
from storage.quality import Finding, Severity
from storage.reports import RuleSummary

WIDTH = 760.0
LEFT, RIGHT = 84.0, 62.0  # margins: of names and the scale, and of counts
TOP, HEIGHT = 16.0, 110.0  # of the plot of instruments
ROW, TALLEST, LOWEST = 26.0, 20.0, 2.0  # a rule's row, and its bars
GAP = 14.0  # between the plot and the first row
BOTTOM = 18.0  # for the years
YEAR = 26.0  # that the text of a year takes
NEAR = 0.1  # what is no nearer is apart
MOST = 120  # bars of a row
SPANS = ((1, "month"), (3, "quarter"), (12, "year"), (120, "decade"))


@dataclass(frozen=True, slots=True)
class Spike:
    """How many findings there are of a span of time, and where that is drawn."""

    words: str
    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Row:
    """A rule's findings over time; ``count`` says how many in all, or why none."""

    rule: str
    severity: Severity
    count: str
    y: float
    spikes: tuple[Spike, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The drawing; ``there`` and ``halted`` are outlines of areas as points, ``splits`` where a split begins.

    ``halts`` says whether any instrument is ever suspended.
    """

    words: str
    there: str
    halted: str
    halts: bool
    scale: tuple[Mark, ...]
    years: tuple[Mark, ...]
    splits: tuple[Mark, ...]
    rows: tuple[Row, ...]
    thickness: float
    span: str

    width: ClassVar[float] = WIDTH
    left: ClassVar[float] = LEFT
    right: ClassVar[float] = WIDTH - RIGHT
    top: ClassVar[float] = TOP
    axis: ClassVar[float] = TOP + HEIGHT

    @property
    def bottom(self) -> float:
        """Where the rows end."""
        return TOP + HEIGHT + GAP + ROW * len(self.rows)

    @property
    def height(self) -> float:
        """Of all."""
        return self.bottom + BOTTOM


def timeline(
    months: Sequence[Month], train_end: date, rules: Iterable[RuleSummary], findings: Iterable[Finding]
) -> Timeline:
    """Draw the months of a version, of which there is at least one, and the findings that each rule has in them."""
    first, last = _number(months[0].first), _number(months[-1].first) + 1
    across = (WIDTH - LEFT - RIGHT) / (last - first)
    size, span = next(((size, span) for size, span in SPANS if (last - first) / size <= MOST), SPANS[-1])
    step, _, highest = scale_of(0.0, max(month.instruments for month in months))

    def x(day: date) -> float:
        return LEFT + across * (_number(day) + (day.day - 1) / 31 - first)

    def y(count: float) -> float:
        return TOP + HEIGHT * (1 - count / (highest * step))

    counted: dict[str, Counter[int]] = {}
    for one in findings:
        counted.setdefault(one.rule, Counter())[(_number(one.date) - first) // size] += 1
    rows = []
    for k, rule in enumerate(rules):
        y_row = TOP + HEIGHT + GAP + ROW * (k + 1)
        count = "not told" if rule.findings is None else f"{rule.findings:,}" if rule.findings else "none"
        spikes = _spikes(counted.get(rule.rule, Counter()), first, size, across, y_row)
        rows.append(Row(rule.rule, rule.severity, count, y_row, spikes))
    few = max(1, round(YEAR / (12 * across) + 0.5))
    years = range(months[0].first.year + 1, months[-1].first.year + 1)
    most, least = (pick(months, key=lambda month: month.instruments) for pick in (max, min))
    return Timeline(
        words=f"Instruments with a bar, a day: {least.instruments:,.0f} in {least.first:%Y-%m}, the fewest, to "
        f"{most.instruments:,.0f} in {most.first:%Y-%m}, the most. Findings: "
        + ", ".join(f"{row.rule} {row.count}" for row in rows),
        there=_area([(x(month.first), x(month.first) + across, y(month.instruments)) for month in months]),
        halted=_area([(x(month.first), x(month.first) + across, y(month.suspended)) for month in months]),
        halts=any(month.suspended for month in months),
        scale=tuple(
            Mark(f"{k * step:,.0f}" if step >= 1 else f"{k * step:g}", y(k * step)) for k in range(highest + 1)
        ),
        years=tuple(Mark(str(year), x(date(year, 1, 1))) for year in years if year % few == 0),
        splits=(Mark("train", LEFT), Mark("valid", x(train_end))),
        rows=tuple(rows),
        thickness=max(across * size - 1, 1.0),
        span=span,
    )


def _number(day: date) -> int:
    """Of its month, counted on from any."""
    return day.year * 12 + day.month - 1


def _area(steps: Sequence[tuple[float, float, float]]) -> str:
    """The outline above the axis of values that each hold from an x to another; months without any are at nought."""
    points: list[tuple[float, float]] = []
    axis, before = TOP + HEIGHT, None
    for start, end, y in steps:
        if before is None or start > before + NEAR:
            points += [] if before is None else [(before, axis)]
            points.append((start, axis))
        points += [(start, y), (end, y)]
        before = end
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in [*points, (points[-1][0], axis)])


def _spikes(counts: Counter[int], first: int, size: int, across: float, y: float) -> tuple[Spike, ...]:
    found = []
    for place, count in sorted(counts.items()):
        number = first + place * size
        tall = max(LOWEST, TALLEST * count / max(counts.values()))
        words = f"{number // 12}-{number % 12 + 1:02}: {count:,}"
        found.append(Spike(words, LEFT + across * place * size, y - tall, tall))
    return tuple(found)
