import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import datetime
from signal import SIGINT, SIGTERM
from uuid import UUID

import pytest

from app.panels import load_panel
from app.runner import Runner
from app.service import create_service
from app.settings import Settings
from benchmarks.service.servers import beating
from factors.evaluator import evaluate
from factors.hypothesis import Factor
from factors.metrics import split_metrics
from factors.operators import COMPOSITES, OPERATORS
from factors.parse import parse
from storage.markets import open_market, publish
from storage.records import Records
from storage.runs import Budget, RunRequest
from tests.local import local_client
from tests.logs import troubles
from tests.problems import assert_problem
from tests.processes import until

BODY = {"direction": "volume shocks that overshoot", "market": "small", "seed": 2}
SHORT = {**BODY, "budget": {"rounds": 2, "candidates": 3}}
LONG = {**BODY, "budget": {"rounds": 1000, "candidates": 4}}


@pytest.fixture
def client(home):  # noqa: ARG001 - the settings name it
    with local_client(create_service(Settings())) as opened:
        yield opened


@pytest.fixture(scope="module")
def served(new_home, serve):
    """A running service on the small market."""
    return serve(new_home())


def events_of(lines):
    """The events of a stream's lines; comments that keep it alive, and progress, are skipped."""
    events = []
    for block in re.split(r"\n\n", "\n".join(lines)):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if "id" in fields:
            events.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return events


def follow(client, run_id, **headers):
    return events_of(client.get(f"/runs/{run_id}/events", headers=headers).text.splitlines())


# a run over HTTP


def test_a_posted_run_is_answered_at_once_and_mined(client):
    answer = client.post("/runs", json=SHORT)
    run = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/runs/{run['id']}"
    assert UUID(run["id"]).version == 7
    assert (run["status"], run["finished_at"], run["accepted"], run["error"]) == ("queued", None, [], None)
    assert (run["direction"], run["market"], run["seed"]) == (BODY["direction"], "small", BODY["seed"])
    assert run["budget"] == Budget(rounds=2, candidates=3).model_dump()
    events = follow(client, run["id"])
    done = client.get(answer.headers["location"]).json()
    assert done["status"] == "succeeded"
    assert done["rounds"] == 2
    assert datetime.fromisoformat(done["created_at"]) < datetime.fromisoformat(done["finished_at"])
    assert done["accepted"] == [data["data"]["factor"]["id"] for _, kind, data in events if kind == "factor.accepted"]
    assert done["accepted"]
    assert client.get("/runs").json() == {"items": [done], "next_cursor": None}


def test_events_are_counted_from_one_and_end_with_the_run(client):
    run_id = client.post("/runs", json=SHORT).json()["id"]
    events = follow(client, run_id)
    assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
    for number, kind, data in events:
        assert set(data) == {"run_id", "seq", "at", "type", "data"}
        assert (data["run_id"], data["seq"], data["type"]) == (run_id, number, kind)
        assert datetime.fromisoformat(data["at"]).tzinfo is not None
    kinds = [kind for _, kind, _ in events]
    assert kinds[:3] == ["run.queued", "run.started", "hypothesis.proposed"]
    assert kinds[-2:] == ["round.completed", "run.succeeded"]
    assert kinds.count("run.succeeded") == 1


def test_a_follower_that_comes_back_gets_exactly_the_rest(client):
    run_id = client.post("/runs", json=SHORT).json()["id"]
    events = follow(client, run_id)
    for seen in range(len(events) + 2):
        assert follow(client, run_id, **{"Last-Event-ID": str(seen)}) == events[seen:]


def test_runs_wait_for_each_other_and_all_are_mined(client):
    runs = [client.post("/runs", json={**SHORT, "seed": seed}).json()["id"] for seed in (1, 2)]
    for run_id in runs:
        assert follow(client, run_id)[-1][1] == "run.succeeded"
    assert [run["id"] for run in client.get("/runs").json()["items"]] == runs[::-1]
    page = client.get("/runs", params={"limit": 1}).json()
    assert page["next_cursor"] == runs[1]
    assert client.get("/runs", params={"cursor": page["next_cursor"]}).json()["items"][0]["id"] == runs[0]


