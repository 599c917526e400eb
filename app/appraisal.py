"""Appraisal: what is known of a formula, a factor or a run, for people who judge it."""

from collections import Counter
from collections.abc import Iterable
from datetime import date
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from app.inspection import read
from app.laboratories import Laboratories
from app.settings import Settings
from factors.admission import admission_checks
from factors.evaluation import Evaluation
from factors.expression import Expr
from factors.hypothesis import Factor
from factors.labels import HORIZONS
from factors.measurement import around
from factors.overfitting import Overfitting, overfitting_of
from factors.parse import parse
from factors.robustness import Robustness
from factors.verdict import Check
from graphs.laboratory import Laboratory
from storage.idempotency import Once
from storage.ledger import MarketLedger, Question
from storage.markets import Snapshot, open_market
from storage.principal import Principal
from storage.records import Records
from storage.runs import CandidateRecord, Run


class EvaluationRequest(BaseModel):
    """A formula to measure on a market's current version; in its first universe where none is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: Annotated[str, StringConstraints(max_length=4000)]
    market: str
    universe: str | None = None


class Appraisal(BaseModel):
    """A formula's evaluation, which is a trial in the ledger, and what the library would ask of it.

    ``checks`` are those of admission that need nothing but the evaluation; ``accepted`` says whether all passed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    evaluation: Evaluation
    robustness: Robustness
    checks: tuple[Check, ...]
    accepted: bool


def appraise(
    settings: Settings,
    records: Records,
    laboratories: Laboratories,
    request: EvaluationRequest,
    by: Principal,
    once: Once | None = None,
) -> Appraisal:
    """Measure a formula, or read what the ledger holds of it; asked ``once`` more, on the snapshot of the first time.

    Raises:
        NotFoundError: no such market or universe.
        FormulaError: not a formula over the market's columns.
        SpentError: the user's quota has no room for it.
        IdempotencyError: its key came with another request.
        MeasurementError: the formula takes more than it may.
    """
    people = records.people
    snapshot = open_market(settings.home, request.market, people.earlier(by, once))
    expr, universe = parse(request.formula, snapshot.series), snapshot.universe(request.universe)
    asked = people.ask_evaluation(by, snapshot.id, settings.quota, once)
    snapshot = open_market(settings.home, request.market, asked)
    return appraised(settings, records, laboratories.of(snapshot, universe), snapshot, expr, universe, by.user)


def appraised(
    settings: Settings,
    records: Records,
    laboratory: Laboratory,
    snapshot: Snapshot,
    expr: Expr,
    universe: str,
    user: str,
    cutoff: date | None = None,
) -> Appraisal:
    """The same of a parsed formula in a snapshot's laboratory, also by what a model that had read to ``cutoff`` knew.

    Raises what the laboratory does.
    """
    horizon = HORIZONS[0]
    question = Question.of(expr, market=snapshot.market, snapshot=snapshot.id, universe=universe, horizon=horizon)
    entry = records.ledger.measured(question, lambda: laboratory.measure(expr), user=user)
    dates, settlement = laboratory.dates, laboratory.settlement
    evaluation = entry.evaluation(memory=around(entry.rank_ic, dates, cutoff, horizon, settlement))
    checks = admission_checks(evaluation, settings.thresholds)
    return Appraisal(
        evaluation=evaluation,
        robustness=laboratory.robustness(entry.rank_ic, entry.evidence, entry.splits),
        checks=checks,
        accepted=all(check.passed for check in checks),
    )


def appraised_factor(
    settings: Settings, records: Records, laboratories: Laboratories, factor: Factor, user: str
) -> Appraisal:
    """A factor of the library on the snapshot that it was accepted on; a trial only if it is older than the ledger."""
    snapshot = open_market(settings.home, factor.market, factor.snapshot)
    cutoff = settings.training_cutoff(records.run(factor.run_id).model)
    expr = parse(factor.formula, snapshot.series)
    laboratory = laboratories.of(snapshot, factor.universe)
    return appraised(settings, records, laboratory, snapshot, expr, factor.universe, user, cutoff)


def recorded_evaluation(factor: Factor) -> Evaluation:
    """What a factor was accepted by, as it was recorded then; it takes no snapshot."""
    return Evaluation(
        candidate_id="",
        formula=factor.formula,
        snapshot=factor.snapshot,
        universe=factor.universe,
        horizon=factor.horizon,
        splits=factor.splits,
        evidence=factor.evidence,
        standing=factor.standing,
    )


def refusals(candidates: Iterable[CandidateRecord]) -> dict[str, int]:
    """How many candidates failed each check of admission, the most frequent first."""
    failed = (check.name for one in candidates for check in one.admission if not check.passed)
    return dict(Counter(failed).most_common())


def overfitting(records: Records, run: Run, candidates: Iterable[CandidateRecord]) -> Overfitting | None:
    """Whether choosing the best of a run's candidates is overfitting, by their daily rank ICs in sample."""
    questions = [
        Question.of(
            read(one.evaluation.formula),
            market=run.market,
            snapshot=run.snapshot,
            universe=run.universe,
            horizon=one.evaluation.horizon,
        )
        for one in candidates
        if one.evaluation
    ]
    return overfitting_of([entry.rank_ic for entry in records.ledger.find(questions)])


def ledger_of(settings: Settings, records: Records, market: str) -> MarketLedger:
    """How much was tried on a market, and what is left of its hold-out's budget."""
    left = max(0, settings.openings - records.openings.spent())
    return records.ledger.market(market, records.openings.spent(market), left)
