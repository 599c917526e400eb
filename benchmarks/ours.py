"""AlphaAgent's own engine as the benchmark calls it: the one place that knows its interface."""

import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.engine import Timing
from benchmarks.market import Dense
from factors.evaluator import Evaluator
from factors.expression import Expr
from factors.kernels.elementwise import Values
from factors.labels import forward_returns
from factors.mapping import read_mapping, write_mapping
from factors.metrics import split_metrics
from factors.panel import Panel
from factors.parse import parse
from factors.team import Team
from storage.markets import open_market

MARKET = "bench"
THREADS = "ALPHAAGENT_BENCHMARK_THREADS"
HORIZONS = (1,)  #: as many as the peers' metrics have


def read_panel(root: Path) -> Panel:
    """From the DuckDB file to what the evaluator reads."""
    snapshot = open_market(root, MARKET)
    with snapshot.cells("all") as cells:
        return Panel.from_cells(cells, snapshot.train_end, Team())


def lay_out(root: Path) -> None:
    """Write the files from which worker processes map the market."""
    panel = read_panel(root)
    folder = root / "panel"
    folder.mkdir()
    write_mapping(folder, panel, forward_returns(panel, HORIZONS))


class Ours:
    """The evaluator over a mapped panel, with the number of threads that the environment says."""

    def __init__(self, root: Path) -> None:
        self._threads = int(os.environ.get(THREADS, "2"))
        self._panel, self._labels = read_mapping(root / "panel")
        self._evaluator = self._alone()

    @property
    def about(self) -> str:
        """Version and settings."""
        return f"AlphaAgent {version('alphaagent')}, float64, {self._threads} threads"

    def values(self, formulas: Sequence[Expr]) -> list[Dense]:
        """Values of each formula."""
        found = []
        for formula in formulas:
            with self._evaluator.values(formula) as values:
                found.append(self._dense(values))
        return found

    def time(self, formulas: Sequence[Expr]) -> Timing:
        """Text to metrics; kernels are compiled at set-up, so compiling is parsing.

        A single formula is a new one however often it was asked for; formulas of a batch share what they share.
        """
        texts = [str(formula) for formula in formulas]
        if len(texts) == 1:
            return self._time(texts)
        # The pool of the one goes before the pool of the other comes.
        del self._evaluator
        self._evaluator = Evaluator(self._panel, self._threads)
        timing = self._time(texts)
        self._evaluator = self._alone()
        return timing

    def _alone(self) -> Evaluator:
        return Evaluator(self._panel, self._threads, memo_bytes=0)

    def _time(self, texts: list[str]) -> Timing:
        fields = tuple(self._panel.fields)
        started = time.perf_counter()
        formulas = self._evaluator.expect(parse(text, fields) for text in texts)
        parsed = time.perf_counter()
        measuring = 0.0
        for formula in formulas:
            with self._evaluator.values(formula) as values:
                computed = time.perf_counter()
                split_metrics(values, self._labels, self._panel, self._evaluator.team)
                measuring += time.perf_counter() - computed
        return Timing(parsed - started, time.perf_counter() - parsed - measuring, measuring)

    def _dense(self, values: Values) -> Dense:
        tiles, rows, lanes = self._panel.shape
        wide = values.transpose(1, 0, 2).reshape(rows, tiles * lanes)
        return np.ascontiguousarray(wide[:, : len(self._panel.symbols)])
