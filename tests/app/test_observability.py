"""What a running service tells of itself: readiness, figures, and log lines without secrets; over HTTP."""

import io
import json
import logging
import os
import pty
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from signal import SIGTERM
from uuid import UUID

import httpx
import pytest
import structlog
from dbos._logger import init_logger
from pydantic import BaseModel, SecretStr

from app import logs
from app.metrics import Metrics
from app.runner import current_user
from app.service import create_service
from app.settings import Settings
from storage.principal import LOCAL
from storage.records import Records
from storage.webhooks import WebhookRequest
from tests.local import local_client
from tests.logs import lines, troubles
from tests.processes import until

ROOT = Path(__file__).parents[2]
SHORT = {"direction": "volume shocks", "market": "small", "seed": 2, "budget": {"rounds": 2, "candidates": 3}}


@pytest.fixture
def client(home):  # noqa: ARG001 - the settings name it
    with local_client(create_service(Settings())) as opened:
        yield opened


@pytest.fixture(scope="module")
def mined(new_home, serve):
    """A service that has mined a run, its home, and the run."""
    home = new_home()
    service = serve(home)
    run_id = service.post(**SHORT).json()["id"]
    list(service.lines(run_id))
    return service, home, service.get(f"/runs/{run_id}").json()


def figures(service):
    """The samples of the metrics by name and labels."""
    text = service.get("/metrics").text
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


# readiness


def unready(client, check):
    answer = client.get("/readyz")
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert (problem["status"], problem["check"]) == (503, check)
    assert client.get("/healthz").status_code == 200
    return problem["detail"]


def test_a_service_with_a_market_and_records_is_ready(client):
    assert client.get("/readyz").json() == {"status": "ready", "markets": 1, "damaged": 0}


def test_a_damaged_market_is_named_in_the_log_alone_and_the_last_one_is_missed(client, home, caplog):
    shutil.copytree(home / "markets" / "small", home / "markets" / "spoilt")
    [version] = (home / "markets" / "spoilt").glob("*/insample.duckdb")
    version.write_bytes(b"no database")
    assert client.get("/readyz").json() == {"status": "ready", "markets": 1, "damaged": 1}
    assert "market 'spoilt' is damaged" in caplog.text
    shutil.rmtree(home / "markets" / "small")
    assert unready(client, "market").endswith("all markets are damaged")
    shutil.rmtree(home / "markets")
    assert "none has been imported" in unready(client, "market")


