import pytest

from app.service import create_service
from app.settings import Settings
from tests.local import local_client

BODY = {"direction": "volume shocks that overshoot", "market": "small", "seed": 2}
FORMULA = "-DECAYLINEAR($return * TS_RANK($volume, 40), 5)"


@pytest.fixture
def client(home):  # noqa: ARG001 - the settings name it
    with local_client(create_service(Settings())) as opened:
        yield opened


def mined(client):
    run = client.post("/runs", json={**BODY, "budget": {"rounds": 3, "candidates": 4}}).json()
    with client.stream("GET", f"/runs/{run['id']}/events") as stream:
        list(stream.iter_lines())
    return client.get(f"/runs/{run['id']}").json()


def test_a_formula_measured_by_hand_is_told_with_its_checks(client, home, cli):
    found = client.post("/evaluations", json={"formula": FORMULA, "market": "small"}).json()
    assert (found["evaluation"]["formula"], found["evaluation"]["standing"]["trial"]) == (FORMULA, 1)
    assert found["accepted"] is all(check["passed"] for check in found["checks"])
    assert [check["name"] for check in found["checks"]] == [
        "t_stat",
        "false_discovery",
        "deflated_sharpe",
        "persistence",
        "coverage",
        "active",
        "turnover",
        "net_return",
    ]
    assert cli(home, "eval", FORMULA, "--market", "small", "--json").json == found
    assert client.post("/evaluations", json={"formula": FORMULA, "market": "small"}).json() == found


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"formula": "RANK(", "market": "small"}, 422),
        ({"formula": "$nothing", "market": "small"}, 422),
        ({"formula": "$close", "market": "absent"}, 404),
        ({"formula": "$close", "market": "small", "universe": "absent"}, 404),
        ({"formula": "$close", "market": "small", "trials": 1}, 422),
        ({"formula": "$close" + " " * 4000, "market": "small"}, 422),
    ],
)
def test_what_cannot_be_measured_is_no_trial(client, body, status):
    answer = client.post("/evaluations", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert client.get("/ledger", params={"market": "small"}).json()[0]["trials"] == 0


def test_a_factor_is_appraised_without_another_trial(client):
    run = mined(client)
    before = client.get("/ledger").json()
    factor = client.get(f"/factors/{run['accepted'][0]}").json()
    found = client.get(f"/factors/{factor['id']}/appraisal").json()
    assert (found["evaluation"]["splits"], found["evaluation"]["standing"]) == (factor["splits"], factor["standing"])
    assert found["accepted"]
    assert client.get("/ledger").json() == before


def test_overfitting_is_that_of_the_run_s_measured_candidates(client):
    run = mined(client)
    records = client.app.state.runner.records
    candidates, _ = records.candidates(run["id"], limit=None)
    measured = {one.evaluation.standing.trial for one in candidates if one.evaluation}
    assert len(measured) == run["evaluations"]
    found = client.get(f"/runs/{run['id']}/overfitting").json()
    assert 0 <= found["probability"] <= 1
    assert found["combinations"] == 12_870
    again = mined(client)  # whose candidates are the first run's trials
    assert client.get(f"/runs/{again['id']}/overfitting").json() == found
    assert client.get("/runs/absent/overfitting").status_code == 404


def test_another_site_s_form_cannot_open_the_hold_out(client):
    factor = mined(client)["accepted"][0]
    for site in ("cross-site", "same-site"):
        answer = client.post(f"/factors/{factor}/promote", headers={"Sec-Fetch-Site": site})
        assert answer.status_code == 403
    assert client.get(f"/factors/{factor}/promotion").json() is None
    assert client.post(f"/factors/{factor}/promote", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert client.get(f"/factors/{factor}/promotion").json()["status"] in {"live", "rejected"}
