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
    bench, number = runtime.context, state["brief"].round
    agent = "revise" if state["revisable"] else "factor"
    drafts = _rewrites(state, bench) if state["revisable"] else _fresh(state, bench)
    for candidate in drafts:
        told = {"round": number, "candidate": candidate.model_dump(mode="json")}
        told["prompt"] = bench.researcher.prompts.get(agent)
        bench.records.append_event(bench.run.id, "candidate.drafted", told)
    left = state["wanted"] - len(drafts)
    return Command(goto=Send("regularize", {**state, "wanted": left, "drafts": drafts, "revisable": []}))


def _fresh(direction: Direction, bench: Workbench) -> list[Candidate]:
    wanted, brief = min(bench.run.budget.candidates, direction["wanted"]), direction["brief"]
    hypothesis = brief.hypotheses[-1]
    drafts, _ = bench.ask("factor", brief.round, lambda: bench.researcher.draft(brief, hypothesis, wanted))
    return [
        _candidate(draft, direction, slot, attempt=0) for slot, draft in enumerate((drafts or [])[:wanted], start=1)
    ]


def _rewrites(direction: Direction, bench: Workbench) -> list[Candidate]:
    refused, brief = direction["revisable"][: direction["wanted"]], direction["brief"]
    hypothesis = brief.hypotheses[-1]
    told = brief.model_copy(update={"trials": (*brief.trials, *direction["refused"])})
    rewrites, _ = bench.ask("revise", brief.round, lambda: bench.researcher.revise(told, hypothesis, refused))
    candidates = []
    for trial, draft in zip(refused, rewrites or [], strict=False):
        if draft is not None:
            _, slot, attempt = trial.candidate.id.split(".")
            candidates.append(_candidate(draft, direction, int(slot), attempt=int(attempt) + 1))
    return candidates


def _candidate(draft: Draft, direction: Direction, slot: int, attempt: int) -> Candidate:
    brief = direction["brief"]
    return Candidate(
        id=f"{brief.round}.{slot}.{attempt}",
        hypothesis_id=brief.hypotheses[-1].id,
        attempt=attempt,
        **draft.model_dump(),
    )
