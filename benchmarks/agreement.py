"""Whether an engine computes what we compute, before anything is timed."""

from dataclasses import dataclass

import numpy as np

from benchmarks.market import Dense

NEAR = {"kunquant_32": 1e-3}  #: relative to the mean absolute value; single precision is given more
NEAR_DOUBLE = 1e-6
CELLS = 0.99
SHARED = 0.95
CORRELATED = 0.99
MIN_NAMES = 20


@dataclass(frozen=True, slots=True)
class Agreement:
    """Values of one formula by another engine beside ours.

    Attributes:
        shared: of the cells that we know, the share that it knows.
        near: of the cells that both know, the share with equal values as far as its number type goes.
        largest: largest difference over our mean absolute value.
        correlation: tenth percentile over days of the correlation of its values with ours.
    """

    shared: float
    near: float
    largest: float
    correlation: float

    @property
    def right(self) -> bool:
        """Whether it computes the formula.

        Values that are not near must be ordered nearly alike: last digits decide the ties of a rank of sums, and
        exponential means start differently.
        """
        return self.shared >= SHARED and (self.near >= CELLS or self.correlation >= CORRELATED)


def compare(ours: Dense, theirs: Dense, near: float = NEAR_DOUBLE) -> Agreement:
    """Compare ``[days, instruments]`` values where both are known."""
    known = np.isfinite(ours)
    both = known & np.isfinite(theirs)
    if not both.any():
        return Agreement(0.0, 0.0, float("inf"), 0.0)
    difference = np.abs(ours - theirs)[both] / max(float(np.abs(ours[both]).mean()), np.finfo(np.float64).tiny)
    days = [day for day in range(len(ours)) if both[day].sum() >= MIN_NAMES]
    correlations = [_correlation(ours[day][both[day]], theirs[day][both[day]]) for day in days]
    return Agreement(
        shared=float(both.sum() / known.sum()),
        near=float((difference <= near).mean()),
        largest=float(difference.max()),
        correlation=float(np.quantile(correlations, 0.1)) if correlations else 0.0,
    )


def _correlation(x: Dense, y: Dense) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float(np.ptp(x) == np.ptp(y))
    return float(np.corrcoef(x, y)[0, 1])
