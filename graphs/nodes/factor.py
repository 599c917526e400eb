"""Factor: formulas for the hypothesis, and rewrites of those that the gate refused."""

from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from factors.hypothesis import Candidate
from graphs.researcher import Draft
from graphs.state import State
from graphs.workbench import Workbench


def factor(state: State, runtime: Runtime[Workbench]) -> Command[Literal["regularize"]]:
    """Draft the round's candidates, or rewrite the refused ones and only those."""
    bench = runtime.context
    drafts = _rewrites(state, bench) if state["revisable"] else _fresh(state, bench)
    for candidate in drafts:
        bench.records.append_event(
            bench.run.id,
            "candidate.drafted",
            {"round": state["round"], "candidate": candidate.model_dump(mode="json")},
        )
    return Command(goto="regularize", update={"drafts": drafts, "revisable": []})


def _fresh(state: State, bench: Workbench) -> list[Candidate]:
    wanted = bench.run.budget.candidates
    brief, hypothesis = bench.brief(state), state["hypotheses"][-1]
    drafts = bench.ask("factor", state["round"], lambda: bench.researcher.draft(brief, hypothesis, wanted)) or []
    return [_candidate(draft, state, slot, attempt=0) for slot, draft in enumerate(drafts[:wanted], start=1)]


def _rewrites(state: State, bench: Workbench) -> list[Candidate]:
    refused = state["revisable"]
    brief, hypothesis = bench.brief(state), state["hypotheses"][-1]
    rewrites = bench.ask("revise", state["round"], lambda: bench.researcher.revise(brief, hypothesis, refused)) or []
    candidates = []
    for trial, draft in zip(refused, rewrites, strict=False):
        if draft is not None:
            _, slot, attempt = trial.candidate.id.split(".")
            candidates.append(_candidate(draft, state, int(slot), attempt=int(attempt) + 1))
    return candidates


def _candidate(draft: Draft, state: State, slot: int, attempt: int) -> Candidate:
    return Candidate(
        id=f"{state['round']}.{slot}.{attempt}",
        hypothesis_id=state["hypotheses"][-1].id,
        attempt=attempt,
        **draft.model_dump(),
    )
