"""Workbench: the live objects that the nodes work with, passed as LangGraph's runtime context and never stored."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TypeVar

from factors.admission import Thresholds
from factors.certificate import Certificate
from factors.errors import EvaluationStoppedError, ResearcherError
from factors.evaluation import Evaluation
from factors.expression import Expr
from factors.hypothesis import Candidate, Factor
from factors.labels import HORIZONS
from factors.measurement import around
from factors.parse import parse
from factors.regularization import Limits
from factors.zoo import Zoo, recurrent
from graphs.laboratory import Laboratory
from graphs.notebook import Notebook
from graphs.researcher import Brief, Researcher, Trial
from graphs.state import Known, Round
from storage.journal import Journal
from storage.ledger import Question
from storage.records import Records
from storage.runs import Progress, Run, Stage

Answer = TypeVar("Answer")


def _without_limit(_: str) -> float:
    return float("inf")


def _always(_: str) -> bool:
    return True


@dataclass(frozen=True)
class Workbench:
    """One run's tools.

    Attributes:
        run: what was asked.
        researcher: who plays the agents.
        laboratory: measures formulas on the market's in-sample bars, and stops when the run shall.
        library: the factors that the team had accepted on this market when the run, or the first run it repeats, began.
        known: published and imported alphas, and the library.
        records: what the team has measured and may spend.
        journal: where the run's results and events are written.
        notebook: what the run has found so far.
        cancelled: whether somebody asked to stop the run; raises where its process is about to end.
        deadline: ``time.monotonic()`` in seconds after which no new work begins.
        left: what the user's allowance leaves of rounds or candidates.
        begin: counts the evaluation of the candidate of that id before it is made, where there is room for it.
        cutoff: the last day that the run's model may have read of, ``None`` where that is not known.
        thresholds: what measured candidates are held to.
        observe: holds while the node of that name works.
        tell: takes how far the run is.
        spent: which limit of its model calls the run has reached, or which of its user's; empty while none is.
    """

    run: Run
    researcher: Researcher
    laboratory: Laboratory
    library: tuple[Factor, ...]
    known: Zoo
    records: Records
    journal: Journal
    notebook: Notebook
    cancelled: Callable[[], bool]
    deadline: float
    left: Callable[[str], float] = _without_limit
    begin: Callable[[str], bool] = _always
    spent: Callable[[], str] = str
    observe: Callable[[str], AbstractContextManager[object]] = nullcontext
    tell: Callable[[Progress], object] = lambda _: None
    cutoff: date | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def limits(self) -> Limits:
        """What the gate refuses."""
        return self.run.limits

    def brief(self, begun: Round, known: Known) -> Brief:
        """What the researcher may know in a round, of all that is known."""
        notebook = self.notebook
        trials = notebook.tried(known["trials"])
        return Brief(
            direction=self.run.direction,
            seed=self.run.seed,
            round=begun["number"],
            move=begun["move"],
            parents=tuple(begun["parents"]),
            abreast=begun["abreast"],
            fields=self.laboratory.fields,
            bar="trading day" if self.laboratory.dates.dtype == "datetime64[D]" else "bar",
            library=self.library,
            limits=self.limits,
            avoid=self.recurrent_parts(trials),
            hypotheses=tuple(notebook.hypotheses[one] for one in known["hypotheses"]),
            trials=tuple(trials),
            feedback={one: notebook.feedback[one] for one in known["lessons"]},
        )

    def progress(self, stage: Stage, number: int, done: int, total: int) -> None:
        """Tell how far the run is: what a stage of a round has done of what it works through."""
        rounds = self.run.budget.rounds
        self.tell(Progress(stage=stage, round=number, rounds=rounds, done=done, total=total))

    def recurrent_parts(self, trials: Iterable[Trial]) -> tuple[str, ...]:
        """Parts that recur in the library and in what these trials have added to it."""
        accepted = (self.parsed(trial.candidate.formula) for trial in trials if trial.accepted)
        return tuple(map(str, recurrent([*self._library, *accepted])))

    def zoo(self, trials: Iterable[Trial]) -> Zoo:
        """The alphas known after these trials: those of the start, the accepted, and as duplicates only, the rest."""
        zoo = Zoo(parent=self.known)
        for trial in trials:
            if trial.evaluation is None and not trial.admission:
                continue
            expr = self.parsed(trial.candidate.formula)
            if trial.accepted:
                zoo.add(trial.candidate.name, expr)
            else:
                zoo.add_tried(f"candidate {trial.candidate.id} of this run", expr)
        return zoo

    def ask(self, step: str, agent: str, number: int, question: Callable[[], Answer]) -> tuple[Answer | None, str]:
        """What the researcher answers in a step of a round; nothing where it fails, which is told as an event, and why.

        A spent budget is no fault of the researcher's: there is no why. A step that failed before the run was cut off
        has failed.
        """
        failures = self.notebook.failures
        if step not in failures:
            try:
                return question(), ""
            except ResearcherError as error:
                failures[step] = error.kind, str(error)
                fault = {"step": step, "round": number, "agent": agent, "kind": error.kind, "message": str(error)}
                self.journal.append("agent.failed", fault, f"{step} failed")
        kind, message = failures[step]
        return None, "" if kind == "budget" else message

    def record(self, trial: Trial) -> str:
        """Take a finished trial down, in the run's record as well; its id."""
        self.notebook.keep(trial)
        self.journal.record_trial(
            round=trial.round,
            hypothesis=self.notebook.hypotheses[trial.candidate.hypothesis_id],
            candidate=trial.candidate,
            verdict=trial.verdict,
            evaluation=trial.evaluation,
            admission=trial.admission,
        )
        return trial.candidate.id

    def expect(self, trials: Sequence[Trial]) -> list[Trial]:
        """Announce trials that will be measured, so that what they share is computed once; return the best order."""
        formulas = [self.parsed(trial.candidate.formula) for trial in trials]
        place = {formula: number for number, formula in enumerate(self.laboratory.expect(formulas))}
        return [trials[k] for k in sorted(range(len(trials)), key=lambda k: place[formulas[k]])]

    def measured(self, candidate: Candidate) -> Evaluation:
        """What the ledger holds of a candidate's formula, measured now where it does not hold it yet.

        Raises what :class:`Laboratory` does, as do ``beside`` and ``prove``.
        """
        run, expr, horizon = self.run, self.parsed(candidate.formula), HORIZONS[0]
        entry = self.records.ledger.measured(
            Question.of(expr, market=run.market, snapshot=run.snapshot, universe=run.universe, horizon=horizon),
            lambda: self.laboratory.measure(expr),
            user=run.user,
            run_id=run.id,
        )
        dates, settlement = self.laboratory.dates, self.laboratory.settlement
        return entry.evaluation(candidate, around(entry.rank_ic, dates, self.cutoff, horizon, settlement))

    def beside(self, formula: str, peers: list[str]) -> tuple[dict[str, float], float]:
        """Rank correlations on train with accepted factors and the nearest alphas; and the IC of what the former leave.

        All formulas are canonical.
        """
        return self.laboratory.beside(self.parsed(formula), [self.parsed(peer) for peer in peers])

    def prove(self, formula: str) -> Certificate:
        """Try whether a canonical formula's values are causal, by the run's seed."""
        return self.laboratory.prove(self.parsed(formula), self.run.seed)

    @cached_property
    def _library(self) -> list[Expr]:
        return [self.parsed(factor.formula) for factor in self.library]

    def parsed(self, formula: str) -> Expr:
        """A canonical formula over the market's columns."""
        return parse(formula, self.laboratory.fields)

    @contextmanager
    def until_stopped(self) -> Iterator[None]:
        """Work that ends with what it has where the run shall stop; where its process is about to end, so does all."""
        with suppress(EvaluationStoppedError):
            yield
        self.cancelled()

    def exhausted(self, trials: Iterable[Trial] = ()) -> str:
        """Which limit is reached, empty while there is room for another evaluation beside those of these trials."""
        if self.cancelled():
            return "cancelled"
        if sum(trial.evaluation is not None for trial in trials) >= self.run.budget.evaluations:
            return "evaluations"
        return "seconds" if time.monotonic() >= self.deadline else self.spent()
