"""One driver for many workers: starts them, asks them in turn, and keeps what they answer."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.engine import Timing
from benchmarks.market import Dense
from benchmarks.ours import THREADS


class RefusedError(Exception):
    """A worker could not do what it was asked; the text says why."""


class Worker:
    """A long-lived process with one engine; ``with`` ends it.

    Args:
        engine: a name of :data:`benchmarks.worker.ENGINES`.
        threads: how many our own engine uses; peers use all cores whatever it says.
    """

    def __init__(self, engine: str, threads: int = 2) -> None:
        self.engine = engine
        self.about = ""
        self._process = subprocess.Popen(  # noqa: S603 - the interpreter that runs this, and a name of ours
            [sys.executable, "-m", "benchmarks.worker", engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, THREADS: str(threads)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def open(self, folder: Path) -> None:
        """Lay out the market of a folder, in place of the one before."""
        self.about = self._ask(task="open", folder=str(folder))["about"]

    def values(self, formulas: Sequence[str]) -> list[Dense | str]:
        """Values of each formula, ``[days, instruments]``, or why there are none."""
        with tempfile.TemporaryDirectory() as folder:
            refused = self._ask(task="values", formulas=list(formulas), to=folder)["formulas_refused"]
            return [
                refused[str(number)] if str(number) in refused else np.load(Path(folder) / f"{number}.npy")
                for number in range(len(formulas))
            ]

    def time(self, formulas: Sequence[str]) -> Timing:
        """Seconds that the formulas take together."""
        return Timing(*self._ask(task="time", formulas=list(formulas))["timing"])

    def peak(self, formulas: Sequence[str]) -> int:
        """Most bytes in memory while the formulas are evaluated."""
        return int(self._ask(task="peak", formulas=list(formulas))["bytes"])

    def _ask(self, **request: str | list[str]) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdout is None or self._process.poll() is not None:
            raise RefusedError("its process has ended")
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RefusedError("its process died")
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise RefusedError(answer["refused"])
        return answer


def fresh_process(task: str, root: Path) -> float:
    """Seconds that a new process takes to load a market, or to start and judge its first candidate."""
    command = [sys.executable, "-m", "benchmarks.startup", task, str(root), str(time.monotonic())]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - as above
    return float(json.loads(done.stdout)["seconds"])
