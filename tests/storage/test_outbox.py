import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, event, func, select, text, update

from factors.errors import NotFoundError, SettingError
from storage import rows
from storage.engine import writing
from storage.outbox import PATIENCE
from storage.principal import Principal
from storage.records import Records
from storage.runs import RunRequest
from storage.schema import deliveries, events, webhooks
from storage.webhooks import MOST_WEBHOOKS, WebhookRequest

MINUTE = timedelta(minutes=1)
URL = "https://hooks.example.com/"


def researcher(user):
    return Principal(user, "researcher")


def hook(records, user="ann", **wanted):
    return records.webhooks.create(WebhookRequest(url=URL, **wanted), researcher(user))


def begin(records):
    """A run that is worked on, as its executor writes it."""
    request = RunRequest(direction="d", market="m")
    run = records.create_run(request, universe="u", snapshot="s", seed=1, model="offline")
    journal = records.journal(run.id, "here:1")
    journal.start()
    return journal


def finish(records, status="succeeded"):
    """The id of a run that has ended."""
    return begin(records).finish(status).id


def owed(records, webhook, user="ann"):
    return records.webhooks.deliveries(webhook.id, researcher(user), 200)[0]


def execute(records, statement):
    with writing(records._engine) as connection:
        return connection.execute(statement)


def later(records, by):
    """Let time pass: what lies ahead in the outbox comes nearer."""
    with writing(records._engine) as connection:
        for column in (deliveries.c.next_at, webhooks.c.leased_until, webhooks.c.failing_since):
            key = column.table.c.id
            for row in connection.execute(select(key, column).where(column.is_not(None))).all():
                connection.execute(update(column.table).where(key == row[0]).values({column: row[1] - by}))


# what is entered


def test_a_private_run_is_told_of_to_its_own_user_s_webhooks(records):
    own, other = hook(records, "ann"), hook(records, "bob")
    request = RunRequest(direction="d", market="m", private=True)
    run = records.create_run(
        request, universe="u", snapshot="s", seed=1, model="offline", by=researcher("ann"), executor="here:1"
    )
    journal = records.journal(run.id, "here:1")
    journal.start()
    journal.finish("succeeded")
    assert [one.type for one in owed(records, own)] == ["run.succeeded"]
    assert owed(records, other, "bob") == []


def test_an_admin_sees_every_webhook_and_may_delete_it(records):
    admin = Principal("eve", "admin")
    mine = hook(records, "ann")
    assert [one.id for one in records.webhooks.seen_by(admin)] == [mine.id]
    records.webhooks.delete(mine.id, admin)
    assert records.webhooks.seen_by(researcher("ann")) == []
    assert [entry.act for entry in records.audit.page()[0]] == ["webhook.deleted", "webhook.created"]


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_the_end_of_a_run_is_owed_and_nothing_before_it(records, status):
    webhook = hook(records)
    journal = begin(records)
    journal.append("round.completed", {})
    assert owed(records, webhook) == []
    run_id = journal.finish(status).id
    (delivery,) = owed(records, webhook)
    last = records.events(run_id)[-1]
    assert (delivery.run_id, delivery.seq, delivery.type) == (run_id, last.seq, f"run.{status}")
    assert (delivery.status, delivery.attempts, delivery.next_at) == ("waiting", 0, last.at)


def test_a_queued_run_that_is_cancelled_has_ended_too(records):
    webhook = hook(records)
    request = RunRequest(direction="d", market="m")
    run = records.create_run(request, universe="u", snapshot="s", seed=1, model="offline")
    records.queue.cancel(run.id, researcher("ann"))
    assert [one.type for one in owed(records, webhook)] == ["run.cancelled"]


def test_each_webhook_is_owed_what_it_wants(records):
    everything, failures = hook(records), hook(records, user="bob", events=("run.failed",))
    finish(records, "succeeded")
    finish(records, "failed")
    assert [one.type for one in owed(records, everything)] == ["run.failed", "run.succeeded"]
    assert [one.type for one in owed(records, failures, "bob")] == ["run.failed"]


def test_an_event_that_is_rolled_back_is_not_owed(records):
    webhook, run_id = hook(records), begin(records).run_id
    with writing(records._engine) as connection:
        rows.lock(connection, run_id)
        assert rows.append(connection, run_id, "run.cancelled", {}).seq == 3
        assert connection.scalar(select(func.count()).select_from(deliveries)) == 1
        connection.get_transaction().rollback()
    assert owed(records, webhook) == []
    assert len(records.events(run_id)) == 2


def test_without_webhooks_an_event_costs_one_look_and_others_nothing(records):
    journal = begin(records)
    seen = []
    event.listen(records._engine, "before_cursor_execute", lambda _, __, statement, *___: seen.append(statement))
    journal.append("round.completed", {})
    assert not [one for one in seen if "webhooks" in one or "deliveries" in one]
    journal.finish("cancelled")
    assert len([one for one in seen if "webhooks" in one or "deliveries" in one]) == 1


