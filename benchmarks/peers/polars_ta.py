"""polars_ta with expr_codegen: a formula in Python's spelling becomes Polars code, grouped into windowed stages.

Symbolic simplification is off, as the generator's documentation advises for searches. A missing bar is a missing row.
"""

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import polars as pl
from expr_codegen import codegen_exec
from loguru import logger

from benchmarks.engine import Timing, UnsupportedError
from benchmarks.market import Dense, load
from benchmarks.peers.metrics import Metrics
from factors.expression import Call, Expr, Field, Number

# The library's own rank is dense, and its quantile takes the nearest value; a user's code may add such functions.
PREAMBLE = """
def cs_average_rank(x):
    return x.rank("average") / x.count()


def ts_quantile(x, d, q):
    return x.rolling_quantile(q, "linear", window_size=d)
"""


class PolarsTa:
    """A long frame sorted by instrument and day."""

    def __init__(self, folder: Path) -> None:
        logger.disable("expr_codegen")
        market = load(folder)
        self._frame = pl.DataFrame(market.frame()).with_columns(
            row=pl.col("date").rank("dense").cast(pl.Int32) - 1, lane=pl.col("symbol").rank("dense").cast(pl.Int32) - 1
        )
        self._frame = self._frame.drop("date", "symbol").sort("lane", "row")
        self._metrics = Metrics(market)
        self._asked = 0

    @property
    def about(self) -> str:
        """Versions and settings."""
        return (
            f"polars_ta {version('polars_ta')} with expr_codegen {version('expr_codegen')} on Polars {pl.__version__}, "
            f"float64; metrics by {self._metrics.chosen}"
        )

    def values(self, formulas: Sequence[Expr]) -> list[Dense]:
        """Values of each formula."""
        return [self._metrics.dense(self._evaluate(formula)[0]) for formula in formulas]

    def time(self, formulas: Sequence[Expr]) -> Timing:
        """Formulas one by one."""
        generating = running = measuring = 0.0
        for formula in formulas:
            started = time.perf_counter()
            frame, generated = self._evaluate(formula)
            ran = time.perf_counter()
            self._metrics.of_long(frame)
            measuring += time.perf_counter() - ran
            generating += generated - started
            running += ran - generated
        return Timing(generating, running, measuring)

    def _evaluate(self, formula: Expr) -> tuple[pl.DataFrame, float]:
        """``row``, ``lane``, ``value``, and when the code was generated."""
        # A new name each time, because the library caches what it has generated.
        self._asked += 1
        name = f"value{self._asked}"
        source = f"{name} = {_text(formula)}"
        columns = {"over_null": None, "date": "row", "asset": "lane", "skip_simplify": True, "extra_codes": PREAMBLE}
        codegen_exec(None, source, **columns)
        generated = time.perf_counter()
        frame = codegen_exec(self._frame.lazy(), source, **columns).select("row", "lane", value=name).collect()
        return frame, generated


def _rolling(name: str) -> Callable[..., str]:
    return lambda *args: f"{name}({', '.join(args)})"


def _infix(sign: str) -> Callable[..., str]:
    return lambda x, y: f"({x} {sign} {y})"


_TABLE: dict[str, Callable[..., str]] = {
    "ADD": _infix("+"),
    "SUBTRACT": _infix("-"),
    "MULTIPLY": _infix("*"),
    "DIVIDE": _infix("/"),
    "LT": _infix("<"),
    "GT": _infix(">"),
    "NEGATE": lambda x: f"(-{x})",
    "ABS": _rolling("abs_"),
    "SIGN": _rolling("sign"),
    "LOG": _rolling("log"),
    "WHERE": _rolling("if_else"),
    "RANK": _rolling("cs_average_rank"),
    "SCALE": _rolling("cs_scale"),
    "ZSCORE": lambda x: f"cs_zscore({x}, 1)",
    "DELAY": _rolling("ts_delay"),
    "DELTA": _rolling("ts_delta"),
    "TS_SUM": _rolling("ts_sum"),
    "TS_MEAN": _rolling("ts_mean"),
    "TS_STD": lambda x, d: f"ts_std_dev({x}, {d}, 1)",
    "TS_MIN": _rolling("ts_min"),
    "TS_MAX": _rolling("ts_max"),
    "TS_SKEW": _rolling("ts_skewness"),
    "TS_KURT": _rolling("ts_kurtosis"),
    "TS_ZSCORE": lambda x, d: f"(({x} - ts_mean({x}, {d})) / ts_std_dev({x}, {d}, 1))",
    "TS_RANK": _rolling("ts_rank"),
    "TS_ARGMAX": _rolling("ts_arg_max"),
    "TS_QUANTILE": _rolling("ts_quantile"),
    "TS_CORR": _rolling("ts_corr"),
    "TS_COV": _rolling("ts_covariance"),
    "REGBETA": _rolling("ts_regression_slope"),
    "REGRESI": _rolling("ts_regression_resid"),
    "DECAYLINEAR": _rolling("ts_decay_linear"),
    "EMA": _rolling("ts_EMA"),
}


def _text(node: Expr) -> str:
    if isinstance(node, Number):
        return str(node)
    if isinstance(node, Field):
        return node.name
    if not isinstance(node, Call):
        raise TypeError(f"not an expression: {node!r}")
    if node.op.name not in _TABLE:
        raise UnsupportedError(f"polars_ta has no {node.op.name}")
    return _TABLE[node.op.name](*map(_text, node.args))
