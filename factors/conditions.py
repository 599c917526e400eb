"""Conditions in canonical forms: comparisons by the sign of a difference, and what looks at zero or not alone."""

from collections.abc import Callable
from typing import TypeGuard

from factors.chains import ADD, ONE, Scaled, chain, order, parts, split, written
from factors.expression import Call, Expr, Number
from factors.operators import OPERATORS, Operator

_ZERO = Number(0)
_OPPOSITE = {"LT": "LE", "LE": "LT", "EQ": "NE", "NE": "EQ"}
_BOOLEAN = frozenset({"LT", "LE", "EQ", "NE", "AND", "OR"})


class Conditions:
    """Rewrites of conditions, with a sum to subtract by."""

    def __init__(self, sum_of: Callable[..., Scaled]) -> None:
        self._sum_of = sum_of

    def compared(self, name: str, one: Scaled, other: Scaled) -> Scaled:
        """LT, LE, EQ or NE: what is to be added stands on either side, ``a - b < 0`` is ``a < b``."""
        factor, rest = self._sum_of(other, (-one[0], one[1]))
        sign = 1.0 if factor > 0 else -1.0
        difference = (
            [(factor, ONE)] if rest is ONE else [(sign * own, core) for own, core in map(split, parts(rest, ADD))]
        )
        right = self._side([(own, core) for own, core in difference if own > 0])
        left = self._side([(-own, core) for own, core in difference if own < 0])
        if name in {"EQ", "NE"}:
            left, right = sorted((left, right), key=order)
        if name == "NE" and right is _ZERO and _is_boolean(left):
            return 1.0, left
        return 1.0, Call(OPERATORS[name], (left, right))

    def _side(self, terms: list[Scaled]) -> Expr:
        return written(self._sum_of(*terms)) if terms else _ZERO

    def negated(self, scaled: Scaled) -> Scaled:
        """``NOT(a < b)`` is ``b <= a``, and ``NOT(x)`` in general ``x == 0``."""
        test = self._truth(scaled)
        if isinstance(test, Number):
            return float(not test.value), ONE
        return (1.0, _opposite(test)) if _has_opposite(test) else self.compared("EQ", (1.0, test), (0.0, ONE))

    def _truth(self, scaled: Scaled) -> Expr:
        """The simplest that is 0 where the expression is."""
        factor, rest = scaled
        if factor and isinstance(rest, Call) and rest.op.name == "NE":
            one, other = map(split, rest.args)
            factor, rest = self._sum_of(one, (-other[0], other[1]))
        return rest if factor else _ZERO

    def joined(self, op: Operator, *given: Scaled) -> Scaled:
        """AND or OR of all that nested ones join, in order."""
        found = [self._truth((1.0, part)) for scaled in given for part in parts(self._truth(scaled), op)]
        settled, neutral = Number(op.name == "OR"), Number(op.name == "AND")
        if settled in found:
            return settled.value, ONE
        left = [part for part in found if part is not neutral]
        if len(left) > 1:
            return 1.0, chain(op, sorted(left, key=order))
        return self.compared("NE", (1.0, left[0]), (0.0, ONE)) if left else (neutral.value, ONE)

    def chosen(self, condition: Scaled, one: Scaled, other: Scaled) -> Scaled:
        """WHERE: a condition that is a number has chosen; one that is another's opposite exchanges the branches."""
        test = self._truth(condition)
        while isinstance(test, Call) and _turns(test):
            test, one, other = self._truth((1.0, _opposite(test))), other, one
        if isinstance(test, Number):
            return one if test.value else other
        return 1.0, Call(OPERATORS["WHERE"], (test, written(one), written(other)))

    def counted(self, condition: Scaled, window: Scaled) -> Scaled:
        """TS_COUNT, which looks at zero or not alone."""
        return 1.0, Call(OPERATORS["TS_COUNT"], (self._truth(condition), written(window)))


def _turns(test: Call) -> bool:
    return test.op.name in {"LE", "NE"} or (test.op.name == "EQ" and test.args[1] is _ZERO)


def _has_opposite(test: Expr) -> TypeGuard[Call]:
    return isinstance(test, Call) and test.op.name in _OPPOSITE


def _opposite(test: Call) -> Expr:
    name = _OPPOSITE[test.op.name]
    one, other = test.args
    if name == "NE" and other is _ZERO and _is_boolean(one):
        return one
    return Call(OPERATORS[name], (other, one) if name in {"LT", "LE"} else test.args)


def _is_boolean(expr: Expr) -> bool:
    """Whether all its values are 0 or 1."""
    return isinstance(expr, Call) and expr.op.name in _BOOLEAN