def test_a_webhook_that_is_deleted_meanwhile_does_not_fail_the_run(postgres):
    # On SQLite there is one writer at a time.
    with Records.open(url := postgres()) as records, Records.open(url) as other:
        webhook, journal = hook(records), begin(records)
        with ThreadPoolExecutor() as pool:
            with writing(records._engine) as connection:
                connection.execute(delete(webhooks).where(webhooks.c.id == webhook.id))
                ending = pool.submit(other.journal(journal.run_id, "here:1").finish, "cancelled")
                deadline = time.monotonic() + 10
                blocked = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                while not (connection.scalar(blocked) or ending.done() or time.monotonic() > deadline):
                    time.sleep(0.01)
            assert ending.result(10).status == "cancelled"


def test_what_a_webhook_is_owed_goes_with_it_and_with_the_event(records):
    webhook, other = hook(records), hook(records, user="bob")
    run_id, kept = finish(records), finish(records)
    execute(records, delete(events).where(events.c.run_id == run_id))
    assert [one.run_id for one in owed(records, webhook)] == [kept]
    records.webhooks.delete(webhook.id, researcher("ann"))
    assert execute(records, select(deliveries.c.webhook_id)).scalars().all() == [other.id]


# claims


def test_what_is_due_is_claimed_in_order_one_at_a_time_for_each_webhook(records):
    first, second = hook(records), hook(records, user="bob")
    runs = [finish(records) for _ in range(3)]
    outbox = records.webhooks.outbox
    for run_id in runs:
        claims = outbox.claim(10, MINUTE)
        assert {claim.webhook_id for claim in claims} == {first.id, second.id}
        assert {claim.event.run_id for claim in claims} == {run_id}
        assert all(claim.event == records.events(run_id)[-1] for claim in claims)
        assert outbox.claim(10, MINUTE) == []
        for claim in claims:
            outbox.succeed(claim)
    assert outbox.claim(10, MINUTE) == []
    assert {one.status for one in owed(records, first)} == {"delivered"}


def test_a_claim_has_the_secret_and_does_not_show_it(records):
    webhook = hook(records)
    finish(records)
    (claim,) = records.webhooks.outbox.claim(1, MINUTE)
    assert claim.secret == webhook.secret
    assert len(webhook.secret) > 40
    assert webhook.secret not in repr(claim)


def test_the_webhook_that_was_served_longest_ago_comes_first(records):
    hooks = [hook(records, user=str(number)) for number in range(3)]
    for _ in range(3):
        finish(records)
    served = []
    for _ in range(6):
        (claim,) = records.webhooks.outbox.claim(1, MINUTE)
        served.append(claim.webhook_id)
        records.webhooks.outbox.succeed(claim)
    assert served == [one.id for one in hooks] * 2


def test_a_lease_that_has_run_out_is_another_s_and_the_first_can_settle_nothing(records):
    webhook = hook(records)
    finish(records)
    outbox = records.webhooks.outbox
    (dead,) = outbox.claim(1, MINUTE)
    later(records, 59 * timedelta(seconds=1))
    assert outbox.claim(1, MINUTE) == []
    later(records, timedelta(seconds=2))
    (living,) = outbox.claim(1, MINUTE)
    assert (living.id, living.attempt) == (dead.id, dead.attempt + 1)
    outbox.succeed(dead)
    outbox.fail(dead, "late", None)
    outbox.fail(dead, "late", None, gone=True)
    (delivery,) = owed(records, webhook)
    assert (delivery.status, delivery.error) == ("waiting", None)
    assert outbox.claim(1, MINUTE) == []  # nor has it given the lease back
    outbox.succeed(living)
    assert owed(records, webhook)[0].status == "delivered"
    outbox.fail(living, "twice", datetime.now(UTC))
    assert owed(records, webhook)[0].error is None


def test_claims_side_by_side_share_nothing(url, records):
    for number in range(5):
        hook(records, user=str(number))
    run_ids = [finish(records) for _ in range(8)]
    claimed = []

    def work(_):
        with Records.open(url) as other:
            while len(claimed) < 40:
                claims = other.webhooks.outbox.claim(2, MINUTE)
                claimed.extend(claims)
                for claim in claims:
                    other.webhooks.outbox.succeed(claim)

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, range(4)))
    assert [claim.attempt for claim in claimed] == [1] * 40
    assert len({claim.id for claim in claimed}) == 40
    for webhook_id in {claim.webhook_id for claim in claimed}:
        assert [one.event.run_id for one in claimed if one.webhook_id == webhook_id] == run_ids


# failures


