"""A measurement: what a formula's values come to against the labels, and the evidence in it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from factors.discovery import level
from factors.evaluation import Evidence, PeriodMetrics, SplitMetrics, Standing
from factors.kernels.elementwise import Values
from factors.labels import Labels, exits, longest_held, within
from factors.metrics import Daily, daily_metrics, known, mean, ratio, summary, traded
from factors.panel import Dates, Panel, rows_through
from factors.sharpe import deflated_sharpe, effective_observations, expected_maximum, moments
from factors.significance import newey_west_lags, newey_west_t
from factors.team import Team

_PACKED = np.dtype("<f2")
_ALIKE = 1e-3  # more than packing takes away, less than another value of one instrument moves a bar


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of a formula.

    Attributes:
        splits: metrics by split.
        evidence: of the bars of all splits together.
        rank_ic: ``[rows]`` its rank IC by bar, NaN for null and on rows whose labels do not end inside their split.
    """

    splits: Mapping[str, SplitMetrics]
    evidence: Evidence
    rank_ic: Values

    def tells(self, splits: Mapping[str, SplitMetrics], rank_ic: Values) -> bool:
        """Whether another one, whose rank ICs were packed, has the same figures but for rounding."""
        cells = [[(one.days, one.coverage) for one in both.values()] for both in (self.splits, splits)]
        return cells[0] == cells[1] and np.allclose(self.rank_ic, rank_ic, rtol=0, atol=_ALIKE, equal_nan=True)


def measure(values: Values, labels: Labels, panel: Panel, team: Team | None = None) -> Measurement:
    """Measure a factor's values ``[tiles, rows, 64]``, judged by the first label."""
    series = daily_metrics(values, labels, panel, team)
    horizon = labels.horizons[0]
    days = np.concatenate([np.arange(*within(panel, split, horizon)) for split in panel.splits])
    rank_ic = np.full(panel.shape[1], np.nan)
    rank_ic[days] = series.rank_ic[0, days]
    return Measurement(
        splits={split: summary(series, labels, panel, split) for split in panel.splits},
        evidence=weigh(series, days, panel, horizon),
        rank_ic=rank_ic,
    )


def packed(rank_ic: Values) -> bytes:
    """Rank ICs ``[rows]`` in two bytes each: within 0.0005 of their size, or 3e-8; NaN for null."""
    return rank_ic.astype(_PACKED).tobytes()


def unpacked(content: bytes) -> Values:
    """What :func:`packed` has kept, ``[rows]``."""
    return np.frombuffer(content, _PACKED).astype(np.float64)


def weigh(series: Daily, days: Values, panel: Panel, horizon: int) -> Evidence:
    """The evidence in these rows of a factor's series; Newey-West lags as for a split of that many rows.

    ``horizon`` is that of the first label.
    """
    rank_ic = known(series.rank_ic[0, days])
    lags = newey_west_lags(len(rank_ic), longest_held(panel.dates, horizon, panel.settlement))
    found, t_stat = moments(rank_ic), newey_west_t(rank_ic, lags) or 0.0
    return Evidence(
        days=len(rank_ic),
        rank_ic=found.mean if found else 0.0,
        t_stat=t_stat,
        p_value=math.erfc(t_stat / math.sqrt(2)) / 2 if found else 1.0,  # a cdf of as many digits would end at 1e-16
        sharpe=found.sharpe if found else 0.0,
        skew=found.skew if found else 0.0,
        kurtosis=found.kurtosis if found else 3.0,
        observations=effective_observations(rank_ic, lags),
        long_short=mean(known(series.long_short[days])) or 0.0,
        turnover=mean(known(traded(series, panel, horizon)[days])) or 0.0,
    )


def standing(evidence: Evidence, trial: int, discoveries: list[int]) -> Standing:
    """What evidence is worth as trial number ``trial`` of a stream, of whose earlier trials these are discoveries.

    The best score expected without skill is that of ``trial`` independent ones whose only spread is the error of a
    score, 1 / observations. Bailey and Lopez de Prado 2014 take the spread of the scores themselves, which is the same
    while none has skill; where a search succeeds it would count what was found as luck, and refuse all that follows.
    """
    allowed = level(trial, discoveries)
    variance = 1 / evidence.observations if evidence.observations else 0.0
    return Standing(
        trial=trial,
        level=allowed,
        discovery=evidence.p_value <= allowed,
        expected_maximum=variance**0.5 * expected_maximum(trial),
        deflated_sharpe=deflated_sharpe(
            evidence.sharpe, evidence.observations, evidence.skew, evidence.kurtosis, trial, variance
        ),
    )


def around(
    rank_ic: Values, dates: Dates, cutoff: date | None, horizon: int, settlement: int = 0
) -> tuple[PeriodMetrics, ...]:
    """The rank ICs ``[rows]`` of these bars up to and after the day that a model's training ends on, all its bars.

    A bar counts by when its label ends. Empty where the end of training is not known.
    """
    if cutoff is None:
        return ()
    last = int(np.searchsorted(exits(dates, horizon, settlement), rows_through(dates, cutoff)))
    held = longest_held(dates, horizon, settlement)
    return (
        period("before the training cut-off", rank_ic[:last], held),
        period("after the training cut-off", rank_ic[last:], held),
    )


def period(name: str, rank_ic: Values, held: int) -> PeriodMetrics:
    """Metrics of the rank ICs of some bars, NaN for null, whose labels are held so many bars at most."""
    found = known(rank_ic)
    return PeriodMetrics(
        name=name,
        days=len(found),
        rank_ic=mean(found),
        rank_icir=ratio(found),
        rank_t_stat=newey_west_t(found, newey_west_lags(len(found), held)),
    )
