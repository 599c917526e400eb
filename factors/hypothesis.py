"""The nouns of research: Hypothesis, Candidate and Factor.

One type each, shared by the agents' output, the graph's state, the events, the database and the HTTP answers.
"""

import hashlib
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from factors.canonical import canonical
from factors.evaluation import SplitMetrics
from factors.expression import Expr


class Hypothesis(BaseModel):
    """A market idea that a formula can test; ``horizon_days`` in trading days."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    statement: str
    observation: str
    knowledge: str
    justification: str
    specification: str
    horizon_days: int = Field(ge=1, le=60)


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


class Factor(BaseModel):
    """An accepted candidate in the team's library; ``hypothesis`` is its statement.

    ``splits`` were measured on ``snapshot`` and ``universe`` against the ``horizon``-day label.
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


def factor_id(market: str, expr: Expr) -> str:
    """The id of a formula in a market, one for all its spellings; the same on every machine.

    16 hexadecimal digits of SHA-256 of the market's name and the canonical form.
    """
    return hashlib.sha256(f"{market}\n{canonical(expr)}".encode()).hexdigest()[:16]
