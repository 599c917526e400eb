"""Evaluation: what was measured of one formula on one snapshot."""

from pydantic import BaseModel, ConfigDict


class YearMetrics(BaseModel):
    """Information coefficients over the days of one calendar year; see :class:`SplitMetrics`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    year: int
    days: int
    ic: float | None
    rank_ic: float | None


class HorizonMetrics(BaseModel):
    """Information coefficients against the return over ``horizon`` days; see :class:`SplitMetrics`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    horizon: int
    ic: float | None
    rank_ic: float | None
    rank_icir: float | None
    rank_t_stat: float | None


class SplitMetrics(BaseModel):
    """Metrics of a factor over the days of one split; ``None`` where too few days carry a value.

    Attributes:
        days: days with a defined information coefficient.
        coverage: share of the tradable member cells that carry a factor value, in [0, 1].
        ic: mean over days of the cross-sectional Pearson correlation of factor and label.
        icir: ``ic`` over the standard deviation (ddof 1) of the daily values; per day, not annualised.
        rank_ic: the same as ``ic`` with Spearman's rank correlation.
        rank_icir: the same as ``icir`` for the rank correlation.
        t_stat: Newey-West t of the mean daily IC.
        rank_t_stat: Newey-West t of the mean daily rank IC.
        hit_rate: share of days with a positive rank IC, in [0, 1].
        turnover: mean share of the book traded a day by the rank-weighted dollar-neutral portfolio, in [0, 1].
        rank_autocorrelation: mean correlation of the ranks with those of the day before, in [-1, 1].
        deciles: mean label of each tenth of the names by factor, lowest first, a mean over days; a return per horizon.
        monotonicity: Spearman correlation of the deciles' numbers and means, in [-1, 1].
        long_short: mean return per horizon of the rank-weighted portfolio, one unit long and one short, before costs.
        long_short_net: the same after costs of 0.1 % of what is traded.
        years: by calendar year.
        horizons: by days held, for the decay of the signal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int
    coverage: float
    ic: float | None
    icir: float | None
    rank_ic: float | None
    rank_icir: float | None
    t_stat: float | None
    rank_t_stat: float | None
    hit_rate: float | None
    turnover: float | None
    rank_autocorrelation: float | None = None
    deciles: tuple[float | None, ...] = ()
    monotonicity: float | None = None
    long_short: float | None = None
    long_short_net: float | None = None
    years: tuple[YearMetrics, ...] = ()
    horizons: tuple[HorizonMetrics, ...] = ()


class Evaluation(BaseModel):
    """Metrics of one candidate on one snapshot, by split; ``splits`` never holds the hold-out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate_id: str
    formula: str
    snapshot: str
    universe: str
    horizon: int
    splits: dict[str, SplitMetrics]
