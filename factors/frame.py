"""The door through which tables enter the core: any Arrow stream becomes a Polars frame."""

from typing import Protocol, TypeAlias

import polars as pl

Frame: TypeAlias = pl.DataFrame


class ArrowStream(Protocol):
    """A table that exports itself as an Arrow C stream, as Polars frames and DuckDB relations do."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return a PyCapsule that holds an ``ArrowArrayStream``."""


def to_frame(stream: ArrowStream) -> Frame:
    """Read a whole stream into memory; columns, their order and the order of rows stay as they are."""
    return pl.DataFrame(stream)
