"""Decay beside NumPy's and statsmodels' least squares, planted half-lives and changes, and simulated noise."""

from random import Random

import numpy as np
import pytest
from scipy.optimize import curve_fit

from factors.decay import change_point, half_life, regimes, slope_test, yearly_slope
from factors.evaluation import YearMetrics
from factors.significance import newey_west_lags, newey_west_t
from tests.series import autoregression

HORIZONS = (1, 2, 5, 10, 20)


def years(*points):
    return [YearMetrics(year=year, days=days, ic=0.0, rank_ic=rank_ic) for year, days, rank_ic in points]


def test_it_is_the_slope_of_the_weighted_line():
    draw = Random(1)
    for _ in range(20):
        points = [(2010 + n, draw.randint(1, 252), draw.gauss(0.02, 0.02)) for n in range(draw.randint(2, 12))]
        at, days, rank_ic = map(np.array, zip(*points, strict=True))
        slope, _ = np.polyfit(at - 2010, rank_ic, 1, w=np.sqrt(days))
        assert yearly_slope(years(*points)) == pytest.approx(slope, rel=1e-9, abs=1e-12)


def test_it_needs_two_years_that_are_known():
    assert yearly_slope([]) is None
    assert yearly_slope(years((2010, 250, 0.1))) is None
    assert yearly_slope(years((2010, 250, 0.1), (2010, 20, 0.2))) is None
    assert yearly_slope(years((2010, 250, 0.1), (2011, 250, None), (2012, 0, 0.5))) is None
    assert yearly_slope(years((2010, 250, 0.1), (2012, 250, 0.0))) == pytest.approx(-0.05)


def test_the_slope_s_t_and_p_are_those_of_statsmodels(peer):
    models, draw = peer("statsmodels.api"), Random(2)
    for _ in range(20):
        points = [
            (2010 + n, draw.randint(1, 252), draw.gauss(0.02 - 0.001 * n, 0.02)) for n in range(draw.randint(3, 9))
        ]
        at, days, rank_ic = map(np.array, zip(*points, strict=True))
        fit = models.WLS(rank_ic, models.add_constant(at - 2010.0), weights=days).fit()
        found = slope_test(years(*points))
        expected = fit.params[1], fit.tvalues[1], fit.pvalues[1]
        assert (found.slope, found.t_stat, found.p_value) == pytest.approx(expected, rel=1e-9)


def test_the_slope_s_p_is_uniform_without_a_slope():
    draw = Random(3)
    p_values = [
        slope_test(years(*[(year, 250, draw.gauss(0, 0.01)) for year in range(6)])).p_value for _ in range(1000)
    ]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.03)


def test_a_slope_is_tested_with_three_points_that_scatter():
    assert slope_test([]) is None
    assert slope_test(years((2010, 250, 0.1), (2011, 250, 0.2))) is None
    assert slope_test(years((2010, 250, 0.1), (2010, 20, 0.2), (2010, 30, 0.1))) is None
    assert slope_test(years((2010, 250, 0.1), (2011, 250, 0.2), (2012, 250, 0.3))) is None
    assert slope_test(years((2010, 250, 0.0), (2011, 250, 0.0), (2012, 250, 0.0))) is None
    assert slope_test(years((2010, 250, 0.1), (2011, 250, 0.2), (2012, 250, 0.2))) is not None


def decaying(days, initial=0.03):
    return initial * 0.5 ** (np.array(HORIZONS) / days)


@pytest.mark.parametrize("days", [0.5, 1, 4, 30, 300])
@pytest.mark.parametrize("initial", [0.03, -0.03])
def test_a_half_life_without_noise_is_found(days, initial):
    found = half_life(HORIZONS, decaying(days, initial), [1e-4] * 5)
    assert found.days == pytest.approx(days, rel=1e-4)
    assert found.initial == pytest.approx(initial, rel=1e-4)


