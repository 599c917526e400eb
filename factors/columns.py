"""The columns that formulas commonly read, each with its meaning and unit."""

from collections.abc import Mapping

COLUMNS: Mapping[str, str] = {
    "open": "first price of the bar, adjusted for splits and dividends, in the market's currency",
    "high": "highest price of the bar, likewise",
    "low": "lowest price of the bar, likewise",
    "close": "last price of the bar, likewise",
    "volume": "shares traded in the bar, adjusted for splits",
    "return": "close over the close of the bar before, less 1; a fraction",
    "vwap": "average price of the bar weighted by volume, adjusted as prices are",
    "amount": "value traded in the bar, in the market's currency",
    "cap": "market capitalisation, in the market's currency",
}
"""By name, without the dollar sign; a market may have others, which are as they were imported."""

STANDARD_FIELDS = ("open", "high", "low", "close", "volume", "return")  #: what every market has


def meaning(column: str) -> str:
    """What a column holds, and in which unit."""
    return COLUMNS.get(column, "as imported, unit not stated")


PRICES = ("open", "high", "low", "close", "vwap")
"""Columns that are multiplied by the adjustment factor; volume is divided by it."""
