import json
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from uuid import UUID

import pytest
from sqlalchemy import text

from factors.errors import SettingError
from storage.feed import _BEHIND, NO_RUN, Position
from storage.principal import Principal
from storage.records import Records
from storage.retention import Retention
from storage.runs import Progress, RunRequest


def queue(records, user="ada"):
    request = RunRequest(direction="momentum", market="cn")
    return records.create_run(
        request, universe="all", snapshot="s", seed=1, model="offline", by=Principal(user, "researcher")
    ).id


def begin(records, user="ada"):
    return records.journal(queue(records, user), "host:1").start().id


def add(records, run_id, count):
    for number in range(count):
        records.journal(run_id, "host:1").append("alphas.ranked", {"alphas": number})


def told(entries):
    return [(entry.run_id, entry.seq) for entry in entries]


# positions


def test_a_position_is_its_text():
    first, second = "01a218b6-b1e5-7040-a35b-fc6465c21d97", "01a218b6-b398-746b-88ae-378585d7331c"
    for position in (
        Position(NO_RUN, {}),
        Position(second, {first: 0}),
        Position(second, {second: 2**32 - 1, first: 7}),
    ):
        text = str(position)
        assert Position.parse(text) == position
        assert len(text) <= 22 + 27 * len(position.seqs)
        assert text.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "text", ["", "A", "A" * 23, "A" * 21 + "B", "A" * 22 + "==", " " + "A" * 21, "\u00e4" * 22, "A" * 76 + "\n"]
)
def test_a_text_that_is_no_position_is_refused(text):
    with pytest.raises(SettingError, match="Last-Event-ID"):
        Position.parse(text)


# what is read


def test_entries_are_the_events_as_json_whatever_they_hold(records):
    run_id = begin(records)
    fault = {"step": "idea 1", "round": 1, "agent": "idea", "kind": "server", "message": "因\n\u2028\r"}
    records.journal(run_id, "host:1").append("agent.failed", fault)
    entries = records.feed.events(run_id, 0, 10)
    assert [entry.text.decode() for entry in entries] == [event.model_dump_json() for event in records.events(run_id)]
    assert [(entry.seq, entry.type) for entry in entries] == [
        (1, "run.queued"),
        (2, "run.started"),
        (3, "agent.failed"),
    ]
    assert not {b"\n", b"\r"} & {entry.text[k : k + 1] for entry in entries for k in range(len(entry.text))}


def test_the_feed_gives_of_each_run_what_is_behind_its_place_and_no_more_than_asked(records):
    first, second, over = begin(records), begin(records), begin(records)
    add(records, first, 5)
    add(records, second, 5)
    records.journal(over, "host:1").finish("succeeded")
    new, entries = records.feed.since(over, {first: 3, second: 7}, 3)
    assert (new, told(entries)) == ([], [(first, 4), (first, 5), (first, 6)])
    new, entries = records.feed.since(first, {first: 7}, 2)
    assert [(run.id, run.user, run.seq) for run in new] == [(second, "ada", 0), (over, "ada", 0)]
    assert told(entries) == [(second, 1), (second, 2), (over, 1), (over, 2)]
    assert records.feed.since(over, {}, 9) == ([], [])
    assert told(records.feed.events(over, 1, 9)) == [(over, 2), (over, 3)]


def test_of_a_run_whose_events_were_removed_those_are_given_that_stay(records):
    run_id = begin(records)
    add(records, run_id, 50)
    records.journal(run_id, "host:1").finish("succeeded")
    records.pruner.prune(Retention(days=0))
    assert told(records.feed.events(run_id, 1, 9)) == [(run_id, 2), (run_id, 53)]
    assert told(records.feed.events(run_id, 3, 9)) == [(run_id, 53)]


def test_now_is_where_the_open_runs_are(records):
    assert records.feed.now() == (NO_RUN, [])
    first, second = begin(records, "ada"), queue(records, "bob")
    add(records, first, 3)
    over = begin(records)
    records.journal(over, "host:1").finish("failed", "-")
    assert records.feed.now() == (over, [(first, "ada", 5), (second, "bob", 1)])
    assert records.feed.ends([first, over, "nobody"]) == {first: 5, over: 3}
    assert records.feed.owners([first], second, over) == {first: "ada", over: "ada"}


