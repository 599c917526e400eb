"""Event streams: one follower reads the log for everybody.

1. While anybody listens, the follower looks some thirty times a second for new events of all open runs, in one query,
   whichever process wrote them.
2. It makes each event a frame of bytes once, and adds it to the topics that tell of its run. A topic keeps its last
   frames.
3. A subscriber first reads from the log what lies between its own position and the topic's, and then takes the topic's
   frames from there on, as many at a time as there are. All that it keeps is its place among them.
4. One that is too slow to find its place among the frames that are kept is dropped: its stream ends, and its client
   resumes from the log behind the last event that it got. It costs neither the follower nor the others anything.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Final, ParamSpec, Self, TypeVar

from app.topics import OneRun, RunsOf, Scope, Topic, chunks, frame, progress_frame
from storage.feed import ENDS, NO_RUN, Entry, Position
from storage.records import Records
from storage.runs import PrunedError

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.03
PROGRESS_SECONDS: Final = 0.2
HEARTBEAT_SECONDS: Final = 15.0
RECOVERY_SECONDS: Final = 1.0
CLOSING_SECONDS: Final = 2.0
PAGE: Final = 128  # events of one run that are read at once, and frames after which subscribers get their turn

HEARTBEAT: Final = b": still here\n\n"
RETRY: Final = b"retry: 1000\n"  # milliseconds after which a client comes back

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class Streams:
    """The streams of one process; to be used in its event loop, and open from ``async with`` to :meth:`close`.

    Attributes:
        closed: whether they have been closed.
    """

    def __init__(self, records: Records) -> None:
        self._feed, self._board = records.feed, records.progress
        self._topics: dict[Scope, Topic] = {}
        self._newest: str = NO_RUN
        self._seqs: dict[str, int] = {}
        self._owners: dict[str, str] = {}
        self._progress: dict[str, bytes] = {}
        self._wanted = asyncio.Event()
        self._waiting: list[asyncio.Future[bool]] = []
        self.closed = False
        self._reader = ThreadPoolExecutor(1, "follower")

    async def __aenter__(self) -> Self:
        self._follower = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all streams, once their subscribers have got what is in the log now; once is enough."""
        if self.closed:
            return
        self.closed = True
        self._follower.cancel()
        await asyncio.wait([self._follower])
        if self._topics:
            try:
                async with asyncio.timeout(CLOSING_SECONDS):
                    await self._look()
            except Exception:
                logger.exception("the log could not be read once more")
        self._end()
        self._reader.shutdown(wait=False)

    @property
    def subscribers(self) -> int:
        """How many streams there are."""
        return sum(topic.subscribers for topic in self._topics.values())

    def of_run(self, run_id: str, after: int) -> AsyncGenerator[bytes]:
        """The frames of a run's events with numbers above ``after``, until its last; an event's id is its number.

        ``after`` must not be beyond the run's last event.
        """
        return self._stream(OneRun(run_id), Position(NO_RUN, {run_id: after}))

    def of_runs(self, user: str | None, position: Position | None) -> AsyncGenerator[bytes]:
        """The frames of the events of all runs of a user, each run's in order, from a position on and without end.

        Without a position it begins with the first events of the runs that are open now. An event's id is the text of
        the position behind it: whoever resumes there gets every other event of these runs, and of those that were
        created since, once.
        """
        return self._stream(RunsOf(user), position)

    async def _stream(self, scope: Scope, position: Position | None) -> AsyncGenerator[bytes]:
        yield RETRY
        with self._subscribed(scope) as topic:
            place = -1
            while not topic.keeps(place):
                if not await self._up_to_date():
                    return
                place, upto = topic.told, self._position(scope)
                since = position or Position(upto.newest, dict.fromkeys(upto.seqs, 0))
                try:
                    async with aclosing(self._between(scope, since, upto)) as replayed:
                        async for chunk in replayed:
                            yield chunk
                except PrunedError:
                    return  # who comes back is told so
                position = upto
            async with aclosing(self._live(topic, place)) as live:
                async for chunk in live:
                    yield chunk

    async def _between(self, scope: Scope, since: Position, upto: Position) -> AsyncGenerator[bytes]:
        """The frames of the events between two positions, run by run, read from the log a page at a time.

        Raises:
            PrunedError: some of those of the one run that is asked for were removed meanwhile.
        """
        newest, seqs = since.newest, dict(since.seqs)
        for run_id in await asyncio.to_thread(scope.runs, self._feed, since, upto):
            newest = max(newest, run_id)
            last, seq, more = upto.seqs.get(run_id), seqs.get(run_id, 0), True
            while more and (last is None or seq < last):
                page = await asyncio.to_thread(self._feed.events, run_id, seq, PAGE)
                if isinstance(scope, OneRun) and page and page[-1].seq != seq + len(page):
                    raise PrunedError(f"events of run {run_id} were removed")
                more, frames = len(page) == PAGE, []
                for entry in page:
                    if last is None or entry.seq <= last:
                        seqs[run_id] = seq = entry.seq
                        if entry.type in ENDS:
                            del seqs[run_id]
                        frames.append(frame(entry, scope.id_of(entry, partial(Position, newest, seqs))))
                for chunk in chunks(frames):
                    yield chunk

    async def _live(self, topic: Topic, place: int) -> AsyncGenerator[bytes]:
        """The frames behind the first ``place`` of a topic, as long as it keeps them."""
        seen, woken = 0, False
        while topic.keeps(place):
            news, over = topic.news, topic.ended or self._is_over(topic.scope)
            place, chunk = topic.chunk(place)
            chunk += topic.progress_since(seen)
            seen = topic.progressed
            if chunk:
                yield chunk
            elif over:
                return
            elif woken:
                yield HEARTBEAT
            woken = not chunk and await news.wait()

    @contextmanager
    def _subscribed(self, scope: Scope) -> Iterator[Topic]:
        topic = self._topics.get(scope)
        if topic is None:
            topic = self._topics[scope] = Topic(scope)
            for run_id, told in self._progress.items():
                if scope.tells(run_id, self._owners[run_id]):
                    topic.tell_progress(run_id, progress_frame(run_id, told))
        topic.subscribers += 1
        self._wanted.set()
        try:
            yield topic
        finally:
            topic.subscribers -= 1
            if not topic.subscribers and self._topics.get(scope) is topic:
                del self._topics[scope]

    async def _up_to_date(self) -> bool:
        """Wait until the follower has read all that is in the log by now; False when it will not."""
        if self.closed:
            return False
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(told)
        return await told

    def _position(self, scope: Scope) -> Position:
        told = {run_id: seq for run_id, seq in self._seqs.items() if scope.tells(run_id, self._owners[run_id])}
        return Position(self._newest, told)

    def _is_over(self, scope: Scope) -> bool:
        return isinstance(scope, OneRun) and scope.run_id not in self._seqs

    async def _follow(self) -> None:
        while await self._wanted.wait():
            try:
                await self._follow_while_wanted()
            except Exception:
                logger.exception("the log cannot be read, so that all streams end")
                self._end()
                await asyncio.sleep(RECOVERY_SECONDS)

    async def _follow_while_wanted(self) -> None:
        self._newest, runs = await self._read(self._feed.now)
        self._seqs = {run.id: run.seq for run in runs}
        self._owners = {run.id: run.user for run in runs}
        self._progress.clear()
        progress_due = 0.0
        while self._topics:
            if monotonic() >= progress_due:
                progress_due = monotonic() + PROGRESS_SECONDS
                self._tell_progress(await self._read(self._board.running))
            if await self._look():
                await asyncio.sleep(LOOK_SECONDS)
            for topic in self._topics.values():
                if monotonic() - topic.woken_at >= HEARTBEAT_SECONDS:
                    topic.wake()
        self._wanted.clear()

    async def _look(self) -> bool:
        """Publish what is new; whether that is all of it."""
        waiting, self._waiting = self._waiting, []
        new, entries = await self._read(self._feed.since, self._newest, dict(self._seqs), PAGE)
        for run in new:
            self._newest, self._seqs[run.id], self._owners[run.id] = run.id, run.seq, run.user
        for start in range(0, len(entries), PAGE):
            self._publish(entries[start : start + PAGE])
            await asyncio.sleep(0)
        complete = len(entries) < PAGE
        if complete:
            _answer(waiting, up_to_date=True)
        else:
            self._waiting += waiting
        return complete

    def _publish(self, entries: list[Entry]) -> None:
        told = set()
        for entry in entries:
            run_id = entry.run_id
            topics = [topic for topic in self._topics.values() if topic.scope.tells(run_id, self._owners[run_id])]
            self._seqs[run_id] = entry.seq
            if entry.type in ENDS:
                del self._seqs[run_id], self._owners[run_id]
                self._progress.pop(run_id, None)
                for topic in topics:
                    topic.progress.pop(run_id, None)
            for topic in topics:
                topic.tell(frame(entry, topic.scope.id_of(entry, partial(self._position, topic.scope))))
                told.add(topic.scope)
        for scope in told:
            self._topics[scope].wake()

    def _tell_progress(self, progress: dict[str, bytes]) -> None:
        for run_id, text in progress.items():
            if run_id in self._seqs and self._progress.get(run_id) != text:
                self._progress[run_id] = text
                for topic in self._topics.values():
                    if topic.scope.tells(run_id, self._owners[run_id]):
                        topic.tell_progress(run_id, progress_frame(run_id, text))
                        topic.wake()

    def _end(self) -> None:
        _answer(self._waiting, up_to_date=False)
        self._waiting = []
        for topic in self._topics.values():
            topic.end()
        self._topics = {}

    async def _read(self, read: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        """Read in a thread of the follower's own, which no subscriber can keep busy."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, partial(read, *args, **kwargs))


def _answer(waiting: list["asyncio.Future[bool]"], *, up_to_date: bool) -> None:
    for one in waiting:
        if not one.done():
            one.set_result(up_to_date)