def test_the_library_is_paged_and_each_factor_has_its_place(client):
    run = client.post("/runs", json={**BODY, "budget": {"rounds": 5, "candidates": 6}}).json()
    follow(client, run["id"])
    library = client.get("/factors").json()
    assert library["next_cursor"] is None
    assert {factor["id"] for factor in library["items"]} == set(client.get(f"/runs/{run['id']}").json()["accepted"])
    first = client.get("/factors", params={"limit": 1, "market": "small"}).json()
    rest = client.get("/factors", params={"cursor": first["next_cursor"]}).json()
    assert first["items"] + rest["items"] == library["items"]
    assert len(first["items"]) == 1
    factor = first["items"][0]
    assert client.get(f"/factors/{factor['id']}").json() == factor
    assert set(factor) == {*Factor.model_fields, "status"}
    assert client.get("/factors", params={"market": "other"}).status_code == 404


def test_a_run_s_candidates_are_paged_with_what_became_of_them(client):
    run = client.post("/runs", json=SHORT).json()
    follow(client, run["id"])
    first = client.get(f"/runs/{run['id']}/candidates?limit=4").json()
    rest = client.get(f"/runs/{run['id']}/candidates?cursor={first['next_cursor']}").json()
    found = [*first["items"], *rest["items"]]
    assert (len(first["items"]), rest["next_cursor"]) == (4, None)
    assert len({one["candidate"]["id"] for one in found}) == len(found)
    accepted = client.get(f"/runs/{run['id']}").json()["accepted"]
    assert sum(one["accepted"] for one in found) == len(accepted)
    for one in found:
        checks = [*one["verdict"]["checks"], *one["admission"]]
        assert one["accepted"] == (one["evaluation"] is not None and all(check["passed"] for check in checks))


def test_a_factor_has_neighbours_among_all_but_itself(client):
    run = client.post("/runs", json=SHORT).json()
    follow(client, run["id"])
    factors = client.get("/factors").json()["items"]
    for factor in factors:
        found = client.get(f"/factors/{factor['id']}/neighbours").json()
        assert found["formula"] == factor["formula"]
        assert found["same_as"] is None
        names = {match["alpha"] for match in found["parametric"]}
        assert len(names) == 5
        assert factor["name"] not in names
    assert client.get("/factors/none/neighbours").status_code == 404


def test_a_run_tells_the_limits_of_its_gate(client):
    run = client.post("/runs", json={**SHORT, "limits": {"length": 40, "alignment": 0.6}}).json()
    assert (run["limits"]["length"], run["limits"]["alignment"], run["limits"]["depth"]) == (40, 0.6, 14)


def test_a_failed_run_says_why_in_its_last_event(client, home):
    ahead = client.post("/runs", json=SHORT).json()["id"]
    run_id = client.post("/runs", json=SHORT).json()["id"]
    shutil.rmtree(home / "markets")
    follow(client, ahead)
    last = follow(client, run_id)[-1][2]
    assert last["type"] == "run.failed"
    assert "no market 'small'" in last["data"]["error"]
    assert client.get(f"/runs/{run_id}").json()["error"] == last["data"]["error"]


