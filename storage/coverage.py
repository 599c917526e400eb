"""Coverage: how many instruments of a version have bars, month by month."""

from dataclasses import dataclass
from datetime import date

from storage.snapshot import Snapshot

_MONTHS = """
    SELECT date_trunc('month', date)::DATE AS month, avg(there) AS instruments, avg(halted) AS suspended FROM (
        SELECT date, count(*) AS there, count(*) FILTER (suspended) AS halted FROM bars GROUP BY date
    ) GROUP BY month ORDER BY month
"""


@dataclass(frozen=True, slots=True)
class Month:
    """A month with bars, in sample.

    Attributes:
        first: its first day.
        instruments: symbols that have a bar, on average of its days with any.
        suspended: those of them that are suspended.
    """

    first: date
    instruments: float
    suspended: float


def coverage(snapshot: Snapshot) -> list[Month]:
    """The months of a version in order; one without any bar is left out."""
    with snapshot.connect() as con:
        return [Month(*row) for row in con.sql(_MONTHS).fetchall()]
