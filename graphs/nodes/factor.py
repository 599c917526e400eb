"""Factor: formulas for the hypothesis, and rewrites of those that the gate refused."""

from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from factors.hypothesis import Candidate
from graphs.researcher import Draft
from graphs.state import Direction
from graphs.workbench import Workbench


def factor(state: Direction, runtime: Runtime[Workbench]) -> Command[Literal["regularize"]]:
    """Draft the round's candidates, or rewrite the refused ones and only those."""
    bench, number = runtime.context, state["round"]["number"]
    wanted = len(state["revisable"]) or min(bench.run.budget.candidates, state["wanted"])
    bench.progress("factor", number, 0, wanted)
    agent = "revise" if state["revisable"] else "factor"
    drafts = _rewrites(state, bench) if state["revisable"] else _fresh(state, bench)
    for candidate in drafts:
        told = {"round": number, "candidate": candidate.model_dump(mode="json")}
        told["prompt"] = bench.researcher.prompts.get(agent)
        bench.journal.append("candidate.drafted", told, f"{candidate.id} drafted")
    left = state["wanted"] - len(drafts)
    return Command(goto=Send("regularize", {**state, "wanted": left, "drafts": drafts, "revisable": []}))


def _fresh(direction: Direction, bench: Workbench) -> list[Candidate]:
    wanted, number = min(bench.run.budget.candidates, direction["wanted"]), direction["round"]["number"]
    brief = bench.brief(direction["round"], direction["known"])
    hypothesis, step = brief.hypotheses[-1], f"factor {number}"
    drafts, _ = bench.ask(step, "factor", number, lambda: bench.researcher.draft(brief, hypothesis, wanted))
    return [
        _candidate(draft, direction, slot, attempt=0) for slot, draft in enumerate((drafts or [])[:wanted], start=1)
    ]


def _rewrites(direction: Direction, bench: Workbench) -> list[Candidate]:
    refused, number = direction["revisable"][: direction["wanted"]], direction["round"]["number"]
    brief = bench.brief(direction["round"], direction["known"])
    hypothesis, step = brief.hypotheses[-1], f"revise {refused[0].candidate.id}"
    told = brief.model_copy(update={"trials": (*brief.trials, *direction["refused"])})
    rewrites, _ = bench.ask(step, "revise", number, lambda: bench.researcher.revise(told, hypothesis, refused))
    candidates = []
    for trial, draft in zip(refused, rewrites or [], strict=False):
        if draft is not None:
            _, slot, attempt = trial.candidate.id.split(".")
            candidates.append(_candidate(draft, direction, int(slot), attempt=int(attempt) + 1))
    return candidates


def _candidate(draft: Draft, direction: Direction, slot: int, attempt: int) -> Candidate:
    return Candidate(
        id=f"{direction['round']['number']}.{slot}.{attempt}",
        hypothesis_id=direction["known"]["hypotheses"][-1],
        attempt=attempt,
        **draft.model_dump(),
    )
