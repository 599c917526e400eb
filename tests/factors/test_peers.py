"""Operators and metrics against other projects' implementations: pandas, SciPy, TA-Lib and alphalens."""

import warnings
from functools import cache

import numpy as np
import pytest
from scipy import stats

from factors.evaluator import evaluate
from factors.labels import forward_returns, ranked_labels
from factors.metrics import daily_metrics
from factors.parse import parse
from tests.panels import grid_of, panel_of
from tests.reference import DAYS, INSTRUMENTS, sample_fields

PANDAS = {
    "TS_SUM($close, {d})": lambda close, _: close.sum(),
    "TS_MEAN($close, {d})": lambda close, _: close.mean(),
    "TS_STD($close, {d})": lambda close, _: close.std(),
    "TS_VAR($close, {d})": lambda close, _: close.var(),
    "TS_MIN($close, {d})": lambda close, _: close.min(),
    "TS_MAX($close, {d})": lambda close, _: close.max(),
    "TS_MEDIAN($close, {d})": lambda close, _: close.median(),
    "TS_QUANTILE($close, {d}, 0.3)": lambda close, _: close.quantile(0.3),
    "TS_SKEW($close, {d})": lambda close, _: close.skew(),
    "TS_KURT($close, {d})": lambda close, _: close.kurt(),
    "TS_RANK($close, {d})": lambda close, _: close.rank(pct=True),
    "TS_CORR($close, $volume, {d})": lambda close, volume: close.corr(volume),
    "TS_COV($close, $volume, {d})": lambda close, volume: close.cov(volume),
}
# pandas updates its moments as a window moves on: what a constant window leaves of the values before it.
RESIDUE = {"constant": 1e-7}


@cache
def market(kind):
    """Fields, first rows and the panel of one sample market."""
    fields, member, sector, first_row = sample_fields(np.random.default_rng(11), kind)
    return fields, first_row, panel_of(fields, member, sector)


def ours(formula, panel):
    return grid_of(evaluate(parse(formula), panel), panel, INSTRUMENTS, DAYS)


def masked(values, formula, fields, first_row):
    """Another's values with our mask: null without a bar or before the look-back is filled."""
    bar = np.any([~np.isnan(grid) for grid in fields.values()], axis=0)
    seasoned = np.arange(DAYS)[:, None] - first_row >= parse(formula).look_back
    return np.where(bar & seasoned & np.isfinite(values), values, np.nan)


@pytest.mark.parametrize("kind", ["complete", "ragged", "suspended", "sparse", "ties", "constant"])
@pytest.mark.parametrize("formula", PANDAS)
def test_rolling_statistics_are_those_of_pandas(peer, formula, kind):
    pandas = peer("pandas")
    fields, first_row, panel = market(kind)
    close, volume = pandas.DataFrame(fields["close"]), pandas.DataFrame(fields["volume"])
    for d in (2, 7, 30):
        expected = PANDAS[formula](close.rolling(d, min_periods=1), volume).to_numpy()
        expected = masked(expected, formula.format(d=d), fields, first_row)
        actual = ours(formula.format(d=d), panel)
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=RESIDUE.get(kind, 1e-9))


FADING = {
    "EMA($close, 2)": {"span": 2},
    "EMA($close, 20)": {"span": 20},
    "SMA($close, 14, 1)": {"alpha": 1 / 14},
    "SMA($close, 5, 2)": {"alpha": 2 / 5},
}


@pytest.mark.parametrize("kind", ["complete", "ragged", "suspended", "sparse", "constant"])
@pytest.mark.parametrize("formula", FADING)
def test_fading_means_are_those_of_pandas(peer, formula, kind):
    """Nulls too: their day passes, and the last mean stays."""
    fields, first_row, panel = market(kind)
    expected = peer("pandas").DataFrame(fields["close"]).ewm(**FADING[formula], adjust=True).mean().to_numpy()
    np.testing.assert_allclose(ours(formula, panel), masked(expected, formula, fields, first_row), rtol=1e-12)


