"""Concepts: the plain words that hypotheses, descriptions and formulas are compared by.

This is a word overlap, the best that can be had without a language model; it sees what a text names, not what it says.
"""

import re
from collections.abc import Iterable

from factors.expression import Call, Expr, Field, distinct, fields, window

STEMS: dict[str, tuple[str, ...]] = {
    "volume": ("volume", "turnover"),
    "liquidity": ("liquid", "illiquid", "impact"),
    "volatility": ("volatil", "uncertain", "turbul"),
    "range": ("range", "swing"),
    "gap": ("gap", "overnight", "opening"),
    "intraday": ("intraday", "session"),
    "trend": ("trend", "momentum", "drift", "persist", "continu"),
    "reversal": ("revers", "revert", "rebound", "overshoot", "overreact", "bounce"),
    "move": ("move", "gain", "loss", "return"),
    "comovement": ("comove", "correl", "diverg", "autocorrel"),
    "asymmetry": ("skew", "asymmetr", "lotter", "tail", "kurto"),
    "extreme": ("extreme", "peak", "trough", "drawdown", "highest", "lowest", "maxim", "minim"),
    "surprise": ("surpris", "abnormal", "unusual", "shock", "burst"),
    "average": ("average", "smooth"),
}
"""Concepts, and how the words that name them begin."""

_MOVES = ("move", "trend", "reversal")
_RELATION = ("comovement",)
_EDGE = ("extreme", "range", "asymmetry")
_STANDING = ("surprise", "reversal", "trend", "extreme")
_EVIDENCE: dict[str, tuple[str, ...]] = {
    "$volume": ("volume", "liquidity"),
    "$high": ("range", "extreme", "intraday", "volatility"),
    "$low": ("range", "extreme", "intraday", "volatility"),
    "$open": ("gap", "intraday"),
    "$return": _MOVES,
    "DELAY": (*_MOVES, "gap"),
    "DELTA": _MOVES,
    "TS_PCTCHANGE": _MOVES,
    "ABS": ("volatility", "move"),
    "TS_STD": ("volatility",),
    "TS_VAR": ("volatility",),
    "TS_SKEW": ("asymmetry",),
    "TS_KURT": ("asymmetry",),
    "TS_CORR": _RELATION,
    "TS_COV": _RELATION,
    "TS_MAX": _EDGE,
    "TS_MIN": _EDGE,
    "TS_ARGMAX": _EDGE,
    "TS_ARGMIN": _EDGE,
    "TS_ZSCORE": _STANDING,
    "TS_RANK": _STANDING,
}


def named(text: str) -> set[str]:
    """Concepts that a text names."""
    words = re.findall(r"[a-z]+", text.lower())
    return {
        concept for concept, stems in STEMS.items() if any(word.startswith(stem) for word in words for stem in stems)
    }


def implied(expr: Expr) -> list[tuple[str, ...]]:
    """For each telling field and operator of a formula, the concepts that it can stand for.

    Averages, ranks and the close are in nearly every formula and tell nothing; a formula of nothing else is a move.
    """
    signs = [f"${node.name}" if isinstance(node, Field) else node.op.name for node in _signs(expr)]
    return list(dict.fromkeys(_EVIDENCE[sign] for sign in signs if sign in _EVIDENCE)) or [(*_MOVES, "average")]


def _signs(expr: Expr) -> Iterable[Field | Call]:
    return (node for node in distinct(expr) if isinstance(node, Field | Call))


def overlap(text: str, concepts: Iterable[str]) -> float:
    """Share of the concepts that a text names which are among ``concepts``; 0 where it names none."""
    names = named(text)
    return len(names & set(concepts)) / len(names) if names else 0.0


def fidelity(text: str, expr: Expr) -> float:
    """How well a text and a formula cover each other, in [0, 1].

    The harmonic mean of the share of the text's concepts that the formula bears out and the share of the formula's
    telling parts that the text names.
    """
    parts = implied(expr)
    names = named(text)
    precise = overlap(text, {concept for part in parts for concept in part})
    complete = sum(bool(names.intersection(part)) for part in parts) / len(parts)
    return 2 * precise * complete / (precise + complete) if precise and complete else 0.0


def describe(expr: Expr, reading: Iterable[str] = ()) -> str:
    """A sentence on what a formula reads and measures.

    Args:
        expr: the formula.
        reading: concepts to prefer where a part can stand for several.
    """
    preferred = tuple(reading)
    measured = dict.fromkeys(
        next((concept for concept in preferred if concept in part), part[0]) for part in implied(expr)
    )
    days = windows(expr)
    span = f" over {_listed(map(str, days))} days" if days else " of the day"
    columns = _listed(sorted(fields(expr)))
    return f"Measures {_listed(measured)} from the columns {columns}{span}."


def windows(expr: Expr) -> list[int]:
    """The distinct windows of a formula above one day, in days, ascending."""
    spans = {window(node) for node in distinct(expr) if isinstance(node, Call)}
    return sorted(span for span in spans if span > 1)


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
