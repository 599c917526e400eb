"""Long statements, which are watched while they run."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, Final

import duckdb

Tell = Callable[[str], object]  #: takes what is worth saying, a line at a time
Progress = Callable[[str, int, int], object]  #: takes a stage, how much of it is done, and of how much

READ: Final = "read"  #: the stage whose measure is per cent, of each of several times; others count rows
HASH: Final = "hash"  #: of the rows that a source has
WRITE: Final = "write"  #: of the rows that the version has
_SECONDS: Final = 0.25


def watched(con: duckdb.DuckDBPyConnection, query: str, progress: Progress) -> list[tuple[Any, ...]]:
    """The rows of a statement, of whose progress is told while it reads."""
    con.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: con.execute(query).fetchall())
        try:
            while not wait([running], _SECONDS).done:
                progress(READ, max(0, int(con.query_progress())), 100)
        except BaseException:
            con.interrupt()
            raise
        return running.result()
