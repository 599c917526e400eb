"""The seam between the state machine and whoever plays the three agents.

The graph calls a :class:`Researcher` and cannot tell a language model from the offline search. A researcher keeps
nothing between calls: all it may use is in the :class:`Brief`, so a run can be stopped, moved and replayed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from factors.evaluation import Evaluation, SplitMetrics
from factors.expression import Expr
from factors.hypothesis import Candidate, Factor, Feedback, Hypothesis, Move, Variable
from factors.prose import Prose
from factors.regularization import Limits, agreement
from factors.verdict import Check, Verdict

LAMBDA = 0.1  #: weight of R_g beside a daily rank ICIR, of which a good factor has 0.1


class Trial(BaseModel):
    """A candidate and what became of it.

    ``verdict`` is the gate's; ``evaluation`` and ``admission`` (the checks on the measured values) are absent where
    the gate refused. Where no figures could be had there is no evaluation, and ``admission`` says why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: int
    candidate: Candidate
    verdict: Verdict
    evaluation: Evaluation | None = None
    admission: tuple[Check, ...] = ()

    @property
    def accepted(self) -> bool:
        """True when the candidate entered the library."""
        return self.evaluation is not None and all(check.passed for check in self.admission)

    @property
    def reward(self) -> float:
        """What a trial is chosen by: rank ICIR on valid after costs less a tenth of R_g; minus infinity if refused."""
        return self._on("valid")

    @property
    def fitness(self) -> float:
        """What a trial is bred by: the same on train, so that valid, which was not bred for, can choose."""
        return self._on("train")

    def _on(self, split: str) -> float:
        if self.evaluation is None:
            return float("-inf")
        return _after_costs(self.evaluation.splits[split]) - LAMBDA * self.verdict.penalty


def _after_costs(metrics: SplitMetrics) -> float:
    """The rank ICIR times what costs leave of the book's return, at worst its negative; as it is if that is unknown."""
    icir, gross, net = metrics.rank_icir or 0.0, metrics.long_short, metrics.long_short_net
    if icir <= 0 or gross is None or net is None:
        return icir
    return icir * max(net / gross, -1.0) if gross > 0 else -icir


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that were measured, best first."""
    return sorted((trial for trial in trials if trial.evaluation), key=lambda trial: trial.reward, reverse=True)


class Brief(BaseModel):
    """All that a researcher may know when it is asked: train and valid results only.

    ``round`` counts from 1. ``fields`` are the market's columns without the dollar sign, and ``bar`` is what a row
    of them is called. ``move`` and ``parents``, the
    ids of hypotheses, say how this round's hypothesis is to come about, and ``abreast`` how many rounds began together
    before it, from which it is to part ways. ``feedback`` is by hypothesis. ``library`` holds
    what the team has accepted on this market before the run began, ``avoid`` the parts that recur in it and in what the
    run has accepted. ``limits`` are the gate's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    direction: str
    seed: int
    round: int
    fields: tuple[str, ...]
    bar: Literal["trading day", "bar"] = "trading day"
    move: Move = "new"
    parents: tuple[str, ...] = ()
    abreast: int = 0
    hypotheses: tuple[Hypothesis, ...] = ()
    trials: tuple[Trial, ...] = ()
    feedback: Mapping[str, Feedback] = Field(default_factory=dict)
    library: tuple[Factor, ...] = ()
    avoid: tuple[str, ...] = ()
    limits: Limits = Limits()

    @property
    def refusals(self) -> dict[str, int]:
        """How many candidates of the run failed each check, of the gate and of what was measured."""
        checks = (check for trial in self.trials for check in (*trial.verdict.checks, *trial.admission))
        return dict(Counter(check.name for check in checks if not check.passed).most_common())

    @property
    def ancestors(self) -> tuple[Hypothesis, ...]:
        """The hypotheses that this round's is to go on from."""
        return tuple(hypothesis for hypothesis in self.hypotheses if hypothesis.id in self.parents)


class Idea(BaseModel):
    """The Idea agent's answer: a hypothesis still without an id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    statement: Prose = Field(min_length=1, max_length=2000)
    observation: Prose = Field(max_length=2000)
    knowledge: Prose = Field(max_length=2000)
    justification: Prose = Field(max_length=2000)
    specification: Prose = Field(max_length=2000)
    horizon_days: int = Field(ge=1, le=60)


class Draft(BaseModel):
    """The Factor agent's answer for one candidate; ``parents`` are ids of earlier candidates of the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Prose = Field(min_length=1, max_length=120)
    description: Prose = Field(min_length=1, max_length=2000)
    formula: Prose = Field(max_length=4000)
    variables: tuple[Variable, ...] = ()
    parents: tuple[str, ...] = ()


class Alignment(BaseModel):
    """How well hypothesis and description (c1), description and formula (c2) agree: each in [0, 1], with a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hypothesis_description: float = Field(ge=0, le=1)
    hypothesis_reason: Prose = Field(max_length=2000)
    description_formula: float = Field(ge=0, le=1)
    formula_reason: Prose = Field(max_length=2000)

    @property
    def agreement(self) -> float:
        """C, in [0, 1]."""
        return agreement(self.hypothesis_description, self.description_formula)

    @property
    def reason(self) -> str:
        """Both reasons, that of the lower score first."""
        reasons = [
            (self.hypothesis_description, f"description against hypothesis: {self.hypothesis_reason}"),
            (self.description_formula, f"formula against description: {self.formula_reason}"),
        ]
        return "; ".join(text for _, text in sorted(reasons, key=lambda scored: scored[0]))


class Researcher(Protocol):
    """Plays Idea, Factor and Eval, for several directions at once.

    Every method may raise ``ResearcherError``: the step is left out then, and the run goes on.
    """

    @property
    def prompts(self) -> Mapping[str, str]:
        """Versions of the prompts by agent; empty where no language model is asked."""

    def propose(self, brief: Brief) -> Idea:
        """Idea: the hypothesis of this round, made by the brief's move."""

    def draft(self, brief: Brief, hypothesis: Hypothesis, count: int) -> list[Draft]:
        """Factor: at most ``count`` formulas for the hypothesis."""

    def revise(self, brief: Brief, hypothesis: Hypothesis, refused: list[Trial]) -> list[Draft | None]:
        """Factor: each refused candidate rewritten to meet its verdict's hints, in order; ``None`` gives it up."""

    def judge(self, hypothesis: Hypothesis, candidates: Sequence[tuple[Candidate, Expr]]) -> list[Alignment | None]:
        """How well the hypothesis, each candidate's description and its formula hold together; ``None`` if unjudged."""

    def reflect(self, brief: Brief, hypothesis: Hypothesis, trials: list[Trial]) -> Feedback:
        """Eval: what this round's trials teach."""
