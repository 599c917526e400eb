"""The feed: the log of all runs, as those read it who follow its growth.

Each run counts its own events; between runs there is no order, as they are written side by side. So a reader's
:class:`Position` is a place in each run. It stays short, since runs become visible in the order of their ids: a run
that is not open and not after ``newest`` has been read to its end.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    Row,
    Select,
    TableValuedAlias,
    Text,
    and_,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
    true,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB

from factors.errors import SettingError
from storage.engine import reading
from storage.runs import TERMINAL
from storage.schema import events, runs

ENDS: Final = frozenset(f"run.{status}" for status in TERMINAL)
NO_RUN: Final = str(UUID(int=0))
_SEQ_BYTES: Final = 4


class OpenRun(NamedTuple):
    """A run that is queued or running, whose it is, and the number of its last event."""

    id: str
    user: str
    seq: int


class Entry(NamedTuple):
    """A row of the log; ``text`` is the JSON text of the :class:`storage.runs.RunEvent`."""

    run_id: str
    seq: int
    type: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Position:
    """How far a reader is.

    Attributes:
        newest: the greatest id of a run that has been looked at.
        seqs: of each run up to it that was not over, the number of the last event read, 0 before the first.
    """

    newest: str
    seqs: Mapping[str, int]

    def __str__(self) -> str:
        """Text of the letters, digits, ``-`` and ``_``: 22 characters, and 27 more for each open run."""
        parts = [UUID(self.newest).bytes]
        for run_id, seq in self.seqs.items():
            parts += UUID(run_id).bytes, seq.to_bytes(_SEQ_BYTES)
        return urlsafe_b64encode(b"".join(parts)).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position that a text stands for.

        Raises:
            SettingError: it stands for none.
        """
        try:
            raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
            places = {}
            for start in range(16, len(raw), 16 + _SEQ_BYTES):
                place = raw[start : start + 16 + _SEQ_BYTES]
                places[str(UUID(bytes=place[:16]))] = int.from_bytes(place[16:])
            position = cls(str(UUID(bytes=raw[:16])), places)
        except (ValueError, NotBase64):
            position = None
        if position is None or str(position) != text:
            raise SettingError("Last-Event-ID must be the id of an event of this stream")
        return position


class Feed:
    """Reads of the log; each is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def now(self) -> tuple[str, list[OpenRun]]:
        """The newest run's id, and the open runs up to it with the numbers of their last events."""
        last = select(func.max(events.c.seq)).where(events.c.run_id == runs.c.id).scalar_subquery()
        with reading(self._engine) as connection:
            newest = connection.scalar(select(func.max(runs.c.id))) or NO_RUN
            at = runs.c.status.not_in(TERMINAL) & (runs.c.id <= newest)
            query = select(runs.c.id, runs.c.user, func.coalesce(last, 0)).where(at).order_by(runs.c.id)
            return newest, [OpenRun(*row) for row in connection.execute(query)]

    def since(self, newest: str, seqs: Mapping[str, int], limit: int) -> tuple[list[OpenRun], list[Entry]]:
        """The runs after ``newest``; at most ``limit`` events of each of them, and of ``seqs`` above their numbers.

        Events come by run, in order.
        """
        query = select(runs.c.id, runs.c.user, literal(0)).where(runs.c.id > newest).order_by(runs.c.id)
        with reading(self._engine) as connection:
            new = [OpenRun(*row) for row in connection.execute(query)]
            behind = {**seqs, **{run.id: run.seq for run in new}}
            return new, self._read(connection, behind, limit)

    def events(self, run_id: str, after: int, limit: int) -> list[Entry]:
        """At most ``limit`` events of a run with numbers above ``after``, in order; some may have been removed."""
        at = (events.c.run_id == run_id) & (events.c.seq > after)
        with reading(self._engine) as connection:
            return [_entry(row) for row in connection.execute(_ENTRIES.where(at).order_by(events.c.seq).limit(limit))]

    def ends(self, run_ids: Iterable[str]) -> dict[str, int]:
        """The number of the last event of each of these runs that has one."""
        query = select(events.c.run_id, func.max(events.c.seq).label("end")).group_by(events.c.run_id)
        with reading(self._engine) as connection:
            return {row.run_id: row.end for row in connection.execute(query.where(events.c.run_id.in_(run_ids)))}

    def owners(self, run_ids: Iterable[str], after: str, upto: str) -> dict[str, str]:
        """Whose these runs are and those of ids above ``after`` up to ``upto``, in order of their ids."""
        between = and_(runs.c.id > after, runs.c.id <= upto)
        query = select(runs.c.id, runs.c.user).where(runs.c.id.in_(run_ids) | between).order_by(runs.c.id)
        with reading(self._engine) as connection:
            return {row.id: row.user for row in connection.execute(query)}

    def _read(self, connection: Connection, seqs: Mapping[str, int], limit: int) -> list[Entry]:
        given = {"seqs": to_json(seqs).decode(), "limit": limit}
        return sorted(map(_entry, connection.execute(_BEHIND[connection.dialect.name], given)))


_ENTRIES: Final = select(
    events.c.run_id, events.c.seq, events.c.type, events.c.at, type_coerce(events.c.data, Text).label("text")
)


def _behind(places: TableValuedAlias) -> Select[Any]:
    """Events with numbers above those of ``places``, at most ``limit`` of each run.

    The runs are one parameter, so that the statement is the same for any number of them.
    """
    first = cast(places.c.value, Integer)
    at = (events.c.run_id == places.c.key) & (events.c.seq > first) & (events.c.seq <= first + bindparam("limit"))
    return _ENTRIES.where(at)


def _behind_on_sqlite() -> Select[Any]:
    places = func.json_each(bindparam("seqs", type_=Text)).table_valued("key", "value")
    return _behind(places)


def _behind_on_postgresql() -> Select[Any]:
    each = func.jsonb_each(cast(bindparam("seqs", type_=Text), JSONB))
    places = each.table_valued(column("key", Text), column("value", JSONB))
    # PostgreSQL cannot know how few rows these are and would read the whole table. A lateral query with an order and
    # a limit of its own leaves it one way: along the index, run by run.
    of_one = _behind(places).order_by(events.c.seq).limit(bindparam("limit")).correlate(places).lateral()
    return select(of_one).join_from(places, of_one, true())


_BEHIND: Final = {"sqlite": _behind_on_sqlite(), "postgresql": _behind_on_postgresql()}


def _entry(row: Row[Any]) -> Entry:
    head = to_json({"run_id": row.run_id, "seq": row.seq, "at": row.at, "type": row.type})
    return Entry(row.run_id, row.seq, row.type, head[:-1] + b',"data":' + row.text.encode() + b"}")
