"""Robustness: how certain a factor's rank IC is, how long it lasts, and whether it depends on the times."""

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

from factors.bar_time import BarTime
from factors.bootstrap import mean_interval
from factors.decay import HalfLife, SlopeTest, change_point, half_life, regimes, slope_test
from factors.evaluation import Evidence, PeriodMetrics, SplitMetrics
from factors.kernels.elementwise import Values
from factors.labels import longest_held
from factors.measurement import period
from factors.panel import Dates, Panel
from factors.sharpe import minimum_track_record, probabilistic_sharpe


class Change(BaseModel):
    """The bar that parts the rank ICs most, the means before and from it on, and whether they differ at 5 %."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    day: BarTime
    before: float
    after: float
    statistic: float
    significant: bool


class Robustness(BaseModel):
    """Of the rank ICs by bar of train and valid together; ``None`` where too little is known.

    Attributes:
        interval: 95 % of the mean, by a stationary bootstrap.
        probabilistic_sharpe: confidence that the true ICIR is positive, had nothing else been tried, in [0, 1].
        minimum_track_record: bars in which such an ICIR is told from none at 95 %; ``None`` if it is not positive.
        half_life: of the rank IC over the bars held.
        slope: of the rank IC over calendar years.
        change: at an unknown bar.
        regimes: bars by the market's return and volatility, as known on the bar.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    interval: tuple[float, float] | None
    probabilistic_sharpe: float
    minimum_track_record: float | None
    half_life: HalfLife | None
    slope: SlopeTest | None
    change: Change | None
    regimes: tuple[PeriodMetrics, ...]


def robustness(
    rank_ic: Values, evidence: Evidence, splits: Mapping[str, SplitMetrics], panel: Panel, horizon: int
) -> Robustness:
    """Look at the rank ICs ``[rows]`` of a factor, NaN for null, and at what was measured of its splits."""
    known, held = np.isfinite(rank_ic), longest_held(panel.dates, horizon, panel.settlement)
    score, skew, kurtosis = evidence.sharpe, evidence.skew, evidence.kurtosis
    # So many independent bars; those of a correlated series are worth less each.
    shortest = minimum_track_record(score, 0.0, skew, kurtosis) * evidence.days / (evidence.observations or 1.0)
    return Robustness(
        interval=mean_interval(rank_ic[known]),
        probabilistic_sharpe=probabilistic_sharpe(score, 0.0, evidence.observations, skew, kurtosis),
        minimum_track_record=shortest if np.isfinite(shortest) else None,
        half_life=_half_life(splits),
        slope=slope_test(year for split in splits.values() for year in split.years),
        change=_change(rank_ic[known], panel.dates[known], held),
        regimes=tuple(
            period(name.replace("_", " "), rank_ic[days], held) for name, days in regimes(_market(panel)).items()
        ),
    )


def _half_life(splits: Mapping[str, SplitMetrics]) -> HalfLife | None:
    """Of the means over all splits, each by its bars, with the errors that the t statistics imply."""
    total = sum(split.days for split in splits.values())
    horizons, means, errors = [], [], []
    for at in zip(*(split.horizons for split in splits.values()), strict=True):
        parts = [
            (split.days / total, one.rank_ic, one.rank_ic / one.rank_t_stat)
            for split, one in zip(splits.values(), at, strict=True)
            if one.rank_ic and one.rank_t_stat
        ]
        if len(parts) == len(splits):
            horizons.append(at[0].horizon)
            means.append(sum(weight * mean for weight, mean, _ in parts))
            errors.append(sum((weight * error) ** 2 for weight, _, error in parts) ** 0.5)
    return half_life(horizons, means, errors) if horizons else None


def _change(rank_ic: Values, dates: Dates, held: int) -> Change | None:
    found = change_point(rank_ic, held)
    if found is None:
        return None
    return Change(
        day=dates[found.day].astype(object),
        before=found.before,
        after=found.after,
        statistic=found.statistic,
        significant=found.significant,
    )


def _market(panel: Panel) -> Values:
    """Equal-weight return ``[rows]`` of the cells that may hold a position, NaN for null."""
    returns = np.where(panel.eligible, panel.fields["return"], np.nan)
    counts = np.isfinite(returns).sum(axis=(0, 2))
    return np.where(counts > 0, np.nansum(returns, axis=(0, 2)) / np.maximum(counts, 1), np.nan)
