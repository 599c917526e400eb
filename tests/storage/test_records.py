import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Barrier
from uuid import UUID

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError, IntegrityError, StatementError

from factors.alphas import Alpha
from factors.errors import NotFoundError, SettingError
from factors.evaluation import Evaluation, SplitMetrics
from factors.hypothesis import Candidate, Factor, Hypothesis, factor_id
from factors.parse import parse
from factors.regularization import Limits
from factors.verdict import Check, Verdict
from storage.principal import LOCAL, Principal
from storage.runs import (
    Allowance,
    Budget,
    FencedError,
    ModelCall,
    Quota,
    RunRequest,
    RunStateError,
    SpentError,
)

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
APPEND = """
import sys
from storage.records import Records
with Records.open(sys.argv[1]) as records:
    for number in range(50):
        records.journal(sys.argv[2], "host-1").append("candidate.drafted", {"writer": sys.argv[3], "number": number})
"""


def queue(records, direction="momentum after volume shocks", *, seed=7, user="ada", **request):
    return records.create_run(
        RunRequest(direction=direction, market="cn", **request),
        universe="csi300",
        snapshot="s1",
        seed=seed,
        model="offline",
        by=Principal(user, "researcher"),
    )


def start(records, **kwargs):
    return records.journal(queue(records, **kwargs).id, "host-1").start()


def journal(records, run):
    return records.journal(run.id, "host-1")


def aged(records, run, column, **duration):
    """Move a time of a run into the past."""
    at = datetime.now(UTC).replace(tzinfo=None) - timedelta(**duration)
    with records._engine.begin() as connection:
        connection.execute(text(f"UPDATE runs SET {column} = :at WHERE id = :id"), {"at": at, "id": run.id})


def accept(records, found):
    return records.journal(found.run_id, "host-1").accept_factor(found)


def metrics(ic=0.03):
    return SplitMetrics(
        days=240,
        coverage=0.98,
        ic=ic,
        icir=0.2,
        rank_ic=0.04,
        rank_icir=0.3,
        t_stat=2.5,
        rank_t_stat=3.1,
        hit_rate=0.55,
        turnover=None,
    )


def factor(run, formula="RANK($close)", at=NOON, market="cn"):
    return Factor(
        id=factor_id(market, parse(formula)),
        market=market,
        name="close rank",
        description="the rank of the close",
        formula=formula,
        hypothesis="dear stocks stay dear",
        run_id=run.id,
        snapshot="s1",
        universe="csi300",
        horizon=1,
        penalty=0.25,
        splits={"train": metrics(), "valid": metrics(None)},
        created_at=at,
    )


def trial(name="c1", *, evaluated=True, passed=True, value=0.1, ic=0.03):
    evaluation = Evaluation(
        candidate_id=name,
        formula="RANK($close)",
        snapshot="s1",
        universe="csi300",
        horizon=1,
        splits={"train": metrics(ic)},
    )
    return {
        "round": 2,
        "hypothesis": Hypothesis(
            id="h1",
            statement="dear stocks stay dear",
            observation="o",
            knowledge="k",
            justification="j",
            specification="s",
            horizon_days=5,
        ),
        "candidate": Candidate(
            id=name,
            hypothesis_id="h1",
            name="close rank",
            description="d",
            formula="RANK($close)",
            attempt=1,
            parents=("c0",),
        ),
        "verdict": Verdict(
            candidate_id=name,
            checks=(Check(name="originality", value=value, limit=0.9, passed=evaluated, hint="é\n"),),
            penalty=0.5,
        ),
        "evaluation": evaluation if evaluated else None,
        "admission": (Check(name="rank_ic", value=0.04, limit=0.02, passed=passed),) if evaluated else (),
    }


def types(records, run):
    return [event.type for event in records.events(run.id)]


def count(records, table):
    with records._reading() as connection:
        return connection.scalar(text(f"SELECT count(*) FROM {table}"))


