"""What the records hold, counted for whoever watches the server, and whether they answer at all."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from sqlalchemy import Connection, Engine, func, select, true
from sqlalchemy.exc import SQLAlchemyError

from factors.errors import AlphaAgentError
from storage.engine import reading
from storage.migrations import newest, revision
from storage.runs import TERMINAL, RunStatus
from storage.schema import candidates, evaluations, events, factors, model_calls, runs, trials


class UnavailableError(AlphaAgentError):
    """A part that the server cannot do without does not answer.

    Attributes:
        check: the part.
    """

    def __init__(self, check: str, reason: str) -> None:
        super().__init__(f"{check}: {reason}")
        self.check = check


@dataclass(frozen=True, slots=True)
class Calls:
    """Model calls of one agent with one outcome, ``answered`` or why there was no answer.

    Attributes:
        agent: who asked.
        outcome: what came of it.
        calls: how many.
        input_tokens: that they read.
        output_tokens: that they wrote.
        usd: what those with a price cost, US dollars.
    """

    agent: str
    outcome: str
    calls: int
    input_tokens: int
    output_tokens: int
    usd: float


@dataclass(frozen=True, slots=True)
class Counts:
    """What the records hold.

    Attributes:
        runs: by status.
        waiting_since: when the queued run was created that has waited longest, ``None`` where none waits.
        refused: candidates that the gate refused, or that nothing could be measured of.
        rejected: candidates that were measured and not admitted.
        accepted: candidates that were admitted.
        recoveries: how often a run was taken up that another process had left.
        calls: calls of models that have ended; one that is under way, or was cut off, is none of them.
    """

    runs: Mapping[RunStatus, int]
    waiting_since: datetime | None
    refused: int
    rejected: int
    accepted: int
    recoveries: int
    calls: tuple[Calls, ...]


@dataclass(frozen=True, slots=True)
class Uses:
    """What the records say of one version of a market.

    Attributes:
        open_runs: runs that wait for it or work on it.
        runs: all runs on it.
        trials: formulas that were measured on it.
        factors: of the library that were accepted on it.
    """

    open_runs: int = 0
    runs: int = 0
    trials: int = 0
    factors: int = 0


class Census:
    """The records as seen by whoever watches them; thread-safe, each method one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def counts(self) -> Counts:
        """What the records hold; each count is read off an index.

        Raises:
            UnavailableError: the database does not answer.
        """
        by_status = select(runs.c.status, func.count().label("runs")).group_by(runs.c.status)
        by_acceptance = select(candidates.c.accepted, func.count().label("candidates")).group_by(candidates.c.accepted)
        resumed = select(func.count()).select_from(events).where(events.c.type == "run.resumed")
        oldest = select(func.min(runs.c.created_at)).where(runs.c.status == "queued")
        with self._answering() as connection:
            statuses = {row.status: row.runs for row in connection.execute(by_status)}
            tried = {row.accepted: row.candidates for row in connection.execute(by_acceptance)}
            measured = connection.scalar(select(func.count()).select_from(evaluations)) or 0
            accepted = tried.get(True, 0)
            return Counts(
                runs={status: statuses.get(status, 0) for status in get_args(RunStatus)},
                waiting_since=connection.scalar(oldest),
                refused=sum(tried.values()) - measured,
                rejected=measured - accepted,
                accepted=accepted,
                recoveries=connection.scalar(resumed) or 0,
                calls=_calls(connection),
            )

    def uses(self, market: str) -> dict[str, Uses]:
        """What each version of a market is used for, by its id; of one that is not there, for nothing."""
        counted: dict[str, dict[str, int]] = {}
        with reading(self._engine) as connection:
            for name, table, wanted in (
                ("open_runs", runs, runs.c.status.not_in(TERMINAL)),
                ("runs", runs, true()),
                ("trials", trials, true()),
                ("factors", factors, true()),
            ):
                query = select(table.c.snapshot, func.count().label("rows")).where(table.c.market == market, wanted)
                for row in connection.execute(query.group_by(table.c.snapshot)):
                    counted.setdefault(row.snapshot, {})[name] = row.rows
        return {snapshot: Uses(**counts) for snapshot, counts in counted.items()}

    def check(self) -> None:
        """Make sure of the database.

        Raises:
            UnavailableError: it does not answer, or its schema is not the newest.
        """
        with self._answering() as connection:
            found = revision(connection)
        if found != newest():
            raise UnavailableError("database", f"its schema is of revision {found}, and {newest()} is needed")

    @contextmanager
    def _answering(self) -> Iterator[Connection]:
        try:
            with reading(self._engine) as connection:
                yield connection
        except SQLAlchemyError as error:
            raise UnavailableError("database", f"it does not answer ({type(error).__name__})") from error


def _calls(connection: Connection) -> tuple[Calls, ...]:
    table = model_calls.c
    outcome = func.coalesce(table.failure, "answered").label("outcome")
    sums = [
        func.count().label("calls"),
        func.sum(table.input_tokens).label("input_tokens"),
        func.sum(table.output_tokens).label("output_tokens"),
        func.coalesce(func.sum(table.usd), 0.0).label("usd"),
    ]
    query = select(table.agent, outcome, *sums).group_by(table.agent, table.failure)
    # A call that is under way counts as interrupted, with an estimate, until it has ended.
    ended = query.where(outcome != "interrupted").order_by(table.agent, outcome)
    return tuple(Calls(**row._asdict()) for row in connection.execute(ended))
