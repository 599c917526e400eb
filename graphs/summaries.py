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

_AT_LENGTH = 3  # measured candidates of a round that are told in full
_HINTS = 300  # characters


def outcome(trial: Trial) -> Words:
    """One trial on a line: name, formula, the rank ICs, then the failed checks with their hints."""
    words = [f"{quoted(trial.candidate.name, 60)}: {quoted(trial.candidate.formula)}"]
    if trial.evaluation:
        words.append(", ".join(f"{split} rank IC {_figure(m.rank_ic)}" for split, m in trial.evaluation.splits.items()))
    failed = hints((*trial.verdict.checks, *trial.admission))
    if failed:
        words.append(f"refused: {quoted(' | '.join(failed), _HINTS)}")
    return Words("; ".join([*words, *(["accepted"] if trial.accepted else [])]))


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
    redundancy = {check.name: check.value for check in trial.admission}.get("redundancy")
    lines = [str(outcome(trial)), *(f"  {split}: {_measured(metrics)}" for split, metrics in splits.items())]
    slope = yearly_slope([year for metrics in splits.values() for year in metrics.years])
    lines.append(f"  redundancy {_figure(redundancy, 2)}; slope {_figure(slope)} a year")
    return Words("\n".join(lines))


def _measured(metrics: SplitMetrics) -> str:
    by_days = " ".join(f"{at.horizon}d {_figure(at.rank_ic)}" for at in metrics.horizons)
    by_year = " ".join(f"{at.year} {_figure(at.rank_ic, 3)}" for at in metrics.years)
    return (
        f"ICIR {_figure(metrics.rank_icir, 3)}, t {_figure(metrics.rank_t_stat, 1)}; {by_days}; {by_year}; "
        f"coverage {_figure(metrics.coverage, 2)}, turnover {_figure(metrics.turnover, 2)}"
    )


def _figure(value: float | None, digits: int = 4) -> str:
    return "none" if value is None else f"{value:.{digits}f}"
