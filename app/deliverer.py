"""The deliverer: posts what the outbox owes to webhooks, signed, again and again until it is taken or given up."""

import asyncio
import hmac
import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from anyio.from_thread import start_blocking_portal

from app.egress import Egress, EgressError
from storage.outbox import Claim, Outbox

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast things go, in seconds, and how often they are tried.

    Attributes:
        poll: between looks at an outbox that had nothing.
        answer: that a receiver has, from the look-up of its name to the status of its answer.
        lease: after which the delivery of a process that died is another's; longer than ``answer``.
        first_retry: from the first failure to the second attempt; it doubles from then on.
        longest_retry: what it grows to.
        attempts: after which a delivery is given up; here after 19 to 25 hours.
        at_once: webhooks that are served at a time.
    """

    poll: float = 1
    answer: float = 10
    lease: float = 60
    first_retry: float = 10
    longest_retry: float = 7200
    attempts: int = 21
    at_once: int = 16

    def retry(self, attempt: int) -> float | None:
        """Seconds from an attempt's failure to the next, a tenth more or less by chance; ``None`` after the last."""
        if attempt >= self.attempts:
            return None
        wait = min(self.first_retry * 2.0 ** (attempt - 1), self.longest_retry)
        return wait * random.uniform(0.9, 1.1)  # noqa: S311 - it only spreads the load


class Deliverer:
    """One of those who serve an outbox; there may be any number, in any number of processes."""

    def __init__(self, outbox: Outbox, egress: Egress, pace: Pace | None = None) -> None:
        self._outbox, self._egress, self._pace = outbox, egress, pace or Pace()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Deliver in a thread; what is under way at the end is sent again when its lease has run out."""
        with start_blocking_portal() as portal:
            working = portal.start_task_soon(self._work)
            try:
                yield
            finally:
                working.cancel()

    async def _work(self) -> None:
        sending: set[asyncio.Task[None]] = set()
        lease = timedelta(seconds=self._pace.lease)
        async with asyncio.TaskGroup() as group:
            while True:
                free = self._pace.at_once - len(sending)
                claims = await self._claim(free, lease) if free else []
                sending |= {group.create_task(self._deliver(claim)) for claim in claims}
                if sending:
                    _, sending = await asyncio.wait(
                        sending, timeout=self._pace.poll, return_when=asyncio.FIRST_COMPLETED
                    )
                else:
                    await asyncio.sleep(self._pace.poll)

    async def _claim(self, most: int, lease: timedelta) -> list[Claim]:
        try:
            return await asyncio.to_thread(self._outbox.claim, most, lease)
        except Exception:
            logger.exception("the outbox cannot be read")
            return []

    async def _deliver(self, claim: Claim) -> None:
        try:
            error, gone = await self._send(claim)
            if error is None:
                await asyncio.to_thread(self._outbox.succeed, claim)
            else:
                wait = self._pace.retry(claim.attempt)
                next_at = None if wait is None else datetime.now(UTC) + timedelta(seconds=wait)
                await asyncio.to_thread(self._outbox.fail, claim, error, next_at, gone=gone)
        except Exception:
            logger.exception("delivery %s could not be settled", claim.id)

    async def _send(self, claim: Claim) -> tuple[str | None, bool]:
        """What went wrong, ``None`` where the event was taken, and whether it is no use trying again."""
        body = claim.event.model_dump_json().encode()
        headers = {
            "Content-Type": "application/json",
            "X-AlphaAgent-Event": claim.event.type,
            "X-AlphaAgent-Delivery": claim.id,
            "X-AlphaAgent-Signature": signature(claim.secret, int(time.time()), body),
        }
        try:
            status = await self._egress.post(claim.url, body, headers, self._pace.answer)
        except EgressError as error:
            return str(error), False
        return (None if 200 <= status < 300 else f"answered {status}"), status == HTTPStatus.GONE  # noqa: PLR2004


def signature(secret: str, timestamp: int, body: bytes) -> str:
    """The header by which a receiver knows who sent a body, and when, in seconds since 1970."""
    digest = hmac.digest(secret.encode(), b"%d.%b" % (timestamp, body), "sha256")
    return f"t={timestamp},v1={digest.hex()}"
