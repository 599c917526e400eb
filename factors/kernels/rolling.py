"""Time-series kernels over one tile; see ``tile`` for the conventions.

Each fills ``out``. The window at row t is rows t-d+1..t, fewer at the start; nulls in it are skipped, and it needs at
least one value (two for dispersion and correlation, three for skewness, four for kurtosis). An infinity becomes null.
"""

import numpy as np

from factors.kernels import comoments, moments, sums, windows
from factors.kernels.elementwise import Values, divide, not_equal, subtract


def delay(x: Values, d: int, out: Values) -> None:
    """The value d rows ago."""
    out[:d] = np.nan
    out[d:] = x[: max(len(x) - d, 0)]


def delta(x: Values, d: int, out: Values) -> None:
    """The value less the one d rows ago."""
    out[:d] = np.nan
    subtract(x[d:], x[: max(len(x) - d, 0)], out[d:])


def pct_change(x: Values, d: int, out: Values) -> None:
    """The value over the one d rows ago, minus 1; null where that is 0."""
    out[:d] = np.nan
    divide(x[d:], x[: max(len(x) - d, 0)], out[d:])
    out -= 1.0


def std(x: Values, d: int, out: Values) -> None:
    """Standard deviation (ddof 1)."""
    moments.moments(x, d, moments.STD, out)


def var(x: Values, d: int, out: Values) -> None:
    """Variance (ddof 1)."""
    moments.moments(x, d, moments.VAR, out)


def zscore(x: Values, d: int, out: Values) -> None:
    """Distance from the window's mean in standard deviations; null where all values are equal."""
    moments.moments(x, d, moments.ZSCORE, out)


def skew(x: Values, d: int, out: Values) -> None:
    """Adjusted Fisher-Pearson skewness G1 (Joanes and Gill 1998)."""
    moments.higher_moments(x, d, 3, out)


def kurt(x: Values, d: int, out: Values) -> None:
    """Adjusted excess kurtosis G2 (Joanes and Gill 1998)."""
    moments.higher_moments(x, d, 4, out)


def corr(x: Values, y: Values, d: int, out: Values) -> None:
    """Pearson correlation over the rows where both are known; null where either is constant."""
    comoments.comoments(x, y, d, comoments.CORRELATION, out)


def cov(x: Values, y: Values, d: int, out: Values) -> None:
    """Covariance (ddof 1) over the rows where both are known."""
    comoments.comoments(x, y, d, comoments.COVARIANCE, out)


def count(x: Values, d: int, out: Values) -> None:
    """Number of known values other than 0."""
    other = np.empty_like(x)
    not_equal(x, 0.0, other)
    sums.total(other, d, out)


def regression_slope(y: Values, x: Values, d: int, out: Values) -> None:
    """Slope of the least-squares line of y on x over the rows where both are known; null where x is constant."""
    comoments.comoments(x, y, d, comoments.SLOPE, out)


def regression_residual(y: Values, x: Values, d: int, out: Values) -> None:
    """Distance of the current y from that line; null where y or x is."""
    comoments.comoments(x, y, d, comoments.RESIDUAL, out)


def regression_r_squared(y: Values, x: Values, d: int, out: Values) -> None:
    """Squared correlation of y and x over the rows where both are known; null where either is constant."""
    comoments.comoments(x, y, d, comoments.R_SQUARED, out)


def sequence(_d: int, out: Values) -> None:
    """The row's number. It stands for 1..d in every window, since what may read it is blind to a constant added."""
    out[:] = np.arange(1.0, len(out) + 1.0)[:, None]


def minimum(x: Values, d: int, out: Values) -> None:
    """Smallest value of the window."""
    windows.extremes(x, d, -1.0, out)


def maximum(x: Values, d: int, out: Values) -> None:
    """Largest value of the window."""
    windows.extremes(x, d, 1.0, out)


def argmin(x: Values, d: int, out: Values) -> None:
    """Rows since the window's oldest smallest value."""
    windows.positions(x, d, -1.0, out)


def argmax(x: Values, d: int, out: Values) -> None:
    """Rows since the window's oldest largest value."""
    windows.positions(x, d, 1.0, out)


def median(x: Values, d: int, out: Values) -> None:
    """Median of the window."""
    windows.quantile(x, d, 0.5, out)


def quantile(x: Values, d: int, q: float, out: Values) -> None:
    """Quantile of the window, linear between neighbours (Hyndman and Fan 1996, type 7)."""
    windows.quantile(x, d, q, out)


total = sums.total
mean = sums.mean
rank = windows.rank
mean_deviation = windows.mean_deviation
decay_linear = sums.weighted_mean
product = sums.product
