"""What runs and users have spent, and whether there is room for more; inside one transaction of the records."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

from sqlalchemy import Connection, func, insert, select

from storage import rows
from storage.engine import hold
from storage.runs import Allowance, Budget, ModelCall, Quota, Run, SpentError
from storage.schema import audit, begun_evaluations, runs

_CALL = ("model_calls", "input_tokens", "output_tokens", "usd")  # what a call adds to
_DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class _Asked:
    """An evaluation that a user asked for without a run."""

    at: datetime
    evaluations: int = 1


_Spent = Run | _Asked


def check_room(connection: Connection, run_id: str, call: ModelCall, allowance: Allowance) -> None:
    """Raise ``SpentError`` where a call could pass a limit of its run or user, by the estimate that it holds.

    The user's other runs wait until this transaction ends.
    """
    run = rows.read_run(connection, run_id)
    hold(connection, account(run.user))
    added = {"model_calls": 1, **call.model_dump(include=set(_CALL))}
    everything = _recent(connection, run.user, allowance)
    for prefix, limits, spent in (("", run.budget, [run]), ("user_", allowance, everything)):
        for name in _CALL:
            if _used(spent, name) + (added[name] or 0) > _limit(limits, name):
                raise SpentError(prefix + name)
    used_up = _first_used_up(everything, allowance)  # which may be counted in something else than calls
    if used_up:
        raise SpentError(f"user_{used_up}")


def begin_evaluation(connection: Connection, run_id: str, candidate_id: str, allowance: Allowance) -> bool:
    """Count a candidate's evaluation before it is made; False where its user's allowance has no room for it.

    One that was begun before counts once. The user's other runs wait until this transaction ends.
    """
    user = connection.execute(select(runs.c.user).where(runs.c.id == run_id)).scalar_one()
    hold(connection, account(user))
    values = {"run_id": run_id, "candidate_id": candidate_id}
    known = select(begun_evaluations).filter_by(**values)
    if connection.execute(known).one_or_none() is None:
        if left(connection, user, allowance, "evaluations") < 1:
            return False
        connection.execute(insert(begun_evaluations).values(values))
    return True


def account(user: str) -> str:
    """The lock of what a user may spend: whoever looks whether there is room for something holds it, or two would."""
    return f"account of {user}"


def check_queue(connection: Connection, user: str, quota: Quota) -> None:
    """Raise ``SpentError`` where a user may not queue a run now."""
    check_day(connection, user, quota)
    own = runs.c.user == user
    queued = connection.scalar(select(func.count()).where(own, runs.c.status == "queued")) or 0
    if queued >= quota.queued_runs:
        raise SpentError("user_queued_runs", _until_one_ends(connection, user))


def check_day(connection: Connection, user: str, allowance: Allowance) -> None:
    """Raise ``SpentError`` where a user has used up a limit of the last 24 hours."""
    spent = _recent(connection, user, allowance)
    used_up = _first_used_up(spent, allowance)
    if used_up:
        raise SpentError(f"user_{used_up}", _until_aged(spent, used_up, allowance))


def left(connection: Connection, user: str, allowance: Allowance, name: str) -> float:
    """What a field of the allowance leaves to the user's runs, infinite where it is no limit."""
    return max(0.0, _limit(allowance, name) - _used(_recent(connection, user, allowance), name))


def exceeded(connection: Connection, user: str, allowance: Allowance) -> str:
    """The first limit of the allowance that the user has used up in the last 24 hours, ``user_`` first, else empty."""
    used_up = _first_used_up(_recent(connection, user, allowance), allowance)
    return used_up and f"user_{used_up}"


def _first_used_up(spent: Iterable[_Spent], allowance: Allowance) -> str:
    spent = list(spent)
    used_up = (name for name in Allowance.model_fields if _used(spent, name) >= _limit(allowance, name))
    return next(used_up, "")


def _recent(connection: Connection, user: str, allowance: Allowance) -> list[_Spent]:
    """What counts in a user's last 24 hours, oldest first; not looked at where nothing of it is limited.

    A run counts until a day after its end, whenever it was queued: it spends until then. Its evaluations count from
    when they begin.
    """
    if all(getattr(allowance, name) is None for name in Allowance.model_fields):
        return []
    begun = datetime.now(UTC) - _DAY
    lately = runs.c.finished_at.is_(None) | (runs.c.finished_at > begun)
    own = runs.c.user == user, lately
    asked = (audit.c.user == user, audit.c.act == "evaluation.asked", audit.c.at > begun)
    counted = select(begun_evaluations.c.run_id, func.count().label("number")).join(runs).where(*own)
    grouped = connection.execute(counted.group_by(begun_evaluations.c.run_id)).all()
    evaluations = {row.run_id: int(row.number) for row in grouped}
    spent: list[_Spent] = [
        run.model_copy(update={"evaluations": max(run.evaluations, evaluations.get(run.id, 0))})
        for run in rows.read_runs(connection, connection.execute(rows.select_runs().where(*own)).all())
    ]
    spent += [_Asked(at) for at in connection.scalars(select(audit.c.at).where(*asked))]
    return sorted(spent, key=_spent_until)


def _until_aged(spent: Sequence[_Spent], name: str, allowance: Allowance) -> int:
    """Seconds until enough of what counts is older than a day; a day where that would not do."""
    for k, one in enumerate(spent, 1):
        if _used(spent[k:], name) < _limit(allowance, name):
            return max(1, ceil((_spent_until(one) + _DAY - datetime.now(UTC)).total_seconds()))
    return int(_DAY.total_seconds())


def _spent_until(one: _Spent) -> datetime:
    """When the last of it may have been spent, which is now for a run that has not ended."""
    return one.at if isinstance(one, _Asked) else one.finished_at or datetime.now(UTC)


def _until_one_ends(connection: Connection, user: str) -> int:
    """Seconds until a run of a user must have ended, and so one that waits may begin; a minute where none works."""
    working = rows.select_runs().where(runs.c.user == user, runs.c.status == "running")
    found = rows.read_runs(connection, connection.execute(working).all())
    return max(1, ceil(min(run.budget.seconds - run.seconds for run in found))) if found else 60


def _used(spent: Iterable[_Spent], name: str) -> float:
    return float(sum(getattr(one, name, 0) for one in spent))


def _limit(limits: Budget | Allowance, name: str) -> float:
    limit = getattr(limits, name)
    return float("inf") if limit is None else float(limit)
