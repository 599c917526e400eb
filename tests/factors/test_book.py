"""The daily book, deciles and rank autocorrelation against plain loops; their summary by split, year and horizon."""

from datetime import date, timedelta

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from factors.evaluator import evaluate
from factors.labels import HORIZONS, forward_return, forward_returns, within
from factors.metrics import COST, daily_metrics, split_metrics
from factors.parse import parse
from tests.panels import grid_of, panel_of

DAYS, NAMES = 90, 70


@pytest.fixture(scope="module")
def measured():
    """A ragged market of 70 names and what is measured of a factor on it, as grids and as series."""
    rng = np.random.default_rng(11)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, (DAYS, NAMES)), axis=0))
    volume = np.round(np.exp(rng.normal(5, 1, (DAYS, NAMES))), -1)
    late = rng.integers(0, DAYS // 2, NAMES) * (rng.random(NAMES) < 0.4)
    absent = (np.arange(DAYS)[:, None] < late) | (rng.random((DAYS, NAMES)) < 0.05)
    close[absent], volume[absent] = np.nan, np.nan
    member = rng.random((DAYS, NAMES)) < 0.9
    suspended = rng.random((DAYS, NAMES)) < 0.05
    panel = panel_of({"close": close, "volume": volume}, member, np.zeros(NAMES, int), suspended, train_rows=60)
    values, labels = evaluate(parse("TS_MEAN($volume, 2)"), panel), forward_returns(panel)
    eligible = grid_of(np.where(panel.eligible, 1.0, 0.0), panel, NAMES, DAYS) == 1
    grids = {h: grid_of(forward_return(panel, h), panel, NAMES, DAYS) for h in HORIZONS}
    return panel, values, labels, np.where(eligible, grid_of(values, panel, NAMES, DAYS), np.nan), grids


def weights(row):
    """One unit long and one short, in proportion to the centred rank; 0 without a value."""
    known = ~np.isnan(row)
    out = np.zeros(len(row))
    out[known] = rankdata(row[known]) - (known.sum() + 1) / 2
    return 2 * out / np.abs(out).sum()


def test_long_short_turnover_and_autocorrelation_equal_plain_loops(measured):
    panel, values, labels, factor, label = measured
    series = daily_metrics(values, labels, panel)
    for t in range(2, DAYS - 2):
        today, before = weights(factor[t]), weights(factor[t - 1])
        assert series.long_short[t] == pytest.approx(np.nansum(today * label[1][t]), abs=1e-12)
        assert series.turnover[t] == pytest.approx(np.abs(today - before).sum() / 4, abs=1e-12)
        both = ~np.isnan(factor[t]) & ~np.isnan(factor[t - 1])
        ranks = [rankdata(row[~np.isnan(row)])[both[~np.isnan(row)]] for row in (factor[t], factor[t - 1])]
        assert series.autocorrelation[t] == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)
    assert np.isnan(series.turnover[:2]).all(), "there is no book before the look-back is filled"
    assert np.isnan(series.autocorrelation[:2]).all()


def test_deciles_hold_a_tenth_each_of_the_labelled_names_in_order(measured):
    panel, values, labels, factor, label = measured
    series = daily_metrics(values, labels, panel)
    for t in range(1, DAYS - 2):
        both = ~np.isnan(factor[t]) & ~np.isnan(label[1][t])
        ranks, returns = rankdata(factor[t, both]), label[1][t, both]
        bucket = np.maximum(np.ceil((ranks - 1) * 10 / (both.sum() - 1) - 1e-9), 1)
        expected = [returns[bucket == k].mean() if (bucket == k).any() else np.nan for k in range(1, 11)]
        np.testing.assert_allclose(series.deciles[t], expected, atol=1e-12)


@pytest.mark.parametrize("h", range(len(HORIZONS)))
def test_rank_ic_at_every_horizon_is_spearman_of_that_return(measured, h):
    panel, values, labels, factor, label = measured
    series = daily_metrics(values, labels, panel)
    for t in range(DAYS):
        both = ~np.isnan(factor[t]) & ~np.isnan(label[HORIZONS[h]][t])
        if both.sum() < 2:
            assert np.isnan(series.rank_ic[h, t])
        else:
            expected = spearmanr(np.round(factor[t, both], 12), label[HORIZONS[h]][t, both]).statistic
            assert series.rank_ic[h, t] == pytest.approx(expected, abs=1e-12)


def test_the_summary_averages_the_series_over_the_split(measured):
    panel, values, labels, *_ = measured
    series, found = daily_metrics(values, labels, panel), split_metrics(values, labels, panel)
    for split, metrics in found.items():
        days = slice(*within(panel, split))
        net = series.long_short[days] - 4 * COST * np.nan_to_num(series.turnover[days])
        assert metrics.long_short == pytest.approx(np.nanmean(series.long_short[days]))
        assert metrics.long_short_net == pytest.approx(np.nanmean(net))
        assert metrics.long_short_net < metrics.long_short
        assert metrics.rank_autocorrelation == pytest.approx(np.nanmean(series.autocorrelation[days]))
        assert metrics.deciles == pytest.approx(np.nanmean(series.deciles[days], axis=0))
        assert metrics.monotonicity == pytest.approx(spearmanr(range(10), metrics.deciles).statistic)
        assert [at.horizon for at in metrics.horizons] == list(HORIZONS)
        for h, at in enumerate(metrics.horizons):
            inside = slice(*within(panel, split, at.horizon))
            known = series.rank_ic[h, inside][~np.isnan(series.rank_ic[h, inside])]
            assert at.rank_ic == (pytest.approx(known.mean()) if len(known) else None)
        assert metrics.horizons[0].rank_ic == metrics.rank_ic


def test_years_are_calendar_years():
    rng = np.random.default_rng(0)
    close = np.exp(np.cumsum(rng.normal(0, 0.02, (500, 20)), axis=0))
    panel = panel_of({"close": close}, np.ones((500, 20), bool), np.zeros(20, int))
    values, labels = evaluate(parse("$close"), panel), forward_returns(panel)
    series, train = daily_metrics(values, labels, panel), split_metrics(values, labels, panel)["train"]
    assert [year.year for year in train.years] == [2015, 2016]
    first = (date(2016, 1, 1) - date(2015, 1, 1)) // timedelta(days=1)
    assert train.years[0].rank_ic == pytest.approx(series.rank_ic[0, :first].mean())
    assert train.years[0].days + train.years[1].days == train.days


def test_a_perfect_factor_is_monotone_and_its_sign_counts(measured):
    panel, _, labels, _, _ = measured
    label = forward_return(panel)
    up, down = (split_metrics(sign * label, labels, panel)["train"] for sign in (1, -1))
    assert (up.monotonicity, down.monotonicity) == (pytest.approx(1), pytest.approx(-1))
    assert up.long_short == pytest.approx(-down.long_short)
    assert up.deciles[0] < up.deciles[9]
