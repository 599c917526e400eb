"""HTTP for model calls that ends: an answer has a largest size, a total time, and a longest silence."""

import ssl
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import cast

import httpx2

LARGEST_ANSWER = 2_000_000  # bytes; the longest answers of language models are a tenth of that
LONGEST_SILENCE = 30.0  # seconds without a byte, once an answer has begun


class AnswerTooLargeError(httpx2.TransportError):
    """More bytes than an answer may have."""


class BoundedTransport(httpx2.BaseTransport):
    """A transport whose answers end: the ``read`` timeout of a request is the time until its answer must be whole."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request.

        Raises:
            httpx2.TimeoutException: the answer took too long.
            AnswerTooLargeError: it is too large.
            httpx2.DecodingError: it is packed, so that its size is not known.
        """
        patience = dict(request.extensions["timeout"])
        request.extensions = {**request.extensions, "timeout": patience}
        call = _Call(patience["read"])
        try:
            response = call.inner.handle_request(request)
        except httpx2.TransportError as error:
            call.close()
            call.check_time(error)
            raise
        if response.headers.get("content-encoding", "identity") != "identity":
            call.close()
            raise httpx2.DecodingError("the answer is packed, although it was asked for as it is")
        patience["read"] = min(patience["read"], LONGEST_SILENCE)
        response.stream = _Bounded(cast(httpx2.SyncByteStream, response.stream), call)
        return response


class _Call:
    """A connection of its own, which is cut when its time is up.

    What cuts it is the next read: a server that falls silent just before can take one read's patience more.
    """

    def __init__(self, seconds: float) -> None:
        self.inner = httpx2.HTTPTransport(verify=_certificates())
        self._deadline = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self.inner.close)
        self._timer.daemon = True
        self._timer.start()

    def close(self) -> None:
        self._timer.cancel()
        self.inner.close()

    def check_time(self, error: httpx2.TransportError) -> None:
        """Raise a timeout where the connection was cut for it."""
        if time.monotonic() >= self._deadline:
            raise httpx2.ReadTimeout("the answer took too long") from error


class _Bounded(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, call: _Call) -> None:
        self._inner, self._call = inner, call

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        try:
            for part in self._inner:
                size += len(part)
                if size > LARGEST_ANSWER:
                    raise AnswerTooLargeError(f"an answer of more than {LARGEST_ANSWER} bytes")
                yield part
        except httpx2.NetworkError as error:
            self._call.check_time(error)
            raise

    def close(self) -> None:
        self._inner.close()
        self._call.close()


@cache
def _certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context()
