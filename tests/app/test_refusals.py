"""What is wrong with a request is a problem document, and nothing is recorded."""

import json

import pytest

from app.service import create_service
from app.settings import Settings
from storage.records import Records
from storage.runs import RunRequest
from tests.local import local_client
from tests.problems import assert_problem

BODY = {"direction": "volume shocks that overshoot", "market": "small", "seed": 2}
MARKET = "elsewhere"  # of the run that waits, for which no process is there


@pytest.fixture(scope="module")
def settings(new_home):
    return Settings(home=new_home(), openai_api_key=None)


@pytest.fixture(scope="module")
def waiting(settings):
    """The id of a run whose process is elsewhere."""
    request = RunRequest(direction="d", market=MARKET)
    with Records.open(settings.records_url) as records:
        run = records.create_run(request, universe="u", snapshot="s", seed=1, model="offline", executor="elsewhere:1:0")
    return run.id


@pytest.fixture(scope="module")
def client(settings):
    with local_client(create_service(settings)) as opened:
        yield opened


def assert_nothing_recorded(client):
    assert [run for run in client.get("/runs").json()["items"] if run["market"] != MARKET] == []


@pytest.mark.parametrize("path", ["/runs/nope", "/runs/nope/events", "/factors/nope", "/runs?cursor=nope", "/nowhere"])
def test_what_is_not_there_is_404(client, path):
    assert_problem(client.get(path), 404)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, {**BODY, "market": "smal"}, ["no market 'smal'", "did you mean 'small'?"]),
        (404, {**BODY, "universe": "csi300"}, ["csi300", "synthetic200"]),
        (422, {**BODY, "market": "../small"}, ["market name"]),
        (422, {**BODY, "market": "two\nlines"}, ["market name"]),
        (422, {**BODY, "model": "gpt-5\n"}, ["gpt-5-mini"]),
        (422, {**BODY, "direction": " \n"}, ["/direction"]),
        (422, {**BODY, "direction": "x" * 2001}, ["/direction"]),
        (422, {**BODY, "direction": "\ud800"}, ["/direction"]),
        (422, {**BODY, "seed": -1}, ["/seed"]),
        (422, {**BODY, "seed": 2**31}, ["/seed"]),
        (422, {**BODY, "sead": 1}, ["/sead"]),
        (422, {**BODY, "budget": {"rounds": 0}}, ["/budget/rounds"]),
        (422, {**BODY, "budget": {"rounds": "many"}}, ["/budget/rounds"]),
        (422, {**BODY, "budget": {"dollars": 5}}, ["/budget/dollars"]),
        (422, {**BODY, "budget": None}, ["/budget"]),
        (422, {**BODY, "limits": {"length": 121}}, ["limits.length must be at most 120"]),
        (422, {**BODY, "limits": {"alignment": 0.1}}, ["limits.alignment must be at least 0.3"]),
        (422, {**BODY, "limits": {"size": 5}}, ["/limits/size"]),
        (422, {"market": "small"}, ["/direction"]),
        (422, [], []),
        (422, "momentum", []),
        (422, None, []),
    ],
    ids=lambda value: str(value)[-40:] if isinstance(value, dict) else None,
)
def test_a_run_that_cannot_be_is_not_recorded(client, status, body, words):
    answer = client.post("/runs", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert_problem(answer, status, *words)
    assert_nothing_recorded(client)


@pytest.mark.parametrize("text", [b"", b"{", b'{"direction": "x"', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_is_not_recorded(client, text):
    answer = client.post("/runs", content=text, headers={"Content-Type": "application/json"})
    assert_problem(answer, answer.status_code)
    assert answer.status_code in {400, 422}
    assert_nothing_recorded(client)


@pytest.mark.parametrize("number", ["-1", "x", "1.5", "", "\u00b2", "9" * 19, "9" * 5000, "1 2"])
def test_a_last_event_id_that_cannot_be_is_refused(client, waiting, number):
    answer = client.get(f"/runs/{waiting}/events", headers={"Last-Event-ID": number.encode("latin-1")})
    assert_problem(answer, 422, "Last-Event-ID")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x"])
def test_a_page_that_cannot_be_is_refused(client, query):
    assert_problem(client.get(f"/factors?{query}"), 422, "/limit")


def test_a_method_that_is_not_allowed_says_which_are(client):
    answer = client.delete("/runs")
    assert_problem(answer, 405)
    assert set(answer.headers["allow"].split(", ")) & {"GET", "POST"}
