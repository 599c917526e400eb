"""What the gate sees of a formula, for people: ``alphaagent check`` and ``GET /factors/{id}/neighbours``."""

import re
from collections.abc import Iterable
from functools import cache

from pydantic import BaseModel, ConfigDict

from factors.alphas import Alpha, published
from factors.expression import Expr
from factors.hypothesis import Factor
from factors.parse import parse
from factors.regularization import Complexity, Limits, Penalty, Structure
from factors.verdict import Check
from factors.zoo import Match, Zoo


class Inspection(BaseModel):
    """A formula beside the known alphas.

    ``similarity`` is S(f), nodes of the largest common subtree with a known alpha, to the number; in
    ``parametric_similarity`` all numbers are alike, and ``variation`` is its share of the formula. ``same_as`` names an
    alpha that ranks as the formula does, ``varied_from`` one that does but for numbers. ``exact`` and ``parametric``
    are the five nearest. ``penalty`` is R_g for perfect alignment, ``terms`` what it is made of, each in [0, 1].
    ``checks`` are the gate's but for alignment.
    """

    model_config = ConfigDict(frozen=True)

    formula: str
    accepted: bool
    same_as: str | None
    varied_from: str | None
    similarity: int
    parametric_similarity: int
    variation: float
    exact: tuple[Match, ...]
    parametric: tuple[Match, ...]
    complexity: Complexity
    penalty: float
    terms: Penalty
    checks: tuple[Check, ...]


def inspect(expr: Expr, zoo: Zoo, limits: Limits) -> Inspection:
    """Look at a formula beside the alphas of a zoo."""
    structure = Structure.of(expr, zoo)
    checks, terms = structure.checks(limits), structure.penalty(limits)
    return Inspection(
        formula=str(expr),
        accepted=all(check.passed for check in checks),
        same_as=structure.likeness.same_as,
        varied_from=structure.likeness.varied_from,
        similarity=structure.likeness.nodes,
        parametric_similarity=structure.likeness.parametric_nodes,
        variation=structure.likeness.variation,
        exact=structure.likeness.exact,
        parametric=structure.likeness.parametric,
        complexity=structure.complexity,
        penalty=terms.total,
        terms=terms,
        checks=checks,
    )


@cache
def published_zoo() -> Zoo:
    """The published alphas, indexed once a process."""
    return Zoo(published())


def known_alphas(imported: Iterable[Alpha], library: Iterable[Factor]) -> Zoo:
    """What a formula is held against: published alphas, imported ones, and a market's library."""
    return Zoo([*imported, *as_alphas(library)], published_zoo())


def as_alphas(library: Iterable[Factor]) -> list[Alpha]:
    """A market's factors as known alphas."""
    return [Alpha(factor.name, read(factor.formula), "library") for factor in library]


def read(formula: str) -> Expr:
    """A formula over whatever columns it names."""
    return parse(formula, tuple(re.findall(r"\$(\w+)", formula)))
