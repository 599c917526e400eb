"""How the search reads a trial's results, on train and valid alone."""

from graphs.researcher import Trial

_WRONG_WAY = -0.003


def wrong_way(trial: Trial) -> bool:
    """True where the rank IC is clearly negative on every split: the sign, not the idea, is wrong."""
    measured = _rank_ics(trial).values()
    return bool(measured) and all(value is not None and value <= _WRONG_WAY for value in measured)


def figures(trial: Trial) -> str:
    """The formula and its rank IC on each split, for a lesson."""
    values = [
        f"{'none' if value is None else format(value, '+.4f')} on {split}" for split, value in _rank_ics(trial).items()
    ]
    return f"{trial.candidate.formula} (rank IC {', '.join(values)})"


def _rank_ics(trial: Trial) -> dict[str, float | None]:
    splits = trial.evaluation.splits if trial.evaluation else {}
    return {split: metrics.rank_ic for split, metrics in splits.items()}
