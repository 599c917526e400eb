"""Vendors of market data on loopback, answering in the shapes of the real ones from shares with a planted truth.

The libraries are the real ones. Their requests go to the loopback server with the host that they were meant for as the
first part of the path; baostock's, which are none of HTTP, to a server of its own.
"""

import contextlib
import json
import random
import struct
import threading
import zlib
from collections import deque
from datetime import UTC, date, datetime, time, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import prod
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

NEW_YORK, SHANGHAI = ZoneInfo("America/New_York"), ZoneInfo("Asia/Shanghai")


class Share:
    """A share on the days up to now, with what it was traded at, in cents.

    Args:
        zone: of its exchange; its last day, today there, is not over yet.
        splits: new shares for an old one, by the place of the ex-date among its days.
        dividends: for a share, by the place of the ex-date.
    """

    def __init__(self, zone, days=60, seed=1, splits=None, dividends=None):
        chance, today = random.Random(seed), datetime.now(zone).date()
        self.days = [today - timedelta(days=back) for back in reversed(range(days))]
        self.splits, self.dividends = splits or {}, dividends or {}
        self.rows, close = [], 109.33
        for place in range(days):
            before = close / self.splits.get(place, 1) - self.dividends.get(place, 0)
            opened, close = (round(before * chance.uniform(0.97, 1.03), 2) for _ in range(2))
            high, low = round(max(opened, close) + 0.11, 2), round(min(opened, close) - 0.13, 2)
            self.rows.append([opened, high, low, close, chance.randrange(1_000, 90_000) * 1000])
        self.shown = days - 1  # how many bars there are at the vendor's

    def factor(self, place):
        """Of the adjustment, which is 1 on the first day."""
        return prod(
            (split := self.splits.get(at, 1)) * (c := self.rows[at - 1][3] / split) / (c - self.dividends.get(at, 0))
            for at in range(1, place + 1)
        )

    def truth(self, until):
        """Rows of date, prices, volume and factor of the first days."""
        return [(self.days[at].isoformat(), *self.rows[at], self.factor(at)) for at in range(until)]


def single(number):
    return struct.unpack("f", struct.pack("f", number))[0]


def stamp(day, at, zone):
    return int(datetime.combine(day, at, zone).timestamp())


