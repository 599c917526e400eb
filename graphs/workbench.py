"""Workbench: the live objects that the nodes work with, passed as LangGraph's runtime context and never stored."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from factors.admission import Ranks, Thresholds, train_ranks
from factors.evaluation import SplitMetrics
from factors.evaluator import Evaluator
from factors.hypothesis import Factor, Hypothesis
from factors.kernels.elementwise import Values
from factors.labels import Labels
from factors.metrics import split_metrics
from factors.panel import Panel
from factors.parse import parse
from factors.regularization import Limits, Zoo
from graphs.researcher import Brief, Researcher, Trial
from graphs.state import State, evaluated
from storage.records import Records
from storage.runs import Run

RANKS_KEPT = 128  # a few megabytes each


@dataclass(frozen=True, slots=True)
class Workbench:
    """One run's tools.

    Attributes:
        run: what was asked.
        researcher: who plays the agents.
        evaluator: computes formulas over the market's in-sample bars, and stops when the run shall.
        labels: their forward returns.
        library: the factors that the team had accepted on this market when the run, or the first run it repeats, began.
        records: where results and events are written.
        cancelled: whether somebody asked to stop the run.
        deadline: ``time.monotonic()`` in seconds after which no new work begins.
    """

    run: Run
    researcher: Researcher
    evaluator: Evaluator
    labels: Labels
    library: tuple[Factor, ...]
    records: Records
    cancelled: Callable[[], bool]
    deadline: float
    limits: Limits = field(default_factory=Limits)
    thresholds: Thresholds = field(default_factory=Thresholds)
    _ranks: dict[str, Ranks] = field(default_factory=dict)

    @property
    def panel(self) -> Panel:
        """The market's in-sample bars."""
        return self.evaluator.panel

    def brief(self, state: State) -> Brief:
        """What the researcher may know now."""
        return Brief(
            direction=self.run.direction,
            seed=self.run.seed,
            round=state["round"],
            fields=tuple(self.panel.fields),
            hypotheses=tuple(state["hypotheses"]),
            trials=tuple(state["trials"]),
            feedback=tuple(state["feedback"]),
            library=tuple(factor.formula for factor in self.library),
        )

    def zoo(self, state: State) -> Zoo:
        """The alphas known now: the library's, this run's accepted ones, and as duplicates only, all it has tried."""
        zoo = Zoo((factor.name, parse(factor.formula, tuple(self.panel.fields))) for factor in self.library)
        for trial in evaluated(state):
            expr = parse(trial.candidate.formula, tuple(self.panel.fields))
            if trial.accepted:
                zoo.add(trial.candidate.name, expr)
            else:
                zoo.add_tried(f"candidate {trial.candidate.id} of this run", expr)
        return zoo

    def record(self, trial: Trial, hypothesis: Hypothesis) -> None:
        """Write a finished trial to the run's record."""
        self.records.record_trial(
            self.run.id,
            round=trial.round,
            hypothesis=hypothesis,
            candidate=trial.candidate,
            verdict=trial.verdict,
            evaluation=trial.evaluation,
            admission=trial.admission,
        )

    def expect(self, trials: Sequence[Trial]) -> list[Trial]:
        """Announce trials that will be measured, so that what they share is computed once; return the best order."""
        formulas = [parse(trial.candidate.formula, tuple(self.panel.fields)) for trial in trials]
        place = {formula: number for number, formula in enumerate(self.evaluator.expect(formulas))}
        return [trials[k] for k in sorted(range(len(trials)), key=lambda k: place[formulas[k]])]

    def measure(self, formula: str) -> dict[str, SplitMetrics]:
        """Metrics of a canonical formula by split.

        Raises:
            EvaluationStoppedError: the run shall stop.
        """
        with self._values(formula) as values:
            return split_metrics(values, self.labels, self.panel, self.evaluator.team)

    def train_ranks(self, formula: str) -> Ranks:
        """Daily ranks of a canonical formula on train; the last used are kept, as each new factor meets them all."""
        if formula not in self._ranks:
            while len(self._ranks) >= RANKS_KEPT:
                del self._ranks[next(iter(self._ranks))]
            with self._values(formula) as values:
                self._ranks[formula] = train_ranks(values, self.panel)
        return self._ranks[formula]

    def _values(self, formula: str) -> AbstractContextManager[Values]:
        return self.evaluator.values(parse(formula, tuple(self.panel.fields)))

    def exhausted(self, state: State) -> str:
        """Which limit of the budget is reached, empty while there is room for another evaluation."""
        if self.cancelled():
            return "cancelled"
        if len(evaluated(state)) >= self.run.budget.evaluations:
            return "evaluations"
        return "seconds" if time.monotonic() >= self.deadline else ""
