"""What a measured candidate must show to enter the library: checks on train and valid, never on the hold-out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from factors.evaluation import SplitMetrics
from factors.kernels import daily
from factors.kernels.elementwise import Values
from factors.labels import within
from factors.panel import Panel
from factors.verdict import Check

Ranks = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a measured candidate is held to, each with its reason.

    Attributes:
        t_stat: least Newey-West t of the train rank IC: 5 %, one-sided, as the hypothesis states the sign. It takes
            no account of how many candidates were tried, so what passes is a lead; ``significance.expected_best_t``
            says what luck alone would show.
        persistence: least share of the train rank IC that the valid split keeps.
        coverage: least share of tradable cells with a value, in either split.
        turnover: most of the book traded a day; above it costs eat any daily IC seen in practice.
        redundancy: most absolute mean daily rank correlation with an accepted factor on train.
    """

    t_stat: float = 1.65
    persistence: float = 0.25
    coverage: float = 0.6
    turnover: float = 0.7
    redundancy: float = 0.7


def admission_checks(splits: Mapping[str, SplitMetrics], thresholds: Thresholds) -> tuple[Check, ...]:
    """Strength on train, persistence on valid, coverage and turnover over both."""
    train, valid = splits["train"], splits["valid"]
    t_stat, train_ic, valid_ic = train.rank_t_stat or 0.0, train.rank_ic or 0.0, valid.rank_ic or 0.0
    persistence = valid_ic / train_ic if train_ic else 0.0
    reversed_sign = t_stat <= -thresholds.t_stat
    return (
        _at_least(
            "t_stat",
            t_stat,
            thresholds.t_stat,
            f"train rank IC {train_ic:.4f} has t {t_stat:.1f}"
            + ("; it predicts the opposite: negate the formula" if reversed_sign else "; too weak to tell from luck"),
        ),
        _at_least(
            "persistence",
            persistence,
            thresholds.persistence,
            f"rank IC is {train_ic:.4f} on train but {valid_ic:.4f} on valid",
        ),
        _at_least(
            "coverage",
            min(train.coverage, valid.coverage),
            thresholds.coverage,
            "too few instruments have a value; shorten the windows",
        ),
        _at_most(
            "turnover",
            max(train.turnover or 0.0, valid.turnover or 0.0),
            thresholds.turnover,
            "trades too much of the book a day; smooth it over a longer window",
        ),
    )


def train_ranks(values: Values, panel: Panel) -> Ranks:
    """Daily ranks of a factor among tradable members over the train split, float32 ``[tiles, days, 64]``."""
    start, stop = within(panel, "train")
    ranks = np.empty((values.shape[0], stop - start, values.shape[2]), np.float32)
    daily.ranks(values, panel.eligible, ranks, start, 0, stop - start)
    return ranks


def redundancy_check(ranks: Ranks, accepted: Iterable[tuple[str, Ranks]], thresholds: Thresholds) -> Check:
    """Largest absolute mean daily rank correlation with accepted factors, each its formula and train ranks."""
    largest, nearest = 0.0, ""
    for formula, other in accepted:
        correlation = abs(daily.mean_correlation(ranks, other))
        if correlation > largest:
            largest, nearest = correlation, formula
    hint = f"moves with the accepted factor {nearest}; look for a different effect"
    return _at_most("redundancy", largest, thresholds.redundancy, hint)


def _at_least(name: str, value: float, limit: float, hint: str) -> Check:
    passed = value >= limit
    return Check(name=name, value=value, limit=limit, passed=passed, hint="" if passed else hint)


def _at_most(name: str, value: float, limit: float, hint: str) -> Check:
    passed = value <= limit
    return Check(name=name, value=value, limit=limit, passed=passed, hint="" if passed else hint)
