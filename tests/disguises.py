"""Formulas written otherwise: changes that keep every value, and changes of windows alone."""

from collections.abc import Iterator
from contextlib import suppress

from factors.errors import FormulaError
from factors.expression import Call, Expr, Number, call
from factors.operators import ParameterKind

COMMUTATIVE = frozenset({"ADD", "MULTIPLY", "MAX", "MIN", "AND", "OR", "EQ", "NE", "TS_CORR", "TS_COV"})
ASSOCIATIVE = frozenset({"ADD", "MULTIPLY", "MAX", "MIN", "AND", "OR"})
NEUTRAL = (
    lambda x: call("MULTIPLY", x, 1),
    lambda x: call("ADD", 0, x),
    lambda x: call("NEGATE", call("NEGATE", x)),
    lambda x: call("DIVIDE", x, 1),
    lambda x: call("SUBTRACT", x, 0),
    lambda x: call("INV", call("INV", x)),
    lambda x: call("POW", x, 1),
)
REWRITTEN = {
    "SUBTRACT": lambda x, y: ("NEGATE", [call("SUBTRACT", y, x)]),
    "DIVIDE": lambda x, y: ("MULTIPLY", [x, call("INV", y)]),
    "NEGATE": lambda x: ("MULTIPLY", [Number(-1), x]),
    "LT": lambda x, y: ("GT", [y, x]),
    "GT": lambda x, y: ("LT", [y, x]),
    "LE": lambda x, y: ("GE", [y, x]),
    "GE": lambda x, y: ("LE", [y, x]),
    "RANK": lambda x: ("RANK", [call("RANK", call("ADD", call("MULTIPLY", 2, x), 1))]),
}


def disguised(expr: Expr, draw) -> Expr:
    """The formula with about half of its nodes written otherwise."""
    if not isinstance(expr, Call):
        return expr
    args = [
        disguised(arg, draw) if at.kind is ParameterKind.SERIES else arg
        for at, arg in zip(expr.op.parameters, expr.args, strict=True)
    ]
    name = expr.op.name
    if name == "SEQUENCE" or any(str(arg).startswith("SEQUENCE") for arg in args):
        return call(name, *args)
    if draw.random() < 0.5:
        name, args = _otherwise(name, args)
    same = call(name, *args)
    return draw.choice(NEUTRAL)(same) if draw.random() < 0.2 else same


def _otherwise(name: str, args: list[Expr]) -> tuple[str, list[Expr]]:
    first = args[0]
    if name in ASSOCIATIVE and isinstance(first, Call) and first.op.name == name:
        return name, [first.args[0], call(name, first.args[1], args[1])]
    if name in COMMUTATIVE:
        return name, [args[1], first, *args[2:]]
    if name in REWRITTEN:
        return REWRITTEN[name](*args)
    return name, args


def rewindowed(expr: Expr) -> Expr:
    """The formula with each window one row longer."""
    if not isinstance(expr, Call):
        return expr
    args = [
        Number(arg.value + 1) if at.kind is ParameterKind.WINDOW else rewindowed(arg)
        for at, arg in zip(expr.op.parameters, expr.args, strict=True)
    ]
    return call(expr.op.name, *args)


def window_moves(expr: Expr) -> Iterator[Expr]:
    """The formula with one window one row longer or shorter, each in turn."""
    if not isinstance(expr, Call):
        return
    for place, (at, arg) in enumerate(zip(expr.op.parameters, expr.args, strict=True)):
        moved: Iterator[Expr] = window_moves(arg)
        if at.kind is ParameterKind.WINDOW and isinstance(arg, Number):
            moved = (Number(arg.value + step) for step in (1, -1) if arg.value + step >= max(at.low, 2))
        for other in moved:
            with suppress(FormulaError):  # a sequence has its pair's window
                yield call(expr.op.name, *(other if k == place else own for k, own in enumerate(expr.args)))
