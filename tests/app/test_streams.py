import asyncio
import json
import random
import re
import socket
import threading
import time
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGTERM
from typing import get_args
from urllib.parse import urlsplit

import pytest
from pydantic import TypeAdapter
from sqlalchemy import text

from app import serving
from app import streams as module
from app.runner import current_user
from app.serving import listen
from app.streams import HEARTBEAT, Streams
from app.topics import BACKLOG
from benchmarks.service.servers import beating
from storage import rows
from storage.events import StreamedEvent
from storage.feed import NO_RUN, Position
from storage.principal import Principal
from storage.records import Records
from storage.retention import Retention
from storage.runs import EventType, Progress, RunRequest
from tests.logs import troubles

WRITER = "another:1:0"
LONG = "a message of an endpoint that fails " * 150


@pytest.fixture(params=["sqlite", "postgres"])
def records(request, tmp_path):
    url = request.getfixturevalue("postgres")() if request.param == "postgres" else f"sqlite:///{tmp_path}/r.sqlite"
    with Records.open(url) as opened:
        yield opened


@pytest.fixture(scope="module")
def served(new_home, serve):
    """A running service, whose user may have many streams and leave many runs of another process unfinished."""
    return serve(new_home(), ALPHAAGENT_QUOTA__STREAMS="5000", ALPHAAGENT_QUOTA__CONCURRENT_RUNS="5000")


@pytest.fixture(scope="module")
def log(served):
    """The records of the service, written from this process: to the service it is another."""
    url = f"sqlite:///{served.home}/records.sqlite"
    with Records.open(url) as opened, beating(url, WRITER):
        yield opened


def begin(records, user=None):
    """A running run of another process, of the user that a service without tokens knows unless it is another's."""
    request = RunRequest(direction="momentum", market="small")
    by = Principal(user or current_user(), "researcher")
    run = records.create_run(request, universe="all", snapshot="s", seed=1, model="offline", by=by)
    return records.journal(run.id, WRITER).start().id


def write(records, run_id, count, message="so many"):
    """Add events, fifty in one transaction, which is faster than any run writes them."""
    for start in range(0, count, 50):
        with records._writing() as connection:
            rows.lock_open(connection, run_id)
            for number in range(start, min(start + 50, count)):
                fault = {"step": "idea", "round": number + 1, "agent": "idea", "kind": "server", "message": message}
                rows.append(connection, run_id, "agent.failed", fault)


def frames_of(received):
    """Id, type and data of each whole frame; comments are no frames."""
    found = []
    for block in received.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
    return found


def seqs_of(frames):
    return [data["seq"] for _, _, data in frames if "seq" in data]


class Client:
    """A client that reads a stream from a socket, and may break it off at any byte."""

    def __init__(self, served, path, last_event_id=None, buffer=None):
        self._socket = socket.socket()
        if buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._socket.settimeout(60)
        address = urlsplit(served.url)
        self._socket.connect((address.hostname, address.port))
        header = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id is not None else ""
        # In HTTP/1.0 a body has no frames of its own, so that bytes are those of the stream.
        self._socket.sendall(f"GET {path} HTTP/1.0\r\nHost: {address.netloc}\r\n{header}\r\n".encode())
        self._received, self._searched = b"", 0

    def read(self, most=10**9, silence=60):
        """Read until the stream ends, has given so many bytes, or is silent so long; the status and the body so far."""
        self._socket.settimeout(silence)
        with suppress(TimeoutError):
            while len(self._received) < most and (more := self._socket.recv(65536)):
                self._received += more
        head, _, body = self._received[:most].partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def wait(self, needle):
        """Read until the stream says this, behind what was waited for before."""
        while (found := self._received.find(needle.encode(), self._searched)) < 0:
            more = self._socket.recv(65536)
            assert more, self._received[-500:]
            self._received += more
        self._searched = found

    def frames(self):
        """All whole frames so far."""
        return frames_of(self._received.partition(b"\r\n\r\n")[2])

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def whole(served, path, last_event_id=None):
    """The frames of a stream that ends."""
    with Client(served, path, last_event_id) as client:
        status, body = client.read()
    assert status == 200, body
    return frames_of(body)


