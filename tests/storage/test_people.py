"""Tokens, sessions, quotas, requests carried out once, private runs and the audit log, on either database."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from factors.errors import NotFoundError, SettingError
from storage.idempotency import IdempotencyError, Once
from storage.people import digest
from storage.principal import LOCAL, Principal
from storage.records import Records
from storage.runs import Quota, RunRequest, SpentError

ADA, BOB = Principal("ada", "researcher", "t1", "10.0.0.7", "r1"), Principal("bob", "researcher")
ROOT = Principal("root", "admin")


def post(records, by=ADA, *, once=None, quota=None, private=False, direction="gaps"):
    request = RunRequest(direction=direction, market="m", private=private)
    recipe = {"universe": "all", "snapshot": "s", "seed": 1, "model": "offline"}
    return records.create_run(request, **recipe, by=by, once=once, quota=quota)


def once(key="k", direction="gaps"):
    return Once.of(key, "run", RunRequest(direction=direction, market="m"))


def execute(records, statement, **values):
    with records._engine.begin() as connection:
        connection.execute(text(statement), values)


def ago(**duration):
    """A time in UTC, as both databases read it."""
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(**duration)


def count(records, table):
    with records._engine.begin() as connection:
        return connection.scalar(text(f"SELECT count(*) FROM {table}"))


def stored(records):
    """All that tables of people hold, as text."""
    with records._engine.begin() as connection:
        tables = ("tokens", "sessions", "audit", "quotas", "idempotency_keys")
        return " ".join(str(row) for name in tables for row in connection.execute(text(f"SELECT * FROM {name}")))


def at_once(work, times=8):
    """What each of several threads that start together gets, an exception where it raises one."""
    barrier = Barrier(times)

    def one(number):
        barrier.wait()
        try:
            return work(number)
        except (SpentError, IdempotencyError) as error:
            return error

    with ThreadPoolExecutor(times) as threads:
        return list(threads.map(one, range(times)))


# tokens


def test_a_key_shows_whose_it_is_and_is_not_kept(records):
    assert not records.people.has_tokens()
    made = records.people.create_token(ROOT, "ada", "researcher", days=3)
    prefix, public, secret = made.key.split("_", 2)
    assert (prefix, public) == ("alphaagent", made.id)
    assert len(secret) == 43  # 256 bits
    assert made.expires_at - made.created_at == timedelta(days=3)
    assert secret not in stored(records)
    assert hashlib.sha256(secret.encode()).hexdigest() in stored(records)
    found = records.people.authenticate(made.key)
    assert (found.id, found.user, found.role) == (made.id, "ada", "researcher")
    assert records.people.has_tokens()


def test_a_user_may_have_several_tokens_with_roles_of_their_own(records):
    keys = [records.people.create_token(ROOT, "ada", role).key for role in ("viewer", "admin")]
    assert [records.people.authenticate(key).role for key in keys] == ["viewer", "admin"]
    assert len(set(keys)) == 2
    assert [token.role for token in records.people.tokens()] == ["admin", "viewer"]


def test_what_is_no_key_shows_nothing(records, tmp_path):
    made = records.people.create_token(ROOT, "ada", "admin")
    prefix, public, secret = made.key.split("_", 2)
    other = records.people.create_token(ROOT, "bob", "viewer")
    with Records.open(f"sqlite:///{tmp_path}/elsewhere.sqlite") as elsewhere:
        foreign = elsewhere.people.create_token(ROOT, "ada", "admin").key
    flipped = secret[:-2] + ("A" if secret[-2] != "A" else "B") + secret[-1]
    for key in (
        "",
        "alphaagent_",
        public,
        secret,
        f"{prefix}_{public}_",
        f"{prefix}_{public}_{flipped}",
        f"{prefix}_{other.id}_{secret}",
        f"{prefix}_{'0' * 12}_{secret}",
        f"{prefix}_{public}_{hashlib.sha256(secret.encode()).hexdigest()[:43]}",
        f" {made.key}",
        f"{made.key}\n",
        made.key.upper(),
        f"{made.key}\x00",
        foreign,
        f"{prefix}_{public}_{secret[:-1]}\u00e9",
    ):
        assert records.people.authenticate(key) is None, key
    assert records.people.authenticate(made.key)


def test_an_expired_token_shows_nothing(records):
    made = records.people.create_token(ROOT, "ada", "admin", days=1)
    session = records.people.log_in(made.key, None)
    assert records.people.session(session).id == made.id
    execute(
        records, "UPDATE tokens SET expires_at = :at", at=datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=14)
    )
    assert records.people.authenticate(made.key) is None
    assert records.people.session(session) is None
    assert records.people.log_in(made.key, None) is None


def test_a_revoked_token_shows_nothing_and_the_team_is_not_open_again(records, url):
    made = records.people.create_token(ROOT, "ada", "admin")
    session = records.people.log_in(made.key, None)
    records.people.revoke_token(ROOT, made.id)
    first = records.people.tokens()[0].revoked_at
    assert first is not None
    records.people.revoke_token(ROOT, made.id)
    assert records.people.tokens()[0].revoked_at == first
    assert records.people.authenticate(made.key) is None
    assert records.people.session(session) is None
    assert count(records, "sessions") == 0
    with Records.open(url) as restarted:
        assert restarted.people.has_tokens()
    with pytest.raises(NotFoundError):
        records.people.revoke_token(ROOT, "000000000000")


def test_a_token_made_elsewhere_is_noticed_at_once(records, url):
    assert not records.people.has_tokens()
    with Records.open(url) as elsewhere:
        elsewhere.people.create_token(ROOT, "ada", "viewer")
    assert records.people.has_tokens()


def test_the_last_use_is_known_to_the_minute(records):
    made = records.people.create_token(ROOT, "ada", "viewer")
    assert records.people.tokens()[0].used_at is None
    records.people.authenticate(made.key)
    first = records.people.tokens()[0].used_at
    assert datetime.now(UTC) - first < timedelta(minutes=1)
    records.people.authenticate(made.key)
    assert records.people.tokens()[0].used_at == first
    execute(records, "UPDATE tokens SET used_at = :at", at=ago(days=2))
    records.people.session(records.people.log_in(made.key, None))
    assert records.people.tokens()[0].used_at > first


# sessions


def test_a_session_is_known_by_its_hash_and_ends(records):
    made = records.people.create_token(ROOT, "ada", "viewer")
    session, other = (records.people.log_in(made.key, "10.0.0.7", "r1") for _ in range(2))
    assert session not in stored(records)
    assert records.people.session(session).user == "ada"
    records.people.log_out(ADA, session)
    assert records.people.session(session) is None
    assert records.people.session(other)
    execute(records, "UPDATE sessions SET expires_at = :at", at=ago(hours=14))
    assert records.people.session(other) is None
    records.people.log_in(made.key, None)
    assert count(records, "sessions") == 1  # what has ended is swept


def test_what_was_shown_lasts_as_long_as_its_session_and_its_token(records):
    assert records.people.lasts(LOCAL)
    made = records.people.create_token(ROOT, "ada", "viewer")
    by_key = Principal("ada", "viewer", made.id)
    first, second = (records.people.log_in(made.key, None) for _ in range(2))
    one, other = (replace(by_key, session=digest(session)) for session in (first, second))

    def lasting():
        return [records.people.lasts(by) for by in (LOCAL, by_key, one, other)]

    assert lasting() == [False, True, True, True]
    records.people.log_out(ADA, first)
    assert lasting() == [False, True, False, True]
    execute(records, "UPDATE sessions SET expires_at = :at", at=ago(hours=14))
    assert lasting() == [False, True, False, False]
    records.people.revoke_token(ROOT, made.id)
    assert lasting() == [False, False, False, False]


# requests carried out once


def test_the_same_request_is_the_same_run(records):
    run = post(records, once=once())
    assert post(records, once=once()) == run
    assert post(records, BOB, once=once()).id != run.id  # a key is its user's
    assert post(records, once=once("other")).id != run.id
    assert post(records).id != run.id
    with pytest.raises(IdempotencyError):
        post(records, once=once(direction="volume"), direction="volume")
    assert count(records, "runs") == 4


def test_the_same_request_at_once_creates_one_run(records):
    found = at_once(lambda _: post(records, once=once()).id)
    assert len(set(found)) == 1
    assert count(records, "runs") == count(records, "idempotency_keys") == 1
    assert [entry.act for entry in records.audit.page()[0]] == ["run.submitted"]


def test_a_refused_request_may_be_sent_again(records):
    with pytest.raises(SpentError):
        post(records, once=once(), quota=Quota(queued_runs=0))
    assert count(records, "runs") == count(records, "idempotency_keys") == count(records, "audit") == 0
    assert post(records, once=once(), quota=Quota(queued_runs=1))


def test_keys_are_kept_for_a_day_at_least_and_not_for_ever(records):
    run = post(records, once=once())
    for hours, known in ((25, True), (72, False)):
        execute(records, "UPDATE idempotency_keys SET created_at = :at", at=ago(hours=hours))
        post(records, once=once(f"after {hours}"))
        assert (records.people.earlier(ADA, once()) == run.id) is known


# quotas


def test_queued_runs_at_once_are_no_more_than_the_quota(records):
    found = at_once(lambda _: post(records, quota=Quota(queued_runs=3)))
    refused = [one for one in found if isinstance(one, SpentError)]
    assert len(refused) == 5
    assert count(records, "runs") == 3
    assert {one.limit for one in refused} == {"user_queued_runs"}
    assert post(records, BOB, quota=Quota(queued_runs=3))


def test_room_in_the_queue_comes_back_when_a_run_ends_at_the_latest(records):
    quota = Quota(queued_runs=1)
    first = post(records, quota=quota)
    with pytest.raises(SpentError) as waiting:
        post(records, quota=quota)
    assert waiting.value.retry_after == 60
    journal = records.journal(first.id, "host")
    journal.start()
    journal.work(50.0)
    post(records, quota=quota)
    with pytest.raises(SpentError) as working:
        post(records, quota=quota)
    assert working.value.retry_after == first.budget.seconds - 50


def test_evaluations_at_once_are_no_more_than_the_day_s(records):
    quota = Quota(evaluations=3)
    found = at_once(lambda _: records.people.ask_evaluation(ADA, "s", quota))
    refused = [one for one in found if isinstance(one, SpentError)]
    assert len(refused) == 5
    assert {one.limit for one in refused} == {"user_evaluations"}
    assert all(86_400 - 60 <= one.retry_after <= 86_400 for one in refused)
    assert records.people.ask_evaluation(BOB, "s", quota) == "s"
    assert records.exceeded("ada", quota) == "user_evaluations"
    assert records.left("ada", Quota(evaluations=5), "evaluations") == 2.0
    with pytest.raises(SpentError):  # asked for without a run or within one: it is one day
        post(records, quota=quota)


def test_an_evaluation_sent_again_counts_once(records):
    quota = Quota(evaluations=1)
    assert records.people.ask_evaluation(ADA, "first", quota, once()) == "first"
    assert records.people.ask_evaluation(ADA, "second", quota, once()) == "first"
    with pytest.raises(SpentError):
        records.people.ask_evaluation(ADA, "second", quota, once("other"))


def test_an_admin_s_quota_stands_in_for_the_server_s(records):
    defaults = Quota(queued_runs=7, usd=2.0)
    assert records.people.quota("ada", defaults) == defaults
    records.people.set_quota(ROOT, "ada", Quota(queued_runs=1, evaluations=9))
    assert records.people.quota("ada", defaults) == defaults.model_copy(update={"queued_runs": 1, "evaluations": 9})
    assert records.people.quota("bob", defaults) == defaults
    records.people.set_quota(ROOT, "ada", Quota(usd=None))
    assert records.people.quota("ada", defaults) == defaults.model_copy(update={"usd": None})
    records.people.set_quota(ROOT, "ada", Quota())
    assert records.people.quota("ada", defaults) == defaults
    with pytest.raises(ValidationError):
        Quota(streams=-1)


# private runs


def test_a_private_run_is_its_owner_s_and_admins(records):
    hidden, shown = post(records, private=True), post(records, BOB)
    assert hidden.private
    assert not shown.private
    for who, seen in ((ADA, {hidden, shown}), (BOB, {shown}), (ROOT, {hidden, shown}), (LOCAL, {hidden, shown})):
        assert {run.id for run in records.runs(seen_by=who)[0]} == {run.id for run in seen}
        assert [who.sees(run) for run in (hidden, shown)] == [run in seen for run in (hidden, shown)]
    with pytest.raises(NotFoundError):
        records.runs(cursor=hidden.id, seen_by=BOB)
    assert records.runs(cursor=shown.id, seen_by=ADA)[0] == [hidden]


def test_a_run_does_not_find_out_that_somebody_has_mined_the_same_in_private(records):
    hidden = post(records, private=True)
    journal = records.journal(hidden.id, "host")
    journal.start()
    journal.finish("succeeded")
    assert records.first_like(post(records, BOB)) is None
    assert records.first_like(post(records, ADA)).id == hidden.id


# the audit log


def test_the_log_tells_who_did_what(records):
    made = records.people.create_token(ROOT, "ada", "researcher")
    session = records.people.log_in(made.key, "10.0.0.7", "r1")
    assert records.people.log_in(f"alphaagent_{made.id}_{'x' * 43}", "10.0.0.9") is None
    assert records.people.log_in("nonsense", "10.0.0.9") is None
    run = post(records)
    records.queue.cancel(run.id, BOB)
    records.people.ask_evaluation(ADA, "s", Quota())
    records.people.set_quota(ROOT, "ada", Quota(streams=1))
    records.people.log_out(ADA, session)
    records.people.revoke_token(ROOT, made.id)
    entries = records.audit.page()[0]
    told = [(one.user, one.token, one.act, one.subject, one.client, one.request_id) for one in reversed(entries)]
    assert told == [
        ("root", None, "token.created", made.id, None, None),
        ("ada", made.id, "login", "session", "10.0.0.7", "r1"),
        ("", made.id, "login.failed", "session", "10.0.0.9", None),
        ("", None, "login.failed", "session", "10.0.0.9", None),
        ("ada", "t1", "run.submitted", run.id, "10.0.0.7", "r1"),
        ("bob", None, "run.cancelled", run.id, None, None),
        ("ada", "t1", "evaluation.asked", "s", "10.0.0.7", "r1"),
        ("root", None, "quota.set", "ada", None, None),
        ("ada", "t1", "logout", "session", "10.0.0.7", "r1"),
        ("root", None, "token.revoked", made.id, None, None),
    ]
    first, cursor = records.audit.page(2)
    assert [*first, *records.audit.page(200, cursor)[0]] == entries
    assert made.key not in stored(records)
    with pytest.raises(NotFoundError):
        records.audit.page(cursor="nope")


@pytest.mark.parametrize("statement", ["UPDATE audit SET act = 'login'", "DELETE FROM audit"])
def test_the_log_cannot_be_changed(records, statement):
    post(records)
    before = records.audit.page()
    with pytest.raises(DatabaseError, match="audit can only be added to"):
        execute(records, statement)
    assert records.audit.page() == before


def test_a_text_that_a_database_does_not_take_is_its_sender_s_mistake(records):
    for ask in (records.run, records.factor, lambda name: records.people.revoke_token(ROOT, name)):
        with pytest.raises((NotFoundError, SettingError)):
            ask("a\x00b")
