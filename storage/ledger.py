"""The ledger of trials: every formula that anybody of the team has measured on a market, once for each way.

It alone knows how much was tried. A trial's number and standing are settled in the transaction that enters it, which
holds the lock of the market's ledger. So two runs at once spend the wealth of the market's stream of tests once. A row
is never changed: what a trial was worth when it was made does not depend on who asks again.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import fmean, variance
from typing import Any, Self

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Connection, Engine, Row, func, insert, select

from factors.discovery import dependent_level, level
from factors.effective_trials import effective_number, related
from factors.evaluation import Evaluation, Evidence, PeriodMetrics, SplitMetrics, Standing
from factors.expression import Expr
from factors.hypothesis import Candidate, factor_id
from factors.kernels.elementwise import Values
from factors.measurement import Measurement, packed, standing, unpacked
from factors.sharpe import expected_maximum
from storage.engine import reading, writing
from storage.schema import trials


@dataclass(frozen=True, slots=True)
class Question:
    """What is measured, and how; equal ones have one answer.

    Attributes:
        market: the market's name.
        snapshot: id of its version.
        universe: whose members are ranked.
        horizon: days held, from the close of the day after.
        factor_id: the formula in its canonical form, see :func:`factors.hypothesis.factor_id`.
        formula: its text.
    """

    market: str
    snapshot: str
    universe: str
    horizon: int
    factor_id: str
    formula: str

    @classmethod
    def of(cls, expr: Expr, *, market: str, snapshot: str, universe: str, horizon: int) -> Self:
        """What a formula is worth there."""
        return cls(market, snapshot, universe, horizon, factor_id(market, expr), str(expr))


@dataclass(frozen=True, slots=True)
class Entry:
    """A trial in the ledger.

    Attributes:
        question: what was measured.
        splits: metrics by split.
        evidence: of all in-sample days.
        standing: what that was worth when it was entered.
        rank_ic: ``[rows]`` the daily rank IC of the snapshot's in-sample days, to three digits, NaN for null.
    """

    question: Question
    splits: dict[str, SplitMetrics]
    evidence: Evidence
    standing: Standing
    rank_ic: Values

    def evaluation(self, candidate: Candidate | None = None, memory: tuple[PeriodMetrics, ...] = ()) -> Evaluation:
        """The same as what agents and people read, of a candidate in its own spelling."""
        asked = self.question
        return Evaluation(
            candidate_id=candidate.id if candidate else "",
            formula=candidate.formula if candidate else asked.formula,
            snapshot=asked.snapshot,
            universe=asked.universe,
            horizon=asked.horizon,
            splits=self.splits,
            evidence=self.evidence,
            standing=self.standing,
            memory=memory,
        )


class MarketLedger(BaseModel):
    """How much was tried on a market, and what that makes of the next trial.

    Attributes:
        market: its name.
        trials: N, formulas measured, each once for every snapshot, universe and horizon.
        effective_trials: how many different ones these amount to, by clustering their daily rank ICs.
        score_variance: of the trials' scores, daily rank ICIRs over train and valid; 0 for fewer than two.
        null_variance: what it would be without any skill: the mean squared error of a score.
        expected_maximum: best score that so many trials without skill would be expected to show.
        discoveries: trials that passed the control of false discoveries, those that move with an earlier one left out.
        next_level: the most that the p-value of the next trial may be, see :func:`factors.discovery.level`.
        next_dependent_level: the same if nothing were taken for granted of how the trials' p-values depend.
        openings_spent: of its hold-outs, in this quarter.
        openings_left: that the quarter's budget leaves the team, on whatever market.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    market: str
    trials: int
    effective_trials: float
    score_variance: float
    null_variance: float
    expected_maximum: float
    discoveries: int
    next_level: float
    next_dependent_level: float
    openings_spent: int
    openings_left: int