# the stream of one run


def test_the_seam_between_what_was_and_what_comes_has_no_gap_and_no_duplicate(served, log):
    """Followers come while a writer writes as fast as it can: some before it, some between, some after it."""
    run_id, seen = begin(log), []
    write(log, run_id, 1500)  # a while to read

    def follow(pause):
        time.sleep(pause)
        last, frames = None, []
        while not (frames and frames[-1][1] == "run.succeeded"):  # one that falls behind is dropped, and comes back
            frames += whole(served, f"/runs/{run_id}/events", last)
            last = frames[-1][0]
        seen.append(frames)

    followers = [threading.Thread(target=follow, args=(0.15 * number,)) for number in range(8)]
    for follower in followers:
        follower.start()
    for _ in range(100):
        write(log, run_id, 10)
    log.journal(run_id, WRITER).finish("succeeded")
    for follower in followers:
        follower.join()
    expected = [
        (str(event.seq), event.type, json.loads(event.model_dump_json())) for event in log.events(run_id, 0, 9999)
    ]
    assert len(expected) == 1500 + 100 * 10 + 3
    assert [frames == expected for frames in seen] == [True] * 8


def test_a_run_that_is_over_is_told_in_pages_to_whoever_comes_late(served, log):
    run_id = begin(log)
    write(log, run_id, 3 * module.PAGE - 3)  # whole pages
    log.journal(run_id, WRITER).finish("failed", "no reason")
    count = 3 * module.PAGE
    assert seqs_of(whole(served, f"/runs/{run_id}/events")) == list(range(1, count + 1))
    for seen in (1, module.PAGE, count - 1):
        assert seqs_of(whole(served, f"/runs/{run_id}/events", seen)) == list(range(seen + 1, count + 1))


def test_events_that_are_removed_while_they_are_told_are_not_left_out(records):
    run_id = begin(records)
    write(records, run_id, 2 * module.PAGE, LONG)
    records.journal(run_id, WRITER).finish("succeeded")

    async def follow():
        async with Streams(records) as streams, aclosing(streams.of_run(run_id, 0)) as stream:
            received = await anext(stream) + await anext(stream)
            await asyncio.to_thread(records.pruner.prune, Retention(days=0))
            return received + b"".join([chunk async for chunk in stream])

    seqs = seqs_of(frames_of(asyncio.run(follow()).removeprefix(module.RETRY)))
    assert seqs == list(range(1, module.PAGE + 1))  # what had been read, and no end as if it were all


def test_who_has_seen_the_end_is_told_to_stay_away(served, log):
    run_id = begin(log)
    log.journal(run_id, WRITER).finish("cancelled")
    for seen in (3, 4, 10**17):
        with Client(served, f"/runs/{run_id}/events", seen) as client:
            assert client.read() == (204, b"")


def test_an_event_that_a_run_has_not_told_cannot_have_been_seen(served, log):
    run_id = begin(log)
    for seen in (3, 10**17):
        with Client(served, f"/runs/{run_id}/events", seen) as client:
            status, body = client.read()
        assert status == 422
        assert "the run's last is 2" in json.loads(body)["detail"]
    with Client(served, f"/runs/{run_id}/events", 2) as client:
        write(log, run_id, 1)
        client.wait("\n\n")
        assert seqs_of(client.frames()) == [3]


def test_a_row_that_an_older_version_wrote_is_told_as_it_is(served, log):
    run_id = begin(log)
    with log._writing() as connection:
        old = {"run": run_id, "at": datetime.now(UTC), "data": '{"x": [1, "\u56e0\\n"]}'}
        connection.execute(
            text("INSERT INTO events (run_id, seq, at, type, data) VALUES (:run, 3, :at, 'candidate.judged', :data)"),
            {**old, "at": "2025-01-01 00:00:00.000000"},
        )
    log.journal(run_id, WRITER).finish("succeeded")
    told = whole(served, f"/runs/{run_id}/events")
    assert told[2] == ("3", "candidate.judged", json.loads(log.events(run_id)[2].model_dump_json()))
    assert told[2][2]["data"] == {"x": [1, "\u56e0\n"]}


