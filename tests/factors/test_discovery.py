"""Online false-discovery control beside the published sequences of the R package onlineFDR and simulated streams."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from factors.discovery import dependent_level, level

P_VALUES = {
    "A15432": 2.90e-08,
    "B90969": 0.06743,
    "C18705": 0.01514,
    "B49731": 0.08174,
    "E99902": 0.00171,
    "C38292": 3.60e-05,
    "A30619": 0.79149,
    "D46627": 0.27201,
    "E29198": 0.28295,
    "A41418": 7.59e-08,
    "D51456": 0.69274,
    "C88669": 0.30443,
    "E03673": 0.00136,
    "A63155": 0.72342,
    "B66033": 0.54757,
}
# The order that the package's random batches have with its documented seed.
BATCHED = "A15432 B90969 C18705 B49731 E99902 D46627 C38292 A30619 A41418 E29198 D51456 A63155 C88669 B66033 E03673"

patterns = st.lists(st.booleans(), min_size=1, max_size=60)


def decide(p_values, rule, alpha=0.05):
    """Levels and discoveries of a stream."""
    levels, discoveries = [], []
    for index, p_value in enumerate(p_values, 1):
        levels.append(rule(index, discoveries, alpha))
        if p_value <= levels[-1]:
            discoveries.append(index)
    return levels, discoveries


def spent(pattern, rule, alpha):
    """Levels where the discoveries come as they are told."""
    return [rule(t, [k for k in range(1, t) if pattern[k - 1]], alpha) for t in range(1, len(pattern) + 1)]


def test_levels_are_those_that_the_package_documents():
    levels, discoveries = decide(P_VALUES.values(), level)
    published = [
        *(
            0.0002675839,
            0.0024664457,
            0.0005732818,
            0.0004872805,
            0.0004059066,
            0.0003447286,
            0.0029745013,
            0.0008450114,
        ),
        *(0.0007305648, 0.0006243143, 0.0032185913, 0.0010617227, 0.0009256825, 0.0008019657, 0.0007059610),
    ]
    assert levels == pytest.approx(published, rel=2e-7)
    assert discoveries == [1, 6, 10]


def test_dependent_levels_are_those_that_the_package_documents():
    levels, discoveries = decide([P_VALUES[name] for name in BATCHED.split()], dependent_level)
    published = [
        *(
            2.091542e-03,
            1.002025e-02,
            1.677763e-03,
            6.262659e-04,
            3.201787e-04,
            1.933725e-04,
            1.293954e-04,
            1.548152e-04,
        ),
        *(1.166482e-04, 1.422614e-04, 1.145119e-04, 9.432408e-05, 7.916885e-05, 6.749313e-05, 5.830055e-05),
    ]
    assert levels == pytest.approx(published, rel=2e-6)
    assert discoveries == [1, 7, 9]


@given(patterns, st.floats(0.001, 0.5))
def test_levels_never_sum_to_more_than_the_discoveries_allow(pattern, alpha):
    """The estimate of false discoveries over discoveries stays at or below alpha at any time, which is the proof."""
    total, found = 0.0, 0
    for one, discovered in zip(spent(pattern, level, alpha), pattern, strict=True):
        total += one
        found += discovered
        assert total <= alpha * max(found, 1) * (1 + 1e-12)


@given(patterns, st.floats(0.001, 0.5))
def test_dependent_wealth_is_never_overspent(pattern, alpha):
    total, found = 0.0, 0
    for one, discovered in zip(spent(pattern, dependent_level, alpha), pattern, strict=True):
        total += one
        assert one > 0
        assert total <= 0.1 * alpha + 0.9 * alpha * found
        found += discovered


@given(patterns, st.data())
def test_one_more_discovery_never_lowers_a_later_level(pattern, data):
    """Monotone rules alone are proven to control the rate."""
    at = data.draw(st.integers(0, len(pattern) - 1))
    fewer, more = pattern.copy(), pattern.copy()
    fewer[at], more[at] = False, True
    pairs = zip(spent(fewer, level, 0.05), spent(more, level, 0.05), strict=True)
    assert all(low <= high * (1 + 1e-12) for low, high in pairs)


def test_weights_sum_as_the_theorems_ask():
    """Sums of the first levels without discoveries, as shares of the wealth, and the integral of what follows."""
    last = 20_000
    shares = [level(t, [], 1.0) / 0.1 for t in range(1, last)]
    root = math.sqrt(math.log(last - 0.5))
    rest = 0.07720838 * 2 * math.exp(-root) * (root**3 + 3 * root**2 + 6 * root + 6)
    assert 0.97 < sum(shares) + rest <= 1
    assert all(one >= other for one, other in pairwise(shares))
    weighted = [dependent_level(t, [], 1.0) / 0.1 * (1 + math.log(t)) for t in range(1, last)]
    log = math.log(last - 0.5)
    assert sum(weighted) + 0.139307 * (1 / log + 1 / (2 * log**2)) == pytest.approx(1, abs=1e-4)


def rates(rule, alpha, correlation, seed):
    """False discovery rate and power over many streams in which every fifth hypothesis is no null."""
    rng = np.random.default_rng(seed)
    truth = np.arange(150) % 5 == 0
    false, power = [], []
    for _ in range(200):
        noise = math.sqrt(correlation) * rng.normal() + math.sqrt(1 - correlation) * rng.normal(size=150)
        _, discoveries = decide(norm.sf(noise + 3.5 * truth), rule, alpha)
        hits = truth[np.array(discoveries, int) - 1]
        false.append((~hits).sum() / max(len(hits), 1))
        power.append(hits.sum() / truth.sum())
    return np.mean(false), np.mean(power)


def test_the_false_discovery_rate_of_independent_tests_is_kept():
    false, power = rates(level, 0.1, 0.0, seed=1)
    assert 0.005 < false < 0.1
    assert power > 0.4


def test_the_false_discovery_rate_of_dependent_tests_is_kept():
    for correlation in (0.0, 0.5, 0.9):
        false, power = rates(dependent_level, 0.1, correlation, seed=2)
        assert false < 0.1
        assert power > 0.1


@pytest.mark.parametrize("rule", [level, dependent_level])
@pytest.mark.parametrize(("index", "discoveries"), [(0, []), (3, [3]), (3, [0]), (9, [4, 2]), (9, [4, 4])])
def test_discoveries_are_earlier_tests(rule, index, discoveries):
    with pytest.raises(ValueError, match="ascending"):
        rule(index, discoveries)
