"""Evaluate: measure what passed the gate, on train and valid, and admit what holds up."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from langgraph.runtime import Runtime
from langgraph.types import Command

from factors.admission import admission_checks, marginal_check, redundancy_check
from factors.errors import EvaluationStoppedError
from factors.evaluation import Evaluation
from factors.hypothesis import Factor, factor_id
from factors.regularization import Structure
from factors.zoo import Zoo
from graphs.researcher import Trial
from graphs.state import State
from graphs.workbench import Workbench


def evaluate(state: State, runtime: Runtime[Workbench]) -> Command[Literal["feedback"]]:
    """Measure each candidate that passed, then admit the best first, each against those admitted before it."""
    bench = runtime.context
    measured: list[Trial] = []
    with suppress(EvaluationStoppedError):
        for trial in bench.expect(state["passed"]):
            if bench.exhausted({**state, "trials": [*state["trials"], *measured]}):
                break
            measured.append(_measured(trial, bench))
    measured.sort(key=lambda trial: trial.reward, reverse=True)
    peers = [factor.formula for factor in bench.library]
    peers += [trial.candidate.formula for trial in state["trials"] if trial.accepted]
    finished, accepted, zoo = [], [], bench.zoo(state)
    with suppress(EvaluationStoppedError):
        for trial in measured:
            done = _admitted(trial, peers, zoo, bench)
            bench.record(done, state["hypotheses"][-1])
            if done.accepted:
                peers.append(done.candidate.formula)
                zoo.add(done.candidate.name, bench.parsed(done.candidate.formula))
                accepted.append(_accept(done, state, bench))
            finished.append(done)
    return Command(goto="feedback", update={"passed": [], "trials": finished, "accepted": accepted})


def _measured(trial: Trial, bench: Workbench) -> Trial:
    formula = trial.candidate.formula
    evaluation = Evaluation(
        candidate_id=trial.candidate.id,
        formula=formula,
        snapshot=bench.run.snapshot,
        universe=bench.run.universe,
        horizon=bench.labels.horizons[0],
        splits=bench.measure(formula),
    )
    checks = admission_checks(evaluation.splits, bench.thresholds)
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


def _admitted(trial: Trial, peers: list[str], zoo: Zoo, bench: Workbench) -> Trial:
    """The trial with what it adds checked as well, where all else passed: these checks are the costly ones.

    The gate had let it through before the better ones of its round were accepted, of which it may be a variation.
    """
    if not trial.accepted:
        return trial
    structure = Structure.of(bench.parsed(trial.candidate.formula), zoo)
    failed = tuple(check for check in structure.originality(bench.limits) if not check.passed)
    if failed:
        return trial.model_copy(update={"admission": (*trial.admission, *failed)})
    correlations, marginal = bench.beside(trial.candidate.formula, peers)
    checks = redundancy_check(correlations, bench.thresholds), marginal_check(marginal, bench.thresholds)
    return trial.model_copy(update={"admission": (*trial.admission, *checks)})


def _accept(trial: Trial, state: State, bench: Workbench) -> str:
    candidate, evaluation = trial.candidate, trial.evaluation
    if evaluation is None:
        raise ValueError("only an evaluated candidate is accepted")
    factor = Factor(
        id=factor_id(bench.run.market, bench.parsed(candidate.formula)),
        market=bench.run.market,
        name=candidate.name,
        description=candidate.description,
        formula=candidate.formula,
        hypothesis=state["hypotheses"][-1].statement,
        run_id=bench.run.id,
        snapshot=bench.run.snapshot,
        universe=bench.run.universe,
        horizon=evaluation.horizon,
        penalty=trial.verdict.penalty,
        splits=evaluation.splits,
        created_at=datetime.now(UTC),
    )
    bench.records.accept_factor(factor)
    return factor.id
