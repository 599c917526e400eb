"""The yearly slope beside NumPy's weighted least squares."""

from random import Random

import numpy as np
import pytest

from factors.decay import yearly_slope
from factors.evaluation import YearMetrics


def years(*points):
    return [YearMetrics(year=year, days=days, ic=0.0, rank_ic=rank_ic) for year, days, rank_ic in points]


def test_it_is_the_slope_of_the_weighted_line():
    draw = Random(1)
    for _ in range(20):
        points = [(2010 + n, draw.randint(1, 252), draw.gauss(0.02, 0.02)) for n in range(draw.randint(2, 12))]
        at, days, rank_ic = map(np.array, zip(*points, strict=True))
        slope, _ = np.polyfit(at - 2010, rank_ic, 1, w=np.sqrt(days))
        assert yearly_slope(years(*points)) == pytest.approx(slope, rel=1e-9, abs=1e-12)


def test_it_needs_two_years_that_are_known():
    assert yearly_slope([]) is None
    assert yearly_slope(years((2010, 250, 0.1))) is None
    assert yearly_slope(years((2010, 250, 0.1), (2010, 20, 0.2))) is None
    assert yearly_slope(years((2010, 250, 0.1), (2011, 250, None), (2012, 0, 0.5))) is None
    assert yearly_slope(years((2010, 250, 0.1), (2012, 250, 0.0))) == pytest.approx(-0.05)
