"""The canonical form of a formula: one tree for the many ways to write the same.

Used to compare formulas, never to compute them. Each rewrite keeps the value, rounding and overflow aside:

- ``x - y`` is ``x + -1 * y``, ``-x`` is ``-1 * x``, ``x / y`` is ``x * INV(y)``; ``a > b`` and ``a - b > 0`` are
  ``b < a``, ``NOT(x)`` is ``x == 0``.
- Sums, products, MAX, MIN, AND and OR are chains, their arguments in one order, as are those of TS_CORR, TS_COV, EQ and
  NE. Neutral constants and double negations go, constant factors are multiplied out.
- A factor leaves the operators that are homogeneous: ``TS_MEAN(-2 * x, d)`` is ``-2 * TS_MEAN(x, d)``, ``ABS(-x)`` is
  ``ABS(x)``, ``TS_MAX(-x, d)`` is ``-1 * TS_MIN(x, d)``. So does an added constant: ``TS_STD(x + 1, d)`` is
  ``TS_STD(x, d)``, ``TS_MEAN(x + 1, d)`` is ``TS_MEAN(x, d) + 1``.
- Under a rank, what does not change it goes: ``RANK(RANK(x))``, ``RANK(2 * x + 1)``, ``RANK(EXP(x))`` are ``RANK(x)``;
  so is ``RANK(LOG(x))`` where x is never negative, though a zero has no logarithm.

Arguments are ordered by their shape without numbers first, and nothing but terms of a sum that cancel asks whether two
sub-expressions are equal. So formulas that differ in their windows alone, and have them in the same order, differ in
these alone in canonical form: their :func:`pattern` is one. What does ask it, as ``f + f`` being ``2 * f`` does, is
left to the :func:`ranking`, see :mod:`factors.algebra`.

Where a term cancels, or a factor that is never negative, so do its nulls: ``x + y - y`` is null in the first rows of y
and where y is missing, and ``x * INV(INV(y))`` where y is 0.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

from factors.algebra import exp_of, extreme_of, log_of, power_of, product_of, signed_power_of, sum_of
from factors.arithmetic import added, inverted, multiplied_out, raised
from factors.chains import (
    ADD,
    CHAINS,
    MULTIPLY,
    NEGATIVE,
    ONE,
    WILDCARD,
    Scaled,
    chain,
    is_chain,
    order,
    parts,
    rounded,
    split,
    written,
)
from factors.conditions import Conditions
from factors.expression import Call, Expr, Number, distinct
from factors.invariance import MOVED, RANKS, RANKS_ACROSS, released, unmoved, unranked
from factors.operators import OPERATORS, Operator

_CHANGES = frozenset(
    {"DELTA", "TS_PCTCHANGE", "TS_ZSCORE", "DEMEAN", "ZSCORE", "GROUP_NEUTRALIZE", "GROUP_ZSCORE"}
)  # of a number they are 0
_SYMMETRIC = frozenset({"TS_CORR", "TS_COV"})
_IDEMPOTENT = frozenset({"ABS", "SIGN", "FLOOR", "ZSCORE", "SCALE", "DEMEAN", "GROUP_NEUTRALIZE", "GROUP_ZSCORE"})
_ALIKE = {OPERATORS["TS_SUM"]: OPERATORS["TS_MEAN"], OPERATORS["LOG1P"]: OPERATORS["LOG"]}

Rewrites = Mapping[str, Callable[..., Scaled]]


class Canonical(NamedTuple):
    """A formula's canonical form and its ranking.

    Attributes:
        form: the canonical form; its own canonical form is itself.
        ranking: what is left where all goes that changes no rank of the values on a date, or turns all of them
            around. Formulas of one ranking are one factor: ``RANK(x)``, ``-x`` and ``ZSCORE(2 * x)`` have that of
            ``x``. Those of two may be one all the same.
        origins: for parts of the form, the sub-expression as it was written.
    """

    form: Expr
    ranking: Expr
    origins: dict[Expr, Expr]


def canonicalised(expr: Expr) -> Canonical:
    """The canonical form of a formula and what goes with it."""
    scaled = _FORM.scaled(expr)
    origins: dict[Expr, Expr] = {}
    found = [(_FORM.scaled(node), node) for node in reversed(distinct(expr)) if isinstance(node, Call)]
    for (factor, rest), original in sorted(found, key=lambda one: abs(one[0][0]) != 1):
        origins.setdefault(written((factor, rest)), original)
        if isinstance(rest, Call):
            origins.setdefault(rest, original)
    return Canonical(written(scaled), ranking(expr), origins)


def canonical(expr: Expr) -> Expr:
    """The canonical form alone."""
    return written(_FORM.scaled(expr))


def ranking(expr: Expr) -> Expr:
    """The ranking alone."""
    return rounded(unranked(_RANKING.scaled(expr), across=True, merged=True)[1])


_PATTERNS: WeakKeyDictionary[Expr, Expr | None] = WeakKeyDictionary()  # nothing for what is its own


def pattern(form: Expr) -> Expr:
    """A canonical form in which all numbers are alike.

    Numbers are wildcards by their sign: a difference is not a sum with another factor. As a factor may be 1 and an
    added constant 0, a pattern has neither; a sum over a window is a multiple of its mean, LOG1P a LOG of a sum.
    """
    if isinstance(form, Number):
        return NEGATIVE if form.value < 0 else WILDCARD
    if not isinstance(form, Call):
        return form
    if form in _PATTERNS:
        return _PATTERNS[form] or form
    found = _pattern(form)
    _PATTERNS[form] = None if found is form else found
    return found


def _pattern(form: Call) -> Expr:
    factor, rest = split(form)
    if rest is not form:
        return pattern(rest) if factor > 0 else Call(MULTIPLY, (NEGATIVE, pattern(rest)))
    if is_chain(form):
        held = [part for part in parts(form) if form.op is not ADD or not isinstance(part, Number)]
        return chain(form.op, sorted(map(pattern, held), key=order))
    return Call(_ALIKE.get(form.op, form.op), tuple(map(pattern, form.args)))


class _Rewriting:
    """One set of rewrites, and what it has made of expressions that are still there.

    Args:
        rewrites: by operator.
        sum_of: how a constant is added.
        merged: whether rewrites may ask if parts are equal.
    """

    def __init__(self, rewrites: Rewrites, sum_of: Callable[..., Scaled], *, merged: bool) -> None:
        conditions = Conditions(sum_of)
        compared = conditions.compared
        self._rewrites: Rewrites = {
            **rewrites,
            "LT": partial(compared, "LT"),
            "GT": lambda x, y: compared("LT", y, x),
            "LE": partial(compared, "LE"),
            "GE": lambda x, y: compared("LE", y, x),
            "EQ": partial(compared, "EQ"),
            "NE": partial(compared, "NE"),
            "NOT": conditions.negated,
            "WHERE": conditions.chosen,
            "TS_COUNT": conditions.counted,
            **{name: partial(conditions.joined, OPERATORS[name]) for name in ("AND", "OR")},
        }
        self._sum_of, self._merged = sum_of, merged
        self._known: WeakKeyDictionary[Expr, Scaled | None] = WeakKeyDictionary()  # nothing for what stays as it is

    def scaled(self, expr: Expr) -> Scaled:
        """What an expression is rewritten to."""
        if not isinstance(expr, Call):
            return split(expr)
        if expr in self._known:
            return self._known[expr] or (1.0, expr)
        args = [self.scaled(arg) for arg in expr.args]
        rewrite = self._rewrites.get(expr.op.name)
        scaled = rewrite(*args) if rewrite else self._applied(expr.op, args)
        self._known[expr] = None if scaled == (1.0, expr) else scaled
        return scaled

    def _applied(self, op: Operator, args: list[Scaled]) -> Scaled:
        """Any other operator."""
        if args[0][1] is ONE and op.name in MOVED | _CHANGES:
            return (0.0, ONE) if op.name in _CHANGES else args[0]
        if op.name in RANKS:
            args = [unranked(args[0], across=op.name in RANKS_ACROSS, merged=self._merged), *args[1:]]
        args, moved = unmoved(op, args)
        factor, op, args = released(op, args)
        inner = [written(arg) for arg in args]
        if op.name in _IDEMPOTENT and isinstance(inner[0], Call) and inner[0].op is op:
            return factor, inner[0]
        if op.name in _SYMMETRIC:
            inner[:2] = sorted(inner[:2], key=order)
        if op in CHAINS:
            return factor, chain(op, sorted((part for arg in inner for part in parts(arg, op)), key=order))
        applied = Call(op, tuple(inner))
        return self._sum_of((factor, applied), (moved, ONE)) if moved else (factor, applied)


def _negative(scaled: Scaled) -> Scaled:
    return -scaled[0], scaled[1]


_FORM = _Rewriting(
    {
        "ADD": added,
        "SUBTRACT": lambda x, y: added(x, _negative(y)),
        "NEGATE": _negative,
        "MULTIPLY": multiplied_out,
        "DIVIDE": lambda x, y: multiplied_out(x, inverted(y)),
        "INV": inverted,
        "POW": partial(raised, "POW"),
        "SIGNEDPOWER": partial(raised, "SIGNEDPOWER"),
    },
    added,
    merged=False,
)
_RANKING = _Rewriting(
    {
        "ADD": sum_of,
        "SUBTRACT": lambda x, y: sum_of(x, _negative(y)),
        "NEGATE": _negative,
        "MULTIPLY": product_of,
        "DIVIDE": lambda x, y: product_of(x, power_of(y, (-1.0, ONE))),
        "INV": lambda x: power_of(x, (-1.0, ONE)),
        "SQRT": lambda x: power_of(x, (0.5, ONE)),
        "POW": power_of,
        "SIGNEDPOWER": signed_power_of,
        "LOG": log_of,
        "LOG1P": lambda x: log_of(sum_of(x, (1.0, ONE))),
        "EXP": exp_of,
        **{name: partial(extreme_of, OPERATORS[name]) for name in ("MAX", "MIN")},
    },
    sum_of,
    merged=True,
)
