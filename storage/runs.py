"""The nouns of a run: what is asked for, what becomes of it, and the events that tell it."""

from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, computed_field

from factors.errors import AlphaAgentError, FailureKind
from factors.evaluation import Evaluation
from factors.hypothesis import Candidate
from factors.regularization import Limits
from factors.verdict import Check, Verdict

RunStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
TerminalStatus = Literal["succeeded", "failed", "cancelled"]
TERMINAL: Final[frozenset[RunStatus]] = frozenset({"succeeded", "failed", "cancelled"})

EventType = Literal[
    "run.queued",
    "run.started",
    "run.resumed",
    "hypothesis.proposed",
    "candidate.drafted",
    "candidate.judged",
    "candidate.evaluated",
    "candidate.failed",
    "alphas.ranked",
    "model.called",
    "agent.failed",
    "factor.accepted",
    "round.completed",
    "run.succeeded",
    "run.failed",
    "run.cancelled",
]


class RunStateError(AlphaAgentError):
    """A step that the run's status does not allow: starting a run twice, adding to a finished one."""


class PrunedError(AlphaAgentError):
    """Events that were there and have been removed, see :mod:`storage.retention`."""


class FencedError(RunStateError):
    """A step on a run that another executor works on."""


class SpentError(AlphaAgentError):
    """A step that there is no room for any more.

    Attributes:
        limit: the field of the run's :class:`Budget`, or ``user_`` and the field of the user's :class:`Quota`.
        retry_after: seconds until there may be room again, ``None`` where nobody can wait for that.
    """

    def __init__(self, limit: str, retry_after: int | None = None) -> None:
        super().__init__(f"there is no room for this any more: {limit.replace('_', ' ')}")
        self.limit = limit
        self.retry_after = retry_after


class Budget(BaseModel):
    """What a run may spend.

    A round follows one hypothesis; ``directions`` of them are worked on at once. ``candidates`` are drafted in each
    round, ``attempts`` are rewrites of one refused candidate. All else bounds the whole run: ``rounds``,
    ``evaluations``, ``seconds``, ``model_calls``, their tokens, and ``usd``, of models whose price is known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(default=5, ge=1, le=1000)
    directions: int = Field(default=1, ge=1, le=16)
    candidates: int = Field(default=8, ge=1, le=64)
    attempts: int = Field(default=2, ge=0, le=10)
    evaluations: int = Field(default=1000, ge=1, le=100_000)
    seconds: int = Field(default=600, ge=1, le=86_400)
    model_calls: int = Field(default=1000, ge=1, le=100_000)
    input_tokens: int = Field(default=2_000_000, ge=1, le=10**9)
    output_tokens: int = Field(default=500_000, ge=1, le=10**9)
    usd: float | None = Field(default=None, gt=0, le=1e6)


class Allowance(BaseModel):
    """What one user's runs that are open or ended in the last 24 hours may spend together; ``None`` is no limit.

    The fields are counts over these runs, ``seconds`` of work and ``usd`` of calls whose price is known. Evaluations
    that the user asked for without a run count as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int | None = Field(default=None, ge=0)
    candidates: int | None = Field(default=None, ge=0)
    evaluations: int | None = Field(default=None, ge=0)
    model_calls: int | None = Field(default=None, ge=0)
    input_tokens: int | None = Field(default=None, ge=0)
    output_tokens: int | None = Field(default=None, ge=0)
    usd: float | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, ge=0)


class Quota(Allowance):
    """What one user may do: in 24 hours as an :class:`Allowance`, and at once.

    Attributes:
        concurrent_runs: runs that work at the same time; more of them wait.
        queued_runs: runs that wait.
        streams: event streams that a process of the server keeps open.
    """

    concurrent_runs: int = Field(default=2, ge=0)
    queued_runs: int = Field(default=20, ge=0)
    streams: int = Field(default=50, ge=0)


