"""Metrics of factor values against labels: series by bar, a day on daily bars, and their summary by split."""

from dataclasses import dataclass

import numpy as np

from factors.evaluation import HorizonMetrics, SplitMetrics, YearMetrics
from factors.kernels import daily
from factors.kernels.elementwise import Values
from factors.labels import Labels, bars_held, longest_held, within
from factors.panel import Panel
from factors.significance import newey_west_lags, newey_west_t
from factors.team import Team

COST = 0.001  # of what is traded, one way: spread, impact and fees of a liquid name
SIDES = 4  # both legs of one unit each turn over, and each trade is a sale and a purchase


@dataclass(frozen=True, slots=True)
class Daily:
    """Series of a factor by bar, NaN for null.

    Attributes:
        ic: ``[horizons, rows]`` cross-sectional Pearson correlation of factor and label.
        rank_ic: ``[horizons, rows]`` the same of their ranks.
        eligible: ``[rows]`` cells that may hold a position.
        known: ``[rows]`` those with a factor value.
        turnover: ``[rows]`` share of the book traded since the bar before, in [0, 1].
        autocorrelation: ``[rows]`` correlation of the ranks with those of the bar before.
        long_short: ``[rows]`` return of the rank-weighted book, one unit long and one short, under the first label.
        deciles: ``[rows, 10]`` mean first label of each tenth of the names by factor.
    """

    ic: Values
    rank_ic: Values
    eligible: Values
    known: Values
    turnover: Values
    autocorrelation: Values
    long_short: Values
    deciles: Values


def daily_metrics(values: Values, labels: Labels, panel: Panel, team: Team | None = None) -> Daily:
    """Series by bar of a factor's values ``[tiles, rows, 64]``; the rows are shared out to the team."""
    rows = panel.shape[1]
    ic, rank_ic = np.empty((len(labels.horizons), rows)), np.empty((len(labels.horizons), rows))
    book, deciles = np.empty((rows, 5)), np.empty((rows, daily.DECILES))
    (team or Team(1)).days(
        lambda start, stop: daily.measure(
            values, panel.eligible, labels.returns, labels.ranks, labels.counts, start, stop, ic, rank_ic, book, deciles
        ),
        rows,
    )
    eligible, known, turnover, autocorrelation, long_short = book.T
    return Daily(ic, rank_ic, eligible, known, turnover, autocorrelation, long_short, deciles)


def split_metrics(values: Values, labels: Labels, panel: Panel, team: Team | None = None) -> dict[str, SplitMetrics]:
    """Summary by split of a factor's values ``[tiles, rows, 64]``, judged by the first label."""
    series = daily_metrics(values, labels, panel, team)
    return {split: summary(series, labels, panel, split) for split in panel.splits}


def summary(series: Daily, labels: Labels, panel: Panel, split: str) -> SplitMetrics:
    """What a factor's series come to over the rows of a split whose labels end inside it."""
    horizon = labels.horizons[0]
    held = longest_held(panel.dates, horizon, panel.settlement)
    days = slice(*within(panel, split, horizon))
    ic, rank_ic = known(series.ic[0, days]), known(series.rank_ic[0, days])
    horizons = tuple(_at_horizon(series, labels, panel, split, h) for h in range(len(labels.horizons)))
    deciles = _column_means(series.deciles[days])
    net = series.long_short[days] - COST * SIDES * np.nan_to_num(traded(series, panel, horizon)[days])
    return SplitMetrics(
        days=len(rank_ic),
        coverage=float(series.known[days].sum() / max(series.eligible[days].sum(), 1)),
        active=len(rank_ic) / max(int((series.eligible[days] > 1).sum()), 1),
        ic=horizons[0].ic,
        icir=ratio(ic),
        rank_ic=horizons[0].rank_ic,
        rank_icir=horizons[0].rank_icir,
        t_stat=newey_west_t(ic, newey_west_lags(len(ic), held)),
        rank_t_stat=horizons[0].rank_t_stat,
        hit_rate=mean((rank_ic > 0).astype(np.float64)),
        turnover=mean(known(series.turnover[days])),
        rank_autocorrelation=mean(known(series.autocorrelation[days])),
        deciles=deciles,
        monotonicity=_monotonicity(deciles),
        long_short=mean(known(series.long_short[days])),
        long_short_net=mean(known(net)),
        years=_by_year(series, panel, days),
        horizons=horizons,
        held=mean(bars_held(panel.dates, horizon, panel.settlement)[days].astype(np.float64)) or float(horizon),
    )


def traded(series: Daily, panel: Panel, horizon: int) -> Values:
    """Most of the book that can have been traded while a row's label is held, ``[rows]``, in [0, 1].

    That is its turnover in each of these bars, or all of it; the turnover where a label is held for a bar.
    """
    held = bars_held(panel.dates, horizon, panel.settlement)
    return np.minimum(series.turnover * held, 1.0)


def _by_year(series: Daily, panel: Panel, days: slice) -> tuple[YearMetrics, ...]:
    years = panel.dates[days].astype("datetime64[Y]").astype(int) + 1970
    found = []
    for year in np.unique(years):
        rank_ic = known(series.rank_ic[0, days][years == year])
        ic = known(series.ic[0, days][years == year])
        found.append(YearMetrics(year=int(year), days=len(rank_ic), ic=mean(ic), rank_ic=mean(rank_ic)))
    return tuple(found)


def _at_horizon(series: Daily, labels: Labels, panel: Panel, split: str, h: int) -> HorizonMetrics:
    horizon = labels.horizons[h]
    days = slice(*within(panel, split, horizon))
    held = longest_held(panel.dates, horizon, panel.settlement)
    ic, rank_ic = known(series.ic[h, days]), known(series.rank_ic[h, days])
    return HorizonMetrics(
        horizon=horizon,
        ic=mean(ic),
        rank_ic=mean(rank_ic),
        rank_icir=ratio(rank_ic),
        rank_t_stat=newey_west_t(rank_ic, newey_west_lags(len(rank_ic), held)),
    )


def _column_means(values: Values) -> tuple[float | None, ...]:
    finite = np.isfinite(values)
    counts = finite.sum(axis=0)
    totals = np.where(finite, values, 0.0).sum(axis=0)
    return tuple(float(total / count) if count else None for total, count in zip(totals, counts, strict=True))


def _monotonicity(deciles: tuple[float | None, ...]) -> float | None:
    """Spearman correlation of the deciles' numbers and mean labels; None where one is empty or all are equal."""
    means = np.array([np.nan if one is None else one for one in deciles])
    if np.isnan(means).any() or means.min() == means.max():
        return None
    below = (means[:, None] > means).sum(axis=1)
    ranks = below + (means[:, None] == means).sum(axis=1) / 2
    return float(np.corrcoef(ranks, np.arange(len(means)))[0, 1])


def known(values: Values) -> Values:
    """The values that are no null."""
    return values[np.isfinite(values)]


def mean(values: Values) -> float | None:
    """Mean of ``[n]`` values without nulls; None for none."""
    return float(values.sum() / len(values)) if len(values) else None


def ratio(values: Values) -> float | None:
    """Mean over standard deviation (ddof 1); None for fewer than two values or no variation."""
    if len(values) < 2 or values.min() == values.max():  # noqa: PLR2004 - a variance needs two
        return None
    return float(values.mean() / values.std(ddof=1))
