"""Conditions in canonical forms: comparisons by the sign of a difference, and what looks at zero or not alone."""

from typing import TypeGuard

from factors.algebra import sum_of
from factors.chains import ADD, ONE, Scaled, chain, order, parts, split, written
from factors.expression import Call, Expr, Number
from factors.operators import OPERATORS, Operator

_ZERO = Number(0)
_OPPOSITE = {"LT": "LE", "LE": "LT", "EQ": "NE", "NE": "EQ"}
_BOOLEAN = frozenset({"LT", "LE", "EQ", "NE", "AND", "OR"})


def compared(name: str, one: Scaled, other: Scaled) -> Scaled:
    """LT, LE, EQ or NE: what is to be added stands on either side, ``a - b < 0`` is ``a < b``."""
    factor, rest = sum_of(other, (-one[0], one[1]))
    sign = 1.0 if factor > 0 else -1.0
    terms = [(sign * own, core) for own, core in map(split, parts(rest, ADD))] if rest is not ONE else [(factor, ONE)]
    right = _side([(own, core) for own, core in terms if own > 0])
    left = _side([(-own, core) for own, core in terms if own < 0])
    if name in {"EQ", "NE"}:
        left, right = sorted((left, right), key=order)
    if name == "NE" and right is _ZERO and is_boolean(left):
        return 1.0, left
    return 1.0, Call(OPERATORS[name], (left, right))


def _side(terms: list[Scaled]) -> Expr:
    return written(sum_of(*terms)) if terms else _ZERO


def negated(scaled: Scaled) -> Scaled:
    """``NOT(a < b)`` is ``b <= a``, and ``NOT(x)`` in general ``x == 0``."""
    test = truth(scaled)
    if isinstance(test, Number):
        return float(not test.value), ONE
    return (1.0, _opposite(test)) if _has_opposite(test) else compared("EQ", (1.0, test), (0.0, ONE))


def _has_opposite(test: Expr) -> TypeGuard[Call]:
    return isinstance(test, Call) and test.op.name in _OPPOSITE


def _opposite(test: Call) -> Expr:
    name = _OPPOSITE[test.op.name]
    one, other = test.args
    if name == "NE" and other is _ZERO:
        return one if is_boolean(one) else Call(OPERATORS[name], test.args)
    return Call(OPERATORS[name], (other, one) if name in {"LT", "LE"} else test.args)


def is_boolean(expr: Expr) -> bool:
    """Whether all its values are 0 or 1."""
    return isinstance(expr, Call) and expr.op.name in _BOOLEAN


def truth(scaled: Scaled) -> Expr:
    """The simplest that is 0 where the expression is."""
    factor, rest = scaled
    if factor and isinstance(rest, Call) and rest.op.name == "NE":
        one, other = map(split, rest.args)
        return sum_of(one, (-other[0], other[1]))[1]
    return rest if factor else _ZERO


def joined(op: Operator, *given: Scaled) -> Scaled:
    """AND or OR of all that nested ones join, in order, each once."""
    found = {truth((1.0, part)): None for scaled in given for part in parts(truth(scaled), op)}
    settled, neutral = Number(op.name == "OR"), Number(op.name == "AND")
    if settled in found:
        return settled.value, ONE
    found.pop(neutral, None)
    if len(found) > 1:
        return 1.0, chain(op, sorted(found, key=order))
    return compared("NE", (1.0, next(iter(found))), (0.0, ONE)) if found else (neutral.value, ONE)


def chosen(condition: Scaled, one: Scaled, other: Scaled) -> Scaled:
    """WHERE: a condition that is a number has chosen, one that is the opposite of another exchanges the branches."""
    test = truth(condition)
    while isinstance(test, Call) and (test.op.name in {"LE", "NE"} or (test.op.name == "EQ" and test.args[1] is _ZERO)):
        test, one, other = truth((1.0, _opposite(test))), other, one
    if isinstance(test, Number):
        return one if test.value else other
    if one == other:
        return one
    return 1.0, Call(OPERATORS["WHERE"], (test, written(one), written(other)))
