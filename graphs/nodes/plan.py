"""Plan: how the next rounds' hypotheses come about, and whether there are any."""

from random import Random
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from graphs.bandit import next_steps
from graphs.researcher import Brief
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
    most = budget.candidates * (1 + budget.attempts)
    left = int(min(bench.left("candidates"), most * budget.directions))
    # Another run of the user's may have taken the last of an allowance since it was looked at.
    count = max(1, int(min(budget.directions, budget.rounds - begun, bench.left("rounds"), left)))
    steps = next_steps(state["hypotheses"], state["feedback"], state["trials"], count, budget.directions, draw)
    known = bench.brief(state)
    briefs: list[Brief] = []
    for number, step in enumerate(steps, start=begun + 1):
        abreast = sum(brief.move == "new" for brief in briefs) if step.move == "new" else 0
        told = {"round": number, "move": step.move, "parents": step.parents, "abreast": abreast}
        briefs.append(known.model_copy(update=told))
    shares = (min(most, left // count + (place < left % count)) for place in range(count))
    sends = [Send("idea", direction(brief, share)) for brief, share in zip(briefs, shares, strict=True)]
    return Command(goto=sends, update={"round": begun + count, "directions": briefs})
