"""Factors that a run is said to have accepted, without mining."""

from datetime import UTC, datetime

from factors.evaluation import Evaluation, Evidence, SplitMetrics
from factors.hypothesis import Factor, factor_id
from factors.parse import parse
from storage.runs import RunRequest

METRICS = SplitMetrics(
    days=240,
    coverage=0.98,
    ic=0.03,
    icir=0.2,
    rank_ic=0.04,
    rank_icir=0.3,
    t_stat=2.5,
    rank_t_stat=3.1,
    hit_rate=0.55,
    turnover=0.2,
)
EVIDENCE = Evidence(
    days=240,
    rank_ic=0.04,
    t_stat=3.1,
    p_value=0.001,
    sharpe=0.2,
    skew=0.1,
    kurtosis=3.2,
    observations=200.0,
    long_short=0.001,
    turnover=0.2,
)


def accepted(records, snapshot, formula="RANK($close)", universe=None, model="offline"):
    """A factor of a run on a snapshot, in the library of its market."""
    request = RunRequest(direction="d", market=snapshot.market)
    universe = snapshot.universe(universe)
    run = records.create_run(request, universe=universe, snapshot=snapshot.id, seed=1, model=model)
    records.journal(run.id, "host").start()
    factor = factor_of(run, snapshot, formula)
    assert records.journal(run.id, "host").accept_factor(factor)
    return factor


def factor_of(run, snapshot, formula):
    """What a run on a snapshot may accept."""
    return Factor(
        id=factor_id(snapshot.market, parse(formula, snapshot.series)),
        market=snapshot.market,
        name="n",
        description="d",
        formula=formula,
        hypothesis="h",
        run_id=run.id,
        snapshot=snapshot.id,
        universe=run.universe,
        horizon=1,
        penalty=0.25,
        splits={"train": METRICS, "valid": METRICS},
        created_at=datetime.now(UTC),
    )


def evaluation_of(factor):
    """What somebody may have measured of a factor on the hold-out."""
    return Evaluation(
        candidate_id="",
        formula=factor.formula,
        snapshot=factor.snapshot,
        universe=factor.universe,
        horizon=factor.horizon,
        splits={"holdout": METRICS},
        evidence=EVIDENCE,
    )
