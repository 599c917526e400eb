"""A run whose process is killed again and again, beside one that nobody has touched."""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import select

from app.settings import Settings
from benchmarks.service.model import Model
from storage.engine import connect, reading
from storage.markets import open_market
from storage.records import Records
from storage.runs import Budget, RunRequest
from storage.schema import metadata

DIRECTION = "volume that comes with gains"
BUDGET = Budget(rounds=2, candidates=4, attempts=1)
SEED = 7
_RANDOM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?")
_VOLATILE = {
    "seconds", "executor", "created_at", "started_at", "finished_at", "at", "seq", "position", "number", "key",
    "progress", "final_rounds", "final_candidates", "event_bytes", "pruned_at",
}  # fmt: skip
_OF_PROCESSES = {"run.resumed", "model.called", "alphas.ranked"}  # events of a process, not of the research

Strike = dict[str, float]
Row = tuple[str, ...]
Trace = dict[str, list[Row]]


@dataclass(frozen=True, slots=True)
class Kills:
    """What kills have done.

    Attributes:
        kills: processes that were killed while they worked on a run.
        divergences: runs that ended otherwise than the one that nobody touched.
        lost: accepted factors that they lack.
        duplicates: rows that they have twice.
        gaps: numbers that are missing among a run's events.
        repeated_calls: most model calls that one process made again, of those that another had made.
    """

    kills: int = 0
    divergences: int = 0
    lost: int = 0
    duplicates: int = 0
    gaps: int = 0
    repeated_calls: int = 0

    def __add__(self, other: "Kills") -> "Kills":
        return Kills(
            self.kills + other.kills,
            self.divergences + other.divergences,
            self.lost + other.lost,
            self.duplicates + other.duplicates,
            self.gaps + other.gaps,
            max(self.repeated_calls, other.repeated_calls),
        )


class Graveyard:
    """Kills processes that work on runs of one market.

    Args:
        market_home: a home with the market ``name``, which all homes share.
        folder: for homes.
        database: a new empty PostgreSQL database, where records shall be kept in one.
    """

    def __init__(self, market_home: Path, name: str, folder: Path, database: Callable[[], str] | None = None) -> None:
        self._market_home, self._name, self._folder, self._database = market_home, name, folder, database
        self._homes = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.service.victim"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def home(self, model: Model | None = None, **budget: int) -> "Home":
        """A new home with one queued run, which a model plays or nobody does."""
        self._homes += 1
        folder = self._folder / f"home{self._homes}"
        folder.mkdir(parents=True)
        (folder / "markets").symlink_to(self._market_home / "markets")
        environment = {"ALPHAAGENT_HOME": str(folder)}
        if self._database:
            environment["ALPHAAGENT_DATABASE_URL"] = self._database()
        if model:
            environment |= model.environment
        url = Settings(home=folder, database_url=environment.get("ALPHAAGENT_DATABASE_URL")).records_url
        snapshot = open_market(folder, self._name)
        request = RunRequest(direction=DIRECTION, market=self._name, budget=BUDGET.model_copy(update=budget))
        played_by = model.name if model else "offline"
        with Records.open(url) as records:
            run = records.create_run(
                request, universe=snapshot.universe(None), snapshot=snapshot.id, seed=SEED, model=played_by
            )
        return Home(url, run.id, environment, model)

    def work(self, home: "Home", **strike: float) -> tuple[bool, int]:
        """Have a child work on the home's run: whether it was killed, and how many commits it took otherwise.

        Raises:
            RuntimeError: it ended in some other way.
        """
        pipe, answers = self._process.stdin, self._process.stdout
        if pipe is None or answers is None:
            raise RuntimeError("the process of victims has no pipes")
        pipe.write(json.dumps({"environment": home.environment, **strike}) + "\n")
        pipe.flush()
        answer = json.loads(answers.readline())
        if answer["commits"] < 0:
            raise RuntimeError("a victim failed by itself")
        return answer["killed"], answer["commits"]

    def end(self, home: "Home", expected: Trace, strikes: Iterator[Strike]) -> Kills:
        """Work on a home's run, killed at each strike until it ends, and say how it differs from what is expected."""
        kills = repeated = 0
        asked: Counter[str] = Counter()
        while True:
            before = len(home.model.requests) if home.model else 0
            killed, _ = self.work(home, **next(strikes, {}))
            now = Counter(home.model.requests[before:]) if home.model else Counter()
            repeated = max(repeated, sum((now & asked).values()))
            asked += now
            if not killed:
                break
            kills += 1
        found = trace(home.url)
        return Kills(
            kills=kills,
            divergences=int(found != expected),
            lost=len(set(expected["factors"]) - set(found["factors"])),
            duplicates=sum((Counter(row for rows in found.values() for row in rows)).values())
            - len({row for rows in found.values() for row in rows}),
            gaps=gaps(home.url),
            repeated_calls=repeated,
        )


@dataclass(frozen=True, slots=True)
class Home:
    """A home with one run: where its records are, the run's id, a process's environment, and who plays the agents."""

    url: str
    run_id: str
    environment: dict[str, str]
    model: Model | None


def trace(url: str) -> Trace:
    """What a database says of research, by table, sorted; ids of runs, times and who worked on them left out."""
    engine = connect(url)
    found = {}
    with reading(engine) as connection:
        for name in ("runs", "events", "candidates", "evaluations", "factors", "run_factors", "trials"):
            table = metadata.tables[name]
            rows = [row._asdict() for row in connection.execute(select(table))]
            kept = [row for row in rows if row.get("type") not in _OF_PROCESSES]
            found[name] = sorted(tuple(_plain(key, row[key]) for key in row if key not in _VOLATILE) for row in kept)
    engine.dispose()
    return found


def gaps(url: str) -> int:
    """How many numbers are missing among the events of the runs of a database."""
    events, engine = metadata.tables["events"], connect(url)
    with reading(engine) as connection:
        rows = connection.execute(select(events.c.run_id, events.c.seq)).all()
    engine.dispose()
    numbers: dict[str, list[int]] = {}
    for run_id, seq in rows:
        numbers.setdefault(run_id, []).append(seq)
    return sum(max(found) - len(set(found)) for found in numbers.values())


def _plain(key: str, value: Any) -> str:  # noqa: ANN401 - a column's value
    if isinstance(value, bytes):
        return f"{key} {value.hex()}"
    text = json.dumps(value, sort_keys=True, default=str)
    return f"{key} {_MOMENT.sub('then', _RANDOM.sub('run', text))}"


@contextmanager
def graveyard(
    market_home: Path, name: str, folder: Path, database: Callable[[], str] | None = None
) -> Iterator[Graveyard]:
    """A :class:`Graveyard` until the end of the block."""
    yard = Graveyard(market_home, name, folder, database)
    try:
        yield yard
    finally:
        yard.close()


def at_random(draw: Random, commits: int, seconds: float) -> Iterator[Strike]:
    """Strikes without end, by turns at one of the commits of a process that nobody kills and at a moment of it."""
    while True:
        yield {"commit": draw.randint(1, commits)}
        yield {"seconds": draw.uniform(0.05, seconds)}
