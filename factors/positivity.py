"""What is sure to have no value below zero, on a market whose prices and volumes have none."""

from factors.chains import ADD, ONE, parts
from factors.expression import Call, Expr, Field, Number
from factors.plan import series

_POSITIVE_FIELDS = frozenset({"open", "high", "low", "close", "vwap", "volume", "amount", "cap"})
_POSITIVE = frozenset({"ABS", "EXP", "RANK", "TS_RANK", "TS_STD", "TS_VAR", "TS_MAD", "STD"})
_KEEPS_POSITIVE = frozenset(
    {"ADD", "MULTIPLY", "INV", "MAX", "MIN", "SQRT", "POW", "TS_MEAN", "TS_SUM", "TS_MEDIAN", "TS_MIN", "TS_MAX"}
    | {"TS_PROD", "DELAY", "EMA", "SMA", "DECAYLINEAR", "MEAN", "MEDIAN", "GROUP_MEAN"}
)


def is_positive(expr: Expr) -> bool:
    """Whether all values are sure to be above zero, or at it."""
    if isinstance(expr, Number):
        return expr.value > 0
    if not isinstance(expr, Call):
        return isinstance(expr, Field) and expr.name in _POSITIVE_FIELDS
    if expr.op.name in _POSITIVE:
        return True
    *terms, last = parts(expr, ADD)
    if len(terms) == 1 and last is ONE and isinstance(terms[0], Call) and terms[0].op.name == "TS_PCTCHANGE":
        return is_positive(terms[0].args[0])
    inner = expr.args[:1] if expr.op.name == "POW" else series(expr)
    return expr.op.name in _KEEPS_POSITIVE and all(map(is_positive, inner))
