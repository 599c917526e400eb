"""Random formulas from the registry of operators, as genetic programming begins with them.

A tree is drawn from the root down: an argument that may be any series is a tree again, every other one is a literal or
a group of the kind that the operator's parameter asks for. Sources: Koza 1992, Genetic Programming, chapter 6 (grow,
full, ramped half and half from depth 2 to 6); gplearn's defaults ``init_depth=(2, 6)``,
``init_method="half and half"``, ``const_range=(-1, 1)``. Neither knows windows: those are from a ladder of usual ones.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from factors.errors import FormulaError
from factors.expression import MAX_DEPTH, MAX_NODES, SECTOR, SEQUENCE, Expr, Field, Number, call
from factors.operators import OPERATORS, Operator, Parameter, ParameterKind
from factors.parse import parse

DEPTHS = range(2, 7)  #: calls between the root and the deepest leaf, at most
WINDOWS = (1, 2, 3, 5, 10, 20, 40, 60, 120)  #: rows
LARGEST = 1.0  #: size of a constant that may be any number
FUNCTIONS = tuple(op for op in OPERATORS.values() if op is not SEQUENCE)


@dataclass(frozen=True, slots=True)
class Grammar:
    """All formulas of the language over a market's columns, ``fields``, without the dollar sign."""

    fields: tuple[str, ...]

    def formulas(self, draw: Random) -> Iterator[Expr]:
        """Legal formulas without end, ramped half and half."""
        while True:
            try:
                tree = self.tree(draw, draw.choice(DEPTHS), full=draw.random() < 1 / 2)
            except FormulaError:
                continue
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

    def tree(self, draw: Random, depth: int, *, full: bool, sequence: Expr | None = None) -> Expr:
        """A tree of at most so many levels of calls; a ``full`` one has them on every branch of series.

        ``sequence`` is a leaf that is allowed at the root alone, as an argument of an operator of pairs.
        """
        leaves = len(self.fields) + 1
        if depth == 0 or (not full and draw.randrange(len(FUNCTIONS) + leaves) < leaves):
            return self.leaf(draw, sequence)
        op = draw.choice(FUNCTIONS)
        literals: dict[str, float] = {}
        for parameter in op.parameters:
            if parameter.kind not in {ParameterKind.SERIES, ParameterKind.GROUP}:
                literals[parameter.name] = literal(parameter, draw, literals.get(parameter.at_most, math.inf))
        leaf = _sequence(op, literals)
        return call(
            op.name,
            *(
                literals[parameter.name]
                if parameter.name in literals
                else SECTOR
                if parameter.kind is ParameterKind.GROUP
                else self.tree(draw, depth - 1, full=full, sequence=leaf)
                for parameter in op.parameters
            ),
        )

    def leaf(self, draw: Random, sequence: Expr | None = None) -> Expr:
        """A column, a constant or the sequence, each as likely as any other."""
        leaves: list[Expr] = [Field(name) for name in self.fields]
        leaves.append(Number(round(draw.uniform(-LARGEST, LARGEST), 2)))
        return draw.choice([*leaves, sequence] if sequence else leaves)


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


def _sequence(op: Operator, literals: dict[str, float]) -> Expr | None:
    """The sequence of an operator of pairs, which has its window."""
    return call(SEQUENCE.name, *literals.values()) if op.pairs else None
