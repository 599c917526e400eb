"""What a trial is worth to the search, from train and valid alone."""

from graphs.researcher import Trial

_PENALTY_WEIGHT = 0.1
_WRONG_WAY = -0.005


def reward(trial: Trial) -> float | None:
    """The lower of the daily rank ICIR on train and on valid, less a tenth of the penalty; ``None`` unmeasured.

    The minimum asks that both splits hold, so that the search gains nothing by fitting one.
    """
    train, valid = _measured(trial, "rank_icir")
    return None if train is None or valid is None else min(train, valid) - _PENALTY_WEIGHT * trial.verdict.penalty


def wrong_way(trial: Trial) -> bool:
    """True where the rank IC is clearly negative on train and on valid: the sign, not the idea, is wrong."""
    train, valid = _measured(trial, "rank_ic")
    return train is not None and valid is not None and max(train, valid) <= _WRONG_WAY


def figures(trial: Trial) -> str:
    """The formula and its rank IC on both splits, for a lesson."""
    train, valid = (f"{value:+.4f}" if value is not None else "none" for value in _measured(trial, "rank_ic"))
    return f"{trial.candidate.formula} (rank IC {train} on train, {valid} on valid)"


def _measured(trial: Trial, metric: str) -> tuple[float | None, float | None]:
    splits = trial.evaluation.splits if trial.evaluation else {}
    train, valid = (getattr(splits.get(split), metric, None) for split in ("train", "valid"))
    return train, valid
