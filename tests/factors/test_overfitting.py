"""Overfitting by cross-validation beside a slow count of every halving, pure noise and a planted winner."""

from itertools import combinations
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from factors.overfitting import probability_of_overfitting, purged_splits


def ratio(values):
    values = values[np.isfinite(values)]
    if len(values) < 2 or np.ptp(values) < 1e-9:
        return np.nan
    return values.mean() / values.std(ddof=1)


def by_hand(scores, partitions):
    """Probability, number of halvings, slope and loss, one halving after the other."""
    parts = [list(part) for part in np.array_split(np.arange(len(scores)), partitions)]
    below, inside, outside = [], [], []
    for chosen in combinations(range(partitions), partitions // 2):
        days_in = [day for k in chosen for day in parts[k]]
        days_out = [day for k in range(partitions) if k not in chosen for day in parts[k]]
        first = [ratio(column) for column in scores[days_in].T]
        then = [ratio(column) for column in scores[days_out].T]
        if np.isnan(first).all():
            continue
        best = int(np.nanargmax(first))
        others = [one for one in then if np.isfinite(one)]
        if np.isnan(then[best]) or len(others) < 2:
            continue
        place = sum(one < then[best] for one in others) + (sum(one == then[best] for one in others) + 1) / 2
        relative = place / (len(others) + 1)
        below.append(1.0 if relative < 0.5 else 0.5 if relative == 0.5 else 0.0)
        inside.append(first[best])
        outside.append(then[best])
    slope = linregress(inside, outside).slope
    return np.mean(below), len(below), slope, np.mean(np.array(outside) <= 0)


@pytest.mark.parametrize(("days", "candidates", "partitions"), [(40, 7, 4), (96, 4, 6), (67, 9, 8), (80, 3, 2)])
def test_it_counts_what_the_slow_way_counts(days, candidates, partitions):
    for seed in range(5):
        scores = np.random.default_rng(seed).normal(0.02, 1, (days, candidates))
        found = probability_of_overfitting(scores, partitions)
        expected = by_hand(scores, partitions)
        assert (found.probability, found.combinations, found.slope, found.loss) == pytest.approx(expected, rel=1e-9)


def test_nulls_are_skipped():
    rng = np.random.default_rng(1)
    scores = rng.normal(0.05, 0.01, (48, 6))
    scores[rng.random(scores.shape) < 0.2] = np.nan
    scores[:30, 2] = np.nan  # unknown in some halves
    scores[:, 4] = 0.1  # never varies
    scores[:, 5] = np.nan
    found = probability_of_overfitting(scores, 6)
    expected = by_hand(scores, 6)
    assert expected[1] == 20
    assert (found.probability, found.combinations, found.slope, found.loss) == pytest.approx(expected, rel=1e-9)


def test_choosing_among_noise_is_worth_nothing():
    found = [probability_of_overfitting(np.random.default_rng(k).normal(size=(160, 20)), 8) for k in range(60)]
    assert np.mean([one.probability for one in found]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([one.loss for one in found]) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("candidates", [2, 3])
def test_a_rank_at_the_median_counts_half(candidates):
    found = [probability_of_overfitting(np.random.default_rng(k).normal(size=(80, candidates)), 8) for k in range(300)]
    assert np.mean([one.probability for one in found]) == pytest.approx(0.5, abs=0.04)
    same = np.repeat(np.random.default_rng(2).normal(size=(80, 1)), candidates, axis=1)
    assert probability_of_overfitting(same, 8).probability == 0.5


def test_a_candidate_that_is_better_is_found_again():
    scores = np.random.default_rng(3).normal(size=(1000, 50))
    scores[:, 17] += 0.3
    found = probability_of_overfitting(scores)
    assert found.combinations == 12_870
    assert found.probability < 0.001
    assert found.loss < 0.001


def test_who_won_by_the_first_half_alone_loses():
    """Each candidate earns in one partition and pays it back in another: the better in sample, the worse out of it."""
    scores = np.random.default_rng(4).normal(0, 0.1, (80, 8))
    for k in range(8):
        scores[10 * k : 10 * k + 10, k] += 1
        scores[10 * ((k + 4) % 8) : 10 * ((k + 4) % 8) + 10, k] -= 1
    found = probability_of_overfitting(scores, 8)
    assert found.probability > 0.9
    assert found.loss > 0.9
    assert found.slope < 0


def test_the_unit_and_the_size_of_the_mean_do_not_matter():
    scores = np.random.default_rng(5).normal(0.1, 1, (64, 6))
    found = probability_of_overfitting(scores, 8)
    for other in (scores * 1e-9, scores * np.array([1, 10, 1e3, 1e-3, 1e5, 7])):
        assert probability_of_overfitting(other, 8).model_dump() == pytest.approx(found.model_dump())


def test_parts_give_the_same_as_the_whole(monkeypatch):
    scores = np.random.default_rng(6).normal(size=(64, 6))
    found = probability_of_overfitting(scores, 8)
    monkeypatch.setattr("factors.overfitting.CHUNK", 6 * 11)
    assert probability_of_overfitting(scores, 8) == found


def test_it_needs_something_to_compare():
    noise = np.random.default_rng(7).normal(size=(32, 2))
    assert probability_of_overfitting(noise, 8) is not None
    assert probability_of_overfitting(noise[:, :1], 8) is None
    assert probability_of_overfitting(noise[:, :0], 8) is None
    assert probability_of_overfitting(noise[:7], 8) is None
    assert probability_of_overfitting(np.full((32, 3), 0.1), 8) is None
    assert probability_of_overfitting(np.full((32, 3), np.nan), 8) is None
    for partitions in (0, 1, 7, -2):
        with pytest.raises(ValueError, match="even"):
            probability_of_overfitting(noise, partitions)


def test_five_hundred_candidates_take_seconds():
    scores = np.random.default_rng(8).normal(size=(1500, 500))
    started = perf_counter()
    assert probability_of_overfitting(scores).combinations == 12_870
    assert perf_counter() - started < 15


@given(days=st.integers(2, 60), folds=st.integers(2, 8), horizon=st.integers(0, 12), embargo=st.integers(0, 10))
def test_purging_drops_what_overlaps_and_nothing_else(days, folds, horizon, embargo):
    folds = min(folds, days)
    tested = []
    for train, test in purged_splits(days, folds, horizon, embargo):
        spans = [set(range(t + 1, t + 1 + horizon + 1)) for t in test]
        kept = set(train)
        for day in range(days):
            meets = any(span & set(range(day + 1, day + 1 + horizon + 1)) for span in spans)
            barred = 0 < day - test[-1] - horizon <= embargo
            assert (day in kept) == (not meets and not barred)
        tested += test.tolist()
        assert len(test) in (days // folds, days // folds + 1)
    assert tested == list(range(days))


@pytest.mark.parametrize("wrong", [(5, 1, 1, 0), (3, 4, 1, 0), (9, 3, -1, 0), (9, 3, 1, -1)])
def test_impossible_folds_are_refused(wrong):
    with pytest.raises(ValueError, match="folds"):
        list(purged_splits(*wrong))
