"""Breeding: new formulas from good ones, by small changes to their trees.

Every function takes and gives expressions. Trees are hash-consed, so a change to a part changes it wherever the formula
repeats it. A change may break a rule of the language: ``FormulaError`` then, and the caller draws again.
"""

from collections.abc import Collection
from random import Random

from factors.expression import Call, Expr, Field, Number, call, distinct, window
from factors.operators import ParameterKind

_LADDER = (2, 3, 5, 10, 20, 40, 60, 120, 180, 250)
_PRICES = ("open", "high", "low", "close")
_SIBLINGS = (
    ("TS_MEAN", "TS_MEDIAN", "DECAYLINEAR"),
    ("TS_ZSCORE", "TS_RANK"),
    ("TS_CORR", "TS_COV"),
    ("TS_SKEW", "TS_KURT"),
    ("RANK", "ZSCORE"),
)
_REDUCIBLE = frozenset(
    {"ADD", "SUBTRACT", "MULTIPLY", "DIVIDE", "LOG", "SQRT", "RANK", "ZSCORE", "TS_MEAN", "TS_ZSCORE", "TS_RANK"}
)
"""Operators that rise with their first argument, so that it can stand for the whole."""


def flipped(expr: Expr) -> Expr:
    """The formula with its sign turned."""
    negative = isinstance(expr, Call) and expr.op.name == "NEGATE"
    return expr.children[0] if negative else call("NEGATE", expr)


def replaced(expr: Expr, old: Expr, new: Expr) -> Expr:
    """``expr`` with every occurrence of the node ``old`` replaced by ``new``."""
    if expr is old:
        return new
    if not isinstance(expr, Call):
        return expr
    return call(expr.op.name, *(replaced(arg, old, new) for arg in expr.args))


def mutated(expr: Expr, fresh: Expr, draw: Random) -> Expr:
    """``expr`` after one small change; a graft takes its new part from ``fresh``."""
    change = draw.choice((_with_window, _with_sibling, _with_price, _wrapped, _grafted))
    return change(expr, fresh, draw)


def crossed(one: Expr, other: Expr, draw: Random) -> Expr:
    """Two formulas joined: the sum or product of their ranks, or a part of the other put into the one."""
    way = draw.choice(("ADD", "MULTIPLY", "graft"))
    return _grafted(one, other, draw) if way == "graft" else call(way, call("RANK", one), call("RANK", other))


def smoothed(expr: Expr, draw: Random) -> Expr:
    """``expr`` averaged over some days, with the newest weighing most or all alike."""
    return call(draw.choice(("TS_MEAN", "DECAYLINEAR")), expr, draw.choice(_LADDER[1:5]))


def uprooted(expr: Expr, known: Collection[Expr], fresh: Expr, draw: Random) -> Expr:
    """``expr`` with the largest part that it shares with the known formulas replaced by a part of ``fresh``."""
    parts = {node for root in known for node in distinct(root)}
    shared = [node for node in _series(expr) if isinstance(node, Call) and node in parts]
    if not shared:
        return _grafted(expr, fresh, draw)
    return replaced(expr, max(shared, key=lambda node: node.size), draw.choice(_series(fresh)))


def simplified(expr: Expr, draw: Random) -> Expr:
    """``expr`` with one operator reduced to its first argument, which keeps the sign; itself where none can be."""
    calls = [node for node in distinct(expr) if isinstance(node, Call) and node.op.name in _REDUCIBLE]
    calls = [node for node in calls if not isinstance(node.args[0], Number)]
    if not calls:
        return expr
    node = draw.choice(calls)
    return replaced(expr, node, node.args[0])


def shortened(expr: Expr) -> Expr:
    """``expr`` with every window one step down the ladder 2, 3, 5, 10, 20, and so on."""
    if not isinstance(expr, Call):
        return expr
    args = [shortened(arg) for arg in expr.args]
    days = window(expr)
    lower = [step for step in _LADDER if step < days]
    if lower:
        args[_window_position(expr)] = Number(lower[-1])
    return call(expr.op.name, *args)


def _with_window(expr: Expr, _fresh: Expr, draw: Random) -> Expr:
    timed = [node for node in distinct(expr) if isinstance(node, Call) and window(node) > 1]
    if not timed:
        return expr
    node = draw.choice(timed)
    nearest = sorted((step for step in _LADDER if step != window(node)), key=lambda step: abs(step - window(node)))
    args = list(node.args)
    args[_window_position(node)] = Number(draw.choice(nearest[:2]))
    return replaced(expr, node, call(node.op.name, *args))


def _window_position(expr: Call) -> int:
    return [parameter.kind for parameter in expr.op.parameters].index(ParameterKind.WINDOW)


def _with_sibling(expr: Expr, _fresh: Expr, draw: Random) -> Expr:
    swaps = [
        (node, name)
        for node in distinct(expr)
        if isinstance(node, Call)
        for family in _SIBLINGS
        if node.op.name in family
        for name in family
        if name != node.op.name
    ]
    if not swaps:
        return expr
    node, name = draw.choice(swaps)
    return replaced(expr, node, call(name, *node.children))


def _with_price(expr: Expr, _fresh: Expr, draw: Random) -> Expr:
    prices = [node for node in distinct(expr) if isinstance(node, Field) and node.name in _PRICES]
    if not prices:
        return expr
    node = draw.choice(prices)
    return replaced(expr, node, Field(draw.choice([name for name in _PRICES if name != node.name])))


def _wrapped(expr: Expr, _fresh: Expr, draw: Random) -> Expr:
    # A cross-sectional rank of the whole changes no rank, so the whole is wrapped in time and only a part across.
    parts = [node for node in _series(expr) if node is not expr]
    if not parts or draw.choice((True, False)):
        return call(draw.choice(("TS_RANK", "TS_MEAN", "DECAYLINEAR")), expr, draw.choice(_LADDER[1:6]))
    part = draw.choice(parts)
    return replaced(expr, part, call(draw.choice(("RANK", "ZSCORE")), part))


def _grafted(expr: Expr, donor: Expr, draw: Random) -> Expr:
    old = draw.choice([node for node in _series(expr) if node is not expr] or [expr])
    return replaced(expr, old, draw.choice(_series(donor)))


def _series(expr: Expr) -> list[Expr]:
    return [node for node in distinct(expr) if not isinstance(node, Number)]
