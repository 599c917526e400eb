"""The figures of the records beside a slow count, that they stay cheap, and a database that does not answer."""

import random

import pytest
from sqlalchemy import event, insert, select, text

from storage import schema
from storage.census import UnavailableError
from storage.records import Records
from storage.runs import Allowance, ModelCall, RunRequest

CALL = ModelCall(
    step="s", agent="idea", model="m", template="t", prompt="p", method="json", input_tokens=7, output_tokens=3, usd=0.5
)


def running(records):
    request = RunRequest(direction="gaps", market="cn")
    run_id = records.create_run(request, universe="u", snapshot="s", seed=1, model="m").id
    return records.journal(run_id, "here").start().id


def fill(records, run_id, verdicts):
    """Rows of candidates and evaluations, as they are told apart by the census alone."""
    empty = dict.fromkeys(("hypothesis_id", "hypothesis", "name", "description", "formula"), "")
    rest = {"round": 1, "attempt": 0, "parents": [], "verdict": {}, "admission": []}
    values = [
        {"run_id": run_id, "id": f"c{k}", "position": k, "accepted": verdict == "accepted", **empty, **rest}
        for k, verdict in enumerate(verdicts)
    ]
    measured = [
        {"run_id": run_id, "candidate_id": f"c{k}", "formula": "", "snapshot": "", "universe": "", "horizon": 1}
        | {"splits": {}}
        for k, verdict in enumerate(verdicts)
        if verdict != "refused"
    ]
    with records._writing() as connection:
        connection.execute(insert(schema.candidates), values)
        connection.execute(insert(schema.evaluations), measured)


def test_runs_and_candidates_are_counted_as_a_slow_count_finds_them(records):
    assert records.census.counts().waiting_since is None
    draw = random.Random(3)
    expected = {"refused": 0, "rejected": 0, "accepted": 0}
    for _ in range(3):
        verdicts = draw.choices(list(expected), k=40)
        fill(records, running(records), verdicts)
        for verdict in verdicts:
            expected[verdict] += 1
    runs, _ = records.runs()
    records.journal(runs[0].id, "here").finish("succeeded")
    first = records.create_run(RunRequest(direction="d", market="m"), universe="u", snapshot="s", seed=1, model="m")
    records.create_run(RunRequest(direction="d", market="m"), universe="u", snapshot="s", seed=1, model="m")
    counts = records.census.counts()
    assert {name: getattr(counts, name) for name in expected} == expected
    assert counts.runs == {"queued": 2, "running": 2, "succeeded": 1, "failed": 0, "cancelled": 0}
    assert counts.waiting_since == first.created_at


def test_model_calls_are_counted_when_they_have_ended(records):
    journal = records.journal(running(records), "here")
    for agent, failure, usd in [("idea", None, 0.5), ("idea", None, None), ("judge", "timeout", 0.25), ("idea", "", 0)]:
        call = CALL.model_copy(update={"agent": agent, "usd": usd})
        number = journal.begin_call(call, Allowance())
        if failure != "":  # that one is under way
            journal.end_call(number, call.model_copy(update={"failure": failure}))
    found = [
        (one.agent, one.outcome, one.calls, one.input_tokens, one.output_tokens, one.usd)
        for one in records.census.counts().calls
    ]
    assert found == [("idea", "answered", 2, 14, 6, 0.5), ("judge", "timeout", 1, 7, 3, 0.25)]


def test_runs_that_were_taken_up_are_counted(records):
    run_id = running(records)
    assert records.census.counts().recoveries == 0
    for executor, dead in (("there", {"here"}), ("elsewhere", {"there"})):
        assert records.queue.claim(executor, 1, lambda _: 1.0, dead) == run_id
    assert records.census.counts().recoveries == 2


def test_no_count_reads_a_whole_table(tmp_path):
    """Each is read off an index that holds no text of people's or models'."""
    statements = []
    with Records.open(f"sqlite:///{tmp_path}/records.sqlite") as records:
        event.listen(records._engine, "before_cursor_execute", lambda *told: statements.append(told[2:4]))
        records.census.counts()
        asked = [one for one in statements if one[0].startswith("SELECT")]
        assert len(asked) == 6
        with records._reading() as connection:
            for statement, parameters in asked:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                details = [row.detail for row in plan if row.detail.startswith(("SCAN", "SEARCH"))]
                assert details
                assert all("COVERING INDEX" in one or one.startswith("SEARCH") for one in details), (statement, details)


def test_an_old_schema_is_no_database_to_work_with(records):
    records.census.check()
    with records._writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(UnavailableError, match=r"database: its schema is of revision 0001, and .* is needed"):
        records.census.check()


def test_a_database_that_does_not_answer_is_told_from_a_bug(url):
    with Records.open(url) as records:
        with records._writing() as connection:
            connection.execute(text("DROP TABLE model_calls"))
        with pytest.raises(UnavailableError, match="database: it does not answer"):
            records.census.counts()
        with records._reading() as connection:
            assert connection.scalar(select(schema.runs.c.id)) is None
