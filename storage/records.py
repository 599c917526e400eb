"""The records of a team's research: runs, their events and trials, and the library that the runs fill.

Each method is one transaction on its own connection, so one :class:`Records` serves all threads and any
number of processes may open the same database. A writing transaction locks first and reads then: on SQLite
``BEGIN IMMEDIATE`` takes the database's one write lock, elsewhere ``SELECT ... FOR UPDATE`` locks the run's
row. Hence numbers counted on from the last row have no gaps, and a status is still what it was when it is
changed.
"""

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Self

from sqlalchemy import Connection, Engine, insert, select, tuple_
from sqlalchemy.exc import DatabaseError

from factors.alphas import FIELDS, Alpha
from factors.errors import NotFoundError, SettingError
from factors.hypothesis import Factor
from factors.parse import parse
from factors.regularization import Limits
from storage import audit, idempotency, rows, schema, spending
from storage.audit import Audit
from storage.census import Census
from storage.engine import connect, reading, writing
from storage.feed import Feed
from storage.idempotency import Once
from storage.imports import Imports
from storage.journal import Journal
from storage.ledger import Ledger
from storage.migrations import upgrade
from storage.openings import Openings
from storage.people import People
from storage.principal import LOCAL, Principal
from storage.progress import ProgressBoard
from storage.queue import Queue
from storage.retention import Pruner
from storage.retirements import Retirements
from storage.runs import (
    Allowance,
    CandidateRecord,
    EventType,
    Quota,
    Run,
    RunEvent,
    RunRequest,
)
from storage.webhooks import Webhooks


