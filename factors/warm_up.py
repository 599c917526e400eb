"""Compile every kernel once, so that no request waits for it: ``python -m factors.warm_up``.

Numba keeps the machine code in ``__pycache__`` beside the kernels; later processes load it in a fraction of a second.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from functools import cache
from multiprocessing import get_context

import numpy as np
import polars as pl

from factors.evaluator import evaluate
from factors.expression import SECTOR, Expr, Field, Number, call
from factors.labels import forward_returns
from factors.metrics import split_metrics
from factors.operators import OPERATORS, Operator, ParameterKind
from factors.panel import Panel
from factors.redundancy import correlation, train_ranks

DAYS, INSTRUMENTS = 40, 5
MEASURES = "metrics"


def main() -> None:
    """Run each operator and the metrics on a tiny panel, with a progress line on standard error."""
    started = time.monotonic()
    work = [MEASURES, *OPERATORS]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for number, name in enumerate(pool.map(compiled, work), start=1):
            if sys.stderr.isatty():
                sys.stderr.write(f"\rcompiling kernels, once: {number}/{len(work)} {name:20}")
    for name in work:  # processes that compile the same kernel may lose each other's entry in Numba's index
        compiled(name)
    sys.stderr.write(f"\rkernels ready in {time.monotonic() - started:.0f} s{' ' * 30}\n")


def compiled(name: str) -> str:
    """Compile what an operator, or the metrics, need; return the name."""
    panel = _panel()
    if name != MEASURES:
        evaluate(_example(OPERATORS[name]), panel)
        return name
    values = evaluate(Field("close"), panel)
    split_metrics(values, forward_returns(panel), panel)
    ranks = train_ranks(values, panel)
    correlation(ranks, ranks)
    return name


def _example(op: Operator) -> Expr:
    """The operator applied to fields and its parameters' least values."""
    argument: dict[ParameterKind, Callable[[float], Expr]] = {
        ParameterKind.SERIES: lambda _: Field("close"),
        ParameterKind.GROUP: lambda _: SECTOR,
        ParameterKind.WINDOW: lambda low: Number(low + 1),
        ParameterKind.INTEGER: Number,
        ParameterKind.NUMBER: lambda low: Number(max(low, -1.0)),
    }
    return call(op.name, *(argument[parameter.kind](parameter.low) for parameter in op.parameters))


@cache
def _panel() -> Panel:
    days = [date(2020, 1, 1) + timedelta(days=day) for day in range(DAYS)]
    prices = np.random.default_rng(0).uniform(1, 2, DAYS * INSTRUMENTS)
    bars = pl.DataFrame(
        {
            "date": days * INSTRUMENTS,
            "symbol": [f"S{i}" for i in range(INSTRUMENTS) for _ in days],
            **dict.fromkeys(("open", "high", "low", "close", "volume"), prices),
            "suspended": False,
            "member": True,
            "sector": "all",
        }
    )
    return Panel.from_bars(bars, days[DAYS // 2])


if __name__ == "__main__":
    main()
