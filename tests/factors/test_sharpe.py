"""Sharpe ratios beside the published examples, SciPy's moments and simulated truths."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kurtosis, norm, skew

from factors.sharpe import (
    deflated_sharpe,
    effective_observations,
    expected_maximum,
    minimum_track_record,
    moments,
    probabilistic_sharpe,
)
from factors.significance import long_run_variance, newey_west_t
from tests.series import autoregression

DAYS = 250  # a year, in the papers


def test_the_published_deflated_ratio():
    """Bailey and Lopez de Prado 2014: an annual 2.5 over five years, the best of 100 trials."""
    sharpe, variance = 2.5 / math.sqrt(DAYS), 0.5 / DAYS
    assert math.sqrt(variance) * expected_maximum(100) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(sharpe, 1250, -3, 10, 100, variance) == pytest.approx(0.9004, abs=5e-5)


def test_the_published_number_of_trials_that_leaves_it_significant():
    """The same paper: with normal returns 95 % would be left after 88 trials, and with these after 46."""
    sharpe, variance = 2.5 / math.sqrt(DAYS), 0.5 / DAYS
    assert deflated_sharpe(sharpe, 1250, -3, 10, 46, variance) == pytest.approx(0.9505, abs=5e-5)
    assert deflated_sharpe(sharpe, 1250, 0, 3, 88, variance) == pytest.approx(0.9505, abs=5e-5)


def test_the_published_probabilities():
    """Bailey and Lopez de Prado 2012: 24 months at 0.458, and years of record to tell an annual 2 from 1."""
    assert probabilistic_sharpe(0.458, 0, 24, -2.448, 10.164) == pytest.approx(0.913, abs=5e-4)
    assert probabilistic_sharpe(0.458, 0, 24, 0, 3) == pytest.approx(0.982, abs=5e-4)
    for a_year, skewness, fatness, years in (
        (250, 0, 3, 2.73),
        (52, 0, 3, 2.83),
        (12, 0, 3, 3.24),
        (12, -0.72, 5.78, 4.99),
    ):
        sharpe, benchmark = 2 / math.sqrt(a_year), 1 / math.sqrt(a_year)
        assert minimum_track_record(sharpe, benchmark, skewness, fatness) / a_year == pytest.approx(years, abs=5e-3)


@given(
    sharpe=st.floats(-0.5, 0.5),
    below=st.floats(0.01, 1),
    skewness=st.floats(-5, 5),
    more=st.floats(0, 20),
    confidence=st.floats(0.51, 0.999),
)
def test_a_track_record_of_the_least_length_has_the_confidence(sharpe, below, skewness, more, confidence):
    fatness = 1 + skewness**2 + more
    n = minimum_track_record(sharpe, sharpe - below, skewness, fatness, confidence)
    assert probabilistic_sharpe(sharpe, sharpe - below, n, skewness, fatness) == pytest.approx(confidence, rel=1e-6)


def test_no_track_record_shows_what_is_not_there():
    assert minimum_track_record(0.1, 0.1, 0, 3) == math.inf
    assert minimum_track_record(0.05, 0.1, 0, 3) == math.inf
    assert probabilistic_sharpe(0.1, 0, 1, 0, 3) == 0.5
    assert probabilistic_sharpe(1, 0, 50, 2, 5) == 1  # these moments leave no error at all


def test_expected_maximum_of_noise():
    """Against the mean of simulated maxima, and exactly: the integral of x over the density of the largest."""
    draws = np.random.default_rng(0).normal(size=(4000, 100)).max(axis=1)
    assert expected_maximum(100) == pytest.approx(draws.mean(), rel=0.02)
    assert [expected_maximum(trials) for trials in (0, 1, 1.9)] == [0, 0, 0]
    x = np.linspace(-9, 9, 200_001)
    for trials in (5, 50, 1000, 100_000):
        exact = np.trapezoid(x * trials * norm.pdf(x) * norm.cdf(x) ** (trials - 1), x)
        assert expected_maximum(trials) == pytest.approx(exact, rel=0.03)


def test_deflation_is_calibrated():
    """The best of 20 skill-less normal series passes at 95 % in some 5 % of the cases, without deflation in most."""
    days, trials, times = 500, 20, 400
    values = np.random.default_rng(1).normal(size=(times, trials, days))
    ratios = values.mean(axis=2) / values.std(axis=2, ddof=1)
    best = ratios.argmax(axis=1)
    deflated, plain = 0, 0
    for one, at, variance in zip(values, best, ratios.var(axis=1, ddof=1), strict=True):
        found = moments(one[at])
        deflated += deflated_sharpe(found.sharpe, days, found.skew, found.kurtosis, trials, variance) > 0.95
        plain += probabilistic_sharpe(found.sharpe, 0, days, found.skew, found.kurtosis) > 0.95
    assert deflated / times < 0.06
    assert plain / times > 0.5


def test_moments_are_those_of_scipy():
    values = np.random.default_rng(2).gamma(2.0, size=300) - 1.5
    found = moments(values)
    expected = (300, values.mean(), values.std(ddof=1), skew(values), kurtosis(values, fisher=False))
    assert (found.n, found.mean, found.deviation, found.skew, found.kurtosis) == pytest.approx(expected, rel=1e-12)
    assert found.sharpe == pytest.approx(values.mean() / values.std(ddof=1))
    small = moments(values * 1e-150)
    assert (small.sharpe, small.skew, small.kurtosis) == pytest.approx((found.sharpe, found.skew, found.kurtosis))


def test_moments_need_variation():
    assert moments(np.array([])) is None
    assert moments(np.array([1.0])) is None
    assert moments(np.full(9, 0.1)) is None


def test_correlated_values_count_for_fewer():
    """An AR(1) series of coefficient c is worth (1 - c) / (1 + c) of its length."""
    for coefficient in (0, 0.3, 0.6):
        series = autoregression(coefficient, 200, 2000, seed=3)
        worth = np.mean([effective_observations(one, 40) for one in series]) / 2000
        assert worth == pytest.approx((1 - coefficient) / (1 + coefficient), abs=0.06)
    assert effective_observations(autoregression(-0.5, 500, seed=4), 5) == 500
    assert effective_observations(np.full(7, 2.0), 3) == 7
    assert effective_observations(np.array([]), 3) == 0


def test_the_effective_number_turns_the_plain_t_into_newey_west_s():
    values = 0.1 + autoregression(0.4, 700, seed=5)
    plain = values.mean() / math.sqrt(long_run_variance(values, 0))
    assert plain * math.sqrt(effective_observations(values, 8)) == pytest.approx(newey_west_t(values, 8))
