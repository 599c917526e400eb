"""Plan: how the next rounds' hypotheses come about, and whether there are any."""

from random import Random
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from graphs.bandit import next_steps
from graphs.state import Round, State, direction, known
from graphs.workbench import Workbench


def plan(state: State, runtime: Runtime[Workbench]) -> Command[Literal["idea", "__end__"]]:
    """Begin as many rounds as there are directions, side by side; end when a limit of the budget is reached."""
    bench, notebook = runtime.context, runtime.context.notebook
    budget, begun = bench.run.budget, state["round"]
    trials = notebook.tried(state["trials"])
    stopped = bench.exhausted(trials) or ("rounds" if begun >= budget.rounds else "")
    if stopped:
        return Command(goto="__end__", update={"stopped": stopped})
    draw = Random(f"{bench.run.seed}:{begun}:plan")  # noqa: S311 - a search that must replay, not a secret
    most = budget.candidates * (1 + budget.attempts)
    left = int(min(bench.left("candidates"), most * budget.directions))
    # Another run of the user's may have taken the last of an allowance since it was looked at.
    count = max(1, int(min(budget.directions, budget.rounds - begun, bench.left("rounds"), left)))
    hypotheses = [notebook.hypotheses[one] for one in state["hypotheses"]]
    feedback = {one: notebook.feedback[one] for one in state["lessons"]}
    rounds: list[Round] = []
    steps = next_steps(hypotheses, feedback, trials, count, budget.directions, draw)
    for number, step in enumerate(steps, start=begun + 1):
        abreast = sum(one["move"] == "new" for one in rounds) if step.move == "new" else 0
        rounds.append(Round(number=number, move=step.move, parents=list(step.parents), abreast=abreast))
    shares = (min(most, left // count + (place < left % count)) for place in range(count))
    sends = [Send("idea", direction(one, known(state), share)) for one, share in zip(rounds, shares, strict=True)]
    return Command(goto=sends, update={"round": begun + count, "directions": rounds})
