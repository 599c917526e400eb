"""Daily bars of a crypto exchange, by ccxt.

A day is one of UTC; an exchange whose days begin at another hour is refused. Some exchanges give nothing but their last
bars (Kraken 720): a file then begins with those.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import ccxt

from factors.errors import SettingError
from storage.sources.source import BARS, Answer, Bar, Source, SourceError, UnansweredError, seconds_of

_MILLISECONDS = 30_000
_DAY = 86_400_000
_NOTHING = 100 * _DAY  # of which there are no bars, in a page that is empty; no exchange's pages are shorter


def source(exchange: str) -> Source:
    """An exchange, with ccxt's own names of pairs, such as ``BTC/USDT`` or, of a perpetual, ``BTC/USDT:USDT``.

    Raises:
        SettingError: there is no such exchange, or it has no daily bars.
    """
    if exchange not in ccxt.exchanges:
        raise SettingError(f"ccxt knows no exchange {exchange!r}")
    opened = getattr(ccxt, exchange)({"enableRateLimit": True, "timeout": _MILLISECONDS})
    if not opened.has.get("fetchOHLCV") or "1d" not in (opened.timeframes or {"1d": ""}):
        raise SettingError(f"{exchange} has no daily bars")

    def ask(symbol: str, start: date) -> Answer:
        try:
            opened.load_markets()
            rows = _rows(opened, symbol, start)
        except ccxt.NetworkError as error:
            raise UnansweredError(
                f"{exchange} gave no bars: {error}", seconds_of(opened.last_response_headers)
            ) from error
        except ccxt.BaseError as error:
            raise SourceError(f"{exchange} has no bars of it: {error}") from error
        if not rows:
            raise SourceError(f"{exchange} has no bars of it from {start} on")
        if any(stamp % _DAY for stamp in rows):
            raise SourceError(f"the days of {exchange} begin at another hour than midnight in UTC")
        return Answer(UTC, [_bar(stamp, cells) for stamp, cells in sorted(rows.items())])

    return Source(ask, dict.fromkeys(BARS, 0.0))


def _rows(exchange: Any, symbol: str, start: date) -> dict[int, list[float]]:  # noqa: ANN401 - ccxt is untyped
    rows: dict[int, list[float]] = {}
    first = int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp()) * 1000
    since = first
    while since <= exchange.milliseconds():
        page = {row[0]: row[1:] for row in exchange.fetch_ohlcv(symbol, "1d", since=since) if row[0] >= first}
        fresh = page.keys() - rows.keys()
        if fresh:
            rows |= page
            since = max(rows) + _DAY
        else:
            since += _NOTHING
    return rows


def _bar(stamp: int, cells: list[float]) -> Bar:
    day = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=stamp)).date()
    texts = ("" if cell is None else repr(cell) for cell in cells)
    return Bar(day, dict(zip(BARS, texts, strict=True)))
