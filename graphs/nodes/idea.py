"""Idea: a hypothesis for the round."""

from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from factors.hypothesis import Hypothesis
from graphs.notebook import hypothesis_id
from graphs.state import Direction
from graphs.workbench import Workbench


def idea(state: Direction, runtime: Runtime[Workbench]) -> Command[Literal["factor", "evaluate"]]:
    """Propose a hypothesis; a round without one has nothing to measure."""
    bench, number = runtime.context, state["round"]["number"]
    brief, name = bench.brief(state["round"], state["known"]), hypothesis_id(number)
    bench.progress("idea", number, 0, 1)
    proposal, fault = bench.ask(f"idea {number}", "idea", number, lambda: bench.researcher.propose(brief))
    if proposal is None:
        return Command(goto="evaluate", update={"faults": [fault] if fault else [], "arrived": [number]})
    hypothesis = Hypothesis(id=name, move=brief.move, parents=brief.parents, **proposal.model_dump())
    bench.notebook.propose(hypothesis)
    bench.journal.append(
        "hypothesis.proposed",
        {
            "round": number,
            "hypothesis": hypothesis.model_dump(mode="json"),
            "prompt": bench.researcher.prompts.get("idea"),
        },
        f"{name} proposed",
    )
    known = {**state["known"], "hypotheses": [*state["known"]["hypotheses"], name]}
    return Command(goto=Send("factor", {**state, "known": known}), update={"hypotheses": [name]})
