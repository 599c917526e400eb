"""Pandas in the style of the AlphaAgent paper's code, in our own words.

Each operator is a function of Series indexed by (datetime, instrument): windows by ``groupby("instrument")`` and a
``transform`` with a lambda, cross-sections by ``groupby("datetime")``, what pandas has no window for by
``rolling().apply`` of a Python function. A missing bar is a missing row, windows may be partial.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from benchmarks.engine import Timing, UnsupportedError
from benchmarks.market import Dense, load
from benchmarks.peers.metrics import Metrics
from factors.expression import Call, Expr, Field, Number


class PandasPaper:
    """Series in the order of day and instrument."""

    def __init__(self, folder: Path) -> None:
        market = load(folder)
        self._row, self._lane = np.nonzero(np.isfinite(market.fields["close"]))
        index = pd.MultiIndex.from_arrays([self._row, self._lane], names=["datetime", "instrument"])
        self._fields = {name: pd.Series(values[self._row, self._lane], index) for name, values in market.fields.items()}
        self._metrics = Metrics(market)

    @property
    def about(self) -> str:
        """Version and settings."""
        return f"pandas {version('pandas')}, float64; metrics by {self._metrics.chosen}"

    def values(self, formulas: Sequence[Expr]) -> list[Dense]:
        """Values of each formula."""
        return [self._metrics.dense(self._evaluate(formula)) for formula in formulas]

    def time(self, formulas: Sequence[Expr]) -> Timing:
        """Formulas one by one, as functions that call functions."""
        running = measuring = 0.0
        for formula in formulas:
            started = time.perf_counter()
            frame = self._evaluate(formula)
            ran = time.perf_counter()
            self._metrics.of_long(frame)
            measuring += time.perf_counter() - ran
            running += ran - started
        return Timing(0.0, running, measuring)

    def _evaluate(self, formula: Expr) -> pl.DataFrame:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            value = self._node(formula).reindex(self._fields["close"].index)
        return pl.DataFrame({"row": self._row, "lane": self._lane, "value": value.to_numpy(np.float64)})

    def _node(self, node: Expr) -> Any:
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Field):
            return self._fields[node.name]
        if not isinstance(node, Call):
            raise TypeError(f"not an expression: {node!r}")
        if node.op.name not in _TABLE:
            raise UnsupportedError(f"the pandas functions have no {node.op.name}")
        args = [
            int(arg.value) if isinstance(arg, Number) and parameter.low >= 1 else self._node(arg)
            for parameter, arg in zip(node.op.parameters, node.args, strict=True)
        ]
        return _TABLE[node.op.name](*args)


def _windowed(statistic: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, *literals: x.groupby("instrument").transform(lambda own: statistic(own, *literals))


def _rolling(statistic: Callable[..., Any], least: int = 1) -> Callable[..., Any]:
    return _windowed(lambda own, d, *more: statistic(own.rolling(d, min_periods=least), *more))


def _daily(statistic: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: x.groupby("datetime").transform(statistic)


def _paired(statistic: Callable[..., Any]) -> Callable[..., Any]:
    def evaluate(x: Any, y: Any, d: int) -> Any:
        other = y.groupby("instrument")
        parts = [statistic(own, other.get_group(name), d) for name, own in x.groupby("instrument")]
        return pd.concat(parts)

    return evaluate


def _rows_since_max(window: Any) -> float:
    return float(len(window) - 1 - np.nanargmax(window)) if np.isfinite(window).any() else np.nan


def _decayed(window: Any) -> float:
    weights = np.arange(1, len(window) + 1)
    return float(np.dot(window, weights) / weights.sum())


def _residual(y: Any, x: Any, d: int) -> Any:
    def window(of: Any) -> Any:
        return of.rolling(d, min_periods=2)

    slope = window(y).cov(x) / window(x).var()
    return y - window(y).mean() - slope * (x - window(x).mean())


_TABLE: dict[str, Callable[..., Any]] = {
    "ADD": lambda x, y: x + y,
    "SUBTRACT": lambda x, y: x - y,
    "MULTIPLY": lambda x, y: x * y,
    "DIVIDE": lambda x, y: x / y,
    "NEGATE": lambda x: -x,
    "LT": lambda x, y: x < y,
    "GT": lambda x, y: x > y,
    "ABS": _windowed(lambda own: own.abs()),
    "SIGN": np.sign,
    "LOG": np.log,
    "WHERE": lambda c, x, y: pd.Series(np.where(c, x, y), c.index),
    "RANK": lambda x: x.groupby("datetime").rank(pct=True),
    "SCALE": _daily(lambda day: day / day.abs().sum()),
    "ZSCORE": _daily(lambda day: (day - day.mean()) / day.std()),
    "DELAY": _windowed(lambda own, d: own.shift(d)),
    "DELTA": _windowed(lambda own, d: own.diff(d)),
    "TS_SUM": _rolling(lambda window: window.sum()),
    "TS_MEAN": _rolling(lambda window: window.mean()),
    "TS_STD": _rolling(lambda window: window.std()),
    "TS_MIN": _rolling(lambda window: window.min()),
    "TS_MAX": _rolling(lambda window: window.max()),
    "TS_SKEW": _rolling(lambda window: window.skew()),
    "TS_KURT": _rolling(lambda window: window.kurt()),
    "TS_RANK": _rolling(lambda window: window.rank(pct=True)),
    "TS_QUANTILE": _rolling(lambda window, q: window.quantile(q)),
    "TS_ZSCORE": _windowed(
        lambda own, d: (own - own.rolling(d, min_periods=1).mean()) / own.rolling(d, min_periods=1).std()
    ),
    "TS_ARGMAX": _rolling(lambda window: window.apply(_rows_since_max, raw=True)),
    "DECAYLINEAR": _rolling(lambda window: window.apply(_decayed, raw=True)),
    "TS_CORR": _paired(lambda own, other, d: own.rolling(d, min_periods=2).corr(other)),
    "TS_COV": _paired(lambda own, other, d: own.rolling(d, min_periods=2).cov(other)),
    "REGRESI": _paired(_residual),
    "EMA": _windowed(lambda own, d: own.ewm(span=d, min_periods=1).mean()),
}
