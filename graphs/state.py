"""What the state machine carries from node to node: values and ids only, so that it can be stored and resumed."""

from operator import add
from typing import Annotated

from typing_extensions import TypedDict

from factors.hypothesis import Candidate, Hypothesis
from graphs.researcher import Feedback, Trial


class State(TypedDict):
    """The state of a run.

    Attributes:
        round: rounds begun.
        hypotheses: one a round, but for rounds in which the researcher had none.
        feedback: one a round, but for rounds of which nothing could be said.
        trials: every candidate refused by the gate or evaluated, each attempt on its own.
        drafts: candidates that await the gate.
        passed: trials that the gate let through and that await evaluation.
        revisable: refused trials of this pass that may be rewritten.
        accepted: ids of accepted factors.
        stopped: what ended the run: ``rounds``, ``evaluations``, ``seconds`` or ``cancelled``; empty while it runs.
    """

    round: int
    hypotheses: Annotated[list[Hypothesis], add]
    feedback: Annotated[list[Feedback], add]
    trials: Annotated[list[Trial], add]
    drafts: list[Candidate]
    passed: list[Trial]
    revisable: list[Trial]
    accepted: Annotated[list[str], add]
    stopped: str


def initial_state() -> State:
    """The state before the first round."""
    return State(
        round=0,
        hypotheses=[],
        feedback=[],
        trials=[],
        drafts=[],
        passed=[],
        revisable=[],
        accepted=[],
        stopped="",
    )


def evaluated(state: State) -> list[Trial]:
    """The trials that spent an evaluation."""
    return [trial for trial in state["trials"] if trial.evaluation is not None]
