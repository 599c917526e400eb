"""Workbench: the live objects that the nodes work with, passed as LangGraph's runtime context and never stored."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from factors.admission import Thresholds
from factors.evaluator import evaluate
from factors.hypothesis import Factor, Hypothesis
from factors.kernels.elementwise import Values
from factors.panel import Panel
from factors.parse import parse
from factors.regularization import Limits, Zoo
from graphs.researcher import Brief, Researcher, Trial
from graphs.state import State, evaluated
from storage.records import Records
from storage.runs import Run


@dataclass(frozen=True, slots=True)
class Workbench:
    """One run's tools.

    Attributes:
        run: what was asked.
        researcher: who plays the agents.
        panel: the market's in-sample bars.
        label: forward returns, ``[tiles, rows, 64]``.
        library: the factors that the team had accepted on this market when the run, or the first run it repeats, began.
        records: where results and events are written.
        cancelled: whether somebody asked to stop the run.
        deadline: ``time.monotonic()`` in seconds after which no new work begins.
    """

    run: Run
    researcher: Researcher
    panel: Panel
    label: Values
    library: tuple[Factor, ...]
    records: Records
    cancelled: Callable[[], bool]
    deadline: float
    limits: Limits = field(default_factory=Limits)
    thresholds: Thresholds = field(default_factory=Thresholds)

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

    def values(self, formula: str) -> Values:
        """Values of a canonical formula on the panel."""
        return evaluate(parse(formula, tuple(self.panel.fields)), self.panel)

    def exhausted(self, state: State) -> str:
        """Which limit of the budget is reached, empty while there is room for another evaluation."""
        if self.cancelled():
            return "cancelled"
        if len(evaluated(state)) >= self.run.budget.evaluations:
            return "evaluations"
        return "seconds" if time.monotonic() >= self.deadline else ""