def drops(served, path, frames, over, draw, sizes=(300, 700, 1200)):
    """Go on with connections that are broken off after some bytes until ``over``; the frames, and how many broke."""
    broken, last = 0, frames[-1][0]
    while not over(frames):
        with Client(served, path, last) as client:
            status, body = client.read(draw.choice(sizes), silence=1)
        assert status == 200, body
        got = frames_of(body)
        frames += got
        last = got[-1][0] if got else last
        broken += 1
    return frames, broken


def follow_with_drops(served, path, over, followers, **sizes):
    """The frames of each of so many followers, who have begun, and how many connections broke in all."""
    results = [None] * followers
    begun = []
    for _ in range(followers):
        with Client(served, path) as client:
            client.wait("\n\n")
            begun.append(client.frames())

    def follow(number):
        results[number] = drops(served, path, begun[number], over, random.Random(number), **sizes)

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(followers)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join()
    yield [frames for frames, _ in results], sum(broken for _, broken in results)


def test_a_thousand_broken_connections_lose_and_repeat_nothing(served, log):
    run_id = begin(log)
    stages = follow_with_drops(
        served, f"/runs/{run_id}/events", lambda frames: frames and frames[-1][1] == "run.succeeded", followers=10
    )
    next(stages)
    for _ in range(100):
        write(log, run_id, 3)
        time.sleep(0.02)
    log.journal(run_id, WRITER).finish("succeeded")
    seen, broken = next(stages)
    assert broken >= 1000
    for frames in seen:
        assert [frame_id for frame_id, _, _ in frames] == [str(seq) for seq in range(1, 304)]
        assert seqs_of(frames) == list(range(1, 304))


# slow and silent clients


def memory(process):
    """Resident bytes of a process."""
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1])


def test_a_client_that_does_not_read_is_dropped_and_costs_nobody_anything(served, log):
    run_id = begin(log)
    slow = [Client(served, f"/runs/{run_id}/events", buffer=4096) for _ in range(8)]
    with Client(served, f"/runs/{run_id}/events") as quick:
        quick.wait("run.started")
        before = memory(served.process)
        for written in range(200, 2001, 200):
            write(log, run_id, 200, LONG)
            quick.wait(f'"seq":{2 + written},')  # though the others have stalled
        kept = BACKLOG * len(LONG)
        assert memory(served.process) - before < 3 * kept < 0.2 * len(slow) * written * len(LONG)
        log.journal(run_id, WRITER).finish("succeeded")
        quick.wait("run.succeeded")
        quick.wait("\n\n")
        assert seqs_of(quick.frames()) == list(range(1, written + 4))
    for client in slow:
        _, body = client.read()
        got = frames_of(body)
        assert got[-1][1] == "agent.failed"  # it ends before the run's end, with no frame missing so far
        assert seqs_of(got) == list(range(1, len(got) + 1))
        rest = whole(served, f"/runs/{run_id}/events", got[-1][0])
        assert seqs_of(rest) == list(range(len(got) + 1, written + 4))
        client.close()


def test_the_system_closes_a_connection_whose_client_takes_nothing(monkeypatch):
    monkeypatch.setattr(serving, "STALLED_SECONDS", 1)
    with listen("127.0.0.1", 0) as listener, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listener.getsockname())
        connection, _ = listener.accept()
        with connection, pytest.raises(TimeoutError, match="timed out"):  # the system's, as the socket has none
            connection.sendall(bytes(2**26))


