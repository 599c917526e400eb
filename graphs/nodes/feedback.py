"""Feedback: what the round taught, and whether there is another."""

from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from graphs.state import State, evaluated
from graphs.workbench import Workbench


def feedback(state: State, runtime: Runtime[Workbench]) -> Command[Literal["idea", "__end__"]]:
    """Reflect on the round's trials, if it had a hypothesis; end when a limit of the budget is reached."""
    bench = runtime.context
    trials = [trial for trial in state["trials"] if trial.round == state["round"]]
    brief, hypotheses = bench.brief(state), state["hypotheses"]
    lesson = None
    if hypotheses and hypotheses[-1].id == f"h{state['round']}":
        lesson = bench.ask("feedback", state["round"], lambda: bench.researcher.reflect(brief, hypotheses[-1], trials))
    stopped = bench.exhausted(state) or ("rounds" if state["round"] >= bench.run.budget.rounds else "")
    bench.records.append_event(
        bench.run.id,
        "round.completed",
        {
            "round": state["round"],
            "rounds": bench.run.budget.rounds,
            "feedback": lesson and lesson.model_dump(mode="json"),
            "evaluations": len(evaluated(state)),
            "accepted": len(state["accepted"]),
            "stopped": stopped,
        },
    )
    update = {"feedback": [lesson] if lesson else [], "stopped": stopped}
    return Command(goto="__end__", update=update) if stopped else Command(goto="idea", update=update)
