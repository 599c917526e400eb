"""Ways of searching, and what one run of each comes to; only :func:`mined` knows how a run is made."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from app.runner import OFFLINE, Runner, mine_here
from app.settings import Settings
from benchmarks.genetic import GeneticResearcher, RandomResearcher
from benchmarks.holdout import Pair
from factors.evaluation import Evaluation
from factors.regularization import Limits
from graphs.offline import OfflineResearcher
from graphs.researcher import Researcher
from graphs.workbench import Workbench
from storage.journal import Journal
from storage.records import Records
from storage.runs import Budget, Run, RunRequest

OPEN = Limits(
    length=256,
    parameters=128,
    fields=64,
    depth=32,
    look_back=100_000,
    shared_nodes=256,
    variation=1,
    alignment=0,
)
"""A gate that refuses duplicates and what is no formula, and nothing else."""

CANDIDATES = 8  #: a round
FORWARD = 10  #: candidates that a run puts forward
ROUNDS = 1000  #: more than any run needs
SECONDS = 86_400  #: likewise
DIRECTION = "anything"  #: which is about no theme of the offline search


@dataclass(frozen=True, slots=True)
class Arm:
    """A way of searching: who plays the agents, what the gate refuses, and how many directions go side by side."""

    researcher: Researcher
    limits: Limits
    directions: int = 1


ARMS: Mapping[str, Arm] = {
    "offline": Arm(OfflineResearcher(), Limits()),
    "directions": Arm(OfflineResearcher(), Limits(), directions=4),
    "unregularized": Arm(OfflineResearcher(), OPEN),
    "genetic": Arm(GeneticResearcher(), OPEN),
    "random": Arm(RandomResearcher(), OPEN),
}


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate by its rank ICs, on valid as it was measured and on the hold-out after it was chosen."""

    valid: float
    holdout: float

    @property
    def hit(self) -> bool:
        """Whether the hold-out keeps the sign and at least half of the size."""
        return self.holdout * self.valid > 0 and abs(self.holdout) >= abs(self.valid) / 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        found: the candidates put forward, those of the largest rank ICIR on valid, that first.
        accepted: how many factors the library took.
        drafted: candidates that the gate judged, rewritten ones included.
        duplicates: those that it refused as duplicates.
        evaluations: candidates that were measured.
        seconds: wall time of the run, the hold-out not included.
    """

    found: tuple[Found, ...]
    accepted: int
    drafted: int
    duplicates: int
    evaluations: int
    seconds: float


class SearchRunner(Runner):
    """A runner whose runs are played by a given researcher."""

    def __init__(self, settings: Settings, records: Records, researcher: Researcher) -> None:
        super().__init__(settings, records)
        self._researcher = researcher

    def workbench(self, run: Run, journal: Journal, stop: Callable[[], bool] = bool) -> Workbench:
        """The runner's own, with that researcher."""
        return replace(super().workbench(run, journal, stop), researcher=self._researcher)


def mined(arm: Arm, market: str, home: Path, records: Records, *, seed: int, evaluations: int) -> Run:
    """A finished run of the state machine.

    Raises:
        RuntimeError: the run failed.
    """
    settings = Settings(home=home, limits=arm.limits, loosest_limits=arm.limits)
    runner = SearchRunner(settings, records, arm.researcher)
    budget = Budget(
        rounds=ROUNDS,
        directions=arm.directions,
        candidates=CANDIDATES,
        evaluations=evaluations,
        seconds=SECONDS,
    )
    request = RunRequest(direction=DIRECTION, market=market, seed=seed, model=OFFLINE, budget=budget)
    run = mine_here(runner, request)
    if run.status != "succeeded":
        raise RuntimeError(f"run of seed {seed} on {market} {run.status}: {run.error}")
    return run


def outcome(arm: Arm, pair: Pair, home: Path, folder: Path, *, seed: int, evaluations: int) -> Outcome:
    """Run an arm on a pair's mined market with records of its own in ``folder``, then open the hold-out."""
    market = pair.mined.market
    with Records.open(f"sqlite:///{folder.absolute() / 'records.sqlite'}") as records:
        started = time.perf_counter()
        run = mined(arm, market, home, records, seed=seed, evaluations=evaluations)
        seconds = time.perf_counter() - started
        forward = _put_forward(records, run.id)
        verdicts = _verdicts(records, run.id)
    return Outcome(
        found=_found(forward, pair),
        accepted=len(run.accepted),
        drafted=len(verdicts),
        duplicates=sum("duplicate" in failed for failed in verdicts),
        evaluations=run.evaluations,
        seconds=seconds,
    )


def _put_forward(records: Records, run_id: str) -> list[Evaluation]:
    candidates, _ = records.candidates(run_id, limit=None)
    measured = [one.evaluation for one in candidates if one.evaluation]
    return sorted(measured, key=lambda one: one.splits["valid"].rank_icir or 0.0, reverse=True)[:FORWARD]


def _found(forward: list[Evaluation], pair: Pair) -> tuple[Found, ...]:
    holdout = pair.rank_ics(one.formula for one in forward)
    valid = [one.splits["valid"].rank_ic or 0.0 for one in forward]
    return tuple(map(Found, valid, holdout))


def _verdicts(records: Records, run_id: str) -> list[set[str]]:
    """For each candidate that the gate judged, the names of the checks that it failed."""
    verdicts, after = [], 0
    while events := records.events(run_id, after=after):
        after = events[-1].seq
        checks = [event.data["verdict"]["checks"] for event in events if event.type == "candidate.judged"]
        verdicts += [{check["name"] for check in of_one if not check["passed"]} for of_one in checks]
    return verdicts
