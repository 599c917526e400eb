"""The figures that follow from a run, what they ought to be, and what a prototype reached."""

import statistics
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from benchmarks.results import ALONE, BATCH, OURS, SINGLE, Results, metrics, run, total, values

Figure: TypeAlias = float | None


class Peer(NamedTuple):
    """A line of the comparison: their time over ours.

    Attributes:
        key: name of the figure.
        title: in words.
        measured: the figure of a size.
        prototype: what a throwaway prototype of the kernels reached, by size; ``None`` where it was not measured.
        goal: what we aim at, by size.
    """

    key: str
    title: str
    measured: Callable[[Results, str], Figure]
    prototype: tuple[Figure, Figure]
    goal: tuple[Figure, Figure]


PEERS = (
    Peer("kunquant_total", "KunQuant, total", lambda r, s: r.ratio(s, "kunquant_64", total), (38, 11), (60, 20)),
    Peer(
        "kunquant_run",
        "KunQuant, bare run, geometric mean",
        lambda r, s: r.run_ratio(s, "kunquant_64"),
        (1.7, 3.4),
        (2.5, 5),
    ),
    Peer("kunquant_batch", "KunQuant, B100 total", lambda r, s: r.batch_ratio(s, "kunquant_64"), (8.7, 5), (15, 9)),
    Peer(
        "py_alpha_lib_values",
        "py-alpha-lib, values only",
        lambda r, s: r.ratio(s, "py_alpha_lib", values),
        (3.2, 5.8),
        (5, 8),
    ),
    Peer(
        "py_alpha_lib_total", "py-alpha-lib, total", lambda r, s: r.ratio(s, "py_alpha_lib", total), (5.5, 12), (10, 20)
    ),
    Peer(
        "polars_over_total", "Polars `.over`, total", lambda r, s: r.ratio(s, "polars_over", total), (9, 15), (15, 25)
    ),
    Peer("polars_ta_total", "polars_ta, total", lambda r, s: r.ratio(s, "polars_ta", total), (21, 33), (35, 60)),
    Peer(
        "pandas_total",
        "pandas in the paper's style, total",
        lambda r, s: r.ratio(s, "pandas", total),
        (180, None),
        (300, None),
    ),
    Peer(
        "alphalens_metrics",
        "alphalens, metrics only",
        lambda r, s: r.ratio(s, "alphalens", metrics),
        (700, 175),
        (1000, 300),
    ),
)
SLOWER = 1.5  #: no formula's values may take more than this many of KunQuant's bare runs
BATCH_SIZE = 100


class Limit(NamedTuple):
    """A figure of our engine alone: ``sign`` is ``<=`` or ``>=``."""

    title: str
    value: Figure
    sign: str
    limit: float
    unit: str

    @property
    def kept(self) -> bool | None:
        """``None`` where it was not measured."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.sign == "<=" else self.value >= self.limit


def figures(results: Results) -> dict[str, object]:
    """The figures of a run by name; what was not measured is ``None``."""
    out: dict[str, object] = {}
    for size in results.sizes:
        by_key: dict[str, Figure] = {peer.key: peer.measured(results, size) for peer in PEERS}
        ours = [one for name in results.formulas(size) if (one := results.seconds(size, OURS, name)) is not None]
        by_key["total_seconds_median"] = statistics.median(ours) if ours else None
        by_key["batch_per_second"] = batch_per_second(results, size)
        out[size] = by_key
    return out | {
        "peak_bytes": results.peak_bytes,
        "growth": growth(results),
        "two_threads": {size: two_threads(results, size) for size in results.sizes},
        "cold_start_seconds": results.cold_start_seconds,
        "load_seconds": results.load_seconds,
    }


def growth(results: Results) -> Figure:
    """W12 at M over W12 at S."""
    large, small = (results.workload_seconds(size, ALONE) for size in ("M", "S"))
    return large / small if large and small else None


def batch_per_second(results: Results, size: str) -> Figure:
    """Candidates of B100 a second."""
    seconds = results.seconds(size, OURS, BATCH)
    return BATCH_SIZE / seconds if seconds else None


def two_threads(results: Results, size: str) -> Figure:
    """W12 with one thread over W12 with two."""
    one, two = results.workload_seconds(size, SINGLE), results.workload_seconds(size, ALONE)
    return one / two if one and two else None


def limits(results: Results) -> list[Limit]:
    """What is asked of our engine alone."""
    gib = None if results.peak_bytes is None else results.peak_bytes / (1 << 30)
    lines = [
        Limit("most memory during B100 at M", gib, "<=", 1.5, "GiB"),
        Limit("time at M over time at S, W12", growth(results), "<=", 8, "×"),
        Limit("two threads over one, S", two_threads(results, "S"), ">=", 1.5, "×"),
        Limit("two threads over one, M", two_threads(results, "M"), ">=", 1.9, "×"),
        Limit("import and first candidate, kernels cached", results.cold_start_seconds, "<=", 1, "s"),
        Limit("DuckDB to evaluator at M", results.load_seconds, "<=", 1.5, "s"),
    ]
    for size in results.sizes:
        slowest = max(
            (ours / theirs for _, theirs, ours in results.pairs(size, "kunquant_64", run, values)), default=None
        )
        lines.append(Limit(f"slowest formula over KunQuant's bare run, {size}", slowest, "<=", SLOWER, "×"))
    return lines
