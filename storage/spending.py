"""What runs and users have spent, and whether there is room for more; inside one transaction of the records."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from storage import rows
from storage.runs import Allowance, Budget, ModelCall, Run, SpentError
from storage.schema import runs

_CALL = ("model_calls", "input_tokens", "output_tokens", "usd")  # what a call adds to
_DAY = timedelta(hours=24)


def check_room(connection: Connection, run_id: str, call: ModelCall, allowance: Allowance) -> None:
    """Raise ``SpentError`` where a call could pass a limit of its run or user, by the estimate that it holds."""
    run = rows.read_run(connection, run_id)
    added = {"model_calls": 1, **call.model_dump(include=set(_CALL))}
    everything = _recent(connection, run.user) if allowance != Allowance() else ()
    for prefix, limits, spent in (("", run.budget, [run]), ("user_", allowance, everything)):
        for name in _CALL:
            if _used(spent, name) + (added[name] or 0) > _limit(limits, name):
                raise SpentError(prefix + name)
    used_up = _first_used_up(everything, allowance)  # which may be counted in something else than calls
    if used_up:
        raise SpentError(used_up)


def left(connection: Connection, user: str, allowance: Allowance, name: str) -> float:
    """What a field of the allowance leaves to the user's runs, infinite where it is no limit."""
    return max(0.0, _limit(allowance, name) - _used(_recent(connection, user), name))


def exceeded(connection: Connection, user: str, allowance: Allowance) -> str:
    """The first limit of the allowance that the user's runs of the last 24 hours have used up, else empty."""
    return _first_used_up(_recent(connection, user), allowance)


def _first_used_up(spent: Iterable[Run], allowance: Allowance) -> str:
    spent = list(spent)
    used_up = (name for name in Allowance.model_fields if _used(spent, name) >= _limit(allowance, name))
    return next((f"user_{name}" for name in used_up), "")


def _recent(connection: Connection, user: str) -> list[Run]:
    query = rows.select_runs().where(runs.c.user == user, runs.c.created_at > datetime.now(UTC) - _DAY)
    return rows.read_runs(connection, connection.execute(query).all())


def _used(spent: Iterable[Run], name: str) -> float:
    return float(sum(getattr(run, name) for run in spent))


def _limit(limits: Budget | Allowance, name: str) -> float:
    limit = getattr(limits, name)
    return float("inf") if limit is None else float(limit)
