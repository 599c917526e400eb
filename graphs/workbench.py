"""Workbench: the live objects that the nodes work with, passed as LangGraph's runtime context and never stored."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TypeVar

from factors.admission import Thresholds
from factors.causality import prove
from factors.certificate import Certificate
from factors.errors import ResearcherError
from factors.evaluation import Evaluation
from factors.evaluator import Evaluator
from factors.expression import Expr
from factors.hypothesis import Candidate, Factor, Hypothesis
from factors.kernels.elementwise import Values
from factors.labels import Labels
from factors.measurement import around
from factors.panel import Panel
from factors.parse import parse
from factors.redundancy import Ranks, Sample, correlation, marginal_rank_ic, train_ranks
from factors.regularization import Limits
from factors.zoo import Zoo, recurrent
from graphs.researcher import Brief, Researcher, Trial
from graphs.state import State
from storage.ledger import evaluated
from storage.records import Records
from storage.runs import Run

Answer = TypeVar("Answer")

RANKS_KEPT = 128  # a few megabytes each
NEAR = 3  # published alphas that are compared on all days, out of those nearest on some


def _without_limit(_: str) -> float:
    return float("inf")


@dataclass(frozen=True)
class Workbench:
    """One run's tools.

    Attributes:
        run: what was asked.
        researcher: who plays the agents.
        evaluator: computes formulas over the market's in-sample bars, and stops when the run shall.
        labels: their forward returns.
        library: the factors that the team had accepted on this market when the run, or the first run it repeats, began.
        known: published and imported alphas, and the library.
        sample: ranks of the published alphas on some days, computed or read when first asked for.
        records: where results and events are written.
        cancelled: whether somebody asked to stop the run.
        deadline: ``time.monotonic()`` in seconds after which no new work begins.
        left: what the user's allowance leaves of rounds, candidates or evaluations.
        cutoff: the last day that the run's model may have read of, ``None`` where that is not known.
        thresholds: what measured candidates are held to.
        observe: holds while the node of that name works.
        spent: which limit of its model calls the run has reached, or which of its user's; empty while none is.
    """

    run: Run
    researcher: Researcher
    evaluator: Evaluator
    labels: Labels
    library: tuple[Factor, ...]
    known: Zoo
    sample: Callable[[], Sample]
    records: Records
    cancelled: Callable[[], bool]
    deadline: float
    left: Callable[[str], float] = _without_limit
    spent: Callable[[], str] = str
    observe: Callable[[str], AbstractContextManager[object]] = nullcontext
    cutoff: date | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    _ranks: dict[str, Ranks] = field(default_factory=dict)

    @property
    def panel(self) -> Panel:
        """The market's in-sample bars."""
        return self.evaluator.panel

    @property
    def limits(self) -> Limits:
        """What the gate refuses."""
        return self.run.limits

    def brief(self, state: State, began: Brief | None = None) -> Brief:
        """What the researcher may know now, in the round that ``began`` so."""
        known = {
            "hypotheses": tuple(state["hypotheses"]),
            "trials": tuple(state["trials"]),
            "feedback": dict(state["feedback"]),
        }
        if began is not None:
            return began.model_copy(update=known)
        return Brief(
            direction=self.run.direction,
            seed=self.run.seed,
            round=state["round"],
            fields=tuple(self.panel.fields),
            library=self.library,
            limits=self.limits,
            avoid=self.recurrent_parts(state["trials"]),
            **known,
        )

    def recurrent_parts(self, trials: Iterable[Trial]) -> tuple[str, ...]:
        """Parts that recur in the library and in what these trials have added to it."""
        accepted = (self.parsed(trial.candidate.formula) for trial in trials if trial.accepted)
        return tuple(map(str, recurrent([*self._library, *accepted])))

    def zoo(self, trials: Iterable[Trial]) -> Zoo:
        """The alphas known after these trials: those of the start, the accepted, and as duplicates only, the rest."""
        zoo = Zoo(parent=self.known)
        for trial in trials:
            if trial.evaluation is None:
                continue
            expr = self.parsed(trial.candidate.formula)
            if trial.accepted:
                zoo.add(trial.candidate.name, expr)
            else:
                zoo.add_tried(f"candidate {trial.candidate.id} of this run", expr)
        return zoo

    def ask(self, agent: str, number: int, question: Callable[[], Answer]) -> tuple[Answer | None, str]:
        """What the researcher answers in a round; nothing where it fails, which is told as an event, and why.

        A spent budget is no fault of the researcher's: there is no why.
        """
        try:
            return question(), ""
        except ResearcherError as error:
            fault = {"round": number, "agent": agent, "kind": error.kind, "message": str(error)}
            self.records.append_event(self.run.id, "agent.failed", fault)
            return None, "" if error.kind == "budget" else str(error)

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
        formulas = [self.parsed(trial.candidate.formula) for trial in trials]
        place = {formula: number for number, formula in enumerate(self.evaluator.expect(formulas))}
        return [trials[k] for k in sorted(range(len(trials)), key=lambda k: place[formulas[k]])]

    def measured(self, candidate: Candidate) -> Evaluation:
        """What the ledger holds of a candidate's formula, measured now where it does not hold it yet.

        Raises:
            EvaluationStoppedError: the run shall stop.
        """
        run = self.run
        entry = evaluated(
            self.records.ledger,
            self.parsed(candidate.formula),
            self.evaluator,
            self.labels,
            market=run.market,
            snapshot=run.snapshot,
            universe=run.universe,
            user=run.user,
            run_id=run.id,
        )
        return entry.evaluation(candidate, around(entry.rank_ic, self.panel, self.cutoff, self.labels.horizons[0]))

    def beside(self, formula: str, peers: list[str]) -> tuple[dict[str, float], float]:
        """Rank correlations on train with accepted factors and the nearest alphas; and the IC of what the former leave.

        Raises:
            EvaluationStoppedError: the run shall stop.
        """
        own = self.train_ranks(formula)
        others = {peer: self.train_ranks(peer) for peer in peers}
        nearest = self.sample().nearest(own, NEAR)
        near = {f"{alpha.name}: {alpha.expr}": self.train_ranks(str(alpha.expr)) for alpha in nearest}
        correlations = {name: correlation(own, ranks) for name, ranks in (others | near).items()}
        marginal = marginal_rank_ic(own, list(others.values()), self.labels, self.panel, self.evaluator.team)
        return correlations, marginal

    def prove(self, formula: str) -> Certificate:
        """Try whether a canonical formula's values are causal, by the run's seed.

        Raises:
            EvaluationStoppedError: the run shall stop.
        """
        run, team = self.run, self.evaluator.team
        return prove(
            self.parsed(formula),
            self.panel,
            market=run.market,
            snapshot=run.snapshot,
            universe=run.universe,
            seed=run.seed,
            stop=team.stop,
        )

    def train_ranks(self, formula: str) -> Ranks:
        """Daily ranks of a canonical formula on train; the last used are kept, as each new factor meets them all."""
        if formula not in self._ranks:
            while len(self._ranks) >= RANKS_KEPT:
                del self._ranks[next(iter(self._ranks))]
            with self._values(formula) as values:
                self._ranks[formula] = train_ranks(values, self.panel)
        return self._ranks[formula]

    @cached_property
    def _library(self) -> list[Expr]:
        return [self.parsed(factor.formula) for factor in self.library]

    def parsed(self, formula: str) -> Expr:
        """A canonical formula over the market's columns."""
        return parse(formula, tuple(self.panel.fields))

    def _values(self, formula: str) -> AbstractContextManager[Values]:
        return self.evaluator.values(self.parsed(formula))

    def exhausted(self, trials: Iterable[Trial] = ()) -> str:
        """Which limit is reached, empty while there is room for another evaluation beside those of these trials."""
        if self.cancelled():
            return "cancelled"
        if sum(trial.evaluation is not None for trial in trials) >= self.run.budget.evaluations:
            return "evaluations"
        return "seconds" if time.monotonic() >= self.deadline else self.spent()