def test_that_no_worker_can_start_is_missed(client, monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert "no worker process could be started" in unready(client, "worker")


def test_records_that_are_not_as_they_should_be_are_missed(client, home):
    with closing(sqlite3.connect(home / "records.sqlite")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()
        assert "revision 0001" in unready(client, "database")
        connection.execute("DROP TABLE alembic_version")
        connection.execute("DROP TABLE model_calls")
        connection.commit()
    unready(client, "database")
    told = client.get("/metrics")  # the process still tells of itself
    assert told.status_code == 200
    assert "alphaagent_records_up 0.0" in told.text
    assert "process_resident_memory_bytes" in told.text


# figures


def test_figures_are_those_of_the_records(mined):
    service, home, run = mined
    told = figures(service)
    with Records.open(Settings(home=home).records_url) as records:
        tried, _ = records.candidates(run["id"], limit=None)
    verdicts = {
        "refused": sum(one.evaluation is None for one in tried),
        "rejected": sum(one.evaluation is not None and not one.accepted for one in tried),
        "accepted": sum(one.accepted for one in tried),
    }
    assert verdicts["accepted"]
    assert {name: told[f'alphaagent_candidates_total{{verdict="{name}"}}'] for name in verdicts} == verdicts
    assert told["alphaagent_evaluations_total"] == run["evaluations"]
    assert told['alphaagent_runs{status="succeeded"}'] == 1
    assert told["alphaagent_records_up"] == 1
    assert told["alphaagent_queue_depth"] == told["alphaagent_queue_oldest_seconds"] == 0


def test_figures_are_those_of_the_process(mined):
    service, _, run = mined
    told = figures(service)
    for node in ("idea", "feedback"):
        assert told[f'alphaagent_node_seconds_count{{node="{node}"}}'] == run["rounds"]
        assert told[f'alphaagent_node_seconds_sum{{node="{node}"}}'] > 0
    worked = sum(value for name, value in told.items() if name.startswith("alphaagent_node_seconds_sum"))
    assert worked < run["seconds"]
    assert told["alphaagent_queue_seconds_count"] == 1
    resident = int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert told["process_resident_memory_bytes"] == pytest.approx(resident, rel=0.2)
    assert told['alphaagent_http_request_seconds_count{method="POST",route="/runs",status="202"}'] == 1
    before = told['alphaagent_http_request_seconds_count{method="GET",route="/metrics",status="200"}']
    assert (
        figures(service)['alphaagent_http_request_seconds_count{method="GET",route="/metrics",status="200"}'] > before
    )


def test_open_streams_are_counted(mined):
    service, _, _ = mined
    assert figures(service)["alphaagent_sse_subscribers"] == 0
    with httpx.stream("GET", f"{service.url}/events") as stream:
        assert stream.status_code == 200
        assert figures(service)["alphaagent_sse_subscribers"] == 1
    until(lambda: figures(service)["alphaagent_sse_subscribers"] == 0)


def test_clients_do_not_choose_labels(mined):
    service, _, _ = mined
    before = len(figures(service))
    for number in range(20):
        assert service.get(f"/nowhere/{number}").status_code == 404
        httpx.request(f"M{number}", f"{service.url}/runs")
        service.get(f"/runs/{number}")
    told = figures(service)
    assert 'alphaagent_http_request_seconds_count{method="GET",route="/runs/{run_id}",status="404"}' in told
    series = 16  # of a histogram with these buckets
    assert len(told) <= before + 4 * series


def test_services_have_figures_of_their_own():
    one, other = Metrics(), Metrics()
    one.queue_seconds.observe(1)
    assert b"alphaagent_queue_seconds_count 1.0" in one.text()
    assert b"alphaagent_queue_seconds_count 0.0" in other.text()


# requests


@pytest.mark.parametrize("given", ["abc", "A-b_c.9", "x" * 64])
def test_a_request_keeps_its_id(client, given):
    assert client.get("/healthz", headers={"X-Request-ID": given}).headers["x-request-id"] == given
    answer = client.get("/runs/nope", headers={"X-Request-ID": given})
    assert answer.headers.get_list("x-request-id") == [given]
    assert answer.json()["request_id"] == given


def test_the_audit_log_tells_by_which_request_something_was_done(client):
    client.post("/runs", json=SHORT, headers={"X-Request-ID": "the-one"})
    [entry] = client.get("/audit").json()["items"]
    assert (entry["act"], entry["request_id"]) == ("run.submitted", "the-one")


@pytest.mark.parametrize("given", [None, "", "x" * 65, "a b", "a\tb", '{"a": 1}', "é".encode()])
def test_a_request_without_a_proper_id_is_given_one(client, given):
    headers = {} if given is None else {"X-Request-ID": given}
    answers = [client.get("/runs/nope", headers=headers) for _ in range(2)]
    ids = {UUID(answer.headers["x-request-id"]) for answer in answers}
    assert len(ids) == 2
    assert ids == {UUID(answer.json()["request_id"]) for answer in answers}


# log lines


def test_the_log_tells_what_happened_in_lines_of_json(new_home, serve):
    home = new_home()
    service = serve(home)
    run_id = service.post(**SHORT).json()["id"]
    list(service.lines(run_id))
    assert httpx.get(f"{service.url}/runs/nope?secret=in-the-query", headers={"X-Request-ID": "mine"}).is_client_error
    with closing(sqlite3.connect(home / "records.sqlite")) as connection:
        connection.execute("DROP TABLE alphas")
        connection.commit()
    failed = httpx.get(f"{service.url}/factors/{service.get('/factors').json()['items'][0]['id']}/neighbours")
    service.process.send_signal(SIGTERM)
    _, noise = service.process.communicate(timeout=10)
    told = lines(noise)
    assert [line["event"] for line in (told[0], told[-1])] == ["service started", "service stopped"]
    requests = [line for line in told if line["event"] == "request"]
    assert [(line["method"], line["route"], line["status"]) for line in requests] == [
        ("POST", "/runs", 202),
        ("GET", "/runs/{run_id}/events", 200),
        ("GET", "/runs/{run_id}", 404),
        ("GET", "/factors", 200),
        ("GET", "/factors/{factor_id}/neighbours", 500),
    ]
    assert requests[2]["request_id"] == "mine"
    assert len({line["request_id"] for line in requests}) == 5
    assert all(line["ms"] >= 0 for line in requests)
    assert {line["user"] for line in requests} == {current_user()}
    assert [line["event"] for line in told if line.get("run_id") == run_id] == ["run started", "run ended"]
    [trouble] = troubles(noise)
    assert failed.status_code == 500
    assert failed.json()["request_id"] == failed.headers["x-request-id"] == trouble["request_id"]
    assert "no such table: alphas" in trouble["exception"]
    assert "Traceback" in trouble["exception"]
    assert "in-the-query" not in noise


@pytest.mark.usefixtures("endurance")
def test_a_worker_takes_up_what_a_killed_server_has_left_and_says_so(new_home, serve, start):
    home = new_home()
    service = serve(home)
    run_id = service.post(**{**SHORT, "budget": {"rounds": 1000}}).json()["id"]
    until(lambda: service.get(f"/runs/{run_id}").json()["rounds"])
    service.process.kill()
    service.process.communicate()
    worker = start(home, "work")
    assert "works on up to" in worker.stdout.readline()
    with Records.open(Settings(home=home).records_url) as records:
        before = records.run(run_id).rounds
        until(lambda: records.run(run_id).rounds > before)
        records.queue.cancel(run_id, LOCAL)
        until(lambda: records.run(run_id).status == "cancelled")
        assert records.census.counts().recoveries == 1
    worker.send_signal(SIGTERM)
    _, noise = worker.communicate(timeout=10)
    assert worker.returncode == 0
    told = lines(noise)
    assert [line["event"] for line in (told[0], told[-1])] == ["worker started", "worker stopped"]
    of_run = [line for line in told if line.get("run_id") == run_id]
    assert [line["event"] for line in of_run] == ["run resumed", "run ended"]
    assert (of_run[-1]["status"], of_run[-1]["stopped"]) == ("cancelled", "cancelled")
    assert troubles(noise) == []


SECRETS = {
    "OPENAI_API_KEY": "canary-key-1",
    "ALPHAAGENT_MODELS": json.dumps({"own": {"base_url": "http://127.0.0.1:9/v1", "api_key": 'canary-key-"2'}}),
}


def test_no_output_of_a_service_holds_a_secret(new_home, serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = f"http://ada:canary-key-3@127.0.0.1:{port}/v1"  # nobody answers there
    service = serve(new_home(), **SECRETS, OPENAI_BASE_URL=address)
    headers = {"Authorization": "Bearer canary-key-4", "Cookie": "session=canary-key-5"}
    for model in (None, "own"):
        run = httpx.post(
            f"{service.url}/runs", json={**SHORT, "budget": {"rounds": 1}, "model": model}, headers=headers
        ).json()
        with httpx.stream("GET", f"{service.url}/runs/{run['id']}/events", headers=headers, timeout=60) as stream:
            assert "agent.failed" in stream.read().decode()
    for path in ("/runs", "/nowhere", "/metrics", "/readyz"):
        httpx.get(service.url + path, headers=headers)
    service.process.send_signal(SIGTERM)
    out, noise = service.process.communicate(timeout=10)
    assert sum(line["event"] == "run ended" for line in lines(noise)) == 2
    assert "canary" not in out + noise


class Keys(BaseModel):
    one: SecretStr
    more: dict[str, SecretStr | None]


@pytest.fixture
def logged(monkeypatch):
    """What the logs of this process hold, as they are written with these settings."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    root, showwarning = logging.getLogger(), logging.captureWarnings
    handlers, levels = root.handlers, {name: logging.getLogger(name).level for name in ("app", "graphs", "storage")}
    init_logger()  # DBOS would write by itself
    logs.configure(logging.INFO, Keys(one=SecretStr('quo"ted-1'), more={"a": SecretStr("plain-2"), "b": None}))
    init_logger()
    yield written
    root.handlers = handlers
    showwarning(False)
    structlog.stdlib.recreate_defaults(log_level=None)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_secrets_are_blotted_out_whoever_writes_them(logged):
    try:
        raise OSError('cannot reach postgresql://ada:pass-3@db/x with quo"ted-1')  # noqa: TRY301
    except OSError:
        structlog.stdlib.get_logger("app.x").exception("failed", token="plain-2", header="Authorization: Bearer tok-4")
    logging.getLogger("dbos").error("postgresql+psycopg://ada:pass-3@db/x %s", {"key": 'quo"ted-1'})
    first, second = lines(logged.getvalue())
    assert (first["event"], first["token"], first["header"]) == ("failed", "***", "Authorization: Bearer ***")
    assert "postgresql://***@db/x" in first["exception"]
    assert first["exception"].count("\n") >= 3
    assert second["logger"] == "dbos"
    for secret in ("quo", "plain-2", "pass-3", "tok-4"):
        assert secret not in logged.getvalue()


def test_keys_and_secrets_that_were_made_here_are_blotted_out_anywhere(logged, tmp_path):
    with Records.open(f"sqlite:///{tmp_path}/records.sqlite") as records:
        key = records.people.create_token(LOCAL, "ada", "viewer").key
        secret = records.webhooks.create(WebhookRequest(url="https://hooks.example/"), LOCAL).secret
    logging.getLogger("dbos").error("a row of (%s, '%s')", secret, key)
    logging.getLogger("app.x").warning(json.dumps({"key": key, "nested": json.dumps([secret])}))
    first, second = lines(logged.getvalue())
    assert first["event"] == "a row of (***, '***')"
    assert json.loads(second["event"]) == {"key": "***", "nested": '["***"]'}
    assert not any(part in logged.getvalue() for part in (key, key.split("_", 2)[2], secret, "whsec"))


def test_libraries_tell_of_warnings_and_we_of_progress(logged):
    for name in ("sqlalchemy.engine", "langgraph", "dbos", "uvicorn.error", "app.x", "storage.x"):
        logging.getLogger(name).info("progress")
        logging.getLogger(name).warning("warning")
    told = [(line["logger"], line["event"]) for line in lines(logged.getvalue())]
    assert [name for name, event in told if event == "progress"] == ["app.x", "storage.x"]
    assert [name for name, event in told if event == "warning"] == [
        "sqlalchemy.engine", "langgraph", "dbos", "uvicorn.error", "app.x", "storage.x",
    ]  # fmt: skip


def test_a_thread_that_fails_is_one_line(logged, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", logs.log_failure)
    thread = threading.Thread(target=lambda: 1 / 0, name="runs")
    thread.start()
    thread.join()
    [line] = lines(logged.getvalue())
    assert line["event"] == "runs has failed"
    assert "ZeroDivisionError" in line["exception"]


def test_on_a_terminal_the_log_is_for_people():
    program = (
        "import logging; from app import logs; logs.configure(logging.INFO)\n"
        "try: key = 'local-value'; 1 / 0\n"
        "except ZeroDivisionError: logging.getLogger('app').exception('it failed')"
    )
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-W", "error", "-c", program], stderr=theirs, check=True, cwd=ROOT)
    os.close(theirs)
    text = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "it failed" in text
    assert "ZeroDivisionError" in text
    assert not text.startswith("{")
