"""What the command line shows to people."""

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from app.appraisal import Appraisal
from app.inspection import Inspection
from app.settings import Settings
from factors.certificate import Certificate
from factors.evaluation import Evaluation, SplitMetrics
from factors.hypothesis import Factor
from factors.operators import Composite, Kind, Operator
from factors.overfitting import Overfitting
from factors.robustness import Robustness
from factors.sharpe import expected_maximum
from factors.verdict import Check
from storage.ledger import MarketLedger
from storage.openings import Opening
from storage.runs import Run

SHOWN = 10
BAR = 20  # characters of the longest bar


def leaderboard(
    console: Console,
    run: Run,
    accepted: list[Factor],
    refusals: Mapping[str, int],
    trials: int,
    overfitting: Overfitting | None,
) -> None:
    """A run's accepted factors, best valid rank ICIR first, by what the others failed, and what all of it is worth."""
    outcome = f"Run {run.id} {run.status}: {run.rounds} rounds, {run.evaluations} evaluations, seed {run.seed}"
    console.print(f"\n{outcome}", highlight=False)
    if run.model_calls:
        unpriced = f", {run.unpriced_calls} calls without a known price" if run.unpriced_calls else ""
        tokens = f"{run.input_tokens:,} tokens read, {run.output_tokens:,} written"
        console.print(f"{run.model_calls} model calls: {tokens}, ${run.usd:.4f}{unpriced}", highlight=False)
    if run.error:
        console.print(f"[red]{escape(run.error)}[/]")
    if accepted:
        ranked = sorted(accepted, key=lambda factor: factor.splits["valid"].rank_icir or 0.0, reverse=True)
        factors(console, ranked[:SHOWN])
        if len(ranked) > SHOWN:
            console.print(f"and {len(ranked) - SHOWN} more: alphaagent factors list")
        console.print(
            "Until the sealed hold-out is asked a factor is a lead, not a finding: alphaagent factors promote ID",
            style="dim",
            highlight=False,
        )
    else:
        console.print("No factor held up on train and valid. More rounds, or another direction, may find one.")
    if refusals:
        told = ", ".join(f"{name} {count}" for name, count in refusals.items())
        console.print(f"Of {run.evaluations} measured failed: {told}.", style="dim", highlight=False)
    console.print(
        f"The team has tried {trials:,} formulas on this market: luck alone would show a best t of about "
        f"{expected_maximum(trials):.1f}.{_overfitting(overfitting)}",
        style="dim",
        highlight=False,
    )


def _overfitting(found: Overfitting | None) -> str:
    if found is None:
        return ""
    share = f"{found.probability:.0%}"
    return (
        f" The run's best candidate in one half of the days was below its median in the other in {share} of the ways."
    )


def factors(console: Console, found: Sequence[Factor]) -> None:
    """A table of factors with their figures on the valid split."""
    table = Table(
        title="Accepted factors: figures of the rank IC on the valid split", title_justify="left", show_lines=True
    )
    table.add_column("formula and hypothesis", ratio=1)
    for column in ("RankIC", "ICIR", "t", "turnover", "R_g"):
        table.add_column(column, justify="right", no_wrap=True)
    for factor in found:
        valid = factor.splits["valid"]
        words = f"[bold]{escape(factor.formula)}[/]\n[dim]{escape(factor.hypothesis)}[/]"
        figures = (valid.rank_ic, valid.rank_icir, valid.rank_t_stat, valid.turnover, factor.penalty)
        places = (4, 3, 1, 2, 2)
        table.add_row(words, *(_number(value, digits) for value, digits in zip(figures, places, strict=True)))
    console.print(table)


def next_steps(console: Console, settings: Settings, *, demo: bool) -> None:
    """What to do after a run."""
    program = "alphaagent" if shutil.which("alphaagent") else os.path.relpath(sys.argv[0])
    steps = [f"[bold]{program} serve[/]  share this library over HTTP (make serve)"]
    if demo:
        steps.append(f"[bold]{program} data import PATH --market NAME …[/]  use your own data; the demo is synthetic")
    if not settings.has_model:
        steps.append("[bold]export OPENAI_API_KEY=…[/]  let a language model play the agents; offline search did here")
    console.print("\nNext:")
    for step in steps:
        console.print(f"  {step}", highlight=False)