def test_heartbeats_come_while_nothing_happens(records, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.3)
    run_id = begin(records)

    async def follow():
        async with Streams(records) as streams, aclosing(streams.of_run(run_id, 0)) as stream:
            received = [await anext(stream) for _ in range(2)]
            received += [await anext(stream) for _ in range(3)]
            records.journal(run_id, WRITER).finish("succeeded")
            return received, [chunk async for chunk in stream]

    received, rest = asyncio.run(follow())
    assert received[2:] == [HEARTBEAT] * 3
    assert seqs_of(frames_of(b"".join(received))) == [1, 2]
    assert seqs_of(frames_of(b"".join(rest))) == [3]


def test_a_server_that_stops_ends_its_streams_whether_they_are_read_or_not(new_home, serve):
    served = serve(new_home())
    with Records.open(f"sqlite:///{served.home}/records.sqlite") as records:
        run_id = begin(records)
        paths = [f"/runs/{run_id}/events", "/events"] * 2
        clients = [Client(served, path) for path in paths]
        stalled = [Client(served, path, buffer=4096) for path in paths]
        for client in clients:
            client.wait("run.started")
        write(records, run_id, 1000, LONG)
        for client in clients:
            client.wait('"seq":1002,')
        write(records, run_id, 1)
        served.process.send_signal(SIGTERM)
        asked = time.monotonic()
        assert all(seqs_of(frames_of(client.read()[1])) == list(range(1, 1004)) for client in clients)
        _, noise = served.process.communicate(timeout=10)
        assert time.monotonic() - asked < 10
        [trouble] = troubles(noise)  # those that do not read are cut off
        assert trouble["event"].startswith("Cancel 4 running task(s)")
    for client in clients + stalled:
        client.close()


# the stream of all runs


def by_run(frames):
    found = {}
    for _, _, data in frames:
        found.setdefault(data["run_id"], []).append(data["seq"])
    return found


def test_all_runs_are_told_in_one_stream_through_any_number_of_drops(served, log):
    """Runs that are open, runs that begin and end meanwhile, and some that end at once."""
    over = begin(log)
    log.journal(over, WRITER).finish("cancelled")
    runs, expected = [begin(log) for _ in range(3)], {}
    write(log, runs[0], 60)

    def complete(frames):
        return expected and sum(data["run_id"] > over for _, _, data in frames) >= sum(map(len, expected.values()))

    stages = follow_with_drops(served, "/events", complete, followers=4, sizes=(600, 3000, 5000))
    next(stages)
    for number in range(30):
        for run_id in runs[-3:]:
            write(log, run_id, 2)
        if number % 5 == 0:
            log.journal(runs[-3], WRITER).finish("succeeded")
            runs += [begin(log), begin(log)]
            log.journal(runs[-1], WRITER).finish("failed", "at once")
            runs.insert(0, runs.pop())
        time.sleep(0.02)
    for run_id in runs[-2:]:
        log.journal(run_id, WRITER).finish("succeeded")
    expected.update({run_id: [event.seq for event in log.events(run_id)] for run_id in runs})
    seen, broken = next(stages)
    assert broken > 50
    assert len(expected) == 15
    for frames in seen:
        assert len({frame_id for frame_id, _, _ in frames}) == len(frames)
        told = by_run(frames)
        assert over not in told
        assert {run_id: seqs for run_id, seqs in told.items() if run_id > over} == expected


def test_a_stream_of_all_runs_goes_on_where_it_was_even_for_runs_that_came_and_went(records):
    first, second = begin(records), begin(records)

    async def follow():
        async with Streams(records) as streams:
            return await take(streams.of_runs(None, None), 4)

    async def go_on(last):
        async with Streams(records) as streams:
            return await take(streams.of_runs(None, Position.parse(last)), 9)

    begun = asyncio.run(follow())
    assert by_run(begun) == {first: [1, 2], second: [1, 2]}
    write(records, first, 2)
    records.journal(second, WRITER).finish("succeeded")
    third = begin(records)
    records.journal(third, WRITER).finish("succeeded")
    fourth = begin(records)
    write(records, fourth, 1)
    expected = {first: [3, 4], second: [3], third: [1, 2, 3], fourth: [1, 2, 3]}
    rest = asyncio.run(go_on(begun[-1][0]))
    assert by_run(rest) == expected
    for place in range(len(rest) - 1):  # from each event exactly those behind it
        again = asyncio.run(follow_on(records, rest[place][0], len(rest) - place - 1))
        assert [data for _, _, data in again] == [data for _, _, data in rest[place + 1 :]]


