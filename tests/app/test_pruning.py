"""Pruning as people and programs ask for it, and what goes on without a version that was pruned."""

import shutil
from datetime import timedelta

import pytest

from app.runner import Runner, mine_here
from app.service import create_service
from app.settings import Settings
from storage.markets import open_market, publish
from storage.principal import Principal
from storage.records import Records
from storage.runs import Budget, RunRequest
from tests.local import local_client
from tests.problems import assert_problem

REQUEST = RunRequest(
    direction="volume shocks that overshoot",
    market="small",
    seed=2,
    model="offline",
    budget=Budget(rounds=3, candidates=4),
)


@pytest.fixture(scope="module")
def mined(new_home, small):
    """A home with a run and its factors on a version that is not the current one any more; not to be changed."""
    settings = Settings(home=new_home(), openai_api_key=None)
    with Records.open(settings.records_url) as records:
        run = mine_here(Runner(settings, records), REQUEST)
        assert run.accepted
    moved(settings.home, small, 60)
    return settings.home


@pytest.fixture
def home(mined, tmp_path):
    return shutil.copytree(mined, tmp_path / "home")


@pytest.fixture
def client(home):
    with local_client(create_service(Settings(home=home, openai_api_key=None))) as opened:
        yield opened


def moved(home, small, days):
    """Make the version current whose valid split ends so many days later."""
    sources = {"membership": small.membership, "sectors": small.sectors, "synthetic": True}
    end = small.valid_end + timedelta(days=days)
    return publish(home, "small", small.bars, train_end=small.train_end, valid_end=end, **sources)


def told(client):
    return {one["current"]: one for one in client.get("/markets/small/versions").json()}


def test_versions_are_told_with_what_uses_them(client, home):
    [new, old] = client.get("/markets/small/versions").json()
    assert (new["current"], old["current"]) == (True, False)
    assert new["id"] == open_market(home, "small").id
    assert (new["runs"], new["trials"], new["factors"]) == (0, 0, 0)
    [run] = client.get("/runs").json()["items"]
    factors = client.get("/factors").json()["items"]
    assert (old["id"], old["runs"], old["open_runs"]) == (run["snapshot"], 1, 0)
    assert (old["factors"], old["trials"]) == (len(factors), client.get("/ledger").json()[0]["trials"])
    assert old["valid_end"] < new["valid_end"]
    assert_problem(client.get("/markets/none/versions"), 404, "no market 'none'")


def test_what_was_found_on_a_version_is_read_on_without_it(client, home):
    old = told(client)[False]["id"]
    addresses = ["/runs", "/factors", "/ledger", "/mining"]
    factors = client.get("/factors").json()["items"]
    run = client.get("/runs").json()["items"][0]["id"]
    addresses += [f"/runs/{run}", f"/runs/{run}/candidates", f"/runs/{run}/overfitting"]
    addresses += [f"/factors/{factors[0]['id']}{part}" for part in ("", "/neighbours", "/promotion")]
    before = {address: client.get(address).json() for address in addresses if address != "/mining"}
    assert client.delete(f"/markets/small/versions/{old}").status_code == 204
    assert list(told(client)) == [True]
    assert {address: client.get(address).json() for address in before} == before
    assert_problem(client.get(f"/factors/{factors[0]['id']}/appraisal"), 404, "it was pruned")
    assert_problem(client.post(f"/factors/{factors[0]['id']}/promote"), 404, "it was pruned")
    for address in ("/", "/mining", f"/mining/{run}"):
        assert client.get(address).status_code == 200
    page = client.get(f"/library/{factors[0]['id']}")
    assert page.status_code == 200
    assert f"Version <code>{old}</code> of the market was pruned" in page.text
    assert f"{factors[0]['splits']['valid']['rank_ic']:.4f}" in page.text
    assert f"{factors[0]['evidence']['t_stat']:.1f}" in page.text
    with Records.open(Settings(home=home).records_url) as records:
        entry = records.audit.page()[0][0]
    assert (entry.act, entry.subject, entry.client) == ("version.pruned", old, "127.0.0.1")


def test_the_current_version_and_those_of_open_runs_are_not_removed(client, home):
    new, old = told(client)[True]["id"], told(client)[False]["id"]
    assert_problem(client.delete(f"/markets/small/versions/{new}"), 409, "is the current one")
    with Records.open(Settings(home=home).records_url) as records:
        by = Principal("ada", "researcher")
        recipe = {"universe": "all", "snapshot": old, "seed": 3, "model": "offline", "by": by, "executor": "another"}
        waiting = records.create_run(REQUEST, **recipe)
        assert_problem(client.delete(f"/markets/small/versions/{old}"), 409, "1 run waits for it or works on it")
        assert "remove, for good" not in client.get("/markets/small").text
        records.queue.cancel(waiting.id, by)
    for version in ("0" * 16, "..", "%2e%2e"):
        assert client.delete(f"/markets/small/versions/{version}").status_code in {404, 405}
    assert "remove, for good" in client.get("/markets/small").text
    answer = client.post("/markets/small/prune", data={"version": old}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/markets/small")
    assert list(told(client)) == [True]


def test_the_command_line_removes_what_is_named_or_all_but_some(home, cli, small):
    third = moved(home, small, 90).id
    listed = cli(home, "data", "versions", "small", "--json").json
    assert [one["current"] for one in listed] == [True, False, False]
    assert listed[0]["id"] == third
    names = [one["id"] for one in listed]
    shown = cli(home, "data", "versions", "small").out
    assert all(name in shown for name in names)
    for arguments, words in (
        ((), "--keep"),
        ((names[1], "--keep", "1"), "--keep"),
        (("--keep", "0"), "--keep"),
        ((names[1], names[0]), "is the current one"),
        ((names[1], "0" * 16), "no version"),
    ):
        answer = cli(home, "data", "prune", "small", *arguments)
        assert (answer.status, words in answer.err) == (2, True), answer
    assert len(cli(home, "data", "versions", "small", "--json").json) == 3
    with Records.open(Settings(home=home).records_url) as records:
        recipe = {"universe": "all", "snapshot": names[1], "seed": 3, "model": "offline", "executor": "another"}
        waiting = records.create_run(REQUEST, **recipe)
        answer = cli(home, "data", "prune", "small", names[1])
        assert (answer.status, "is in use" in answer.err) == (2, True)
        answer = cli(home, "data", "prune", "small", "--keep", "1")
        assert f"kept {names[1]}" in answer.out
        assert f"removed {names[2]}" in answer.out
        records.queue.cancel(waiting.id, Principal("ada", "admin"))
    assert f"removed {names[1]}" in cli(home, "data", "prune", "small", names[1]).out
    assert "nothing to remove" in cli(home, "data", "prune", "small", "--keep", "1").out
    assert [one["id"] for one in cli(home, "data", "versions", "small", "--json").json] == [third]
