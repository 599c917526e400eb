"""The records of a team's research: runs, their events and trials, and the library that the runs fill.

Each method is one transaction on its own connection, so one :class:`Records` serves all threads and any
number of processes may open the same database. A writing transaction locks first and reads then: on SQLite
``BEGIN IMMEDIATE`` takes the database's one write lock, elsewhere ``SELECT ... FOR UPDATE`` locks the run's
row. Hence numbers counted on from the last row have no gaps, and a status is still what it was when it is
changed.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Final, Self

from sqlalchemy import Connection, Engine, insert, select, tuple_, update
from sqlalchemy.exc import DatabaseError
from uuid_utils import uuid7

from factors.alphas import FIELDS, Alpha
from factors.errors import NotFoundError, SettingError
from factors.evaluation import Evaluation
from factors.hypothesis import Candidate, Factor, Hypothesis
from factors.parse import parse
from factors.regularization import Limits
from factors.verdict import Check, Verdict
from storage import rows, schema, spending
from storage.census import Census
from storage.engine import connect, reading, writing
from storage.ledger import Ledger
from storage.migrations import upgrade
from storage.openings import Openings
from storage.retention import Pruner
from storage.runs import (
    TERMINAL,
    Allowance,
    CandidateRecord,
    EventType,
    ModelCall,
    Run,
    RunEvent,
    RunRequest,
    RunStateError,
    TerminalStatus,
)

_FINISHED: Final[dict[TerminalStatus, EventType]] = {
    "succeeded": "run.succeeded",
    "failed": "run.failed",
    "cancelled": "run.cancelled",
}


class Records:
    """The records at one database URL; thread-safe.

    Attributes:
        ledger: what the team has measured.
        openings: who has looked at the hold-out.
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
        user: str = "local",
        limits: Limits | None = None,
        executor: str | None = None,
    ) -> Run:
        """Queue a run with its ``run.queued`` event, which tells the recipe; ``executor`` owns the queue."""
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
        with self._writing() as connection:
            run_id = str(uuid7())
            connection.execute(
                insert(schema.runs).values(
                    id=run_id, status="queued", created_at=datetime.now(UTC), executor=executor, user=user, **recipe
                )
            )
            rows.append(connection, run_id, "run.queued", {**recipe, "user": user})
            return rows.read_run(connection, run_id)

    def start_run(self, run_id: str, executor: str) -> Run:
        """Turn a queued run into a running one of ``executor``, with its ``run.started`` event."""
        with self._writing() as connection:
            status = rows.lock(connection, run_id)
            if status != "queued":
                raise RunStateError(f"run {run_id} is {status}: only a queued run can start")
            rows.change(connection, run_id, status="running", started_at=datetime.now(UTC), executor=executor)
            rows.append(connection, run_id, "run.started", {})
            return rows.read_run(connection, run_id)

    def finish_run(
        self, run_id: str, status: TerminalStatus, error: str | None = None, stopped: str | None = None
    ) -> Run:
        """End a run with its terminal event; one that never started can fail or be cancelled, not succeed.

        The event tells what ``stopped`` it, as ``reason``: ``budget`` where that is a limit other than the rounds.
        """
        with self._writing() as connection:
            current = rows.lock_open(connection, run_id)
            if current == "queued" and status == "succeeded":
                raise RunStateError(f"run {run_id} is queued: only a running run can succeed")
            rows.change(connection, run_id, status=status, finished_at=datetime.now(UTC), error=error, stopped=stopped)
            run = rows.read_run(connection, run_id)
            told = {"accepted": len(run.accepted), "error": error, "reason": run.reason, "limit": stopped}
            rows.append(connection, run_id, _FINISHED[status], told)
            return run

    def append_event(self, run_id: str, type: EventType, data: dict[str, Any]) -> RunEvent:  # noqa: A002
        """Add an event to a run that is not finished; ``data`` may hold pydantic models.

        ``run.*``, ``factor.accepted`` and ``model.called`` are refused: the methods that make them true append them.
        """
        if type.startswith("run.") or type in {"factor.accepted", "model.called"}:
            raise RunStateError(f"{type} is appended by the step it tells of, not by itself")
        with self._writing() as connection:
            rows.lock_open(connection, run_id)
            return rows.append(connection, run_id, type, data)

    def begin_call(self, run_id: str, call: ModelCall, allowance: Allowance) -> int:
        """Save a model call with the estimate of what it takes, which counts until it ends; its number in the run.

        Raises:
            SpentError: it could pass a limit of the run, or of its user.
        """
        table = schema.model_calls
        with self._writing() as connection:
            rows.lock_open(connection, run_id)
            spending.check_room(connection, run_id, call, allowance)
            position = rows.count_on(connection, table.c.position, run_id)
            connection.execute(insert(table).values(run_id=run_id, position=position, **call.model_dump()))
            return position

    def end_call(self, run_id: str, position: int, call: ModelCall) -> None:
        """Save what a model call took and said, with its ``model.called`` event, which leaves out the answer."""
        table = schema.model_calls
        with self._writing() as connection:
            rows.lock_open(connection, run_id)
            at = (table.c.run_id == run_id) & (table.c.position == position)
            connection.execute(update(table).where(at).values(call.model_dump()))
            rows.append(connection, run_id, "model.called", {"call": call.model_dump(exclude={"answer"})})

    def answer(self, run_id: str, step: str, prompt: str) -> str | None:
        """What a model has said when the run asked this before, ``None`` where nothing was said."""
        table = schema.model_calls
        at = (table.c.run_id == run_id) & (table.c.step == step) & (table.c.prompt == prompt)
        query = select(table.c.answer).where(at, table.c.failure.is_(None)).order_by(table.c.position.desc()).limit(1)
        with self._reading() as connection:
            return connection.scalar(query)

    def left(self, user: str, allowance: Allowance, name: str) -> float:
        """What a field of the allowance leaves to the user's runs of 24 hours; infinite where it has no limit."""
        if getattr(allowance, name) is None:
            return float("inf")
        with self._reading() as connection:
            return spending.left(connection, user, allowance, name)

    def exceeded(self, user: str, allowance: Allowance) -> str:
        """The limit, ``user_`` and its name, that the user's runs of the last 24 hours have used up; empty if none."""
        if allowance == Allowance():
            return ""
        with self._reading() as connection:
            return spending.exceeded(connection, user, allowance)

    def events(self, run_id: str, after: int = 0, limit: int = 1000) -> list[RunEvent]:
        """At most ``limit`` events with ``seq`` above ``after``, in order; ``PrunedError`` where some were removed."""
        event = schema.events.c
        query = rows.select_events().where(event.run_id == run_id, event.seq > after).order_by(event.seq).limit(limit)
        with self._reading() as connection:
            rows.require_events(connection, run_id, after)
            return [rows.read_event(row) for row in connection.execute(query)]

    def record_trial(
        self,
        run_id: str,
        *,
        round: int,  # noqa: A002
        hypothesis: Hypothesis,
        candidate: Candidate,
        verdict: Verdict,
        evaluation: Evaluation | None,
        admission: Sequence[Check],
    ) -> None:
        """Save a candidate and what became of it; one that the run has already recorded stays as it is."""
        table = schema.candidates
        with self._writing() as connection:
            rows.lock_open(connection, run_id)
            known = select(table.c.id).where(table.c.run_id == run_id, table.c.id == candidate.id)
            if connection.execute(known).one_or_none() is not None:
                return
            connection.execute(
                insert(table).values(
                    run_id=run_id,
                    position=rows.count_on(connection, table.c.position, run_id),
                    round=round,
                    hypothesis=hypothesis.statement,
                    verdict=verdict,
                    admission=tuple(admission),
                    accepted=evaluation is not None and all(check.passed for check in admission),
                    **candidate.model_dump(),
                )
            )
            if evaluation is not None:
                connection.execute(insert(schema.evaluations).values(run_id=run_id, **evaluation.model_dump()))

    def accept_factor(self, factor: Factor) -> bool:
        """Link the factor to its run, with a ``factor.accepted`` event; True when it is new to the library.

        The event's data is ``{"factor": ..., "new": ...}``. A factor that the library has stays as it is; one
        that the run has already accepted changes nothing.
        """
        run_id, links = factor.run_id, schema.run_factors
        with self._writing() as connection:
            rows.lock_open(connection, run_id)
            linked = select(links.c.position).where(links.c.run_id == run_id, links.c.factor_id == factor.id)
            if connection.execute(linked).one_or_none() is not None:
                return False
            new = rows.add_factor(connection, factor)
            position = rows.count_on(connection, links.c.position, run_id)
            connection.execute(insert(links).values(run_id=run_id, factor_id=factor.id, position=position))
            rows.append(connection, run_id, "factor.accepted", {"factor": factor, "new": new})
            return new

    def run(self, run_id: str) -> Run:
        """The run as it stands."""
        with self._reading() as connection:
            return rows.read_run(connection, run_id)

    def runs(self, limit: int = 50, cursor: str | None = None) -> tuple[list[Run], str | None]:
        """A page of runs, newest first."""
        key = schema.runs.c.id
        query = rows.select_runs().order_by(key.desc())
        with self._reading() as connection:
            if cursor is not None:
                query = query.where(key < rows.cursor_keys(connection, [key], key == cursor)[0])
            found, more = rows.page(connection, query, limit)
            runs = rows.read_runs(connection, found)
        return runs, runs[-1].id if more else None

    def candidates(
        self, run_id: str, limit: int | None = 50, cursor: str | None = None
    ) -> tuple[list[CandidateRecord], str | None]:
        """A page of a run's candidates, in the order they were recorded; all of them where ``limit`` is ``None``."""
        table, query = schema.candidates, rows.select_candidates(run_id)
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

    def add_alphas(self, alphas: Iterable[Alpha]) -> None:
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
            .where(tuple_(*created) < (run.created_at, run.id))
            .order_by(*created)
            .limit(1)
        )
        with self._reading() as connection:
            return next(iter(rows.read_runs(connection, connection.execute(query).all())), None)

    def abandoned(self, alive: Callable[[str], bool]) -> list[Run]:
        """The unfinished runs whose executor is not alive, oldest first; one without an executor waits."""
        table = schema.runs
        pending = table.c.status.not_in(TERMINAL) & table.c.executor.is_not(None)
        with self._reading() as connection:
            executors = connection.scalars(select(table.c.executor).where(pending).distinct()).all()
        dead = [executor for executor in executors if not alive(executor)]
        query = rows.select_runs().where(pending, table.c.executor.in_(dead)).order_by(table.c.id)
        with self._reading() as connection:
            return rows.read_runs(connection, connection.execute(query).all())

    def _reading(self) -> AbstractContextManager[Connection]:
        return reading(self._engine)

    def _writing(self, lock: str = "") -> AbstractContextManager[Connection]:
        return writing(self._engine, lock)
