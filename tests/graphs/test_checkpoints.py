"""Runs that go on from a checkpoint, and checkpoints that somebody else has written."""

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from threading import Barrier
from zlib import crc32

import ormsgpack
import pytest
from langgraph.checkpoint.serde.jsonplus import EXT_CONSTRUCTOR_POS_ARGS, EXT_CONSTRUCTOR_SINGLE_ARG, EXT_PYDANTIC_V2
from sqlalchemy import text

from factors.errors import DataError, MeasurementError, SettingError
from graphs import checkpoints
from graphs.checkpoints import StrictSerializer, open_checkpoints
from graphs.machine import SuspendedError, mine
from graphs.notebook import Notebook
from graphs.offline import OfflineResearcher
from graphs.researcher import Draft
from storage import schema
from storage.journal import Journal
from storage.records import Records
from storage.runs import FencedError, Quota
from tests.graphs.test_machine import OVERREACTION


@pytest.fixture(params=["sqlite", "postgres"])
def saver(request, tmp_path):
    url = "sqlite://" if request.param == "sqlite" else request.getfixturevalue("postgres")()
    with open_checkpoints(url, tmp_path / "checkpoints.sqlite") as opened:
        yield opened


def stored(saver, run_id):
    return len(list(saver.list({"configurable": {"thread_id": run_id}})))


def checkpoints_of(saver, run_id):
    """Each checkpoint of a run with what its nodes had come to."""
    found = saver.list({"configurable": {"thread_id": run_id}})
    return [(one.checkpoint["id"], one.pending_writes) for one in found]


def told(records, run_id):
    """The events of a run; what only one of two runs that do the same can be is left out."""
    found = []
    for event in records.events(run_id):
        data = event.data
        if event.type == "factor.accepted":
            data = {**data["factor"], "run_id": "", "created_at": ""}
        if event.type != "run.queued":
            found.append((event.type, data))
    return found


def interrupted(bench, records, saver, *, first):
    """The final state of a run that is stopped where it stands again and again, each time somewhat later."""
    for asks in count(first):
        left = iter(range(asks))

        def stop(left=left):
            if next(left, None) is None:
                raise SuspendedError("the process is about to end")
            return False

        # What another process would have: the records alone.
        bench = replace(bench, cancelled=stop, notebook=Notebook.read(records, bench.run.id))
        try:
            return mine(bench, saver)
        except SuspendedError:
            assert stored(saver, bench.run.id) <= 2
    return None


@pytest.mark.parametrize("directions", [1, 2])
def test_a_run_that_is_stopped_anywhere_ends_as_one_that_is_not(bench_of, records, saver, directions):
    budget = {"rounds": 4, "candidates": 3, "directions": directions}
    whole, parts = (bench_of(OfflineResearcher(), **budget) for _ in range(2))
    expected = mine(whole)
    assert interrupted(parts, records, saver, first=1) == expected
    if directions == 1:
        assert told(records, parts.run.id) == told(records, whole.run.id)
    else:
        assert sorted(map(json.dumps, told(records, parts.run.id))) == sorted(
            map(json.dumps, told(records, whole.run.id))
        )


class Failing:
    """A laboratory that cannot do some things when it is first asked, and can when it is asked again."""

    def __init__(self, inner):
        self._inner, self._failed = inner, set()

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def _first(self, *what, share):
        if crc32(str(what).encode()) % share == 0 and what not in self._failed:
            self._failed.add(what)
            raise MeasurementError(f"no {what}")

    def measure(self, formula):
        self._first("measure", str(formula), share=3)
        return self._inner.measure(formula)

    def beside(self, formula, peers):
        self._first("beside", str(formula), share=1)
        return self._inner.beside(formula, peers)


class Knowing(OfflineResearcher):
    """Drafts what is admitted first of all."""

    def draft(self, brief, hypothesis, count):
        known = Draft(name="known", description="d", formula=OVERREACTION)
        return [known, *super().draft(brief, hypothesis, count)][:count]


