"""Random formulas from the registry of operators, as genetic programming begins with them.

A tree is drawn from the root down. Sources: Koza 1992, Genetic Programming, chapter 6 (grow, full, ramped half and half
from depth 2 to 6); gplearn's defaults ``init_depth=(2, 6)``, ``init_method="half and half"``, ``const_range=(-1, 1)``.
Neither knows windows: those are from a ladder of usual ones.

Trees are typed (Montana 1995, Strongly Typed Genetic Programming): a condition stands where one is asked for, and what
is alike for all instruments, a constant or a mean of the market, only beside a series. Without that two trees in three
have no rank correlation with anything.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from random import Random

from factors.errors import FormulaError
from factors.expression import MAX_DEPTH, MAX_NODES, SECTOR, SEQUENCE, Call, Expr, Field, Number, call
from factors.operators import OPERATORS, Kind, Operator, Parameter, ParameterKind
from factors.parse import parse

DEPTHS = range(2, 7)  #: calls between the root and the deepest leaf, at most
WINDOWS = (1, 2, 3, 5, 10, 20, 40, 60, 120)  #: rows
LARGEST = 1.0  #: size of a constant that may be any number


class Slot(Enum):
    """What an argument may be."""

    SERIES = "series"  #: a number that differs from instrument to instrument
    CONDITION = "condition"  #: 0 or 1
    LOOSE = "loose"  #: a series, or what is alike for all instruments


_LOGIC = frozenset({"AND", "OR", "NOT"})
_COMPARISONS = frozenset({"LT", "GT", "LE", "GE", "EQ", "NE"})
_MARKET_WIDE = frozenset({"MEAN", "STD", "SKEW", "KURT", "MEDIAN"})


def slots(op: Operator) -> tuple[Slot | None, ...]:
    """What each argument of an operator may be; ``None`` for literals and groups."""
    series = [parameter.name for parameter in op.parameters if parameter.kind is ParameterKind.SERIES]
    loose = series[-1] if op.kind is Kind.ELEMENTWISE and len(series) > 1 else ""
    return tuple(_slot(op, parameter, loose) for parameter in op.parameters)


def _slot(op: Operator, parameter: Parameter, loose: str) -> Slot | None:
    if parameter.kind is not ParameterKind.SERIES:
        return None
    if parameter.name == "condition" or op.name in _LOGIC or op.name == "TS_COUNT":
        return Slot.CONDITION
    return Slot.LOOSE if parameter.name == loose else Slot.SERIES


def fits(slot: Slot, op: Operator) -> bool:
    """Whether what an operator gives may stand there."""
    if op.name in _LOGIC | _COMPARISONS:
        return slot is Slot.CONDITION
    return slot is Slot.LOOSE or (slot is Slot.SERIES and op.name not in _MARKET_WIDE)


def stands(slot: Slot, node: Expr) -> bool:
    """Whether a node may stand there."""
    if isinstance(node, Call):
        return fits(slot, node.op)
    return slot is Slot.LOOSE or (slot is Slot.SERIES and isinstance(node, Field))


FUNCTIONS = tuple(op for op in OPERATORS.values() if op is not SEQUENCE)
COMPARISONS = tuple(op for op in FUNCTIONS if op.name in _COMPARISONS)
FITTING = {slot: tuple(op for op in FUNCTIONS if fits(slot, op)) for slot in Slot}


@dataclass(frozen=True, slots=True)
class Grammar:
    """All formulas of the language over a market's columns, ``fields``, without the dollar sign."""

    fields: tuple[str, ...]

    def formulas(self, draw: Random) -> Iterator[Expr]:
        """Legal formulas without end, ramped half and half."""
        while True:
            tree = self.tree(draw, draw.choice(DEPTHS), full=draw.random() < 1 / 2)
            if self.legal(tree):
                yield tree

    def legal(self, tree: Expr) -> bool:
        """Whether the parser takes the tree for a formula, which has bounds and reads a field."""
        if tree.size > MAX_NODES or tree.depth > MAX_DEPTH:
            return False  # its text may be too long to write
        try:
            return parse(str(tree), self.fields) is tree
        except FormulaError:
            return False

    def tree(
        self, draw: Random, depth: int, *, full: bool, slot: Slot = Slot.SERIES, sequence: Expr | None = None
    ) -> Expr:
        """A tree of at most so many levels of calls; a ``full`` one has them on every branch of series.

        A condition is no leaf, so a comparison of two stands where it would be one. ``sequence`` is a leaf that is
        allowed at the root alone, as an argument of an operator of pairs.
        """
        leaves = [] if slot is Slot.CONDITION else self.leaves(draw, slot, sequence)
        functions = FITTING[slot] if depth else COMPARISONS
        if leaves and (depth == 0 or (not full and draw.randrange(len(functions) + len(leaves)) < len(leaves))):
            return draw.choice(leaves)
        op = draw.choice(functions)
        literals = _literals(op, draw)
        leaf = call(SEQUENCE.name, *literals.values()) if op.pairs else None
        return call(
            op.name,
            *(
                self.tree(draw, max(depth - 1, 0), full=full, slot=wanted, sequence=leaf)
                if wanted
                else literals.get(parameter.name, SECTOR)
                for parameter, wanted in zip(op.parameters, slots(op), strict=True)
            ),
        )

    def leaves(self, draw: Random, slot: Slot, sequence: Expr | None = None) -> list[Expr]:
        """What may stand there and has no arguments: the columns, one constant, the sequence."""
        leaves: list[Expr] = [Field(name) for name in self.fields]
        if slot is Slot.LOOSE:
            leaves.append(Number(round(draw.uniform(-LARGEST, LARGEST), 2)))
        return [*leaves, sequence] if sequence else leaves


def _literals(op: Operator, draw: Random) -> dict[str, float]:
    literals: dict[str, float] = {}
    for parameter in op.parameters:
        if parameter.kind not in {ParameterKind.SERIES, ParameterKind.GROUP}:
            literals[parameter.name] = literal(parameter, draw, literals.get(parameter.at_most, math.inf))
    return literals


def literal(parameter: Parameter, draw: Random, ceiling: float = math.inf) -> float:
    """A number that the parameter takes, at most ``ceiling``."""
    low, high = parameter.low, min(parameter.high, ceiling)
    if parameter.kind is ParameterKind.WINDOW:
        return draw.choice([days for days in WINDOWS if low <= days <= high])
    if parameter.kind is ParameterKind.INTEGER:
        return draw.randint(int(low), int(high))
    if math.isinf(low):
        low, high = -LARGEST, LARGEST
    return math.floor(100 * draw.uniform(low, high)) / 100  # rounding might exceed ``high``
