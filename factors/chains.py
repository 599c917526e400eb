"""What canonical forms are made of: a constant factor before its rest, and chains without parentheses.

``a + b + c`` is the chain of its terms, left to right in one order. A product's constant factor stands before the chain
of the others, ``2 * (a * b)``, so that what it multiplies is a part of its own.
"""

import hashlib
import math
from typing import TypeAlias, TypeGuard
from weakref import WeakKeyDictionary

from factors.expression import Call, Expr, Field, Number, distinct
from factors.operators import OPERATORS, Operator

ONE = Number(1)
WILDCARD, NEGATIVE = Field("?"), Field("-?")  #: any number in a pattern, by its sign; no market has such columns
WILDCARDS = frozenset({WILDCARD, NEGATIVE})
ADD, MULTIPLY = OPERATORS["ADD"], OPERATORS["MULTIPLY"]
CHAINS = frozenset({ADD, MULTIPLY, *map(OPERATORS.__getitem__, ("MAX", "MIN", "AND", "OR"))})

Numbers: TypeAlias = tuple[float, ...]
Scaled: TypeAlias = tuple[float, Expr]  #: a factor and what it multiplies, which has none; a number multiplies ``ONE``

_LEAST, _LARGEST = 2.22507385851e-308, 4.49423283715e307  # of twelve digits, each the inverse of the other
_LAST = "~"  # after all names of operators and fields


def bounded(factor: float) -> float:
    """The nearest number that is in a float's normal range, and its inverse too; 0 stays 0."""
    if _LEAST <= factor <= _LARGEST or _LEAST <= -factor <= _LARGEST or factor == 0:
        return factor
    return math.copysign(_LEAST if abs(factor) < 1 else _LARGEST, factor)


def multiplied(*factors: float) -> float:
    """The product, which is 0 only where a factor is."""
    product = 1.0
    for factor in factors:
        product = bounded(product * factor or (math.copysign(_LEAST, product) * math.copysign(1.0, factor)))
    return product if all(factors) else 0.0


def written(scaled: Scaled) -> Expr:
    """A factor and its rest as one expression; the factor to twelve digits, as it may be a product in any order."""
    factor, rest = scaled
    if factor == 1 and rest is not ONE:
        return rest
    number = Number(float(f"{bounded(factor):.12g}"))
    if rest is ONE:
        return number
    return rest if number is ONE else Call(MULTIPLY, (number, rest))


def rounded(expr: Expr) -> Expr:
    """An expression with its numbers to nine digits, which is less than orders of adding and multiplying differ in."""
    if all(number.is_integer() or _shortened(number) == number for number in _known(expr)[1]):
        return expr
    known: dict[Expr, Expr] = {}
    for node in distinct(expr):
        if isinstance(node, Call):
            known[node] = Call(node.op, tuple(known[arg] for arg in node.args))
        else:
            known[node] = Number(_shortened(node.value)) if isinstance(node, Number) else node
    return known[expr]


def _shortened(number: float) -> float:
    return float(f"{number:.9g}")


def split(expr: Expr) -> Scaled:
    """What :func:`written` wrote."""
    if isinstance(expr, Number):
        return bounded(expr.value), ONE
    if isinstance(expr, Call) and expr.op is MULTIPLY and isinstance(expr.args[0], Number):
        return bounded(expr.args[0].value), expr.args[1]
    return 1.0, expr


def chain(op: Operator, parts: list[Expr]) -> Expr:
    """The chain of at least one part."""
    chained = parts[0]
    for part in parts[1:]:
        chained = Call(op, (chained, part))
    return chained


def is_chain(expr: Expr, op: Operator | None = None) -> TypeGuard[Call]:
    """Whether it is a chain, of this operator where one is given; a factor and its rest are none."""
    if not isinstance(expr, Call) or expr.op is not (op or expr.op) or expr.op not in CHAINS:
        return False
    return expr.op is not MULTIPLY or not (isinstance(expr.args[0], Number) or expr.args[0] in WILDCARDS)


def parts(expr: Expr, op: Operator | None = None) -> list[Expr]:
    """The parts of a chain in order; of anything else, itself."""
    found: list[Expr] = []
    while is_chain(expr, op):
        op = expr.op
        expr, last = expr.args
        found.append(last)
    found.append(expr)
    found.reverse()
    return found


def order(expr: Expr) -> tuple[int, str, bytes, Numbers]:
    """Sorts parts: the larger first, then by name, then by shape, and only what is alike in those by its numbers."""
    name = expr.op.name if isinstance(expr, Call) else expr.name if isinstance(expr, Field) else _LAST
    return -expr.size, _LAST if expr in WILDCARDS else name, *_known(expr)


def term_order(term: Scaled) -> tuple[object, ...]:
    """Sorts the terms of a sum: those of one shape by sign, then the ones without a factor first."""
    factor, rest = term
    *kind, numbers = order(rest)
    return *kind, factor < 0, abs(factor) != 1, numbers, factor


def orientation(terms: list[Scaled]) -> float:
    """The sign of a sum: 1, or -1 to turn all of its terms, of which none has its opposite beside it.

    The first kind of term, in order, that one sign has more often decides; where there is none, the smaller numbers are
    to be positive.
    """
    signs: dict[tuple[int, str, bytes], tuple[list[Numbers], list[Numbers]]] = {}
    for factor, rest in terms:
        size, name, shape, numbers = order(rest)
        signs.setdefault((size, name, shape), ([], []))[factor < 0].append((*numbers, abs(factor)))
    kinds = [signs[kind] for kind in sorted(signs)]
    for plus, minus in kinds:
        if len(plus) != len(minus):
            return 1.0 if len(plus) > len(minus) else -1.0
    for plus, minus in kinds:
        if sorted(plus) != sorted(minus):
            return 1.0 if sorted(plus) < sorted(minus) else -1.0
    return 1.0


_KNOWN: WeakKeyDictionary[Expr, tuple[bytes, Numbers]] = WeakKeyDictionary()


def _known(expr: Expr) -> tuple[bytes, Numbers]:
    """A hash of the shape, in which all numbers are alike and which is the same in every process; and the numbers."""
    found = _KNOWN.get(expr)
    if found is None:
        if isinstance(expr, Call):
            inner = [_known(arg) for arg in expr.args]
            shape = _digest(expr.op.name.encode() + b"(" + b"".join(one for one, _ in inner))
            found = shape, tuple(number for _, numbers in inner for number in numbers)
        elif isinstance(expr, Number) or expr in WILDCARDS:
            found = _digest(b"?"), (expr.value,) if isinstance(expr, Number) else ()
        else:
            found = _digest(str(expr).encode()), ()
        _KNOWN[expr] = found
    return found


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=12).digest()