def test_what_could_not_be_measured_before_a_run_was_cut_off_is_not_measured_afterwards(bench_of, records, saver):
    whole, parts = (bench_of(Knowing(), rounds=3, candidates=4) for _ in range(2))
    whole, parts = (replace(bench, laboratory=Failing(bench.laboratory)) for bench in (whole, parts))
    assert interrupted(parts, records, saver, first=1) == mine(whole)
    expected = told(records, whole.run.id)
    assert told(records, parts.run.id) == expected
    assert {data["step"] for kind, data in expected if kind == "candidate.failed"} == {"measure", "admit"}


class KilledError(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("evaluations", [4, 8])
@pytest.mark.parametrize("method", ["record_trial", "accept_factor"])
def test_a_user_s_last_evaluations_are_the_same_wherever_a_run_is_killed(
    bench_of, records, saver, monkeypatch, evaluations, method
):
    whole = bench_of(Knowing(), rounds=2, candidates=4)
    quota, found, done = Quota(evaluations=evaluations), [], getattr(Journal, method)
    for kill_at in count():
        bench = whole if kill_at == 0 else bench_of(Knowing(), rounds=2, candidates=4)
        user = f"user {kill_at}"
        with records._writing() as connection:
            connection.execute(schema.runs.update().where(schema.runs.c.id == bench.run.id).values(user=user))
        limited = {
            "begin": lambda candidate_id, journal=bench.journal: journal.begin_evaluation(candidate_id, quota),
            "spent": lambda user=user: records.exceeded(user, quota),
        }
        calls, dead = count(1), []

        def killed(self, *arguments, calls=calls, dead=dead, kill_at=kill_at, **keywords):
            if next(calls) == kill_at:
                dead.append(kill_at)
                raise KilledError
            return done(self, *arguments, **keywords)

        monkeypatch.setattr(Journal, method, killed)
        with suppress(KilledError):
            mine(replace(bench, **limited), saver)
        state = mine(replace(bench, notebook=Notebook.read(records, bench.run.id), **limited), saver)
        found.append((state, told(records, bench.run.id)))
        if kill_at > 0 and not dead:
            break
    assert len(found) > 2
    assert all(one == found[0] for one in found)
    assert records.run(whole.run.id).evaluations <= evaluations


def test_what_a_round_had_no_room_for_is_not_measured_after_its_records_began(bench_of, records, saver, monkeypatch):
    """A limit that others had reached holds no more when the run goes on, and the best were being admitted already."""
    bench, record = bench_of(Knowing(), rounds=1, candidates=4), Journal.record_trial

    def measured():
        return [event.data for event in records.events(bench.run.id) if event.type == "candidate.evaluated"]

    def dies(self, **trial):
        record(self, **trial)
        if trial["evaluation"]:
            raise KilledError

    monkeypatch.setattr(Journal, "record_trial", dies)
    with suppress(KilledError):
        mine(replace(bench, spent=lambda: "user_usd" if len(measured()) >= 2 else ""), saver)
    before = measured()
    monkeypatch.setattr(Journal, "record_trial", record)
    mine(replace(bench, notebook=Notebook.read(records, bench.run.id)), saver)
    assert len(before) == 2
    assert measured() == before


def test_a_run_that_has_ended_is_not_begun_again(bench_of, records, saver):
    bench = bench_of(OfflineResearcher(), rounds=1, candidates=2)
    expected = mine(bench, saver)
    events = records.events(bench.run.id)
    assert mine(bench, saver) == expected
    assert records.events(bench.run.id) == events


def test_a_process_that_lost_its_run_leaves_no_checkpoint_behind_those_of_its_successor(bench_of, records, saver):
    bench, stored_then = bench_of(OfflineResearcher(), rounds=2, candidates=2), []

    def taken_over_after(node):
        @contextmanager
        def observed(name):
            yield
            if name == node and not stored_then:
                assert records.queue.claim("other", 1, lambda _: 1, dead=["test"]) == bench.run.id
                stored_then.extend(checkpoints_of(saver, bench.run.id))

        return observed

    with pytest.raises(FencedError):
        mine(replace(bench, observe=taken_over_after("idea")), saver)
    assert len(stored_then) > 0
    assert checkpoints_of(saver, bench.run.id) == stored_then


HOSTILE = [
    (EXT_CONSTRUCTOR_SINGLE_ARG, ("os", "system", "touch {}")),
    (EXT_CONSTRUCTOR_SINGLE_ARG, ("builtins", "exec", "open('{}', 'w')")),
    (EXT_CONSTRUCTOR_POS_ARGS, ("subprocess", "check_call", [["touch", "{}"]])),
    (EXT_CONSTRUCTOR_POS_ARGS, ("os", "mknod", ["{}"])),
    (EXT_PYDANTIC_V2, ("graphs.endpoint", "Endpoint", {"name": "x"}, "model_validate_json")),
]


def poisoned(code, content, target):
    """A msgpack document that has a function called when it is read without a list."""
    text = json.dumps(content).replace("{}", str(target))
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(json.loads(text))))


