"""Evaluate: measure what passed the gate, on train and valid, and admit what holds up."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command, Send

from factors.admission import admission_checks, causality_check, marginal_check, redundancy_check
from factors.certificate import Certificate
from factors.errors import EvaluationStoppedError, MeasurementError
from factors.hypothesis import Factor, Hypothesis, Lineage, factor_id
from factors.regularization import Structure
from factors.verdict import Check
from factors.zoo import Zoo
from graphs.researcher import Trial
from graphs.state import State, direction
from graphs.workbench import Workbench


def evaluate(state: State, runtime: Runtime[Workbench]) -> Command[Literal["feedback"]]:
    """Measure each candidate that passed, then admit the best first, each against those admitted before it.

    All directions wait here for each other: what they share is computed once, and none of them admits what another has
    admitted already.
    """
    if len(state["arrived"]) < len(state["directions"]):
        return Command()
    bench = runtime.context
    zoo = bench.zoo(state["trials"])
    distinct, refused = _distinct(state["passed"], zoo, bench)
    measured: list[Trial] = []
    room = bench.left("evaluations")
    with suppress(EvaluationStoppedError):
        for trial in bench.expect(distinct):
            if len(measured) >= room or bench.exhausted([*state["trials"], *measured]):
                break
            try:
                measured.append(_measured(trial, bench))
            except MeasurementError as error:
                refused.append(_unmeasured(trial, error, bench))
    measured.sort(key=lambda trial: trial.reward, reverse=True)
    hypotheses = {hypothesis.id: hypothesis for hypothesis in state["hypotheses"]}
    peers = [factor.formula for factor in bench.library]
    peers += [trial.candidate.formula for trial in state["trials"] if trial.accepted]
    finished, accepted = list(refused), []
    for trial in refused:
        bench.record(trial, hypotheses[trial.candidate.hypothesis_id])
    with suppress(EvaluationStoppedError):
        for trial in measured:
            hypothesis = hypotheses[trial.candidate.hypothesis_id]
            try:
                done, certificate = _admitted(trial, peers, zoo, bench)
            except MeasurementError as error:
                done, certificate = _unmeasured(trial, error, bench), None
            bench.record(done, hypothesis)
            if done.accepted and certificate:
                peers.append(done.candidate.formula)
                zoo.add(done.candidate.name, bench.parsed(done.candidate.formula))
                accepted.append(_accept(done, certificate, hypothesis, bench))
            finished.append(done)
    state["trials"] = [*state["trials"], *finished]
    sends = [Send("feedback", direction(bench.brief(state, began))) for began in state["directions"]]
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
    evaluation = bench.measured(trial.candidate)
    checks = admission_checks(evaluation, bench.thresholds)
    bench.records.append_event(
        bench.run.id,
        "candidate.evaluated",
        {
            "round": trial.round,
            "evaluation": evaluation.model_dump(mode="json"),
            "checks": [check.model_dump(mode="json") for check in checks],
        },
    )
    return trial.model_copy(update={"evaluation": evaluation, "admission": checks})


def _unmeasured(trial: Trial, error: MeasurementError, bench: Workbench) -> Trial:
    """The trial refused because its formula takes more than it may."""
    check = Check(name="measurable", value=0, limit=1, passed=False, hint=str(error))
    told = {"round": trial.round, "candidate_id": trial.candidate.id, "checks": [check.model_dump(mode="json")]}
    bench.records.append_event(bench.run.id, "candidate.failed", told)
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
    correlations, marginal = bench.beside(trial.candidate.formula, peers)
    checks = redundancy_check(correlations, bench.thresholds), marginal_check(marginal, bench.thresholds)
    if not all(check.passed for check in checks):
        return _checked(trial, *checks), None
    certificate = bench.prove(trial.candidate.formula)
    return _checked(trial, *checks, causality_check(certificate)), certificate


def _checked(trial: Trial, *checks: Check) -> Trial:
    return trial.model_copy(update={"admission": (*trial.admission, *checks)})


def _accept(trial: Trial, certificate: Certificate, hypothesis: Hypothesis, bench: Workbench) -> str:
    candidate, evaluation = trial.candidate, trial.evaluation
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
    bench.records.accept_factor(factor)
    return factor.id