async def take(stream, count):
    """The first frames of a stream, so many at least."""
    received = b""
    async with aclosing(stream):
        async for chunk in stream:
            received += chunk
            if len(frames_of(received)) >= count:
                break
    return frames_of(received)


async def follow_on(records, last, count):
    async with Streams(records) as streams:
        return await take(streams.of_runs(None, Position.parse(last)), count)


def test_a_user_is_told_of_no_other_s_runs_whatever_position_is_asked_for(records):
    hers, his = begin(records, "ada"), begin(records, "bob")
    write(records, his, 3)

    async def follow(position):
        async with Streams(records) as streams:
            stream = streams.of_runs("ada", position)
            taken = asyncio.create_task(take(stream, 5))
            await asyncio.sleep(0.2)
            new = [begin(records, user) for user in ("bob", "ada")]
            write(records, his, 3)
            write(records, hers, 1)
            return new, await taken

    for position in (None, Position(NO_RUN, {}), Position(hers, {his: 0, hers: 0})):
        before = [event.seq for event in records.events(hers)]
        (_, new), frames = asyncio.run(follow(position))
        told = by_run(frames)
        assert his not in told
        assert {records.run(run_id).user for run_id in told} == {"ada"}
        assert told[hers][: len(before)] == before
        records.journal(new, WRITER).finish("succeeded")


@pytest.mark.parametrize("number", ["", "x", "1", "A" * 22 + "B", "A" * 21 + "B", "A" * 49, "=", "\u00b2", "A" * 60000])
def test_a_position_that_cannot_be_is_refused(served, number):
    with Client(served, "/events", number) as client:
        status, body = client.read()
    assert status == 422, body
    assert "Last-Event-ID" in json.loads(body)["detail"]


def test_a_position_ahead_of_the_log_is_refused(served, log):
    run_id = begin(log)
    for position in (Position(run_id, {run_id: 3}), Position("ffffffff" + run_id[8:], {})):
        with Client(served, "/events", str(position)) as client:
            assert client.read()[0] == 422
    with Client(served, "/events", str(Position(run_id, {run_id: 2}))) as client:
        write(log, run_id, 1)
        client.wait(f'"run_id":"{run_id}","seq":3')


# what the follower itself goes through


def test_streams_end_when_the_log_cannot_be_read_and_later_ones_are_well(records, caplog):
    run_id = begin(records)

    async def follow():
        async with Streams(records) as streams:
            stream = streams.of_run(run_id, 0)
            begun = [await anext(stream), await anext(stream)]
            with records._writing() as connection:
                connection.execute(text("ALTER TABLE events RENAME TO hidden"))
            rest = [chunk async for chunk in stream]
            with records._writing() as connection:
                connection.execute(text("ALTER TABLE hidden RENAME TO events"))
            write(records, run_id, 1)
            again = []
            for _ in range(100):
                again = again or await take(streams.of_run(run_id, 2), 1)
                await asyncio.sleep(0 if again else 0.1)
            return begun, rest, again, streams.subscribers

    begun, rest, again, subscribers = asyncio.run(follow())
    assert seqs_of(frames_of(b"".join(begun))) == [1, 2]
    assert rest == []
    assert seqs_of(again) == [3]
    assert subscribers == 0
    assert "the log cannot be read" in caplog.text


