"""How a factor's information coefficient changes: with the horizon, over the years, at a break, with the market."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from factors.evaluation import YearMetrics
from factors.kernels.elementwise import Values
from factors.significance import long_run_variance, newey_west_lags, varies

SHORTEST, LONGEST = 0.1, 1000.0  # half-lives in bars that horizons of 1 to 20 can tell from none and from for ever
NORMAL_95, CHI_SQUARE_95, CHI_SQUARE_2_95 = 1.959964, 3.841459, 5.991465  # of 95 %: two-sided, of 1 and of 2 parameters
TRIMMED = 0.15  # share of the bars at either end at which no change is looked for
SUPREMUM_95 = 8.85  # Andrews 1993, table I, one parameter, 15 % trimmed
FEWEST = 20  # bars in which a change can be looked for
WINDOW = 20  # bars of which the trailing volatility is known
ROUNDING = 1e-18  # share of a sum of squares


class HalfLife(BaseModel):
    """Half-life of ``initial * 0.5 ** (horizon / days)``.

    Attributes:
        days: bars in which the coefficient halves.
        low: lower end of its 95 % interval, None where it is below a tenth of a bar.
        high: upper end, None where it is above 1,000 bars.
        initial: coefficient at horizon 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: float
    low: float | None
    high: float | None
    initial: float


class SlopeTest(BaseModel):
    """Change of the mean rank IC a year, its t, and the two-sided p of Student's distribution."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float
    t_stat: float
    p_value: float


class ChangePoint(BaseModel):
    """The most likely change of a mean.

    Attributes:
        day: index of the first value after it.
        before: mean before it.
        after: mean from it on.
        statistic: sup-LM statistic.
        significant: whether there is one at all, at 5 %.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    day: int
    before: float
    after: float
    statistic: float
    significant: bool


def half_life(horizons: Sequence[int], rank_ics: Sequence[float], errors: Sequence[float]) -> HalfLife | None:
    """Half-life of a rank IC that falls off exponentially with the horizon, in bars, by weighted least squares.

    ``errors`` are the standard errors of the ``rank_ics``, positive; the interval is that of the profile likelihood,
    for errors that are independent between horizons. Horizons overlap, so it is a guide.

    None for fewer than three horizons, where no half-life from 0.1 to 1,000 bars fits best, as where the IC rises or
    stays, where the curve is not significantly better than none at 5 %, and where a coefficient of the opposite sign is
    significant. Raises ``ValueError`` for sequences of different lengths or an error that is not positive.
    """
    from scipy.optimize import brentq, minimize_scalar  # noqa: PLC0415 - half a second, which runs go without

    at, known, error = (np.asarray(values, np.float64) for values in (horizons, rank_ics, errors))
    if not len(at) == len(known) == len(error) or not (error > 0).all():
        raise ValueError("each horizon has one coefficient, and one error above 0")
    if len(at) < 3:  # noqa: PLR2004 - two parameters and something to spare
        return None

    def fit(log_days: float) -> tuple[float, float]:
        """Coefficient at horizon 0 and weighted sum of squares for a half-life."""
        curve = 0.5 ** (at / math.exp(log_days)) / error
        initial = float(curve @ (known / error) / (curve @ curve))
        return initial, float(((known / error - initial * curve) ** 2).sum())

    low, high = math.log(SHORTEST), math.log(LONGEST)
    grid = np.linspace(low, high, 200)
    k = int(np.argmin([fit(point)[1] for point in grid]))
    if k in (0, len(grid) - 1):
        return None
    best = float(minimize_scalar(lambda x: fit(x)[1], bounds=(grid[k - 1], grid[k + 1]), method="bounded").x)
    initial, least = fit(best)
    opposed = np.sign(known) * np.sign(initial) < 0
    if ((known / error) ** 2).sum() - least < CHI_SQUARE_2_95 or (np.abs(known / error)[opposed] > NORMAL_95).any():
        return None

    def excess(log_days: float) -> float:
        return fit(log_days)[1] - least - CHI_SQUARE_95

    return HalfLife(
        days=math.exp(best),
        low=math.exp(brentq(excess, low, best)) if excess(low) > 0 else None,
        high=math.exp(brentq(excess, best, high)) if excess(high) > 0 else None,
        initial=initial,
    )


