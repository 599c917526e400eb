"""Steps inside one transaction of the records: lock a run, count on, read rows as the nouns they are."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    ScalarSelect,
    Select,
    false,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError
from uuid_utils import uuid7

from factors.errors import NotFoundError, SettingError
from factors.evaluation import Evaluation
from factors.hypothesis import Candidate, Factor
from storage import outbox
from storage.engine import hold
from storage.principal import Principal
from storage.runs import (
    TERMINAL,
    CandidateRecord,
    EventType,
    FencedError,
    PrunedError,
    Run,
    RunEvent,
    RunStateError,
    RunStatus,
    TerminalStatus,
)
from storage.schema import candidates, evaluations, events, factors, model_calls, run_factors, runs

_FINISHED: Final[dict[TerminalStatus, EventType]] = {
    "succeeded": "run.succeeded",
    "failed": "run.failed",
    "cancelled": "run.cancelled",
}
_PRIVATE: Final = "The words are those of a private run."


def lock(connection: Connection, run_id: str) -> RunStatus:
    """The run's status, which stays so until the transaction ends; ``NotFoundError`` for an unknown run."""
    status: RunStatus | None = connection.scalar(select(runs.c.status).where(runs.c.id == run_id).with_for_update())
    if status is None:
        raise _no_run(run_id)
    return status


def lock_open(connection: Connection, run_id: str) -> RunStatus:
    """The same, for a step that a finished run refuses with ``RunStateError``."""
    status = lock(connection, run_id)
    if status in TERMINAL:
        raise RunStateError(f"run {run_id} has {status}: nothing can be added to a finished run")
    return status


def check_fence(connection: Connection, run_id: str, executor: str) -> None:
    """``FencedError`` where a run, locked if it is to stay so, is not this executor's."""
    owner = connection.scalar(select(runs.c.executor).where(runs.c.id == run_id))
    if owner != executor:
        raise FencedError(f"run {run_id} is {owner or 'nobody'}'s now, not {executor}'s")


def start(connection: Connection, run_id: str, executor: str) -> None:
    """Give a queued run, which must be locked, to an executor, with its ``run.started`` event."""
    change(connection, run_id, status="running", started_at=datetime.now(UTC), executor=executor)
    append(connection, run_id, "run.started", {})


def finish(
    connection: Connection, run_id: str, status: TerminalStatus, error: str | None = None, stopped: str | None = None
) -> Run:
    """End a locked run with its terminal event, which tells what ``stopped`` it."""
    change(connection, run_id, status=status, finished_at=datetime.now(UTC), error=error, stopped=stopped)
    run = read_run(connection, run_id)
    told = {"accepted": len(run.accepted), "error": error, "reason": run.reason, "limit": stopped}
    append(connection, run_id, _FINISHED[status], told)
    return run