def test_a_client_may_resume_at_another_server_that_knows_less_so_far(records):
    run_id = begin(records)

    async def follow():
        async with Streams(records) as here, Streams(records) as there, aclosing(here.of_run(run_id, 2)) as stream:
            busy = asyncio.create_task(take(there.of_run(run_id, 0), 99))  # so that its follower is at work
            got = []
            for seq in range(3, 25, 2):
                await asyncio.to_thread(write, records, run_id, 1)
                while b"id: %d\n" % seq not in await anext(stream):
                    pass
                resumed = [there.of_run(run_id, seq), there.of_runs(None, Position(run_id, {run_id: seq}))]
                taking = [asyncio.create_task(take(one, 1)) for one in resumed]
                await asyncio.sleep(0.06)
                await asyncio.to_thread(write, records, run_id, 1)
                got += [seqs_of(await one) for one in taking]
            busy.cancel()
            return got

    assert asyncio.run(follow()) == [[seq] for seq in range(4, 26, 2) for _ in range(2)]


def test_a_subscription_ends_with_its_stream(records):
    run_id = begin(records)

    async def follow():
        async with Streams(records) as streams:
            open_streams = [streams.of_run(run_id, 0), streams.of_runs(None, None)]
            for stream in open_streams:
                await anext(stream)
                await anext(stream)
            counted = [streams.subscribers]
            for stream in open_streams:
                await stream.aclose()
            return [*counted, streams.subscribers, len(streams._topics)]

    assert asyncio.run(follow()) == [2, 0, 0]  # and with no topic left the follower rests


# progress


def told_progress(frames):
    return [data["data"] for _, kind, data in frames if kind == "run.progress"]


def test_progress_is_told_as_it_changes_and_at_most_five_times_a_second(served, log):
    run_id, other = begin(log), begin(log)
    log.progress.write(other, Progress(stage="idea", round=1, rounds=2, done=0, total=1))
    with Client(served, f"/runs/{run_id}/events") as client, Client(served, "/events") as both:
        client.wait("run.started")
        began = time.monotonic()
        for done in range(100):  # faster than any run may tell
            log.progress.write(run_id, Progress(stage="evaluate", round=1, rounds=2, done=done + 1, total=100))
            time.sleep(0.01)
        client.wait('"done":100,')
        both.wait('"done":100,')
        both.wait("\n\n")
        time.sleep(0.7)  # in which nothing changes
        assert {data["run_id"] for _, kind, data in both.frames() if kind == "run.progress"} == {run_id, other}
        seconds = time.monotonic() - began
        log.journal(run_id, WRITER).finish("succeeded")
        client.wait("run.succeeded")
        client.wait("\n\n")
        frames = client.frames()
    told = told_progress(frames)
    assert all(frame_id is None for frame_id, kind, _ in frames if kind == "run.progress")
    assert [one["done"] for one in told] == sorted({one["done"] for one in told})
    assert 2 <= len(told) <= 5 * seconds + 2
    assert frames[-1][1] == "run.succeeded"
    assert seqs_of(frames) == [1, 2, 3]
    assert told_progress(whole(served, f"/runs/{run_id}/events")) == []
    assert log.run(run_id).progress == Progress(stage="evaluate", round=1, rounds=2, done=100, total=100)
    assert log.run(other).progress.stage == "idea"
    log.journal(other, WRITER).finish("succeeded")


# what is documented


def test_what_a_real_run_streams_is_what_the_document_says(served):
    """The types of the OpenAPI document, and each event of a run mined by the service."""
    document = served.get("/openapi.json").json()
    streamed = TypeAdapter(StreamedEvent)
    for path in ("/runs/{run_id}/events", "/events"):
        told = document["paths"][path]["get"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
        assert set(told["discriminator"]["mapping"]) == {*get_args(EventType), "run.progress"}
        for reference in told["discriminator"]["mapping"].values():
            event = document["components"]["schemas"][reference.rpartition("/")[2]]
            assert event["properties"]["data"]["$ref"].rpartition("/")[2] in document["components"]["schemas"]
    run = served.post(direction="volume shocks", market="small", seed=2, budget={"rounds": 2, "candidates": 4}).json()
    frames = whole(served, f"/runs/{run['id']}/events")
    assert frames[-1][1] == "run.succeeded"
    for _, kind, data in frames:
        assert streamed.validate_python(data).type == kind == data["type"]