def test_the_service_describes_itself(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    page = client.get("/docs").text
    assert "swagger" in page.lower()
    assert "//" not in page.replace("http://www.w3.org", "").split("</head>")[0]  # nothing comes from another host
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/runs", "/runs/{run_id}", "/runs/{run_id}/events", "/factors", "/healthz"} <= set(paths)
    operators = client.get("/operators").json()
    names = [*OPERATORS, *(composite.name for composite in COMPOSITES)]
    assert [operator["name"] for operator in operators] == names
    assert all(operator["doc"] and operator["signature"] and operator["source"] for operator in operators)
    entries = {operator["signature"]: operator for operator in operators}
    assert len(entries) == len(operators)
    assert [entries[f"{name}(x, d: 1..1000)"]["look_back"] for name in ("TS_MEAN", "DELAY", "EMA")] == [
        "d - 1",
        "d",
        "d - 1, fading",
    ]
    assert entries["SMA(x, n: 1..1000, m: 1..n)"]["look_back"] == "n - 1, fading"
    assert entries["RANK(x)"]["look_back"] == "0"
    assert entries["TS_MEAN(x, d: 1..1000)"]["qlib"] == "Mean"
    assert entries["SMA(x, d: 1..1000)"]["expansion"] == "TS_MEAN(x, d)"


# what is refused for now


def test_a_run_beyond_the_user_s_allowance_is_refused_for_now(new_home, serve):
    service = serve(new_home(), ALPHAAGENT_QUOTA__ROUNDS="0")
    assert_problem(service.post(**BODY), 429, "user rounds")
    assert service.get("/runs").json()["items"] == []


# what a process leaves behind


def queue(records, snapshot="s", universe="all", executor=None):
    request = RunRequest(**SHORT)
    return records.create_run(request, universe=universe, snapshot=snapshot, seed=3, model="offline", executor=executor)


@pytest.mark.usefixtures("endurance")
def test_runs_of_a_dead_process_are_taken_over_and_those_of_others_are_let_be(new_home, serve):
    home = new_home()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, own, parent, elsewhere = (
        f"{host}:{pid}:0"
        for host, pid in [
            (socket.gethostname(), gone.pid),
            (socket.gethostname(), gone.pid),
            (socket.gethostname(), os.getpid()),
            ("elsewhere", gone.pid),
        ]
    )
    snapshot = open_market(home, "small")
    with Records.open(Settings(home=home).records_url) as records:
        where = snapshot.id, snapshot.universe(None)
        running = records.journal(queue(records, *where).id, dead).start()
        waiting, ours, alive, remote = (queue(records, *where, name) for name in (dead, own, parent, elsewhere))
    url = Settings(home=home).records_url
    with beating(url, parent), beating(url, elsewhere):
        service = serve(home)
        for run in (running, waiting, ours):
            told = [kind for _, kind, _ in events_of(service.lines(run.id))]
            assert told[-1] == "run.succeeded"
            assert told.count("run.started") == 1
            assert told.count("run.resumed") == (run is running)
        for run in (alive, remote):
            assert service.get(f"/runs/{run.id}").json()["status"] == "queued"


def test_a_stopped_server_leaves_what_runs_and_what_waits_to_the_next(new_home, serve):
    home = new_home()
    service = serve(home, ALPHAAGENT_CONCURRENCY="1")
    runs = [service.post(**{**LONG, "seed": seed}).json()["id"] for seed in (1, 2)]
    while service.get(f"/runs/{runs[0]}").json()["rounds"] == 0:
        time.sleep(0.05)
    assert [service.get(f"/runs/{run}").json()["position"] for run in runs] == [None, 1]
    service.process.send_signal(SIGTERM)
    service.process.communicate(timeout=10)
    with Records.open(Settings(home=home).records_url) as records:
        first, second = map(records.run, runs)
        assert (first.status, second.status) == ("running", "queued")
    service = serve(home)
    while service.get(f"/runs/{runs[0]}").json()["rounds"] <= first.rounds:
        time.sleep(0.05)
    for run in runs:
        assert service.post_to(f"/runs/{run}/cancel").status_code == 202
        assert events_of(service.lines(run))[-1][1] == "run.cancelled"
        assert service.post_to(f"/runs/{run}/cancel").status_code == 409


@pytest.mark.usefixtures("home")
def test_a_stream_of_events_that_were_removed_is_not_begun(monkeypatch):
    monkeypatch.setenv("ALPHAAGENT_RETENTION__DAYS", "0")
    with local_client(create_service(Settings())) as client:
        run = client.post("/runs", json=SHORT).json()
        last = follow(client, run["id"])[-1][0]
        told = client.get(f"/runs/{run['id']}").json()
        with Records.open(Settings().records_url) as records:
            assert records.pruner.prune(Settings().retention) == [run["id"]]
        for seen in ({}, {"Last-Event-ID": str(last - 1)}):
            assert_problem(client.get(f"/runs/{run['id']}/events", headers=seen), 410, run["id"], "were removed on")
        assert follow(client, run["id"], **{"Last-Event-ID": str(last)}) == []
        assert client.get(f"/runs/{run['id']}").json() == told
        assert told["rounds"] == 2


# streams of a live server


def test_followers_see_events_as_they_happen_and_the_same(served):
    run_id = served.post(**{**SHORT, "budget": {"rounds": 4, "candidates": 4}}).json()["id"]
    seen = [[], []]
    threads = [threading.Thread(target=lambda to=to: to.extend(served.lines(run_id))) for to in seen]
    for thread in threads:
        thread.start()
    arrivals = [
        (line, served.get(f"/runs/{run_id}").json()["status"])
        for line in served.lines(run_id)
        if line.startswith("event: ") and line != "event: run.progress"
    ]
    for thread in threads:
        thread.join()
    assert {status for _, status in arrivals} >= {"running", "succeeded"}
    late = events_of(served.lines(run_id))
    assert events_of(seen[0]) == events_of(seen[1]) == late
    assert [f"event: {kind}" for _, kind, _ in late] == [line for line, _ in arrivals]
    assert late[-1][1] == "run.succeeded"


def test_a_follower_that_breaks_off_resumes_without_loss(served):
    run_id = served.post(**{**SHORT, "seed": 5}).json()["id"]
    begun = []
    for line in served.lines(run_id):
        begun.append(line)
        if line == "" and len(events_of(begun)) == 5:
            break
    rest = events_of(served.lines(run_id, **{"Last-Event-ID": "5"}))
    assert events_of(begun) + rest == events_of(served.lines(run_id))


@pytest.mark.parametrize("signal", [SIGINT, SIGTERM])
def test_a_server_told_to_stop_leaves_its_run_and_ends_its_streams(new_home, serve, signal):
    home = new_home()
    service = serve(home)
    run_id = service.post(**LONG).json()["id"]
    lines, asked = [], None
    for line in service.lines(run_id):
        lines.append(line)
        if line == "event: round.completed" and asked is None:
            service.process.send_signal(signal)
            asked = time.monotonic()
    _, noise = service.process.communicate(timeout=10)
    assert time.monotonic() - asked < 10
    assert troubles(noise) == []
    assert not events_of(lines)[-1][1].startswith("run.")
    with Records.open(Settings(home=home).records_url) as records:
        assert records.run(run_id).status == "running"


def test_a_database_that_does_not_answer_does_not_hold_a_stop_up(new_home, serve):
    home = new_home()
    service = serve(home)
    run_id = service.post(**LONG).json()["id"]
    until(lambda: service.get(f"/runs/{run_id}").json()["candidates"])
    with closing(sqlite3.connect(home / "records.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        service.process.terminate()
        asked = time.monotonic()
        service.process.wait(timeout=20)
        assert time.monotonic() - asked < 10
        other.execute("ROLLBACK")
    with Records.open(Settings(home=home).records_url) as records:
        assert records.run(run_id).status == "running"


def test_a_run_that_waits_for_a_model_does_not_hold_the_server_up(new_home, serve):
    home = new_home()
    with socket.create_server(("127.0.0.1", 0)) as model:  # takes the call and never answers
        port = model.getsockname()[1]
        service = serve(home, OPENAI_API_KEY="secret-key", OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1")
        run, waiting = (service.post(**SHORT).json() for _ in range(2))
        call, _ = model.accept()
        service.process.send_signal(SIGINT)  # unlike SIGTERM it lets threads end, were there any to wait for
        _, noise = service.process.communicate(timeout=10)
        call.close()
    assert run["model"] == Settings(home=home).reasoning
    assert troubles(noise) == []
    settings = Settings(home=home)
    with Records.open(settings.records_url) as records:
        assert [records.run(each["id"]).status for each in (run, waiting)] == ["running", "running"]
        assert "secret-key" not in "".join(event.model_dump_json() for event in records.events(run["id"]))


def test_a_waiting_run_reads_the_version_it_was_posted_for(new_home, small):
    """An import between the post and the run's turn changes nothing of what it reads."""
    settings = Settings(home=new_home())
    with Records.open(settings.records_url) as records:
        runner = Runner(settings, records)
        run = runner.submit(RunRequest(**SHORT))
        journal = records.journal(run.id, "here")
        other = small.bars.with_columns(volume=small.bars["volume"].reverse())
        publish(settings.home, "small", other, train_end=small.train_end, valid_end=small.valid_end)
        journal.start()
        assert runner.execute(journal, bool, float).status == "succeeded"
        measured = next(record.evaluation for record in records.candidates(run.id)[0] if record.evaluation)
    assert open_market(settings.home, "small").id != run.snapshot
    panel, labels = load_panel(open_market(settings.home, "small", run.snapshot), run.universe)
    assert measured.splits == split_metrics(evaluate(parse(measured.formula), panel), labels, panel)


@pytest.mark.usefixtures("endurance")
def test_followers_may_hang_up_at_any_time(new_home, serve):
    service = serve(new_home())
    run = service.post(**LONG).json()
    for lines in (1, 5, 50, 200):
        for _ in zip(range(lines), service.lines(run["id"]), strict=False):
            pass
    assert service.get("/healthz").status_code == 200
    service.process.send_signal(SIGTERM)
    _, noise = service.process.communicate(timeout=10)
    assert troubles(noise) == []
