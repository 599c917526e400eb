"""Daily bars of China's A-shares, by baostock: as they were traded, with the close before that the exchange tells.

The files are laid out as baostock's own, from which :mod:`storage.layouts` makes the factor.
"""

import io
import re
from contextlib import redirect_stdout
from datetime import date
from socket import AF_INET, SOCK_STREAM, socket
from zoneinfo import ZoneInfo

import baostock
from baostock.common import contants, context
from baostock.util import socketutil

from storage.sources.source import BARS, Answer, Bar, Source, SourceError, UnansweredError

_SECONDS = 30
_SHANGHAI = ZoneInfo("Asia/Shanghai")
_COLUMNS = (
    "code", *BARS, "preclose", "amount", "adjustflag", "turn", "tradestatus", "pctChg", "peTTM", "pbMRQ", "psTTM",
    "pcfNcfTTM", "isST",
)  # fmt: skip
_RAW = "3"
_MAY_PASS = ("10001001", "10001005", "10002", "10005")  # not logged in, too many are, the network, its system


def source() -> Source:
    """Baostock; symbols as there, such as ``sh.600519``."""
    socketutil.SocketUtil.connect = _connect
    return Source(_ask, dict.fromkeys((*BARS, "preclose", "tradestatus"), 0.0), columns=_COLUMNS, close=_hang_up)


def _ask(symbol: str, start: date) -> Answer:
    if not re.fullmatch(r"(sh|sz|bj)\.\d{6}", symbol):
        raise SourceError("expected a symbol such as sh.600519")
    try:
        with redirect_stdout(io.StringIO()):  # where it talks to people
            rows = _rows(symbol, start)
    except OSError as error:
        raise UnansweredError(f"baostock cannot be reached: {error}") from error
    except UnansweredError:
        _hang_up()
        raise
    if not rows:
        raise SourceError(f"baostock has no bars of it from {start} on")
    return Answer(
        _SHANGHAI, [Bar(date.fromisoformat(day), dict(zip(_COLUMNS, row, strict=True))) for day, *row in rows]
    )


def _rows(symbol: str, start: date) -> list[list[str]]:
    if getattr(context, "default_socket", None) is None:
        _check(baostock.login())
    fields = ",".join(("date", *_COLUMNS))
    found = baostock.query_history_k_data_plus(symbol, fields, start.isoformat(), adjustflag=_RAW)
    _check(found)
    rows = []
    while found.next():
        rows.append(found.get_row_data())
    _check(found)
    if len(found.data) == contants.BAOSTOCK_PER_PAGE_COUNT:
        raise UnansweredError("baostock did not give the last page")  # of which it makes no error
    return rows


def _check(found: baostock.data.resultset.ResultData) -> None:
    if found.error_code != contants.BSERR_SUCCESS:
        kind = UnansweredError if found.error_code.startswith(_MAY_PASS) else SourceError
        raise kind(f"baostock: {found.error_msg} ({found.error_code})")


class _Connection(socket):
    """A connection whose end is an error, as baostock would read on forever from one that its server has closed."""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        read = super().recv(size, flags)
        if not read:
            raise ConnectionError("the connection was closed")
        return read


def _connect(_: socketutil.SocketUtil, __: str) -> None:
    connection = _Connection(AF_INET, SOCK_STREAM)
    connection.settimeout(_SECONDS)
    try:
        connection.connect((contants.BAOSTOCK_SERVER_IP, contants.BAOSTOCK_SERVER_PORT))
    except OSError:
        connection.close()
        raise
    context.default_socket = connection


def _hang_up() -> None:
    connection, context.default_socket = getattr(context, "default_socket", None), None
    if connection is not None:
        connection.close()
