"""Rows of DBOS that somebody else has written."""

import base64
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from dbos import DBOS
from dbos._dbos import _get_dbos_instance
from dbos._serialization import DBOSDefaultSerializer, DefaultSerializer
from sqlalchemy import text

from app.engine import machine, run_engine
from app.settings import Settings
from factors.errors import DataError
from storage.engine import connect, reading, writing
from storage.runs import TERMINAL, RunRequest
from tests.processes import until

LONG = RunRequest(direction="gaps", market="small", seed=2, budget={"rounds": 1000, "candidates": 2})


class Calling:
    """Creates a file as it is unpickled."""

    def __init__(self, target):
        self._target = target

    def __reduce__(self):
        return Path.touch, (self._target,)


def poison(target):
    return base64.b64encode(pickle.dumps({"args": (Calling(target),), "kwargs": {}})).decode()


class Workflows:
    """What DBOS keeps of workflows."""

    def __init__(self, settings):
        self._engine = connect(settings.workflows_url)
        self._schema = "" if settings.database_url is None else "dbos."

    def close(self):
        self._engine.dispose()

    def change(self, run_id, table, **columns):
        names = ", ".join(f"{name} = :{name}" for name in columns)
        with writing(self._engine) as connection:
            change = text(f"UPDATE {self._schema}{table} SET {names} WHERE workflow_uuid = :id")
            assert connection.execute(change, {**columns, "id": run_id}).rowcount == 1

    def queues(self):
        with reading(self._engine) as connection:
            return set(connection.execute(text(f"SELECT name FROM {self._schema}queues")).scalars())

    def value(self, run_id, table, column):
        with reading(self._engine) as connection:
            query = text(f"SELECT {column} FROM {self._schema}{table} WHERE workflow_uuid = :id")
            return connection.execute(query, {"id": run_id}).scalar_one()


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request, new_home):
    url = request.getfixturevalue("postgres")() if request.param == "postgres" else None
    return Settings(home=new_home(), database_url=url, concurrency=8)


def left(settings, count):
    """Runs that a process has left where they stood."""
    with run_engine(settings, room=0) as engine:
        runs = [engine.runner.submit(LONG, engine.executor).id for _ in range(count)]
        for run_id in runs:
            engine.work_on(run_id)
        until(lambda: all(engine.runner.records.run(run_id).candidates for run_id in runs))
    return runs


@pytest.fixture
def workflows(settings):
    opened = Workflows(settings)
    yield opened
    opened.close()


def test_a_run_whose_workflow_was_poisoned_fails_before_anything_is_called_and_others_go_on(
    settings, workflows, tmp_path, caplog
):
    named, unnamed, elsewhere, ended, good = left(settings, 5)
    inputs = workflows.value(good, "workflow_input", "inputs")
    assert json.loads(inputs) == {"namedArgs": {}, "positionalArgs": [good]}
    assert workflows.value(good, "workflow_status", "serialization") == "portable_json"
    target = tmp_path / "called"
    pickled = poison(target)
    for run_id in (named, unnamed, elsewhere, good):
        workflows.change(run_id, "workflow_status", status="PENDING")  # as if the process had been killed
    workflows.change(named, "workflow_status", serialization="py_pickle")
    workflows.change(unnamed, "workflow_status", serialization=None)
    workflows.change(ended, "workflow_status", serialization="py_pickle")
    for run_id in (named, unnamed, ended):
        workflows.change(run_id, "workflow_input", inputs=pickled)
    workflows.change(ended, "workflow_output", output=pickled)
    workflows.change(elsewhere, "workflow_input", inputs=inputs)
    with run_engine(settings, room=8) as engine:
        records = engine.runner.records
        until(lambda: all(records.run(run_id).status in TERMINAL for run_id in (named, unnamed, elsewhere)))
        rounds = {run_id: records.run(run_id).rounds for run_id in (ended, good)}
        until(lambda: all(records.run(run_id).rounds > rounds[run_id] for run_id in rounds))
        assert engine.working == {ended, good}
        for run_id in (named, unnamed, elsewhere):
            run = records.run(run_id)
            assert (run.status, run.error) == (
                "failed",
                "the run's workflow is not stored as this version stores it, and is not read",
            )
            assert engine.runner._saver.get({"configurable": {"thread_id": run_id}}) is None
    refused = [record.getMessage() for record in caplog.records if "was refused" in record.getMessage()]
    assert all(any(run_id in line for line in refused) for run_id in (named, unnamed, elsewhere))
    assert not target.exists()


def test_a_run_that_another_version_began_goes_on_from_its_records(settings, workflows):
    older, renamed = left(settings, 2)
    for run_id, columns in ((older, {"application_version": "0"}), (renamed, {"name": "digging"})):
        workflows.change(run_id, "workflow_status", status="PENDING", **columns)
    with run_engine(settings, room=2) as engine:
        records = engine.runner.records
        rounds = {run_id: records.run(run_id).rounds for run_id in (older, renamed)}
        until(lambda: all(records.run(run_id).rounds > rounds[run_id] for run_id in rounds))


def test_the_queue_of_a_dead_process_goes_with_it(settings, workflows):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead = f"{machine()}:{process.pid}:ab"
    with run_engine(settings, room=1) as engine:
        DBOS.register_queue(dead)
        engine.runner.records.queue.beat(dead)
        assert dead in workflows.queues()
        until(lambda: dead not in workflows.queues())
        assert dead not in engine.runner.records.queue.beat(engine.executor)


@pytest.mark.parametrize("serializer", [DefaultSerializer(), DBOSDefaultSerializer])
def test_dbos_cannot_unpickle(serializer, tmp_path):
    target = tmp_path / "called"
    with pytest.raises(DataError, match="as a pickle, which is not read"):
        serializer.deserialize(poison(target))
    assert not target.exists()


def test_sessions_of_dbos_do_not_keep_their_locks_when_they_fall_silent(postgres, new_home):
    with run_engine(Settings(home=new_home(), database_url=postgres()), room=0):
        engine = _get_dbos_instance()._sys_db.engine
        with engine.begin() as connection:
            assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one() == "10s"