def evaluation(console: Console, result: Evaluation, bars_per_year: float | None = None) -> None:
    """A formula's metrics, a column for each split; the curves among them are drawn."""
    console.print(f"{result.formula}\n[dim]snapshot {result.snapshot}, universe {result.universe}[/]", highlight=False)
    table = Table()
    table.add_column("metric")
    for split in result.splits:
        table.add_column(split, justify="right")
    for name in SplitMetrics.model_fields:
        if name not in {"deciles", "years", "horizons", "held"}:
            table.add_row(name, *(_number(getattr(metrics, name), 4) for metrics in result.splits.values()))
    if bars_per_year is not None:
        found = ((metrics.long_short_net, metrics.held) for metrics in result.splits.values())
        yearly = (None if net is None else net * bars_per_year / held for net, held in found)
        table.add_row("long_short_net a year", *(_number(net, 4) for net in yearly))
    console.print(table)
    splits = result.splits.items()
    by_horizon = {split: {f"{at.horizon} days": at.rank_ic for at in metrics.horizons} for split, metrics in splits}
    by_year = {split: {str(at.year): at.rank_ic for at in metrics.years} for split, metrics in splits}
    by_decile = {
        split: {str(k): mean and mean * 1e4 for k, mean in enumerate(metrics.deciles, 1)} for split, metrics in splits
    }
    _evidence(console, result)
    _curves(console, "rank IC by days held", by_horizon)
    _curves(console, "rank IC by year", by_year)
    _curves(console, "mean return by decile of the factor, basis points", by_decile, digits=1)


def _evidence(console: Console, result: Evaluation) -> None:
    """How sure all days together are, by themselves and among all that was tried."""
    evidence, standing = result.evidence, result.standing
    lines = []
    if evidence is not None:
        lines.append(
            f"all {evidence.days} days: rank IC {evidence.rank_ic:.4f}, ICIR {evidence.sharpe:.3f}, "
            f"t {evidence.t_stat:.1f}, p {evidence.p_value:.1e}, worth {evidence.observations:.0f} independent days"
        )
    if standing is not None:
        lines.append(
            f"trial {standing.trial} on this market: p may be {standing.level:.1e}, luck alone would show an ICIR of "
            f"{standing.expected_maximum:.3f}, deflated Sharpe ratio {standing.deflated_sharpe:.3f}"
        )
    lines += [
        f"{part.name}: {part.days} days, rank IC {_number(part.rank_ic, 4)}, t {_number(part.rank_t_stat, 1)}"
        for part in result.memory
    ]
    console.print("\n".join(lines), highlight=False)


def _curves(console: Console, title: str, curves: dict[str, dict[str, float | None]], digits: int = 4) -> None:
    """Values by split and label as bars; those below zero are red."""
    largest = max((abs(value) for curve in curves.values() for value in curve.values() if value), default=0.0)
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for split in curves:
        table.add_column(split, min_width=BAR + 9)
    for label in dict.fromkeys(label for curve in curves.values() for label in curve):
        cells = []
        for curve in curves.values():
            value = curve.get(label)
            length = round(abs(value) / largest * BAR) if value else 0
            colour = "red" if value is not None and value < 0 else "green"
            cells.append(Text(f"{_number(value, digits):>7} ").append("█" * length, style=colour))
        table.add_row(label, *cells)
    console.print(table)


def appraisal(console: Console, found: Appraisal, bars_per_year: float) -> None:
    """A formula's metrics, the evidence in them, and what the library would ask of it."""
    evaluation(console, found.evaluation, bars_per_year)
    _robustness(console, found.robustness)
    _checks(console, "what the library asks, beside originality and what it would add", found.checks)


def opening(console: Console, found: Opening) -> None:
    """What the hold-out said of a factor."""
    evaluation(console, found.evaluation)
    _checks(console, "what the hold-out was to show", found.checks)
    colour = "green" if found.status == "live" else "red"
    console.print(f"factor {found.factor_id} is [bold {colour}]{found.status}[/]; it will not be asked again")


def ledger(console: Console, found: Iterable[MarketLedger]) -> None:
    """How much was tried, a column for each market."""
    markets = list(found)
    rows = {
        "trials": [f"{one.trials:,}" for one in markets],
        "effective trials, by clustering": [f"{one.effective_trials:,.0f}" for one in markets],
        "variance of their daily ICIRs": [f"{one.score_variance:.2e}" for one in markets],
        "the same without skill": [f"{one.null_variance:.2e}" for one in markets],
        "best ICIR expected without skill": [f"{one.expected_maximum:.3f}" for one in markets],
        "discoveries": [f"{one.discoveries:,}" for one in markets],
        "the next p may be": [f"{one.next_level:.1e}" for one in markets],
        "under any dependence": [f"{one.next_dependent_level:.1e}" for one in markets],
        "openings of the hold-out this quarter": [str(one.openings_spent) for one in markets],
        "openings left": [str(one.openings_left) for one in markets],
    }
    table = Table("")
    for one in markets:
        table.add_column(escape(one.market), justify="right")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)


def _robustness(console: Console, found: Robustness) -> None:
    """How certain the rank IC is, how long it lasts, and on what it depends."""
    lines = [f"probabilistic Sharpe ratio {found.probabilistic_sharpe:.3f}"]
    if found.interval is not None:
        lines.append("95 % interval of the rank IC [{:.4f}, {:.4f}]".format(*found.interval))
    if found.minimum_track_record is not None:
        lines.append(f"days that it takes to tell it from none {found.minimum_track_record:.0f}")
    if found.half_life is not None:
        low, high = (_number(end, 1) for end in (found.half_life.low, found.half_life.high))
        lines.append(f"half-life {found.half_life.days:.1f} days held [{low}, {high}]")
    if found.slope is not None:
        lines.append(f"slope {found.slope.slope:+.4f} a year, t {found.slope.t_stat:.1f}, p {found.slope.p_value:.2f}")
    if found.change is not None:
        mark = "changed" if found.change.significant else "no change; the most likely was"
        lines.append(f"{mark} on {found.change.day}, from {found.change.before:.4f} to {found.change.after:.4f}")
    console.print("\n".join(lines), highlight=False)
    _curves(console, "rank IC by the market's state", {"": {part.name: part.rank_ic for part in found.regimes}})


