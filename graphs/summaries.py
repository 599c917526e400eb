"""What models are told of trials: in short what became of each, and at length what was measured of the best."""

from collections.abc import Collection, Iterable, Sequence

from factors.decay import yearly_slope
from factors.errors import FormulaError
from factors.evaluation import SplitMetrics
from factors.expression import Call, distinct
from factors.parse import parse
from factors.verdict import hints
from graphs.prompts import Words, quoted
from graphs.researcher import Trial

_AT_LENGTH = 1  # measured candidates of a round that are told in full
_FORMULA, _HINT = 150, 60  # characters, where a trial is told in short


def outcome(trial: Trial) -> Words:
    """One trial on a line: formula, rank IC by split, what the first failed check says, or that it was accepted."""
    words: list[str] = [quoted(trial.candidate.formula, _FORMULA)]
    if trial.evaluation:
        words.append("rank IC " + ", ".join(_figure(found.rank_ic) for found in trial.evaluation.splits.values()))
    failed = hints((*trial.verdict.checks, *trial.admission))
    if failed:
        words.append(f"refused: {quoted(failed[0], _HINT)}")
    return Words("; ".join([*words, *(["accepted"] if trial.accepted else [])]))


def refusal(trial: Trial) -> Words:
    """A refused trial with all that its verdict says, for a rewrite."""
    return Words(f"{quoted(trial.candidate.formula)}; {quoted(' | '.join(hints(trial.verdict.checks)))}")


def diagnostics(measured: Sequence[Trial]) -> list[Words]:
    """The measured candidates, best first: some at length, the others in short."""
    return [*map(_at_length, measured[:_AT_LENGTH]), *map(outcome, measured[_AT_LENGTH:])]


def operators_of(trials: Iterable[Trial], fields: Collection[str]) -> set[str]:
    """Names of the operators in formulas that can be read."""
    found = set()
    for trial in trials:
        try:
            expr = parse(trial.candidate.formula, tuple(fields))
        except FormulaError:
            continue
        found |= {node.op.name for node in distinct(expr) if isinstance(node, Call)}
    return found


def _at_length(trial: Trial) -> Words:
    splits = trial.evaluation.splits if trial.evaluation else {}
    valid = splits.get("valid")
    figures = {
        "coverage": valid.coverage if valid else None,
        "turnover": valid.turnover if valid else None,
        "redundancy": {check.name: check.value for check in trial.admission}.get("redundancy"),
    }
    slope = yearly_slope([year for metrics in splits.values() for year in metrics.years])
    held = ", ".join(f"{name} {_figure(value, 2)}" for name, value in figures.items())
    lines = (f"  {split}: {_measured(metrics)}" for split, metrics in splits.items())
    return Words("\n".join([outcome(trial), *lines, f"  {held}, slope {_figure(slope)} a year"]))


def _measured(metrics: SplitMetrics) -> str:
    by_horizon = " ".join(f"h{at.horizon} {_figure(at.rank_ic, 3)}" for at in metrics.horizons)
    by_year = " ".join(f"{at.year} {_figure(at.rank_ic, 3)}" for at in metrics.years)
    return f"ICIR {_figure(metrics.rank_icir, 3)}, t {_figure(metrics.rank_t_stat, 1)}; {by_horizon}; {by_year}"


def _figure(value: float | None, digits: int = 4) -> str:
    return "none" if value is None else f"{value:.{digits}f}"
