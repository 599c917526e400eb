"""Evaluate: measure what passed the gate, on train and valid, and admit what holds up."""

from datetime import UTC, datetime
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from factors.admission import admission_checks, causality_check, marginal_check, redundancy_check
from factors.certificate import Certificate
from factors.errors import MeasurementError
from factors.hypothesis import Factor, Lineage, factor_id
from factors.regularization import Structure
from factors.verdict import Check
from factors.zoo import Zoo
from graphs.researcher import Trial
from graphs.state import State, direction, known
from graphs.workbench import Workbench
from storage.events import CandidateFailed, Step


def evaluate(state: State, runtime: Runtime[Workbench]) -> Command[Literal["feedback"]]:
    """Measure each candidate that passed, then admit the best first, each against those admitted before it.

    All directions wait here for each other: what they share is computed once, and none of them admits what another has
    admitted already.
    """
    if len(state["arrived"]) < len(state["directions"]):
        return Command()
    bench, notebook = runtime.context, runtime.context.notebook
    before = notebook.tried(state["trials"])
    zoo = bench.zoo(before)
    distinct, refused = _distinct(state["passed"], zoo, bench)
    measured: list[Trial] = []
    # Where the run was cut off here after its records had begun, what there was room for is what was told.
    chosen = any(trial.candidate.id in notebook.trials for trial in state["passed"])
    with bench.until_stopped():
        for trial in bench.expect(distinct):
            if trial.candidate.id not in notebook.told:
                reached = bench.exhausted([*before, *measured])
                # The user's evaluations may be used up by this one, which a process that was killed had begun.
                if chosen or reached not in {"", "user_evaluations"} or not bench.begin(trial.candidate.id):
                    break
            bench.progress("evaluate", trial.round, len(measured), len(distinct))
            try:
                measured.append(_measured(trial, bench))
            except MeasurementError as error:
                refused.append(_unmeasured(trial, "measure", error, bench))
    measured.sort(key=lambda trial: trial.reward, reverse=True)
    peers = [factor.formula for factor in bench.library]
    peers += [trial.candidate.formula for trial in before if trial.accepted]
    finished, accepted = [bench.record(trial) for trial in refused], []
    with bench.until_stopped():
        for trial in measured:
            try:
                done, certificate = _admitted(trial, peers, zoo, bench)
            except MeasurementError as error:
                done, certificate = _unmeasured(trial, "admit", error, bench), None
            finished.append(bench.record(done))
            if done.accepted and certificate:
                peers.append(done.candidate.formula)
                zoo.add(done.candidate.name, bench.parsed(done.candidate.formula))
                accepted.append(_accept(done, certificate, bench))
    told = known(state)
    told["trials"] = [*told["trials"], *finished]
    sends = [Send("feedback", direction(begun, told)) for begun in state["directions"]]
    return Command(goto=sends, update={"passed": None, "arrived": None, "trials": finished, "accepted": accepted})


def _distinct(passed: list[Trial], known: Zoo, bench: Workbench) -> tuple[list[Trial], list[Trial]]:
    """What passed, and with that check failed, what ranks as a candidate of another direction that comes before it."""
    tried, distinct, repeated = Zoo(parent=known), [], []
    for trial in sorted(passed, key=lambda trial: trial.round):
        expr = bench.parsed(trial.candidate.formula)
        duplicate, *_ = Structure.of(expr, tried).originality(bench.limits)
        if duplicate.passed:
            tried.add_tried(f"candidate {trial.candidate.id} of another direction", expr)
            distinct.append(trial)
        else:
            verdict = trial.verdict.model_copy(update={"checks": (*trial.verdict.checks, duplicate)})
            repeated.append(trial.model_copy(update={"verdict": verdict}))
    return distinct, repeated


def _measured(trial: Trial, bench: Workbench) -> Trial:
    bench.notebook.check_measurable(trial.candidate.id, "measure")
    evaluation = bench.measured(trial.candidate)
    checks = admission_checks(evaluation, bench.thresholds)
    bench.journal.append(
        "candidate.evaluated",
        {
            "round": trial.round,
            "evaluation": evaluation.model_dump(mode="json"),
            "checks": [check.model_dump(mode="json") for check in checks],
        },
        f"{trial.candidate.id} evaluated",
    )
    return trial.model_copy(update={"evaluation": evaluation, "admission": checks})


def _unmeasured(trial: Trial, step: Step, error: MeasurementError, bench: Workbench) -> Trial:
    """The trial refused because its formula takes more than it may."""
    check = Check(name="measurable", value=0, limit=1, passed=False, hint=str(error))
    failed = CandidateFailed(round=trial.round, candidate_id=trial.candidate.id, step=step, checks=(check,))
    told = failed.model_dump(mode="json")
    bench.journal.append("candidate.failed", told, f"{trial.candidate.id} failed")
    return _checked(trial, check)


def _admitted(trial: Trial, peers: list[str], zoo: Zoo, bench: Workbench) -> tuple[Trial, Certificate | None]:
    """The trial with what it adds checked as well, and then its causality, where all else passed: these cost most.

    The gate had let it through before the better ones of its round were accepted, of which it may be a variation.
    """
    if not trial.accepted:
        return trial, None
    structure = Structure.of(bench.parsed(trial.candidate.formula), zoo)
    failed = tuple(check for check in structure.originality(bench.limits) if not check.passed)
    if failed:
        return _checked(trial, *failed), None
    bench.notebook.check_measurable(trial.candidate.id, "admit")
    correlations, marginal = bench.beside(trial.candidate.formula, peers)
    checks = redundancy_check(correlations, bench.thresholds), marginal_check(marginal, bench.thresholds)
    if not all(check.passed for check in checks):
        return _checked(trial, *checks), None
    certificate = bench.prove(trial.candidate.formula)
    return _checked(trial, *checks, causality_check(certificate)), certificate


def _checked(trial: Trial, *checks: Check) -> Trial:
    return trial.model_copy(update={"admission": (*trial.admission, *checks)})


def _accept(trial: Trial, certificate: Certificate, bench: Workbench) -> str:
    candidate, evaluation = trial.candidate, trial.evaluation
    hypothesis = bench.notebook.hypotheses[candidate.hypothesis_id]
    if evaluation is None:
        raise ValueError("only an evaluated candidate is accepted")
    asked = {"idea", "judge", "revise" if candidate.attempt else "factor"}
    factor = Factor(
        id=factor_id(bench.run.market, bench.parsed(candidate.formula)),
        market=bench.run.market,
        name=candidate.name,
        description=candidate.description,
        formula=candidate.formula,
        hypothesis=hypothesis.statement,
        run_id=bench.run.id,
        snapshot=bench.run.snapshot,
        universe=bench.run.universe,
        horizon=evaluation.horizon,
        penalty=trial.verdict.penalty,
        splits=evaluation.splits,
        evidence=evaluation.evidence,
        standing=evaluation.standing,
        certificate=certificate,
        created_at=datetime.now(UTC),
        lineage=Lineage(
            round=trial.round,
            candidate=candidate.id,
            parents=candidate.parents,
            hypothesis=hypothesis.id,
            move=hypothesis.move,
            hypothesis_parents=hypothesis.parents,
            prompts={name: version for name, version in bench.researcher.prompts.items() if name in asked},
        ),
    )
    bench.journal.accept_factor(factor)
    return factor.id
