"""Polars alone, a staged ``with_columns`` of ``.over``: the oracle of our own tests, as a peer."""

import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.engine import Timing, UnsupportedError
from benchmarks.market import Dense, load
from benchmarks.peers.metrics import Metrics
from factors.expression import Expr

ORACLE = "tests.polars_lowering"


class PolarsOver:
    """A frame of every date and symbol, sorted by symbol."""

    def __init__(self, folder: Path) -> None:
        self._oracle: Any = importlib.import_module(ORACLE)
        market = load(folder)
        bars = market.frame().with_columns(suspended=False, member=True, sector=pl.lit(None, pl.String))
        self._frame = self._oracle.grid(bars)
        cells = self._frame.filter("bar").select("row", "lane")
        self._row, self._lane = cells["row"], cells["lane"]
        self._metrics = Metrics(market)

    @property
    def about(self) -> str:
        """Version and settings."""
        return f"Polars {pl.__version__}, `.over` in one lazy query, float64; metrics by {self._metrics.chosen}"

    def values(self, formulas: Sequence[Expr]) -> list[Dense]:
        """Values of each formula."""
        return [self._metrics.dense(self._run(self._lower(formula))) for formula in formulas]

    def time(self, formulas: Sequence[Expr]) -> Timing:
        """Formulas one by one."""
        lowering = running = measuring = 0.0
        for formula in formulas:
            started = time.perf_counter()
            query = self._lower(formula)
            lowered = time.perf_counter()
            frame = self._run(query)
            ran = time.perf_counter()
            self._metrics.of_long(frame)
            measuring += time.perf_counter() - ran
            lowering += lowered - started
            running += ran - lowered
        return Timing(lowering, running, measuring)

    def _lower(self, formula: Expr) -> Any:
        try:
            return self._oracle.lower(formula)
        except NotImplementedError as error:
            raise UnsupportedError(f"the lowering has no {error}") from error

    def _run(self, query: Any) -> pl.DataFrame:
        value = query(self._frame)["value"]
        return pl.DataFrame({"row": self._row, "lane": self._lane, "value": value})
