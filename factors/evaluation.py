"""Evaluation: what was measured of one formula on one snapshot.

A bar is a row of the market's calendar: a day on daily bars, a minute or an hour on others. What is named ``days``
counts bars, and nothing here is annualised.
"""

from pydantic import BaseModel, ConfigDict


class YearMetrics(BaseModel):
    """Information coefficients over the bars of one calendar year; see :class:`SplitMetrics`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    year: int
    days: int
    ic: float | None
    rank_ic: float | None


class HorizonMetrics(BaseModel):
    """Information coefficients against the return over ``horizon`` bars; see :class:`SplitMetrics`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    horizon: int
    ic: float | None
    rank_ic: float | None
    rank_icir: float | None
    rank_t_stat: float | None


class SplitMetrics(BaseModel):
    """Metrics of a factor over the bars of one split; ``None`` where too few of them carry a value.

    Attributes:
        days: bars with a defined information coefficient.
        coverage: share of the tradable member cells that carry a factor value, in [0, 1].
        active: share of the bars with tradable members on which the factor tells these apart, in [0, 1].
        ic: mean over bars of the cross-sectional Pearson correlation of factor and label.
        icir: ``ic`` over the standard deviation (ddof 1) of the single values; per bar, not annualised.
        rank_ic: the same as ``ic`` with Spearman's rank correlation.
        rank_icir: the same as ``icir`` for the rank correlation.
        t_stat: Newey-West t of the mean IC.
        rank_t_stat: Newey-West t of the mean rank IC.
        hit_rate: share of bars with a positive rank IC, in [0, 1].
        turnover: mean share of the book traded a bar by the rank-weighted dollar-neutral portfolio, in [0, 1].
        rank_autocorrelation: mean correlation of the ranks with those of the bar before, in [-1, 1].
        deciles: mean label of each tenth of the names by factor, lowest first, a mean over bars; a return per horizon.
        monotonicity: Spearman correlation of the deciles' numbers and means, in [-1, 1].
        long_short: mean return per horizon of the rank-weighted portfolio, one unit long and one short, before costs.
        long_short_net: the same after costs of 0.1 % of what is traded while a label is held: the turnover of its
            bars, of which there are several where what was bought must settle first on bars of less than a day, at most
            all of the book.
        years: by calendar year.
        horizons: by bars held, for the decay of the signal.
        held: mean bars that the first label is held: its horizon, and more where what was bought must settle first.
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
    active: float | None = None
    rank_autocorrelation: float | None = None
    deciles: tuple[float | None, ...] = ()
    monotonicity: float | None = None
    long_short: float | None = None
    long_short_net: float | None = None
    years: tuple[YearMetrics, ...] = ()
    horizons: tuple[HorizonMetrics, ...] = ()
    held: float = 1.0


class Evidence(BaseModel):
    """How sure the bars of all measured splits together are of a factor, as if nothing else had been tried.

    Attributes:
        days: bars with a rank IC, of those whose labels end inside their split.
        rank_ic: their mean rank IC.
        t_stat: Newey-West t of it, 0 where it has none.
        p_value: chance of at least that t without skill, one-sided, as a formula states its sign; normal.
        sharpe: rank IC over its standard deviation, per bar, not annualised: the score that trials are compared by.
        skew: of the rank ICs.
        kurtosis: the same, raw: 3 for normal values.
        observations: independent bars that would know the mean as well as these do.
        long_short: mean return per horizon of the rank-weighted book, see :class:`SplitMetrics`.
        turnover: mean share of the book traded while a label is held, a bar's on daily ones, in [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int
    rank_ic: float
    t_stat: float
    p_value: float
    sharpe: float
    skew: float
    kurtosis: float
    observations: float
    long_short: float
    turnover: float


class Standing(BaseModel):
    """What a trial's evidence is worth beside the trials of its market that came before it; decided once.

    Attributes:
        trial: its number in the market's ledger, from 1: how many have been tried.
        level: the most that its p-value may be, by online control of false discoveries.
        discovery: whether it is no more.
        expected_maximum: the best score that so many trials without skill would be expected to show.
        deflated_sharpe: probability that its score exceeds that by more than luck, in [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trial: int
    level: float
    discovery: bool
    expected_maximum: float
    deflated_sharpe: float


class PeriodMetrics(BaseModel):
    """Rank ICs of some of the measured bars, such as those that a model has read of; see :class:`SplitMetrics`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    days: int
    rank_ic: float | None
    rank_icir: float | None
    rank_t_stat: float | None


class Evaluation(BaseModel):
    """What was measured of one formula on one snapshot.

    Attributes:
        candidate_id: empty where a person asked.
        formula: canonical text.
        snapshot: id of the market's version.
        universe: whose members were ranked.
        horizon: bars held.
        splits: metrics by split; never the hold-out's, but for the one evaluation that a promotion makes.
        evidence: of all these bars; ``None`` where it was not yet weighed.
        standing: what that is worth in the team's ledger; ``None`` where it was not entered.
        memory: the bars up to and after the end of the training of the model that wrote it; empty where unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate_id: str
    formula: str
    snapshot: str
    universe: str
    horizon: int
    splits: dict[str, SplitMetrics]
    evidence: Evidence | None = None
    standing: Standing | None = None
    memory: tuple[PeriodMetrics, ...] = ()
