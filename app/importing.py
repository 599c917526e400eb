"""Importing: what the command line and the service do alike to make a source a market, and to tell of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.acceptance import recorded
from storage.ingest import import_market
from storage.reports import ImportReport
from storage.watch import READ


def import_source(
    home: Path,
    market: str,
    source: Path,
    *,
    progress: Callable[[int, int | None], object],
    **options: Any,  # noqa: ANN401 - a second list of them would have to be kept like the first
) -> ImportReport:
    """Make a source the current version of a market, and tell what it has come to.

    Args:
        home: the folder that holds ``markets/``.
        market: its name.
        source: where the bars are.
        progress: takes how many rows are done, and of how many, ``None`` while that is not known.
        options: the others of :func:`storage.ingest.import_market`, which tells what is raised.
    """

    def count(stage: str, done: int, total: int) -> None:
        if stage != READ:
            progress(done, total)

    progress(0, None)
    snapshot = import_market(home, market, source, progress=count, **options)
    return ImportReport.of(snapshot, recorded(snapshot))
