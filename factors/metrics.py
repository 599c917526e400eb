"""Metrics of factor values against labels: daily information coefficients and their summary by split."""

from dataclasses import dataclass

import numpy as np

from factors.evaluation import SplitMetrics
from factors.kernels import daily
from factors.kernels.elementwise import Values
from factors.labels import HORIZON, within
from factors.panel import Panel
from factors.significance import newey_west_lags, newey_west_t


@dataclass(frozen=True, slots=True)
class Daily:
    """Daily series, each ``[rows]``, NaN for null: information coefficients, and turnover since the day before."""

    ic: Values
    rank_ic: Values
    turnover: Values


def daily_metrics(values: Values, label: Values, panel: Panel) -> Daily:
    """Daily series of a factor; ``values`` and ``label`` are ``[tiles, rows, 64]``."""
    rows = panel.shape[1]
    series = Daily(np.empty(rows), np.empty(rows), np.empty(rows))
    daily.correlations(values, label, series.ic, series.rank_ic)
    daily.turnover(values, panel.eligible, series.turnover)
    return series


def split_metrics(values: Values, label: Values, panel: Panel, horizon: int = HORIZON) -> dict[str, SplitMetrics]:
    """Summary by split of a factor's values against the label of this horizon."""
    series = daily_metrics(values, label, panel)
    eligible = panel.eligible
    summaries = {}
    for split in panel.splits:
        start, stop = within(panel, split, horizon)
        cells = eligible[:, start:stop]
        known = np.isfinite(values[:, start:stop]) & cells
        ic, rank_ic = _known(series.ic[start:stop]), _known(series.rank_ic[start:stop])
        traded = _known(series.turnover[start:stop])
        summaries[split] = SplitMetrics(
            days=len(rank_ic),
            coverage=float(known.sum() / max(cells.sum(), 1)),
            ic=_mean(ic),
            icir=_ratio(ic),
            rank_ic=_mean(rank_ic),
            rank_icir=_ratio(rank_ic),
            t_stat=newey_west_t(ic, newey_west_lags(len(ic), horizon)),
            rank_t_stat=newey_west_t(rank_ic, newey_west_lags(len(rank_ic), horizon)),
            hit_rate=_mean((rank_ic > 0).astype(np.float64)),
            turnover=_mean(traded),
        )
    return summaries


def _known(values: Values) -> Values:
    return values[np.isfinite(values)]


def _mean(values: Values) -> float | None:
    return float(values.mean()) if len(values) else None


def _ratio(values: Values) -> float | None:
    """Mean over standard deviation (ddof 1); None for fewer than two values or no variation."""
    if len(values) < 2 or values.min() == values.max():  # noqa: PLR2004 - a variance needs two
        return None
    return float(values.mean() / values.std(ddof=1))