def change(connection: Connection, run_id: str, **values: object) -> None:
    """Set columns of a locked run."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(values))


def add_run(connection: Connection, recipe: dict[str, Any], *, user: str, private: bool, executor: str | None) -> Run:
    """Insert a queued run with its ``run.queued`` event, which tells the recipe."""
    run_id = _next_run_id(connection)
    facts = {"id": run_id, "status": "queued", "user": user, "private": private, "executor": executor}
    connection.execute(insert(runs).values(**facts, created_at=datetime.now(UTC), **recipe))
    append(connection, run_id, "run.queued", {**recipe, "user": user})
    return read_run(connection, run_id)


def count_on(connection: Connection, column: Column[int], run_id: str) -> int:
    """One more than the greatest value of the column in the run, which must be locked; 1 at first."""
    last: int | None = connection.scalar(select(func.max(column)).where(column.table.c.run_id == run_id))
    return (last or 0) + 1


def append(
    connection: Connection, run_id: str, kind: EventType, data: dict[str, Any], key: str | None = None
) -> RunEvent:
    """Add the next event to a locked run, and to the outbox; its key, if any, must be new."""
    seq = count_on(connection, events.c.seq, run_id)
    values = {"run_id": run_id, "seq": seq, "at": datetime.now(UTC), "type": kind, "data": data, "key": key}
    connection.execute(insert(events).values(values))
    # Read back rather than returned as given: the event is what the next reader sees.
    added = select_events().where(events.c.run_id == run_id, events.c.seq == seq)
    event = read_event(connection.execute(added).one())
    outbox.enqueue(connection, event)
    return event


def select_events() -> Select[Any]:
    """Events, for :func:`read_event`."""
    return select(*(events.c[name] for name in RunEvent.model_fields))


def read_event(row: Row[Any]) -> RunEvent:
    """The event of a row of :func:`select_events`."""
    return RunEvent.model_validate(row._asdict())


def add_factor(connection: Connection, factor: Factor) -> bool:
    """Insert the factor into the library; False where it is there already.

    One of a private run enters without its words, which may tell what the run is about: all that reads the library
    may then tell what it has read. The run's candidates keep them.
    """
    if connection.scalar(select(runs.c.private).where(runs.c.id == factor.run_id)):
        words = {"name": f"factor {factor.id}", "description": _PRIVATE, "hypothesis": _PRIVATE}
        factor = factor.model_copy(update=words)
    try:
        with connection.begin_nested():
            connection.execute(insert(factors).values(factor.model_dump()))
    except IntegrityError:
        if connection.execute(select(factors.c.id).where(factors.c.id == factor.id)).one_or_none() is None:
            raise
        return False
    return True


def waiting(connection: Connection) -> list[tuple[str, str]]:
    """The runs that wait for any executor, by id and user, in the order in which they are to start."""
    under_way = Counter(connection.scalars(select(runs.c.user).where(runs.c.status == "running")))
    queued = (runs.c.status == "queued") & runs.c.executor.is_(None)
    query = select(runs.c.id, runs.c.user).where(queued).order_by(runs.c.created_at, runs.c.id)
    places = []
    for number, (run_id, user) in enumerate(connection.execute(query).all()):
        under_way[user] += 1
        places.append((under_way[user], number, run_id, user))
    return [(run_id, user) for _, _, run_id, user in sorted(places)]


def select_runs() -> Select[Any]:
    """Runs with their counts, for :func:`read_runs`."""
    rounds = func.coalesce(runs.c.final_rounds, told("round.completed"))
    judged = func.coalesce(runs.c.final_candidates, told("candidate.judged"))
    evaluated = select(func.count()).where(evaluations.c.run_id == runs.c.id).scalar_subquery()
    columns = [runs.c[name] for name in Run.model_fields if name in runs.c]
    calls = [
        select(counted).where(model_calls.c.run_id == runs.c.id).scalar_subquery().label(name)
        for name, counted in (
            ("model_calls", func.count()),
            ("input_tokens", func.coalesce(func.sum(model_calls.c.input_tokens), 0)),
            ("output_tokens", func.coalesce(func.sum(model_calls.c.output_tokens), 0)),
            ("usd", func.coalesce(func.sum(model_calls.c.usd), 0.0)),
            ("unpriced_calls", func.count() - func.count(model_calls.c.usd)),
        )
    ]
    counts = {"rounds": rounds, "candidates": judged, "evaluations": evaluated}
    return select(*columns, *(count.label(name) for name, count in counts.items()), *calls)


def told(kind: EventType) -> ScalarSelect[int]:
    """How many events of a type there are of the run of the enclosing query."""
    return select(func.count()).where(events.c.run_id == runs.c.id, events.c.type == kind).scalar_subquery()


def seen_by(principal: Principal) -> ColumnElement[bool]:
    """That a run may be told of to somebody, as :meth:`storage.principal.Principal.sees` says of one run."""
    everything = true() if principal.role == "admin" else false()
    return or_(everything, runs.c.private.is_(False), runs.c.user == principal.user)


def read_runs(connection: Connection, rows: Sequence[Row[Any]]) -> list[Run]:
    """The runs of these rows, each with its accepted factors and its place in the queue."""
    accepted: dict[str, list[str]] = {row.id: [] for row in rows}
    links = select(run_factors).where(run_factors.c.run_id.in_(accepted)).order_by(run_factors.c.position)
    for link in connection.execute(links):
        accepted[link.run_id].append(link.factor_id)
    places: dict[str, int] = {}
    if any(row.status == "queued" for row in rows):
        places = {run_id: place for place, (run_id, _) in enumerate(waiting(connection), start=1)}
    return [
        Run.model_validate({**row._asdict(), "accepted": accepted[row.id], "position": places.get(row.id)})
        for row in rows
    ]


def read_run(connection: Connection, run_id: str) -> Run:
    """One run; ``NotFoundError`` for an unknown one."""
    rows = connection.execute(select_runs().where(runs.c.id == run_id)).all()
    if not rows:
        raise _no_run(run_id)
    return read_runs(connection, rows)[0]


def require_run(connection: Connection, run_id: str) -> None:
    """``NotFoundError`` unless there is such a run."""
    if connection.scalar(select(runs.c.id).where(runs.c.id == run_id)) is None:
        raise _no_run(run_id)


def require_events(connection: Connection, run_id: str, after: int) -> None:
    """``NotFoundError`` unless there is such a run, ``PrunedError`` where events behind ``after`` were removed."""
    run = connection.execute(select(runs.c.pruned_at).where(runs.c.id == run_id)).one_or_none()
    if run is None:
        raise _no_run(run_id)
    if run.pruned_at is not None and after < count_on(connection, events.c.seq, run_id) - 1:
        raise PrunedError(
            f"the events of run {run_id} were removed on {run.pruned_at:%Y-%m-%d}; its candidates and factors are kept"
        )


def select_candidates(run_id: str) -> Select[Any]:
    """The run's candidates as recorded, with what was measured of them, for :func:`read_candidate`."""
    measured = [column.label(f"evaluation_{column.name}") for column in evaluations.c]
    return (
        select(candidates, *measured)
        .select_from(candidates.outerjoin(evaluations))
        .where(candidates.c.run_id == run_id)
        .order_by(candidates.c.position)
    )


