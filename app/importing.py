"""Importing: what the command line and the service do alike to make a source a market, and to tell of it."""

from pathlib import Path
from typing import Any

from storage.acceptance import recorded
from storage.ingest import import_market
from storage.reports import ImportReport


def import_source(
    home: Path,
    market: str,
    source: Path,
    **options: Any,  # noqa: ANN401 - a second list of them would have to be kept like the first
) -> ImportReport:
    """Make a source the current version of a market, and tell what it has come to.

    Args:
        home: the folder that holds ``markets/``.
        market: its name.
        source: where the bars are.
        options: the others of :func:`storage.ingest.import_market`, which tells what is raised.
    """
    snapshot = import_market(home, market, source, **options)
    return ImportReport.of(snapshot, recorded(snapshot))
