"""Arithmetic on canonical forms that asks of no two parts whether they are equal, but of terms of a sum that cancel."""

import math
from collections import Counter

from factors.chains import (
    ADD,
    MULTIPLY,
    ONE,
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
from factors.expression import Call
from factors.operators import OPERATORS

_INV = OPERATORS["INV"]


def added(*given: Scaled) -> Scaled:
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


def multiplied_out(*given: Scaled) -> Scaled:
    """Factors without parentheses, a number before them."""
    factor = multiplied(*(own for own, _ in given))
    if not factor:
        return 0.0, ONE
    factors = [part for _, rest in given if rest is not ONE for part in parts(rest, MULTIPLY)]
    return factor, chain(MULTIPLY, sorted(factors, key=order)) if factors else ONE


def inverted(scaled: Scaled) -> Scaled:
    """The inverse, of a product that of each factor."""
    factor, rest = scaled
    if factor == 0:
        return 1.0, Call(_INV, (written(scaled),))
    if rest is ONE:
        return bounded(1 / factor), ONE
    if is_chain(rest, MULTIPLY):
        return multiplied_out((bounded(1 / factor), ONE), *(inverted(split(part)) for part in parts(rest)))
    if isinstance(rest, Call) and rest.op is _INV:
        return multiplied_out((bounded(1 / factor), ONE), split(rest.args[0]))
    return bounded(1 / factor), Call(_INV, (rest,))


def raised(name: str, base: Scaled, exponent: Scaled) -> Scaled:
    """POW or SIGNEDPOWER: a literal exponent lets a factor through where its own power is a number."""
    op, (factor, rest), (power, literal) = OPERATORS[name], base, exponent
    signed = name == "SIGNEDPOWER"
    if literal is ONE and power == 1:
        return base
    if literal is ONE and rest is not ONE and factor:
        if power == -1 and not signed:
            return inverted(base)
        size = number_power(abs(factor), power)
        if size and (signed or factor > 0 or power.is_integer()):
            return math.copysign(size, factor if signed or power % 2 == 1 else 1.0), Call(op, (rest, written(exponent)))
    return 1.0, Call(op, (written(base), written(exponent)))


def number_power(number: float, power: float) -> float:
    """0 where the power is no number."""
    try:
        return bounded(float(bounded(number) ** power))
    except (OverflowError, ZeroDivisionError):
        return 0.0
