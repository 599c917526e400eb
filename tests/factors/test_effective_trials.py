"""Clusters of trials beside planted ones, a slow search for the best silhouette, and the correlations' spectrum."""

from time import perf_counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from factors.effective_trials import APART, _correlation, cluster, effective_number


def planted(sizes, correlation, days, seed, common=0.0):
    """Series of blocks that correlate within and, by ``common``, between, shuffled, of random sign; their blocks."""
    rng = np.random.default_rng(seed)
    market = rng.normal(size=days)
    blocks = [
        np.sqrt(common) * market
        + np.sqrt(correlation - common) * rng.normal(size=days)
        + np.sqrt(1 - correlation) * rng.normal(size=(size, days))
        for size in sizes
    ]
    order = rng.permutation(sum(sizes))
    series = np.concatenate(blocks) * rng.choice([-1, 1], sum(sizes))[:, None]
    return series[order], np.repeat(np.arange(len(sizes)), sizes)[order]


def same_partition(one, other):
    pairs = set(zip(one.tolist(), other.tolist(), strict=True))
    return len(pairs) == len(set(one.tolist())) == len(set(other.tolist()))


def participation(series):
    """Participation ratio of the correlations' eigenvalues: their sum squared over the sum of their squares."""
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(series))
    return eigenvalues.sum() ** 2 / (eigenvalues**2).sum()


def width(distance, labels):
    """Mean silhouette of a partition, one series after the other."""
    total = 0.0
    for i, own in enumerate(labels):
        mates = [distance[i, j] for j in range(len(labels)) if labels[j] == own and j != i]
        if not mates:
            continue
        others = [np.mean(distance[i, labels == label]) for label in set(labels) - {own}]
        inside, outside = np.mean(mates), min([APART, *others])
        total += (outside - inside) / max(inside, outside)
    return total / len(labels)


@pytest.mark.parametrize(
    ("sizes", "correlation", "common"),
    [
        ([10] * 5, 0.8, 0.0),
        ([10] * 5, 0.6, 0.0),
        ([30], 0.6, 0.0),
        ([30, 15, 8, 4, 2, 2, 1, 1, 1, 1], 0.75, 0.0),
        ([8, 8, *[1] * 30], 0.75, 0.0),
        ([3] * 10, 0.8, 0.3),
        ([10] * 4, 0.9, 0.6),  # families of a family
        ([1] * 40, 0.9, 0.0),
        ([2], 0.8, 0.0),
        ([1, 1], 0.8, 0.0),
    ],
)
def test_planted_blocks_are_found(sizes, correlation, common):
    for seed in range(5):
        series, blocks = planted(sizes, correlation, 500, seed, common)
        assert same_partition(cluster(series), blocks)
        assert effective_number(series) == len(sizes)


def test_copies_of_one_series_are_one_trial():
    series = np.random.default_rng(1).normal(0.02, 0.1, 300)
    signs = np.array([1, -1, 1, 1, -1, 1, -3, 0.001])
    assert effective_number(signs[:, None] * series) == 1
    assert effective_number(np.tile(series, (50, 1))) == 1
    twins = np.repeat(np.random.default_rng(2).normal(size=(6, 200)), 3, axis=0)
    assert cluster(twins).tolist() == np.repeat(np.arange(6), 3).tolist()


def test_noise_is_as_many_trials_as_there_are():
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(size=(150, 120))
        assert effective_number(noise) == 150


def test_what_moves_together_by_less_than_half_is_not_one_bet():
    assert effective_number(planted([20], 0.3, 800, seed=3)[0]) == 20


def test_the_spectrum_agrees_where_it_is_clear():
    for sizes in ([8] * 6, [12] * 3, [1] * 12, [15]):
        series, _ = planted(sizes, 0.97, 1500, seed=4)
        assert participation(series) == pytest.approx(effective_number(series), rel=0.1)


def test_nulls_are_left_out_pair_by_pair():
    series, blocks = planted([6, 5, 4], 0.85, 400, seed=5)
    series[np.random.default_rng(6).random(series.shape) < 0.3] = np.nan
    series[0, :200], series[1, 200:] = np.nan, np.nan  # no common day
    assert same_partition(cluster(series), blocks)


def test_correlations_are_those_of_pandas(peer):
    series, _ = planted([4, 3, 2], 0.7, 60, seed=17)
    series = 5 + 2 * series + np.linspace(0, 8, 60)
    series[np.random.default_rng(18).random(series.shape) < 0.4] = np.nan
    theirs = peer("pandas").DataFrame(series.T).corr(min_periods=20).fillna(0.0).to_numpy()
    assert 0 < (theirs == 0).sum() < theirs.size / 2  # some share fewer than 20 days
    np.testing.assert_allclose(_correlation(series), theirs, atol=1e-12)


def test_series_without_a_common_past_or_variation_stand_alone():
    series = np.tile(np.random.default_rng(7).normal(size=97), (6, 1))
    series[1, :80] = np.nan  # 17 days
    series[2:4] = 0.1
    series[4] = np.nan
    assert cluster(series).tolist() == [0, 1, 2, 3, 4, 0]


def test_few_trials():
    assert cluster(np.empty((0, 10))).tolist() == []
    assert effective_number(np.empty((0, 10))) == 0
    assert effective_number(np.ones((1, 10))) == 1
    assert effective_number(np.empty((3, 0))) == 3


@given(st.integers(2, 14), st.floats(0, 1), st.integers(0, 10_000))
def test_no_partition_of_the_tree_has_a_larger_silhouette(n, strength, seed):
    rng = np.random.default_rng(seed)
    series = strength * rng.normal(size=(3, 40))[rng.integers(3, size=n)] + rng.normal(size=(n, 40))
    distance = np.sqrt(1 - np.abs(np.corrcoef(series)))
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    labels = np.arange(n)
    widths = [0.0]
    for step, (left, right, height, _) in enumerate(tree):
        labels = np.where((labels == left) | (labels == right), n + step, labels)
        if height < APART:
            widths.append(width(distance, labels))
    assert width(distance, cluster(series)) == pytest.approx(max(widths), abs=1e-9)


def test_order_sign_and_scale_do_not_matter():
    series, _ = planted([7, 5, 3, 1, 1], 0.7, 300, seed=8)
    order = np.random.default_rng(9).permutation(17)
    changed = cluster(series[order] * np.linspace(-5, 9, 17)[:, None] * 1e-6 + 3)
    assert same_partition(changed, cluster(series)[order])


def test_labels_count_from_zero_as_they_appear():
    series, _ = planted([4, 4, 1, 1], 0.8, 300, seed=10)
    labels = cluster(series)
    assert list(dict.fromkeys(labels.tolist())) == list(range(4))


def test_a_sample_stands_for_more(monkeypatch):
    monkeypatch.setattr("factors.effective_trials.SAMPLE", 100)
    assert effective_number(np.random.default_rng(11).normal(size=(400, 300))) == 400
    assert effective_number(planted([40] * 10, 0.8, 300, seed=12)[0]) == 10
    both = np.concatenate([planted([30] * 10, 0.8, 300, seed=13)[0], np.random.default_rng(14).normal(size=(100, 300))])
    assert effective_number(both) == pytest.approx(110, rel=0.2)


def test_thousands_of_trials_take_seconds():
    series, blocks = planted([10] * 150 + [1] * 500, 0.8, 2000, seed=15)
    series[np.random.default_rng(16).random(series.shape) < 0.02] = np.nan
    started = perf_counter()
    assert same_partition(cluster(series), blocks)
    assert perf_counter() - started < 15
