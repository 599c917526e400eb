"""The stationary bootstrap beside arch, its exact variance and the coverage of simulated truths."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from factors.bootstrap import block_length, mean_interval, positions
from tests.series import autoregression


def resampled_means(values, length, resamples, seed):
    return values[positions(len(values), length, resamples, np.random.default_rng(seed))].mean(axis=1)


def test_block_lengths_are_those_of_arch(peer):
    """All but the few where one correlation lies so near the band that its denominator decides."""
    optimal = peer("arch.bootstrap").optimal_block_length
    differing = 0
    for seed in range(40):
        for coefficient in (0, 0.3, -0.4, 0.8):
            values = autoregression(coefficient, 40 + 60 * seed, seed=seed)
            theirs = max(float(optimal(values)["stationary"].iloc[0]), 1.0)
            differing += abs(block_length(values) / theirs - 1) > 1e-9
    assert differing <= 4


def test_block_lengths_stay_within_their_bounds():
    assert block_length(np.full(50, 3.0)) == 1
    assert block_length(np.array([0.0, 1.0])) == 1
    differenced = np.diff(np.random.default_rng(0).normal(size=201))  # its mean hardly varies, whatever the block
    assert block_length(differenced) == 43
    assert block_length(1e-200 * np.arange(100.0)) >= 1


def test_resampled_means_are_distributed_as_those_of_arch(peer):
    values = autoregression(0.5, 250, seed=1)
    theirs = peer("arch.bootstrap").StationaryBootstrap(7.5, values, seed=2).apply(np.mean, 3000)
    ours = resampled_means(values, 7.5, 3000, seed=3)
    assert ks_2samp(ours, theirs[:, 0]).pvalue > 0.01


@pytest.mark.parametrize("length", [1, 3, 20])
def test_resampled_means_vary_as_they_must(length):
    """Politis and Romano 1994, lemma 1: the variance that the mean of a stationary resample has exactly."""
    values = autoregression(0.6, 120, seed=4)
    n, deviation = len(values), values - values.mean()
    exact = deviation @ deviation / n
    for lag in range(1, n):
        weight = (1 - lag / n) * (1 - 1 / length) ** lag + lag / n * (1 - 1 / length) ** (n - lag)
        exact += 2 * weight * (deviation[lag:] @ deviation[:-lag]) / n
    means = resampled_means(values, length, 40_000, seed=5)
    assert means.var() == pytest.approx(exact / n, rel=0.04)
    assert means.mean() == pytest.approx(values.mean(), abs=5 * np.sqrt(exact / n / 40_000))


def test_blocks_go_on_in_order_and_have_their_mean_length():
    drawn = positions(400, 8, 500, np.random.default_rng(6))
    assert drawn.min() == 0
    assert drawn.max() == 399
    assert drawn[:, 0].mean() == pytest.approx(200, abs=20)
    follows = (drawn[:, 1:] - drawn[:, :-1]) % 400 == 1
    assert follows.mean() == pytest.approx(7 / 8 + 1 / 8 / 400, abs=0.005)
    assert (positions(50, 1, 20, np.random.default_rng(7))[:, 1:] != 0).any()


def test_the_interval_covers_the_mean_where_independent_draws_would_not():
    times, days, resamples = 200, 400, 400
    covered, naive = 0, 0
    for values in autoregression(0.5, times, days, seed=8):
        low, high = mean_interval(values, resamples=resamples, seed=9)
        covered += low <= 0 <= high
        low, high = np.quantile(resampled_means(values, 1, resamples, seed=10), (0.025, 0.975))
        naive += low <= 0 <= high
    assert 0.88 <= covered / times <= 0.98
    assert naive / times < 0.82


def test_the_interval_of_independent_values_is_the_normal_one():
    values = np.random.default_rng(11).normal(0.3, 1, 1000)
    low, high = mean_interval(values, confidence=0.9, resamples=4000)
    width = 2 * 1.6449 * values.std() / np.sqrt(1000)
    assert high - low == pytest.approx(width, rel=0.1)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.005)


def test_the_same_seed_gives_the_same_interval():
    values = autoregression(0.2, 300, seed=12)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_it_is_drawn_in_parts(monkeypatch):
    values = autoregression(0.2, 300, seed=13)
    whole = mean_interval(values, resamples=3000)
    low, high = mean_interval(values, resamples=1)
    assert low == high
    monkeypatch.setattr("factors.bootstrap.CHUNK", 300 * 700)
    assert mean_interval(values, resamples=3000) == pytest.approx(whole, abs=0.02)


def test_no_interval_without_variation():
    assert mean_interval(np.array([])) is None
    assert mean_interval(np.array([1.0])) is None
    assert mean_interval(np.full(30, 0.2)) is None