@pytest.mark.parametrize(("code", "content"), HOSTILE)
def test_a_poisoned_value_is_refused_by_name_and_nothing_is_called(tmp_path, code, content):
    target = tmp_path / "called"
    with pytest.raises(DataError, match=rf"holds {content[0]}\.{content[1]}"):
        StrictSerializer().loads_typed(("msgpack", poisoned(code, content, target)))
    assert not target.exists()


@pytest.mark.parametrize("kind", ["json", "pickle", "bytearray", ""])
def test_a_value_of_another_encoding_is_refused(kind):
    with pytest.raises(DataError, match="is not read"):
        StrictSerializer().loads_typed((kind, b"{}"))


def test_a_run_whose_checkpoint_was_poisoned_fails_before_anything_is_called(bench_of, saver, tmp_path, caplog):
    bench = bench_of(OfflineResearcher(), rounds=2, candidates=2)
    left = iter(range(3))

    def stop():
        if next(left, None) is None:
            raise SuspendedError("the process is about to end")
        return False

    with pytest.raises(SuspendedError):
        mine(replace(bench, cancelled=stop), saver)
    target = tmp_path / "called"
    value = poisoned(*HOSTILE[0], target)
    with saver.conn.connection() if hasattr(saver.conn, "connection") else saver.conn as connection:
        if hasattr(saver.conn, "connection"):
            connection.execute("UPDATE checkpoint_blobs SET type = 'msgpack', blob = %s", (value,))
            connection.execute("UPDATE checkpoint_writes SET type = 'msgpack', blob = %s", (value,))
        else:
            connection.execute("UPDATE checkpoints SET type = 'msgpack', checkpoint = ?", (value,))
    with caplog.at_level(logging.WARNING), pytest.raises(DataError, match=r"holds os\.system"):
        mine(bench, saver)
    assert "os.system" in caplog.text
    assert not target.exists()


def test_checkpoints_are_not_opened_where_they_would_be_read_without_a_list(tmp_path, monkeypatch):
    assert os.environ["LANGGRAPH_STRICT_MSGPACK"] == "true"
    monkeypatch.setattr(checkpoints, "STRICT_MSGPACK_ENABLED", False)
    with pytest.raises(SettingError, match="must not be switched off"), open_checkpoints("sqlite://", tmp_path / "c"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_processes_that_open_the_checkpoints_of_a_new_database_at_once_all_do(postgres, tmp_path):
    url, together = postgres(), Barrier(6)

    def opens(_):
        together.wait()
        with open_checkpoints(url, tmp_path / "none") as saver:
            return stored(saver, "nobody")

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(opens, range(6))) == [0] * 6


def test_a_process_that_falls_silent_within_a_transaction_does_not_keep_its_locks(postgres, tmp_path):
    url, ask = postgres(), "SHOW idle_in_transaction_session_timeout"
    with open_checkpoints(url, tmp_path / "none") as saver, saver.conn.connection() as connection:
        assert connection.execute(ask).fetchone() == {"idle_in_transaction_session_timeout": "10s"}
    with Records.open(url) as records, records._writing() as connection:
        assert connection.execute(text(ask)).scalar_one() == "10s"
