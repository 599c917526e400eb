"""Feedback: what a round taught."""

from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from graphs.notebook import hypothesis_id
from graphs.state import Direction
from graphs.workbench import Workbench


def feedback(state: Direction, runtime: Runtime[Workbench]) -> Command[Literal["plan"]]:
    """Reflect on the round's trials, if it had a hypothesis."""
    bench, number = runtime.context, state["round"]["number"]
    name = hypothesis_id(number)
    brief = bench.brief(state["round"], state["known"])
    trials = [trial for trial in brief.trials if trial.round == number]
    hypothesis = next((one for one in brief.hypotheses if one.id == name), None)
    lesson = None
    bench.progress("feedback", number, 0, 1)
    if hypothesis is not None:
        step = f"feedback {number}"
        lesson, _ = bench.ask(step, "feedback", number, lambda: bench.researcher.reflect(brief, hypothesis, trials))
    bench.journal.append(
        "round.completed",
        {
            "round": number,
            "rounds": bench.run.budget.rounds,
            "feedback": lesson and lesson.model_dump(mode="json"),
            "prompt": bench.researcher.prompts.get("feedback"),
            "evaluations": sum(trial.evaluation is not None for trial in brief.trials),
            "accepted": sum(trial.accepted for trial in brief.trials),
        },
        f"{name} completed",
    )
    if lesson is None:
        return Command(goto="plan")
    bench.notebook.feedback[name] = lesson
    return Command(goto="plan", update={"lessons": [name]})
