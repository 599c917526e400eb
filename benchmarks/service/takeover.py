"""Takeover: two servers on one PostgreSQL database, of which one dies or falls silent while it works on runs."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.service.kills import gaps, trace
from benchmarks.service.servers import Server, server
from storage.records import Records

RUN = {
    "direction": "volume that comes with gains",
    "seed": 7,
    "model": "offline",
    "budget": {"rounds": 2, "candidates": 4, "attempts": 1},
}


@dataclass(frozen=True, slots=True)
class Takeover:
    """What became of the runs of the server that was lost.

    Attributes:
        seconds: from its loss until the last of them had ended on the other.
        resumed: how often they were taken up again.
        divergences: whether they ended otherwise than where nobody was lost.
        gaps: numbers that are missing among their events.
    """

    seconds: float
    resumed: int
    divergences: int
    gaps: int


def undisturbed(home: Path, market: str, url: str) -> dict[str, list[tuple[str, ...]]]:
    """What the records say of the runs where no server is lost."""
    with server(home, ALPHAAGENT_DATABASE_URL=url, ALPHAAGENT_CONCURRENCY="1") as only:
        for run_id in _posted(only, market):
            only.until(run_id)
    return trace(url)


def takeover(
    home: Path, market: str, url: str, expected: dict[str, list[tuple[str, ...]]], *, silent: bool = False
) -> Takeover:
    """Lose the server that works on the run once it has completed a round, killed or, where ``silent``, stopped."""
    shared = {"ALPHAAGENT_DATABASE_URL": url}
    with server(home, **shared) as one, server(home, **shared) as two, Records.open(url) as records:
        [run_id] = _posted(one, market)
        one.until(run_id, rounds=1)
        pids = {f":{each.process.pid}:": each for each in (one, two)}
        executor = records.queue.owners().pop()
        lost = next(each for pid, each in pids.items() if pid in executor)
        other = two if lost is one else one
        began = time.monotonic()
        os.kill(lost.process.pid, signal.SIGSTOP if silent else signal.SIGKILL)
        if not silent:
            lost.process.wait()
        try:
            other.until(run_id)
            seconds = time.monotonic() - began
        finally:
            if silent:
                os.kill(lost.process.pid, signal.SIGCONT)
        if silent:
            time.sleep(3.0)  # for it to go on with what it was at
    with Records.open(url) as records:
        resumed = len(records.all_events(run_id, ["run.resumed"]))
    return Takeover(seconds, resumed, int(trace(url) != expected), gaps(url))


def _posted(server: Server, market: str) -> list[str]:
    return [server.ask("POST", "/runs", {**RUN, "market": market})["id"]]
