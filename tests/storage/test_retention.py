"""What pruning removes, and that nothing which people still ask for changes by it; on both databases."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from storage import retention, schema
from storage.markets import open_market
from storage.principal import LOCAL
from storage.records import Records
from storage.retention import Retention
from storage.runs import PrunedError, RunRequest
from storage.webhooks import WebhookRequest
from tests.library import accepted

ROOT = Path(__file__).parents[2]
FOREVER = Retention(days=10_000, bytes=10**12)
PRUNE = """
import sys
from storage.records import Records
from storage.retention import Retention
with Records.open(sys.argv[1]) as records:
    records.pruner.prune(Retention(days=0))
"""


def running(records, rounds=3):
    """A running run that has told of so many rounds with two judged candidates each."""
    request = RunRequest(direction="gaps", market="cn")
    run_id = records.create_run(request, universe="u", snapshot="s", seed=1, model="m").id
    journal = records.journal(run_id, "here")
    journal.start()
    for number in range(rounds):
        journal.append("candidate.judged", {"round": number, "text": "x" * 100})
        journal.append("candidate.judged", {"round": number, "text": "y" * 100})
        journal.append("round.completed", {"round": number})
    return run_id


def finished(records, rounds=3, days_ago=0.0):
    run_id = running(records, rounds)
    records.journal(run_id, "here").finish("succeeded")
    with records._writing() as connection:
        at = datetime.now(UTC) - timedelta(days=days_ago)
        connection.execute(update(schema.runs).where(schema.runs.c.id == run_id).values(finished_at=at))
    return run_id


def kinds(records, run_id):
    with records._reading() as connection:
        table = schema.events
        return connection.scalars(select(table.c.type).where(table.c.run_id == run_id).order_by(table.c.seq)).all()


def test_only_old_runs_lose_their_events(records):
    old, young, open_run = finished(records, days_ago=91), finished(records, days_ago=89), running(records)
    before = [kinds(records, run_id) for run_id in (young, open_run)]
    assert records.pruner.prune(Retention()) == [old]
    assert kinds(records, old) == ["run.queued", "run.started", "run.succeeded"]
    assert [kinds(records, run_id) for run_id in (young, open_run)] == before
    assert records.pruner.prune(Retention()) == []


def test_the_oldest_lose_their_events_where_there_are_too_many(records):
    runs = [finished(records, days_ago=days) for days in (4, 3, 2, 1)]
    size = sum(len(str(event.data)) for event in records.events(runs[0]) if not event.type.startswith("run."))
    assert records.pruner.prune(Retention(bytes=int(4.5 * size))) == []
    assert records.pruner.prune(Retention(bytes=int(2.5 * size))) == runs[:2]
    assert [event.seq for event in records.events(runs[2])] == list(range(1, 13))
    assert records.pruner.prune(Retention(bytes=0)) == runs[2:]


def test_a_pruned_run_is_the_run_that_it_was(records):
    run_id, other = finished(records, rounds=4, days_ago=100), finished(records)
    before, listed = records.run(run_id), records.runs()
    assert (before.rounds, before.candidates) == (4, 8)
    assert records.pruner.prune(Retention()) == [run_id]
    assert records.run(run_id) == before
    assert records.runs() == listed
    assert records.run(other).rounds == 3


def test_what_a_webhook_is_owed_is_kept_until_it_is_delivered(records, market_home):
    other = finished(records)
    hook = records.webhooks.create(WebhookRequest(url="https://hooks.example.com/"), LOCAL)
    run_id = accepted(records, open_market(market_home, "small")).run_id
    records.journal(run_id, "host").finish("succeeded")
    before = kinds(records, run_id)
    everything = Retention(days=0, bytes=0)
    assert records.pruner.prune(everything) == [other]
    sent = []
    while claims := records.webhooks.outbox.claim(1, timedelta(hours=1)):
        assert records.pruner.prune(everything) == []  # it is on its way
        assert kinds(records, run_id) == before
        sent.append(claims[0].event.type)
        records.webhooks.outbox.succeed(claims[0])
    assert sent == ["factor.accepted", "run.succeeded"]
    assert records.pruner.prune(everything) == [run_id]
    assert kinds(records, run_id) == ["run.queued", "run.started", "run.succeeded"]
    log, _ = records.webhooks.deliveries(hook.id, LOCAL)
    assert [one.type for one in log] == ["run.succeeded"]  # a delivery goes with its event


def test_what_was_given_up_is_kept_no_longer(records):
    records.webhooks.create(WebhookRequest(url="https://hooks.example.com/"), LOCAL)
    run_id = finished(records, days_ago=91)
    [claim] = records.webhooks.outbox.claim(1, timedelta(hours=1))
    records.webhooks.outbox.fail(claim, "answered 500", None)
    assert records.pruner.prune(Retention()) == [run_id]


def test_pruning_stops_when_it_is_told_to_and_goes_on(records):
    runs = [finished(records, rounds=2, days_ago=100) for _ in range(3)]
    answers = iter([False] * 4 + [True])
    assert records.pruner.prune(Retention(), lambda: next(answers)) == runs[:1]
    assert records.pruner.prune(Retention(), lambda: True) == []
    assert records.pruner.prune(Retention()) == runs[1:]


def test_what_a_run_tells_is_summed_up_when_it_has_ended(records):
    run_id = running(records, rounds=1)
    records.pruner.prune(Retention(days=0))
    assert records.run(run_id).rounds == 1
    journal = records.journal(run_id, "here")
    journal.append("round.completed", {})
    assert records.run(run_id).rounds == 2
    journal.finish("succeeded")
    assert records.pruner.prune(Retention(days=0)) == [run_id]
    assert (records.run(run_id).rounds, records.run(run_id).candidates) == (2, 2)


def test_events_that_are_gone_are_said_to_be_gone(records):
    run_id = finished(records, days_ago=100)
    last = records.events(run_id)[-1].seq
    records.pruner.prune(Retention())
    for after in (0, 1, 2, last - 1):
        with pytest.raises(PrunedError, match="were removed on"):
            records.events(run_id, after)
    assert records.events(run_id, last) == []
    assert records.events(run_id, last + 5) == []


def test_pruning_that_was_cut_off_goes_on(records, monkeypatch):
    run_id = finished(records, rounds=10, days_ago=100)
    monkeypatch.setattr(retention, "_BATCH", 7)
    batches = iter([True, True])

    class Cut(Exception):  # noqa: N818
        pass

    def cut(*arguments, **keywords):
        if next(batches, None) is None:
            raise Cut
        return delete(*arguments, **keywords)

    delete = retention.delete
    monkeypatch.setattr(retention, "delete", cut)
    with pytest.raises(Cut):
        records.pruner.prune(Retention())
    left = len(kinds(records, run_id))
    assert 3 < left < 33
    with pytest.raises(PrunedError):  # not the rest as if it were all
        records.events(run_id)
    assert records.run(run_id).rounds == 10
    monkeypatch.setattr(retention, "delete", delete)
    assert records.pruner.prune(FOREVER) == [run_id]
    assert kinds(records, run_id) == ["run.queued", "run.started", "run.succeeded"]
    assert records.run(run_id).candidates == 20


def test_processes_prune_beside_a_writer(url):
    with Records.open(url) as records:
        old = [finished(records, rounds=20, days_ago=1) for _ in range(4)]
        before = [records.run(run_id) for run_id in old]
        going = running(records)
        command = [sys.executable, "-W", "error", "-c", PRUNE, url]
        pruners = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        journal, written = records.journal(going, "here"), 12 - 1
        while any(pruner.poll() is None for pruner in pruners):
            journal.append("candidate.drafted", {})
            written += 1
        assert [(pruner.communicate()[1], pruner.returncode) for pruner in pruners] == [("", 0)] * 2
        assert [event.seq for event in records.events(going, limit=10**6)] == list(range(1, written + 1))
        assert [records.run(run_id) for run_id in old] == before
        assert all(len(kinds(records, run_id)) == 3 for run_id in old)
