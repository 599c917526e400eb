"""The structural gate: originality, alignment and complexity of a candidate, before anything is measured.

Source: Tang et al. 2025 (AlphaAgent, KDD, arXiv 2502.16789), section on regularized exploration.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from factors.expression import Expr, Number, distinct, fields, walk
from factors.verdict import Check


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gate refuses above (below, for alignment), each with its reason.

    Attributes:
        length: SL, nodes. Of the 101 published formulaic alphas nine in ten are shorter than 60 nodes.
        parameters: PC, free numbers. More knobs than this fit a history rather than describe an idea.
        fields: distinct columns. Open, high, low, close and volume together are five.
        depth: levels. Deeper nests have no reading in words.
        look_back: rows. A trading year; longer ones leave too little train history.
        shared_nodes: size of the largest sub-formula shared with a known alpha.
        alignment: least agreement of hypothesis, description and formula, in [0, 1].
    """

    length: int = 60
    parameters: int = 12
    fields: int = 5
    depth: int = 14
    look_back: int = 260
    shared_nodes: int = 8
    alignment: float = 0.5


@dataclass(frozen=True, slots=True)
class Match:
    """The largest sub-formula shared with a known alpha, ``nodes`` large; ``alpha`` is the known one's name."""

    nodes: int
    subtree: Expr
    alpha: str


class Zoo:
    """Known alphas, indexed by sub-formula: expressions are hash-consed, so sharing a subtree is sharing an object."""

    def __init__(self, alphas: Iterable[tuple[str, Expr]] = ()) -> None:
        self._owner: dict[Expr, str] = {}
        self._roots: dict[Expr, str] = {}
        for name, expr in alphas:
            self.add(name, expr)

    def add(self, name: str, expr: Expr) -> None:
        """Make an alpha known; the first to hold a sub-formula is named as its owner."""
        self._roots.setdefault(expr, name)
        for node in distinct(expr):
            if node.children:
                self._owner.setdefault(node, name)

    def add_tried(self, name: str, expr: Expr) -> None:
        """Make exactly this formula known, so that trying it again is a duplicate, while its parts stay free to use."""
        self._roots.setdefault(expr, name)

    def known_as(self, expr: Expr) -> str | None:
        """The name under which exactly this formula is known, if it is."""
        return self._roots.get(expr)

    def nearest(self, expr: Expr) -> Match | None:
        """The largest common subtree with any known alpha: s(f, g) maximised over the zoo."""
        shared = [node for node in distinct(expr) if node in self._owner]
        if not shared:
            return None
        largest = max(shared, key=lambda node: node.size)
        return Match(largest.size, largest, self._owner[largest])


def structural_checks(expr: Expr, zoo: Zoo, limits: Limits) -> tuple[Check, ...]:
    """Complexity and originality of a formula, each as a check."""
    columns = fields(expr)
    upper = [
        ("length", expr.size, limits.length, "shorten it to at most {limit} nodes; it has {value}"),
        ("parameters", _parameters(expr), limits.parameters, "use at most {limit} numbers; it has {value}"),
        ("fields", len(columns), limits.fields, "read at most {limit} fields; it reads {value}"),
        ("depth", expr.depth, limits.depth, "nest at most {limit} levels; it has {value}"),
        ("look_back", expr.look_back, limits.look_back, "look back at most {limit} rows; it needs {value}"),
    ]
    checks = [
        Check(
            name=name,
            value=value,
            limit=limit,
            passed=value <= limit,
            hint="" if value <= limit else hint.format(value=value, limit=limit),
        )
        for name, value, limit, hint in upper
    ]
    return (*checks, *_originality(expr, zoo, limits))


def _originality(expr: Expr, zoo: Zoo, limits: Limits) -> tuple[Check, Check]:
    match = zoo.nearest(expr)
    known_as = zoo.known_as(expr)
    shared = match.nodes if match else 0
    original = shared <= limits.shared_nodes
    hint = ""
    if match and not original:
        hint = f"shares {shared} nodes with {match.alpha}: {match.subtree}; change that part"
    return (
        Check(
            name="duplicate",
            value=float(known_as is not None),
            limit=0,
            passed=known_as is None,
            hint=f"this formula is already known as {known_as}; propose another" if known_as else "",
        ),
        Check(name="originality", value=shared, limit=limits.shared_nodes, passed=original, hint=hint),
    )


def alignment_check(alignment: float, reason: str, limits: Limits) -> Check:
    """Agreement C = (c1 + c2) / 2 of hypothesis, description and formula against its limit."""
    passed = alignment >= limits.alignment
    return Check(
        name="alignment", value=alignment, limit=limits.alignment, passed=passed, hint="" if passed else reason
    )


def penalty(expr: Expr, zoo: Zoo, limits: Limits, alignment: float = 1.0) -> float:
    """R_g = (SL + PC + ER) / 3, each scaled to [0, 1] by its limit; ER = (S + (1 - C) + log(1 + |F|)) / 3 likewise.

    The paper prints +C in ER, which would reward misalignment; 1 - C is what its text describes.
    """
    match = zoo.nearest(expr)
    exploration = (
        _share(match.nodes if match else 0, limits.shared_nodes)
        + (1 - alignment)
        + _share(math.log1p(len(fields(expr))), math.log1p(limits.fields))
    ) / 3
    return (_share(expr.size, limits.length) + _share(_parameters(expr), limits.parameters) + exploration) / 3


def _parameters(expr: Expr) -> int:
    """PC: numbers written in the formula, windows among them."""
    return sum(isinstance(node, Number) for node in walk(expr))


def _share(value: float, limit: float) -> float:
    return min(value / limit, 1.0)
