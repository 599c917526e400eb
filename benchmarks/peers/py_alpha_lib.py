"""py-alpha-lib: Rust kernels on flat arrays, one instrument after another, called operator by operator.

Elementwise arithmetic is NumPy's, as in the library's own generated factors. A window is of the last known values and
may be partial.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.engine import Timing, UnsupportedError
from benchmarks.market import Dense, load
from benchmarks.peers.metrics import Metrics
from factors.expression import Call, Expr, Field, Number, distinct

GENERIC = re.compile(r"^def (\w+)\[A: [^\n]*\]\($", re.MULTILINE)


class _OlderPython(importlib.machinery.SourceFileLoader):
    """Reads the library's generated wrappers without their type parameters, which are syntax of Python 3.12.

    The library says that it runs on 3.11, and its native module does.
    """

    def get_data(self, path: str) -> bytes:
        """The file; Python source in the older spelling."""
        data = super().get_data(path)
        if not path.endswith(".py"):
            return data
        return b"from __future__ import annotations\n" + GENERIC.sub(r"def \1(", data.decode()).encode()

    def path_stats(self, path: str) -> Any:
        """Refuse the byte-code cache, which is of the file as it is."""
        raise OSError(path)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> Any:  # noqa: ARG002
        if name != "alpha.algo.algo_gen" or path is None:
            return None
        return importlib.util.spec_from_loader(name, _OlderPython(name, str(Path(path[0]) / "algo_gen.py")))


def _library() -> ModuleType:
    if sys.version_info < (3, 12):
        sys.meta_path.insert(0, _Finder())
    return importlib.import_module("alpha")


class PyAlphaLib:
    """Arrays ``[instruments, days]``, flattened."""

    def __init__(self, folder: Path) -> None:
        market = load(folder)
        self._alpha = _library()
        self._alpha.set_ctx(groups=market.size.instruments, flags=self._alpha.FLAG_SKIP_NAN)
        self._shape = (market.size.instruments, market.size.days)
        self._fields = {name: np.ascontiguousarray(values.T).ravel() for name, values in market.fields.items()}
        self._table = _table(self._alpha, self._shape)
        self._metrics = Metrics(market)

    @property
    def about(self) -> str:
        """Version and settings."""
        patched = ", its wrappers read without type parameters" if sys.version_info < (3, 12) else ""
        return f"py-alpha-lib {version('py-alpha-lib')}, float64{patched}; metrics by {self._metrics.chosen}"

    def values(self, formulas: Sequence[Expr]) -> list[Dense]:
        """Values of each formula."""
        return [np.ascontiguousarray(self._run(formula).reshape(self._shape).T) for formula in formulas]

    def time(self, formulas: Sequence[Expr]) -> Timing:
        """Nothing is compiled; formulas share nothing."""
        running = measuring = 0.0
        for formula in formulas:
            started = time.perf_counter()
            values = self._run(formula)
            ran = time.perf_counter()
            self._metrics.of_dense(np.ascontiguousarray(values.reshape(self._shape).T))
            running += ran - started
            measuring += time.perf_counter() - ran
        return Timing(0.0, running, measuring)

    def _run(self, formula: Expr) -> Any:
        results: dict[Expr, Any] = {}
        with np.errstate(all="ignore"):
            for node in distinct(formula):
                results[node] = self._node(node, results)
        return results[formula]

    def _node(self, node: Expr, results: dict[Expr, Any]) -> Any:
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Field):
            return self._fields[node.name]
        if not isinstance(node, Call):
            raise TypeError(f"not an expression: {node!r}")
        if node.op.name not in self._table:
            raise UnsupportedError(f"py-alpha-lib has no {node.op.name}")
        args = [
            int(results[arg]) if parameter.low >= 1 else results[arg]
            for parameter, arg in zip(node.op.parameters, node.args, strict=True)
        ]
        return self._table[node.op.name](*args)


def _table(alpha: Any, shape: tuple[int, int]) -> dict[str, Callable[..., Any]]:
    def scale(x: Any) -> Any:
        panel = x.reshape(shape)
        return (panel / np.nansum(np.abs(panel), axis=0)).ravel()

    def where(condition: Any, x: Any, y: Any) -> Any:
        # Its own WHERE wants arrays on both branches.
        return np.where(condition, x, y)

    return {
        "ADD": np.add,
        "SUBTRACT": np.subtract,
        "MULTIPLY": np.multiply,
        "DIVIDE": np.divide,
        "NEGATE": np.negative,
        "LT": np.less,
        "GT": np.greater,
        "ABS": np.abs,
        "SIGN": np.sign,
        "LOG": np.log,
        "MAX": np.maximum,
        "MIN": np.minimum,
        "WHERE": where,
        "RANK": alpha.CC_RANK,
        "SCALE": scale,
        "ZSCORE": alpha.CC_ZSCORE,
        "DELAY": alpha.REF,
        "DELTA": lambda x, d: x - alpha.REF(x, d),
        "TS_SUM": alpha.SUM,
        "TS_MEAN": alpha.MA,
        "TS_STD": alpha.STDDEV,
        "TS_VAR": alpha.VAR,
        "TS_MIN": alpha.LLV,
        "TS_MAX": alpha.HHV,
        "TS_SKEW": alpha.SKEWNESS,
        "TS_KURT": alpha.KURTOSIS,
        "TS_ZSCORE": alpha.ZSCORE,
        "TS_RANK": lambda x, d: alpha.RANK(x, d) / d,
        "TS_ARGMAX": alpha.HHVBARS,
        "TS_QUANTILE": alpha.QUANTILE,
        "TS_CORR": alpha.CORR2,
        "TS_COV": alpha.COV,
        "REGBETA": alpha.REGBETA,
        "REGRESI": alpha.REGRESI,
        "DECAYLINEAR": alpha.LWMA,
        "EMA": alpha.EMA,
    }
