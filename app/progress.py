"""A run, or an import, as it goes on, on the command line."""

from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from factors.prose import on_one_line
from storage.runs import Run, RunEvent
from storage.watch import HASH, READ, WRITE

_DONE: Final = {HASH: "hashed", WRITE: "written"}


class ImportProgress:
    """An import as it goes on: a bar of rows on a terminal, and what is said of the source, a line each, anywhere."""

    def __init__(self, console: Console, market: str) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("importing [bold]{task.fields[market]}[/]"),
            BarColumn(),
            TextColumn("{task.fields[rows]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("import", total=None, market=escape(market), rows="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def count(self, stage: str, done: int, total: int) -> None:
        """Show how much of a stage is done, and of how much."""
        words = f"{done} % read" if stage == READ else f"{done:,} of {total:,} rows {_DONE[stage]}"
        self._bar.update(self._task, completed=done, total=total, rows=words)

    def tell(self, line: str) -> None:
        """Show what is said of the source."""
        self._console.print(on_one_line(line), highlight=False, markup=False, soft_wrap=True)


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
        "candidate.failed": lambda data: f"failed: {data['candidate_id']}, {data['checks'][0]['hint']}",
        "alphas.ranked": lambda data: f"ranking {data['alphas']} known alphas, once for this market",
        "factor.accepted": lambda data: f"accepted: {data['factor']['formula']}",
        "round.completed": lambda data: f"lesson: {(data['feedback'] or {}).get('lesson', 'none')}",
        "agent.failed": lambda data: f"{data['agent']} failed: {data['message']}",
    }
    return words[event.type](event.data) if event.type in words else event.type
