"""Which run is worked on next and by whom, and what an executor that was given up can still write."""

import threading
from itertools import count

import pytest

from factors.errors import NotFoundError
from storage.principal import LOCAL, Principal
from storage.queue import MOST_DEATHS
from storage.records import Records
from storage.runs import FencedError, RunRequest, RunStateError

_SEEDS = count(1)


@pytest.fixture
def post(records):
    """Queue a run: ``post("ada")``."""

    def create(user, executor=None):
        request = RunRequest(direction="d", market="m")
        return records.create_run(
            request,
            universe="u",
            snapshot="s",
            seed=next(_SEEDS),
            model="offline",
            by=Principal(user, "researcher"),
            executor=executor,
        ).id

    return create


def unlimited(_):
    return float("inf")


def claims(records, room=100, runs_of=unlimited, dead=(), executor="a"):
    """Ids of all runs that an executor can claim now, in order."""
    found = []
    while (run_id := records.queue.claim(executor, room, runs_of, dead)) is not None:
        found.append(run_id)
    return found


def types(records, run_id):
    return [event.type for event in records.events(run_id)]


def test_runs_of_one_user_start_in_the_order_in_which_they_were_posted(records, post):
    posted = [post("ada") for _ in range(4)]
    assert [records.run(one).position for one in posted] == [1, 2, 3, 4]
    assert claims(records) == posted
    assert {records.run(one).status for one in posted} == {"running"}
    assert [records.run(one).position for one in posted] == [None] * 4


def test_a_user_with_many_runs_does_not_keep_others_waiting(records, post):
    ada = [post("ada") for _ in range(5)]
    bob = [post("bob") for _ in range(2)]
    eve = post("eve")
    order = [ada[0], bob[0], eve, ada[1], bob[1], *ada[2:]]
    assert sorted([*ada, *bob, eve], key=lambda one: records.run(one).position) == order
    assert claims(records, room=3) == order[:3]
    assert [records.run(one).position for one in (ada[1], bob[1])] == [1, 2]
    late = post("eve")
    assert records.run(late).position == 3


def test_an_executor_has_room_and_a_user_a_limit(records, post):
    ada, bob = [post("ada") for _ in range(4)], [post("bob") for _ in range(4)]
    limit = {"ada": 1, "bob": 2}.__getitem__
    assert claims(records, room=2, runs_of=limit) == [ada[0], bob[0]]
    assert claims(records, room=9, runs_of=limit, executor="b") == [bob[1]]
    records.journal(ada[0], "a").finish("succeeded")
    assert claims(records, room=2, runs_of=limit) == [ada[1]]


def test_a_run_that_waits_for_one_executor_is_nobody_else_s(records, post):
    own = post("ada", executor="mine")
    assert records.run(own).position is None
    assert claims(records) == []
    assert records.journal(own, "mine").start().status == "running"


def test_runs_of_the_dead_are_claimed_first_and_go_on(records, post):
    begun, waiting = post("ada"), post("ada")
    assert claims(records, room=1, executor="old") == [begun]
    reserved = post("bob", executor="old")
    assert claims(records, room=1, dead={"old"}, executor="new") == [begun]
    assert types(records, begun) == ["run.queued", "run.started", "run.resumed"]
    assert records.run(begun).status == "running"
    assert claims(records, dead={"old"}, executor="new") == [reserved, waiting]


def test_a_run_that_kills_whoever_takes_it_up_is_given_up(records, post):
    deadly, other = post("ada"), post("bob")
    claims(records, room=1, executor="0")
    for k in range(MOST_DEATHS):
        assert claims(records, room=1, dead={str(k)}, executor=str(k + 1)) == [deadly]
        if k == 0:
            records.journal(deadly, "1").append("alphas.ranked", {"alphas": 1})  # it got on: the count begins anew
    last = str(MOST_DEATHS)
    assert claims(records, room=1, dead={last}, executor="next") == [deadly]
    assert claims(records, room=1, dead={"next"}, executor="last") == [other]
    run = records.run(deadly)
    assert (run.status, run.error) == ("failed", f"{MOST_DEATHS} processes died one after the other of it")