def refuse_events(records):
    with records._writing() as connection:
        if connection.dialect.name == "sqlite":
            refusal = "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        else:
            refusal = 'ALTER TABLE events ADD CONSTRAINT "disk full" CHECK (false) NOT VALID'
        connection.execute(text(refusal))


def pages(read, limit):
    """Every item of every page, and the length of each page."""
    items, lengths, cursor = [], [], None
    while True:
        found, cursor = read(limit, cursor)
        items += found
        lengths.append(len(found))
        if cursor is None:
            return items, lengths


# Runs


def test_a_queued_run_reads_back_as_it_was_asked_for(records):
    before = datetime.now(UTC)
    budget = Budget(rounds=3, seconds=60)
    run = queue(records, "  reversal \n", budget=budget)
    assert (run.status, run.direction, run.market, run.universe) == ("queued", "reversal", "cn", "csi300")
    assert (run.snapshot, run.seed, run.model, run.budget) == ("s1", 7, "offline", budget)
    assert (run.started_at, run.finished_at, run.error) == (None, None, None)
    assert (run.accepted, run.rounds, run.evaluations) == ((), 0, 0)
    assert before <= run.created_at <= datetime.now(UTC)
    assert run.created_at.utcoffset() == timedelta(0)
    assert UUID(run.id).version == 7
    assert records.run(run.id) == run
    [event] = records.events(run.id)
    assert (event.type, event.seq, event.data["seed"]) == ("run.queued", 1, 7)
    assert Budget.model_validate(event.data["budget"]) == budget


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_run_ends_with_its_terminal_event(records, status):
    run = start(records)
    assert (run.status, run.finished_at) == ("running", None)
    assert run.created_at <= run.started_at
    accept(records, factor(run))
    ended = journal(records, run).finish(status, "why")
    assert (ended.status, ended.error, records.run(run.id)) == (status, "why", ended)
    assert ended.started_at <= ended.finished_at
    last = records.events(run.id)[-1]
    told = {"accepted": 1, "error": "why", "reason": None, "limit": None}
    assert (last.type, last.data) == (f"run.{status}", told)


def test_a_queued_run_can_be_cancelled_but_not_succeed(records):
    run = queue(records)
    with pytest.raises(RunStateError, match="nobody's"):
        journal(records, run).finish("succeeded")
    assert records.queue.cancel(run.id, LOCAL).status == "cancelled"
    assert types(records, run) == ["run.queued", "run.cancelled"]


def test_illegal_steps_are_refused_and_change_nothing(records):
    run = start(records)
    with pytest.raises(RunStateError, match="running: only a queued run can start"):
        records.journal(run.id, "host-2").start()
    accept(records, factor(run))
    ended = journal(records, run).finish("succeeded")
    told = records.events(run.id)
    for step in (
        lambda: journal(records, run).finish("failed", "late"),
        lambda: records.journal(run.id, "host-2").start(),
        lambda: journal(records, run).append("round.completed", {}),
        lambda: journal(records, run).record_trial(**trial()),
        lambda: accept(records, factor(run, "$open")),
        lambda: accept(records, factor(run)),
    ):
        with pytest.raises(RunStateError, match="succeeded"):
            step()
    assert records.run(run.id) == ended
    assert records.events(run.id) == told
    assert (count(records, "candidates"), count(records, "factors")) == (0, 1)


def test_only_one_of_many_may_end_a_run(records):
    run = start(records)
    barrier = Barrier(6)

    def end(_):
        barrier.wait()
        try:
            return journal(records, run).finish("cancelled") and 1
        except RunStateError:
            return 0

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(end, range(6))) == 1
    assert types(records, run) == ["run.queued", "run.started", "run.cancelled"]


