"""What the engine removes by itself, also what killed processes have left, while it goes on with its work."""

import sqlite3
import threading
import time
from contextlib import closing
from datetime import timedelta

import pytest
from dbos import DBOS

from app import engine as engines
from app.engine import WORKFLOW, run_engine
from app.runner import Runner
from app.settings import Settings
from storage.engine import connect, reading
from storage.retention import Pruner, Retention
from storage.runs import TERMINAL, RunRequest
from tests.processes import until

SHORT = {"direction": "gaps", "market": "small", "seed": 2, "budget": {"rounds": 1, "candidates": 2}}
NOW = timedelta(0)
TOLD = ("run.queued", "run.started", "run.succeeded", "candidate.judged", "round.completed")


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request, new_home):
    url = request.getfixturevalue("postgres")() if request.param == "postgres" else None
    return Settings(home=new_home(), database_url=url)


def work(engine, **request):
    """A run that this engine works on."""
    run = engine.runner.submit(RunRequest.model_validate(SHORT | request), engine.executor)
    engine.work_on(run.id)
    return run.id


def mined(engine, **request):
    """A run that has ended, and whose workflow has."""
    run_id = work(engine, **request)
    until(lambda: engine.runner.records.run(run_id).status in TERMINAL and run_id not in engine.working)
    return run_id


def left(settings, run_id):
    """What is left of the work on a run, by table."""
    url = settings.database_url
    if url is None:
        places = {"checkpoints": settings.checkpoints_file, "dbos": settings.home / "dbos.sqlite"}
    found = {}
    for table, key in (("checkpoints", "thread_id"), ("writes", "thread_id"), ("workflow_status", "workflow_uuid")):
        query = f"SELECT count(*) FROM {table} WHERE {key} = '{run_id}'"
        if url is None:
            place = places["dbos" if table == "workflow_status" else "checkpoints"]
            with closing(sqlite3.connect(place)) as connection:
                [(found[table],)] = connection.execute(query)
        else:
            name = {"writes": "checkpoint_writes", "workflow_status": "dbos.workflow_status"}.get(table, table)
            engine = connect(url)
            with reading(engine) as connection:
                found[table] = connection.exec_driver_sql(query.replace(f"FROM {table}", f"FROM {name}")).scalar_one()
            engine.dispose()
    return found


def test_what_is_left_of_runs_that_have_ended_is_swept_away(settings, monkeypatch):
    with run_engine(settings, room=0) as engine:
        monkeypatch.setattr(Runner, "forget", lambda *_: None)  # as if the process were killed before it
        cut_off = mined(engine)
        monkeypatch.undo()
        whole = mined(engine)
        going = work(engine, budget={"rounds": 1000})
        assert left(settings, cut_off)["checkpoints"] > 0
        assert left(settings, whole) == {"checkpoints": 0, "writes": 0, "workflow_status": 1}
        until(lambda: left(settings, going)["checkpoints"])
        engine.sweep()
        assert left(settings, cut_off)["workflow_status"] == 1  # as its end may not have been told to DBOS yet
        engine.sweep(NOW)
        for run_id in (cut_off, whole):
            assert left(settings, run_id) == dict.fromkeys(left(settings, run_id), 0)
        assert min(left(settings, going)[table] for table in ("checkpoints", "workflow_status")) > 0
        assert {one.workflow_id for one in DBOS.list_workflows(name=WORKFLOW)} == {going}


def test_more_than_one_batch_is_swept_away(new_home, monkeypatch):
    monkeypatch.setattr(engines, "_BATCH", 2)
    with run_engine(Settings(home=new_home()), room=0) as engine:
        for seed in range(3):
            mined(engine, seed=seed)
        engine.sweep(NOW)
        assert DBOS.list_workflows(name=WORKFLOW) == []


def test_old_events_are_removed_without_anybody_asking(new_home, monkeypatch):
    settings = Settings(home=new_home(), retention=Retention(days=0))
    with run_engine(settings, room=0) as engine:
        run_id = mined(engine)
        assert engine.runner.records.run(run_id).rounds == 1
    with run_engine(settings, room=0) as engine:
        records = engine.runner.records
        kept = ["run.queued", "run.started", "run.succeeded"]
        until(lambda: [event.type for event in records.all_events(run_id, TOLD)] == kept)
        assert records.run(run_id).rounds == 1
    monkeypatch.setattr(engines, "SWEEP_SECONDS", 0.05)
    with run_engine(settings, room=0) as engine:
        run_id = mined(engine)
        until(lambda: len(engine.runner.records.all_events(run_id, TOLD)) == 3)


def test_a_long_removal_does_not_keep_the_heart_from_beating(new_home, monkeypatch):
    monkeypatch.setattr(engines, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(engines, "POLL_SECONDS", 0.05)
    begun, stopped = threading.Event(), []

    def prune(_, __, stop):
        begun.set()
        while not stop():
            time.sleep(0.01)
        stopped.append(True)
        return []

    monkeypatch.setattr(Pruner, "prune", prune)
    with run_engine(Settings(home=new_home()), room=0) as engine:
        begun.wait()

        def beats():
            return engine._queue.beat("another")[engine.executor]

        before = beats()
        until(lambda: beats() >= before + 3)
        assert not stopped
    assert stopped == [True]  # and it does not hold up the end


def test_processes_that_come_and_go_leave_no_queues(new_home):
    settings = Settings(home=new_home())
    with run_engine(settings, room=0) as engine:
        mined(engine)
    with closing(sqlite3.connect(settings.home / "dbos.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM queues").fetchone() == (0,)
