"""Promotion: a person asks what the hold-out says of a factor, once, and the factor is live or rejected."""

from collections.abc import Mapping

from app.settings import Settings
from factors.admission import promotion_checks
from factors.evaluation import Evaluation
from factors.evaluator import Evaluator
from factors.frame import Frame
from factors.hypothesis import Factor
from factors.labels import forward_returns
from factors.measurement import around, measure
from factors.panel import Panel
from factors.parse import parse
from storage.markets import ends, open_market
from storage.openings import Judgement, Opening, SealedError
from storage.principal import Principal
from storage.records import Records
from storage.snapshot import Snapshot


def promote(settings: Settings, records: Records, factor_id: str, by: Principal) -> Opening:
    """Open the hold-out of a factor's snapshot for it.

    Raises:
        NotFoundError: no such factor, its snapshot is gone, or has no hold-out.
        SealedError: the hold-out was opened for it already, has been looked at in sample since, the factor is retired,
            or the quarter's openings are spent.
    """
    factor = records.factor(factor_id)
    snapshot = open_market(settings.home, factor.market, factor.snapshot)
    tried = records.ledger.tried(factor.market)
    # A version that was pruned has been looked at all the same.
    for version, end in ends(settings.home, factor.market).items():
        if end > snapshot.valid_end and version in tried:
            raise SealedError(
                f"what version {snapshot.id} holds out is in sample to {end} in version {version}, "
                "where formulas were measured: it tells nothing new any more"
            )
    model = records.run(factor.run_id).model

    def judge(bars: Frame, delistings: Mapping[str, float]) -> Judgement:
        panel = Panel.from_bars(bars, snapshot.train_end, snapshot.settlement, delistings)
        return _judged(factor, snapshot, panel.held_out(snapshot.valid_end), settings, model)

    return records.openings.open(snapshot, factor, judge, by=by, budget=settings.openings)


def _judged(factor: Factor, snapshot: Snapshot, panel: Panel, settings: Settings, model: str) -> Judgement:
    labels, evaluator = forward_returns(panel, (factor.horizon,)), Evaluator(panel)
    with evaluator.values(parse(factor.formula, tuple(panel.fields))) as values:
        found = measure(values, labels, panel, evaluator.team)
    evaluation = Evaluation(
        candidate_id="",
        formula=factor.formula,
        snapshot=snapshot.id,
        universe=factor.universe,
        horizon=factor.horizon,
        splits=dict(found.splits),
        evidence=found.evidence,
        memory=around(found.rank_ic, panel.dates, settings.training_cutoff(model), factor.horizon, panel.settlement),
    )
    return evaluation, promotion_checks(evaluation, _in_sample(factor), settings.thresholds)


def _in_sample(factor: Factor) -> float:
    """The mean rank IC over all days of the splits that the factor was admitted by."""
    days = sum(split.days for split in factor.splits.values())
    return sum(split.days * (split.rank_ic or 0.0) for split in factor.splits.values()) / max(days, 1)
