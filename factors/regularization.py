"""The structural gate: originality, alignment and complexity of a candidate, before anything is measured.

Source: Tang et al. 2025 (AlphaAgent, KDD, arXiv 2502.16789), section 4.2 on regularized exploration.
"""

import math
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from factors.errors import SettingError
from factors.expression import Expr, Number, fields, walk
from factors.verdict import Check, at_least, at_most
from factors.zoo import Likeness, Match, Zoo

ALPHA = 0.5  #: weight of c1, hypothesis and description, beside c2, description and formula
_THIRD = 1 / 3  # each term of R_g, and of its exploration term, weighs alike


class Limits(BaseModel):
    """What the gate refuses above (below, for alignment), each with its reason.

    Attributes:
        length: SL, nodes. Of the 101 published formulaic alphas all but the longest are shorter than 60 nodes.
        parameters: PC, free numbers. More knobs than this fit a history rather than describe an idea.
        fields: distinct columns. Open, high, low, close and volume together are five.
        depth: levels. Deeper nests have no reading in words.
        look_back: rows. A trading year; longer ones leave too little train history.
        shared_nodes: S, nodes that a part has in common with a known alpha, to the number. Nine in ten of the 101
            share no more with any other of them.
        variation: share of the formula that is a known alpha but for its numbers: all of it, or where it shares more
            than ``shared_nodes``. Of the 101 only those pass it that their author varied himself.
        alignment: C, least agreement of hypothesis, description and formula, in [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    length: int = Field(default=60, ge=1, le=256)
    parameters: int = Field(default=12, ge=0, le=128)
    fields: int = Field(default=5, ge=1, le=64)
    depth: int = Field(default=14, ge=1, le=32)
    look_back: int = Field(default=260, ge=0, le=100_000)
    shared_nodes: int = Field(default=8, ge=1, le=256)
    variation: float = Field(default=0.7, ge=0, le=1)
    alignment: float = Field(default=0.5, ge=0, le=1)

    def changed(self, changes: "Limits", loosest: "Limits") -> "Limits":
        """These limits with those that ``changes`` was given.

        Raises:
            SettingError: one is looser than ``loosest`` allows.
        """
        given = {name: getattr(changes, name) for name in changes.model_fields_set}
        for name, value in given.items():
            bound = getattr(loosest, name)
            if (value < bound) if name == "alignment" else (value > bound):
                most = "at least" if name == "alignment" else "at most"
                raise SettingError(f"limits.{name} must be {most} {bound:g} on this server, not {value:g}")
        return self.model_copy(update=given)


@dataclass(frozen=True, slots=True)
class Complexity:
    """How complex a formula is, as it is written.

    Attributes:
        length: SL, nodes.
        parameters: PC, numbers in it, windows among them.
        fields: |F|, distinct columns.
        depth: levels.
        look_back: rows of history beyond the current one.
    """

    length: int
    parameters: int
    fields: int
    depth: int
    look_back: int

    @classmethod
    def of(cls, expr: Expr) -> "Complexity":
        """Measure a formula."""
        parameters = sum(isinstance(node, Number) for node in walk(expr))
        return cls(expr.size, parameters, len(fields(expr)), expr.depth, expr.look_back)


@dataclass(frozen=True, slots=True)
class Penalty:
    """R_g and its terms, each scaled to [0, 1] by its limit; lower is better.

    R_g = (SL + PC + ER) / 3 and ER = (S + (1 - C) + log(1 + |F|)) / 3, equation 8 with equal weights. The paper prints
    +C in ER, which would punish agreement; 1 - C is what its text describes.

    Attributes:
        length: SL.
        parameters: PC.
        similarity: S, parametric.
        misalignment: 1 - C.
        fields: log(1 + |F|).
    """

    length: float
    parameters: float
    similarity: float
    misalignment: float
    fields: float

    @property
    def exploration(self) -> float:
        """ER."""
        return (self.similarity + self.misalignment + self.fields) * _THIRD

    @property
    def total(self) -> float:
        """R_g."""
        return (self.length + self.parameters + self.exploration) * _THIRD


@dataclass(frozen=True, slots=True)
class Structure:
    """What the gate sees of a formula without asking anybody.

    Attributes:
        complexity: of the formula as it is written.
        likeness: to the known alphas.
    """

    complexity: Complexity
    likeness: Likeness

    @classmethod
    def of(cls, expr: Expr, zoo: Zoo) -> "Structure":
        """Look at a formula beside the known alphas."""
        return cls(Complexity.of(expr), zoo.likeness(expr))

    def checks(self, limits: Limits) -> tuple[Check, ...]:
        """Complexity and originality, each as a check."""
        own = self.complexity
        return (
            at_most(
                "length", own.length, limits.length, f"shorten it to at most {limits.length} nodes; it has {own.length}"
            ),
            at_most(
                "parameters",
                own.parameters,
                limits.parameters,
                f"use at most {limits.parameters} numbers; it has {own.parameters}",
            ),
            at_most("fields", own.fields, limits.fields, f"read at most {limits.fields} fields; it reads {own.fields}"),
            at_most("depth", own.depth, limits.depth, f"nest at most {limits.depth} levels; it has {own.depth}"),
            at_most(
                "look_back",
                own.look_back,
                limits.look_back,
                f"look back at most {limits.look_back} rows; it needs {own.look_back}",
            ),
            *self.originality(limits),
        )

    def penalty(self, limits: Limits, alignment: float = 1.0) -> Penalty:
        """R_g of the formula, whose hypothesis, description and formula agree so well."""
        return Penalty(
            length=_share(self.complexity.length, limits.length),
            parameters=_share(self.complexity.parameters, limits.parameters),
            similarity=_share(self.likeness.parametric_nodes, limits.shared_nodes),
            misalignment=1 - alignment,
            fields=_share(math.log1p(self.complexity.fields), math.log1p(limits.fields)),
        )

    def originality(self, limits: Limits) -> tuple[Check, Check, Check]:
        """Likeness to the known alphas, each kind as a check."""
        likeness = self.likeness
        alike = likeness.variation if likeness.parametric_nodes > limits.shared_nodes else 0.0
        mostly = f"{alike:.0%} of it is {_quoted(likeness.parametric)} with other numbers at most"
        whole = f"it is {likeness.varied_from} with other numbers at most"
        return (
            Check(
                name="duplicate",
                value=float(likeness.same_as is not None),
                limit=0,
                passed=likeness.same_as is None,
                hint=f"it ranks as {likeness.same_as} does, or the other way round; propose another"
                if likeness.same_as
                else "",
            ),
            at_most(
                "originality",
                likeness.nodes,
                limits.shared_nodes,
                f"shares {_quoted(likeness.exact)}; change that part",
            ),
            at_most(
                "variation",
                1.0 if likeness.varied_from else alike,
                limits.variation,
                f"{whole if likeness.varied_from else mostly}; a new window is no new idea",
            ),
        )


def alignment_check(agreement: float, reason: str, limits: Limits) -> Check:
    """Agreement C of hypothesis, description and formula against its limit."""
    return at_least("alignment", agreement, limits.alignment, reason)


def agreement(hypothesis_description: float, description_formula: float) -> float:
    """C(h, d, f) = alpha c1(h, d) + (1 - alpha) c2(d, f), all in [0, 1]."""
    return ALPHA * hypothesis_description + (1 - ALPHA) * description_formula


def _quoted(matches: tuple[Match, ...]) -> str:
    if not matches:
        return "nothing"
    return f"{matches[0].nodes} nodes with {matches[0].alpha}: {matches[0].subtree}"


def _share(value: float, limit: float) -> float:
    return min(value / limit, 1.0) if limit else float(value > 0)
