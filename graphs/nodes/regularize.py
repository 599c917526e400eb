"""Regularize: the gate that every candidate passes before it is measured, rewritten ones included."""

from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from factors.errors import FormulaError
from factors.hypothesis import Candidate, Hypothesis
from factors.regularization import Structure, alignment_check
from factors.verdict import Check, Verdict
from factors.zoo import Zoo
from graphs.researcher import Trial
from graphs.state import State
from graphs.workbench import Workbench

UNJUDGED = "the judge gave no answer, and what nobody vouches for is not measured"


def regularize(state: State, runtime: Runtime[Workbench]) -> Command[Literal["factor", "evaluate", "feedback"]]:
    """Judge each draft; refused ones go back to Factor while they have attempts left, the others on to Eval."""
    bench = runtime.context
    hypothesis = state["hypotheses"][-1]
    zoo = bench.zoo(state)
    for waiting in state["passed"]:
        zoo.add_tried(f"candidate {waiting.candidate.id} of this round", bench.parsed(waiting.candidate.formula))
    passed, refused = list(state["passed"]), []
    for draft in state["drafts"]:
        trial = _judged(draft, state["round"], hypothesis, zoo, bench)
        if trial.verdict.accepted:
            zoo.add_tried(f"candidate {draft.id} of this round", bench.parsed(trial.candidate.formula))
            passed.append(trial)
        else:
            refused.append(trial)
            bench.record(trial, hypothesis)
        bench.records.append_event(
            bench.run.id,
            "candidate.judged",
            {
                "round": state["round"],
                "candidate_id": draft.id,
                "accepted": trial.verdict.accepted,
                "verdict": trial.verdict.model_dump(mode="json"),
            },
        )
    revisable = [trial for trial in refused if trial.candidate.attempt < bench.run.budget.attempts]
    update = {"drafts": [], "passed": passed, "trials": refused, "revisable": revisable}
    if revisable and not bench.exhausted(state):
        return Command(goto="factor", update=update)
    return Command(goto="evaluate" if passed else "feedback", update=update)


def _judged(candidate: Candidate, number: int, hypothesis: Hypothesis, zoo: Zoo, bench: Workbench) -> Trial:
    """The candidate with its formula made canonical, and its verdict; the judge is asked last, as it costs most."""

    def trial(checks: tuple[Check, ...], cost: float) -> Trial:
        verdict = Verdict(candidate_id=candidate.id, checks=checks, penalty=cost)
        return Trial(round=number, candidate=candidate, verdict=verdict)

    try:
        expr = bench.parsed(candidate.formula)
    except FormulaError as error:
        return trial((Check(name="parse", value=0, limit=1, passed=False, hint=str(error)),), 1.0)
    candidate = candidate.model_copy(update={"formula": str(expr)})
    structure = Structure.of(expr, zoo)
    checks = structure.checks(bench.limits)
    agreement = 1.0
    if all(check.passed for check in checks):
        alignment = bench.ask("judge", number, lambda: bench.researcher.judge(hypothesis, candidate, expr))
        agreement = alignment.agreement if alignment else 0.0
        reason = alignment.reason if alignment else UNJUDGED
        checks = (*checks, alignment_check(agreement, reason, bench.limits))
    return trial(checks, structure.penalty(bench.limits, agreement).total)