def test_reading_what_is_new_does_not_walk_through_what_is_old(postgres):
    """Along the index, run by run, though the planner thinks that a third of the events are new."""
    with Records.open(postgres()) as records:
        run_ids = [begin(records) for _ in range(20)]
        with records._writing() as connection:
            many = "INSERT INTO events (run_id, seq, at, type, data) SELECT run_id, seq + n, at, type, data "
            connection.execute(text(many + "FROM events, generate_series(1, 2000) n WHERE seq = 2"))
            connection.execute(text("ANALYZE"))
            statement = str(_BEHIND["postgresql"].compile(dialect=connection.dialect))
            given = {"seqs": json.dumps(dict.fromkeys(run_ids, 2002)), "limit": 100}
            plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", given).scalars())
        assert "Index Cond: ((run_id = " in plan
        assert "Seq Scan" not in plan


# ids of runs


def test_runs_become_visible_in_the_order_of_their_ids(records):
    """A reader that knows the newest run never finds a new one before it, however many create runs at once."""
    done = Event()

    def watch():
        newest, late = NO_RUN, []
        known = set()
        while not done.is_set():
            runs = records.feed.owners([], NO_RUN, "g")
            late += [run_id for run_id in runs if run_id not in known and run_id <= newest]
            known |= runs.keys()
            newest = max([newest, *runs])
        return late

    with ThreadPoolExecutor(9) as threads:
        watching = threads.submit(watch)
        list(threads.map(lambda _: queue(records), range(80)))
        done.set()
        assert watching.result() == []
    assert len(records.feed.now()[1]) == 80


def test_a_run_has_a_greater_id_than_one_of_a_clock_that_is_ahead(records):
    ahead = "ffff" + queue(records)[4:]
    with records._writing() as connection:
        columns = "status, direction, market, universe, snapshot, seed, model, budget, created_at"
        copied = f"INSERT INTO runs (id, {columns}) SELECT :ahead, {columns} FROM runs"
        connection.execute(text(copied), {"ahead": ahead})
    following = [queue(records) for _ in range(3)]
    assert [ahead, *following] == sorted([ahead, *following])
    assert len(set(following)) == 3
    assert {UUID(run_id).version for run_id in following} == {7}


# progress


def test_only_a_running_run_has_progress(records):
    progress = Progress(stage="factor", round=1, rounds=3, done=2, total=8)
    waiting, running = queue(records), begin(records)
    for run_id in (waiting, running):
        assert records.run(run_id).progress is None
        records.progress.write(run_id, progress)
    assert records.run(waiting).progress is None
    assert records.run(running).progress == progress
    assert records.progress.running() == {running: progress.model_dump_json().encode()}
    records.journal(running, "host:1").finish("succeeded")
    records.progress.write(running, progress.model_copy(update={"done": 3}))
    assert records.run(running).progress == progress
    assert records.progress.running() == {}


def test_a_report_writes_at_most_five_times_a_second_and_the_last_at_the_latest_then(records):
    run_id, seen = begin(records), []
    began = time.monotonic()
    with records.progress.report(run_id) as report:
        for done in range(300):
            report.tell(Progress(stage="evaluate", round=1, rounds=1, done=done, total=299))
            seen += records.progress.running().values()
            if time.monotonic() - began > 1.5:
                break
        while b'"done":%d,' % done not in (seen[-1] if seen else b""):
            seen += records.progress.running().values()
    assert 2 <= len(set(seen)) <= 5 * (time.monotonic() - began) + 1


def test_a_report_that_is_closed_writes_nothing_more(records):
    run_id = begin(records)
    with records.progress.report(run_id) as report:
        report.tell(Progress(stage="idea", round=1, rounds=1, done=0, total=1))
    held = records.run(run_id).progress
    report.tell(Progress(stage="idea", round=1, rounds=1, done=1, total=1))
    assert records.run(run_id).progress == held
    assert not report._thread.is_alive()
