"""Fan-out: how long after an event is written a thousand subscribers of twenty running runs have it.

A real server streams, a second process writes the events as running runs do, and a third holds the subscribers. An
event's latency runs from the time in its row, which is taken before the row is committed, to its arrival.
"""

import asyncio
import json
import multiprocessing
import re
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from benchmarks.service.servers import beating, server
from factors.evaluation import Evaluation, Evidence, HorizonMetrics, SplitMetrics, Standing, YearMetrics
from factors.hypothesis import Candidate, Hypothesis
from factors.verdict import Check, Verdict
from storage.records import Records
from storage.runs import EventType, RunRequest

EVENTS_A_SECOND: Final = 5.0
"""Of one run: a run that asks a language model has one to three, twenty offline runs on two cores have less each."""

EXECUTOR: Final = "writer:1:0"
BEFORE: Final = 2  # events of a run that is queued and started
JOINING: Final = 100  # subscribers that connect at once
_AT: Final = re.compile(rb'"seq":(\d+),"at":"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Fanout:
    """What the subscribers saw.

    Attributes:
        subscribers: streams that were open all the time.
        runs: running runs that they followed, equally many each.
        events: rows written, by a second of which ``events_a_second``.
        events_a_second: by all runs together, as measured.
        deliveries: events that arrived, over all subscribers.
        fanout_p50_ms: median of the time from the row to its arrival, milliseconds.
        fanout_p99_ms: which 99 of 100 deliveries did not exceed.
        fanout_max_ms: which none exceeded.
        fanout_rss_bytes: the most memory that the server has had.
        gaps: events that a subscriber of their run did not get.
        duplicates: events that a subscriber got again.
    """

    subscribers: int
    runs: int
    events: int
    events_a_second: float
    deliveries: int
    fanout_p50_ms: float
    fanout_p99_ms: float
    fanout_max_ms: float
    fanout_rss_bytes: int
    gaps: int
    duplicates: int


def fanout(subscribers: int = 1000, runs: int = 20, seconds: float = 20.0) -> Fanout:
    """Measure on a new home, with the records in SQLite."""
    context = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as folder, ExitStack() as stack:
        many = stack.enter_context(server(Path(folder), ALPHAAGENT_QUOTA__STREAMS=str(2 * subscribers)))
        url = f"sqlite:///{folder}/records.sqlite"
        stack.enter_context(beating(url, EXECUTOR))
        with Records.open(url) as records:
            run_ids = [_begin(records) for _ in range(runs)]
        ready, joined = context.Pipe(duplex=False)
        answer, result = context.Pipe(duplex=False)
        listening = context.Process(target=_subscribe, args=(many.port, run_ids, subscribers, joined, result))
        listening.start()
        ready.recv()
        count = int(seconds * EVENTS_A_SECOND)
        writing = context.Process(target=_write, args=(url, run_ids, count))
        began = time.monotonic()
        writing.start()
        writing.join()
        took = time.monotonic() - began
        seen: list[_Seen] = answer.recv()
        listening.join()
        memory = _peak_memory(many.process.pid)
        with Records.open(url) as records:
            written = {run_id: records.feed.ends([run_id])[run_id] for run_id in run_ids}
    return _summary(seen, written, took, memory)


def _begin(records: Records) -> str:
    request = RunRequest(direction="volume shocks that overshoot", market="demo")
    run = records.create_run(request, universe="all", snapshot="s", seed=1, model="offline")
    return records.journal(run.id, EXECUTOR).start().id


def _peak_memory(pid: int) -> int:
    """The most resident memory that a process has had, bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def _write(url: str, run_ids: list[str], count: int) -> None:
    """Write so many events of each run, at random times of their rate, and then end the runs."""
    draw = Random(1)  # noqa: S311 - a load, not a secret
    seconds = count / EVENTS_A_SECOND
    times = sorted((draw.uniform(0, seconds), run_id) for run_id in run_ids for _ in range(count))
    kinds = {run_id: cycle(_payloads()) for run_id in run_ids}
    with Records.open(url) as records:
        began = time.monotonic()
        for due, run_id in times:
            time.sleep(max(0.0, began + due - time.monotonic()))
            records.journal(run_id, EXECUTOR).append(*next(kinds[run_id]))
        for run_id in run_ids:
            records.journal(run_id, EXECUTOR).finish("succeeded")


def _payloads() -> list[tuple[EventType, dict[str, Any]]]:
    """What a run tells of one candidate, as long as it is in real runs."""
    words = "Shares whose volume rose far above its mean tend to give back a part of the move within days. " * 3
    hypothesis = Hypothesis(
        id="h1",
        statement=words,
        observation=words,
        knowledge=words,
        justification=words,
        specification=words,
        horizon_days=5,
    )
    formula = "RANK(TS_CORR($close, $volume, 20)) * ZSCORE(TS_MEAN($return, 5) / TS_STD($return, 60))"
    candidate = Candidate(id="1.1.0", hypothesis_id="h1", name="overshoot", description=words, formula=formula)
    checks = tuple(Check(name=f"check {number}", value=0.123456, limit=0.5, passed=True) for number in range(8))
    metrics = SplitMetrics.model_validate(
        {
            **dict.fromkeys(SplitMetrics.model_fields, 0.0123456789),
            "days": 1000,
            "deciles": (0.00123456789,) * 10,
            "years": [YearMetrics(year=2010 + year, days=250, ic=0.0123456, rank_ic=0.0123456) for year in range(6)],
            "horizons": [
                HorizonMetrics(horizon=days, ic=0.0123, rank_ic=0.0123, rank_icir=0.0123, rank_t_stat=3.21)
                for days in (1, 2, 5, 10, 20)
            ],
        }
    )
    evaluation = Evaluation(
        candidate_id="1.1.0",
        formula=formula,
        snapshot="0123456789abcdef",
        universe="all",
        horizon=1,
        splits={"train": metrics, "valid": metrics},
        evidence=Evidence.model_validate({**dict.fromkeys(Evidence.model_fields, 0.0123456), "days": 2000}),
        standing=Standing(trial=12, level=0.01, discovery=True, expected_maximum=0.1, deflated_sharpe=0.9),
    )
    verdict = Verdict(candidate_id="1.1.0", checks=checks, penalty=0.2)
    return [
        ("hypothesis.proposed", {"round": 1, "hypothesis": hypothesis, "prompt": None}),
        ("candidate.drafted", {"round": 1, "candidate": candidate, "prompt": None}),
        (
            "candidate.judged",
            {"round": 1, "candidate_id": "1.1.0", "accepted": True, "verdict": verdict, "prompt": None},
        ),
        ("candidate.evaluated", {"round": 1, "evaluation": evaluation, "checks": checks}),
    ]


@dataclass(slots=True)
class _Seen:
    """What one subscriber got: the events' numbers, and seconds from their rows to their arrival."""

    run_id: str
    seqs: list[int] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)


