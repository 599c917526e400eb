"""Idea: a hypothesis for the round."""

from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from factors.hypothesis import Hypothesis
from graphs.state import State
from graphs.workbench import Workbench


def idea(state: State, runtime: Runtime[Workbench]) -> Command[Literal["factor", "feedback"]]:
    """Begin a round: propose a hypothesis. A round without one is over."""
    bench = runtime.context
    number = state["round"] + 1
    brief = bench.brief({**state, "round": number})
    proposal = bench.ask("idea", number, lambda: bench.researcher.propose(brief))
    update = {"round": number, "drafts": [], "passed": [], "revisable": []}
    if proposal is None:
        return Command(goto="feedback", update=update)
    hypothesis = Hypothesis(id=f"h{number}", **proposal.model_dump())
    bench.records.append_event(
        bench.run.id, "hypothesis.proposed", {"round": number, "hypothesis": hypothesis.model_dump(mode="json")}
    )
    return Command(goto="factor", update={**update, "hypotheses": [hypothesis]})