def _checks(console: Console, title: str, checks: Iterable[Check]) -> None:
    table = Table(title=escape(title), title_justify="left")
    for column in ("check", "value", "limit", "", "hint"):
        table.add_column(column)
    for check in checks:
        mark = "[green]passed[/]" if check.passed else "[red]failed[/]"
        table.add_row(check.name, f"{check.value:.3g}", f"{check.limit:.3g}", mark, escape(check.hint))
    console.print(table)


def inspection(console: Console, found: Inspection) -> None:
    """The checks of a formula, its penalty, and the alphas nearest to it."""
    _checks(console, found.formula, found.checks)
    terms = ", ".join(f"{name} {value:.2f}" for name, value in asdict(found.terms).items())
    console.print(f"R_g {found.penalty:.2f} of {terms}", highlight=False)
    columns = {
        "nearest, whatever the numbers": [match.alpha for match in found.parametric],
        "nodes": [str(match.nodes) for match in found.parametric],
        "share": [f"{match.share:.0%}" for match in found.parametric],
        "in common": [match.subtree for match in found.parametric],
    }
    near = Table(*columns)
    for row in zip(*columns.values(), strict=True):
        near.add_row(*map(escape, row))
    console.print(near)


def certificate(console: Console, found: Certificate) -> None:
    """What was tried of a formula's causality, and what it came to."""
    console.print(f"{found.formula}\n[dim]snapshot {found.snapshot}, universe {found.universe}[/]", highlight=False)
    table = Table("check", "", show_lines=True)
    table.add_column("cells", justify="right")
    table.add_column("worst", justify="right")
    table.add_column("what was compared", ratio=1)
    for check in found.checks:
        mark = "[green]passed[/]" if check.passed else "[red]failed[/]"
        where = f"\n[red]refuted at {check.refuted}[/]" if check.refuted else ""
        table.add_row(check.name, mark, f"{check.cells:,}", f"{check.worst:.1g}", escape(check.detail) + where)
    console.print(table)
    verdict = "[green]proven[/]" if found.proven else "[red]not proven[/]"
    dates = ", ".join(map(str, found.dates)) or "no date"
    console.print(f"{verdict} at {dates}; seed {found.seed}, certificate {found.hash}", highlight=False)


def zoo(console: Console, entries: list[dict[str, Any]]) -> None:
    """Known alphas, with the columns that they need and the market, or most markets, lack."""
    table = Table("alpha", "needs", "formula", expand=True)
    for source, of_source in groupby(entries, key=lambda entry: str(entry["source"])):
        table.add_section()
        table.add_row(f"[bold]{escape(source)}[/]", "", "")
        for entry in of_source:
            needs = " ".join(f"${name}" for name in entry["needs"])
            table.add_row(escape(str(entry["name"])), needs, escape(str(entry["formula"])))
    console.print(table)


def operators(console: Console, known: Iterable[Operator], composites: Iterable[Composite]) -> None:
    """The operators, a table for each kind, and the composites with what they stand for."""
    families: dict[Kind, list[Operator]] = {}
    for op in known:
        families.setdefault(op.kind, []).append(op)
    for kind, family in families.items():
        columns = {
            "operator": [op.signature for op in family],
            "meaning": [f"{op.doc} (also {', '.join(op.aliases)})" if op.aliases else op.doc for op in family],
            "look-back": [op.look_back_rule for op in family],
            "qlib": [op.qlib or "" for op in family],
        }
        _table(console, kind.value, columns)
    columns = {
        "composite": [one.signature for one in composites],
        "meaning": [f"{one.doc}\n{one.expansion}" for one in composites],
    }
    _table(console, "composites, which the parser writes out", columns)


def _table(console: Console, title: str, columns: dict[str, list[str]]) -> None:
    """A table as wide as the terminal; what is the same in all rows is said once, in the title."""
    alike = [f"{name} {cells[0] or 'none'}" for name, cells in columns.items() if len(set(cells)) == 1]
    shown = {name: cells for name, cells in columns.items() if len(set(cells)) > 1}
    table = Table(title=", ".join([title, *alike]), title_justify="left", expand=True)
    for name in shown:
        table.add_column(
            name,
            ratio={"meaning": 5, "qlib": 3}.get(name),
            no_wrap=name in {"operator", "composite"},
            overflow="fold",
            max_width=len(name) if name == "look-back" else None,
        )
    for row in zip(*shown.values(), strict=True):
        table.add_row(*map(escape, row))
    console.print(table)


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"
