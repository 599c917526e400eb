"""Yahoo's daily bars, by yfinance.

Yahoo divides the prices and dividends of the past by every split that has come since, and multiplies the volumes. Here
that is undone with the splits that it tells, so that a later split changes nothing. For that it is asked for all days
up to now, as those beyond what is wanted tell of splits too. Its prices are 32-bit floating point numbers, which are
rounded to what can have been traded. A volume that Yahoo has rounded for a reverse split stays rounded.

The factor is made as Yahoo makes its adjusted close, but from the first day on: on the ex-date of a split of one share
into k it grows by k, on that of a dividend d by c / (c - d), where c is the close before in shares of the ex-date. A
fund's dividends have its capital gains in them.
"""

import math
from collections.abc import Iterator
from datetime import date, tzinfo
from http import HTTPStatus
from typing import Any

import yfinance
from yfinance.data import YfData
from yfinance.exceptions import YFException, YFPricesMissingError, YFRateLimitError

from storage.sources.source import Answer, Bar, Source, SourceError, UnansweredError

_SECONDS = 30


def source() -> Source:
    """Yahoo; symbols as there, such as ``AAPL``, ``BRK-B`` or ``^GSPC``."""
    yfinance.config.debug.hide_exceptions = False
    slack = dict.fromkeys(("open", "high", "low", "close"), 1e-6)
    return Source(_ask, {**slack, "volume": 1e-3}, adjusted=True)


def _ask(symbol: str, start: date) -> Answer:
    # It remembers answers, failures as well.
    YfData.cache_get.cache_clear()
    try:
        frame = yfinance.Ticker(symbol).history(
            start=start.isoformat(), auto_adjust=False, actions=True, timeout=_SECONDS
        )
    except YFRateLimitError as error:
        raise UnansweredError("Yahoo answers no more for now: too many requests") from error
    except YFPricesMissingError as error:
        kind = SourceError if error.yahoo_reason else UnansweredError  # an answer without bars and without a reason
        raise kind(f"Yahoo gave no bars: {error}") from error
    except YFException as error:
        raise SourceError(str(error)) from error
    except (OSError, ValueError) as error:  # nothing came, or something else than JSON
        if getattr(getattr(error, "response", None), "status_code", None) == HTTPStatus.NOT_FOUND:
            raise SourceError("Yahoo does not know it") from error
        raise UnansweredError(f"Yahoo gave no bars: {error}") from error
    if frame.empty:
        raise SourceError("Yahoo has no bars of it")
    zone: tzinfo = frame.index.tz
    return Answer(zone, list(_bars(frame)))


def _bars(frame: Any) -> Iterator[Bar]:  # noqa: ANN401 - a frame of pandas, which is not imported here
    columns = ("Open", "High", "Low", "Close", "Volume", "Dividends", "Stock Splits")
    rows = list(zip(frame.index, *(frame[column].tolist() for column in columns), strict=True))
    later = math.prod(row[-1] for row in rows if row[-1])  # splits after the day that is looked at
    before, split, dividend = None, 1.0, 0.0
    for stamp, *prices, volume, paid, ratio in rows:
        later /= ratio or 1.0
        # What happened on a day without a price shows in the next one.
        split *= ratio or 1.0
        dividend = dividend * (ratio or 1.0) ** -1 + _as_traded(paid * later)
        if any(map(math.isnan, prices)):
            continue
        opened, high, low, close = (_as_traded(price * later) for price in prices)
        step = 1.0 if before is None else _step(before / split, dividend) * split
        cells = (repr(opened), repr(high), repr(low), repr(close), str(round(volume / later)))
        yield Bar(stamp.date(), dict(zip(("open", "high", "low", "close", "volume"), cells, strict=True)), step)
        before, split, dividend = close, 1.0, 0.0


def _step(close: float, dividend: float) -> float:
    if dividend >= close:
        raise SourceError(f"Yahoo tells of a dividend of {dividend} where the close before was {close}")
    return close / (close - dividend)


def _as_traded(price: float) -> float:
    """The number that was meant: six digits, cents at least, and hundredths of them where there is room for them."""
    if not price:
        return 0.0
    least = 4 if abs(price) < 800 else 2  # noqa: PLR2004 - up to where 2**-24 of it is less than half of the last digit
    return round(price, max(5 - math.floor(math.log10(abs(price))), least))
