"""HTTP for model calls that ends: an answer has a largest size, a total time, and a longest silence.

Who asks may also stop it, at any time from when the connection stands.
"""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any, Final, cast

import httpx2

LARGEST_ANSWER = 2_000_000  # bytes; the longest answers of language models are a tenth of that
LONGEST_SILENCE = 30.0  # seconds without a byte, once an answer has begun
POLL_SECONDS: Final = 0.1  #: between looks at whether to go on waiting


class AnswerTooLargeError(httpx2.TransportError):
    """More bytes than an answer may have."""


class BoundedTransport(httpx2.BaseTransport):
    """A transport whose answers end: the ``read`` timeout of a request is the time until its answer must be whole.

    Args:
        stopped: whether no answer is wanted any more; asked all the while, in another thread.
    """

    def __init__(self, stopped: Callable[[], bool] = bool) -> None:
        self._stopped = stopped

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request.

        Raises:
            httpx2.TimeoutException: the answer took too long.
            AnswerTooLargeError: it is too large.
            httpx2.DecodingError: it is packed, so that its size is not known.
        """
        patience = dict(request.extensions["timeout"])
        call = _Call(patience["read"], self._stopped)
        request.extensions = {**request.extensions, "timeout": patience, "trace": call.note}
        try:
            response = call.inner.handle_request(request)
        except BaseException as error:
            call.close()
            if isinstance(error, httpx2.TransportError):
                call.check(error)
            raise
        if response.headers.get("content-encoding", "identity") != "identity":
            call.close()
            raise httpx2.DecodingError("the answer is packed, although it was asked for as it is")
        patience["read"] = min(patience["read"], LONGEST_SILENCE)
        response.stream = _Bounded(cast(httpx2.SyncByteStream, response.stream), call)
        return response


class _Call:
    """A connection of its own, which is cut when its time is up or nobody waits any more."""

    def __init__(self, seconds: float, stopped: Callable[[], bool]) -> None:
        self.inner = httpx2.HTTPTransport(verify=_certificates())
        self._deadline, self._stopped = time.monotonic() + seconds, stopped
        self._socket: socket.socket | None = None
        self._over, self._cut = threading.Event(), False
        threading.Thread(target=self._watch, name="model call", daemon=True).start()

    def note(self, _: str, info: dict[str, Any]) -> None:
        """Take the connection's socket down, first the bare one and then that which encrypts."""
        stream: Any = info.get("return_value")
        if hasattr(stream, "get_extra_info"):
            self._socket = stream.get_extra_info("socket")

    def close(self) -> None:
        self._over.set()
        self.inner.close()

    def check(self, error: httpx2.TransportError | None = None) -> None:
        """Raise a timeout where the connection was cut: what was read so far looks like an answer that has ended."""
        if self._cut:
            raise httpx2.ReadTimeout("the answer took too long") from error

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            if self._socket and (time.monotonic() >= self._deadline or self._stopped()):
                self._cut = True
                with suppress(OSError):  # in between two sockets there is none
                    # Unlike to close it, this ends a read that waits. What encrypts it stays, or the read went on bare.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


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
        except httpx2.TransportError as error:
            self._call.check(error)
            raise
        self._call.check()

    def close(self) -> None:
        self._inner.close()
        self._call.close()


@cache
def _certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context()
