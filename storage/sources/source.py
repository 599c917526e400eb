"""Sources: what a library of market data is asked for, and what it answers.

The module of each library is of its name and is imported when its data is asked for: the libraries are an extra, and
slow to import. What they give is turned into plain text cells there; nothing else knows of their frames.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, tzinfo
from typing import Final, Literal, get_args

from factors.errors import DataError, SettingError

SourceName = Literal["yfinance", "baostock", "akshare", "ccxt"]
_PRICES: Final = ("open", "high", "low", "close")
BARS: Final = (*_PRICES, "volume")


class SourceError(DataError):
    """A source gives no bars of a symbol, and would not if it were asked again."""


class UnansweredError(SourceError):
    """A source gives no bars for now.

    Attributes:
        seconds: how long it asks to be left alone; 0 if it does not say.
    """

    def __init__(self, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Bar:
    """The bar of a day, with prices and volume as they were traded.

    Attributes:
        day: the date where it was traded.
        cells: text by column; empty where the source has nothing.
        step: its adjustment factor over that of the bar before; 1 for the first bar of an answer.
    """

    day: date
    cells: Mapping[str, str]
    step: float = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Bars of one symbol.

    Attributes:
        zone: of the exchange; a day's bar may change until the day is over there.
        bars: one a day at most, in order.
    """

    zone: tzinfo
    bars: list[Bar]


@dataclass(frozen=True, slots=True)
class Source:
    """Where bars come from.

    Attributes:
        ask: the bars of a symbol from a day on, up to now.
        compared: columns that must be the same when a bar is told again, by the relative difference that is none.
        columns: of its files beside the date, without the adjustment factor.
        adjusted: whether its files have the factor, which the steps of its bars make.
        close: to be called when nothing more is asked.
    """

    ask: Callable[[str, date], Answer]
    compared: Mapping[str, float]
    columns: tuple[str, ...] = BARS
    adjusted: bool = False
    close: Callable[[], None] = lambda: None


def open_source(name: SourceName, exchange: str | None = None) -> Source:
    """The source of a library.

    Args:
        name: of the library.
        exchange: which of those that ccxt knows.

    Raises:
        SettingError: the library is not installed, or the exchange is missing, unknown, or not asked for.
    """
    if name not in get_args(SourceName):
        raise SettingError(f"no source {name!r}; expected one of {', '.join(get_args(SourceName))}")
    if (name == "ccxt") != (exchange is not None):
        raise SettingError("ccxt takes an exchange, such as binance, and the other sources take none")
    if importlib.util.find_spec(name) is None:
        raise SettingError(f"{name} is not installed: pip install 'alphaagent[sources]'")
    module = importlib.import_module(f"storage.sources.{name}")
    opened: Source = module.source(exchange) if exchange else module.source()
    return opened


def seconds_of(headers: Mapping[str, str] | None) -> float:
    """How long the headers of an HTTP answer ask to wait (Retry-After, RFC 9110); 0 if they do not, or until a date."""
    told = next((value for name, value in (headers or {}).items() if name.lower() == "retry-after"), "")
    return float(told) if told.isdecimal() else 0.0