@pytest.mark.parametrize(
    ("formula", "statistic"),
    [
        ("RANK($close)", lambda x: stats.rankdata(x) / len(x)),
        ("ZSCORE($close)", lambda x: stats.zscore(x, ddof=1)),
        ("SCALE($close)", lambda x: x / np.abs(x).sum()),
        ("DEMEAN($close)", lambda x: x - np.mean(x)),
        ("MEDIAN($close)", lambda x: np.full(len(x), np.median(x))),
        ("WINSORIZE($close, 0.1)", lambda x: np.clip(x, *np.quantile(x, [0.1, 0.9]))),
    ],
)
@pytest.mark.parametrize("kind", ["complete", "ragged", "ties"])
def test_a_day_is_ranked_and_scaled_as_by_scipy(formula, statistic, kind):
    fields, member, sector, _ = sample_fields(np.random.default_rng(12), kind)
    actual = ours(formula, panel_of(fields, member, sector))
    expected = np.full((DAYS, INSTRUMENTS), np.nan)
    for t in range(DAYS):
        seen = member[t] & ~np.isnan(fields["close"][t])
        if seen.any():
            expected[t, seen] = statistic(fields["close"][t, seen])
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["complete", "ties", "suspended"])
def test_shape_and_regression_are_scipy_s(kind):
    fields, _, panel = market(kind)
    d = 9
    formulas = {
        "skew": f"TS_SKEW($close, {d})",
        "kurt": f"TS_KURT($close, {d})",
        "slope": f"REGBETA($close, $volume, {d})",
        "residual": f"REGRESI($close, $volume, {d})",
        "r squared": f"REGRSQ($close, $volume, {d})",
    }
    actual = {name: ours(formula, panel) for name, formula in formulas.items()}
    checked = 0
    for lane in range(INSTRUMENTS):
        for t in range(d - 1, DAYS):
            y, x = (fields[name][t - d + 1 : t + 1, lane] for name in ("close", "volume"))
            known = ~np.isnan(y)
            if not known[-1] or known.sum() < 4 or np.ptp(y[known]) == 0 or np.ptp(x[known]) == 0:
                continue
            line = stats.linregress(x[known], y[known])
            expected = {
                "skew": stats.skew(y[known], bias=False),
                "kurt": stats.kurtosis(y[known], bias=False),
                "slope": line.slope,
                "residual": y[-1] - line.intercept - line.slope * x[-1],
                "r squared": line.rvalue**2,
            }
            if np.isnan(actual["skew"][t, lane]):
                continue  # the look-back is not filled
            for name, value in expected.items():
                assert actual[name][t, lane] == pytest.approx(value, rel=1e-9, abs=1e-12), name
            checked += 1
    assert checked > 700


@pytest.mark.parametrize("kind", ["complete", "ties"])
def test_the_daily_rank_ic_is_spearman_s(kind):
    fields, member, sector, _ = sample_fields(np.random.default_rng(13), kind)
    panel = panel_of(fields, np.ones_like(member), sector)
    value, label = (evaluate(parse(formula), panel) for formula in ("$close / $open", "$volume / $high"))
    series = daily_metrics(value, ranked_labels(panel, {1: label}), panel)
    rows = zip(grid_of(value, panel, INSTRUMENTS, DAYS), grid_of(label, panel, INSTRUMENTS, DAYS), strict=True)
    for t, (x, y) in enumerate(rows):
        assert series.ic[0, t] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
        assert series.rank_ic[0, t] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


# TA-Lib's deviations divide by d; ours by d - 1.
TALIB = {
    "TS_SUM($close, {d})": lambda ta, bar, d: ta.SUM(bar["close"], d),
    "TS_MEAN($close, {d})": lambda ta, bar, d: ta.SMA(bar["close"], d),
    "TS_MAX($close, {d})": lambda ta, bar, d: ta.MAX(bar["close"], d),
    "TS_MIN($close, {d})": lambda ta, bar, d: ta.MIN(bar["close"], d),
    "TS_STD($close, {d})": lambda ta, bar, d: ta.STDDEV(bar["close"], d) * np.sqrt(d / (d - 1)),
    "TS_CORR($close, $volume, {d})": lambda ta, bar, d: ta.CORREL(bar["close"], bar["volume"], d),
    "DECAYLINEAR($close, {d})": lambda ta, bar, d: ta.WMA(bar["close"], d),
    "TS_PCTCHANGE($close, {d})": lambda ta, bar, d: ta.ROCP(bar["close"], d),
    "DELTA($close, {d})": lambda ta, bar, d: ta.MOM(bar["close"], d),
    "REGBETA($close, SEQUENCE({d}), {d})": lambda ta, bar, d: ta.LINEARREG_SLOPE(bar["close"], d),
    "$close - REGRESI($close, SEQUENCE({d}), {d})": lambda ta, bar, d: ta.LINEARREG(bar["close"], d),
    "BB_UPPER($close, {d})": lambda ta, bar, d: ta.BBANDS(bar["close"], d, *[2 * np.sqrt(d / (d - 1))] * 2)[0],
    "BB_MIDDLE($close, {d})": lambda ta, bar, d: ta.BBANDS(bar["close"], d)[1],
    "BB_LOWER($close, {d})": lambda ta, bar, d: ta.BBANDS(bar["close"], d, *[2 * np.sqrt(d / (d - 1))] * 2)[2],
    # A level depends on where the data begin; ours is what it gains over the window.
    "OBV($close, $volume, {d})": lambda ta, bar, d: gained(ta.OBV(bar["close"], bar["volume"]), d),
}