class Vendors:
    """The vendors.

    Attributes:
        shares: by symbol.
        asked: the requests for bars, as (host, symbol, first day).
        faults: what happens to the next of them instead of an answer: a status, with headers perhaps, or a word.
        down: symbols for which that is always a status 500.
        stumbles: statuses instead of the next answers that are not of bars.
    """

    def __init__(self):
        self.shares, self.asked, self.faults, self.down = {}, [], deque(), set()
        self.stumbles = []
        self.closing = threading.Event()

    def fault(self, symbol):
        if symbol in self.down:
            return 500
        return self.faults.popleft() if self.faults else None

    # Yahoo

    def yahoo(self, symbol, first):
        share = self.shares[symbol]
        there = range(min(share.shown, len(share.days)))
        later = [prod(k for at, k in share.splits.items() if place < at < share.shown) for place in there]
        kept = [at for at in there if share.days[at] >= first]
        quote = {
            name: [single(share.rows[at][column] / later[at]) for at in kept]
            for column, name in enumerate(("open", "high", "low", "close"))
        }
        quote["volume"] = [round(share.rows[at][4] * later[at]) for at in kept]
        cut = [prod(1 - self._yield(share, at) for at in share.dividends if place < at < share.shown) for place in kept]
        adjusted = [single(close * part) for close, part in zip(quote["close"], cut, strict=True)]
        stamps = [stamp(share.days[at], time(9, 30), NEW_YORK) for at in kept]
        meta = {
            "currency": "USD",
            "symbol": symbol,
            "instrumentType": "EQUITY",
            "exchangeTimezoneName": "America/New_York",
            "timezone": "EST",
            "gmtoffset": -18000,
            "priceHint": 2,
            "dataGranularity": "1d",
            "validRanges": ["1d", "max"],
        }
        ex = {at: str(stamp(share.days[at], time(9, 30), NEW_YORK)) for at in kept}
        events = {
            "dividends": {
                ex[at]: {"amount": single(paid / later[at]), "date": int(ex[at])}
                for at, paid in share.dividends.items()
                if at in ex
            },
            "splits": {
                ex[at]: {"date": int(ex[at]), "numerator": max(k, 1), "denominator": max(1 / k, 1)}
                for at, k in share.splits.items()
                if at in ex
            },
        }
        result = {
            "meta": meta,
            "timestamp": stamps,
            "events": {name: told for name, told in events.items() if told},
            "indicators": {"quote": [quote], "adjclose": [{"adjclose": adjusted}]},
        }
        return {"chart": {"result": [result], "error": None}}

    @staticmethod
    def _yield(share, at):
        return share.dividends[at] / (share.rows[at - 1][3] / share.splits.get(at, 1))

    # Eastmoney and Sina

    def eastmoney(self, symbol, first):
        if symbol not in self.shares:
            return {"rc": 100, "data": None}
        share = self.shares[symbol]
        lines = [
            f"{share.days[at]},{o},{c},{h},{low},{v // 100},{v * c:.2f},1.0,0.1,0.01,0.2"
            for at, (o, h, low, c, v) in enumerate(share.rows[: share.shown])
            if share.days[at] >= first
        ]
        return {"rc": 0, "data": {"code": symbol, "klines": lines}}

    def sina(self, symbol):
        share = self.shares[symbol]
        told = [{"d": "1900-01-01", "f": "1.0000000000000000"}]
        for at in sorted({*share.splits, *share.dividends}):
            if at < share.shown:
                told.insert(0, {"d": str(share.days[at]), "f": repr(share.factor(at))})
        return f"var sh{symbol}hfq={json.dumps({'total': len(told), 'data': told})}\n/* told by loopback */"

    # Binance

    def klines(self, symbol, first):
        share = self.shares[symbol]
        kept = [at for at in range(share.shown) if first <= share.days[at] < first + timedelta(days=100)]
        day = timedelta(days=1)
        return [
            [
                stamp(share.days[at], time(0), UTC) * 1000,
                *(f"{cell:.8f}" for cell in share.rows[at]),
                stamp(share.days[at] + day, time(0), UTC) * 1000 - 1,
                "1.0", 100, "0.5", "0.5", "0",
            ]
            for at in kept
        ]  # fmt: skip

    def pairs(self):
        told = {
            "status": "TRADING", "quoteAsset": "USDT", "isSpotTradingAllowed": True, "baseAssetPrecision": 8,
            "quotePrecision": 8, "orderTypes": ["LIMIT"], "permissions": ["SPOT"], "filters": [],
        }  # fmt: skip
        names = [name for name in self.shares if name.endswith("USDT")]
        return {"symbols": [{"symbol": name, "baseAsset": name.removesuffix("USDT"), **told} for name in names]}

    # HTTP

    def answer(self, host, path, query):
        """Status, headers and text."""
        folder, _, name = path.rpartition("/")
        if folder == "/v8/finance/chart":
            return self.chart(host, name, query)
        if path == "/api/qt/stock/kline/get":
            first = date.fromisoformat(query["beg"])
            return self.bars(host, query["secid"].partition(".")[2], first, self.eastmoney)
        if path == "/api/v3/klines":
            first = datetime.fromtimestamp(int(query["startTime"]) / 1000, UTC).date()
            return self.bars(host, query["symbol"], first, self.klines)
        if path.endswith("/hfq.js") and self.stumbles:
            return self.stumbles.pop(), {"Retry-After": "7"}, "<html></html>"
        others = {
            "/api/v3/exchangeInfo": lambda: json.dumps(self.pairs()),
            "/fapi/v1/exchangeInfo": lambda: '{"symbols": []}',
            "/dapi/v1/exchangeInfo": lambda: '{"symbols": []}',
            "/v1/test/getcrumb": lambda: "crumb",
            f"{folder}/hfq.js": lambda: self.sina(folder.rpartition("/")[2][2:]),
        }
        return (200, {}, others[path]()) if path in others else (404, {}, "{}")

    def chart(self, host, symbol, query):
        if symbol not in self.shares:
            error = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
            return 404, {}, json.dumps({"chart": {"result": None, "error": error}})
        if "range" in query:  # only to learn its zone
            if self.stumbles:
                return self.stumbles.pop(), {}, "<html></html>"
            return 200, {}, json.dumps(self.yahoo(symbol, date.min))
        return self.bars(host, symbol, datetime.fromtimestamp(int(query["period1"]), NEW_YORK).date(), self.yahoo)

    def bars(self, host, symbol, first, told):
        self.asked.append((host, symbol, first))
        fault = self.fault(symbol)
        if fault == "stall":
            self.closing.wait(20)
            return 503, {}, ""
        if fault is not None:
            status, headers = fault if isinstance(fault, tuple) else (fault, {})
            return status, headers, "<html>Too Many Requests</html>"
        return 200, {}, json.dumps(told(symbol, first))

    # baostock

    def baostock(self, body):
        """The message type and the parts of an answer to the parts of a request."""
        method, user = body[:2]
        if method != "query_history_k_data_plus":
            return "01", ["0", "success", method, user, "00"]
        page, size, code, fields, start, *more = body[2:]
        self.asked.append(("baostock", code, date.fromisoformat(start)))
        fault = self.fault(code)
        if fault is not None:
            return fault, []
        share, rows = self.shares.get(code), []
        for at in range(share.shown) if share else ():
            if share.days[at].isoformat() >= start:
                opened, high, low, close, volume = share.rows[at]
                split = share.splits.get(at, 1)
                before = share.rows[at - 1][3] / split - share.dividends.get(at, 0) if at else opened
                cells = {
                    "date": str(share.days[at]), "code": code, "open": f"{opened:.4f}", "high": f"{high:.4f}",
                    "low": f"{low:.4f}", "close": f"{close:.4f}", "preclose": repr(before), "volume": str(volume),
                    "adjustflag": more[2].strip(), "tradestatus": "1", "isST": "0",
                }  # fmt: skip
                rows.append([cells.get(name, "") for name in fields.split(",")])
        first, last = (int(page) - 1) * int(size), int(page) * int(size)
        told = json.dumps({"record": rows[first:last]}) if rows[first:last] else ""
        return "96", ["0", "success", method, user, page, size, told, code, fields, start, *more, "\n"]