def test_a_run_that_processes_were_stopped_at_is_not_given_up(records, post):
    run_id = post("ada")
    claims(records, executor="0")
    for k in range(2 * MOST_DEATHS):
        records.queue.leave(str(k))
        assert claims(records, executor=str(k + 1)) == [run_id]
    assert records.run(run_id).status == "running"


def test_what_an_executor_leaves_is_claimed_by_the_next(records, post):
    begun, reserved = post("ada"), post("ada", executor="a")
    assert records.queue.beat("a") == {"a": 1}
    assert claims(records) == [begun]
    records.queue.leave("a")
    assert records.queue.beat("b") == {"b": 1}
    assert claims(records, executor="b") == [begun, reserved]


def test_an_executor_that_was_given_up_writes_nothing_any_more(records, post):
    run_id = post("ada")
    claims(records, executor="old")
    old, new = records.journal(run_id, "old"), records.journal(run_id, "new")
    old.append("alphas.ranked", {"alphas": 1})
    claims(records, dead={"old"}, executor="new")
    told = types(records, run_id)
    for step in (
        lambda: old.append("alphas.ranked", {"alphas": 2}),
        lambda: old.work(5.0),
        lambda: old.finish("succeeded"),
    ):
        with pytest.raises(FencedError, match=r"is new's now, not old's"):
            step()
    assert types(records, run_id) == told
    new.work(2.5)
    assert new.finish("succeeded", seconds=1.0).seconds == 3.5
    with pytest.raises(RunStateError, match="has succeeded"):
        new.work(1.0)


def test_an_event_with_a_key_is_told_once(records, post):
    run_id = post("ada")
    claims(records)
    journal = records.journal(run_id, "a")
    for alphas in (1, 2):
        journal.append("alphas.ranked", {"alphas": alphas}, "ranked")
        journal.append("alphas.ranked", {"alphas": alphas}, "other" if alphas == 1 else None)
    told = [event.data["alphas"] for event in records.events(run_id) if event.type == "alphas.ranked"]
    assert told == [1, 1, 2]


def test_a_waiting_run_is_cancelled_at_once_and_a_running_one_is_asked(records, post):
    running, waiting = post("ada"), post("ada")
    claims(records, room=1)
    assert records.queue.cancel(waiting, LOCAL).status == "cancelled"
    assert types(records, waiting) == ["run.queued", "run.cancelled"]
    assert records.queue.cancel(running, LOCAL).status == "running"
    assert records.queue.cancelling("a") == {running}
    assert records.queue.cancelling("b") == set()
    for ended in (waiting, records.journal(running, "a").finish("cancelled").id):
        with pytest.raises(RunStateError):
            records.queue.cancel(ended, LOCAL)
    with pytest.raises(NotFoundError):
        records.queue.cancel("ghost", LOCAL)
    assert records.queue.cancelling("a") == set()


def test_the_hearts_of_those_who_left_no_runs_are_forgotten(records, post):
    for name in ("gone", "held"):
        records.queue.beat(name)
    post("ada", executor="held")
    assert records.queue.beat("held") == {"gone": 1, "held": 2}
    records.queue.forget({"gone", "held"})
    assert records.queue.beat("new") == {"held": 2, "new": 1}
    assert records.queue.owners() == {"held"}


def test_executors_that_claim_at_once_share_the_runs_and_keep_to_the_limit(url, records, post):
    posted = {post(user) for user in ("ada", "bob", "eve") for _ in range(6)}
    found, start = {}, threading.Barrier(4)

    def work(name):
        with Records.open(url) as own:
            start.wait()
            found[name] = claims(own, room=9, runs_of=lambda _: 4, executor=name)

    threads = [threading.Thread(target=work, args=(f"executor {k}",)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claimed = [run_id for ids in found.values() for run_id in ids]
    assert len(claimed) == len(set(claimed)) == 12
    assert set(claimed) < posted
    users = [records.run(one).user for one in claimed]
    assert sorted(users) == ["ada"] * 4 + ["bob"] * 4 + ["eve"] * 4