def test_what_failed_is_due_again_at_its_time_and_holds_up_nothing(records):
    webhook = hook(records)
    failing, following = finish(records), finish(records)
    outbox = records.webhooks.outbox
    (claim,) = outbox.claim(1, MINUTE)
    outbox.fail(claim, "answered 500", datetime.now(UTC) + MINUTE)
    newest, oldest = owed(records, webhook)
    assert (oldest.status, oldest.error, oldest.attempts) == ("waiting", "answered 500", 1)
    assert newest.attempts == 0
    (claim,) = outbox.claim(1, MINUTE)
    assert claim.event.run_id == following
    outbox.succeed(claim)
    assert outbox.claim(1, MINUTE) == []
    later(records, MINUTE)
    (claim,) = outbox.claim(1, MINUTE)
    assert (claim.event.run_id, claim.attempt) == (failing, 2)
    outbox.succeed(claim)
    assert owed(records, webhook)[1].error is None


def test_a_webhook_that_fails_for_days_is_disabled_with_the_reason(records):
    webhook = hook(records)
    outbox = records.webhooks.outbox

    def fail(next_at=None):
        finish(records)
        (claim,) = outbox.claim(1, MINUTE)
        outbox.fail(claim, "answered 500", next_at)
        return records.webhooks.seen_by(researcher("ann"))[0]

    first = fail()
    assert first.disabled_at is None
    assert first.failing_since is not None
    later(records, PATIENCE / 2)
    assert fail().disabled_at is None
    later(records, PATIENCE / 2)
    assert fail(datetime.now(UTC) + MINUTE).disabled_at is None  # it is tried again first
    last = fail()
    assert last.disabled_at is not None
    assert last.disabled_because.startswith("nothing was delivered since ")
    assert last.disabled_because.endswith(": answered 500")
    assert {one.status for one in owed(records, webhook)} == {"dead"}
    finish(records)
    later(records, PATIENCE)
    assert outbox.claim(1, MINUTE) == []
    assert len(owed(records, webhook)) == 4


def test_a_success_ends_the_failing(records):
    hook(records)
    outbox = records.webhooks.outbox
    for settle in (
        lambda claim: outbox.fail(claim, "no", None),
        outbox.succeed,
        lambda one: outbox.fail(one, "no", None),
    ):
        finish(records)
        later(records, PATIENCE)
        settle(*outbox.claim(1, MINUTE))
    (webhook,) = records.webhooks.seen_by(researcher("ann"))
    assert webhook.disabled_at is None


def test_a_receiver_that_is_gone_is_not_asked_again(records):
    webhook = hook(records)
    finish(records)
    finish(records)
    (claim,) = records.webhooks.outbox.claim(1, MINUTE)
    records.webhooks.outbox.fail(claim, "answered 410", datetime.now(UTC), gone=True)
    assert records.webhooks.seen_by(researcher("ann"))[0].disabled_because == "the receiver is gone: answered 410"
    assert [one.status for one in owed(records, webhook)] == ["dead", "dead"]
    # One that another run enters at that very moment is not sent either.
    execute(records, update(deliveries).values(next_at=datetime.now(UTC) - MINUTE))
    assert records.webhooks.outbox.claim(1, MINUTE) == []


# people


def test_nobody_sees_or_deletes_another_s_webhooks(records):
    webhook = hook(records)
    finish(records)
    assert [one.id for one in records.webhooks.seen_by(researcher("ann"))] == [webhook.id]
    assert records.webhooks.seen_by(researcher("bob")) == []
    for attempt in (
        lambda: records.webhooks.delete(webhook.id, researcher("bob")),
        lambda: records.webhooks.deliveries(webhook.id, researcher("bob")),
        lambda: records.webhooks.delete("nothing", researcher("ann")),
        lambda: records.webhooks.deliveries("nothing", researcher("ann")),
    ):
        with pytest.raises(NotFoundError, match="no webhook"):
            attempt()
    assert len(owed(records, webhook)) == 1


def test_the_secret_is_shown_once(records):
    webhook = hook(records)
    assert webhook.secret not in repr(records.webhooks.seen_by(researcher("ann")))
    assert hook(records).secret != webhook.secret


def test_a_user_has_a_number_of_webhooks_at_most(records):
    for _ in range(MOST_WEBHOOKS):
        last = hook(records)
    with pytest.raises(SettingError, match=f"at most {MOST_WEBHOOKS}"):
        hook(records)
    hook(records, user="bob")
    records.webhooks.delete(last.id, researcher("ann"))
    hook(records)


def test_deliveries_come_in_pages_newest_first(records):
    webhook, other = hook(records), hook(records, user="bob")
    run_ids = [finish(records) for _ in range(5)]
    seen, cursor = [], None
    for size in (2, 2, 1):
        page, cursor = records.webhooks.deliveries(webhook.id, researcher("ann"), 2, cursor)
        assert len(page) == size
        seen += [one.run_id for one in page]
    assert cursor is None
    assert seen == run_ids[::-1]
    for wrong in ("nothing", owed(records, other, "bob")[0].id):
        with pytest.raises(NotFoundError, match="cursor"):
            records.webhooks.deliveries(webhook.id, researcher("ann"), 2, wrong)