def read_candidate(row: Row[Any]) -> CandidateRecord:
    """The candidate of a row of :func:`select_candidates`."""
    values = row._asdict()
    evaluation = {name: values[f"evaluation_{name}"] for name in Evaluation.model_fields}
    return CandidateRecord.model_validate(
        {
            **{name: values[name] for name in ("round", "hypothesis", "verdict", "admission", "accepted")},
            "candidate": {name: values[name] for name in Candidate.model_fields},
            "evaluation": evaluation if evaluation["candidate_id"] is not None else None,
        }
    )


def cursor_keys(connection: Connection, keys: Sequence[Column[Any]], at: ColumnElement[bool]) -> Row[Any]:
    """The sort keys of the row that a cursor names; ``NotFoundError`` where there is none."""
    row = connection.execute(select(*keys).where(at)).one_or_none()
    if row is None:
        raise NotFoundError("unknown cursor: expected the one that came with the page before")
    return row


def page(connection: Connection, query: Select[Any], limit: int | None) -> tuple[Sequence[Row[Any]], bool]:
    """The first ``limit`` rows, all where ``None``, and whether more follow."""
    if limit is None:
        return connection.execute(query).all(), False
    if limit < 1:
        raise SettingError(f"a page holds at least 1 row, not {limit}")
    rows = connection.execute(query.limit(limit + 1)).all()
    return rows[:limit], len(rows) > limit


def _no_run(run_id: str) -> NotFoundError:
    return NotFoundError(f"no run {run_id!r}")


def _next_run_id(connection: Connection) -> str:
    """A UUIDv7 greater than that of every run, whatever the clocks of the hosts say.

    As others wait until its run is committed, runs become visible in the order of their ids.
    """
    hold(connection, "runs")
    newest: str | None = connection.scalar(select(func.max(runs.c.id)))
    fresh = str(uuid7())
    if newest is None or fresh > newest:
        return fresh
    seconds, milliseconds = divmod((UUID(newest).int >> 80) + 1, 1000)
    return str(uuid7(seconds, milliseconds * 1_000_000))
