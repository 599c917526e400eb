"""What the state machine carries from node to node: ids, and candidates on their way, so that it can be stored.

What a run has found so far is in its :class:`graphs.notebook.Notebook`, by these ids.
"""

from operator import add
from typing import Annotated, TypeVar

from typing_extensions import TypedDict

from factors.hypothesis import Candidate, Move
from graphs.researcher import Trial

Item = TypeVar("Item")


def held(before: list[Item], more: list[Item] | None) -> list[Item]:
    """What several nodes add to, until ``None`` empties it."""
    return [] if more is None else before + more


class Round(TypedDict):
    """A round that was begun.

    Attributes:
        number: counted from 1.
        move: how its hypothesis is to come about.
        parents: the hypotheses that it goes on from.
        abreast: rounds that began together before it, from which it is to part ways.
    """

    number: int
    move: Move
    parents: list[str]
    abreast: int


class Known(TypedDict):
    """What was known at some time, as ids.

    Attributes:
        hypotheses: one a round, but for rounds in which the researcher had none.
        lessons: hypotheses that there is feedback of.
        trials: candidates that were refused by the gate or measured, each attempt on its own.
    """

    hypotheses: list[str]
    lessons: list[str]
    trials: list[str]


class State(TypedDict):
    """The state of a run.

    Attributes:
        round: rounds begun.
        directions: the rounds that are worked on now.
        hypotheses: as in :class:`Known`, and so are the two that follow.
        lessons: see there.
        trials: see there.
        passed: trials that the gate let through and that await evaluation.
        arrived: rounds whose candidates have all met the gate, out of those that are worked on.
        accepted: ids of accepted factors.
        faults: why rounds have no hypothesis.
        stopped: what ended the run: ``rounds``, ``cancelled``, or a limit of the budget; empty while it runs.
    """

    round: int
    directions: list[Round]
    hypotheses: Annotated[list[str], add]
    lessons: Annotated[list[str], add]
    trials: Annotated[list[str], add]
    passed: Annotated[list[Trial], held]
    arrived: Annotated[list[int], held]
    accepted: Annotated[list[str], add]
    faults: Annotated[list[str], add]
    stopped: str


class Direction(TypedDict):
    """One round on its way through the nodes; several go side by side and know nothing of each other.

    Attributes:
        round: which.
        known: what was known when it began, and its own hypothesis once it has one.
        wanted: candidates that the round may still draft, rewrites included.
        drafts: candidates that await the gate.
        passed: trials of this round that the gate let through.
        refused: those that it refused.
        revisable: those of the last pass that may be rewritten.
    """

    round: Round
    known: Known
    wanted: int
    drafts: list[Candidate]
    passed: list[Trial]
    refused: list[Trial]
    revisable: list[Trial]


def direction(begun: Round, known: Known, wanted: int = 0) -> Direction:
    """A round at its beginning."""
    return Direction(round=begun, known=known, wanted=wanted, drafts=[], passed=[], refused=[], revisable=[])


def known(state: State) -> Known:
    """What is known now."""
    return Known(hypotheses=state["hypotheses"], lessons=state["lessons"], trials=state["trials"])


def initial_state() -> State:
    """The state before the first round."""
    return State(
        round=0,
        directions=[],
        hypotheses=[],
        lessons=[],
        trials=[],
        passed=[],
        arrived=[],
        accepted=[],
        faults=[],
        stopped="",
    )
