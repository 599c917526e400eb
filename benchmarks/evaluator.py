"""How fast the evaluator is beside its peers: ``python -m benchmarks.evaluator [--quick] [--json]``.

1. Every engine is a process of its own; its values of W12 are compared with ours on a small complete market, on which
   no null rule matters, and on a ragged one. What it computes wrongly is not timed.
2. Formula by formula all engines take turns, several rounds; medians count. What takes long is measured once.
3. B100 is one batch, for us and for the peer that has batches.
4. The others end, and what concerns our engine alone follows: threads, memory, start-up and load.

The full run writes ``benchmarks/evaluator.md``; ``--quick`` measures size S alone and writes nothing.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks import agreement, floor, report
from benchmarks.driver import RefusedError, Worker, fresh_process
from benchmarks.figures import figures
from benchmarks.market import CHECK, FIELDS, SIZES, Dense, Market, Size, store, synthetic
from benchmarks.ours import MARKET, lay_out
from benchmarks.results import ALONE, BATCH, OURS, SINGLE, Results, Sample
from benchmarks.worker import ENGINES
from benchmarks.workload import batch, workload


class Pace(NamedTuple):
    """How often things are measured: rounds of W12 and of B100, and from how many seconds once is enough."""

    rounds: int
    batches: int
    once: float


FULL, QUICK = Pace(2, 1, 5.0), Pace(2, 1, 0.5)
FRESH = 3  #: fresh processes
SMALL_ONLY = {"pandas"}
FEW = {"alphalens": ("w01", "w05", "w10")}  #: its time hardly depends on the values
BATCHED = (OURS, "kunquant_64", "kunquant_32")


class Bench:
    """One run and what it has found so far."""

    def __init__(self, folder: Path, pace: Pace) -> None:
        self.results = Results()
        self._refused = self.results.refused
        self._folder = folder
        self._pace = pace
        self._w12 = {name: str(expr) for name, expr in workload(FIELDS).items()}
        self._b100 = {name: str(expr) for name, expr in batch(FIELDS).items()}

    def run(self, sizes: dict[str, Size]) -> None:
        """Check, then measure each size."""
        with ExitStack() as stack:
            workers = {engine: stack.enter_context(Worker(engine)) for engine in ENGINES}
            self._check(workers)
            for name, size in sizes.items():
                self._say(f"{name}: making the market")
                root = self._market(name, synthetic(size))
                fit = {engine: worker for engine, worker in workers.items() if name == "S" or engine not in SMALL_ONLY}
                there = self._open(fit, root)
                self._measure(name, there)
                self._batch(name, there)
                self._floors(name, size)
        for name in sizes:
            self._threads(self._folder / name)
        self._start(sizes)

    def _market(self, name: str, market: Market) -> Path:
        root = self._folder / name
        market.save(root)
        store(market, root, MARKET)
        lay_out(root)
        return root

    def _open(self, workers: dict[str, Worker], root: Path) -> dict[str, Worker]:
        """Lay the market out everywhere; a worker that cannot is left out."""
        there = {}
        for engine, worker in workers.items():
            self._say(f"{root.name}: {engine} lays out its market")
            try:
                worker.open(root)
                there[engine] = worker
                self.results.about[engine] = worker.about
            except RefusedError as error:
                self._refused[engine, ""] = str(error)
        return there

    def _check(self, workers: dict[str, Worker]) -> None:
        """Compare values with ours, and run everything once, so that nobody is timed while it still compiles itself."""
        texts = {**self._w12, **self._b100}
        for kind in ("complete", "ragged"):
            there = self._open(workers, self._market(kind, synthetic(CHECK, complete=kind == "complete")))
            ours = dict(zip(texts, there[OURS].values(list(texts.values())), strict=True))
            for engine, worker in there.items():
                self._say(f"checking {engine} on a {kind} market")
                names = texts if engine in BATCHED and kind == "complete" else self._w12
                try:
                    if engine not in {OURS, *FEW}:
                        theirs = worker.values([texts[name] for name in names])
                        for name, values in zip(names, theirs, strict=True):
                            self._judge((kind, engine, name), ours[name], values)
                    if kind == "complete":
                        known = [name for name in FEW.get(engine, self._w12) if (engine, name) not in self._refused]
                        worker.time([self._w12[name] for name in known])
                except RefusedError as error:
                    self._refused[engine, ""] = str(error)

    def _judge(self, of: tuple[str, str, str], ours: Dense | str, theirs: Dense | str) -> None:
        kind, engine, name = of
        if isinstance(ours, str):
            raise RefusedError(f"our engine refuses {name}: {ours}")
        if isinstance(theirs, str):
            self._refused[engine, name] = theirs
            return
        near = agreement.NEAR.get(engine, agreement.NEAR_DOUBLE)
        found = self.results.agreements[of] = agreement.compare(ours, theirs, near)
        if kind == "complete" and name in self._w12 and not found.right:
            self._refused[engine, name] = "its values differ from ours"

    def _measure(self, size: str, workers: dict[str, Worker]) -> None:
        for turn in range(self._pace.rounds):
            for name, text in self._w12.items():
                for engine, worker in workers.items():
                    self._say(f"{size}: round {turn + 1} of {self._pace.rounds}, {name}, {engine}")
                    self._sample((size, engine, name), [text], worker, self._pace.once)

    def _batch(self, size: str, workers: dict[str, Worker]) -> None:
        formulas = list(self._b100.values())
        for turn in range(self._pace.batches):
            for engine in (engine for engine in BATCHED if engine in workers):
                self._say(f"{size}: round {turn + 1} of {self._pace.batches}, B100, {engine}")
                self._sample((size, engine, BATCH), formulas, workers[engine], math.inf)

    def _sample(self, of: tuple[str, str, str], formulas: list[str], worker: Worker, once: float) -> None:
        _, engine, name = of
        sample = self.results.times.setdefault(of, Sample())
        refused = {(engine, name), (engine, "")} & self._refused.keys()
        skipped = engine in FEW and name not in FEW[engine]
        if refused or skipped or (sample.timings and sample.timings[-1].total > once):
            return
        try:
            sample.timings.append(worker.time(formulas))
        except RefusedError as error:
            self._refused[engine, name] = str(error)

    def _floors(self, size: str, dimensions: Size) -> None:
        self._say(f"{size}: measuring the machine")
        measured = floor.measure(dimensions.instruments)
        exprs = workload(FIELDS)
        self.results.bandwidth = measured.bandwidth
        for name, expr in exprs.items():
            self.results.floors[size, name] = (
                measured.compute_seconds(expr, dimensions.cells),
                measured.memory_seconds(expr, dimensions.cells),
            )

    def _threads(self, root: Path) -> None:
        """Two threads and one in turn, then the memory that the batch takes at M."""
        size = root.name
        with Worker(OURS) as two, Worker(OURS, threads=1) as one:
            for engine, worker in {ALONE: two, SINGLE: one}.items():
                worker.open(root)
                worker.time(list(self._w12.values()))
                self._say(f"{size}: {engine} is ready")
            self._measure(size, {ALONE: two, SINGLE: one})
        if size == "M":
            self._say("M: memory")
            with Worker(OURS) as worker:
                worker.open(root)
                self.results.peak_bytes = worker.peak(list(self._b100.values()))

    def _start(self, sizes: dict[str, Size]) -> None:
        self._say("fresh processes")
        small = self._folder / "S"
        self.results.cold_start_seconds = statistics.median(fresh_process("cold", small) for _ in range(FRESH))
        if "M" in sizes:
            large = self._folder / "M"
            self.results.load_seconds = statistics.median(fresh_process("load", large) for _ in range(FRESH))
        self._say("")

    def _say(self, what: str) -> None:
        """A progress line: rewritten on a terminal, one of many elsewhere."""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{what:78.78}" if what else f"\r{'':78}\r")
        elif what:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")
        sys.stderr.flush()


def main() -> None:
    """Measure, print, and write the report of a full run."""
    parser = argparse.ArgumentParser(description="Measure the evaluator beside its peers.")
    parser.add_argument("--quick", action="store_true", help="size S alone, fewer rounds, nothing written")
    parser.add_argument("--json", action="store_true", help="print figures rather than tables")
    chosen = parser.parse_args()
    sizes = {"S": SIZES["S"]} if chosen.quick else SIZES
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), QUICK if chosen.quick else FULL)
        bench.run(sizes)
    page = report.page(bench.results)
    if not chosen.quick:
        Path(__file__).with_suffix(".md").write_text(page, encoding="utf-8")
    sys.stdout.write(json.dumps(figures(bench.results), indent=2) + "\n" if chosen.json else page)


if __name__ == "__main__":
    main()