class Records:
    """The records at one database URL; thread-safe.

    Attributes:
        ledger: what the team has measured.
        openings: who has looked at the hold-out.
        retirements: factors that are used no more.
        imports: of markets, that the service was asked for.
        people: tokens, sessions and quotas.
        audit: who has done what.
        queue: which run is worked on next, and by whom.
        webhooks: who outside is told what happens.
        feed: all runs' events as they are added.
        progress: how far running runs are.
        census: what there is, counted.
        pruner: removes what is not to be kept.

    Every method raises ``NotFoundError`` for an id that is not there, and ``RunStateError`` for a step that
    the run's status does not allow; an error changes nothing. Pages are read by key, so a row inserted
    meanwhile shifts none: the second item returned is the cursor of the next page, ``None`` on the last.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.ledger = Ledger(engine)
        self.openings = Openings(engine)
        self.retirements = Retirements(engine)
        self.imports = Imports(engine)
        self.people = People(engine)
        self.audit = Audit(engine)
        self.queue = Queue(engine)
        self.webhooks = Webhooks(engine)
        self.feed = Feed(engine)
        self.progress = ProgressBoard(engine)
        self.census = Census(engine)
        self.pruner = Pruner(engine)

    @classmethod
    def open(cls, url: str) -> Self:
        """The records at ``url`` (``sqlite:////folder/records.sqlite``), created or upgraded first.

        Raises:
            SettingError: not a database URL, a database that cannot be opened or is newer than this version.
        """
        records = cls(connect(url))
        try:
            with records._writing("schema") as connection:
                upgrade(connection)
        except DatabaseError as error:
            records.close()
            raise SettingError(f"the records cannot be opened: {' '.join(str(error.orig).split())}") from error
        except BaseException:
            records.close()
            raise
        return records

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create_run(
        self,
        request: RunRequest,
        *,
        universe: str,
        snapshot: str,
        seed: int,
        model: str,
        by: Principal = LOCAL,
        limits: Limits | None = None,
        executor: str | None = None,
        quota: Quota | None = None,
        once: Once | None = None,
    ) -> Run:
        """Queue a run with its ``run.queued`` event, which tells the recipe; ``executor`` owns the queue.

        Where the request was carried out ``once`` before, that is the run of then as it stands.

        Raises:
            SpentError: the user's ``quota`` has no room for it.
            IdempotencyError: its key came with another request.
        """
        recipe = {
            "direction": request.direction,
            "market": request.market,
            "universe": universe,
            "snapshot": snapshot,
            "seed": seed,
            "model": model,
            "budget": request.budget,
            "limits": limits or request.limits,
        }
        with self._writing(spending.account(by.user)) as connection:
            known = idempotency.earlier(connection, by, once)
            if known is not None:
                return rows.read_run(connection, known)
            if quota is not None:
                spending.check_queue(connection, by.user, quota)
            run = rows.add_run(connection, recipe, user=by.user, private=request.private, executor=executor)
            audit.append(connection, by, "run.submitted", run.id)
            idempotency.remember(connection, by, once, run.id)
            return run

    def journal(self, run_id: str, executor: str) -> Journal:
        """What an executor writes of a run."""
        return Journal(self._engine, run_id, executor)

    def left(self, user: str, allowance: Allowance, name: str) -> float:
        """What a field of the allowance leaves to the user's runs of 24 hours; infinite where it has no limit."""
        if getattr(allowance, name) is None:
            return float("inf")
        with self._reading() as connection:
            return spending.left(connection, user, allowance, name)

    def exceeded(self, user: str, allowance: Allowance) -> str:
        """The limit, ``user_`` and its name, that the user's runs of the last 24 hours have used up; empty if none."""
        with self._reading() as connection:
            return spending.exceeded(connection, user, allowance)

    def events(self, run_id: str, after: int = 0, limit: int = 1000) -> list[RunEvent]:
        """At most ``limit`` events with ``seq`` above ``after``, in order; ``PrunedError`` where some were removed."""
        event = schema.events.c
        query = rows.select_events().where(event.run_id == run_id, event.seq > after).order_by(event.seq).limit(limit)
        with self._reading() as connection:
            rows.require_events(connection, run_id, after)
            return [rows.read_event(row) for row in connection.execute(query)]

    def all_events(self, run_id: str, types: Collection[EventType]) -> list[RunEvent]:
        """A run's events of these types, in order."""
        table = schema.events
        at = (table.c.run_id == run_id) & table.c.type.in_(types)
        with self._reading() as connection:
            return [
                rows.read_event(row) for row in connection.execute(rows.select_events().where(at).order_by(table.c.seq))
            ]

    def run(self, run_id: str) -> Run:
        """The run as it stands."""
        with self._reading() as connection:
            return rows.read_run(connection, run_id)

    def runs(
        self, limit: int = 50, cursor: str | None = None, seen_by: Principal = LOCAL
    ) -> tuple[list[Run], str | None]:
        """A page of the runs that somebody sees, newest first."""
        key, seen = schema.runs.c.id, rows.seen_by(seen_by)
        query = rows.select_runs().where(seen).order_by(key.desc())
        with self._reading() as connection:
            if cursor is not None:
                query = query.where(key < rows.cursor_keys(connection, [key], (key == cursor) & seen)[0])
            found, more = rows.page(connection, query, limit)
            runs = rows.read_runs(connection, found)
        return runs, runs[-1].id if more else None

    def candidates(
        self, run_id: str, limit: int | None = 50, cursor: str | None = None
    ) -> tuple[list[CandidateRecord], str | None]:
        """A page of a run's candidates, in the order they were recorded; all of them where ``limit`` is ``None``."""
        table = schema.candidates
        query = rows.select_candidates(run_id)
        with self._reading() as connection:
            rows.require_run(connection, run_id)
            if cursor is not None:
                at = (table.c.run_id == run_id) & (table.c.id == cursor)
                query = query.where(table.c.position > rows.cursor_keys(connection, [table.c.position], at)[0])
            found, more = rows.page(connection, query, limit)
        records = [rows.read_candidate(row) for row in found]
        return records, records[-1].candidate.id if more else None

    def factors(
        self, market: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> tuple[list[Factor], str | None]:
        """A page of the library, newest first; all of it where ``limit`` is ``None``."""
        table = schema.factors
        keys = [table.c.created_at, table.c.id]
        query = select(table).order_by(*(key.desc() for key in keys))
        if market is not None:
            query = query.where(table.c.market == market)
        with self._reading() as connection:
            if cursor is not None:
                query = query.where(tuple_(*keys) < rows.cursor_keys(connection, keys, table.c.id == cursor))
            found, more = rows.page(connection, query, limit)
        factors = [Factor.model_validate(row._asdict()) for row in found]
        return factors, factors[-1].id if more else None

    def factor(self, factor_id: str) -> Factor:
        """One factor of the library."""
        with self._reading() as connection:
            row = connection.execute(select(schema.factors).where(schema.factors.c.id == factor_id)).one_or_none()
        if row is None:
            raise NotFoundError(f"no factor {factor_id!r} in the library")
        return Factor.model_validate(row._asdict())

    def library(self, market: str, before: datetime | None = None) -> list[Factor]:
        """The factors accepted on a market, oldest first; only those created strictly ``before`` a time."""
        table = schema.factors
        query = select(table).where(table.c.market == market).order_by(table.c.created_at, table.c.id)
        if before is not None:
            query = query.where(table.c.created_at < before)
        with self._reading() as connection:
            return [Factor.model_validate(row._asdict()) for row in connection.execute(query)]

    def add_alphas(self, alphas: Iterable[Alpha], by: Principal) -> None:
        """Import alphas, all or none.

        Raises:
            SettingError: names that are taken by others that were imported.
        """
        given, table = {alpha.name: alpha for alpha in alphas}, schema.alphas
        with self._writing() as connection:
            taken = sorted(set(connection.scalars(select(table.c.name))) & given.keys())
            if taken:
                raise SettingError(f"the zoo has alphas of these names already: {', '.join(taken)}")
            values = [
                {"name": name, "formula": str(one.expr), "source": one.source, "created_at": datetime.now(UTC)}
                for name, one in given.items()
            ]
            connection.execute(insert(table), values)
            for source in sorted({one.source for one in given.values()}):
                audit.append(connection, by, "alphas.imported", source)

    def alphas(self, before: datetime | None = None) -> list[Alpha]:
        """The imported alphas, oldest first; only those imported strictly ``before`` a time."""
        table = schema.alphas
        query = select(table).order_by(table.c.created_at, table.c.name)
        if before is not None:
            query = query.where(table.c.created_at < before)
        with self._reading() as connection:
            return [Alpha(row.name, parse(row.formula, FIELDS), row.source) for row in connection.execute(query)]

    def first_like(self, run: Run) -> Run | None:
        """The earliest run created before this one from the same recipe that succeeded.

        A repeated run that reads the library as it stood before that run sees what it saw.
        """
        table = schema.runs
        recipe = ("direction", "market", "universe", "snapshot", "seed", "model", "budget", "limits")
        created = (table.c.created_at, table.c.id)
        query = (
            rows.select_runs()
            .where(table.c.status == "succeeded", *(table.c[name] == getattr(run, name) for name in recipe))
            .where(tuple_(*created) < (run.created_at, run.id), rows.seen_by(Principal(run.user, "researcher")))
            .order_by(*created)
            .limit(1)
        )
        with self._reading() as connection:
            return next(iter(rows.read_runs(connection, connection.execute(query).all())), None)

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine)

    def _writing(self, lock: str = "") -> AbstractContextManager[Connection]:
        return writing(self._engine, lock)
