"""The engine of the records: SQLite with write-ahead logging, full durability and foreign keys, or PostgreSQL."""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import psycopg
from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, exc, func, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import DataError

from factors.errors import SettingError

_BUSY_SECONDS: Final = 10

OUTAGES: Final[tuple[type[Exception], ...]] = (
    exc.OperationalError,
    exc.InterfaceError,
    sqlite3.OperationalError,
    psycopg.OperationalError,
)
"""What is raised where a database does not answer, which may pass: of the records and of what else is kept in it."""

PATIENCE_SECONDS: Final = 10
"""That each PostgreSQL session may idle in a transaction: one that falls silent must not keep its locks for ever."""

PATIENCE: Final = f"SET idle_in_transaction_session_timeout = '{PATIENCE_SECONDS}s'"


def connect(url: str) -> Engine:
    """An engine for the URL, whose errors leave out a statement's parameters; on SQLite the file's folder is created.

    On SQLite a transaction of :func:`writing` waits for the write lock at most 10 seconds.

    Raises:
        SettingError: not a database URL, of another database than SQLite and PostgreSQL, or SQLite without a file.
    """
    try:
        address = make_url(url)
    except exc.ArgumentError:
        # The text is not repeated: it may hold a password.
        raise SettingError("no database URL: expected one like sqlite:////folder/records.sqlite") from None
    if address.get_backend_name() == "postgresql":
        address = address.set(drivername="postgresql+psycopg")
        engine = create_engine(address, pool_pre_ping=True, hide_parameters=True)
        event.listen(engine, "handle_error", _refuse_nul)
        event.listen(engine, "connect", _set_patience)
        return engine
    if address.get_backend_name() != "sqlite":
        raise SettingError(f"records are kept in SQLite or PostgreSQL, not in {address.get_backend_name()}")
    if address.database in (None, "", ":memory:"):
        raise SettingError(
            "the records need a file, which all threads share: expected sqlite:////folder/records.sqlite"
        )
    Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(address, hide_parameters=True)
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def reading(engine: Engine) -> AbstractContextManager[Connection]:
    """A transaction that only reads."""
    return engine.begin()


@contextmanager
def writing(engine: Engine, lock: str = "") -> Iterator[Connection]:
    """A transaction that holds, from its beginning, the write lock of SQLite; elsewhere the lock of that name, if any.

    What is counted up over several rows needs a lock of its own where writers go side by side.
    """
    with engine.execution_options(writing=True).begin() as connection:
        if lock:
            hold(connection, lock)
        yield connection


def hold(connection: Connection, lock: str) -> None:
    """Hold the lock of that name until a transaction of :func:`writing` ends; on SQLite it holds the one there is."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(lock, 0))))


def _refuse_nul(context: ExceptionContext) -> SettingError | None:
    # Anybody may send one in a path or a body: that is their mistake, not ours.
    if isinstance(context.sqlalchemy_exception, DataError) and "NUL" in str(context.original_exception):
        return SettingError("a text cannot hold the character NUL")
    return None


def _set_patience(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute(PATIENCE)
    cursor.close()
    connection.commit()


def _set_pragmas(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _write_ahead(cursor: DBAPICursor) -> None:
    # Processes that open a new file at once may meet SQLITE_BUSY here whatever the timeout: SQLite will not
    # wait for a lock that it already holds a part of. Once one of them has succeeded, it is so for good.
    deadline = monotonic() + _BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or monotonic() > deadline:
                raise
            sleep(0.01)
        else:
            return


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writing") else "BEGIN")
