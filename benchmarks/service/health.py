"""Health: how fast a server says that it is alive while two runs evaluate at full load."""

import time
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from benchmarks.service.servers import server

RUN = {"direction": "volume that comes with gains", "model": "offline", "budget": {"rounds": 1000, "candidates": 8}}
PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Health:
    """What was seen.

    Attributes:
        requests: how many were answered.
        evaluations: candidates that the runs measured meanwhile.
        p50_ms: median of the time to an answer, over a connection that is kept, milliseconds.
        p99_ms: which 99 of 100 answers did not exceed.
        max_ms: which none exceeded.
    """

    requests: int
    evaluations: int
    p50_ms: float
    p99_ms: float
    max_ms: float


def health(home: Path, market: str, seconds: float = 20.0) -> Health:
    """Measure on a home with a market."""
    with server(home) as busy:
        ids = [busy.ask("POST", "/runs", {**RUN, "market": market, "seed": seed})["id"] for seed in (1, 2)]
        for run_id in ids:
            busy.until(run_id, rounds=1)
        before = sum(busy.run(run_id)["evaluations"] for run_id in ids)
        connection = HTTPConnection("127.0.0.1", busy.port, timeout=60)
        took: list[float] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            took.append((time.monotonic() - began) * 1000)
            time.sleep(PAUSE_SECONDS)
        connection.close()
        evaluated = sum(busy.run(run_id)["evaluations"] for run_id in ids) - before
    p50, p99 = np.percentile(took, [50, 99])
    return Health(len(took), evaluated, float(p50), float(p99), max(took))
