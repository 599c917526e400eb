"""AlphaAgent's own engine as the benchmark calls it: the one place that knows its interface."""

import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.engine import Timing
from benchmarks.market import Dense
from factors.evaluator import evaluate
from factors.expression import Expr
from factors.kernels.elementwise import Values
from factors.labels import forward_return
from factors.metrics import split_metrics
from factors.panel import Panel
from factors.parse import parse
from storage.markets import open_market

MARKET = "bench"
THREADS = "ALPHAAGENT_THREADS"


def load_panel(root: Path) -> Panel:
    """From the DuckDB file to what the evaluator reads."""
    snapshot = open_market(root, MARKET)
    return Panel.from_bars(snapshot.bars("all"), snapshot.train_end)


class Ours:
    """One candidate at a time; a batch shares nothing with the batch before it."""

    def __init__(self, root: Path) -> None:
        self._panel = load_panel(root)
        self._label = forward_return(self._panel)

    @property
    def about(self) -> str:
        """Version and settings."""
        return f"AlphaAgent {version('alphaagent')}, float64, {os.environ.get(THREADS, os.cpu_count())} threads"

    def values(self, formulas: Sequence[Expr]) -> list[Dense]:
        """Values of each formula."""
        return [self._dense(evaluate(formula, self._panel)) for formula in formulas]

    def time(self, formulas: Sequence[Expr]) -> Timing:
        """Text to metrics; kernels are compiled at set-up, so compiling is parsing."""
        texts = [str(formula) for formula in formulas]
        fields = tuple(self._panel.fields)
        parsing = running = measuring = 0.0
        for text in texts:
            stamps = [time.perf_counter()]
            expr = parse(text, fields)
            stamps.append(time.perf_counter())
            values = evaluate(expr, self._panel)
            stamps.append(time.perf_counter())
            split_metrics(values, self._label, self._panel)
            stamps.append(time.perf_counter())
            parsing, running, measuring = (
                spent + stop - start
                for spent, start, stop in zip((parsing, running, measuring), stamps, stamps[1:], strict=False)
            )
        return Timing(parsing, running, measuring)

    def _dense(self, values: Values) -> Dense:
        tiles, rows, lanes = self._panel.shape
        wide = values.transpose(1, 0, 2).reshape(rows, tiles * lanes)
        return np.ascontiguousarray(wide[:, : len(self._panel.symbols)])
