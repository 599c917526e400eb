"""How many bars make up a year, the one figure by which those of a bar are told per year."""

from datetime import date
from typing import Final

_YEAR: Final = 365.25  # days


def bars_a_year(first: date, last: date, days: int, bars: float = 1.0) -> float:
    """Bars per year of the calendar, in whole days of trading: 252 in New York, 243 in Shanghai, 365 without a close.

    A span of some years tells it to the day; one that is shorter than a year is as good as it is typical.

    Args:
        first: the first day of the span.
        last: its last day.
        days: on how many days of it there are bars.
        bars: how many there are on each such day.
    """
    span = (last - first).days + 1
    return max(round(days / span * _YEAR), 1) * bars