class RunRequest(BaseModel):
    """What a person asks for; where ``universe``, ``seed`` or ``model`` is ``None`` the service chooses.

    Of ``limits`` those that are given stand in for the service's own. A ``private`` run is told of to its user and to
    admins alone; the factors that it accepts join the team's library without their words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    direction: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
    market: str
    universe: str | None = None
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    model: str | None = None
    budget: Budget = Budget()
    limits: Limits = Limits()
    private: bool = False


Stage = Literal["idea", "factor", "regularize", "evaluate", "feedback"]
"""What a round is at."""


class Progress(BaseModel):
    """How far a running run is: the stage of a round out of ``rounds``, with ``done`` of its ``total``.

    These count what the stage works through: candidates that it drafts, judges or measures; one idea, one lesson.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Stage
    round: int = Field(ge=1)
    rounds: int = Field(ge=1)
    done: int = Field(ge=0)
    total: int = Field(ge=0)


class Run(BaseModel):
    """A run as it stands; times are UTC.

    Attributes:
        id: a UUIDv7, so that ids sort by creation.
        user: who asked.
        private: whether it is told of to them and to admins alone.
        limits: what its gate refuses.
        accepted: ids of the factors it accepted, in order of acceptance.
        error: why it failed, one line.
        stopped: the limit that ended it.
        seconds: time that it has worked, so far to a few seconds.
        position: its place in the queue, 1 for the next; ``None`` once it has started, or waits for one process alone.
        rounds: rounds completed.
        candidates: formulas that the gate judged, rewrites included.
        evaluations: candidates evaluated.
        model_calls: calls of language models, those that failed included.
        input_tokens: that they read, as their endpoint counts.
        output_tokens: that they wrote, likewise.
        usd: what the calls whose model has a price cost, US dollars.
        unpriced_calls: the other calls, of which tokens alone are counted.
        progress: how far it was when it last told; ``None`` where it has not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    user: str
    status: RunStatus
    direction: str
    market: str
    universe: str
    snapshot: str
    seed: int
    model: str
    budget: Budget
    limits: Limits
    private: bool
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    accepted: tuple[str, ...]
    error: str | None
    stopped: str | None
    seconds: float
    position: int | None
    rounds: int
    candidates: int
    evaluations: int
    model_calls: int
    input_tokens: int
    output_tokens: int
    usd: float
    unpriced_calls: int
    progress: Progress | None = None

    @computed_field
    def reason(self) -> str | None:
        """What ended it, in short: ``rounds``, ``cancelled``, or ``budget`` for any other limit."""
        return self.stopped if self.stopped in {None, "rounds", "cancelled"} else "budget"


class ModelCall(BaseModel):
    """One call of a language model.

    Attributes:
        step: which of the run's questions it asks; the same when a run that was cut off asks again.
        agent: who asked: ``idea``, ``factor``, ``revise``, ``judge``, ``feedback`` or ``repair``.
        model: the model's name.
        template: version of the prompt's template, see :class:`graphs.prompts.Prompt`.
        prompt: first 16 hexadecimal digits of the SHA-256 of the prompt.
        method: how the shape was asked for.
        input_tokens: as the endpoint counts them; an estimate from above where it does not, and while it works.
        output_tokens: likewise.
        usd: what they cost, US dollars; ``None`` where the model has no price.
        seconds: that it took, tries that failed included.
        failure: why there is no answer, ``None`` where there is; ``interrupted`` until it has ended.
        answer: what was said, from which a run that was cut off goes on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    agent: str
    model: str
    template: str
    prompt: str
    method: str
    input_tokens: int
    output_tokens: int
    usd: float | None
    seconds: float = 0.0
    failure: FailureKind | None = "interrupted"
    answer: str | None = None


class RunEvent(BaseModel):
    """What happened in a run; ``seq`` counts from 1 without gaps, ``at`` is UTC, ``data`` is plain JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    seq: int
    at: AwareDatetime
    type: EventType
    data: dict[str, Any]


class CandidateRecord(BaseModel):
    """A candidate and what became of it.

    ``hypothesis`` is the statement it was drafted for. ``verdict`` is the gate's; ``evaluation`` and
    ``admission`` (the checks on the measured values) are absent where the gate refused. Where no figures could be had
    there is no evaluation, and ``admission`` says why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    round: int
    hypothesis: str
    candidate: Candidate
    verdict: Verdict
    evaluation: Evaluation | None
    admission: tuple[Check, ...]
    accepted: bool