def test_an_unknown_id_is_not_found(records):
    ghost = queue(records).model_copy(update={"id": "ghost"})
    for step in (
        lambda: records.run("ghost"),
        lambda: records.journal("ghost", "host-1").start(),
        lambda: records.journal("ghost", "host-1").finish("failed"),
        lambda: records.journal("ghost", "host-1").append("round.completed", {}),
        lambda: records.events("ghost"),
        lambda: records.candidates("ghost"),
        lambda: records.journal("ghost", "host-1").record_trial(**trial()),
        lambda: accept(records, factor(ghost)),
        lambda: records.factor("ghost"),
        lambda: records.runs(cursor="ghost"),
        lambda: records.factors(cursor="ghost"),
    ):
        with pytest.raises(NotFoundError):
            step()
    assert (count(records, "runs"), count(records, "events")) == (1, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"direction": "  "},
        {"direction": "x" * 2001},
        {"seed": -1},
        {"seed": 2**31},
        {"budget": {"rounds": 0}},
        {"budget": {"candidates": 65}},
        {"budget": {"attempts": 11}},
        {"budget": {"evaluations": 100_001}},
        {"budget": {"seconds": 86_401}},
        {"budget": {"tokens": 1}},
        {"user": "me"},
    ],
)
def test_a_request_outside_its_bounds_is_invalid(wrong):
    with pytest.raises(ValidationError):
        RunRequest.model_validate({"direction": "d", "market": "cn"} | wrong)


def test_a_status_that_is_none_cannot_be_stored(records):
    run = queue(records)
    with pytest.raises(IntegrityError), records._writing() as connection:
        connection.execute(text("UPDATE runs SET status = 'paused'"))
    assert records.run(run.id) == run


# Transactions


def test_a_step_whose_event_cannot_be_written_is_not_taken(records):
    waiting, run = queue(records), start(records)
    refuse_events(records)
    for step in (
        lambda: queue(records),
        lambda: journal(records, waiting).start(),
        lambda: journal(records, run).finish("failed"),
        lambda: accept(records, factor(run)),
    ):
        with pytest.raises(IntegrityError, match="disk full"):
            step()
    assert records.runs()[0] == [run, waiting]
    assert (count(records, "factors"), count(records, "run_factors")) == (0, 0)


def test_a_trial_whose_evaluation_is_another_candidates_leaves_nothing(records):
    run = start(records)
    mixed = trial("c1") | {"evaluation": trial("c2")["evaluation"]}
    with pytest.raises(IntegrityError):
        journal(records, run).record_trial(**mixed)
    assert (count(records, "candidates"), count(records, "evaluations")) == (0, 0)


def test_a_factor_without_a_time_zone_leaves_nothing(records):
    run = start(records)
    with pytest.raises(StatementError, match="time zone"):
        accept(records, factor(run, at=NOON.replace(tzinfo=None)))
    assert (count(records, "factors"), records.run(run.id)) == (0, run)


# Events


def test_events_read_on_from_any_point(records):
    run = start(records)
    for n in range(5):
        journal(records, run).append("candidate.drafted", {"n": n})
    added = records.events(run.id)[2:]
    assert [event.data["n"] for event in added] == list(range(5))
    assert [event.seq for event in added] == [3, 4, 5, 6, 7]
    assert records.events(run.id, after=2) == added
    assert records.events(run.id, after=3, limit=2) == added[1:3]
    assert records.events(run.id, after=7) == []


def test_what_an_event_tells_reads_back_as_plain_values(records):
    run = start(records)
    check = Check(name="t", value=float("nan"), limit=float("inf"), passed=False)
    data = {"pair": (1, 2), "check": check, "text": "因子 \U0001f4c8", "at": NOON}
    journal(records, run).append("candidate.judged", data)
    [event] = records.events(run.id, after=2)
    assert event.data == {
        "pair": [1, 2],
        "check": {"name": "t", "value": "NaN", "limit": "Infinity", "passed": False, "hint": ""},
        "text": "因子 \U0001f4c8",
        "at": "2026-03-01T12:00:00Z",
    }


