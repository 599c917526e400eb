"""A process that holds one engine: requests come as JSON lines on standard input, answers leave on standard output.

Times are taken here, inside, so that one driver can interleave many engines and no message is ever counted.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.engine import Engine, Timing, UnsupportedError
from benchmarks.market import FIELDS, Dense
from factors.expression import Expr
from factors.parse import parse

TURN = 0.5  # seconds

ENGINES = {
    "alphaagent": ("benchmarks.ours", "Ours"),
    "kunquant_64": ("benchmarks.peers.kunquant", "float64"),
    "kunquant_32": ("benchmarks.peers.kunquant", "float32"),
    "py_alpha_lib": ("benchmarks.peers.py_alpha_lib", "PyAlphaLib"),
    "polars_over": ("benchmarks.peers.polars_over", "PolarsOver"),
    "polars_ta": ("benchmarks.peers.polars_ta", "PolarsTa"),
    "pandas": ("benchmarks.peers.pandas_paper", "PandasPaper"),
    "alphalens": ("benchmarks.peers.alphalens", "Alphalens"),
}


def main() -> None:
    """Serve the engine that the first argument names until standard input ends."""
    answers = _private_output()
    module, name = ENGINES[sys.argv[1]]
    engine: Any = None  # until a market is open
    formulas: dict[str, Expr] = {}
    for request in _requests(sys.stdin):
        try:
            if request["task"] == "open":
                engine = None
                engine = getattr(importlib.import_module(module), name)(Path(request["folder"]))
                answer: dict[str, Any] = {"about": engine.about}
            else:
                answer = TASKS[request["task"]](engine, _parsed(request["formulas"], formulas), request)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is an answer about it
            answer = {"refused": _reason(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, UnsupportedError) else f"{type(error).__name__}: {error}"
    return text.splitlines()[0][:200] if text else type(error).__name__


def _private_output() -> IO[str]:
    """Standard output for answers alone; what engines print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _requests(lines: IO[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        yield json.loads(line)


def _parsed(texts: list[str], known: dict[str, Expr]) -> list[Expr]:
    for text in texts:
        if text not in known:
            known[text] = parse(text, FIELDS)
    return [known[text] for text in texts]


def _values(engine: Engine, formulas: list[Expr], request: dict[str, Any]) -> dict[str, Any]:
    """Save values by the formula's number; together if the engine can do them all, else those that it can."""
    refused = {}
    try:
        found: dict[int, Dense] = dict(enumerate(engine.values(formulas)))
    except Exception:  # noqa: BLE001 - as above
        found = {}
        for number, formula in enumerate(formulas):
            try:
                found[number] = engine.values([formula])[0]
            except Exception as error:  # noqa: BLE001 - as above
                refused[number] = _reason(error)
    for number, values in found.items():
        np.save(Path(request["to"]) / f"{number}.npy", values)
    return {"formulas_refused": refused}


def _time(engine: Engine, formulas: list[Expr], _: dict[str, Any]) -> dict[str, Any]:
    """The median of as many runs as fit in a turn, so that a core woken after another engine's turn is up to speed."""
    timings: list[Timing] = []
    started = time.perf_counter()
    while not timings or time.perf_counter() - started < TURN:
        timings.append(engine.time(formulas))
    timings.sort(key=lambda timing: timing.total)
    return {"timing": list(timings[len(timings) // 2])}


def _peak(engine: Engine, formulas: list[Expr], _: dict[str, Any]) -> dict[str, Any]:
    """The most that the process held in memory while the formulas were evaluated, the market included."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    engine.time(formulas)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return {"bytes": int(line.split()[1]) << 10}


TASKS: dict[str, Callable[[Engine, list[Expr], dict[str, Any]], dict[str, Any]]] = {
    "values": _values,
    "time": _time,
    "peak": _peak,
}

if __name__ == "__main__":
    main()