def yearly_slope(years: Iterable[YearMetrics]) -> float | None:
    """Change of the mean rank IC a year: the slope of its weighted least-squares line over calendar years.

    Each year weighs as many bars as it has. A year that two splits share is two points. ``None`` for fewer than two
    different years with a rank IC.
    """
    line = _Line.of(years)
    return line.slope if line else None


def slope_test(years: Iterable[YearMetrics]) -> SlopeTest | None:
    """Whether the mean rank IC changes over the years: :func:`yearly_slope` against the scatter about its line.

    ``None`` for fewer than three points or two different years with a rank IC, or points that lie on one line.
    """
    from scipy.special import stdtr  # noqa: PLC0415 - as above

    line = _Line.of(years)
    if line is None or line.points < 3 or line.rest <= ROUNDING * line.total:  # noqa: PLR2004 - a line takes two
        return None
    t_stat = line.slope * math.sqrt(line.spread * (line.points - 2) / line.rest)
    p_value = 2 * float(stdtr(line.points - 2, -abs(t_stat)))
    return SlopeTest(slope=line.slope, t_stat=t_stat, p_value=p_value)


@dataclass(frozen=True, slots=True)
class _Line:
    """A weighted least-squares line, the spread of its abscissae, and the sums of squares about it and of all."""

    points: int
    slope: float
    spread: float
    rest: float
    total: float

    @classmethod
    def of(cls, years: Iterable[YearMetrics]) -> "_Line | None":
        known = [(one.year, one.rank_ic, one.days) for one in years if one.rank_ic is not None and one.days]
        year, rank_ic, days = np.array(known, np.float64).reshape(-1, 3).T
        if not varies(year):
            return None
        year -= days @ year / days.sum()
        level = days @ rank_ic / days.sum()
        spread = days @ year**2
        slope = days @ (year * (rank_ic - level)) / spread
        rest = days @ (rank_ic - level - slope * year) ** 2
        return cls(len(known), float(slope), float(spread), float(rest), float(days @ rank_ic**2))


def change_point(values: Values, horizon: int = 1) -> ChangePoint | None:
    """The bar from which on ``[n]`` values, no nulls, most likely have another mean, and whether they do at all.

    The largest Lagrange multiplier statistic over all bars but 15 % at either end, which is the square of the scaled
    CUSUM over its variance. The long-run variance is that about one mean (Newey and West): about two of them the test,
    Wald's, finds changes in 8 to 13 % of series without one. ``horizon`` is how many bars a label is held.

    None for fewer than 20 values or no variation. Source: Andrews 1993.
    """
    n = len(values)
    if n < FEWEST or not varies(values):
        return None
    days = np.arange(math.ceil(TRIMMED * n), math.floor((1 - TRIMMED) * n) + 1)
    sums = np.cumsum(values - values.mean())[days - 1]
    multiplier = sums**2 * n / (days * (n - days))
    k = int(multiplier.argmax())
    day = int(days[k])
    variance = long_run_variance(values, newey_west_lags(n, horizon))
    if variance <= 0:
        return None
    statistic = float(multiplier[k]) / variance
    return ChangePoint(
        day=day,
        before=float(values[:day].mean()),
        after=float(values[day:].mean()),
        statistic=statistic,
        significant=statistic > SUPREMUM_95,
    )


def regimes(market_returns: Values) -> dict[str, NDArray[np.bool_]]:
    """Bars ``[n]`` of each kind of market, by its equal-weight returns ``[n]``, NaN for null.

    ``market_up`` and ``market_down`` are bars with a return above and below 0; ``high_volatility`` and
    ``low_volatility`` those on which the standard deviation of the last 20 known returns, the bar's own included, is
    above its median over all bars, or not. A bar without a return is of no kind, and the first 19 with one of neither
    volatility.
    """
    known = np.isfinite(market_returns)
    volatility = np.full(len(market_returns), np.nan)
    if known.sum() >= WINDOW:
        windows = np.lib.stride_tricks.sliding_window_view(market_returns[known], WINDOW)
        volatility[np.flatnonzero(known)[WINDOW - 1 :]] = windows.std(axis=1, ddof=1)
    measured = np.isfinite(volatility)
    middle = np.median(volatility[measured]) if measured.any() else 0.0
    return {
        "market_up": known & (market_returns > 0),
        "market_down": known & (market_returns < 0),
        "high_volatility": measured & (volatility > middle),
        "low_volatility": measured & (volatility <= middle),
    }
