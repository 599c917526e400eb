"""Tally: values that should be alike, compared and counted."""

from collections.abc import Callable

import numpy as np

from factors.certificate import Comparison
from factors.kernels.elementwise import Values
from factors.panel import Mask, Panel

TOLERANCE = 1e-9  # of the larger value, or of a small one
SMALL = 1e-3  # of the median size on the date
LEFT_OUT = 0.05  # largest share of the cells; of a formula that is all rounding nothing can be told


class Tally:
    """What a claim has come to so far, at the rows at which it was tried.

    Args:
        name: as of :class:`Comparison`.
        claim: what is compared, in words.
    """

    def __init__(self, name: str, claim: str) -> None:
        self.name, self.claim = name, claim
        self.cells, self.worst, self.left_out = 0, 0.0, 0
        self.refuted: list[int] = []

    def exactly(self, row: int, found: Values, expected: Values) -> None:
        """Compare bit by bit; all nulls are alike."""
        differ = (found.view(np.int64) != expected.view(np.int64)) & ~(np.isnan(found) & np.isnan(expected))
        self._count(found, expected, distance(found[differ], expected[differ]))
        if differ.any():
            self.refuted.append(row)

    def closely(self, row: int, found: Values, expected: Values, rounded: Callable[[], Mask]) -> None:
        """Compare within the tolerance, and leave out where that is exceeded by rounding."""
        off, least = ~close(found, expected), _small(expected)
        if off.any():
            left_out = off & rounded()
            self.left_out += int(np.count_nonzero(left_out))
            found, expected, off = found[~left_out], expected[~left_out], off[~left_out]
        self._count(found, expected, distance(found, expected, least))
        if off.any():
            self.refuted.append(row)

    def _count(self, found: Values, expected: Values, distances: Values) -> None:
        self.cells += int(np.count_nonzero(~(np.isnan(found) & np.isnan(expected))))
        self.worst = max(self.worst, float(distances.max(initial=0.0)))

    def comparison(self, panel: Panel) -> Comparison:
        """The outcome."""
        detail = self.claim
        if self.left_out:
            detail += f"; left out are {self.left_out} that only rounding moves"
        if not self.cells:
            detail += "; there was no value to compare"
        told = self.left_out <= LEFT_OUT * self.cells
        refuted = panel.dates[self.refuted[0]].astype(object) if self.refuted and told else None
        passed = self.cells > 0 and told and refuted is None
        return Comparison(
            name=self.name, passed=passed, cells=self.cells, worst=self.worst, refuted=refuted, detail=detail
        )


def gap(a: Values, b: Values) -> Values:
    """Distance of two values, 0 where both are null, infinity where one is."""
    with np.errstate(over="ignore"):
        apart: Values = np.nan_to_num(np.abs(a - b), posinf=np.inf)
    apart[np.isnan(a) ^ np.isnan(b)] = np.inf
    return apart


def distance(a: Values, b: Values, least: float = 0.0) -> Values:
    """Distance of two values over the larger one's size, or over ``least``, at most 1; 1 where only one is null."""
    size = np.fmax(np.fmax(np.abs(a), np.abs(b)), least)
    apart: Values = np.minimum(gap(a, b) / np.where(size > 0, size, 1.0), 1.0)
    return apart


def close(a: Values, b: Values) -> Mask:
    """Where a date's values differ by no more than the tolerance of the larger one, or of a small one of that date."""
    return distance(a, b, _small(b)) <= TOLERANCE


def _small(values: Values) -> float:
    known = np.abs(values[np.isfinite(values)])
    return SMALL * float(np.median(known)) if len(known) else 0.0
