"""Regularize: the gate that every candidate passes before it is measured, rewritten ones included."""

from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from factors.errors import FormulaError
from factors.expression import Expr
from factors.hypothesis import Candidate
from factors.regularization import Structure, alignment_check
from factors.verdict import Check, Verdict
from factors.zoo import Zoo
from graphs.researcher import Alignment, Trial
from graphs.state import Direction
from graphs.workbench import Workbench

UNJUDGED = "the judge gave no answer, and what nobody vouches for is not measured"


def regularize(state: Direction, runtime: Runtime[Workbench]) -> Command[Literal["factor", "evaluate"]]:
    """Judge each draft; refused ones go back to Factor while they have attempts left, the others on to Eval."""
    bench, begun = runtime.context, state["round"]
    bench.progress("regularize", begun["number"], 0, len(state["drafts"]))
    trials = _judged(state, bench)
    passed = [trial for trial in trials if trial.verdict.accepted]
    refused = [trial for trial in trials if not trial.verdict.accepted]
    for trial in trials:
        if not trial.verdict.accepted:
            bench.record(trial)
        bench.journal.append(
            "candidate.judged",
            {
                "round": begun["number"],
                "candidate_id": trial.candidate.id,
                "accepted": trial.verdict.accepted,
                "verdict": trial.verdict.model_dump(mode="json"),
                "prompt": bench.researcher.prompts.get("judge") if _was_asked(trial) else None,
            },
            f"{trial.candidate.id} judged",
        )
    revisable = [trial for trial in refused if trial.candidate.attempt < bench.run.budget.attempts]
    update = {"trials": [trial.candidate.id for trial in refused], "passed": passed}
    if revisable and state["wanted"] > 0 and not bench.exhausted():
        waiting: Direction = {
            "round": begun,
            "known": state["known"],
            "wanted": state["wanted"],
            "drafts": [],
            "passed": [*state["passed"], *passed],
            "refused": [*state["refused"], *refused],
            "revisable": revisable,
        }
        return Command(goto=Send("factor", waiting), update=update)
    return Command(goto="evaluate", update={**update, "arrived": [begun["number"]]})


def _was_asked(trial: Trial) -> bool:
    return any(check.name == "alignment" for check in trial.verdict.checks)


def _judged(direction: Direction, bench: Workbench) -> list[Trial]:
    """The drafts with their verdicts; the judge is asked last and of all at once, as it costs most."""
    number, notebook = direction["round"]["number"], bench.notebook
    zoo = bench.zoo(notebook.tried(direction["known"]["trials"]))
    for waiting in direction["passed"]:
        zoo.add_tried(f"candidate {waiting.candidate.id} of this round", bench.parsed(waiting.candidate.formula))
    looked_at = [_Draft.of(candidate, zoo, bench) for candidate in direction["drafts"]]
    sound = [(one.candidate, one.expr) for one in looked_at if one.expr is not None and one.sound]
    judged: list[Alignment | None] = []
    if sound:
        hypothesis = notebook.hypotheses[direction["known"]["hypotheses"][-1]]
        step = f"judge {sound[0][0].id}"
        answers, _ = bench.ask(step, "judge", number, lambda: bench.researcher.judge(hypothesis, sound))
        judged = answers or []
    alignments = {candidate.id: one for (candidate, _), one in zip(sound, judged, strict=False)}
    return [one.trial(number, alignments.get(one.candidate.id), bench) for one in looked_at]


class _Draft:
    """A candidate with its formula made canonical, and what is seen of it without asking anybody."""

    def __init__(
        self, candidate: Candidate, checks: tuple[Check, ...], structure: Structure | None, expr: Expr | None
    ) -> None:
        self.candidate, self.expr = candidate, expr
        self._checks, self._structure = checks, structure

    @classmethod
    def of(cls, candidate: Candidate, zoo: Zoo, bench: Workbench) -> "_Draft":
        """Look at a candidate; later ones of the round may not rank as one does that passes here."""
        try:
            expr = bench.parsed(candidate.formula)
        except FormulaError as error:
            return cls(candidate, (Check(name="parse", value=0, limit=1, passed=False, hint=str(error)),), None, None)
        structure = Structure.of(expr, zoo)
        found = cls(
            candidate.model_copy(update={"formula": str(expr)}), structure.checks(bench.limits), structure, expr
        )
        if found.sound:
            zoo.add_tried(f"candidate {candidate.id} of this round", expr)
        return found

    @property
    def sound(self) -> bool:
        """Whether every check passed but the judge's, which is still to come."""
        return all(check.passed for check in self._checks)

    def trial(self, number: int, alignment: Alignment | None, bench: Workbench) -> Trial:
        """The candidate with its verdict."""
        checks, agreement = self._checks, 1.0
        if self.sound:
            agreement = alignment.agreement if alignment else 0.0
            reason = alignment.reason if alignment else UNJUDGED
            checks = (*checks, alignment_check(agreement, reason, bench.limits))
        penalty = self._structure.penalty(bench.limits, agreement).total if self._structure else 1.0
        verdict = Verdict(candidate_id=self.candidate.id, checks=checks, penalty=penalty)
        return Trial(round=number, candidate=self.candidate, verdict=verdict)