def test_data_that_is_not_json_leaves_no_gap(records):
    run = start(records)
    with pytest.raises((StatementError, PydanticSerializationError)):
        journal(records, run).append("candidate.drafted", {"thing": object()})
    with pytest.raises(ValidationError):
        journal(records, run).append("candidate.forgotten", {})
    journal(records, run).append("candidate.drafted", {})
    assert [event.seq for event in records.events(run.id)] == [1, 2, 3]


@pytest.mark.parametrize("kind", ["run.started", "run.succeeded", "factor.accepted"])
def test_an_event_that_belongs_to_a_step_is_not_appended_alone(records, kind):
    run = start(records)
    with pytest.raises(RunStateError, match=kind):
        journal(records, run).append(kind, {})
    assert types(records, run) == ["run.queued", "run.started"]


def test_threads_number_events_without_gaps(records):
    run = start(records)

    def write(writer):
        for number in range(50):
            journal(records, run).append("candidate.drafted", {"writer": writer, "number": number})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    told = records.events(run.id)
    assert [event.seq for event in told] == list(range(1, 403))
    for writer in range(8):
        assert [e.data["number"] for e in told[2:] if e.data["writer"] == writer] == list(range(50))


def test_processes_number_events_without_gaps(records, url):
    run = start(records)
    command = [sys.executable, "-W", "error", "-c", APPEND, url, run.id]
    writers = [subprocess.Popen([*command, name], cwd=ROOT, stderr=subprocess.PIPE, text=True) for name in ("a", "b")]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [("", 0)] * 2
    told = records.events(run.id)
    assert [event.seq for event in told] == list(range(1, 103))
    assert {event.data["writer"] for event in told[2:]} == {"a", "b"}


# Trials


