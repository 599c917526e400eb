"""What a run has measured, and the figures that follow from it."""

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.agreement import Agreement
from benchmarks.engine import Timing

OURS = "alphaagent"
ALONE = "alphaagent_alone"  #: our engine with two threads and no other engine in memory
SINGLE = "alphaagent_single"  #: the same with one thread
BATCH = "B100"

Stage = Callable[[Timing], float]


def total(timing: Timing) -> float:
    """Formula to metrics."""
    return timing.total


def values(timing: Timing) -> float:
    """Formula to values."""
    return timing.values


def run(timing: Timing) -> float:
    """Running what has been compiled."""
    return timing.run


def metrics(timing: Timing) -> float:
    """Values to metrics."""
    return timing.metrics


@dataclass(frozen=True, slots=True)
class Sample:
    """Timings of the same work, one a round."""

    timings: list[Timing] = field(default_factory=list)

    def median(self, stage: Stage) -> float:
        """Median seconds of a stage."""
        return statistics.median(map(stage, self.timings))


@dataclass(slots=True)
class Results:
    """Raw results of a run.

    Attributes:
        times: by size, engine and formula (or ``B100``).
        agreements: by kind of market, engine and formula.
        refused: why an engine is not timed on a formula, or, where the formula is empty, at all.
        about: engines' versions and settings.
        floors: by size and formula, seconds that computing and memory traffic take at least.
        bandwidth: bytes a second of the machine's memory.
        peak_bytes: most memory during B100 at M.
        cold_start_seconds: a fresh process up to its first candidate's metrics.
        load_seconds: DuckDB to the evaluator's panel at M.
    """

    times: dict[tuple[str, str, str], Sample] = field(default_factory=dict)
    agreements: dict[tuple[str, str, str], Agreement] = field(default_factory=dict)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    floors: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    bandwidth: float = 0.0
    peak_bytes: int | None = None
    cold_start_seconds: float | None = None
    load_seconds: float | None = None

    @property
    def sizes(self) -> list[str]:
        """Sizes that were measured, the smallest first."""
        return list(dict.fromkeys(size for size, _, _ in self.times))

    def seconds(self, size: str, engine: str, name: str, stage: Stage = total) -> float | None:
        """Median seconds; ``None`` where it was not timed."""
        sample = self.times.get((size, engine, name))
        return sample.median(stage) if sample and sample.timings else None

    def pairs(self, size: str, engine: str, theirs: Stage, ours: Stage) -> Iterator[tuple[str, float, float]]:
        """Formula, their seconds and ours, over the formulas of W12 that both were timed on."""
        for name in self.formulas(size):
            mine, other = self.seconds(size, OURS, name, ours), self.seconds(size, engine, name, theirs)
            if mine is not None and other is not None:
                yield name, other, mine

    def formulas(self, size: str) -> list[str]:
        """Formulas of W12 that were measured."""
        return [name for of, engine, name in self.times if of == size and engine == OURS and name != BATCH]

    def ratio(self, size: str, engine: str, stage: Stage) -> float | None:
        """Their seconds for the shared part of the workload over ours."""
        pairs = list(self.pairs(size, engine, stage, stage))
        return sum(theirs for _, theirs, _ in pairs) / sum(ours for _, _, ours in pairs) if pairs else None

    def run_ratio(self, size: str, engine: str) -> float | None:
        """Geometric mean over formulas of their compiled run over our formula to values."""
        pairs = list(self.pairs(size, engine, run, values))
        return math.exp(statistics.fmean(math.log(theirs / ours) for _, theirs, ours in pairs)) if pairs else None

    def batch_ratio(self, size: str, engine: str) -> float | None:
        """Their seconds for the batch over ours."""
        theirs, ours = self.seconds(size, engine, BATCH), self.seconds(size, OURS, BATCH)
        return theirs / ours if theirs and ours else None

    def workload_seconds(self, size: str, engine: str) -> float | None:
        """Seconds for all of W12; ``None`` where a formula is missing."""
        seconds = [self.seconds(size, engine, name) for name in self.formulas(size)]
        known = [one for one in seconds if one is not None]
        return sum(known) if known and len(known) == len(seconds) else None
