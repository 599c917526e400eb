"""Whether choosing the best of many candidates chooses anything: combinatorially symmetric and purged cross-validation.

Sources: Bailey, Borwein, Lopez de Prado and Zhu 2017, "The probability of backtest overfitting"; Lopez de Prado 2018,
"Advances in financial machine learning", chapter 7.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from factors.kernels.elementwise import Values

CHUNK = 2**20  # ratios computed at a time
FLAT = 1e-12  # variance, in units of the largest deviation, that is rounding


class Overfitting(BaseModel):
    """What choosing the best candidate in one half of the days says about the other half, over all ways to halve them.

    Attributes:
        probability: how often the chosen one is below the median out of sample, in [0, 1]; at the median counts half.
        combinations: ways to halve the days that counted.
        slope: least-squares slope of the chosen ones' out-of-sample ratio on that in sample, None where all are equal.
        loss: how often the chosen one's out-of-sample ratio is 0 or less, in [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    probability: float
    combinations: int
    slope: float | None
    loss: float


def probability_of_overfitting(scores: Values, partitions: int = 16) -> Overfitting | None:
    """Probability of backtest overfitting by combinatorially symmetric cross-validation.

    ``scores`` are those of each bar ``[days, candidates]``, NaN for null, the larger the better; days are cut into
    ``partitions`` runs of equal length, to a day, of which each half in turn is in sample. Candidates compare by mean
    over standard deviation (ddof 1) of their values; one without two different values in a half has no part in it, and
    a way to halve the days counts where the chosen one is compared with another out of sample. So that pure noise gives
    a half with any number of candidates, a rank at the median counts half; the paper leaves it open.

    None for fewer days than partitions or where no way counts. Raises ``ValueError`` where partitions are odd or none.
    """
    if partitions < 2 or partitions % 2:  # noqa: PLR2004 - halves
        raise ValueError("the number of partitions is even and at least 2")
    if len(scores) < partitions or not scores.shape[1]:
        return None
    sums, picks = _Sums.of(scores, partitions), np.array(list(combinations(range(partitions), partitions // 2)))
    step = max(CHUNK // scores.shape[1], 1)
    trials = np.concatenate([_trials(sums, picks[start : start + step]) for start in range(0, len(picks), step)])
    inside, outside, below = trials.T
    if not len(trials):
        return None
    deviation = inside - inside.mean()
    spread = float(deviation @ deviation)
    return Overfitting(
        probability=float(below.mean()),
        combinations=len(trials),
        slope=float(deviation @ outside) / spread if spread > 0 else None,
        loss=float((outside <= 0).mean()),
    )


def overfitting_of(series: Sequence[Values]) -> Overfitting | None:
    """The same of candidates' scores by bar ``[days]``, one array each; None for none."""
    return probability_of_overfitting(np.stack(series, axis=1)) if series else None


@dataclass(frozen=True, slots=True)
class _Sums:
    """Number, sum and sum of squares ``[partitions, candidates]`` of scores, each candidate's own mean taken off."""

    counts: Values
    totals: Values
    squares: Values
    means: Values

    @classmethod
    def of(cls, scores: Values, partitions: int) -> "_Sums":
        known = np.isfinite(scores)
        counts = np.maximum(known.sum(axis=0), 1)
        means = np.where(known, scores, 0.0).sum(axis=0) / counts
        deviation = np.where(known, scores - means, 0.0)
        # In units of the largest deviation one bound tells variation from rounding for all.
        scale = np.abs(deviation).max(axis=0)
        scale[scale <= FLAT * np.abs(means)] = np.inf
        deviation /= scale
        starts = [part[0] for part in np.array_split(np.arange(len(scores)), partitions)]
        counts, totals, squares = (np.add.reduceat(part, starts) for part in (known * 1.0, deviation, deviation**2))
        return cls(counts, totals, squares, means / scale)

    def ratios(self, halves: Values) -> Values:
        """Mean over standard deviation ``[halves, candidates]`` in the partitions that each half holds, or NaN."""
        counts, totals = halves @ self.counts, halves @ self.totals
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = totals / counts
            variance = (halves @ self.squares - totals * mean) / (counts - 1)
            ratios: Values = (mean + self.means) / np.sqrt(variance)
        ratios[~(variance > FLAT)] = np.nan
        return ratios


def _trials(sums: _Sums, picks: NDArray[np.int64]) -> Values:
    """Ratio in and out of sample of the one chosen, and whether it is below the median, of each half that counts."""
    halves = np.zeros((len(picks), len(sums.counts)))
    np.put_along_axis(halves, picks, 1.0, axis=1)
    inside, outside = sums.ratios(halves), sums.ratios(1 - halves)
    best = np.where(np.isnan(inside), -np.inf, inside).argmax(axis=1)[:, None]
    one, other = (np.take_along_axis(ratios, best, axis=1)[:, 0] for ratios in (inside, outside))
    # A rank is below the median where more surpass it than fall short of it.
    balance = (outside > other[:, None]).sum(axis=1) - (outside < other[:, None]).sum(axis=1)
    compared = np.isfinite(one) & np.isfinite(other) & (np.isfinite(outside).sum(axis=1) > 1)
    trials: Values = np.stack([one, other, (np.sign(balance) + 1) / 2], axis=1)[compared]
    return trials


def purged_splits(
    days: int, folds: int, horizon: int, embargo: int = 0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Train and test bars, called days, of cross-validation in ``folds`` runs of equal length, to a day, in order.

    The label of day t spans the days from t+1 to t+1+``horizon``. A day is no train day where its label's span meets
    that of a test day, nor for ``embargo`` more days after the last such day. Raises ``ValueError`` for fewer than two
    folds, more folds than days or a negative ``horizon`` or ``embargo``.
    """
    if not 2 <= folds <= days or horizon < 0 or embargo < 0:  # noqa: PLR2004 - one to train on, one to test
        raise ValueError("there are two folds at least and no more than days, and horizon and embargo are not negative")
    every = np.arange(days)
    for test in np.array_split(every, folds):
        yield every[(every < test[0] - horizon) | (every > test[-1] + horizon + embargo)], test
