"""The evidence in a measurement against another computation, day by day, and what a model may have read of it."""

import math
from datetime import date, timedelta
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import norm, spearmanr

from factors.evaluator import evaluate
from factors.labels import forward_return, forward_returns
from factors.measurement import around, measure
from factors.panel import Panel
from factors.parse import parse
from storage.markets import open_market

FORMULA = "-TS_PCTCHANGE($close, 5)"


@pytest.fixture(scope="module")
def panel(market_home):
    snapshot = open_market(market_home, "small")
    return Panel.from_bars(snapshot.bars("synthetic200"), snapshot.train_end)


@pytest.fixture(scope="module")
def measured(panel):
    """Measure a formula by the returns of so many days: ``measured(formula, horizon)``."""

    def found(formula, horizon=1):
        return measure(evaluate(parse(formula), panel), forward_returns(panel, (horizon,)), panel)

    return found


def flat(values):
    tiles, rows, lanes = values.shape
    return values.transpose(1, 0, 2).reshape(rows, tiles * lanes)


def daily_rank_ics(panel, formula, horizon):
    """``{row: rank IC}`` of the days whose labels end in their split; the end of a split is that of its dates."""
    values, close = flat(evaluate(parse(formula), panel)), flat(panel.fields["close"])
    eligible, tradable = flat(panel.eligible), flat(panel.tradable)
    carried = close.copy()
    for row in range(1, len(carried)):
        carried[row] = np.where(np.isfinite(carried[row]), carried[row], carried[row - 1])
    found = {}
    for first, stop in panel.splits.values():
        for row in range(first, stop):
            if row + 1 + horizon >= stop:
                continue
            label = carried[row + 1 + horizon] / close[row + 1] - 1
            known = eligible[row] & tradable[row + 1] & np.isfinite(label) & np.isfinite(values[row])
            if known.sum() > 1:
                found[row] = spearmanr(np.round(values[row][known], 13), label[known]).statistic
    return found


def newey_west(series, lags):
    """The t of a mean, term by term."""
    n = len(series)
    mean = math.fsum(series) / n
    centred = [value - mean for value in series]
    total = math.fsum(value * value for value in centred) / n
    plain = total
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * math.fsum(centred[k] * centred[k - lag] for k in range(lag, n)) / n
    return mean / math.sqrt(total / n), n * plain / max(plain, total)


@pytest.mark.parametrize("formula", [FORMULA, "-TS_SUM($return * TS_ZSCORE($volume, 60), 5)"])
@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_evidence_is_that_of_all_days_whose_labels_end_in_their_split(panel, measured, formula, horizon):
    found, expected = measured(formula, horizon), daily_rank_ics(panel, formula, horizon)
    series, evidence = list(expected.values()), found.evidence
    assert evidence.days == len(series) == sum(split.days for split in found.splits.values())
    assert evidence.days == panel.shape[1] - 2 * (1 + horizon) - parse(formula).look_back
    assert np.flatnonzero(~np.isnan(found.rank_ic)).tolist() == list(expected)
    assert found.rank_ic[list(expected)] == pytest.approx(np.array(series), abs=1e-6)
    lags = max(horizon - 1, int(4 * (len(series) / 100) ** (2 / 9)))
    t_stat, observations = newey_west(series, lags)
    assert evidence.t_stat == pytest.approx(t_stat, rel=1e-4)
    assert evidence.observations == pytest.approx(observations, rel=1e-4)
    assert evidence.rank_ic == pytest.approx(math.fsum(series) / len(series), abs=1e-7)
    deviation = np.std(series, ddof=1)
    assert evidence.sharpe == pytest.approx(np.mean(series) / deviation, rel=1e-4)
    centred = (np.array(series) - np.mean(series)) / np.std(series)
    assert (evidence.skew, evidence.kurtosis) == pytest.approx(((centred**3).mean(), (centred**4).mean()), abs=1e-4)


def test_the_p_value_is_of_the_sign_that_the_formula_states(measured):
    one, other = measured(FORMULA).evidence, measured("TS_PCTCHANGE($close, 5)").evidence
    assert one.t_stat == pytest.approx(-other.t_stat)
    assert one.p_value == pytest.approx(1 - NormalDist().cdf(one.t_stat))
    assert one.p_value + other.p_value == pytest.approx(1)
    assert abs(one.p_value - 0.5) > 0.1


def test_a_small_p_value_keeps_its_digits(panel):
    draw = np.random.default_rng(1)
    label = forward_return(panel)
    known = np.where(np.isfinite(label), label + draw.normal(0, 0.15, label.shape), np.nan)
    evidence = measure(known, forward_returns(panel, (1,)), panel).evidence
    assert evidence.t_stat > 9
    assert evidence.p_value == pytest.approx(norm.sf(evidence.t_stat), rel=1e-9)
    assert evidence.p_value > 0


def test_a_formula_that_ranks_nothing_has_no_evidence(measured):
    evidence = measured("$close - $close").evidence
    assert (evidence.days, evidence.t_stat, evidence.p_value, evidence.sharpe) == (0, 0.0, 1.0, 0.0)


def cutoffs(panel):
    days = panel.dates.astype(object)
    return [
        date.min,
        *(days[row] + timedelta(shift) for row in (0, 1, 2, 3, 60, 300, 651, 652, 779) for shift in (-1, 0, 1)),
        days[-1],
        date.max,
    ]


@pytest.mark.parametrize("horizon", [1, 5])
def test_a_day_is_before_the_cut_off_exactly_if_its_label_ends_by_then(panel, measured, horizon):
    rank_ic = measured(FORMULA, horizon).rank_ic
    days, known = panel.dates.astype(object), np.flatnonzero(~np.isnan(rank_ic))
    for cutoff in cutoffs(panel):
        before, after = around(rank_ic, panel.dates, cutoff, horizon)
        read = [row for row in known if days[row + 1 + horizon] <= cutoff]
        rest = [row for row in known if row not in read]
        assert (before.days, after.days) == (len(read), len(rest)), cutoff
        assert before.days + after.days == len(known)
        for part, rows in ((before, read), (after, rest)):
            assert part.rank_ic == (pytest.approx(rank_ic[rows].mean()) if rows else None)
        assert (before.name, after.name) == ("before the training cut-off", "after the training cut-off")
