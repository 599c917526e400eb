"""Posts to addresses that users name, which must not become a way into the network that the server stands in.

Only https to a host by name is taken. The name is resolved here, every address it has must be public, and the
connection goes to one of just these, while the certificate is held to the name: nothing is gained by a name that
resolves to something else a moment later. No proxy, redirect or cookie is involved, and of the answer the status alone
is read.
"""

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

import httpx2

from factors.errors import AlphaAgentError

PORTS: Final = (443, 8443)
CONNECT_SECONDS: Final = 3.0  # for each address of a host

# Two labels at least, the last of which begins with a letter: no address in any spelling, and no name without a domain.
_HOST: Final = re.compile(r"(?=.{4,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])")

# What Python takes for global although it is not for hosts, or leads to IPv4 addresses that are written within it.
_GLOBAL_UNICAST: Final = ip_network("2000::/3")
_SPECIAL: Final = tuple(
    ip_network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20")
)

SocketAddress = tuple[str, int]


class EgressError(AlphaAgentError):
    """A URL that may not be posted to, or a post that was not answered.

    What a name resolves to inside is not told: whoever asks may not know it.
    """


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of the public internet's hosts, and none that stands for another."""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    special = any(address in network for network in _SPECIAL)
    return address.is_global and not (address.is_multicast or address.is_reserved or special)


def look_up(host: str, port: int) -> Sequence[SocketAddress]:
    """The addresses of a host, best first, as the system resolves it.

    Raises:
        OSError: it has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(str(address[0]), int(address[1])) for *_, address in found]


def check_url(url: str) -> httpx2.URL:
    """The URL, in its normal form, that may be posted to if its host's addresses may.

    Raises:
        EgressError: it may not.
    """
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        raise EgressError("expected a URL like https://example.com/path") from None
    if parsed.scheme != "https":
        raise EgressError("a webhook's URL begins with https://")
    if parsed.userinfo:
        raise EgressError("a webhook's URL holds no user name and no password")
    if parsed.fragment:
        raise EgressError("a webhook's URL has no fragment (#)")
    if not _HOST.fullmatch(parsed.raw_host.decode()):
        raise EgressError("a webhook's host is a full domain name, such as hooks.example.com, and no address")
    if parsed.port not in {None, *PORTS}:
        raise EgressError(f"a webhook's port is one of {', '.join(map(str, PORTS))}")
    return parsed


@cache
def _public_authorities() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


@dataclass(frozen=True, slots=True)
class Egress:
    """The way out. By default to the public internet; tests have a network and an authority of their own.

    Attributes:
        look_up: the addresses of a host and port, ``OSError`` where it has none.
        is_allowed: which of them may be connected to.
        certificates: who vouches for hosts.
    """

    look_up: Callable[[str, int], Sequence[SocketAddress]] = look_up
    is_allowed: Callable[[IPv4Address | IPv6Address], bool] = is_public
    certificates: ssl.SSLContext = field(default_factory=_public_authorities)

    async def check(self, url: str, seconds: float) -> httpx2.URL:
        """The URL in its normal form, where it may be posted to as things stand.

        Raises:
            EgressError: it may not, or that was not known in time.
        """
        checked = check_url(url)
        async with _deadline(seconds):
            await self._addresses(checked)
        return checked

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> int:
        """Post a body; the status of the answer.

        Raises:
            EgressError: the URL may not be posted to, or there was no answer in time.
        """
        checked = check_url(url)
        failure = ""
        async with _deadline(seconds) as left:
            for address in await self._addresses(checked):
                # Connecting and greeting must each end by themselves: a greeting that is cut off stays open.
                connect = min(CONNECT_SECONDS, left() / 3)
                try:
                    return await self._post(checked, address, body, headers, connect)
                except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                    failure = _line(error)  # nothing was sent yet: another address may do
                except httpx2.TransportError as error:
                    raise EgressError(f"no answer: {_line(error)}") from error
        raise EgressError(f"no connection: {failure}")

    async def _addresses(self, url: httpx2.URL) -> Sequence[SocketAddress]:
        host, port = url.raw_host.decode(), url.port or PORTS[0]
        try:
            found = await _in_thread(lambda: self.look_up(host, port))
        except (OSError, UnicodeError):
            raise EgressError(f"{host} does not resolve") from None
        if not found or not all(self.is_allowed(ip_address(address)) for address, _ in found):
            raise EgressError(f"{host} has an address that is not public")
        return found

    async def _post(
        self, url: httpx2.URL, address: SocketAddress, body: bytes, headers: Mapping[str, str], connect: float
    ) -> int:
        request = httpx2.Request(
            "POST",
            url.copy_with(host=address[0], port=address[1]),
            headers={"Host": url.netloc.decode(), "User-Agent": "AlphaAgent", **headers},
            content=body,
            extensions={
                "sni_hostname": url.raw_host.decode(),
                "timeout": httpx2.Timeout(None, connect=connect).as_dict(),
            },
        )
        # A transport, unlike a client, knows no proxies, redirects and cookies.
        async with httpx2.AsyncHTTPTransport(verify=self.certificates) as transport:
            response = await transport.handle_async_request(request)
            await response.aclose()
            return response.status_code


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[Callable[[], float]]:
    """Limits all that is done within together, however slowly it is kept going; gives the seconds left."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    try:
        async with asyncio.timeout_at(end):
            yield lambda: end - loop.time()
    except TimeoutError:
        raise EgressError(f"no answer within {seconds:g} seconds") from None


def _in_thread(call: Callable[[], Sequence[SocketAddress]]) -> asyncio.Future[Sequence[SocketAddress]]:
    """A look-up, which cannot be stopped: in a thread of its own it holds up neither others nor the process's end."""
    future: Future[Sequence[SocketAddress]] = Future()

    def work() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
                future.set_exception(error)

    threading.Thread(target=work, name="look-up", daemon=True).start()
    return asyncio.wrap_future(future)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