class _Subscriber(asyncio.Protocol):
    """One stream, read without a client library, which would take more time than what is measured."""

    def __init__(self, seen: _Seen) -> None:
        self.seen = seen
        self.opened, self.ended = asyncio.Event(), asyncio.Event()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(f"GET /runs/{self.seen.run_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now = time.time()
        self._rest += data
        found = None
        for found in _AT.finditer(self._rest):
            self.seen.seqs.append(int(found[1]))
            written = datetime.fromisoformat(found[2].decode()).timestamp()
            self.seen.latencies.append(now - written)
        # Numbers and times may be cut anywhere, also by the length of a chunk: what follows the last whole one is kept.
        self._rest = self._rest[found.end() :] if found else self._rest
        if self.seen.seqs:
            self.opened.set()
        if self._rest.endswith(b"\r\n0\r\n\r\n"):
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.opened.set()
        self.ended.set()


def _subscribe(port: int, run_ids: list[str], subscribers: int, joined: Connection, result: Connection) -> None:
    """Hold the streams until they end."""
    seen = asyncio.run(_hold(port, list(islice(cycle(run_ids), subscribers)), joined))
    result.send(seen)


async def _hold(port: int, run_ids: list[str], joined: Connection) -> list[_Seen]:
    loop = asyncio.get_running_loop()
    protocols: list[_Subscriber] = []
    for start in range(0, len(run_ids), JOINING):
        joining = [_Subscriber(_Seen(run_id)) for run_id in run_ids[start : start + JOINING]]
        await asyncio.gather(*(loop.create_connection(partial(_same, one), "127.0.0.1", port) for one in joining))
        await asyncio.gather(*(one.opened.wait() for one in joining))
        protocols += joining
    joined.send(len(protocols))
    await asyncio.gather(*(one.ended.wait() for one in protocols))
    return [one.seen for one in protocols]


def _same(protocol: _Subscriber) -> _Subscriber:
    return protocol


def _summary(seen: list[_Seen], written: dict[str, int], seconds: float, memory: int) -> Fanout:
    # What was there before anybody listened has an age, but no latency.
    latencies = np.array(
        [late for one in seen for seq, late in zip(one.seqs, one.latencies, strict=True) if seq > BEFORE]
    )
    p50, p99, most = 1000 * np.quantile(latencies, (0.5, 0.99, 1.0))
    events = sum(written.values())
    return Fanout(
        subscribers=len(seen),
        runs=len(written),
        events=events,
        events_a_second=events / seconds,
        deliveries=latencies.size,
        fanout_p50_ms=float(p50),
        fanout_p99_ms=float(p99),
        fanout_max_ms=float(most),
        fanout_rss_bytes=memory,
        gaps=sum(len(set(range(1, written[one.run_id] + 1)) - set(one.seqs)) for one in seen),
        duplicates=sum(len(one.seqs) - len(set(one.seqs)) for one in seen),
    )


if __name__ == "__main__":
    print(json.dumps(asdict(fanout()), indent=2))  # noqa: T201
