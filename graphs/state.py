"""What the state machine carries from node to node: values and ids only, so that it can be stored and resumed."""

from operator import add, or_
from typing import Annotated, TypeVar

from typing_extensions import TypedDict

from factors.hypothesis import Candidate, Feedback, Hypothesis
from graphs.researcher import Brief, Trial

Item = TypeVar("Item")


def held(before: list[Item], more: list[Item] | None) -> list[Item]:
    """What several nodes add to, until ``None`` empties it."""
    return [] if more is None else before + more


class State(TypedDict):
    """The state of a run.

    Attributes:
        round: rounds begun.
        directions: briefs of the rounds that are worked on now.
        hypotheses: one a round, but for rounds in which the researcher had none.
        feedback: what each hypothesis taught, but for those of which nothing could be said.
        trials: every candidate refused by the gate or evaluated, each attempt on its own.
        passed: trials that the gate let through and that await evaluation.
        arrived: rounds whose candidates have all met the gate, out of those that are worked on.
        accepted: ids of accepted factors.
        faults: why rounds have no hypothesis.
        stopped: what ended the run: ``rounds``, ``cancelled``, or a limit of the budget; empty while it runs.
    """

    round: int
    directions: list[Brief]
    hypotheses: Annotated[list[Hypothesis], add]
    feedback: Annotated[dict[str, Feedback], or_]
    trials: Annotated[list[Trial], add]
    passed: Annotated[list[Trial], held]
    arrived: Annotated[list[int], held]
    accepted: Annotated[list[str], add]
    faults: Annotated[list[str], add]
    stopped: str


class Direction(TypedDict):
    """One round on its way through the nodes; several go side by side and know nothing of each other.

    Attributes:
        brief: what was known when the round began; once there is a hypothesis, with it.
        wanted: candidates that the round may still draft, rewrites included.
        drafts: candidates that await the gate.
        passed: trials of this round that the gate let through.
        refused: those that it refused.
        revisable: those of the last pass that may be rewritten.
    """

    brief: Brief
    wanted: int
    drafts: list[Candidate]
    passed: list[Trial]
    refused: list[Trial]
    revisable: list[Trial]


def direction(brief: Brief, wanted: int = 0) -> Direction:
    """A round at its beginning."""
    return Direction(brief=brief, wanted=wanted, drafts=[], passed=[], refused=[], revisable=[])


def initial_state() -> State:
    """The state before the first round."""
    return State(
        round=0,
        directions=[],
        hypotheses=[],
        feedback={},
        trials=[],
        passed=[],
        arrived=[],
        accepted=[],
        faults=[],
        stopped="",
    )
