"""What a measured candidate must show to enter the library: checks on train and valid, never on the hold-out."""

from collections.abc import Mapping
from dataclasses import dataclass

from factors.evaluation import SplitMetrics
from factors.verdict import Check, at_least, at_most


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
        redundancy: most absolute mean daily rank correlation with an accepted factor or a published alpha on train.
        marginal: what the train rank IC of the part that the accepted factors leave unexplained, date by date, exceeds.
    """

    t_stat: float = 1.65
    persistence: float = 0.25
    coverage: float = 0.6
    turnover: float = 0.7
    redundancy: float = 0.7
    marginal: float = 0.0


def admission_checks(splits: Mapping[str, SplitMetrics], thresholds: Thresholds) -> tuple[Check, ...]:
    """Strength on train, persistence on valid, coverage and turnover over both."""
    train, valid = splits["train"], splits["valid"]
    t_stat, train_ic, valid_ic = train.rank_t_stat or 0.0, train.rank_ic or 0.0, valid.rank_ic or 0.0
    persistence = valid_ic / train_ic if train_ic else 0.0
    reversed_sign = t_stat <= -thresholds.t_stat
    return (
        at_least(
            "t_stat",
            t_stat,
            thresholds.t_stat,
            f"train rank IC {train_ic:.4f} has t {t_stat:.1f}"
            + ("; it predicts the opposite: negate the formula" if reversed_sign else "; too weak to tell from luck"),
        ),
        at_least(
            "persistence",
            persistence,
            thresholds.persistence,
            f"rank IC is {train_ic:.4f} on train but {valid_ic:.4f} on valid",
        ),
        at_least(
            "coverage",
            min(train.coverage, valid.coverage),
            thresholds.coverage,
            "too few instruments have a value; shorten the windows",
        ),
        at_most(
            "turnover",
            max(train.turnover or 0.0, valid.turnover or 0.0),
            thresholds.turnover,
            "trades too much of the book a day; smooth it over a longer window",
        ),
    )


def redundancy_check(correlations: Mapping[str, float], thresholds: Thresholds) -> Check:
    """The largest absolute mean daily rank correlation with a known factor, by the factor's formula or name."""
    nearest = max(correlations, key=lambda name: abs(correlations[name]), default="")
    hint = f"moves with {nearest}, which is known; look for a different effect"
    return at_most("redundancy", abs(correlations.get(nearest, 0.0)), thresholds.redundancy, hint)


def marginal_check(rank_ic: float, thresholds: Thresholds) -> Check:
    """The rank IC of what the accepted factors do not explain."""
    passed = rank_ic > thresholds.marginal
    hint = f"what the accepted factors do not explain of it has a train rank IC of {rank_ic:.4f}; it adds nothing"
    return Check(name="marginal", value=rank_ic, limit=thresholds.marginal, passed=passed, hint="" if passed else hint)
