from datetime import date

import numpy as np
import pytest

from app.panels import load_panel
from factors.bootstrap import mean_interval
from factors.decay import half_life
from factors.evaluator import evaluate
from factors.measurement import measure, packed, unpacked
from factors.parse import parse
from factors.robustness import robustness
from factors.sharpe import minimum_track_record
from storage.markets import open_market

FORMULA = "-DECAYLINEAR($return * TS_RANK($volume, 40), 5)"


@pytest.fixture(scope="module")
def market(market_home):
    return load_panel(open_market(market_home, "small"), "synthetic200")


@pytest.fixture(scope="module")
def measured(market):
    panel, labels = market
    return measure(evaluate(parse(FORMULA), panel), labels, panel)


def look(measured, panel, rank_ic=None):
    series = measured.rank_ic if rank_ic is None else rank_ic
    return robustness(series, measured.evidence, measured.splits, panel, 1)


def test_the_interval_and_the_track_record_are_those_of_the_daily_rank_ic(market, measured):
    found, known = look(measured, market[0]), measured.rank_ic[np.isfinite(measured.rank_ic)]
    assert found.interval == mean_interval(known)
    assert found.interval[0] < known.mean() < found.interval[1]
    evidence = measured.evidence
    independent = minimum_track_record(evidence.sharpe, 0.0, evidence.skew, evidence.kurtosis)
    assert found.minimum_track_record == pytest.approx(independent * evidence.days / evidence.observations)
    assert found.minimum_track_record < len(known)
    assert found.probabilistic_sharpe > 0.999


def test_the_half_life_is_of_both_splits_by_their_days(market, measured):
    train, valid = measured.splits["train"], measured.splits["valid"]
    weight = train.days / (train.days + valid.days)
    means, errors = [], []
    for one, other in zip(train.horizons, valid.horizons, strict=True):
        means.append(weight * one.rank_ic + (1 - weight) * other.rank_ic)
        parts = weight * one.rank_ic / one.rank_t_stat, (1 - weight) * other.rank_ic / other.rank_t_stat
        errors.append(np.hypot(*parts))
    assert look(measured, market[0]).half_life == half_life([at.horizon for at in train.horizons], means, errors)


def test_each_regime_has_its_own_days(market, measured):
    panel = market[0]
    returns = np.where(panel.eligible, panel.fields["return"], np.nan)
    up = np.array([np.nansum(day) > 0 for day in returns.transpose(1, 0, 2)])
    regimes = {part.name: part for part in look(measured, panel).regimes}
    assert list(regimes) == ["market up", "market down", "high volatility", "low volatility"]
    assert regimes["market up"].rank_ic == pytest.approx(np.nanmean(measured.rank_ic[up]), abs=1e-12)
    assert regimes["market up"].days + regimes["market down"].days == measured.evidence.days
    calm, loud = regimes["low volatility"].days, regimes["high volatility"].days
    assert abs(calm - loud) < 20


def test_a_planted_break_is_dated(market, measured):
    panel = market[0]
    rows = np.arange(len(panel.dates))
    noise = np.random.default_rng(1).normal(0, 0.1, len(rows))
    broken = np.where(np.isfinite(measured.rank_ic), noise + np.where(rows < 400, 0.05, -0.05), np.nan)
    change = look(measured, panel, broken).change
    assert change.significant
    assert abs((change.day - panel.dates[400].astype(object)).days) < 30
    assert isinstance(change.day, date)
    assert change.before > 0.03
    assert change.after < -0.03
    assert not look(measured, panel, np.where(np.isfinite(measured.rank_ic), noise, np.nan)).change.significant


def test_a_factor_without_values_has_no_figures(market):
    panel, labels = market
    found = look(measure(np.full(panel.shape, np.nan), labels, panel), panel)
    assert (found.interval, found.minimum_track_record, found.half_life, found.slope, found.change) == (None,) * 5
    assert {part.rank_ic for part in found.regimes} == {None}


def test_two_bytes_keep_three_digits(measured):
    kept = unpacked(packed(measured.rank_ic))
    assert len(packed(measured.rank_ic)) == 2 * len(measured.rank_ic)
    np.testing.assert_allclose(kept, measured.rank_ic, rtol=5e-4, atol=1e-7)
