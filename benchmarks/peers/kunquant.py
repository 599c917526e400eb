"""KunQuant: writes C++ for a graph of operators, compiles it and runs it on blocks of instruments.

A window with a null in it is null, and exponential means skip nulls. The library's faster, updated statistics are off:
after a null they count a window's known rows wrongly for ever, so that most of a ragged market becomes null or wrong.
The cross-sectional z-score is composed with the C++ that the library takes for that; regressions and time-series
z-scores are composed of windowed moments.
"""

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from KunQuant.Driver import KunCompilerConfig
from KunQuant.jit import cfake
from KunQuant.Op import BoolOpTrait, Builder, ConstantOp, Input, OpBase, Output, Rank, Scale
from KunQuant.ops import CompOp, ElewiseOp, MiscOp
from KunQuant.runner import KunRunner
from KunQuant.Stage import Function

from benchmarks.engine import Timing, UnsupportedError
from benchmarks.market import Dense, load
from benchmarks.peers.metrics import Metrics
from factors.expression import Call, Expr, Field, Number, distinct
from factors.operators import Kind

THREADS = 2
LANES = {"float": 16, "double": 8}  #: instruments in a vector register; the library names 8 and 4 as its defaults
BATCH_BYTES = 4 << 30  #: outputs of one run; a larger batch is compiled and run in parts


