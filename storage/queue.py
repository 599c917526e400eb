"""The queue: which run is worked on next, and by whom.

Runs wait in an order that is fair between users: a user's next run stands behind as many of every other user's as the
user has runs under way or waiting before it. An executor is a process that works on runs; each beats its heart in the
records, and the runs of one that has died are taken up by another.
"""

from collections.abc import Callable, Collection
from datetime import datetime

from sqlalchemy import Connection, Engine, delete, insert, select, update

from storage import audit, rows
from storage.engine import reading, writing
from storage.principal import Principal
from storage.runs import TERMINAL, Run
from storage.schema import events, executors, runs

MOST_DEATHS = 10  #: of processes that take a run up and tell nothing of it, before it is given up
_LOCK = "queue"  # claims go one after the other, or two executors could pass one limit


class Queue:
    """The queue in the records; thread-safe, each method one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def claim(
        self, executor: str, room: int, runs_of: Callable[[str], float], dead: Collection[str] = ()
    ) -> str | None:
        """Give the executor a run to work on: one that was left unfinished, else the first that may start.

        Args:
            executor: who asks.
            room: most runs that it works on at once.
            runs_of: most runs of a user that are worked on at once, by the user.
            dead: executors that have died; their running runs are taken over with a ``run.resumed`` event, and those
                that were waiting for them wait for anybody. A run that kills whoever takes it up ends as failed.

        Returns:
            The run's id, ``None`` where there is nothing for this executor to do.
        """
        with reading(self._engine) as connection:
            # Mostly there is nothing, and the write lock of SQLite is left to others.
            free = runs.c.executor.is_(None) | runs.c.executor.in_(dead)
            if connection.execute(select(runs.c.id).where(_OPEN, free).limit(1)).first() is None:
                return None
        with writing(self._engine, _LOCK) as connection:
            _requeue(connection, dead)
            under_way = connection.execute(select(runs.c.id, runs.c.user, runs.c.executor).where(_RUNNING)).all()
            if sum(row.executor == executor for row in under_way) >= room:
                return None
            left = sorted((row.id, row.executor) for row in under_way if row.executor is None or row.executor in dead)
            for run_id, last in left:
                rows.lock(connection, run_id)
                if _is_deadly(connection, run_id):
                    rows.finish(connection, run_id, "failed", f"{MOST_DEATHS} processes died one after the other of it")
                    continue
                rows.change(connection, run_id, executor=executor)
                rows.append(connection, run_id, "run.resumed", {"died": last is not None})
                return str(run_id)
            busy = [row.user for row in under_way]
            for run_id, user in rows.waiting(connection):
                if busy.count(user) < runs_of(user):
                    rows.lock(connection, run_id)
                    rows.start(connection, run_id, executor)
                    return run_id
            return None

    def cancel(self, run_id: str, by: Principal) -> Run:
        """End a waiting run, or ask whoever works on a running one to stop it.

        Raises:
            NotFoundError: no such run.
            RunStateError: it has ended.
        """
        with writing(self._engine, _LOCK) as connection:
            status = rows.lock_open(connection, run_id)
            audit.append(connection, by, "run.cancelled", run_id)
            if status == "queued":
                return rows.finish(connection, run_id, "cancelled", stopped="cancelled")
            rows.change(connection, run_id, cancelling=True)
            return rows.read_run(connection, run_id)

    def cancelling(self, executor: str) -> set[str]:
        """The executor's runs that somebody has asked to stop."""
        asked = select(runs.c.id).where(runs.c.executor == executor, runs.c.cancelling, _RUNNING)
        with reading(self._engine) as connection:
            return set(connection.scalars(asked))

    def of(self, executor: str) -> set[str]:
        """The runs that the executor works on."""
        with reading(self._engine) as connection:
            return set(connection.scalars(select(runs.c.id).where(runs.c.executor == executor, _RUNNING)))

    def ended(self, run_ids: Collection[str], before: datetime) -> set[str]:
        """Those of the runs that ended before a time."""
        over = select(runs.c.id).where(runs.c.id.in_(run_ids), runs.c.status.in_(TERMINAL), runs.c.finished_at < before)
        with reading(self._engine) as connection:
            return set(connection.scalars(over))

    def beat(self, executor: str) -> dict[str, int]:
        """Show that the executor is alive; how often each executor has shown it."""
        with writing(self._engine) as connection:
            mine = executors.c.id == executor
            if not connection.execute(update(executors).where(mine).values(beats=executors.c.beats + 1)).rowcount:
                connection.execute(insert(executors).values(id=executor, beats=1))
            return {row.id: row.beats for row in connection.execute(select(executors))}

    def leave(self, executor: str) -> None:
        """Leave the executor's runs to whoever takes them up next, and forget it."""
        with writing(self._engine, _LOCK) as connection:
            _requeue(connection, [executor])
            connection.execute(update(runs).where(runs.c.executor == executor, _RUNNING).values(executor=None))
            connection.execute(delete(executors).where(executors.c.id == executor))

    def forget(self, dead: Collection[str]) -> None:
        """Remove the heartbeats of executors that have left no runs behind."""
        with writing(self._engine) as connection:
            connection.execute(delete(executors).where(executors.c.id.in_(dead), executors.c.id.not_in(_OWNERS)))

    def owners(self) -> set[str]:
        """The executors of unfinished runs, also those whose heart has never beaten."""
        with reading(self._engine) as connection:
            return set(connection.scalars(_OWNERS))


_RUNNING = runs.c.status == "running"
_OPEN = runs.c.status.not_in(TERMINAL)
_OWNERS = select(runs.c.executor).where(_OPEN, runs.c.executor.is_not(None)).distinct()


def _is_deadly(connection: Connection, run_id: str) -> bool:
    """Whether so many processes died of the run and nothing has come of it: the next one would die as well."""
    last = rows.select_events().where(events.c.run_id == run_id).order_by(events.c.seq.desc()).limit(MOST_DEATHS)
    told = [rows.read_event(row) for row in connection.execute(last)]
    return len(told) == MOST_DEATHS and all(one.type == "run.resumed" and one.data.get("died") for one in told)


def _requeue(connection: Connection, dead: Collection[str]) -> None:
    waiting = (runs.c.status == "queued") & runs.c.executor.in_(dead)
    connection.execute(update(runs).where(waiting).values(executor=None))
