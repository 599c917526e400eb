"""Idea: a hypothesis for the round."""

from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from factors.hypothesis import Hypothesis
from graphs.state import Direction
from graphs.workbench import Workbench


def idea(state: Direction, runtime: Runtime[Workbench]) -> Command[Literal["factor", "evaluate"]]:
    """Propose a hypothesis; a round without one has nothing to measure."""
    bench, brief = runtime.context, state["brief"]
    proposal, fault = bench.ask("idea", brief.round, lambda: bench.researcher.propose(brief))
    if proposal is None:
        return Command(goto="evaluate", update={"faults": [fault] if fault else [], "arrived": [brief.round]})
    hypothesis = Hypothesis(id=f"h{brief.round}", move=brief.move, parents=brief.parents, **proposal.model_dump())
    bench.records.append_event(
        bench.run.id,
        "hypothesis.proposed",
        {
            "round": brief.round,
            "hypothesis": hypothesis.model_dump(mode="json"),
            "prompt": bench.researcher.prompts.get("idea"),
        },
    )
    told = brief.model_copy(update={"hypotheses": (*brief.hypotheses, hypothesis)})
    return Command(goto=Send("factor", {**state, "brief": told}), update={"hypotheses": [hypothesis]})
