"""How many different bets many trials are: clusters of trials whose scores, bar by bar, move together.

The number is what the deflation of a best result wants as its number of trials.

Source: Lopez de Prado and Lewis 2019, "Detection of false investment strategies using unsupervised learning methods".
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from factors.kernels.elementwise import Values

COMMON = 20  # bars that two series share at least, or their correlation says nothing
APART = 0.5**0.5  # distance of two series that correlate at a half: less than half of what moves them is common
FLAT = 1e-12  # variance and distance, in units of the largest, that are rounding
SAMPLE = 2000  # trials that are clustered at most, as time and memory grow with their square


def effective_number(series: Values | Sequence[Values]) -> float:
    """Number of different bets among ``[trials, bars]`` scores, NaN for null, at most that of trials.

    It is how many clusters :func:`cluster` finds. Of more than 2,000 trials as many evenly spaced ones are clustered: a
    bet that the sample shows once stands for as many as the trials outnumber it, one shown more often for itself.
    """
    series = np.asarray(series)
    trials = len(series)
    if trials <= SAMPLE:
        return float(len(np.unique(cluster(series))))
    sizes = np.bincount(cluster(series[np.arange(SAMPLE) * trials // SAMPLE]))
    return float((sizes > 1).sum() + (sizes == 1).sum() * trials / SAMPLE)


def cluster(series: Values) -> NDArray[np.int64]:
    """Cluster ``[trials]`` of each of ``[trials, bars]`` scores, NaN for null, numbered from 0 as they appear.

    Series are ``sqrt(1 - |correlation|)`` apart, over their common bars: as the standardised series, or one and the
    negative of the other, lie in space, since a bet and its reverse are one. Average linkage joins what is nearer than
    :data:`APART`, and of its partitions that of the largest mean silhouette is taken, of equals the finest.

    It is a deterministic stand-in for the repeated k-means of the source. That compares the silhouettes' mean over
    standard deviation, which has no bound where all are alike, as in groups of equal size, rightly cut or not. No other
    cluster counts as farther than :data:`APART`, and a series alone has a silhouette of 0 (Rousseeuw 1987): so one
    cluster, and as many as there are series, compare with all that lies between.
    """
    from scipy.cluster.hierarchy import linkage  # noqa: PLC0415 - over half a second, which runs go without
    from scipy.spatial.distance import squareform  # noqa: PLC0415

    if len(series) < 2:  # noqa: PLR2004 - one is not compared
        return np.zeros(len(series), np.int64)
    distance = np.sqrt(1 - np.abs(_correlation(series)))
    np.fill_diagonal(distance, 0.0)
    labels = _best_partition(distance, linkage(squareform(distance, checks=False), "average"))
    _, first, order = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[order]


def related(one: Values, other: Values) -> bool:
    """Whether two trials' scores, from one first bar on, correlate at a half or more, either way."""
    days = min(len(one), len(other))
    return bool(np.sqrt(1 - abs(_correlation(np.stack([one[:days], other[:days]]))[0, 1])) <= APART)


def _correlation(series: Values) -> Values:
    """Correlation ``[trials, trials]`` over common bars; 0 where these are few or one of both does not vary."""
    known = np.isfinite(series)
    means = np.where(known, series, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    values = np.where(known, series - means[:, None], 0.0)
    scale = np.abs(values).max(axis=1, initial=0.0)
    values /= np.where(scale > 0, scale, 1.0)[:, None]
    there = known.astype(np.float64)
    days, sums, squares = there @ there.T, values @ there.T, values**2 @ there.T
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = squares / days - (sums / days) ** 2
        covariance = values @ values.T / days - sums * sums.T / days**2
        correlation: Values = covariance / np.sqrt(variance * variance.T)
    varies = np.minimum(variance, variance.T) > FLAT
    correlation = np.where((days >= COMMON) & varies, np.clip(correlation, -1, 1), 0.0)
    # Rounding keeps equal series from a distance of exactly 0, at which silhouettes would compare noise.
    return np.where(np.abs(correlation) > 1 - FLAT, np.sign(correlation), correlation)


def _best_partition(distance: Values, tree: Values) -> NDArray[np.int64]:
    """Labels ``[trials]`` of the partition by a linkage ``tree`` that has the largest mean silhouette."""
    n = len(distance)
    every, labels, columns = np.arange(n), np.arange(n), list(range(n))
    sums, sizes = distance.copy(), np.ones(n)
    others = np.where(np.eye(n, dtype=bool), np.inf, distance)
    nearest = others.argmin(axis=1)
    near = others[every, nearest]
    best, most = labels.copy(), 0.0
    for left, right, height, _ in tree:
        if height >= APART:
            break
        kept, gone = columns[int(left)], columns[int(right)]
        columns.append(kept)
        sums[:, kept] += sums[:, gone]
        sizes[kept] += sizes[gone]
        sizes[gone] = 0
        labels[labels == gone] = kept
        # The joint mean is no less than the lesser of both, so no other series comes nearer.
        stale, active = np.flatnonzero((nearest == kept) | (nearest == gone)), np.flatnonzero(sizes)
        means = np.where(labels[stale, None] == active, np.inf, sums[np.ix_(stale, active)] / sizes[active])
        nearest[stale], near[stale] = active[means.argmin(axis=1)], means.min(axis=1)
        inside = sums[every, labels] / np.maximum(sizes[labels] - 1, 1)
        outside = np.minimum(near, APART)
        silhouettes = (outside - inside) / np.maximum(np.maximum(outside, inside), FLAT)
        width = float(silhouettes[sizes[labels] > 1].sum() / n)
        if width > most:
            best, most = labels.copy(), width
    return best