def gained(level, d):
    out = np.full(len(level), np.nan)
    out[d:] = level[d:] - level[:-d]
    return out


@pytest.mark.parametrize("formula", TALIB)
def test_windows_are_ta_lib_s(peer, formula):
    talib = peer("talib")
    fields, _, panel = market("complete")
    for d in (2, 7, 30):
        actual = ours(formula.format(d=d), panel)
        for lane in range(INSTRUMENTS):
            bar = {name: np.ascontiguousarray(grid[:, lane]) for name, grid in fields.items()}
            # Its running sums lose a few digits where a correlation is close to 1.
            np.testing.assert_allclose(actual[:, lane], TALIB[formula](talib, bar, d), rtol=1e-9, atol=1e-8)


# TA-Lib starts an average with the plain mean of the first d rows, ours weighs them from the first. The share of a row
# that is left after another.
SEEDED = {
    "EMA($close, 14)": (lambda ta, bar: ta.EMA(bar["close"], 14), 1 - 2 / 15),
    "MACD($close, 12, 26)": (lambda ta, bar: ta.MACD(bar["close"], 12, 26, 9)[0], 1 - 2 / 27),
    "RSI($close, 14)": (lambda ta, bar: ta.RSI(bar["close"], 14), 1 - 1 / 14),
    "ATR($high, $low, $close, 14)": (lambda ta, bar: ta.ATR(bar["high"], bar["low"], bar["close"], 14), 1 - 1 / 14),
}


@pytest.mark.parametrize("formula", SEEDED)
def test_indicators_are_ta_lib_s_once_the_seed_has_faded(peer, formula):
    """They differ by 0.2 in a first EMA of prices near 20, by 3 points in an RSI; then less by a constant factor."""
    days, rng = 600, np.random.default_rng(5)
    close = 20 * np.exp(rng.normal(0, 0.02, days).cumsum())
    start = close * np.exp(rng.normal(0, 0.01, days))
    high, low = np.maximum(start, close) * 1.003, np.minimum(start, close) * 0.996
    bar = {"open": start, "high": high, "low": low, "close": close, "volume": np.ones(days)}
    panel = panel_of({name: values[:, None] for name, values in bar.items()}, np.ones((days, 1), bool), np.zeros(1))
    indicator, left = SEEDED[formula]
    theirs = indicator(peer("talib"), bar)
    difference = np.abs(grid_of(evaluate(parse(formula), panel), panel, 1, days)[:, 0] - theirs)
    first = np.flatnonzero(np.isfinite(difference))[0]
    assert np.isfinite(difference[first:]).all()
    assert difference[first] > 1e-3
    faded = difference[first : first + 14].max() * left ** np.arange(days - first)
    assert (difference[first:] <= 10 * faded + 1e-11).all()
    assert difference[first + 350 :].max() < 1e-8


def test_decile_returns_are_alphalens(peer):
    """Mean return by quantile and day, the label's prices a day late as ours are; without ties, which qcut refuses."""
    pd, rng = peer("pandas"), np.random.default_rng(21)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        peer("alphalens")
        from alphalens.performance import factor_rank_autocorrelation, mean_return_by_quantile  # noqa: PLC0415
        from alphalens.utils import get_clean_factor_and_forward_returns  # noqa: PLC0415
    days, names = 60, 67
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, (days, names)), axis=0))
    factor = rng.normal(size=(days, names)).cumsum(axis=0)
    fields = {"close": close, "signal": factor}
    panel = panel_of(fields, np.ones((days, names), bool), np.zeros(names, int))
    values = evaluate(parse("$signal", ("close", "signal")), panel)
    series = daily_metrics(values, forward_returns(panel, (1,)), panel)
    index = pd.date_range("2015-01-01", periods=days, name="date")
    prices = pd.DataFrame(close, index=index).shift(-1)
    stacked = pd.DataFrame(factor, index=index).stack()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas about how alphalens calls it
        clean = get_clean_factor_and_forward_returns(stacked, prices, quantiles=10, periods=(1,), max_loss=1)
        means, _ = mean_return_by_quantile(clean, by_date=True, demeaned=False)
        persistence = factor_rank_autocorrelation(clean)
    theirs = means["1D"].unstack("factor_quantile").reindex(index).to_numpy()
    labelled = days - 2  # alphalens carries the last price on for a day
    np.testing.assert_allclose(series.deciles[:labelled], theirs[:labelled], atol=1e-12)
    theirs = persistence.reindex(index).to_numpy()[1 : days - 2]
    np.testing.assert_allclose(series.autocorrelation[1 : days - 2], theirs, atol=1e-12)
