"""Topics: what the subscribers of the same events share, so that each event is serialised once for all of them."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from storage.feed import Entry, Feed, Position

BACKLOG: Final = 1024  # frames that a topic keeps
CHUNK_BYTES: Final = 32 * 1024  # after so many bytes no more frames are put into one chunk


@dataclass(frozen=True, slots=True)
class OneRun:
    """The events of one run; an event's id is its number."""

    run_id: str

    def tells(self, run_id: str, owner: str) -> bool:  # noqa: ARG002 - whoever asks for a run by its id may see it
        """Whether a run's events are among these."""
        return run_id == self.run_id

    def runs(self, feed: Feed, since: Position, upto: Position) -> list[str]:  # noqa: ARG002
        """The runs that may have events between two positions, in order of their ids."""
        return [self.run_id]

    def id_of(self, entry: Entry, position: Callable[[], Position]) -> str:  # noqa: ARG002
        """The id of an event, from which a client resumes."""
        return str(entry.seq)


@dataclass(frozen=True, slots=True)
class RunsOf:
    """The events of all runs of a user, or of everybody's; an event's id is the position behind it."""

    user: str | None

    def tells(self, run_id: str, owner: str) -> bool:  # noqa: ARG002 - it is the owner that decides
        """Whether a run's events are among these. This is the one place that says which runs a user is told of."""
        return self.user is None or owner == self.user

    def runs(self, feed: Feed, since: Position, upto: Position) -> list[str]:
        """The runs that may have events between two positions, in order of their ids."""
        owners = feed.owners(since.seqs, since.newest, upto.newest)
        return [run_id for run_id, owner in owners.items() if self.tells(run_id, owner)]

    def id_of(self, entry: Entry, position: Callable[[], Position]) -> str:  # noqa: ARG002
        """The id of an event, from which a client resumes."""
        return str(position())


Scope = OneRun | RunsOf


@dataclass(slots=True)
class Topic:
    """The last frames of a scope.

    Attributes:
        scope: which events these are.
        subscribers: how many there are.
        frames: the last, oldest first.
        told: how many there have been.
        progress: the last frame of each run that has told how far it is, after how many such frames that came.
        progressed: how many of these there have been.
        news: set when there is more of either, or nothing to tell for long, and replaced then.
        woken_at: when that was, by ``time.monotonic()``.
        ended: nothing will be added any more.
    """

    scope: Scope
    subscribers: int = 0
    frames: deque[bytes] = field(default_factory=lambda: deque(maxlen=BACKLOG))
    told: int = 0
    progress: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    progressed: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)
    woken_at: float = field(default_factory=monotonic)
    ended: bool = False

    def tell(self, frame: bytes) -> None:
        """Add a frame."""
        self.frames.append(frame)
        self.told += 1

    def tell_progress(self, run_id: str, frame: bytes) -> None:
        """Put a frame in the place of the run's last."""
        self.progressed += 1
        self.progress[run_id] = self.progressed, frame

    def wake(self) -> None:
        """Let the subscribers look."""
        self.news.set()
        self.news, self.woken_at = asyncio.Event(), monotonic()

    def end(self) -> None:
        """Let the subscribers end when they have got everything."""
        self.ended = True
        self.wake()

    def keeps(self, place: int) -> bool:
        """Whether all frames are still there but the first ``place`` of all."""
        return self.told - place <= len(self.frames)

    def chunk(self, place: int) -> tuple[int, bytes]:
        """Frames behind the first ``place`` of all, joined, and the place behind them."""
        frames: list[bytes] = []
        size = 0
        while place < self.told and size < CHUNK_BYTES:
            frames.append(self.frames[place - self.told])
            size += len(frames[-1])
            place += 1
        return place, b"".join(frames)

    def progress_since(self, seen: int) -> bytes:
        """What has been told of progress after the first ``seen`` frames, but for what later ones stand in for."""
        return b"".join(frame for number, frame in self.progress.values() if number > seen)


def frame(entry: Entry, event_id: str) -> bytes:
    """The frame of an event."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), entry.type.encode(), entry.text)


def progress_frame(run_id: str, text: bytes) -> bytes:
    """The frame of a run's progress; without an id it leaves a client where it was in the log."""
    return b'event: run.progress\ndata: {"run_id":"%b","type":"run.progress","data":%b}\n\n' % (run_id.encode(), text)


def chunks(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Frames joined to chunks."""
    waiting: list[bytes] = []
    size = 0
    for one in frames:
        waiting.append(one)
        size += len(one)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
