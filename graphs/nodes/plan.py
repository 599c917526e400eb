"""Plan: how the next rounds' hypotheses come about, and whether there are any."""

from random import Random
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from graphs.bandit import next_steps
from graphs.state import State, direction
from graphs.workbench import Workbench


def plan(state: State, runtime: Runtime[Workbench]) -> Command[Literal["idea", "__end__"]]:
    """Begin as many rounds as there are directions, side by side; end when a limit of the budget is reached."""
    bench = runtime.context
    budget, begun = bench.run.budget, state["round"]
    stopped = bench.exhausted(state["trials"]) or ("rounds" if begun >= budget.rounds else "")
    if stopped:
        return Command(goto="__end__", update={"stopped": stopped})
    draw = Random(f"{bench.run.seed}:{begun}:plan")  # noqa: S311 - a search that must replay, not a secret
    count = min(budget.directions, budget.rounds - begun)
    steps = next_steps(state["hypotheses"], state["feedback"], state["trials"], count, budget.directions, draw)
    known = bench.brief(state)
    briefs = [
        known.model_copy(
            update={"round": begun + place + 1, "move": step.move, "parents": step.parents, "abreast": place}
        )
        for place, step in enumerate(steps)
    ]
    return Command(
        goto=[Send("idea", direction(brief)) for brief in briefs], update={"round": begun + count, "directions": briefs}
    )
