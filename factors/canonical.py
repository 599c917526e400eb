"""The canonical form of a formula: one tree for the many ways to write the same.

Used to compare formulas, never to compute them. Each rewrite keeps the value wherever both sides are known:

- ``x - y`` is ``x + -1 * y``, ``-x`` is ``-1 * x``, ``x / y`` is ``x * INV(y)``; ``a > b`` is ``b < a``.
- Sums, products, MAX, MIN, AND and OR are chains, their arguments in one order, as are those of TS_CORR, TS_COV, EQ and
  NE. Neutral constants and double negations go, constant factors are multiplied out.
- A factor leaves the operators that are homogeneous: ``TS_MEAN(-2 * x, d)`` is ``-2 * TS_MEAN(x, d)``, ``ABS(-x)`` is
  ``ABS(x)``, ``TS_MAX(-x, d)`` is ``-1 * TS_MIN(x, d)``.
- Under a rank, what does not change it goes: ``RANK(RANK(x))``, ``RANK(2 * x + 1)``, ``RANK(EXP(x))`` are ``RANK(x)``.

Arguments are ordered by their shape without numbers first, and nothing but terms of a sum that cancel asks whether two
sub-expressions are equal. So formulas that differ in their windows alone, and have them in the same order, differ in
these alone in canonical form: their :func:`pattern` is one.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from factors.chains import (
    ADD,
    CHAINS,
    MULTIPLY,
    NEGATIVE,
    ONE,
    WILDCARD,
    Scaled,
    bounded,
    chain,
    is_chain,
    multiplied,
    order,
    orientation,
    parts,
    split,
    term_order,
    written,
)
from factors.expression import Call, Expr, Number
from factors.invariance import RANKS, RANKS_ACROSS, released, unranked
from factors.operators import OPERATORS, Operator

_INV = OPERATORS["INV"]
_SYMMETRIC = frozenset({"TS_CORR", "TS_COV", "EQ", "NE"})
_SWAPPED = {"GT": "LT", "GE": "LE"}
_IDEMPOTENT = frozenset({"ABS", "SIGN", "FLOOR", "ZSCORE", "SCALE", "DEMEAN", "GROUP_NEUTRALIZE", "GROUP_ZSCORE"})


class Canonical(NamedTuple):
    """A formula's canonical form and its ranking.

    Attributes:
        form: the canonical form; its own canonical form is itself.
        ranking: the form without what changes no rank of the values on a date, or turns all of them around. Formulas
            of one ranking are one factor: ``RANK(x)``, ``-x`` and ``ZSCORE(2 * x)`` have that of ``x``.
        origins: for parts of the form, the sub-expression as it was written.
    """

    form: Expr
    ranking: Expr
    origins: dict[Expr, Expr]


def canonicalised(expr: Expr) -> Canonical:
    """The canonical form of a formula and what goes with it."""
    known: dict[Expr, Scaled] = {}
    scaled = _scaled(expr, known)
    origins: dict[Expr, Expr] = {}
    for original, (factor, rest) in known.items():
        origins.setdefault(rest, original)
        if factor != 1:
            origins.setdefault(written((factor, rest)), original)
    return Canonical(written(scaled), unranked(scaled, across=True)[1], origins)


def canonical(expr: Expr) -> Expr:
    """The canonical form alone."""
    return written(_scaled(expr, {}))


def ranking(expr: Expr) -> Expr:
    """The ranking alone."""
    return unranked(_scaled(expr, {}), across=True)[1]


def pattern(form: Expr, known: dict[Expr, Expr] | None = None) -> Expr:
    """A canonical form with a wildcard for every number; ``known`` keeps what was found on the way.

    A sign is no number: a difference is not a sum with another factor.
    """
    known = {} if known is None else known
    if form not in known:
        if isinstance(form, Call):
            known[form] = Call(form.op, tuple(pattern(arg, known) for arg in form.args))
        else:
            negative = isinstance(form, Number) and form.value < 0
            known[form] = NEGATIVE if negative else WILDCARD if isinstance(form, Number) else form
    return known[form]


def _scaled(expr: Expr, known: dict[Expr, Scaled]) -> Scaled:
    if not isinstance(expr, Call):
        return split(expr)
    if expr not in known:
        args = [_scaled(arg, known) for arg in expr.args]
        rewrite = _REWRITES.get(expr.op.name)
        known[expr] = rewrite(*args) if rewrite else _applied(expr.op, args)
    return known[expr]


def _sum(*given: Scaled) -> Scaled:
    """Terms without parentheses, turned to their orientation; a constant comes last."""
    terms: Counter[Scaled] = Counter()
    constant = 0.0
    for factor, rest in given:
        opened = parts(rest, ADD) if abs(factor) == 1 else [rest]
        for own, core in map(split, opened):
            if core is ONE:
                constant = bounded(constant + factor * own)
            elif terms[-factor * own, core]:
                terms[-factor * own, core] -= 1
            elif factor * own:
                terms[factor * own, core] += 1
    left = list(terms.elements())
    if not left:
        return constant, ONE
    if len(left) == 1 and not constant:
        return left[0]
    turn = orientation(left)
    ordered = sorted(((turn * factor, core) for factor, core in left), key=term_order)
    constants = [written((turn * constant, ONE))] if constant else []
    return turn, chain(ADD, [*map(written, ordered), *constants])


def _product(*given: Scaled) -> Scaled:
    factor = multiplied(*(own for own, _ in given))
    if not factor:
        return 0.0, ONE
    factors = [part for _, rest in given if rest is not ONE for part in parts(rest, MULTIPLY)]
    return factor, chain(MULTIPLY, sorted(factors, key=order)) if factors else ONE


def _inverse(scaled: Scaled) -> Scaled:
    factor, rest = scaled
    if factor == 0:
        return 1.0, Call(_INV, (written(scaled),))
    if rest is ONE:
        return bounded(1 / factor), ONE
    if is_chain(rest, MULTIPLY):
        return _product((bounded(1 / factor), ONE), *(_inverse(split(part)) for part in parts(rest)))
    if isinstance(rest, Call) and rest.op is _INV:
        return _product((bounded(1 / factor), ONE), split(rest.args[0]))
    return bounded(1 / factor), Call(_INV, (rest,))


def _power(name: str, base: Scaled, exponent: Scaled) -> Scaled:
    """A power with a literal exponent lets a factor through where its own power is a number."""
    op, (factor, rest), (power, literal) = OPERATORS[name], base, exponent
    signed = name == "SIGNEDPOWER"
    if literal is ONE and power == 1:
        return base
    if literal is ONE and rest is not ONE and factor:
        if power == -1 and not signed:
            return _inverse(base)
        size = _number_power(abs(factor), power)
        if size and (signed or factor > 0 or power.is_integer()):
            return math.copysign(size, factor if signed or power % 2 == 1 else 1.0), Call(op, (rest, written(exponent)))
    return 1.0, Call(op, (written(base), written(exponent)))


def _number_power(number: float, power: float) -> float:
    """0 where the power is no number."""
    try:
        return float(number**power)
    except OverflowError:
        return 0.0


def _applied(op: Operator, args: list[Scaled]) -> Scaled:
    """Any other operator."""
    if op.name in _SWAPPED:
        op, args = OPERATORS[_SWAPPED[op.name]], args[::-1]
    if op.name in RANKS:
        args = [unranked(args[0], across=op.name in RANKS_ACROSS), *args[1:]]
    factor, op, args = released(op, args)
    inner = [written(arg) for arg in args]
    if op.name in _IDEMPOTENT and isinstance(inner[0], Call) and inner[0].op is op:
        return factor, inner[0]
    if op.name in _SYMMETRIC:
        inner[:2] = sorted(inner[:2], key=order)
    if op in CHAINS:
        return factor, chain(op, sorted((part for arg in inner for part in parts(arg, op)), key=order))
    return factor, Call(op, tuple(inner))


def _negative(scaled: Scaled) -> Scaled:
    return -scaled[0], scaled[1]


_REWRITES: dict[str, Callable[..., Scaled]] = {
    "ADD": _sum,
    "SUBTRACT": lambda x, y: _sum(x, _negative(y)),
    "NEGATE": _negative,
    "MULTIPLY": _product,
    "DIVIDE": lambda x, y: _product(x, _inverse(y)),
    "INV": _inverse,
    "POW": lambda x, y: _power("POW", x, y),
    "SIGNEDPOWER": lambda x, y: _power("SIGNEDPOWER", x, y),
}
