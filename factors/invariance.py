"""What operators let through: factors that leave them, and what a rank does not see."""

import math

from factors.algebra import antilog, factors_of, ranked_as
from factors.chains import ADD, ONE, Scaled, chain, is_chain, multiplied, parts, split
from factors.expression import Call, Number
from factors.operators import OPERATORS, Operator, ParameterKind
from factors.positivity import is_positive

_ODD, _EVEN, _NEITHER = "odd", "even", "neither"
_HOMOGENEOUS = {
    **dict.fromkeys(("TS_MEAN", "TS_SUM", "TS_MEDIAN", "DELAY", "DELTA", "EMA", "SMA", "DECAYLINEAR"), (1, _ODD)),
    **dict.fromkeys(("MEAN", "MEDIAN", "DEMEAN", "WINSORIZE", "GROUP_MEAN", "GROUP_NEUTRALIZE", "TS_COV"), (1, _ODD)),
    **dict.fromkeys(("SIGN", "ZSCORE", "SCALE", "SKEW", "TS_ZSCORE", "TS_SKEW", "TS_CORR", "GROUP_ZSCORE"), (0, _ODD)),
    **dict.fromkeys(("ABS", "STD", "TS_STD", "TS_MAD"), (1, _EVEN)),
    **dict.fromkeys(("KURT", "TS_KURT", "TS_PCTCHANGE"), (0, _EVEN)),
    **dict.fromkeys(("TS_MAX", "TS_MIN", "TS_QUANTILE"), (1, _NEITHER)),
    "TS_VAR": (2, _EVEN),
}
"""By operator: the power in which a positive factor leaves it, and what becomes of a sign."""
_DUAL = {"MAX": "MIN", "MIN": "MAX", "TS_MAX": "TS_MIN", "TS_MIN": "TS_MAX"}  # a sign leaves them and exchanges them
_TURNED = {"TS_ARGMAX": "TS_ARGMIN", "TS_ARGMIN": "TS_ARGMAX"}  # a sign exchanges them

RANKS_ACROSS = frozenset({"RANK", "GROUP_RANK", "QUANTILE_BUCKET"})
RANKS = RANKS_ACROSS | {"TS_RANK", "TS_ARGMAX", "TS_ARGMIN"}
_UNMOVED = frozenset(
    {"TS_CORR", "TS_COV", "TS_STD", "TS_VAR", "TS_MAD", "TS_SKEW", "TS_KURT", "TS_ZSCORE", "DELTA", "REGBETA"}
    | {"REGRESI", "REGRSQ", "ZSCORE", "STD", "SKEW", "KURT", "DEMEAN", "GROUP_NEUTRALIZE", "GROUP_ZSCORE"}
)  # a constant added to what they look at changes nothing
MOVED = frozenset(
    {"DELAY", "TS_MEAN", "TS_MEDIAN", "TS_MAX", "TS_MIN", "TS_QUANTILE", "EMA", "SMA", "DECAYLINEAR", "MEAN", "MEDIAN"}
    | {"WINSORIZE", "GROUP_MEAN"}
)  # it is added to what they give

_RISING = frozenset({"EXP"})
_RISING_ACROSS = frozenset({"RANK", "ZSCORE", "SCALE", "DEMEAN"})
_RISING_ABOVE_ZERO = frozenset({"LOG", "LOG1P", "SQRT"})
_PRODUCTS = frozenset({"MULTIPLY", "INV", "POW", "SQRT"})


def released(op: Operator, args: list[Scaled]) -> tuple[float, Operator, list[Scaled]]:
    """The factor that leaves an operator, the operator that remains, and its arguments without it."""
    places = [k for k, at in enumerate(op.parameters) if at.kind is ParameterKind.SERIES]
    plain = all(args[k][0] and args[k][1] is not ONE for k in places)
    turned = op.name in _DUAL or op.name in _TURNED
    if plain and turned and all(args[k][0] < 0 for k in places):
        other = OPERATORS[_DUAL.get(op.name) or _TURNED[op.name]]
        factor, same, kept = released(
            other, [(-own if k in places else own, rest) for k, (own, rest) in enumerate(args)]
        )
        return (-factor if op.name in _DUAL else factor), same, kept
    if not plain or op.name not in _HOMOGENEOUS:
        return 1.0, op, args
    degree, parity = _HOMOGENEOUS[op.name]
    factor, kept = 1.0, list(args)
    for k in places:
        own, rest = args[k]
        factor = multiplied(factor, *[abs(own)] * degree, math.copysign(1.0, own) if parity is _ODD else 1.0)
        kept[k] = (math.copysign(1.0, own) if parity is _NEITHER else 1.0), rest
    return factor, op, kept


def unmoved(op: Operator, args: list[Scaled]) -> tuple[list[Scaled], float]:
    """The arguments without constants added to them, and what is to be added to the operator's value instead."""
    if op.name not in _UNMOVED | MOVED:
        return args, 0.0
    kept, moved = list(args), 0.0
    for place, parameter in enumerate(op.parameters):
        factor, rest = args[place]
        while parameter.kind is ParameterKind.SERIES and is_chain(rest, ADD) and isinstance(rest.args[1], Number):
            moved += multiplied(factor, rest.args[1].value) if op.name in MOVED else 0.0
            own, rest = split(rest.args[0])
            factor = multiplied(factor, own)
        kept[place] = factor, rest
    return kept, moved


def unranked(scaled: Scaled, *, across: bool, merged: bool) -> Scaled:
    """What is ranked alike: without the size of a factor, a constant added, and rising functions around it.

    Args:
        scaled: what is ranked.
        across: whether among the names of a date, so that a rank or z-score of the date is a rising function too.
        merged: whether products of positive numbers and sums of logarithms are put together.
    """
    factor, rest = scaled
    while factor and isinstance(rest, Call):
        own, inner = _inside(rest, across=across, merged=merged)
        if inner is rest:
            break
        factor, rest = multiplied(factor, own), inner
    return (1.0, ONE) if rest is ONE or not factor else (math.copysign(1.0, factor), rest)


def _inside(expr: Call, *, across: bool, merged: bool) -> Scaled:
    """What is ranked as the expression is: something simpler, or itself."""
    name, inner = expr.op.name, expr.args[0]
    *terms, last = parts(expr, ADD)
    if terms and isinstance(last, Number):
        return split(chain(ADD, terms))
    if merged:
        powers = antilog(expr) or (factors_of(expr)[1] if name in _PRODUCTS else {})
        if powers and all(map(is_positive, powers)):
            return ranked_as(powers)
    rises = name in _RISING or (across and name in _RISING_ACROSS)
    rises |= name in _RISING_ABOVE_ZERO and is_positive(inner)
    rises |= name == "SIGNEDPOWER" and isinstance(expr.args[1], Number) and expr.args[1].value > 0
    return split(inner) if rises else (1.0, expr)
