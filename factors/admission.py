"""What a measured candidate must show to enter the library: checks on train and valid, never on the hold-out.

And what a factor of the library must show on the hold-out, once a person has it opened, to be promoted.
"""

from collections.abc import Collection, Mapping

from pydantic import BaseModel, ConfigDict, Field

from factors.certificate import Certificate
from factors.evaluation import Evaluation, Evidence, SplitMetrics
from factors.metrics import COST, SIDES
from factors.verdict import Check, at_least, at_most, more_than


class Thresholds(BaseModel):
    """What a measured candidate is held to, each with its reason.

    Attributes:
        t_stat: least Newey-West t of the rank IC over train and valid; 3 instead of 2, as most of what passes 2 in a
            field that tries much is luck (Harvey, Liu and Zhu 2016).
        deflated_sharpe: least probability that the score exceeds by more than luck the best that as many trials
            without skill as the team has made would show (Bailey and Lopez de Prado 2014).
        persistence: least share of the train rank IC that the valid split keeps, which is to have its sign.
        coverage: least share of tradable cells with a value, in either split.
        active: least share of bars on which the values differ, in either split: no t of a few bars knows from how many
            they were chosen.
        turnover: most of the book traded a bar, in either split.
        cost: of what is traded, one way, a fraction: what the book of ranks must earn on average to be no loss.
        redundancy: most absolute mean rank correlation with an accepted factor or a published alpha on train.
        marginal: what the train rank IC of the part that the accepted factors leave unexplained, bar by bar, exceeds.
        holdout_t_stat: least Newey-West t of the rank IC on the hold-out: 5 %, one-sided, of the one factor that is
            asked about.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    t_stat: float = Field(default=3.0, ge=0)
    deflated_sharpe: float = Field(default=0.95, ge=0, le=1)
    persistence: float = Field(default=0.25, ge=0)
    coverage: float = Field(default=0.6, ge=0, le=1)
    active: float = Field(default=0.5, ge=0, le=1)
    turnover: float = Field(default=0.7, ge=0, le=1)
    cost: float = Field(default=COST, ge=0)
    redundancy: float = Field(default=0.7, ge=0, le=1)
    marginal: float = Field(default=0.0, ge=0)
    holdout_t_stat: float = Field(default=1.645, ge=0)


def admission_checks(evaluation: Evaluation, thresholds: Thresholds) -> tuple[Check, ...]:
    """Strength, on its own and among all trials, persistence and cost of an evaluation that the ledger holds.

    Raises:
        ValueError: the evaluation is not from the ledger.
    """
    evidence, standing = evaluation.evidence, evaluation.standing
    if evidence is None or standing is None:
        raise ValueError("only what the ledger holds is admitted: it knows how much was tried")
    among = f"as number {standing.trial} of the trials on this market"
    train, valid = (evaluation.splits[split].rank_ic or 0.0 for split in ("train", "valid"))
    return (
        at_least("t_stat", evidence.t_stat, thresholds.t_stat, _weakness(evidence, thresholds)),
        at_most(
            "false_discovery",
            evidence.p_value,
            standing.level,
            f"p is {evidence.p_value:.1e}, which {among} may be {standing.level:.1e} at most",
        ),
        at_least(
            "deflated_sharpe",
            standing.deflated_sharpe,
            thresholds.deflated_sharpe,
            f"a rank ICIR per bar of {evidence.sharpe:.3f} {among} is too near luck's {standing.expected_maximum:.3f}",
        ),
        at_least(
            "persistence",
            valid / train if train else 0.0,
            thresholds.persistence,
            f"rank IC is {train:.4f} on train but {valid:.4f} on valid",
        ),
        *_holding_checks(evaluation.splits.values(), evidence, thresholds),
    )


def promotion_checks(evaluation: Evaluation, in_sample: float, thresholds: Thresholds) -> tuple[Check, ...]:
    """What the hold-out must show of a factor that had a rank IC of ``in_sample`` before.

    Raises:
        ValueError: the evaluation holds no evidence.
    """
    evidence = evaluation.evidence
    if evidence is None:
        raise ValueError("an evaluation on the hold-out comes with its evidence")
    return (
        at_least(
            "t_stat",
            evidence.t_stat,
            thresholds.holdout_t_stat,
            f"rank IC {evidence.rank_ic:.4f} on the hold-out has t {evidence.t_stat:.1f}",
        ),
        at_least(
            "persistence",
            evidence.rank_ic / in_sample if in_sample else 0.0,
            thresholds.persistence,
            f"rank IC was {in_sample:.4f} in sample and is {evidence.rank_ic:.4f} on the hold-out",
        ),
        *_holding_checks(evaluation.splits.values(), evidence, thresholds),
    )


def _weakness(evidence: Evidence, thresholds: Thresholds) -> str:
    reversed_sign = evidence.t_stat <= -thresholds.t_stat
    return f"rank IC {evidence.rank_ic:.4f} on train and valid has t {evidence.t_stat:.1f}" + (
        "; it predicts the opposite: negate the formula" if reversed_sign else "; too weak to tell from luck"
    )


def _holding_checks(
    splits: Collection[SplitMetrics], evidence: Evidence, thresholds: Thresholds
) -> tuple[Check, Check, Check, Check]:
    """What it takes to hold the factor's book: values for enough names, and trades that it earns."""
    costs = thresholds.cost * SIDES * evidence.turnover
    return (
        at_least(
            "coverage",
            min(split.coverage for split in splits),
            thresholds.coverage,
            "too few instruments have a value; shorten the windows",
        ),
        at_least(
            "active",
            min(split.active or 0.0 for split in splits),
            thresholds.active,
            "tells instruments apart on too few bars; ask for less of an event, or measure how far it went",
        ),
        at_most(
            "turnover",
            max(split.turnover or 0.0 for split in splits),
            thresholds.turnover,
            "trades too much of the book a bar; smooth it over a longer window",
        ),
        at_least(
            "net_return",
            evidence.long_short - costs,
            0.0,
            f"earns {evidence.long_short * 1e4:.1f} basis points while held and costs {costs * 1e4:.1f} to trade; "
            "smooth it over a longer window",
        ),
    )


def causality_check(certificate: Certificate) -> Check:
    """Whether a formula's values stand without what was not known: how many claims of its certificate are refuted."""
    refuted = [claim.name for claim in certificate.checks if not claim.passed]
    hint = f"its values are not causal on this market: {', '.join(refuted)}"
    return at_most("causality", len(refuted), 0, hint)


def redundancy_check(correlations: Mapping[str, float], thresholds: Thresholds) -> Check:
    """The largest absolute mean rank correlation with a known factor, by the factor's formula or name."""
    nearest = max(correlations, key=lambda name: abs(correlations[name]), default="")
    hint = f"moves with {nearest}, which is known; look for a different effect"
    return at_most("redundancy", abs(correlations.get(nearest, 0.0)), thresholds.redundancy, hint)


def marginal_check(rank_ic: float, thresholds: Thresholds) -> Check:
    """The rank IC of what the accepted factors do not explain."""
    hint = f"what the accepted factors do not explain of it has a train rank IC of {rank_ic:.4f}; it adds nothing"
    return more_than("marginal", rank_ic, thresholds.marginal, hint)
