"""The nouns of research: Hypothesis, Candidate, Factor, and the Feedback that a round gives.

One type each, shared by the agents' output, the graph's state, the events, the database and the HTTP answers.
"""

import hashlib
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from factors.canonical import canonical
from factors.certificate import Certificate
from factors.evaluation import Evidence, SplitMetrics, Standing
from factors.expression import Expr
from factors.prose import Prose

Move = Literal["new", "refine", "cross"]
"""How a hypothesis comes about: out of nothing, from one before it, or from two."""


class Hypothesis(BaseModel):
    """A market idea that a formula can test; ``horizon_days`` counts bars, which are trading days of most markets.

    ``parents`` are the ids of the run's hypotheses that it goes on from: none if ``move`` is new, one, or two.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    move: Move = "new"
    parents: tuple[str, ...] = ()
    statement: str
    observation: str
    knowledge: str
    justification: str
    specification: str
    horizon_days: int = Field(ge=1, le=60)


class Variable(BaseModel):
    """A column or part of a formula, and what it stands for there, in the author's words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Prose = Field(max_length=200)
    role: Prose = Field(max_length=500)


class Candidate(BaseModel):
    """A formula drafted for a hypothesis.

    ``formula`` is canonical text once it has parsed, the author's own text before. ``attempt`` counts rewrites from 0;
    ``parents`` are the ids of the candidates of the same run that it was bred from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    hypothesis_id: str
    name: str
    description: str
    formula: str
    attempt: int = 0
    parents: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()


class Lineage(BaseModel):
    """Where a factor comes from, within the run that accepted it.

    Attributes:
        round: in which it was measured, from 1.
        candidate: its candidate's id.
        parents: candidates that it was bred from.
        hypothesis: its hypothesis' id.
        move: how that came about.
        hypothesis_parents: from which it goes on.
        prompts: versions of the prompts of those who wrote and judged it, by agent; empty without a language model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: int
    candidate: str
    parents: tuple[str, ...]
    hypothesis: str
    move: Move
    hypothesis_parents: tuple[str, ...]
    prompts: dict[str, str]


class Factor(BaseModel):
    """An accepted candidate in the team's library; ``hypothesis`` is its statement.

    ``splits``, ``evidence`` and ``standing`` were measured on ``snapshot`` and ``universe`` against the ``horizon``-day
    label, see :class:`factors.evaluation.Evaluation`; ``certificate`` says that the values are causal. All but
    ``splits`` may be ``None``, as ``lineage`` may, for factors of the library that are older than they.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    market: str
    name: str
    description: str
    formula: str
    hypothesis: str
    run_id: str
    snapshot: str
    universe: str
    horizon: int = Field(ge=1)
    penalty: float
    splits: dict[str, SplitMetrics]
    created_at: datetime
    lineage: Lineage | None = None
    evidence: Evidence | None = None
    standing: Standing | None = None
    certificate: Certificate | None = None


Action = Literal["refine", "pivot", "stop"]
"""What to do with a hypothesis."""


class Feedback(BaseModel):
    """What a round taught: the Eval agent's answer, which the next Idea reads.

    ``action``: refine the hypothesis, leave it for another, or never come back to it; ``focus``: where to look next.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    supported: bool
    lesson: Prose = Field(max_length=2000)
    action: Action
    focus: Prose = Field(default="", max_length=1000)


def factor_id(market: str, expr: Expr) -> str:
    """The id of a formula in a market, one for all its spellings; the same on every machine.

    16 hexadecimal digits of SHA-256 of the market's name and the canonical form.
    """
    return hashlib.sha256(f"{market}\n{canonical(expr)}".encode()).hexdigest()[:16]
