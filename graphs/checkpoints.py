"""Checkpoints: where the state of each run stood after its last step, in the database that the records are in.

What a checkpoint may hold when it is read is on a list: plain values, and the types of :mod:`graphs.state`. A row that
somebody else has written, which would have a function called as it is loaded, is refused.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde._msgpack import STRICT_MSGPACK_ENABLED
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from factors.errors import DataError, SettingError
from factors.hypothesis import Candidate
from graphs.researcher import Trial
from storage.engine import PATIENCE

if TYPE_CHECKING:
    from psycopg import Connection

Saver = BaseCheckpointSaver[Any]

logger = logging.getLogger(__name__)

_ON_THE_LIST: Final = (Candidate, Trial)
_BUSY_SECONDS: Final = 10
_POLL_SECONDS: Final = 0.05
_refused = threading.local()


class StrictSerializer(JsonPlusSerializer):
    """Reads msgpack alone, and in it only what is on the list; ``DataError`` for anything else."""

    def __init__(self) -> None:
        super().__init__(allowed_msgpack_modules=_ON_THE_LIST)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:  # noqa: ANN401 - what is stored is a state, or a part of one
        """The value of a row."""
        if data[0] not in {"null", "bytes", "msgpack"}:
            raise DataError(f"a checkpoint is stored as {data[0]!r}, which is not read")
        _refused.names = []
        try:
            value = super().loads_typed(data)
        finally:
            names, _refused.names = _refused.names, None
        if names:
            logger.error("a checkpoint was refused, as it holds %s", ", ".join(names))
            raise DataError(f"a checkpoint holds {', '.join(names)}, which is not read")
        return value


class FencedSaver(BaseCheckpointSaver[Any]):
    """Writes the checkpoints of one run as long as that is this process's to write.

    A process that wakes up after its run was taken over must not leave a checkpoint that is newer than its successor's.

    Args:
        inner: where checkpoints are.
        check: raises ``FencedError`` where the run is somebody else's.
    """

    def __init__(self, inner: Saver, check: Callable[[], None]) -> None:
        super().__init__(serde=inner.serde)
        self._inner, self._check = inner, check

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that is asked for."""
        return self._inner.get_tuple(config)

    def get_next_version(self, current: Any, channel: None) -> Any:  # noqa: ANN401 - as the inner one counts
        """The version of a channel after this one."""
        return self._inner.get_next_version(current, channel)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint."""
        self._check()
        return self._inner.put(config, checkpoint, metadata, new_versions)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a node has come to, before its step is complete."""
        self._check()
        self._inner.put_writes(config, writes, task_id, task_path)


def _note(event: SerdeEvent) -> None:
    names = getattr(_refused, "names", None)
    if names is not None and event["kind"].endswith("blocked"):
        names.append(f"{event['module']}.{event['name']}")


register_serde_event_listener(_note)


@contextmanager
def open_checkpoints(url: str, file: Path) -> Iterator[Saver]:
    """The checkpoints beside the records: in their database if that is PostgreSQL, otherwise in a file.

    Raises:
        SettingError: LangGraph would read whatever types a checkpoint names.
    """
    if not STRICT_MSGPACK_ENABLED:
        raise SettingError(
            "LANGGRAPH_STRICT_MSGPACK must not be switched off: checkpoints would be read without a list"
        )
    if url.startswith("postgresql"):
        with _postgres(url) as saver:
            yield saver
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file, timeout=_BUSY_SECONDS, check_same_thread=False)) as connection:
        saver = SqliteSaver(connection, serde=StrictSerializer())
        saver.setup()
        yield saver


@contextmanager
def _postgres(url: str) -> Iterator[Saver]:
    # Half a second of imports that the embedded records go without.
    from langgraph.checkpoint.postgres import PostgresSaver  # noqa: PLC0415
    from psycopg import Connection  # noqa: PLC0415
    from psycopg.rows import dict_row  # noqa: PLC0415
    from psycopg_pool import ConnectionPool  # noqa: PLC0415

    address = "postgresql://" + url.partition("://")[2]
    arguments = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    with ConnectionPool[Connection[dict[str, Any]]](
        address, min_size=1, max_size=8, kwargs=arguments, configure=_configure
    ) as pool:
        with pool.connection() as connection, _alone(connection):
            PostgresSaver(connection).setup()
        yield PostgresSaver(pool, serde=StrictSerializer())


def _configure(connection: "Connection[dict[str, Any]]") -> None:
    connection.execute(PATIENCE)


@contextmanager
def _alone(connection: "Connection[dict[str, Any]]") -> Iterator[None]:
    """Keep other processes from making the tables at the same time, where one of them would fail."""
    lock = "hashtextextended('checkpoints', 0)"
    # Asked for again and again: indexes are made CONCURRENTLY, which waits for all statements under way in the
    # database, and so would for one that itself waits for the lock.
    while connection.execute(f"SELECT 1 WHERE pg_try_advisory_lock({lock})").fetchone() is None:
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        connection.execute(f"SELECT pg_advisory_unlock({lock})")


def trim(saver: Saver, run_id: str) -> None:
    """Keep only the newest checkpoint of a run: nobody goes back to an older one."""
    if not isinstance(saver, SqliteSaver):
        saver.prune([run_id])
        return
    with saver.cursor() as cursor:
        for table in ("checkpoints", "writes"):
            cursor.execute(
                f"DELETE FROM {table} WHERE thread_id = ? AND checkpoint_id < "  # noqa: S608 - one of two names
                "(SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = ?)",
                (run_id, run_id),
            )
