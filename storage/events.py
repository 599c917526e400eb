"""What each event of a run tells: one payload type for each event type.

``PAYLOADS`` is the one place that pairs them; the log's types, the OpenAPI document and the checks of the tests derive
from it. Rows are read without it, so a log that an older version wrote stays readable.
"""

from functools import reduce
from operator import or_
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, create_model

from factors.errors import FailureKind
from factors.evaluation import Evaluation
from factors.hypothesis import Candidate, Factor, Feedback, Hypothesis
from factors.regularization import Limits
from factors.verdict import Check, Verdict
from storage.runs import Budget, EventType, ModelCall, Progress, RunEvent


class Payload(BaseModel):
    """The data of an event; a number that JSON lacks is the string ``NaN``, ``Infinity`` or ``-Infinity``."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunQueued(Payload):
    """The recipe of the run, and who asked for it."""

    direction: str
    market: str
    universe: str
    snapshot: str
    seed: int
    model: str
    budget: Budget
    limits: Limits
    user: str


class RunStarted(Payload):
    """The run is worked on from now."""


class RunResumed(Payload):
    """The run goes on in another process, from where the one before has left it, which ``died`` or was stopped."""

    died: bool = False


class HypothesisProposed(Payload):
    """A round's idea; ``prompt`` is the version of the prompt that it answers, null without a language model."""

    round: int
    hypothesis: Hypothesis
    prompt: str | None


class CandidateDrafted(Payload):
    """A formula for the round's idea, or a rewrite of a refused one."""

    round: int
    candidate: Candidate
    prompt: str | None


class CandidateJudged(Payload):
    """What the gate says of a candidate; ``prompt`` is the judge's, null where it was not asked."""

    round: int
    candidate_id: str
    accepted: bool
    verdict: Verdict
    prompt: str | None


class CandidateEvaluated(Payload):
    """What was measured of a candidate, and the checks that it is held to by itself."""

    round: int
    evaluation: Evaluation
    checks: tuple[Check, ...]


Step: TypeAlias = Literal["measure", "admit"]


class CandidateFailed(Payload):
    """A candidate could not be measured: its formula takes more than it may, as the check says.

    ``step`` is what could not be done: its measurement, or what decides whether it is admitted.
    """

    round: int
    candidate_id: str
    step: Step = "measure"
    checks: tuple[Check, ...]


class AlphasRanked(Payload):
    """The known alphas, so many, are ranked on this market: once, before the first is compared with."""

    alphas: int


class ModelCalled(Payload):
    """A call of a language model has ended; its ``answer`` is left out."""

    call: ModelCall


class AgentFailed(Payload):
    """An agent gave no answer that can be used in a ``step``, and the round went on without."""

    step: str
    round: int
    agent: str
    kind: FailureKind
    message: str


class FactorAccepted(Payload):
    """A factor of the run is in the library; ``new`` is false where another run had put it there."""

    factor: Factor
    new: bool


class RoundCompleted(Payload):
    """A round of the ``rounds`` of the budget is over; ``evaluations`` and ``accepted`` are of the run so far."""

    round: int
    rounds: int
    feedback: Feedback | None
    prompt: str | None
    evaluations: int
    accepted: int


class RunEnded(Payload):
    """How many factors the run accepted, why it failed, what ended it, and which ``limit`` that was; see ``Run``."""

    accepted: int
    error: str | None
    reason: str | None
    limit: str | None


PAYLOADS: Final[dict[EventType, type[Payload]]] = {
    "run.queued": RunQueued,
    "run.started": RunStarted,
    "run.resumed": RunResumed,
    "hypothesis.proposed": HypothesisProposed,
    "candidate.drafted": CandidateDrafted,
    "candidate.judged": CandidateJudged,
    "candidate.evaluated": CandidateEvaluated,
    "candidate.failed": CandidateFailed,
    "alphas.ranked": AlphasRanked,
    "model.called": ModelCalled,
    "agent.failed": AgentFailed,
    "factor.accepted": FactorAccepted,
    "round.completed": RoundCompleted,
    "run.succeeded": RunEnded,
    "run.failed": RunEnded,
    "run.cancelled": RunEnded,
}


class RunProgressEvent(BaseModel):
    """How far a running run is: not a row of its log, without a number, and not told again to who comes later."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    type: Literal["run.progress"]
    data: Progress


def _event_model(kind: EventType) -> type[RunEvent]:
    """The event of that type with its payload, named like ``CandidateJudgedEvent``."""
    name = "".join(word.title() for word in kind.split(".")) + "Event"
    fields: dict[str, Any] = {"type": (Literal[kind], ...), "data": (PAYLOADS[kind], ...)}
    return create_model(name, __base__=RunEvent, __doc__=PAYLOADS[kind].__doc__, **fields)


EVENTS: Final[dict[EventType, type[RunEvent]]] = {kind: _event_model(kind) for kind in get_args(EventType)}

StreamedEvent: Any = Annotated[reduce(or_, (*EVENTS.values(), RunProgressEvent)), Field(discriminator="type")]
"""Whatever the data of a stream's event may be, told apart by ``type``."""