def http_server(vendors):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            url = urlsplit(self.path)
            _, host, path = url.path.split("/", 2)
            status, headers, text = vendors.answer(host, f"/{path}", dict(parse_qsl(url.query)))
            body = text.encode()
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_):
            """Into no log."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def baostock_server(vendors):
    class Handler(StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                head, rest = line[:21].decode(), line[21:].decode().rstrip("\n")
                kind, parts = vendors.baostock(rest.split("\1")[:-1])
                if kind == "stall":
                    vendors.closing.wait(20)
                if not parts:
                    return  # and the connection is closed
                body = "\1".join(parts).encode()
                body = zlib.compress(body) if kind == "96" else body
                answer = f"{head[:8]}{kind}\1{len(body):010}".encode() + body
                self.wfile.write(answer + b"\0011<![CDATA[]]>\n")

    return ThreadingTCPServer(("127.0.0.1", 0), Handler)


@contextlib.contextmanager
def serving():
    """Vendors, and the ports that they answer on."""
    vendors = Vendors()
    servers = [http_server(vendors), baostock_server(vendors)]
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield vendors, [server.server_address[1] for server in servers]
    finally:
        vendors.closing.set()
        for server in servers:
            server.shutdown()
            server.server_close()


def redirect(http_port, baostock_port, cache, patch=setattr):
    """Send what the libraries ask for to loopback, and keep Yahoo's cookies to ourselves."""
    import curl_cffi.requests  # noqa: PLC0415 - the libraries are an extra
    import requests  # noqa: PLC0415
    import yfinance  # noqa: PLC0415
    from baostock.common import contants, context  # noqa: PLC0415

    for session in (requests.Session, curl_cffi.requests.Session):

        def request(self, method, url, *arguments, _as_ever=session.request, **keywords):
            meant = urlsplit(url)
            there = f"http://127.0.0.1:{http_port}/{meant.netloc}{meant.path or '/'}"
            return _as_ever(self, method, f"{there}?{meant.query}" if meant.query else there, *arguments, **keywords)

        patch(session, "request", request)
    yfinance.set_tz_cache_location(str(cache))
    patch(contants, "BAOSTOCK_SERVER_IP", "127.0.0.1")
    patch(contants, "BAOSTOCK_SERVER_PORT", baostock_port)
    context.default_socket = None  # which would be one to the vendors of an earlier test