@pytest.mark.parametrize(
    ("evaluated", "passed", "accepted"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_trial_reads_back_whole(records, evaluated, passed, accepted):
    run = start(records)
    parts = trial(evaluated=evaluated, passed=passed)
    journal(records, run).record_trial(**parts)
    [record], cursor = records.candidates(run.id)
    assert cursor is None
    assert record.model_dump() == {
        "round": 2,
        "hypothesis": parts["hypothesis"].statement,
        "candidate": parts["candidate"].model_dump(),
        "verdict": parts["verdict"].model_dump(),
        "evaluation": parts["evaluation"] and parts["evaluation"].model_dump(),
        "admission": tuple(check.model_dump() for check in parts["admission"]),
        "accepted": accepted,
    }
    assert records.run(run.id).evaluations == int(evaluated)


def test_numbers_that_json_lacks_survive(records):
    run = start(records)
    journal(records, run).record_trial(**trial("c1", value=float("inf"), ic=float("-inf")))
    journal(records, run).record_trial(**trial("c2", value=float("nan"), ic=float("nan")))
    [first, second], _ = records.candidates(run.id)
    assert first.verdict.checks[0].value == float("inf")
    assert first.evaluation.splits["train"].ic == float("-inf")
    assert str(second.verdict.checks[0].value) == "nan"
    assert str(second.evaluation.splits["train"].ic) == "nan"


def test_recording_a_trial_again_changes_nothing(records):
    run, other = start(records), start(records)
    journal(records, run).record_trial(**trial("c1", evaluated=False))
    before = records.candidates(run.id)
    journal(records, run).record_trial(**trial("c1", evaluated=False))
    journal(records, run).record_trial(**trial("c1", evaluated=True))
    assert records.candidates(run.id) == before
    assert count(records, "evaluations") == 0
    journal(records, other).record_trial(**trial("c1"))
    assert (records.run(run.id).evaluations, records.run(other.id).evaluations) == (0, 1)


def test_rounds_and_evaluations_are_counted_by_run(records):
    run, other = start(records), start(records)
    for name in ("c1", "c2", "c3"):
        journal(records, run).record_trial(**trial(name, evaluated=name != "c3"))
    for _ in range(4):
        journal(records, run).append("round.completed", {})
    journal(records, run).append("candidate.drafted", {})
    counts = [(found.id, found.rounds, found.evaluations) for found in records.runs()[0]]
    assert counts == [(other.id, 0, 0), (run.id, 4, 2)]


# The library


def test_an_accepted_factor_is_in_the_library_and_in_its_run(records):
    run = start(records)
    first, second = factor(run, "$open", NOON + timedelta(days=1)), factor(run, "$close", NOON)
    assert accept(records, first)
    assert accept(records, second)
    assert records.run(run.id).accepted == (first.id, second.id)
    assert records.factor(first.id) == first
    assert records.library("cn") == [second, first]
    event = records.events(run.id)[2]
    assert (event.type, event.data["new"]) == ("factor.accepted", True)
    assert Factor.model_validate(event.data["factor"]) == first


def test_a_factor_the_library_has_is_linked_but_not_replaced(records):
    run, later = start(records), start(records)
    original = factor(run)
    assert accept(records, original)
    assert not accept(records, factor(later, at=NOON + timedelta(days=9)))
    assert records.factor(original.id) == original
    assert records.run(run.id).accepted == records.run(later.id).accepted == (original.id,)
    assert records.events(later.id)[-1].data["new"] is False


def test_accepting_a_factor_again_changes_nothing(records):
    run = start(records)
    assert accept(records, factor(run))
    told = records.events(run.id)
    assert not accept(records, factor(run))
    assert records.events(run.id) == told
    assert len(records.run(run.id).accepted) == 1


def test_runs_that_accept_one_factor_at_once_agree_on_who_was_first(records):
    formulas = [f"TS_MEAN($close, {days})" for days in range(1, 11)]
    runs = [start(records) for _ in range(4)]
    barrier = Barrier(4)

    def accept_all(run):
        barrier.wait()
        return [accept(records, factor(run, formula)) for formula in formulas]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(accept_all, runs))
    assert [sum(column) for column in zip(*answers, strict=True)] == [1] * 10
    assert len(records.library("cn")) == 10
    for run, answer in zip(runs, answers, strict=True):
        assert records.run(run.id).accepted == tuple(factor_id("cn", parse(formula)) for formula in formulas)
        assert [e.data["new"] for e in records.events(run.id) if e.type == "factor.accepted"] == answer
        for formula, new in zip(formulas, answer, strict=True):
            assert (records.factor(factor_id("cn", parse(formula))).run_id == run.id) is new


def test_the_library_of_a_market_as_it_stood_before_a_time(records):
    run = start(records)
    old, new = factor(run, "$low"), factor(run, "$high", NOON + timedelta(microseconds=1))
    for accepted in (new, old, factor(run, "$low", market="us")):
        accept(records, accepted)
    assert records.library("cn") == [old, new]
    assert records.library("cn", NOON + timedelta(microseconds=1)) == [old]
    assert records.library("cn", NOON) == []
    shanghai = timezone(timedelta(hours=8))
    assert records.library("cn", (NOON + timedelta(microseconds=1)).astimezone(shanghai)) == [old]


# Recipes


def test_the_first_run_of_a_recipe_is_found(records):
    failed, first, second, third = (queue(records) for _ in range(4))
    journal(records, failed).start()
    journal(records, failed).finish("failed", "nothing was tried")
    assert records.first_like(third) is None
    for run in (first, second):
        journal(records, run).start()
        journal(records, run).finish("succeeded")
    assert records.first_like(third) == records.run(first.id)
    assert records.first_like(second) == records.run(first.id)
    assert records.first_like(first) is None


def test_another_recipe_is_not_like_it(records):
    run = start(records)
    journal(records, run).finish("succeeded")
    assert records.first_like(queue(records)) == records.run(run.id)
    assert records.first_like(queue(records, "other")) is None
    assert records.first_like(queue(records, seed=8)) is None
    assert records.first_like(queue(records, budget=Budget(rounds=6))) is None
    for name in ("market", "universe", "snapshot", "model"):
        assert records.first_like(queue(records).model_copy(update={name: "another"})) is None


# Pages


def test_pages_of_runs_are_complete_while_runs_arrive(records):
    there = [queue(records).id for _ in range(7)]

    def read(limit, cursor):
        page = records.runs(limit, cursor)
        queue(records)
        return page

    found, lengths = pages(read, 3)
    assert [run.id for run in found] == there[::-1]
    assert lengths == [3, 3, 1]


def test_pages_of_candidates_are_complete_while_candidates_arrive(records):
    run = start(records)
    names = iter(f"c{number}" for number in range(99, 0, -1))  # ids that do not sort as they were recorded
    for _ in range(6):
        journal(records, run).record_trial(**trial(next(names)))
    read = []

    def page(limit, cursor):
        if len(read) < 2:
            journal(records, run).record_trial(**trial(next(names)))
        read.append(cursor)
        return records.candidates(run.id, limit, cursor)

    found, lengths = pages(page, 4)
    assert [record.candidate.id for record in found] == [f"c{number}" for number in range(99, 91, -1)]
    assert lengths == [4, 4]


def test_pages_of_factors_are_complete_while_factors_arrive(records):
    run = start(records)
    there = [factor(run, f"DELAY($close, {n})", NOON + timedelta(days=n // 3)) for n in range(1, 8)]
    for one in there:
        accept(records, one)
    accept(records, factor(run, "$volume", market="us"))
    periods = iter(range(100, 200))

    def read(limit, cursor):
        page = records.factors("cn", limit, cursor)
        accept(records, factor(run, f"DELAY($close, {next(periods)})", NOON + timedelta(days=50)))
        return page

    found, lengths = pages(read, 2)
    assert found == sorted(there, key=lambda one: (one.created_at, one.id), reverse=True)
    assert lengths == [2, 2, 2, 1]


def test_the_whole_library_is_one_page_without_a_limit(records):
    run = start(records)
    for market, formula in (("cn", "$open"), ("us", "$open"), ("cn", "$close")):
        accept(records, factor(run, formula, market=market))
    found, cursor = records.factors()
    assert (len(found), cursor) == (3, None)
    assert {one.market for one in records.factors("us")[0]} == {"us"}


def test_an_exactly_full_page_is_the_last(records):
    for _ in range(4):
        queue(records)
    assert pages(records.runs, 2)[1] == [2, 2]


def test_a_page_of_no_rows_is_refused(records):
    with pytest.raises(SettingError, match="at least 1"):
        records.runs(limit=0)


def alpha(name, formula="RANK($close)"):
    return Alpha(name, parse(formula), "mine.csv")


def test_imported_alphas_read_back_and_a_name_is_taken_once(records):
    records.add_alphas([alpha("one"), alpha("two")], LOCAL)
    assert [(found.name, found.expr, found.source) for found in records.alphas()] == [
        ("one", parse("RANK($close)"), "mine.csv"),
        ("two", parse("RANK($close)"), "mine.csv"),
    ]
    with pytest.raises(SettingError, match="two"):
        records.add_alphas([alpha("three"), alpha("two")], LOCAL)
    assert len(records.alphas()) == 2
    assert [(one.act, one.subject) for one in records.audit.page()[0]] == [("alphas.imported", "mine.csv")]
    assert records.alphas(before=datetime(2020, 1, 1, tzinfo=UTC)) == []


def test_a_run_keeps_its_limits(records):
    request = RunRequest(direction="d", market="m")
    run = records.create_run(
        request, universe="u", snapshot="s", seed=1, model="m", limits=Limits(length=40, variation=0.5)
    )
    assert records.run(run.id).limits == Limits(length=40, variation=0.5)
    journal(records, run).start()
    journal(records, run).finish("succeeded")
    again = records.create_run(request, universe="u", snapshot="s", seed=1, model="m", limits=Limits(length=41))
    assert records.first_like(again) is None


CALL = ModelCall(
    step="idea 1",
    agent="idea",
    model="m",
    template="2" * 16,
    prompt="0" * 16,
    method="text",
    input_tokens=7,
    output_tokens=2,
    usd=None,
)


def test_model_calls_are_counted_and_told(records):
    run = start(records)
    expected = CALL.model_copy(update={"input_tokens": 100, "output_tokens": 50, "usd": 0.5})
    first = journal(records, run).begin_call(expected, Allowance())
    found = records.run(run.id)
    assert (found.model_calls, found.input_tokens, found.output_tokens, found.usd) == (1, 100, 50, 0.5)
    ended = CALL.model_copy(update={"failure": None, "answer": "said", "usd": 0.25, "seconds": 0.5})
    journal(records, run).end_call(first, ended)
    second = journal(records, run).begin_call(expected, Allowance())
    journal(records, run).end_call(second, CALL.model_copy(update={"failure": "timeout", "output_tokens": 0}))
    found = records.run(run.id)
    assert (found.model_calls, found.input_tokens, found.output_tokens) == (2, 14, 2)
    assert (found.usd, found.unpriced_calls) == (0.25, 1)
    told = [event.data["call"] for event in records.events(run.id) if event.type == "model.called"]
    assert told[0] == ended.model_dump(exclude={"answer"})
    assert told[1]["failure"] == "timeout"
    other = start(records)
    assert (other.model_calls, other.input_tokens, other.output_tokens) == (0, 0, 0)
    with pytest.raises(RunStateError):
        journal(records, run).append("model.called", {})
    journal(records, run).finish("succeeded")
    with pytest.raises(RunStateError):
        journal(records, run).begin_call(CALL, Allowance())


def test_what_was_answered_is_kept_by_step_and_prompt_and_what_failed_or_was_cut_off_is_not(records):
    run, other = start(records), start(records)
    for failure, answer in (("timeout", None), (None, "first"), ("interrupted", None)):
        number = journal(records, run).begin_call(CALL, Allowance())
        if failure != "interrupted":
            journal(records, run).end_call(number, CALL.model_copy(update={"failure": failure, "answer": answer}))
    assert journal(records, run).answer(CALL.step, CALL.prompt) == "first"
    assert journal(records, run).answer(CALL.step, "1" * 16) is None
    assert journal(records, run).answer("idea 2", CALL.prompt) is None
    assert journal(records, other).answer(CALL.step, CALL.prompt) is None


@pytest.mark.parametrize(
    ("limit", "spare"),
    [("model_calls", 3), ("input_tokens", 21), ("output_tokens", 6), ("usd", 0.75)],
)
def test_a_call_begins_only_where_its_estimate_has_room(records, limit, spare):
    """Three calls of seven tokens read, two written and a quarter of a dollar fit, a fourth does not."""
    call = CALL.model_copy(update={"usd": 0.25})
    run = start(records, budget=Budget(**{limit: spare}))
    for _ in range(3):
        journal(records, run).begin_call(call, Allowance())
    with pytest.raises(SpentError) as caught:
        journal(records, run).begin_call(call, Allowance())
    assert caught.value.limit == limit
    assert records.run(run.id).model_calls == 3
    allowance = Allowance(**{limit: records.run(run.id).model_dump()[limit] + spare})
    others = [start(records), start(records)]
    for other in (*others, others[0]):
        journal(records, other).begin_call(call, allowance)
    with pytest.raises(SpentError) as caught:
        records.journal(others[1].id, "host-1").begin_call(call, allowance)
    assert caught.value.limit == f"user_{limit}"
    journal(records, start(records, user="somebody else")).begin_call(call, allowance)


def test_a_run_spends_in_the_day_in_which_it_works_not_in_that_of_its_queueing(records):
    allowance = Allowance(input_tokens=2 * CALL.input_tokens)
    run = start(records)
    aged(records, run, "created_at", hours=25)
    for _ in range(2):
        journal(records, run).begin_call(CALL, allowance)
    with pytest.raises(SpentError) as caught:
        journal(records, run).begin_call(CALL, allowance)
    assert caught.value.limit == "user_input_tokens"
    with pytest.raises(SpentError):
        journal(records, start(records)).begin_call(CALL, allowance)
    journal(records, run).finish("succeeded")
    for hours, wait in ((0, 86_400), (23, 3_600)):
        aged(records, run, "finished_at", hours=hours)
        with pytest.raises(SpentError) as waiting:
            records.people.ask_evaluation(Principal(run.user, "researcher"), "s", Quota(**allowance.model_dump()))
        assert wait - 60 < waiting.value.retry_after <= wait
    aged(records, run, "finished_at", hours=25)
    assert records.left(run.user, allowance, "input_tokens") == 2 * CALL.input_tokens
    journal(records, start(records)).begin_call(CALL, allowance)


def test_calls_that_begin_at_once_spend_the_same_budget_once(records):
    run = start(records, budget=Budget(model_calls=10))

    def begin(_):
        try:
            return journal(records, run).begin_call(CALL, Allowance())
        except SpentError:
            return None

    with ThreadPoolExecutor(8) as threads:
        begun = [number for number in threads.map(begin, range(40)) if number]
    assert sorted(begun) == list(range(1, 11))


def test_runs_of_a_user_that_call_at_once_spend_one_allowance(records):
    runs, allowance = [start(records) for _ in range(8)], Allowance(model_calls=10)

    def begin(number):
        try:
            return journal(records, runs[number % 8]).begin_call(CALL, allowance)
        except SpentError:
            return None

    with ThreadPoolExecutor(8) as threads:
        begun = [number for number in threads.map(begin, range(40)) if number]
    assert len(begun) == 10


def test_evaluations_of_a_user_s_runs_begin_at_once_within_one_allowance(records):
    runs, allowance = [start(records) for _ in range(8)], Allowance(evaluations=10)
    owner = Principal(runs[0].user, "researcher")
    records.people.ask_evaluation(owner, "s", Quota())

    def begin(number):
        run, candidate_id = runs[number % 8], f"1.{number // 8}.0"
        return journal(records, run).begin_evaluation(candidate_id, allowance) and (run.id, candidate_id)

    with ThreadPoolExecutor(8) as threads:
        begun = [one for one in threads.map(begin, range(40)) if one]
        again = [*threads.map(begin, range(40))]
    assert len(begun) == 9
    assert [one for one in again if one] == begun
    assert records.exceeded(owner.user, allowance) == "user_evaluations"
    with pytest.raises(SpentError):
        records.people.ask_evaluation(owner, "s", Quota(evaluations=10))
    assert journal(records, start(records, user="somebody else")).begin_evaluation("1.1.0", allowance)
    with pytest.raises(FencedError):
        records.journal(runs[0].id, "other").begin_evaluation("1.9.0", allowance)


def test_an_error_of_a_statement_does_not_tell_its_parameters(records):
    with pytest.raises(DatabaseError) as failed, records._engine.begin() as connection:
        connection.execute(text("SELECT * FROM nowhere WHERE direction = :words"), {"words": "zanzibar"})
    assert "FROM nowhere" in str(failed.value)
    assert "zanzibar" not in str(failed.value)


def test_an_allowance_counts_what_is_not_a_call_as_well(records):
    run = start(records)
    journal(records, run).append("round.completed", {})
    for name in ("rounds", "seconds"):
        assert records.exceeded(run.user, Allowance(**{name: 0.0 if name == "seconds" else 1})) == f"user_{name}"
        with pytest.raises(SpentError, match=name):
            journal(records, run).begin_call(CALL, Allowance(**{name: 0 if name == "seconds" else 1}))
    assert records.exceeded(run.user, Allowance(rounds=2, seconds=1000)) == ""
    assert records.exceeded("somebody else", Allowance(rounds=1)) == ""
