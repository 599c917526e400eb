"""The engine of the records: on SQLite write-ahead logging, full durability, foreign keys, locks first."""

import sqlite3
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import ArgumentError

from factors.errors import SettingError

_BUSY_SECONDS: Final = 10


def connect(url: str) -> Engine:
    """An engine for the URL; on SQLite the file's folder is created.

    A connection with the execution option ``writing`` takes the write lock as its transaction begins, and
    waits for it at most 10 seconds.

    Raises:
        SettingError: not a database URL, or SQLite without a file.
    """
    try:
        address = make_url(url)
    except ArgumentError:
        # The text is not repeated: it may hold a password.
        raise SettingError("no database URL: expected one like sqlite:////folder/records.sqlite") from None
    if address.get_backend_name() != "sqlite":
        return create_engine(address)
    if address.database in (None, "", ":memory:"):
        raise SettingError(
            "the records need a file, which all threads share: expected sqlite:////folder/records.sqlite"
        )
    Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(address)
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


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
