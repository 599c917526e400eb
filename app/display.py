"""What the command line shows to people."""

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from app.inspection import Inspection
from app.settings import Settings
from factors.evaluation import Evaluation, SplitMetrics
from factors.hypothesis import Factor
from factors.operators import Composite, Kind, Operator
from factors.significance import expected_best_t
from storage.markets import Snapshot
from storage.runs import Run, RunEvent

SHOWN = 10
BAR = 20  # characters of the longest bar


class RunProgress:
    """A live view of a run: rounds done, evaluations, accepted factors, and the event last seen."""

    def __init__(self, console: Console, run: Run) -> None:
        self._bar = Progress(
            TextColumn("mining [bold]{task.fields[market]}[/]"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rounds · {task.fields[evaluations]} evaluated · {task.fields[accepted]} accepted"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task("mine", total=run.budget.rounds, market=run.market, evaluations=0, accepted=0)
        self._counts = {"candidate.evaluated": 0, "factor.accepted": 0}
        self._last = Text("loading the market", style="dim")
        self._live = Live(console=console, refresh_per_second=5, get_renderable=self._render)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, events: Iterable[RunEvent]) -> None:
        """Take note of new events."""
        for event in events:
            if event.type in self._counts:
                self._counts[event.type] += 1
            if event.type == "round.completed":
                self._bar.advance(self._task)
            self._last = Text(_sentence(event), style="dim", overflow="ellipsis", no_wrap=True)
        self._bar.update(
            self._task,
            evaluations=self._counts["candidate.evaluated"],
            accepted=self._counts["factor.accepted"],
        )

    def _render(self) -> Group:
        return Group(self._bar, self._last)


def _sentence(event: RunEvent) -> str:
    words = {
        "hypothesis.proposed": lambda data: f"idea: {data['hypothesis']['statement']}",
        "candidate.drafted": lambda data: f"drafted: {data['candidate']['formula']}",
        "candidate.judged": lambda data: f"{'passed' if data['accepted'] else 'refused'}: {data['candidate_id']}",
        "candidate.evaluated": lambda data: f"measured: {data['evaluation']['formula']}",
        "alphas.ranked": lambda data: f"ranking {data['alphas']} known alphas, once for this market",
        "factor.accepted": lambda data: f"accepted: {data['factor']['formula']}",
        "round.completed": lambda data: f"lesson: {(data['feedback'] or {}).get('lesson', 'none')}",
        "agent.failed": lambda data: f"{data['agent']} failed: {data['message']}",
    }
    return words[event.type](event.data) if event.type in words else event.type


def leaderboard(console: Console, run: Run, accepted: list[Factor]) -> None:
    """A run's accepted factors, best valid rank ICIR first."""
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
        luck = expected_best_t(run.evaluations)
        console.print(
            f"{run.evaluations} candidates were tried: luck alone would show a best train t of about {luck:.1f}. "
            "Until a factor is promoted on the sealed hold-out it is a lead, not a finding.",
            style="dim",
            highlight=False,
        )
    else:
        console.print("No factor held up on train and valid. More rounds, or another direction, may find one.")


def factors(console: Console, found: list[Factor]) -> None:
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


def evaluation(console: Console, result: Evaluation) -> None:
    """A formula's metrics, a column for each split; the curves among them are drawn."""
    console.print(f"{result.formula}\n[dim]snapshot {result.snapshot}, universe {result.universe}[/]", highlight=False)
    table = Table()
    table.add_column("metric")
    for split in result.splits:
        table.add_column(split, justify="right")
    for name in SplitMetrics.model_fields:
        if name not in {"deciles", "years", "horizons"}:
            table.add_row(name, *(_number(getattr(metrics, name), 4) for metrics in result.splits.values()))
    console.print(table)
    splits = result.splits.items()
    by_horizon = {split: {f"{at.horizon} days": at.rank_ic for at in metrics.horizons} for split, metrics in splits}
    by_year = {split: {str(at.year): at.rank_ic for at in metrics.years} for split, metrics in splits}
    by_decile = {
        split: {str(k): mean and mean * 1e4 for k, mean in enumerate(metrics.deciles, 1)} for split, metrics in splits
    }
    _curves(console, "rank IC by days held", by_horizon)
    _curves(console, "rank IC by year", by_year)
    _curves(console, "mean return by decile of the factor, basis points", by_decile, digits=1)


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


def inspection(console: Console, found: Inspection) -> None:
    """The checks of a formula, its penalty, and the alphas nearest to it."""
    table = Table(title=escape(found.formula), title_justify="left")
    for column in ("check", "value", "limit", "", "hint"):
        table.add_column(column)
    for check in found.checks:
        mark = "[green]passed[/]" if check.passed else "[red]failed[/]"
        table.add_row(check.name, f"{check.value:.3g}", f"{check.limit:g}", mark, escape(check.hint))
    console.print(table)
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


def snapshots(console: Console, found: Iterable[Snapshot]) -> None:
    """Markets, three lines each."""
    for snapshot in found:
        console.print(
            f"[bold]{snapshot.market}[/]{' (synthetic)' if snapshot.synthetic else ''}, snapshot {snapshot.id}\n"
            f"  {snapshot.instruments:,} instruments, {snapshot.rows:,} bars, "
            f"universes {', '.join(map(escape, snapshot.universes))}\n"
            f"  train {snapshot.first_date} to {snapshot.train_end}, valid to {snapshot.valid_end}, "
            f"hold-out {'sealed' if snapshot.has_holdout else 'none'}",
            highlight=False,
        )


def snapshot_facts(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON, without its place on disk."""
    return {name: value for name, value in asdict(snapshot).items() if name != "path"}


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"
