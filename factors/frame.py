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
    return pl.DataFrame(PlainStream(stream))


class PlainStream:
    """A stream that hides what it is made of.

    DuckDB would read a Polars frame through pyarrow; Polars would remember a DuckDB type for good, which makes the
    process complain of leaks on standard error as it ends.
    """

    __slots__ = ("_source",)

    def __init__(self, source: ArrowStream) -> None:
        self._source = source

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._source.__arrow_c_stream__(requested_schema)