class KunQuant:
    """One number type; input and output in the library's blocked layout, ``[blocks, days, lanes]``."""

    def __init__(self, folder: Path, dtype: str) -> None:
        market = load(folder)
        self._dtype = dtype
        self._type = np.float32 if dtype == "float" else np.float64
        self._instruments = market.size.instruments
        self._days = market.size.days
        self._lanes = -(-self._instruments // LANES[dtype]) * LANES[dtype]
        self._fields = {name: self._blocked(values) for name, values in market.fields.items()}
        self._executor = KunRunner.createMultiThreadExecutor(THREADS)
        self._metrics = Metrics(market)
        self._built = 0

    @property
    def about(self) -> str:
        """Version and settings."""
        bits = 8 * np.dtype(self._type).itemsize
        return (
            f"KunQuant {version('kunquant')}, float{bits}, blocked layout of {LANES[self._dtype]} lanes in and out, "
            f"{THREADS} threads; metrics by {self._metrics.chosen}"
        )

    def values(self, formulas: Sequence[Expr]) -> list[Dense]:
        """Values of each formula, from one graph."""
        results = self._run(self._compile(formulas))
        return [np.asarray(self._dense(results[str(k)]), np.float64) for k in range(len(formulas))]

    def time(self, formulas: Sequence[Expr]) -> Timing:
        """Compile, run, metrics; a batch is one graph as far as its outputs fit in memory."""
        size = max(1, BATCH_BYTES // (self._days * self._lanes * np.dtype(self._type).itemsize))
        parts = [self._time(formulas[start : start + size]) for start in range(0, len(formulas), size)]
        return Timing(*(sum(stage) for stage in zip(*parts, strict=True)))

    def _time(self, formulas: Sequence[Expr]) -> Timing:
        stamps = [time.perf_counter()]
        module = self._compile(formulas)
        stamps.append(time.perf_counter())
        results = self._run(module)
        stamps.append(time.perf_counter())
        for values in results.values():
            self._metrics.of_dense(self._dense(values))
        stamps.append(time.perf_counter())
        return Timing(*np.diff(stamps).tolist())

    def _blocked(self, values: Dense) -> Any:
        padded = np.full((self._days, self._lanes), np.nan, self._type)
        padded[:, : self._instruments] = values
        return np.ascontiguousarray(padded.reshape(self._days, -1, LANES[self._dtype]).transpose(1, 0, 2))

    def _dense(self, values: Any) -> Any:
        return np.ascontiguousarray(values.transpose(1, 0, 2).reshape(self._days, -1)[:, : self._instruments])

    def _compile(self, formulas: Sequence[Expr]) -> Any:
        builder = Builder()
        with builder:
            inputs = {name: Input(name) for name in self._fields}
            nodes: dict[Expr, Any] = {}
            for node in distinct(*formulas):
                nodes[node] = _translate(node, nodes, inputs)
            for position, formula in enumerate(formulas):
                Output(_number(nodes[formula]), str(position))
        self._built += 1
        name = f"formulas{self._built}"
        config = KunCompilerConfig(
            dtype=self._dtype,
            blocking_len=LANES[self._dtype],
            input_layout="STs",
            output_layout="STs",
            options={"no_fast_stat": True},
        )
        library = cfake.compileit([(name, Function(builder.ops), config)], name, cfake.CppCompilerConfig())
        return library, library.getModule(name)

    def _run(self, compiled: Any) -> dict[str, Any]:
        results: dict[str, Any] = KunRunner.runGraph(self._executor, compiled[1], self._fields, 0, self._days)
        return results


def float32(folder: Path) -> KunQuant:
    """Single precision."""
    return KunQuant(folder, "float")


def float64(folder: Path) -> KunQuant:
    """Double precision."""
    return KunQuant(folder, "double")


class CrossSectionalZScore(MiscOp.GenericCrossSectionalOp):
    """Value less the day's mean, over its standard deviation (ddof 1)."""

    def __init__(self, v: OpBase) -> None:
        super().__init__([v], None)

    def generate_head(self) -> str:
        """Nothing is declared."""
        return ""

    def generate_body(self) -> str:
        """Two passes over a day's stocks."""
        return """
        T sum = 0, squares = 0;
        size_t count = 0;
        for (size_t i = 0; i < num_stocks; i++) {
            T v = input_0[i];
            if (v == v) { sum += v; count++; }
        }
        T mean = sum / count;
        for (size_t i = 0; i < num_stocks; i++) {
            T v = input_0[i];
            if (v == v) { squares += (v - mean) * (v - mean); }
        }
        T unit = 1 / std::sqrt(squares / (count - 1));
        for (size_t i = 0; i < num_stocks; i++) {
            output_0[i] = (input_0[i] - mean) * unit;
        }
        """


def _regression(y: Any, x: Any, d: int) -> tuple[Any, Any]:
    """Slope, and what the fitted line leaves of today's y."""
    slope = CompOp.WindowedCovariance(y, d, x) / CompOp.WindowedVar(x, d)
    return slope, y - CompOp.WindowedAvg(y, d) - slope * (x - CompOp.WindowedAvg(x, d))


_TABLE: dict[str, Callable[..., Any]] = {
    "ADD": lambda x, y: x + y,
    "SUBTRACT": lambda x, y: x - y,
    "MULTIPLY": lambda x, y: x * y,
    "DIVIDE": lambda x, y: x / y,
    "NEGATE": lambda x: 0 - x,
    "LT": lambda x, y: x < y,
    "GT": lambda x, y: x > y,
    "ABS": ElewiseOp.Abs,
    "SIGN": ElewiseOp.Sign,
    "LOG": ElewiseOp.Log,
    "MAX": ElewiseOp.Max,
    "MIN": ElewiseOp.Min,
    "RANK": Rank,
    "SCALE": Scale,
    "ZSCORE": CrossSectionalZScore,
    "DELAY": MiscOp.BackRef,
    "DELTA": lambda x, d: x - MiscOp.BackRef(x, d),
    "TS_SUM": CompOp.WindowedSum,
    "TS_MEAN": CompOp.WindowedAvg,
    "TS_STD": CompOp.WindowedStddev,
    "TS_VAR": CompOp.WindowedVar,
    "TS_MIN": CompOp.WindowedMin,
    "TS_MAX": CompOp.WindowedMax,
    "TS_SKEW": CompOp.WindowedSkew,
    "TS_KURT": CompOp.WindowedKurt,
    "TS_ZSCORE": lambda x, d: (x - CompOp.WindowedAvg(x, d)) / CompOp.WindowedStddev(x, d),
    "TS_RANK": lambda x, d: CompOp.TsRank(x, d) / float(d),
    "TS_ARGMAX": lambda x, d: float(d) - CompOp.TsArgMax(x, d),
    "TS_QUANTILE": CompOp.WindowedQuantile,
    "TS_CORR": lambda x, y, d: CompOp.WindowedCorrelation(x, d, y),
    "TS_COV": lambda x, y, d: CompOp.WindowedCovariance(x, d, y),
    "REGBETA": lambda y, x, d: _regression(y, x, d)[0],
    "REGRESI": lambda y, x, d: _regression(y, x, d)[1],
    "DECAYLINEAR": CompOp.DecayLinear,
    "EMA": MiscOp.ExpMovingAvg,
}


def _translate(node: Expr, nodes: dict[Expr, Any], inputs: dict[str, Any]) -> Any:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Field):
        return inputs[node.name]
    if not isinstance(node, Call):
        raise TypeError(f"not an expression: {node!r}")
    args = [nodes[arg] for arg in node.args]
    if node.op.name == "WHERE":
        return _where(node, *args)
    if node.op.name not in _TABLE:
        raise UnsupportedError(f"KunQuant has no {node.op.name}")
    literals = [
        int(arg) if isinstance(arg, float) and parameter.low >= 1 else _number(arg)
        for parameter, arg in zip(node.op.parameters, args, strict=True)
    ]
    return _TABLE[node.op.name](*literals)


def _where(node: Call, condition: Any, x: Any, y: Any) -> Any:
    if not any(isinstance(part, Call) and part.op.kind is Kind.CROSS_SECTION for part in distinct(node)):
        return ElewiseOp.Select(_truth(condition), _series(x), _series(y))
    # Where a cross-section divides the graph, a condition may be stored as a number, which its Select does not take.
    share = ElewiseOp.Select(_truth(condition), ConstantOp(1), ConstantOp(0))
    return share * x + (1.0 - share) * y


def _number(value: Any) -> Any:
    """A condition as 1 or 0."""
    return ElewiseOp.Select(value, ConstantOp(1), ConstantOp(0)) if isinstance(value, BoolOpTrait) else value


def _series(value: Any) -> Any:
    return ConstantOp(value) if isinstance(value, float) else _number(value)


def _truth(value: Any) -> Any:
    """A number as a condition: other than 0."""
    return value if isinstance(value, BoolOpTrait) else (value > 0) | (value < 0.0)
