"""What is evaluated: W12, twelve formulas one at a time, and B100, a batch as an evolving search proposes it.

W12 covers the families that published alphas are made of: rolling and cross-sectional ranks, correlations, extremes,
decay, exponential means, moments, order statistics and regressions.
"""

import random
from collections.abc import Collection, Iterator

from factors.errors import FormulaError
from factors.expression import Call, Expr, Field, Number, call, walk
from factors.operators import ParameterKind
from factors.parse import parse

W12 = {
    "w01": "RANK(TS_CORR($close, $volume, 20)) - TS_ZSCORE(DELTA($close, 5) / $close, 60)",
    "w02": "-1 * TS_CORR(RANK(DELTA(LOG($volume), 2)), RANK(($close - $open) / $open), 6)",
    "w03": "-1 * TS_RANK(RANK($low), 9)",
    "w04": "RANK(TS_ARGMAX(WHERE($ret < 0, TS_STD($ret, 20), $close), 5)) - 0.5",
    "w05": "-1 * RANK(TS_COV(RANK($close), RANK($volume), 5))",
    "w06": "SCALE(TS_MEAN($close, 7) - $close) + 20 * SCALE(TS_CORR($vwap, DELAY($close, 5), 230))",
    "w07": "RANK(DECAYLINEAR(DELTA($vwap, 4), 7))"
    " + TS_RANK(DECAYLINEAR(($low - $vwap) / ($open - ($high + $low) / 2), 11), 7)",
    "w08": "(EMA($close, 12) - EMA($close, 26)) / $close",
    "w09": "($close - TS_MIN($low, 14)) / (TS_MAX($high, 14) - TS_MIN($low, 14) + 0.00000001)",
    "w10": "ZSCORE(TS_SKEW($ret, 20)) + ZSCORE(TS_KURT($ret, 60))",
    "w11": "WHERE(TS_MEAN($volume, 20) < $volume,"
    " -1 * TS_RANK(ABS(DELTA($close, 7)), 60) * SIGN(DELTA($close, 7)), -1)",
    "w12": "TS_QUANTILE($close, 20, 0.8) / $close - REGRESI($ret, DELTA(LOG($volume), 1), 30)",
}

SEED = 11
MAX_NODES = 40
MAX_LOOK_BACK = 300
WINDOWS = (3, 5, 7, 10, 14, 20, 30, 60)
WRAPPERS = ("RANK", "ZSCORE", "ABS")
ROLLING = ("TS_MEAN", "TS_STD", "TS_RANK", "TS_ZSCORE", "TS_MIN", "TS_MAX", "DELTA", "DELAY", "DECAYLINEAR")
LEVELS = ("close", "high", "low", "open", "volume", "vwap")  #: fields that may stand for each other
PAIRED = ("TS_CORR", "TS_COV")
INFIX = ("ADD", "SUBTRACT", "MULTIPLY")


def workload(fields: Collection[str]) -> dict[str, Expr]:
    """W12 as expressions, by name.

    Args:
        fields: columns of the market.
    """
    return {name: parse(text, fields) for name, text in W12.items()}


def batch(fields: Collection[str], number: int = 100, seed: int = SEED) -> dict[str, Expr]:
    """A seeded batch of distinct candidates, each a mutation of W12 or of a candidate before it.

    Mutations change a window or a field, wrap a part in an operator, put a part of another formula in its place, or
    join two formulas, so that candidates share sub-expressions as those of an evolving search do.
    """
    chance = random.Random(seed)  # noqa: S311 - a workload is no secret
    pool = list(workload(fields).values())
    known = set(pool)
    while len(known) < len(W12) + number:
        parent, other = chance.sample(pool, 2)
        try:
            child = _mutate(parent, other, chance)
        except FormulaError:
            continue
        if child not in known and _is_sound(child):
            known.add(child)
            pool.append(child)
    return {f"b{position:03}": expr for position, expr in enumerate(pool[len(W12) :])}


def _is_sound(expr: Expr) -> bool:
    """It is of bounded size, and nothing in it is subtracted from, divided by or correlated with itself."""
    pairs = [node.args[:2] for node in _calls(expr) if len(node.args) > 1]
    return expr.size <= MAX_NODES and expr.look_back <= MAX_LOOK_BACK and all(x is not y for x, y in pairs)


def _mutate(parent: Expr, other: Expr, chance: random.Random) -> Expr:
    parts = _calls(parent)
    part = chance.choice(parts)
    kind = chance.choice(("window", "field", "join", "pair", "wrap", "roll", "graft"))
    if kind == "window":
        windowed = [node for node in parts if _windows(node)]
        return _rewindowed(parent, chance.choice(windowed or parts), chance.choice(WINDOWS))
    if kind == "join":
        return call(chance.choice(INFIX), call("RANK", parent), call("RANK", other))
    if kind == "pair":
        return call(chance.choice(PAIRED), part, chance.choice(_calls(other)), chance.choice(WINDOWS[1:]))
    if kind == "field":
        leaf = chance.choice([node for node in walk(parent) if isinstance(node, Field)])
        return replaced(parent, leaf, Field(chance.choice(LEVELS))) if leaf.name in LEVELS else parent
    new: Expr = chance.choice(_calls(other))
    if kind == "wrap":
        new = call(chance.choice(WRAPPERS), part)
    elif kind == "roll":
        new = call(chance.choice(ROLLING), part, chance.choice(WINDOWS))
    return replaced(parent, part, new)


def _calls(expr: Expr) -> list[Call]:
    return [node for node in _series(expr) if isinstance(node, Call)]


def _series(expr: Expr) -> Iterator[Expr]:
    """The parts of a formula that are series of numbers, itself included."""
    yield expr
    if isinstance(expr, Call):
        for parameter, arg in zip(expr.op.parameters, expr.args, strict=True):
            if parameter.kind is ParameterKind.SERIES:
                yield from _series(arg)


def _windows(expr: Call) -> list[int]:
    """Positions of the arguments that are windows."""
    return [position for position, at in enumerate(expr.op.parameters) if at.kind is ParameterKind.WINDOW]


def _rewindowed(parent: Expr, part: Call, window: int) -> Expr:
    args = [Number(window) if position in _windows(part) else arg for position, arg in enumerate(part.args)]
    return replaced(parent, part, call(part.op.name, *args))


def replaced(expr: Expr, part: Expr, new: Expr) -> Expr:
    """The formula with every occurrence of a part exchanged."""
    if expr is part:
        return new
    if not isinstance(expr, Call):
        return expr
    return call(expr.op.name, *(replaced(arg, part, new) for arg in expr.args))