def test_half_lives_are_those_of_a_nonlinear_fit():
    """SciPy's curve_fit finds the same optimum; its interval is the profile's where errors are small."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        errors = rng.uniform(0.0002, 0.0006, 5)
        rank_ics = decaying(4) + errors * rng.normal(size=5)
        (initial, log_days), covariance = curve_fit(
            lambda h, a, b: a * 0.5 ** (h / np.exp(b)), HORIZONS, rank_ics, (0.03, 1), errors, absolute_sigma=True
        )
        found = half_life(HORIZONS, rank_ics, errors)
        assert (found.days, found.initial) == pytest.approx((np.exp(log_days), initial), rel=1e-4)
        half = 1.96 * np.sqrt(covariance[1, 1])
        assert (np.log(found.low), np.log(found.high)) == pytest.approx(
            (log_days - half, log_days + half), abs=0.2 * half
        )


@pytest.mark.parametrize("days", [1, 3, 8, 20])
def test_the_half_life_s_interval_covers_it(days):
    rng, covered, fitted = np.random.default_rng(5), 0, 0
    for _ in range(200):
        found = half_life(HORIZONS, decaying(days) + 0.003 * rng.normal(size=5), [0.003] * 5)
        if found:
            fitted += 1
            covered += (found.low or 0) <= days <= (found.high or np.inf)
    assert fitted > 180
    assert 0.9 <= covered / fitted <= 0.99


def test_noise_has_no_half_life():
    rng = np.random.default_rng(6)
    found = [half_life(HORIZONS, 0.003 * rng.normal(size=5), [0.003] * 5) for _ in range(500)]
    assert sum(one is not None for one in found) / 500 < 0.05


@pytest.mark.parametrize(
    "rank_ics",
    [
        [0.01, 0.012, 0.02, 0.03, 0.04],  # rises
        [0.02, 0.02, 0.02, 0.02, 0.02],  # stays
        [0.03, 0.02, 0.01, -0.01, -0.02],  # turns
        [0.03, 0.0, 0.0, 0.0, 0.0],  # gone before any horizon could show how
        [0.0, 0.0, 0.0, 0.0, 0.0],
    ],
)
def test_what_does_not_decay_has_no_half_life(rank_ics):
    assert half_life(HORIZONS, rank_ics, [0.001] * 5) is None


def test_a_half_life_that_may_last_for_ever_has_no_upper_end():
    found = half_life(HORIZONS, [0.03, 0.029, 0.028, 0.027, 0.026], [0.004] * 5)
    assert found.high is None
    assert 0.1 < found.low < found.days < 1000


def test_half_lives_need_three_horizons_and_errors():
    assert half_life((1, 2), (0.02, 0.01), (0.001, 0.001)) is None
    for wrong in ((0.001, 0.001, 0.0), (0.001, 0.001), (0.001, 0.001, np.nan)):
        with pytest.raises(ValueError, match="error above 0"):
            half_life((1, 2, 5), (0.03, 0.02, 0.01), wrong)


def test_noise_changes_at_five_percent():
    """The size of the test; a little more where values are correlated, as for any such variance in samples."""
    for coefficient, most in ((0.0, 0.075), (0.3, 0.1)):
        found = [change_point(values).significant for values in autoregression(coefficient, 1000, 750, seed=7)]
        assert 0.03 < np.mean(found) < most


def test_without_regard_to_correlation_noise_would_change_often():
    passed = 0
    for values in autoregression(0.5, 300, 750, seed=8):
        inflation = newey_west_t(values, 0) / newey_west_t(values, newey_west_lags(750, 1))
        passed += change_point(values).statistic * inflation**2 > 8.85
    assert passed / 300 > 0.25


def test_a_planted_change_is_found():
    values = autoregression(0.2, 200, 1000, seed=9) * 0.1
    values[:, 400:] -= 0.05
    found = [change_point(one) for one in values]
    assert np.mean([one.significant for one in found]) > 0.9
    assert np.median([abs(one.day - 400) for one in found]) < 25
    for one, series in zip(found, values, strict=True):
        assert (one.before, one.after) == pytest.approx((series[: one.day].mean(), series[one.day :].mean()))


def test_a_clean_step_is_found_to_the_day():
    found = change_point(np.repeat([0.03, -0.01], [70, 130]))
    assert (found.day, found.significant) == (70, True)
    assert (found.before, found.after) == pytest.approx((0.03, -0.01))


def test_the_statistic_is_the_squared_t_of_the_difference():
    """Day by day with plain means, and the variance that turns the plain t into Newey and West's."""
    values = autoregression(0.3, 200, seed=10)
    n, t = len(values), newey_west_t(values, newey_west_lags(200, 5))
    variance = n * (values.mean() / t) ** 2
    best = max(
        ((values[:day].mean() - values[day:].mean()) ** 2 / (variance / day + variance / (n - day)), day)
        for day in range(30, 171)
    )
    found = change_point(values, horizon=5)
    assert (found.statistic, found.day) == pytest.approx(best, rel=1e-9)


def test_changes_are_not_looked_for_at_the_ends_or_in_too_few_days():
    values = np.random.default_rng(11).normal(size=200)
    values[190:] += 20
    assert change_point(values).day <= 170
    values = np.random.default_rng(11).normal(size=200)
    values[:10] += 20
    assert change_point(values).day >= 30
    assert change_point(np.arange(19.0)) is None
    assert change_point(np.arange(20.0)) is not None
    assert change_point(np.full(50, 0.3)) is None


def test_regimes_are_as_counted_by_hand():
    returns = np.random.default_rng(12).standard_t(3, 300) * 0.01
    returns[[5, 40, 41, 200]] = np.nan
    returns[[7, 100]] = 0
    masks = regimes(returns)
    volatility = {}
    for day in range(300):
        past = [one for one in returns[: day + 1] if np.isfinite(one)]
        if np.isfinite(returns[day]) and len(past) >= 20:
            volatility[day] = np.std(past[-20:], ddof=1)
    middle = np.median(list(volatility.values()))
    for day in range(300):
        assert masks["market_up"][day] == (returns[day] > 0)
        assert masks["market_down"][day] == (returns[day] < 0)
        assert masks["high_volatility"][day] == (day in volatility and volatility[day] > middle)
        assert masks["low_volatility"][day] == (day in volatility and volatility[day] <= middle)
    assert masks["high_volatility"].sum() == masks["low_volatility"].sum() or len(volatility) % 2


def test_a_day_s_regime_is_told_by_what_is_known_on_it():
    returns = np.random.default_rng(13).normal(size=120)
    later = returns.copy()
    later[60:] *= 50
    for name in ("market_up", "market_down"):
        assert (regimes(later)[name][:60] == regimes(returns)[name][:60]).all()
    assert regimes(later)["high_volatility"][:60].sum() == 0


def test_few_or_no_returns_have_no_volatility():
    for returns in (np.array([]), np.full(30, np.nan), np.linspace(-1, 1, 19)):
        masks = regimes(returns)
        assert not masks["high_volatility"].any()
        assert not masks["low_volatility"].any()
        assert masks["market_up"].sum() == (returns > 0).sum()