class Ledger:
    """The ledger in the records; thread-safe, each method one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._effective: dict[str, tuple[int, float]] = {}

    def measured(
        self, question: Question, measure: Callable[[], Measurement], *, user: str, run_id: str | None = None
    ) -> Entry:
        """The trial that answers the question: one in the ledger, else what ``measure`` finds, entered.

        A formula in its own words is answered at once. One in other words is measured, and is a trial of its own where
        it has other figures: a canonical form keeps ranks, but may know values where the formula knows none.

        Raises whatever ``measure`` does, and enters nothing then.
        """
        with reading(self._engine) as connection:
            known = _find(connection, question)
        if known is not None:
            return known
        found = measure()
        with writing(self._engine, f"ledger of {question.market}") as connection:
            # Somebody else may have asked meanwhile.
            known = _find(connection, question) or _alike(connection, question, found)
            return replace(known, question=question) if known else _enter(connection, question, found, user, run_id)

    def count(self, market: str) -> int:
        """N, the trials on a market."""
        with reading(self._engine) as connection:
            return connection.scalar(select(func.count()).where(trials.c.market == market)) or 0

    def tried(self, market: str) -> set[str]:
        """The versions of a market on which anything was tried, by id."""
        with reading(self._engine) as connection:
            return set(connection.scalars(select(trials.c.snapshot).where(trials.c.market == market).distinct()))

    def find(self, questions: Iterable[Question]) -> list[Entry]:
        """The trials that answer these questions, of those that the ledger holds, in order."""
        with reading(self._engine) as connection:
            found = [_find(connection, question) for question in questions]
        return [entry for entry in found if entry is not None]

    def market(self, name: str, openings_spent: int, openings_left: int) -> MarketLedger:
        """How much was tried on a market, given the openings of its hold-outs, and those that the team has left."""
        told = (trials.c[column] for column in ("evidence", "rank_ic", "snapshot", "universe", "horizon"))
        query = select(*told).where(trials.c.market == name).order_by(trials.c.number)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
            discoveries = _discoveries(connection, name)
        evidence = [Evidence.model_validate(row.evidence) for row in rows]
        scores = [one.sharpe for one in evidence]
        errors = [1 / one.observations for one in evidence if one.observations]
        null_variance = fmean(errors) if errors else 0.0
        return MarketLedger(
            market=name,
            trials=len(rows),
            effective_trials=self._effective_trials(name, rows),
            score_variance=variance(scores) if len(scores) > 1 else 0.0,
            null_variance=null_variance,
            expected_maximum=math.sqrt(null_variance) * expected_maximum(len(rows)),
            discoveries=len(discoveries),
            next_level=level(len(rows) + 1, discoveries),
            next_dependent_level=dependent_level(len(rows) + 1, discoveries),
            openings_spent=openings_spent,
            openings_left=openings_left,
        )

    def _effective_trials(self, market: str, rows: Sequence[Row[Any]]) -> float:
        """The effective number of a market's trials, which takes seconds and changes only as trials are added."""
        number, effective = self._effective.get(market, (0, 0.0))
        if number != len(rows):
            effective = _effective(rows)
            self._effective[market] = len(rows), effective
        return effective


def _effective(rows: Sequence[Row[Any]]) -> float:
    """The effective number of trials; those of other days or universes are taken to be others altogether."""
    groups: dict[tuple[str, str, int], list[Values]] = {}
    for row in rows:
        groups.setdefault((row.snapshot, row.universe, row.horizon), []).append(unpacked(row.rank_ic))
    return sum(effective_number(series) for series in groups.values())


def _discoveries(connection: Connection, market: str) -> list[int]:
    found = select(trials.c.number).where(trials.c.market == market, trials.c.discovery).order_by(trials.c.number)
    return list(connection.scalars(found))


def _find(connection: Connection, question: Question) -> Entry | None:
    row = connection.execute(select(trials).where(*_same(question, "market", "formula"))).one_or_none()
    return None if row is None else _entry(row)


def _alike(connection: Connection, question: Question, found: Measurement) -> Entry | None:
    """The trial of the formula in other words that has its figures."""
    query = select(trials).where(*_same(question, "factor_id")).order_by(trials.c.number)
    entries = (_entry(row) for row in connection.execute(query))
    return next((entry for entry in entries if found.tells(entry.splits, entry.rank_ic)), None)


def _same(question: Question, *names: str) -> list[ColumnElement[bool]]:
    return [trials.c[name] == getattr(question, name) for name in (*names, "snapshot", "universe", "horizon")]


def _enter(connection: Connection, question: Question, found: Measurement, user: str, run_id: str | None) -> Entry:
    earlier = trials.c.market == question.market
    number = (connection.scalar(select(func.max(trials.c.number)).where(earlier)) or 0) + 1
    place = standing(found.evidence, number, _discoveries(connection, question.market))
    row = {name: getattr(question, name) for name in Question.__slots__}
    row |= {"splits": dict(found.splits), "evidence": found.evidence, "standing": place}
    row |= {"rank_ic": packed(found.rank_ic), "discovery": place.discovery and _is_new(connection, question, found)}
    row |= {"number": number, "user": user, "run_id": run_id, "created_at": datetime.now(UTC)}
    connection.execute(insert(trials).values(row))
    # Read back rather than told as found: it is what the next reader sees.
    return _entry(connection.execute(select(trials).where(earlier, trials.c.number == number)).one())


def _is_new(connection: Connection, question: Question, found: Measurement) -> bool:
    """Whether no discovery before it moves with it: one bet in many words, or on one more day, is discovered once."""
    made = select(trials.c.rank_ic).where(trials.c.market == question.market, trials.c.discovery)
    return not any(related(found.rank_ic, unpacked(rank_ic)) for rank_ic in connection.scalars(made))


def _entry(row: Row[Any]) -> Entry:
    values = row._asdict()
    return Entry(
        question=Question(**{name: values[name] for name in Question.__slots__}),
        splits={split: SplitMetrics.model_validate(found) for split, found in values["splits"].items()},
        evidence=Evidence.model_validate(values["evidence"]),
        standing=Standing.model_validate(values["standing"]),
        rank_ic=unpacked(values["rank_ic"]),
    )
