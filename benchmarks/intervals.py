"""Figures over runs with intervals of 95 %."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import beta

RESAMPLES = 10_000
LEVEL = 0.95
SEED = 7


class Interval(NamedTuple):
    """A figure and the interval it lies in; ``None`` where no run has anything to count."""

    value: float | None
    low: float | None
    high: float | None


def ratio(pairs: Sequence[tuple[float, float]]) -> Interval:
    """The sum of the first numbers over that of the second, one pair a run.

    The interval is the percentile bootstrap over whole runs, as what one run accepts hangs together: runs are drawn
    with replacement 10,000 times by a fixed seed, and draws whose second numbers sum to 0 are left out.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13. With few runs it is too narrow.
    """
    if not pairs or not sum(below for _, below in pairs):
        return Interval(None, None, None)
    runs = np.array(pairs, np.float64)
    drawn = np.random.default_rng(SEED).integers(len(runs), size=(RESAMPLES, len(runs)))
    above, below = runs[drawn].sum(axis=1).T
    ratios = above[below > 0] / below[below > 0]
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    total_above, total_below = runs.sum(axis=0)
    return Interval(float(total_above / total_below), float(low), float(high))


def share(count: int, of: int, level: float = LEVEL) -> tuple[float, float, float]:
    """``count`` of ``of`` > 0 as a share with its exact binomial interval (Clopper and Pearson 1934)."""
    tail = (1 - level) / 2
    low = beta.ppf(tail, count, of - count + 1) if count else 0.0
    high = beta.ppf(1 - tail, count + 1, of - count) if count < of else 1.0
    return count / of, float(low), float(high)
