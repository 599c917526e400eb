"""Feedback: what a round taught."""

from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from graphs.state import Direction
from graphs.workbench import Workbench


def feedback(state: Direction, runtime: Runtime[Workbench]) -> Command[Literal["plan"]]:
    """Reflect on the round's trials, if it had a hypothesis."""
    bench, brief = runtime.context, state["brief"]
    name = f"h{brief.round}"
    trials = [trial for trial in brief.trials if trial.round == brief.round]
    hypothesis = next((one for one in brief.hypotheses if one.id == name), None)
    lesson = None
    if hypothesis is not None:
        lesson, _ = bench.ask("feedback", brief.round, lambda: bench.researcher.reflect(brief, hypothesis, trials))
    bench.records.append_event(
        bench.run.id,
        "round.completed",
        {
            "round": brief.round,
            "rounds": bench.run.budget.rounds,
            "feedback": lesson and lesson.model_dump(mode="json"),
            "prompt": bench.researcher.prompts.get("feedback"),
            "evaluations": sum(trial.evaluation is not None for trial in brief.trials),
            "accepted": sum(trial.accepted for trial in brief.trials),
        },
    )
    return Command(goto="plan", update={"feedback": {name: lesson} if lesson else {}})
