"""Bar charts: where the bars of an inline SVG stand, and what they say in words.

Lengths are user units of the SVG, y pointing down.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from factors.evaluation import Evaluation, PeriodMetrics

WIDTH = 360.0
TOP, HEIGHT = 14.0, 120.0  # of the plot
LEFT, RIGHT = 46.0, 4.0  # margins, of which the left holds the scale
BOTTOM = 8.0  # for the text of a negative bar
ROW = 12.0  # of labels or names below
LETTER = 5.0  # width of one in such a row
WIDEST = 36.0  # bar
FILLED = 0.72  # share of its slot that a bar takes
STEPS = (1, 2, 5, 10)  # of the scale, times a power of ten
STEPS_WANTED = 4

Groups = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, slots=True)
class Bar:
    """A value and where it is drawn from the axis; of null, ``text`` is empty and nothing is drawn.

    ``label_shown`` and ``text_shown`` say whether there is room for them.
    """

    label: str
    label_shown: bool
    text: str
    text_shown: bool
    negative: bool
    middle: float
    width: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A text beside the plot: a line of the scale at its y, or a group's name at its x."""

    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Groups of bars on one scale; ``words`` tell every value. Without bars where no value is known."""

    title: str
    words: str
    bars: tuple[Bar, ...] = ()
    scale: tuple[Mark, ...] = ()
    names: tuple[Mark, ...] = ()
    axis: float = TOP + HEIGHT

    width: ClassVar[float] = WIDTH
    left: ClassVar[float] = LEFT
    labels_y: ClassVar[float] = TOP + HEIGHT + BOTTOM + ROW
    names_y: ClassVar[float] = TOP + HEIGHT + BOTTOM + 2 * ROW
    height: ClassVar[float] = TOP + HEIGHT + BOTTOM + 2 * ROW + 4


def evaluation_charts(evaluation: Evaluation) -> tuple[Chart, ...]:
    """The curves among a formula's figures."""
    splits, held = evaluation.splits, evaluation.horizon
    return (
        bar_chart(
            "Rank IC by days held",
            {name: {str(at.horizon): at.rank_ic for at in split.horizons} for name, split in splits.items()},
        ),
        bar_chart(
            "Rank IC by calendar year",
            {name: {str(at.year): at.rank_ic for at in split.years} for name, split in splits.items()},
        ),
        bar_chart(
            f"Mean return by decile of the factor, basis points over {held} day{'s' if held > 1 else ''}",
            {
                name: {str(k): None if mean is None else mean * 1e4 for k, mean in enumerate(split.deciles, 1)}
                for name, split in splits.items()
            },
            ".1f",
        ),
    )


def regime_chart(regimes: Iterable[PeriodMetrics]) -> Chart:
    """Rank ICs by what the market was like."""
    title = "Rank IC by the market's state, train and valid"
    return bar_chart(title, {"": {part.name: part.rank_ic for part in regimes}})


def memory_chart(memory: Iterable[PeriodMetrics]) -> Chart:
    """Rank ICs of what a model may have read of, and of what it may not."""
    return bar_chart("Rank IC around the training cut-off", {"": {part.name: part.rank_ic for part in memory}})


def bar_chart(title: str, groups: Groups, spec: str = ".4f") -> Chart:
    """Bars of labelled values, null where unknown, in named groups beside each other; ``spec`` formats the values."""
    known = [value for values in groups.values() for value in values.values() if value is not None]
    if not known:
        return Chart(title, "No value is known.")
    step, lowest, highest = scale_of(min(0.0, *known), max(0.0, *known))

    def y(value: float) -> float:
        return TOP + HEIGHT * (highest * step - value) / ((highest - lowest) * step)

    labels = [label for values in groups.values() for label in values]
    slot = (WIDTH - LEFT - RIGHT) / (len(labels) + len(groups) - 1)
    text_shown = slot >= LETTER * max(len(format(value, spec)) for value in known)
    every = math.ceil(LETTER * max(map(len, labels)) / slot)
    bars: list[Bar] = []
    names: list[Mark] = []
    left = LEFT
    for name, values in groups.items():
        names.append(Mark(name, left + slot * len(values) / 2))
        for k, (label, value) in enumerate(values.items()):
            drawn = value or 0.0
            bars.append(
                Bar(
                    label=label,
                    label_shown=k % every == 0,
                    text="" if value is None else format(value, spec),
                    text_shown=text_shown,
                    negative=drawn < 0,
                    middle=left + slot * (k + 0.5),
                    width=min(slot * FILLED, WIDEST),
                    y=y(max(drawn, 0.0)),
                    height=abs(y(drawn) - y(0.0)),
                )
            )
        left += slot * (len(values) + 1)
    digits = max(0, -math.floor(math.log10(step)))
    scale = tuple(Mark(f"{k * step:.{digits}f}", y(k * step)) for k in range(lowest, highest + 1))
    return Chart(title, _words(groups, spec), tuple(bars), scale, tuple(names), y(0.0))


def scale_of(low: float, high: float) -> tuple[float, int, int]:
    """A round step, and how many of them reach down to ``low`` and up to ``high``."""
    wanted = (high - low) / STEPS_WANTED or 1.0
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(times * power for times in STEPS if times * power >= wanted)
    return step, math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)


def _words(groups: Groups, spec: str) -> str:
    """``train: 1 0.0123, 2 unknown; valid: ...``."""
    return "; ".join(
        (f"{name}: " if name else "")
        + ", ".join(f"{label} {'unknown' if value is None else format(value, spec)}" for label, value in values.items())
        for name, values in groups.items()
    )
