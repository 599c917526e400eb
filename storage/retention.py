"""What is kept of finished runs: their events are removed once they are old or many, what the runs found stays.

Of a pruned run the ``run.*`` events stay, which say what was asked for and what became of it, and so do its
candidates, evaluations, factors and model calls. A run that still owes a webhook something keeps all until then.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, delete, func, select, update

from storage import rows
from storage.engine import reading, writing
from storage.runs import TERMINAL
from storage.schema import deliveries, events, runs

_BATCH: Final = 1000  # events that are removed in one transaction, so that no writer waits long
_LOCK: Final = "retention"
_FINISHED: Final = runs.c.status.in_(TERMINAL)
_PROGRESS: Final = events.c.type.not_like("run.%")


class Retention(BaseModel):
    """How long, and how many, events of finished runs are kept.

    Attributes:
        days: since the run finished.
        bytes: of the data of all finished runs' events together; a character that is not ASCII counts as one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int = Field(default=90, ge=0)
    bytes: int = Field(default=4 * 2**30, ge=0)


class Pruner:
    """Removes events from the records; thread-safe, and any number of processes may do it at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def prune(self, retention: Retention, stop: Callable[[], bool] = lambda: False) -> list[str]:
        """Remove the events that are not to be kept, the oldest runs' first; the ids of the runs that have lost theirs.

        It works in small transactions, between which it is asked whether to ``stop``, and goes on the next time.
        """
        self._weigh(stop)
        pruned: list[str] = []
        for run_id in self._due(retention):
            if not self._remove(run_id, stop):
                break
            pruned.append(run_id)
        return pruned

    def _weigh(self, stop: Callable[[], bool]) -> None:
        """Note once for each finished run, to whose events none are added any more, what they tell in sum."""
        size = select(func.coalesce(func.sum(func.length(events.c.data)), 0)).where(events.c.run_id == runs.c.id)
        sums = {
            "final_rounds": rows.told("round.completed"),
            "final_candidates": rows.told("candidate.judged"),
            "event_bytes": size.where(_PROGRESS).scalar_subquery(),
        }
        unweighed = _FINISHED & runs.c.event_bytes.is_(None)
        with reading(self._engine) as connection:
            ids = connection.scalars(select(runs.c.id).where(unweighed)).all()
        for run_id in ids:
            if stop():
                return
            with writing(self._engine, _LOCK) as connection:
                connection.execute(update(runs).where(runs.c.id == run_id, unweighed).values(sums))

    def _due(self, retention: Retention) -> list[str]:
        """The runs whose events are to go, oldest first, those among them that were cut off while theirs went."""
        owed = select(deliveries.c.id).where(deliveries.c.run_id == runs.c.id, deliveries.c.next_at.is_not(None))
        query = (
            select(runs.c.id, runs.c.finished_at, runs.c.event_bytes, runs.c.pruned_at, owed.exists().label("owes"))
            .where(_FINISHED, runs.c.event_bytes > 0)
            .order_by(runs.c.finished_at.desc(), runs.c.id.desc())
        )
        oldest = datetime.now(UTC) - timedelta(days=retention.days)
        due, kept = [], 0
        with reading(self._engine) as connection:
            for run in connection.execute(query):
                kept += run.event_bytes
                # Deliveries go with their events. A run that has ended is owed no more than it is by now.
                old = run.pruned_at is not None or run.finished_at < oldest or kept > retention.bytes
                if old and not run.owes:
                    due.append(run.id)
        return due[::-1]

    def _remove(self, run_id: str, stop: Callable[[], bool]) -> bool:
        """Remove a run's events; whether all are gone."""
        unmarked = (runs.c.id == run_id) & runs.c.pruned_at.is_(None)
        with writing(self._engine, _LOCK) as connection:  # before the first is gone, or a reader would miss it
            connection.execute(update(runs).where(unmarked).values(pruned_at=datetime.now(UTC)))
        of_run = events.c.run_id == run_id
        batch = select(events.c.seq).where(of_run, _PROGRESS).order_by(events.c.seq).limit(_BATCH)
        removed = _BATCH
        while removed == _BATCH:
            if stop():
                return False
            with writing(self._engine, _LOCK) as connection:
                removed = connection.execute(delete(events).where(of_run, events.c.seq.in_(batch))).rowcount
                if removed < _BATCH:
                    connection.execute(update(runs).where(runs.c.id == run_id).values(event_bytes=0))
        return True
