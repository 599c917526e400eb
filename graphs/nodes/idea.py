"""Idea: a hypothesis for the round."""

from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from factors.hypothesis import Hypothesis
from graphs.state import State
from graphs.workbench import Workbench


def idea(state: State, runtime: Runtime[Workbench]) -> Command[Literal["factor"]]:
    """Begin a round: propose a hypothesis."""
    bench = runtime.context
    number = state["round"] + 1
    proposal = bench.researcher.propose(bench.brief({**state, "round": number}))
    hypothesis = Hypothesis(id=f"h{number}", **proposal.model_dump())
    bench.records.append_event(
        bench.run.id, "hypothesis.proposed", {"round": number, "hypothesis": hypothesis.model_dump(mode="json")}
    )
    update = {"round": number, "hypotheses": [hypothesis], "drafts": [], "passed": [], "revisable": []}
    return Command(goto="factor", update=update)
