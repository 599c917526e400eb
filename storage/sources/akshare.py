"""Daily bars of China's A-shares, by akshare: those of Eastmoney as they were traded, and factors of Sina.

Eastmoney's own adjusted prices are of no use for a factor: it takes dividends off rather than dividing by them, so that
they go below zero, and their returns are not those of the market. Sina's factor of those adjusted backward is 1 when a
share is listed, and grows on each ex-date by the close before over the same without its rights. A share on a day on
which it is suspended has no bar.
"""

import ast
import math
import re
from bisect import bisect_right
from datetime import date
from http import HTTPStatus
from itertools import pairwise
from zoneinfo import ZoneInfo

import akshare
import requests
from akshare.stock.cons import zh_sina_a_stock_hfq_url

from storage.sources.source import BARS, Answer, Bar, Source, SourceError, UnansweredError, seconds_of

_SECONDS = 30
_SHANGHAI = ZoneInfo("Asia/Shanghai")
_LOT = 100  # shares; Eastmoney counts volume in lots
_EXCHANGES = {"6": "sh", "0": "sz", "3": "sz", "4": "bj", "8": "bj", "9": "bj"}  # by a share's first digit
_NAMES = {"open": "开盘", "high": "最高", "low": "最低", "close": "收盘", "volume": "成交量", "amount": "成交额"}


def source() -> Source:
    """Eastmoney and Sina; symbols are six digits, such as ``600519``."""
    return Source(_ask, dict.fromkeys(BARS, 0.0), columns=(*BARS, "amount"), adjusted=True)


def _ask(symbol: str, start: date) -> Answer:
    if not re.fullmatch(r"[034689]\d{5}", symbol):
        raise SourceError("expected the six digits of an A-share, such as 600519")
    try:
        frame = akshare.stock_zh_a_hist(symbol, start_date=f"{start:%Y%m%d}", adjust="", timeout=_SECONDS)
    except Exception as error:  # it stumbles in many ways over what is answered to who asks too often
        raise UnansweredError(f"Eastmoney gave no bars: {error!r}") from error
    if frame.empty:
        raise SourceError(f"Eastmoney has no bars of it from {start} on")
    factors = _factors(_EXCHANGES[symbol[0]] + symbol)
    days = frame["日期"].tolist()
    frame["成交量"] *= _LOT
    cells = {
        column: ["" if math.isnan(cell) else repr(cell) for cell in frame[name]] for column, name in _NAMES.items()
    }
    rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    return Answer(_SHANGHAI, [Bar(*each) for each in zip(days, rows, _steps(days, factors), strict=True)])


def _factors(symbol: str) -> list[tuple[date, float]]:
    """Ex-dates and the factors from there on; asked for here, as akshare would wait forever and run what comes."""
    try:
        answer = requests.get(zh_sina_a_stock_hfq_url.format(symbol), timeout=_SECONDS)
        answer.raise_for_status()
        table = ast.literal_eval(answer.text.partition("=")[2].partition("\n")[0].strip())["data"]
        return sorted((date.fromisoformat(row["d"]), float(row["f"])) for row in table)
    except requests.HTTPError as error:
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise SourceError("Sina has no factors of it") from error
        raise UnansweredError(f"Sina gave no factors: {error}", seconds_of(answer.headers)) from error
    except (OSError, ValueError, SyntaxError, LookupError, TypeError) as error:
        raise UnansweredError(f"Sina gave no factors: {error!r}") from error


def _steps(days: list[date], factors: list[tuple[date, float]]) -> list[float]:
    dates = [day for day, _ in factors]
    there = [factors[place - 1][1] if (place := bisect_right(dates, day)) else 1.0 for day in days]
    return [1.0, *(now / before for before, now in pairwise(there))]
