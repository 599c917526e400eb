"""HTTP for model calls that ends: an answer has a largest size, a total time, and a longest silence."""

import time
from collections.abc import Iterator
from typing import cast

import httpx2

LARGEST_ANSWER = 2_000_000  # bytes; the longest answers of language models are a tenth of that
LONGEST_SILENCE = 30.0  # seconds without a byte, once an answer has begun


class AnswerTooLargeError(httpx2.TransportError):
    """More bytes than an answer may have."""


class BoundedTransport(httpx2.BaseTransport):
    """A transport whose answers end.

    Args:
        seconds: until an answer must be whole; its first byte may take as long.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # A call takes seconds: a connection of its own costs little, and none is left over that a server has closed.
        self._inner = httpx2.HTTPTransport(limits=httpx2.Limits(max_keepalive_connections=0))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request.

        Raises:
            httpx2.TimeoutException: the answer took too long.
            AnswerTooLargeError: it is too large.
        """
        deadline = time.monotonic() + self._seconds
        patience = {"connect": self._seconds, "read": self._seconds, "write": self._seconds, "pool": self._seconds}
        request.extensions = {**request.extensions, "timeout": patience}
        response = self._inner.handle_request(request)
        patience["read"] = min(self._seconds, LONGEST_SILENCE)
        response.stream = _Bounded(cast(httpx2.SyncByteStream, response.stream), deadline)
        return response

    def close(self) -> None:
        """Close all connections."""
        self._inner.close()


class _Bounded(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, deadline: float) -> None:
        self._inner, self._deadline = inner, deadline

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._inner:
            size += len(part)
            if size > LARGEST_ANSWER:
                raise AnswerTooLargeError(f"an answer of more than {LARGEST_ANSWER} bytes")
            if time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout("the answer took too long")
            yield part

    def close(self) -> None:
        self._inner.close()
